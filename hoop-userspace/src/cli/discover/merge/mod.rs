//! Counting connections: each once, whether it was seen while it lived, at its end, or both.
//!
//! Pure: what lists and reports of ends say goes in, one tally for each cgroup, executable and
//! destination comes out.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use time::OffsetDateTime;

use crate::capture::sockets::{Counters, Watched};

/// Connections that are kept while they live, and tallies. What comes beyond is counted only as left out.
const MOST_LIVING: usize = 200_000;
const MOST_TALLIES: usize = 50_000;
/// Lists for which a port counts as a server's after its listener was last in one: connections that
/// it accepted end later than it. Ephemeral ports are used again, so it is no more.
const REMEMBERED: u64 = 50;
/// What stands where nothing is known.
pub const UNSEEN: &str = "(ended before it was seen)";

/// A network namespace, by its inode.
pub type Namespace = u64;
/// Which connection: cookies may be given anew in each namespace.
pub type Key = (Namespace, u64);

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    pub cgroup: String,
    pub executable: String,
}

impl Owner {
    fn unseen() -> Self {
        Self {
            cgroup: UNSEEN.to_owned(),
            executable: UNSEEN.to_owned(),
        }
    }
}

/// All connections of one owner to one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    pub namespace: Namespace,
    pub owner: Owner,
    pub destination: SocketAddr,
    pub udp: bool,
    pub connections: u64,
    /// Those that were alive when the watching ended.
    pub open: u64,
    /// Those whose owner is a conclusion: all others to that destination had this one.
    pub inferred: u64,
    /// Those that nobody answered: refused, or never established.
    pub unanswered: u64,
    pub sent: u64,
    pub received: u64,
    pub first: OffsetDateTime,
    pub last: OffsetDateTime,
}

/// A connection of which it is not known whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unowned {
    pub key: Key,
    pub cgroup_id: u64,
    pub inode: u32,
}

struct Connection {
    destination: SocketAddr,
    udp: bool,
    owner: Option<Owner>,
    counters: Option<Counters>,
    first: OffsetDateTime,
    last: OffsetDateTime,
    /// The list that had it last.
    list: u64,
}

#[derive(PartialEq, Eq, Hash)]
struct Place {
    namespace: Namespace,
    owner: Option<Owner>,
    destination: SocketAddr,
    udp: bool,
}

#[derive(Default)]
pub struct Merge {
    living: HashMap<Key, Connection>,
    /// Connections that a server here accepted.
    accepted: HashSet<Key>,
    listeners: HashMap<(Namespace, u16), Vec<(IpAddr, u64)>>,
    tallies: HashMap<Place, Tally>,
    /// Counts the lists of each namespace.
    lists: HashMap<Namespace, u64>,
    left_out: u64,
}

impl Merge {
    /// What lives now. Returns those connections whose owner is to be found, the new ones and those
    /// for which that failed before.
    pub fn living(
        &mut self,
        namespace: Namespace,
        all: &[Watched],
        at: OffsetDateTime,
    ) -> Vec<Unowned> {
        let list = self.lists.entry(namespace).or_default();
        *list += 1;
        let list = *list;
        for watched in all.iter().filter(|w| w.socket.listening) {
            let local = watched.socket.local;
            let known = self.listeners.entry((namespace, local.port())).or_default();
            match known.iter_mut().find(|(ip, _)| *ip == local.ip()) {
                Some((_, last)) => *last = list,
                None => known.push((local.ip(), list)),
            }
        }
        let mut unowned = Vec::new();
        for watched in all.iter().filter(|w| !w.socket.listening) {
            if watched.socket.peer.port() == 0 {
                continue;
            }
            let key = (namespace, watched.cookie);
            if !self.living.contains_key(&key) && self.is_accepted(key, watched, list) {
                continue;
            }
            if !self.living.contains_key(&key) && self.living.len() >= MOST_LIVING {
                self.left_out += 1;
                continue;
            }
            let connection = self.living.entry(key).or_insert_with(|| Connection {
                destination: watched.socket.peer,
                udp: watched.udp,
                owner: None,
                counters: None,
                first: at,
                last: at,
                list,
            });
            connection.list = list;
            if connection.counters != watched.counters {
                connection.counters = watched.counters;
                connection.last = at;
            }
            if connection.owner.is_none() {
                unowned.push(Unowned {
                    key,
                    cgroup_id: watched.socket.cgroup_id,
                    inode: watched.socket.inode,
                });
            }
        }
        unowned
    }

    fn is_accepted(&mut self, key: Key, watched: &Watched, list: u64) -> bool {
        if self.accepted.contains(&key) {
            return true;
        }
        let accepted = self.listens(key.0, watched.socket.local, list);
        if accepted && self.accepted.len() < MOST_LIVING {
            self.accepted.insert(key);
        }
        accepted
    }

    fn listens(&self, namespace: Namespace, local: SocketAddr, list: u64) -> bool {
        let known = self.listeners.get(&(namespace, local.port()));
        known.into_iter().flatten().any(|(ip, last)| {
            (ip.is_unspecified() || *ip == local.ip()) && last + REMEMBERED >= list
        })
    }

    pub fn own(&mut self, key: Key, owner: Owner) {
        if let Some(connection) = self.living.get_mut(&key) {
            connection.owner = Some(owner);
        }
    }

    /// What ended: each is reported once. Says whether the owner of one was never seen.
    pub fn ended(&mut self, namespace: Namespace, all: &[Watched], at: OffsetDateTime) -> bool {
        let mut unseen = false;
        for watched in all {
            let key = (namespace, watched.cookie);
            if self.accepted.remove(&key) {
                continue;
            }
            // One that fails, or is taken back, has neither peer nor counters left.
            let emptied = watched.socket.peer.port() == 0;
            let connection = match self.living.remove(&key) {
                Some(mut connection) => {
                    if !emptied {
                        connection.counters = watched.counters.or(connection.counters);
                    }
                    connection.last = at;
                    connection
                }
                // Resolving a name makes UDP sockets for a moment, which send nothing.
                None if emptied || watched.udp => continue,
                None => {
                    let list = self.lists.get(&namespace).copied().unwrap_or_default();
                    if self.listens(namespace, watched.socket.local, list) {
                        continue;
                    }
                    Connection {
                        destination: watched.socket.peer,
                        udp: watched.udp,
                        owner: None,
                        counters: watched.counters,
                        first: at,
                        last: at,
                        list,
                    }
                }
            };
            unseen |= connection.owner.is_none();
            self.count(namespace, connection, false);
        }
        unseen
    }

    fn count(&mut self, namespace: Namespace, connection: Connection, open: bool) {
        let Connection {
            destination,
            udp,
            owner,
            counters,
            first,
            last,
            ..
        } = connection;
        let place = Place {
            namespace,
            owner,
            destination,
            udp,
        };
        if self.tallies.len() >= MOST_TALLIES && !self.tallies.contains_key(&place) {
            self.left_out += 1;
            return;
        }
        let owner = place.owner.clone().unwrap_or_else(Owner::unseen);
        let tally = self.tallies.entry(place).or_insert_with(|| Tally {
            namespace,
            owner,
            destination,
            udp,
            connections: 0,
            open: 0,
            inferred: 0,
            unanswered: 0,
            sent: 0,
            received: 0,
            first,
            last,
        });
        let unanswered = counters.is_some_and(|counters| !counters.answered);
        let counters = counters.unwrap_or_default();
        tally.add(&Tally {
            connections: 1,
            open: open.into(),
            inferred: 0,
            unanswered: (unanswered && !open).into(),
            sent: counters.sent,
            received: counters.received,
            first,
            last,
            ..tally.clone()
        });
    }

    /// All tallies, the busiest first, and how many connections there was no room for.
    pub fn finish(mut self) -> (Vec<Tally>, u64) {
        for ((namespace, _), connection) in std::mem::take(&mut self.living) {
            // Dead, but some process still holds its descriptor, or its end was not reported.
            let open = self.lists.get(&namespace) == Some(&connection.list);
            self.count(namespace, connection, open);
        }
        let mut known = Known::default();
        let (mut ownerless, mut half) = (Vec::new(), Vec::new());
        for tally in self.tallies.into_values() {
            match (
                tally.owner.cgroup == UNSEEN,
                tally.owner.executable == UNSEEN,
            ) {
                (true, _) => ownerless.push(tally),
                (false, true) => half.push(tally),
                (false, false) => known.take(tally),
            }
        }
        // By turns: what the first ones come to helps with the others.
        for unknown in [half, ownerless] {
            let concluded: Vec<Tally> = unknown.into_iter().map(|t| known.conclude(t)).collect();
            concluded.into_iter().for_each(|tally| known.take(tally));
        }
        let mut tallies: Vec<Tally> = known.tallies.into_values().collect();
        tallies.sort_by(|a, b| {
            let order = |t: &Tally| (std::cmp::Reverse(t.connections), t.destination, t.udp);
            (&a.owner, order(a), a.namespace).cmp(&(&b.owner, order(b), b.namespace))
        });
        (tallies, self.left_out)
    }
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.open += other.open;
        self.inferred += other.inferred;
        self.unanswered += other.unanswered;
        self.sent = self.sent.saturating_add(other.sent);
        self.received = self.received.saturating_add(other.received);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }

    fn there(&self) -> There {
        (self.namespace, self.destination, self.udp)
    }
}

type There = (Namespace, SocketAddr, bool);

/// Tallies whose owner is known, and what follows from them.
#[derive(Default)]
struct Known {
    tallies: HashMap<(There, Owner), Tally>,
    by_place: HashMap<There, HashSet<Owner>>,
    by_cgroup: HashMap<(Namespace, String), HashSet<Owner>>,
}

impl Known {
    fn take(&mut self, tally: Tally) {
        let (there, owner) = (tally.there(), tally.owner.clone());
        if owner.cgroup != UNSEEN {
            let cgroup = (tally.namespace, owner.cgroup.clone());
            self.by_place
                .entry(there)
                .or_default()
                .insert(owner.clone());
            self.by_cgroup
                .entry(cgroup)
                .or_default()
                .insert(owner.clone());
        }
        match self.tallies.get_mut(&(there, owner.clone())) {
            Some(known) => known.add(&tally),
            None => drop(self.tallies.insert((there, owner), tally)),
        }
    }

    /// Whose connections were that nobody saw alive: the one that all others to the same place have,
    /// or the one that all of the same cgroup have. Where there are several nothing is concluded.
    fn conclude(&self, mut tally: Tally) -> Tally {
        let cgroup = tally.owner.cgroup.clone();
        let fits = |owner: &&Owner| cgroup == UNSEEN || owner.cgroup == cgroup;
        let there = self.by_place.get(&tally.there());
        let mut candidates: Vec<&Owner> = there.into_iter().flatten().filter(fits).collect();
        if candidates.is_empty() && cgroup != UNSEEN {
            let of_cgroup = self.by_cgroup.get(&(tally.namespace, cgroup.clone()));
            candidates = of_cgroup.into_iter().flatten().collect();
        }
        match candidates.as_slice() {
            [] => {}
            [only] => {
                tally.owner = (*only).clone();
                tally.inferred = tally.connections;
            }
            [first, rest @ ..] => {
                if cgroup == UNSEEN && rest.iter().all(|owner| owner.cgroup == first.cgroup) {
                    tally.owner.cgroup.clone_from(&first.cgroup);
                    tally.inferred = tally.connections;
                }
            }
        }
        tally
    }
}

#[cfg(test)]
mod tests;
