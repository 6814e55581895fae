//! Which worker has which client that asks: after an upgrade there is more than one.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::ask::{Asking, Ticket};
use crate::decide::Scope;
use crate::ids::SessionId;

/// Sessions that asked for an approval of the session; past it those are forgotten for which none is
/// left.
const MANY: usize = 4096;

/// Workers are named by their process ids, which are theirs until the keeper has waited for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Askers {
    /// Clients that wait, or whose answer is not said yet.
    #[serde(with = "pairs")]
    tickets: HashMap<Ticket, u32>,
    #[serde(with = "pairs")]
    sessions: HashMap<SessionId, u32>,
}

impl Askers {
    /// A worker's client asks; false if it is another worker's.
    pub fn asks(&mut self, worker: u32, ticket: Ticket, asking: &Asking) -> bool {
        if *self.tickets.entry(ticket).or_insert(worker) != worker {
            return false;
        }
        if asking.scope() == Scope::Session {
            self.sessions.insert(asking.session, worker);
        }
        true
    }

    pub fn worker_of(&self, ticket: Ticket) -> Option<u32> {
        self.tickets.get(&ticket).copied()
    }

    /// A client waits no longer; false if it is not this worker's.
    pub fn withdraws(&mut self, worker: u32, ticket: Ticket) -> bool {
        let is = self.worker_of(ticket) == Some(worker);
        if is {
            self.tickets.remove(&ticket);
        }
        is
    }

    /// Its answer is being said; whom to.
    pub fn answered(&mut self, ticket: Ticket) -> Option<u32> {
        self.tickets.remove(&ticket)
    }

    /// A worker has ended: its clients and sessions.
    pub fn gone(&mut self, worker: u32) -> (Vec<Ticket>, HashSet<SessionId>) {
        let tickets = self.tickets.extract_if(|_, of| *of == worker);
        let tickets = tickets.map(|(ticket, _)| ticket).collect();
        let sessions = self.sessions.extract_if(|_, of| *of == worker);
        (tickets, sessions.map(|(session, _)| session).collect())
    }

    pub fn are_many(&self) -> bool {
        self.sessions.len() > MANY
    }

    /// Forgets all sessions but these.
    pub fn keep_sessions(&mut self, kept: &HashSet<SessionId>) {
        self.sessions.retain(|session, _| kept.contains(session));
    }
}

/// A map whose keys are no text, in JSON.
mod pairs {
    use std::collections::HashMap;
    use std::hash::Hash;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<K: Serialize, S: Serializer>(
        map: &HashMap<K, u32>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub fn deserialize<'de, K, D>(deserializer: D) -> Result<HashMap<K, u32>, D::Error>
    where
        K: Deserialize<'de> + Eq + Hash,
        D: Deserializer<'de>,
    {
        let pairs = Vec::<(K, u32)>::deserialize(deserializer)?;
        Ok(pairs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_its_worker_s_alone_and_goes_with_it() {
        let mut askers = Askers::default();
        let (one, two) = (Ticket(1), Ticket(2));
        askers.tickets.insert(one, 10);
        askers.tickets.insert(two, 20);
        let session = SessionId::from([7; 16]);
        askers.sessions.insert(session, 20);
        assert!(!askers.withdraws(20, one), "another worker's");
        let json = serde_json::to_string(&askers).unwrap();
        assert_eq!(serde_json::from_str::<Askers>(&json).unwrap(), askers);
        assert_eq!(askers.gone(20), (vec![two], HashSet::from([session])));
        assert_eq!(askers.answered(one), Some(10));
        assert_eq!(askers.answered(one), None);
    }
}
