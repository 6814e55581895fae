//! Fills the index: asks the keeper which recordings there are, reads each, and reads on in those
//! that still grow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::search::began;
use super::{Shared, open};
use crate::console::link::Link;
use crate::handover::console::Wish;
use crate::ids::SessionId;
use crate::replay::{Reader, Story, Told};

/// How often new recordings are asked for, and growing ones looked at.
const PAUSE: Duration = Duration::from_secs(1);
/// Recordings that are kept open because they may grow. Beyond it the oldest are let go.
const MAX_GROWING: usize = 1024;
/// A recording that has no end and did not grow for so long has lost its writer.
const GIVEN_UP: Duration = Duration::from_secs(24 * 60 * 60);
/// How long after it was named a session's recording may appear.
const LAG: Duration = Duration::from_secs(10 * 60);
/// Events that are taken under one lock.
const BATCH: usize = 256;
/// Recordings that are read before new ones are asked for again.
const AT_A_TIME: usize = 500;

/// A recording that is not sealed yet.
struct Growing {
    reader: Reader,
    story: Story,
    last: Instant,
}

/// For as long as the process lives.
pub async fn keep_fed(link: Arc<Link>, index: Shared) {
    let mut growing: BTreeMap<SessionId, Growing> = BTreeMap::new();
    let mut newest: Option<SessionId> = None;
    let mut backlog: BTreeSet<SessionId> = BTreeSet::new();
    loop {
        let from = newest.map(|newest| earlier(newest).to_string());
        match link.ask(None, Wish::Recordings { from }).await {
            Ok(listed) => newest = note(&index, &listed, newest, &growing, &mut backlog),
            Err(denied) => tracing::debug!(%denied, "recordings cannot be listed"),
        }
        read(&link, &index, &mut backlog, &mut growing).await;
        let index = index.clone();
        let mut moved = std::mem::take(&mut growing);
        // Files are read here, which may block.
        let read = tokio::task::spawn_blocking(move || {
            moved.retain(|session, growing| read_on(*session, growing, &index));
            moved
        });
        growing = read.await.unwrap_or_default();
        while growing.len() > MAX_GROWING {
            growing.pop_first();
        }
        // At a start there are many, and those that begin meanwhile are found between them.
        if backlog.is_empty() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// An id from before that time: a session has its id before it has its recording.
fn earlier(session: SessionId) -> SessionId {
    let at = UNIX_EPOCH + Duration::from_millis(began(session));
    SessionId::new(at.checked_sub(LAG).unwrap_or(UNIX_EPOCH), [0; 10])
}

/// Notes what is to be read; says which is the newest.
fn note(
    index: &Shared,
    listed: &Value,
    mut newest: Option<SessionId>,
    growing: &BTreeMap<SessionId, Growing>,
    backlog: &mut BTreeSet<SessionId>,
) -> Option<SessionId> {
    let listed = listed.as_array().into_iter().flatten();
    // The worker names recordings. One of the far future is none: it must neither hide those of
    // today nor be looked for again and again.
    let now = SystemTime::now();
    let latest = SessionId::new(now + LAG, [0xff; 10]);
    let now = SessionId::new(now, [0xff; 10]);
    let mut index = index.write().unwrap_or_else(PoisonError::into_inner);
    for name in listed {
        let session = name.as_str().and_then(|name| name.parse().ok());
        let Some(session) = session.filter(|session: &SessionId| *session <= latest) else {
            continue;
        };
        newest = newest.max(Some(session.min(now)));
        if !index.knows(session) && !growing.contains_key(&session) {
            backlog.insert(session);
        }
    }
    index.listed = index.listed.max(index.len() + backlog.len());
    newest
}

/// Reads some of what there is to read, the newest first.
async fn read(
    link: &Arc<Link>,
    index: &Shared,
    backlog: &mut BTreeSet<SessionId>,
    growing: &mut BTreeMap<SessionId, Growing>,
) {
    for _ in 0..AT_A_TIME {
        let Some(session) = backlog.pop_last() else {
            return;
        };
        let Ok(reader) = open(link, &session.to_string()).await else {
            continue;
        };
        let mut one = Growing {
            reader,
            story: Story::default(),
            last: Instant::now(),
        };
        let index = index.clone();
        let read = tokio::task::spawn_blocking(move || {
            let goes_on = read_on(session, &mut one, &index);
            goes_on.then_some(one)
        });
        if let Ok(Some(one)) = read.await {
            growing.insert(session, one);
            while growing.len() > MAX_GROWING {
                growing.pop_first();
            }
        }
    }
}

/// Takes over what is there now; whether more may come.
fn read_on(session: SessionId, growing: &mut Growing, index: &Shared) -> bool {
    loop {
        let mut events = Vec::new();
        let mut sealed = false;
        while events.len() < BATCH {
            match growing.reader.next_event() {
                Ok(Some(event)) => {
                    sealed |= matches!(event.told, Told::Seal(..));
                    events.push(event);
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%session, %error, "a recording cannot be read on");
                    return false;
                }
            }
        }
        if events.is_empty() {
            return growing.last.elapsed() < GIVEN_UP;
        }
        growing.last = Instant::now();
        let mut index = index.write().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            if let Told::Header(header) = &event.told {
                index.begin(header);
            }
            index.take(session, &mut growing.story, event);
        }
        if sealed {
            return false;
        }
    }
}
