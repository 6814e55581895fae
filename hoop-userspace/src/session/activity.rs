//! Counts what a session and its agent do, where a rule asks for it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::decide::{Activity, Permitted, RelationName, Tally};
use crate::ids::AgentName;
use crate::mask::Masked;

/// A minute in steps of ten seconds, and an hour in steps of one minute.
const MINUTE: (Duration, u64) = (Duration::from_secs(10), 6);
const HOUR: (Duration, u64) = (Duration::from_secs(60), 60);
/// Tables that are remembered; past it every table that is not among them stays new.
const MAX_SEEN: usize = 10_000;

/// What every agent has done. Cheap to clone; clones are one.
#[derive(Clone)]
pub struct Activities {
    agents: Arc<Mutex<HashMap<AgentName, Arc<Mutex<Counter>>>>>,
    begun: Instant,
}

impl Default for Activities {
    fn default() -> Self {
        Self {
            agents: Arc::default(),
            begun: Instant::now(),
        }
    }
}

impl Activities {
    /// For a session of this agent.
    pub fn of(&self, agent: &AgentName) -> Watched {
        let mut agents = lock(&self.agents);
        Watched {
            session: Counter::default(),
            agent: agents.entry(agent.clone()).or_default().clone(),
            begun: self.begun,
        }
    }
}

/// One session, and the agent whose it is.
pub struct Watched {
    session: Counter,
    agent: Arc<Mutex<Counter>>,
    begun: Instant,
}

#[derive(Default)]
struct Counter {
    statements: Window,
    rows: Window,
    bytes: Window,
    refusals: u64,
    seen: Arc<BTreeSet<RelationName>>,
}

/// Sums by step of time, newest last.
#[derive(Default)]
struct Window(VecDeque<(u64, u64)>);

impl Watched {
    /// Up to now.
    pub fn now(&mut self) -> Activity {
        let since = self.begun.elapsed();
        Activity {
            session: self.session.tally(since),
            agent: lock(&self.agent).tally(since),
        }
    }

    pub fn permitted(&mut self, permitted: &Permitted) {
        let since = self.begun.elapsed();
        self.session.permitted(permitted, since);
        lock(&self.agent).permitted(permitted, since);
    }

    pub(super) fn refused(&mut self) {
        self.session.refusals += 1;
        lock(&self.agent).refusals += 1;
    }

    pub(super) fn replied(&mut self, masked: &Masked) {
        let since = self.begun.elapsed();
        let rows = masked.spans().iter().map(|s| u64::from(s.rows)).sum();
        let bytes = masked.wire().len() as u64;
        self.session.replied(rows, bytes, since);
        lock(&self.agent).replied(rows, bytes, since);
    }
}

impl Counter {
    fn tally(&mut self, since: Duration) -> Tally {
        Tally {
            statements: self.statements.sum(since, MINUTE),
            rows: self.rows.sum(since, HOUR),
            bytes: self.bytes.sum(since, HOUR),
            refusals: self.refusals,
            seen: self.seen.clone(),
        }
    }

    fn permitted(&mut self, permitted: &Permitted, since: Duration) {
        let ran = permitted.units().iter().filter(|unit| unit.runs);
        let facts = ran.filter_map(|unit| unit.statement.as_deref());
        let mut any = false;
        for facts in facts {
            any = true;
            for table in facts.reads.iter().chain(&facts.writes) {
                if !self.seen.contains(table) && self.seen.len() < MAX_SEEN {
                    Arc::make_mut(&mut self.seen).insert(table.clone());
                }
            }
        }
        if any {
            self.statements.add(1, since, MINUTE);
            self.refusals = 0;
        }
    }

    fn replied(&mut self, rows: u64, bytes: u64, since: Duration) {
        self.rows.add(rows, since, HOUR);
        self.bytes.add(bytes, since, HOUR);
    }
}

impl Window {
    fn add(&mut self, value: u64, since: Duration, (step, steps): (Duration, u64)) {
        let now = since.as_secs() / step.as_secs();
        match self.0.back_mut() {
            Some((at, sum)) if *at == now => *sum = sum.saturating_add(value),
            _ => self.0.push_back((now, value)),
        }
        self.forget(now, steps);
    }

    fn sum(&mut self, since: Duration, (step, steps): (Duration, u64)) -> u64 {
        let now = since.as_secs() / step.as_secs();
        self.forget(now, steps);
        self.0.iter().map(|(_, value)| value).sum()
    }

    fn forget(&mut self, now: u64, steps: u64) {
        while self.0.front().is_some_and(|(at, _)| at + steps <= now) {
            self.0.pop_front();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_forgets() {
        let mut window = Window::default();
        let at = Duration::from_secs;
        window.add(1, at(0), MINUTE);
        window.add(2, at(9), MINUTE);
        window.add(4, at(30), MINUTE);
        assert_eq!(window.sum(at(59), MINUTE), 7);
        assert_eq!(window.sum(at(60), MINUTE), 4);
        assert_eq!(window.sum(at(89), MINUTE), 4);
        assert_eq!(window.sum(at(90), MINUTE), 0);
    }
}
