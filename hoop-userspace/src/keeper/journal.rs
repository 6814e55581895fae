//! What the keeper has to say: to the log for people, and to a hash-chained ledger of its own.
//!
//! A session's recording holds what happened in it; the ledger holds what happened to none:
//! connections without an origin, hooks that were lost, workers that died, reloads.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::recent::Recent;
use super::seen::Row;
use crate::attribute::containers::Isolation;
use crate::identify::By;
use crate::record::Ledger;

/// Entries whose number an outsider controls are written at most this often, with how many were not.
const QUIET: Duration = Duration::from_secs(10);

/// One entry of the ledger. The names are kept.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Entry {
    Started {
        version: &'static str,
        config: String,
    },
    Stopping,
    Stopped,
    /// Somebody has another build take over in place.
    UpgradeBegun {
        from: &'static str,
        to: String,
        program: String,
    },
    /// It does not take over; nothing has changed.
    UpgradeRefused {
        program: String,
        why: String,
    },
    /// This build has taken over.
    Upgraded {
        from: String,
        to: &'static str,
        program: String,
        /// Workers that go on with their sessions, by their process ids.
        retired: Vec<u32>,
    },
    /// A worker from before an upgrade has ended.
    WorkerEnded {
        pid: u32,
        version: String,
        why: String,
    },
    /// Somebody connected to a capture listener past the hooks: reset.
    NoOrigin {
        peer: Option<SocketAddr>,
        reason: String,
        unwritten: u64,
    },
    /// A connection was reset because it could not be taken in time.
    Busy {
        destination: SocketAddr,
        cgroup_id: u64,
        reason: String,
        unwritten: u64,
    },
    /// A cgroup below the slice that no agent's mapping covers: enforced, everything refused.
    UnknownCgroup {
        cgroup: String,
    },
    /// A container whose runtime's word on it cannot be had, which the agent's mapping needs: enforced,
    /// everything refused.
    UnknownContainer {
        cgroup: String,
        agent: String,
        why: String,
    },
    /// A container below the slice whose packets the kernel programs do not see.
    Isolated {
        cgroup: String,
        by: Isolation,
        seen: String,
    },
    WorkerReady {
        pid: Option<u32>,
        epoch: u64,
    },
    WorkerDied {
        pid: Option<u32>,
        why: String,
    },
    /// The worker reports what no session's recording can hold.
    Worker {
        kind: String,
        detail: String,
        session: Option<String>,
    },
    Reload {
        epoch: u64,
        error: Option<String>,
    },
    Capture {
        hook: String,
        problem: Option<String>,
    },
    Kill {
        session: String,
        reason: String,
        found: bool,
    },
    /// A session stands still until somebody lets it go on, or ends then.
    Frozen {
        session: String,
        by: String,
        reason: String,
        /// RFC 3339.
        until: String,
        found: bool,
    },
    Thawed {
        session: String,
        by: String,
        reason: String,
        found: bool,
    },
    /// An agent, or one instance of it, may do nothing until it is resumed.
    Suspended {
        agent: String,
        instance: Option<String>,
        by: By,
        why: String,
    },
    Resumed {
        agent: String,
        instance: Option<String>,
        reason: String,
    },
    /// One person approved alone, in an emergency.
    BreakGlass {
        question: String,
        agent: String,
        resource: String,
        who: String,
        reason: String,
    },
    /// The glass was broken: an agent's connections go their own way until then.
    BypassOpened {
        agent: String,
        by: String,
        reason: String,
        /// RFC 3339, both.
        since: String,
        until: String,
        cgroups: Vec<String>,
    },
    BypassEnded {
        agent: String,
        by: String,
        reason: String,
        /// Connections that were still open, and were ended with it.
        connections: usize,
    },
    /// People cannot be asked, or what an earlier log approved is void.
    Approvals {
        problem: String,
    },
    /// A message to a channel was given up; what it said is in the log of approvals.
    Channel {
        channel: String,
        why: String,
    },
    /// The console's process ended; it is started again.
    ConsoleDied {
        why: String,
    },
    /// Somebody signed in at the console.
    SignedIn {
        who: String,
        /// `local`: by `hoop console login`; `issuer`: by OpenID Connect.
        how: String,
        roles: Vec<String>,
    },
    /// What somebody does, or tries, at the console: written before it is done, and once more with
    /// its problem where it came to nothing. Votes are in the log of approvals.
    Admin {
        who: String,
        via: String,
        /// `kill`, `freeze`, `thaw`, `suspend`, `resume`, `sign_in`, `sign_out` or `denied`.
        action: String,
        /// The session, or the agent.
        about: String,
        reason: String,
        problem: Option<String>,
    },
    /// A button in Slack that was not proved, or that nobody known pressed.
    SlackRefused {
        why: String,
        unwritten: u64,
    },
    Seen(Row),
}

impl Entry {
    fn is_bad(&self) -> bool {
        match self {
            Self::WorkerDied { .. }
            | Self::Suspended { .. }
            | Self::BreakGlass { .. }
            | Self::BypassOpened { .. }
            | Self::BypassEnded { .. }
            | Self::Approvals { .. }
            | Self::Channel { .. }
            | Self::ConsoleDied { .. }
            | Self::UnknownContainer { .. }
            | Self::Isolated { .. }
            | Self::UpgradeRefused { .. } => true,
            Self::Reload { error: problem, .. } | Self::Capture { problem, .. } => {
                problem.is_some()
            }
            _ => false,
        }
    }

    /// What an outsider can cause any number of, as one kind each.
    fn flood(&mut self) -> Option<(&'static str, &mut u64)> {
        match self {
            Self::NoOrigin { unwritten, .. } => Some(("no_origin", unwritten)),
            Self::Busy { unwritten, .. } => Some(("busy", unwritten)),
            Self::SlackRefused { unwritten, .. } => Some(("slack_refused", unwritten)),
            _ => None,
        }
    }
}

/// Where entries go.
pub trait Book: Send {
    fn append(&mut self, entry: &Entry) -> Result<(), String>;
}

impl Book for Ledger {
    fn append(&mut self, entry: &Entry) -> Result<(), String> {
        Ledger::append(self, entry)
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

pub struct Journal {
    book: Mutex<Box<dyn Book>>,
    floods: Mutex<HashMap<&'static str, (Instant, u64)>>,
    recent: Arc<Recent>,
}

impl Journal {
    pub fn new(book: impl Book + 'static) -> Self {
        Self {
            book: Mutex::new(Box::new(book)),
            floods: Mutex::default(),
            recent: Arc::default(),
        }
    }

    /// The newest entries of this ledger, and of the one about questions.
    pub fn recent(&self) -> &Arc<Recent> {
        &self.recent
    }

    pub fn write(&self, entry: &Entry) {
        // What has happened has happened: the log says that the ledger does not.
        let _ = self.must(entry);
    }

    /// Writes what may only be done once it is written; where it cannot be, it is not to be done.
    pub fn must(&self, entry: &Entry) -> Result<(), String> {
        let mut entry = entry.clone();
        if !self.is_due(&mut entry, Instant::now()) {
            return Ok(());
        }
        let text = serde_json::to_string(&entry).unwrap_or_default();
        if entry.is_bad() {
            tracing::warn!(entry = %text, "keeper");
        } else {
            tracing::info!(entry = %text, "keeper");
        }
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let appended = book.append(&entry);
        if appended.is_ok() {
            self.recent.note(&entry);
        }
        appended.map_err(|error| {
            tracing::error!(
                error,
                entry = text,
                "the keeper's ledger could not be written"
            );
            format!("the keeper's ledger cannot be written: {error}")
        })
    }

    fn is_due(&self, entry: &mut Entry, now: Instant) -> bool {
        let Some((kind, unwritten)) = entry.flood() else {
            return true;
        };
        let mut floods = self.floods.lock().unwrap_or_else(PoisonError::into_inner);
        match floods.get_mut(kind) {
            Some((last, count)) if now.duration_since(*last) < QUIET => {
                *count += 1;
                false
            }
            Some((last, count)) => {
                *unwritten = std::mem::take(count);
                *last = now;
                true
            }
            None => {
                floods.insert(kind, (now, 0));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nowhere;

    impl Book for Nowhere {
        fn append(&mut self, _: &Entry) -> Result<(), String> {
            Ok(())
        }
    }

    #[test]
    fn a_flood_is_counted_and_not_written() {
        let journal = Journal::new(Nowhere);
        let start = Instant::now();
        let entry = || Entry::NoOrigin {
            peer: None,
            reason: "no origin".into(),
            unwritten: 0,
        };
        assert!(journal.is_due(&mut entry(), start));
        for _ in 0..100 {
            assert!(!journal.is_due(&mut entry(), start + QUIET / 2));
        }
        let mut last = entry();
        assert!(journal.is_due(&mut last, start + QUIET));
        assert!(matches!(last, Entry::NoOrigin { unwritten: 100, .. }));
        assert!(journal.is_due(&mut Entry::Stopping, start));
    }

    #[test]
    fn what_must_be_written_says_when_it_is_not() {
        struct Full;
        impl Book for Full {
            fn append(&mut self, _: &Entry) -> Result<(), String> {
                Err("no space".into())
            }
        }
        assert!(Journal::new(Nowhere).must(&Entry::Stopping).is_ok());
        let refused = Journal::new(Full).must(&Entry::Stopping).unwrap_err();
        assert!(refused.contains("no space"), "{refused}");
    }

    #[test]
    fn an_entry_names_its_event() {
        let entry = Entry::WorkerDied {
            pid: Some(7),
            why: "signal: 9 (SIGKILL)".into(),
        };
        assert_eq!(
            serde_json::to_string(&entry).unwrap(),
            r#"{"event":"worker_died","pid":7,"why":"signal: 9 (SIGKILL)"}"#
        );
    }
}
