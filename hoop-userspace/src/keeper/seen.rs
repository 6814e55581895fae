//! What the kernel let pass or refused without a session: the material of `hoop discover`.
//!
//! Aggregated, because an agent in discover mode may open thousands of connections to one place,
//! and bounded, because the keys come from what agents do.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// Kinds of observation that are kept apart; beyond it, the least recently seen one goes.
const MAX_ROWS: usize = 4096;
/// How long a change may wait before it is written to the ledger.
const SETTLE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Key {
    /// What the kernel did: `passed` or `refused`.
    pub verdict: Verdict,
    pub agent: Option<String>,
    pub cgroup: String,
    pub executable: String,
    pub destination: SocketAddr,
    /// `tcp`, `udp`, or another protocol.
    pub how: String,
    /// Why it was refused.
    pub why: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Passed,
    Refused,
}

/// One line of `hoop discover`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    #[serde(flatten)]
    pub key: Key,
    /// Names that DNS answers gave for the destination lately.
    pub names: Vec<String>,
    pub count: u64,
    #[serde(with = "time::serde::rfc3339")]
    pub first: time::OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub last: time::OffsetDateTime,
}

struct Count {
    row: Row,
    at: SystemTime,
    /// How much of `count` the ledger has, and since when.
    written: u64,
    written_at: SystemTime,
}

#[derive(Default)]
pub struct Seen {
    rows: HashMap<Key, Count>,
}

impl Seen {
    /// Counts one observation. The first of its kind is given back, to be written at once.
    pub fn note(&mut self, key: Key, names: Vec<String>, at: SystemTime) -> Option<Row> {
        let when = time::OffsetDateTime::from(at);
        if let Some(count) = self.rows.get_mut(&key) {
            count.row.count += 1;
            count.row.last = when;
            count.at = at;
            if !names.is_empty() {
                count.row.names = names;
            }
            return None;
        }
        self.make_room();
        let row = Row {
            key: key.clone(),
            names,
            count: 1,
            first: when,
            last: when,
        };
        self.rows.insert(
            key,
            Count {
                row: row.clone(),
                at,
                written: 1,
                written_at: at,
            },
        );
        Some(row)
    }

    /// Rows whose count has grown since they were written, each at most once a minute.
    pub fn settled(&mut self, now: SystemTime) -> Vec<Row> {
        let due = |count: &&mut Count| {
            count.row.count > count.written
                && now
                    .duration_since(count.written_at)
                    .is_ok_and(|age| age >= SETTLE)
        };
        let mut rows: Vec<Row> = Vec::new();
        for count in self.rows.values_mut().filter(due) {
            count.written = count.row.count;
            count.written_at = now;
            rows.push(count.row.clone());
        }
        rows
    }

    /// All rows, the latest first.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.rows.values().map(|count| count.row.clone()).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.last));
        rows
    }

    fn make_room(&mut self) {
        if self.rows.len() < MAX_ROWS {
            return;
        }
        let oldest = self
            .rows
            .iter()
            .min_by_key(|(_, count)| count.at)
            .map(|(key, _)| key.clone());
        if let Some(key) = oldest {
            self.rows.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> Key {
        Key {
            verdict: Verdict::Passed,
            agent: Some("bot".into()),
            cgroup: "agents.slice/bot.service".into(),
            executable: "/usr/bin/curl".into(),
            destination: SocketAddr::from(([192, 0, 2, 1], port)),
            how: "tcp".into(),
            why: None,
        }
    }

    #[test]
    fn the_first_is_written_at_once_and_the_rest_once_a_minute() {
        let start = SystemTime::UNIX_EPOCH;
        let mut seen = Seen::default();
        assert!(seen.note(key(1), vec![], start).is_some());
        for _ in 0..5 {
            assert!(seen.note(key(1), vec!["a.example".into()], start).is_none());
        }
        assert!(seen.settled(start + SETTLE / 2).is_empty());
        let settled = seen.settled(start + SETTLE);
        assert_eq!(settled.len(), 1);
        assert_eq!((settled[0].count, settled[0].names.len()), (6, 1));
        assert!(seen.settled(start + SETTLE * 3).is_empty());
    }

    #[test]
    fn what_agents_do_cannot_grow_it_without_bound() {
        let mut seen = Seen::default();
        for second in 0..(MAX_ROWS as u64 + 10) {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            seen.note(key(u16::try_from(second).unwrap()), vec![], at);
        }
        let rows = seen.rows();
        assert_eq!(rows.len(), MAX_ROWS);
        assert!(rows.iter().all(|row| row.key.destination.port() >= 10));
    }
}
