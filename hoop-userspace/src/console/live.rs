//! Server-sent events: what changed, within a moment of its change.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, watch};

use super::respond::{self, Answer};
use super::serve::Asked;
use super::{pages, recordings};
use crate::handover::console::Denied;
use crate::replay::{Reader, Story, Told};

/// Streams at once; others' pages are loaded again by hand.
pub const AT_ONCE: usize = 128;
/// Of those, one session's: nobody takes all places with open pages.
const OF_SESSION: u32 = 12;
/// A comment, so that a connection that nobody reads any more is noticed, and whether the session
/// still lives is looked at.
const ALIVE: Duration = Duration::from_secs(10);
/// How often a recording that is followed is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Bytes that are sent at once, about.
pub(super) const MAX_TEXT: usize = 256 << 10;
/// How long a browser waits before it comes again, in milliseconds.
const RETRY: &str = "retry: 2000\n\n";

impl Asked<'_> {
    /// Room for one stream, of the console's and of the session's own, for as long as it is held.
    fn place(&self) -> Result<impl Send + 'static + use<>, Denied> {
        let full = || Denied::Failed("too many pages follow what changes".into());
        let streams = self.server.streams.clone();
        let place = streams.try_acquire_owned().map_err(|_| full())?;
        let own = self.token.clone().unwrap_or_default();
        let own = self.server.followed.take(own, OF_SESSION);
        Ok((place, own.ok_or_else(full)?))
    }

    /// Says `changed` whenever a question did.
    pub async fn changes(&self) -> Result<Answer, Denied> {
        let place = self.place()?;
        let (tell, stream) = mpsc::channel(8);
        let link = self.server.link.clone();
        let token = self.token.clone();
        let changes = self.server.changes.clone();
        tokio::spawn(async move {
            let alive = || link.goes_on(token.as_deref());
            follow(&tell, changes, alive).await;
            drop(place);
        });
        Ok(respond::events(stream))
    }

    /// The events of a recording from a number on, and those to come, each as the page shows it.
    pub async fn follow(&self) -> Result<Answer, Denied> {
        let from = self.query.get("from").parse().unwrap_or(0);
        let reader = recordings::open(&self.server.link, self.parameter).await?;
        self.grow(Growing {
            reader,
            story: Story::default(),
            seen: 0,
            from,
        })
    }

    /// A stream of what is new of something, until there will be no more.
    pub(super) fn grow<G: Grow>(&self, mut growing: G) -> Result<Answer, Denied> {
        let place = self.place()?;
        let (tell, stream) = mpsc::channel(8);
        let link = self.server.link.clone();
        let token = self.token.clone();
        tokio::spawn(async move {
            let mut looked = Instant::now();
            loop {
                let read = tokio::task::spawn_blocking(move || {
                    let batch = growing.next();
                    (growing, batch)
                });
                let Ok((read, (text, over))) = read.await else {
                    break;
                };
                growing = read;
                if !text.is_empty() && tell.send(text.into()).await.is_err() || over {
                    break;
                }
                if looked.elapsed() > ALIVE {
                    let gone = !link.goes_on(token.as_deref()).await;
                    if gone || tell.send(Bytes::from_static(b": alive\n\n")).await.is_err() {
                        break;
                    }
                    looked = Instant::now();
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            drop(place);
        });
        Ok(respond::events(stream))
    }
}

/// What is looked at again and again.
pub(super) trait Grow: Send + 'static {
    /// What is new, as events of a stream, some [`MAX_TEXT`] bytes at once; and whether that was all.
    /// May block.
    fn next(&mut self) -> (String, bool);
}

/// A recording that is being followed.
struct Growing {
    reader: Reader,
    story: Story,
    seen: usize,
    from: usize,
}

impl Grow for Growing {
    fn next(&mut self) -> (String, bool) {
        let mut text = String::new();
        loop {
            match self.reader.next_event() {
                Ok(Some(event)) => {
                    let over = matches!(event.told, Told::Seal(..));
                    for line in self.story.tell(event) {
                        self.seen += 1;
                        if self.seen > self.from {
                            let value = serde_json::to_value(&line).unwrap_or_default();
                            let shown = pages::event(&value).into_string();
                            text.push_str(&said("line", &shown));
                        }
                    }
                    if over {
                        text.push_str(&said("over", "the session has ended"));
                        return (text, true);
                    }
                    if text.len() > MAX_TEXT {
                        return (text, false);
                    }
                }
                Ok(None) => return (text, false),
                Err(error) => {
                    text.push_str(&said("over", &error.to_string()));
                    return (text, true);
                }
            }
        }
    }
}

/// One event; its text may have lines.
pub(super) fn said(event: &str, text: &str) -> String {
    let lines: String = text.lines().map(|line| format!("data: {line}\n")).collect();
    format!("event: {event}\n{lines}\n")
}

async fn follow<F: Future<Output = bool>>(
    tell: &mpsc::Sender<Bytes>,
    mut changes: watch::Receiver<u64>,
    alive: impl Fn() -> F,
) {
    if tell
        .send(Bytes::from_static(RETRY.as_bytes()))
        .await
        .is_err()
    {
        return;
    }
    changes.mark_unchanged();
    let mut tick = tokio::time::interval(ALIVE);
    tick.tick().await;
    loop {
        let said = tokio::select! {
            changed = changes.changed() => match changed {
                Ok(()) => {
                    // One page needs no more than this of a flood.
                    tokio::time::sleep(Duration::from_millis(150)).await;
                    let count = *changes.borrow_and_update();
                    format!("event: changed\ndata: {count}\n\n")
                }
                Err(_) => return,
            },
            _ = tick.tick() => match alive().await {
                true => ": alive\n\n".to_owned(),
                // The page asks again, and is led to the sign-in.
                false => return,
            },
            () = tell.closed() => return,
        };
        if tell.send(said.into()).await.is_err() {
            return;
        }
    }
}

/// Places for streams.
pub fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(AT_ONCE))
}
