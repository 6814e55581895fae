//! The console's listener, and the life of the process that serves it.
//!
//! Connections are accepted here, since only the keeper may bind; a process of its own reads them.
//! It has an account apart from the worker's, and no power but to ask: what it is given, and in
//! whose name, is in [`answers`]. `docs/adr/the-console-is-a-process.md` says why.

mod answers;
pub mod button;
mod lists;
mod roles;
pub mod sessions;
mod slack;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::process::Child;
use tokio::sync::{Semaphore, watch};

use super::questions::Questions;
use super::{Parts, child};
use crate::config::Bundle;
use crate::handover::Channel;
use crate::handover::console::{FromConsole, ToConsole};
use answers::Answers;
pub use answers::token;

/// For a process to be there; a stranger may come again.
const READY_WITHIN: Duration = Duration::from_secs(1);
/// Wishes that are looked at once; the next waits in the socket.
const AT_ONCE: usize = 64;
/// The pause before it is started again once it died young, doubled each time that it does. One
/// that has lived is started again at once.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const GROWN_UP: Duration = Duration::from_secs(10);

/// The console's process as the rest of the keeper sees it.
pub struct Console {
    bundle: watch::Sender<Arc<Bundle>>,
}

/// Binds the listener. Must be called within a tokio runtime.
pub fn bind(listen: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

impl Console {
    /// Starts the process and serves the listener, for as long as the keeper lives.
    pub fn start(
        parts: Arc<Parts>,
        questions: Arc<Questions>,
        listener: tokio::net::TcpListener,
        bundle: &Bundle,
    ) -> Self {
        let bundle = watch::Sender::new(Arc::new(bundle.for_console()));
        let (tell, ready) = watch::channel(None);
        let keeping = Keeping {
            answers: Arc::new(Answers::new(parts.clone(), questions)),
            parts,
            bundle: bundle.subscribe(),
            ready: tell,
        };
        tokio::spawn(keeping.run());
        tokio::spawn(accept(listener, ready));
        Self { bundle }
    }

    /// Gives the process another configuration; it was taken by the keeper and the worker.
    pub fn set_bundle(&self, bundle: &Bundle) {
        self.bundle.send_replace(Arc::new(bundle.for_console()));
    }
}

async fn accept(
    listener: tokio::net::TcpListener,
    mut ready: watch::Receiver<Option<Arc<Channel>>>,
) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the console cannot accept");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let waited = tokio::time::timeout(READY_WITHIN, ready.wait_for(Option::is_some)).await;
        let channel = waited.ok().and_then(Result::ok).and_then(|now| now.clone());
        let Some(channel) = channel else {
            continue;
        };
        let sending = channel.send(&ToConsole::Connection, Some(stream.as_fd()));
        let sent = tokio::time::timeout(READY_WITHIN, sending).await;
        if !matches!(sent, Ok(Ok(()))) {
            tracing::debug!("a connection to the console could not be handed over");
        }
    }
}

struct Keeping {
    parts: Arc<Parts>,
    answers: Arc<Answers>,
    bundle: watch::Receiver<Arc<Bundle>>,
    /// The channel, once the process has its configuration.
    ready: watch::Sender<Option<Arc<Channel>>>,
}

impl Keeping {
    async fn run(mut self) {
        let mut pause = Duration::ZERO;
        loop {
            let born = Instant::now();
            let why = match self.spawn() {
                Ok((child, channel)) => self.life(child, Arc::new(channel)).await,
                Err(error) => format!("it could not be started: {error}"),
            };
            self.ready.send_replace(None);
            self.parts
                .journal
                .write(&super::journal::Entry::ConsoleDied { why });
            pause = match born.elapsed() >= GROWN_UP {
                true => Duration::ZERO,
                false => (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE),
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Why it ended.
    async fn life(&mut self, mut child: Child, channel: Arc<Channel>) -> String {
        let mut changes = self.parts.clerk.changes();
        let places = Arc::new(Semaphore::new(AT_ONCE));
        if let Err(why) = self.configure(&channel).await {
            return why;
        }
        self.ready.send_replace(Some(channel.clone()));
        loop {
            tokio::select! {
                status = child.wait() => return child::how(status),
                message = channel.receive::<FromConsole>() => match message {
                    Ok(Some((wish, _))) => {
                        let Ok(place) = places.clone().acquire_owned().await else {
                            return "its wishes cannot be counted".into();
                        };
                        let (answers, channel) = (self.answers.clone(), channel.clone());
                        tokio::spawn(async move {
                            answers.answer(wish, &channel).await;
                            drop(place);
                        });
                    }
                    // Its exit status says more.
                    Ok(None) => return ended(child).await,
                    Err(error) => return error.to_string(),
                },
                Ok(()) = self.bundle.changed() => {
                    if let Err(why) = self.configure(&channel).await {
                        return why;
                    }
                }
                Ok(()) = changes.changed() => {
                    if let Err(error) = channel.send(&ToConsole::Changed, None).await {
                        return error.to_string();
                    }
                }
            }
        }
    }

    async fn configure(&mut self, channel: &Channel) -> Result<(), String> {
        let wire = self.bundle.borrow_and_update().to_wire();
        let message = ToConsole::Configure {
            bundle: wire.to_vec(),
        };
        let sent = channel.send(&message, None).await;
        sent.map_err(|error| error.to_string())
    }

    fn spawn(&self) -> io::Result<(Child, Channel)> {
        let config = self.parts.config();
        let user = config.console.as_ref().map_or("", |c| c.user.as_str());
        child::spawn("serve-console", user, &self.parts.start.worker_arguments)
    }
}

async fn ended(mut child: Child) -> String {
    match tokio::time::timeout(Duration::from_secs(1), child.wait()).await {
        Ok(status) => child::how(status),
        Err(_) => "it closed its socket".into(),
    }
}
