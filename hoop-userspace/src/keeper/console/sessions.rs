//! Who is signed in at the console. Pure: it is told the time, and the randomness.
//!
//! Kept here and not in the console's process, so that a vote is counted for whom the keeper itself
//! knows by that token. Tokens are kept as digests: what this memory holds signs nobody in.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::keeper::people::Account;

/// Signed in at once; the one unused for longest makes room.
const MAX_SESSIONS: usize = 1000;
/// Codes of `hoop console login` that wait to be used.
const MAX_CODES: usize = 32;
/// A code is for whoever has just asked for it.
const CODE_FOR: Duration = Duration::from_secs(120);

/// Whom a session is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Who {
    /// An account of this host, which the kernel vouched for at `hoop console login`. Not the
    /// person: name and groups are those that the configuration gives it when they are needed.
    Account(Account),
    /// A person of the issuer's. What follows from the groups is looked up at every use, so that
    /// a reload counts at once.
    Login { login: String, groups: Vec<String> },
}

/// Bounds on every session.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub idle: Duration,
    pub lifetime: Duration,
}

#[derive(Default)]
pub struct Sessions {
    sessions: HashMap<Digest, Session>,
    codes: HashMap<Digest, (Instant, Account)>,
}

/// A session that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub who: Who,
    pub left: Duration,
    /// What its forms carry.
    pub csrf: String,
}

/// Whether somebody is there, or a page asks by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Person,
    /// Counts as no use: a page that is left open must not keep a session.
    Background,
}

struct Session {
    who: Who,
    /// Random, and nothing that follows from the token: the token is in a cookie, which browsers
    /// send to more than this console.
    csrf: String,
    began: Instant,
    used: Instant,
}

type Digest = [u8; 32];

/// A session, for the keeper that takes over. The token itself is in a browser alone.
#[derive(Serialize, Deserialize)]
pub struct Carried {
    key: Digest,
    who: Who,
    csrf: String,
    /// Milliseconds ago.
    began: u64,
    used: u64,
}

impl Sessions {
    /// Codes that wait to be used are not among it: whoever wants one asks again.
    pub fn carry(&self, now: Instant) -> Vec<Carried> {
        let ago =
            |at: Instant| u64::try_from(now.duration_since(at).as_millis()).unwrap_or(u64::MAX);
        let sessions = self.sessions.iter().map(|(key, session)| Carried {
            key: *key,
            who: session.who.clone(),
            csrf: session.csrf.clone(),
            began: ago(session.began),
            used: ago(session.used),
        });
        sessions.collect()
    }

    pub fn take_over(carried: Vec<Carried>, now: Instant) -> Self {
        let at = |ago: u64| now.checked_sub(Duration::from_millis(ago));
        let sessions = carried
            .into_iter()
            .take(MAX_SESSIONS)
            .filter_map(|carried| {
                let session = Session {
                    who: carried.who,
                    csrf: carried.csrf,
                    began: at(carried.began)?,
                    used: at(carried.used)?,
                };
                Some((carried.key, session))
            });
        Self {
            sessions: sessions.collect(),
            codes: HashMap::new(),
        }
    }

    /// Begins a session under a token that nobody can guess.
    pub fn begin(&mut self, token: &str, csrf: String, who: Who, now: Instant, bounds: Bounds) {
        self.sessions
            .retain(|_, session| session.left(now, bounds).is_some());
        while self.sessions.len() >= MAX_SESSIONS {
            let oldest = self.sessions.iter().min_by_key(|(_, session)| session.used);
            let Some(oldest) = oldest.map(|(key, _)| *key) else {
                break;
            };
            self.sessions.remove(&oldest);
        }
        let session = Session {
            who,
            csrf,
            began: now,
            used: now,
        };
        self.sessions.insert(key(token), session);
    }

    /// Whose session it is and how long it may go on.
    pub fn find(&mut self, token: &str, how: Use, now: Instant, bounds: Bounds) -> Option<Found> {
        let key = key(token);
        let session = self.sessions.get_mut(&key)?;
        let Some(left) = session.left(now, bounds) else {
            self.sessions.remove(&key);
            return None;
        };
        if how == Use::Person {
            session.used = now;
        }
        Some(Found {
            who: session.who.clone(),
            left,
            csrf: session.csrf.clone(),
        })
    }

    pub fn end(&mut self, token: &str) {
        self.sessions.remove(&key(token));
    }

    /// Keeps a code for an account that asked for one.
    pub fn promise(
        &mut self,
        code: &str,
        account: Account,
        now: Instant,
    ) -> Result<(), &'static str> {
        self.codes
            .retain(|_, (since, _)| now.duration_since(*since) < CODE_FOR);
        if self.codes.len() >= MAX_CODES {
            return Err("too many codes wait to be used; try again in two minutes");
        }
        self.codes.insert(key(code), (now, account));
        Ok(())
    }

    /// Whose code it is. It is used up.
    pub fn redeem(&mut self, code: &str, now: Instant) -> Option<Account> {
        let (since, account) = self.codes.remove(&key(code))?;
        (now.duration_since(since) < CODE_FOR).then_some(account)
    }
}

impl Session {
    fn left(&self, now: Instant, bounds: Bounds) -> Option<Duration> {
        let idle = now.duration_since(self.used);
        let left = bounds
            .lifetime
            .checked_sub(now.duration_since(self.began))?;
        (idle < bounds.idle && !left.is_zero()).then_some(left)
    }
}

fn key(token: &str) -> Digest {
    let mut key = [0; 32];
    let digest = digest(&SHA256, token.as_bytes());
    for (to, from) in key.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        idle: Duration::from_secs(60),
        lifetime: Duration::from_secs(150),
    };

    fn ada() -> Who {
        Who::Login {
            login: "ada@acme.example".into(),
            groups: vec!["dba".into()],
        }
    }

    fn account() -> Account {
        Account { uid: 0, root: true }
    }

    fn find(sessions: &mut Sessions, token: &str, now: Instant) -> Option<Found> {
        sessions.find(token, Use::Person, now, BOUNDS)
    }

    #[test]
    fn a_session_ends_when_it_is_not_used_and_in_any_case_later() {
        let mut sessions = Sessions::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        sessions.begin("a", "f".into(), ada(), start, BOUNDS);
        assert!(find(&mut sessions, "b", start).is_none());
        for seconds in [50, 100, 149] {
            let expected = Found {
                who: ada(),
                left: Duration::from_secs(150 - seconds),
                csrf: "f".into(),
            };
            assert_eq!(find(&mut sessions, "a", at(seconds)), Some(expected));
        }
        assert!(find(&mut sessions, "a", at(150)).is_none());
        sessions.begin("c", "f".into(), ada(), start, BOUNDS);
        assert!(find(&mut sessions, "c", at(60)).is_none(), "idle");
        sessions.begin("d", "f".into(), ada(), start, BOUNDS);
        sessions.end("d");
        assert!(find(&mut sessions, "d", start).is_none());
    }

    #[test]
    fn the_next_keeper_knows_who_is_signed_in_and_since_when() {
        let mut before = Sessions::default();
        let now = Instant::now();
        before.begin("a", "f".into(), ada(), now, BOUNDS);
        before.promise("code", account(), now).unwrap();
        let later = now + Duration::from_secs(50);
        let carried = serde_json::to_string(&before.carry(later)).unwrap();
        assert!(!carried.contains("\"a\""), "the token itself");
        let mut after = Sessions::take_over(serde_json::from_str(&carried).unwrap(), later);
        let found = find(&mut after, "a", later).unwrap();
        assert_eq!((found.who, found.left), (ada(), Duration::from_secs(100)));
        assert_eq!(found.csrf, "f");
        assert!(find(&mut after, "a", later + Duration::from_secs(100)).is_none());
        assert!(after.redeem("code", later).is_none());
    }

    #[test]
    fn a_page_that_asks_by_itself_keeps_no_session() {
        let mut sessions = Sessions::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        sessions.begin("a", "f".into(), ada(), start, BOUNDS);
        let found = sessions.find("a", Use::Background, at(50), BOUNDS);
        assert!(found.is_some());
        let found = sessions.find("a", Use::Background, at(60), BOUNDS);
        assert!(found.is_none(), "idle");
    }

    #[test]
    fn a_code_signs_in_once_and_soon() {
        let mut sessions = Sessions::default();
        let start = Instant::now();
        sessions.promise("x", account(), start).unwrap();
        assert_eq!(sessions.redeem("y", start), None);
        assert_eq!(sessions.redeem("x", start), Some(account()));
        assert_eq!(sessions.redeem("x", start), None);
        sessions.promise("z", account(), start).unwrap();
        assert_eq!(sessions.redeem("z", start + CODE_FOR), None);
        for n in 0..MAX_CODES {
            sessions.promise(&n.to_string(), account(), start).unwrap();
        }
        assert!(sessions.promise("more", account(), start).is_err());
    }

    #[test]
    fn too_many_sessions_cost_the_one_that_is_unused_for_longest() {
        let mut sessions = Sessions::default();
        let start = Instant::now();
        for n in 0..=MAX_SESSIONS {
            let now = start + Duration::from_millis(n as u64);
            sessions.begin(&n.to_string(), "f".into(), ada(), now, BOUNDS);
        }
        let now = start + Duration::from_secs(2);
        assert!(find(&mut sessions, "0", now).is_none());
        assert!(find(&mut sessions, "1", now).is_some());
    }
}
