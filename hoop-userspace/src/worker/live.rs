//! The sessions that go on now, and how each is told to end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::handover::{Freeze, LiveSession};
use crate::ids::SessionId;
use crate::terminate::End;

/// Cheap to clone; all clones share one registry.
#[derive(Clone)]
pub struct Live {
    sessions: Arc<Mutex<HashMap<SessionId, Entry>>>,
    /// How many there are, for whoever waits for the last.
    count: Arc<watch::Sender<usize>>,
}

struct Entry {
    session: LiveSession,
    ends: watch::Sender<Option<End>>,
    freezes: watch::Sender<Option<Freeze>>,
}

/// A session's place in the registry; it leaves when this is dropped, a panic included.
pub struct Place {
    id: SessionId,
    live: Live,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            sessions: Arc::default(),
            count: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl Live {
    /// Registers a session; it ends when `ends` says so, and stands still when `freezes` does.
    pub fn enter(
        &self,
        session: LiveSession,
        ends: watch::Sender<Option<End>>,
        freezes: watch::Sender<Option<Freeze>>,
    ) -> Place {
        let id = session.session;
        let mut sessions = self.sessions();
        let entry = Entry {
            session,
            ends,
            freezes,
        };
        sessions.insert(id, entry);
        self.count.send_replace(sessions.len());
        Place {
            id,
            live: self.clone(),
        }
    }

    pub fn list(&self) -> Vec<LiveSession> {
        let mut list: Vec<_> = self
            .sessions()
            .values()
            .map(|e| LiveSession {
                frozen: e.freezes.borrow().clone().filter(|f| f.until.is_some()),
                ..e.session.clone()
            })
            .collect();
        list.sort_by_key(|session| session.session);
        list
    }

    /// Ends one session; says whether there was one.
    pub fn end(&self, session: SessionId, why: End) -> bool {
        let sessions = self.sessions();
        let Some(entry) = sessions.get(&session) else {
            return false;
        };
        tell(&entry.ends, why);
        true
    }

    /// Has one session stand still, or go on; says whether there was one, and whether it did.
    pub fn freeze(&self, session: SessionId, freeze: Freeze) -> bool {
        let sessions = self.sessions();
        let Some(entry) = sessions.get(&session) else {
            return false;
        };
        let frozen = entry.freezes.borrow().clone();
        let frozen = frozen.is_some_and(|frozen| frozen.until.is_some());
        if freeze.until.is_none() && !frozen {
            return false;
        }
        entry.freezes.send_replace(Some(freeze));
        true
    }

    /// Ends every session for which there is a reason.
    pub fn end_where(&self, why: impl Fn(&LiveSession) -> Option<End>) {
        for entry in self.sessions().values() {
            if let Some(why) = why(&entry.session) {
                tell(&entry.ends, why);
            }
        }
    }

    /// Waits until there is no session, at most `within`; says whether that came to pass.
    pub async fn empty(&self, within: Duration) -> bool {
        let mut count = self.count.subscribe();
        let waited = tokio::time::timeout(within, count.wait_for(|count| *count == 0)).await;
        waited.is_ok()
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, Entry>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut sessions = self.live.sessions();
        sessions.remove(&self.id);
        self.live.count.send_replace(sessions.len());
    }
}

/// The first reason stays: it is the one that is recorded.
pub fn tell(ends: &watch::Sender<Option<End>>, why: End) {
    ends.send_if_modified(|end| {
        let first = end.is_none();
        if first {
            *end = Some(why);
        }
        first
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn session(number: u8) -> LiveSession {
        LiveSession {
            session: SessionId::from([number; 16]),
            since: SystemTime::UNIX_EPOCH,
            agent: "bot".into(),
            subject: "0oa1".into(),
            resource: "orders".into(),
            database: "shop".into(),
            login: "bot".into(),
            pid: 7,
            executable: None,
            frozen: None,
        }
    }

    #[tokio::test]
    async fn a_session_is_frozen_and_let_go_on_once() {
        let live = Live::default();
        let (ends, _told) = watch::channel(None);
        let (freezes, mut told) = watch::channel(None);
        let _place = live.enter(session(1), ends, freezes);
        let id = SessionId::from([1; 16]);
        let freeze = |until| Freeze {
            by: "ada".into(),
            reason: "odd".into(),
            until,
        };
        assert!(!live.freeze(id, freeze(None)), "it was not frozen");
        let until = Some(SystemTime::UNIX_EPOCH);
        assert!(live.freeze(id, freeze(until)));
        assert_eq!(live.list()[0].frozen, Some(freeze(until)));
        assert_eq!(*told.borrow_and_update(), Some(freeze(until)));
        assert!(live.freeze(id, freeze(None)));
        assert_eq!(live.list()[0].frozen, None);
        assert!(told.has_changed().unwrap());
        assert!(!live.freeze(SessionId::from([2; 16]), freeze(until)));
    }

    #[tokio::test]
    async fn a_session_is_ended_for_the_first_reason_and_leaves_when_dropped() {
        let live = Live::default();
        let (ends, told) = watch::channel(None);
        let (freezes, _) = watch::channel(None);
        let place = live.enter(session(1), ends, freezes);
        assert_eq!(live.list(), [session(1)]);
        assert!(live.end(SessionId::from([1; 16]), End::Killed("enough".into())));
        live.end_where(|_| Some(End::Drained));
        assert_eq!(*told.borrow(), Some(End::Killed("enough".into())));
        assert!(!live.end(SessionId::from([2; 16]), End::Drained));
        assert!(!live.empty(Duration::from_millis(10)).await);
        let waiting = live.clone();
        let waited = tokio::spawn(async move { waiting.empty(Duration::from_secs(5)).await });
        drop(place);
        assert!(waited.await.unwrap());
        assert!(live.list().is_empty());
    }
}
