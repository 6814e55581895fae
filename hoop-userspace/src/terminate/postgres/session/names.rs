//! What statement and portal names stand for.
//!
//! The server takes a Parse or Bind into account only if it gets to it: after an error it skips to
//! Sync. So a name is committed when the server confirms it; until then it may stand for what it
//! stood for before, too.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::sql_names::Prepares;
use crate::terminate::{Columns, Parameter, SqlText};

/// The server tells names apart by this many bytes (NAMEDATALEN - 1). Two longer ones may be the
/// same name to it and not to us, so longer ones are not followed.
pub const MAX_NAME: usize = 63;

/// Statements that a session may hold by name: more than any driver's cache, so that the server's
/// memory runs out before ours.
pub const MAX_STATEMENTS: usize = 50_000;

/// A prepared statement.
#[derive(Debug)]
pub struct Statement {
    /// `None`: not UTF-8.
    pub text: Option<Arc<SqlText>>,
    /// Types of its parameters as declared, by object id; may be fewer than there are.
    pub types: Box<[u32]>,
    /// Names that running it may give to SQL-level prepared statements.
    pub prepares: Prepares,
}

impl Statement {
    /// Bytes that its name holds; one whose text was not kept holds none.
    pub fn weight(&self) -> usize {
        let text = self.text.as_ref();
        text.map_or(0, |text| text.text.len() + size_of_val(&*self.types))
    }
}

/// A bound statement.
#[derive(Debug)]
pub struct Portal {
    /// What the statement's name may have stood for; empty if that is unknown.
    pub statements: SmallVec<[Arc<Statement>; 1]>,
    pub parameters: Arc<[Parameter]>,
}

/// What can be said of a name.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<T> {
    /// Everything that it may stand for, newest first.
    pub candidates: SmallVec<[Arc<T>; 1]>,
    /// The number of the oldest change among them: the name stands for nothing older.
    pub since: u64,
}

/// Names of one kind, with the changes that the server has not confirmed.
#[derive(Debug)]
pub struct Table<T> {
    slots: HashMap<Bytes, Slot<T>>,
}

#[derive(Debug)]
struct Slot<T> {
    committed: Option<(u64, Arc<T>)>,
    pending: SmallVec<[Change<T>; 1]>,
}

#[derive(Debug)]
struct Change<T> {
    /// Counts the messages that change names.
    number: u64,
    /// Counts Syncs: between two of them everything is run, or nothing behind an error.
    group: u64,
    /// `None`: Close.
    value: Option<Arc<T>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            slots: HashMap::new(),
        }
    }
}

impl<T> Table<T> {
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// A change that the server has yet to confirm.
    pub fn propose(&mut self, name: Bytes, number: u64, group: u64, value: Option<Arc<T>>) {
        let slot = self.slots.entry(name).or_insert_with(|| Slot {
            committed: None,
            pending: SmallVec::new(),
        });
        slot.pending.push(Change {
            number,
            group,
            value,
        });
    }

    /// The server confirmed a change, or skipped it. Returns what it replaced.
    pub fn settle(&mut self, name: &[u8], number: u64, confirmed: bool) -> Option<Arc<T>> {
        let slot = self.slots.get_mut(name)?;
        let at = slot.pending.iter().position(|c| c.number == number)?;
        let change = slot.pending.remove(at);
        let value = change.value;
        let old = match confirmed {
            true => std::mem::replace(&mut slot.committed, value.map(|v| (number, v))),
            false => value.map(|v| (number, v)),
        };
        if slot.committed.is_none() && slot.pending.is_empty() {
            self.slots.remove(name);
        }
        old.map(|(_, value)| value)
    }

    /// Everything that the name may stand for when the server reaches a message of `group`.
    pub fn find(&self, name: &[u8], group: u64) -> Found<T> {
        let mut found = Found {
            candidates: SmallVec::new(),
            since: u64::MAX,
        };
        let Some(slot) = self.slots.get(name) else {
            return found;
        };
        for change in slot.pending.iter().rev() {
            if let Some(value) = &change.value {
                found.since = change.number;
                found.candidates.push(value.clone());
            }
            // Had it failed, what follows it in the same group would be skipped.
            if change.group == group {
                return found;
            }
        }
        if let Some((number, value)) = &slot.committed {
            found.since = *number;
            found.candidates.push(value.clone());
        }
        found
    }

    /// The server forgot this name, by SQL.
    pub fn forget(&mut self, name: &[u8]) -> Option<Arc<T>> {
        let slot = self.slots.get_mut(name)?;
        let old = slot.committed.take();
        if slot.pending.is_empty() {
            self.slots.remove(name);
        }
        old.map(|(_, value)| value)
    }

    /// The server forgot every name: its transaction is over, or it was told to.
    pub fn forget_all(&mut self) {
        self.slots.retain(|_, slot| {
            slot.committed = None;
            !slot.pending.is_empty()
        });
    }
}

/// Columns of the portal that was described last under each name.
#[derive(Debug, Default)]
pub struct Described {
    portals: HashMap<Bytes, Arc<Columns>>,
}

impl Described {
    pub fn get(&self, portal: &[u8]) -> Option<&Arc<Columns>> {
        self.portals.get(portal)
    }

    pub fn set(&mut self, portal: &Bytes, columns: Option<Arc<Columns>>) {
        match columns {
            Some(columns) => drop(self.portals.insert(portal.clone(), columns)),
            None => drop(self.portals.remove(portal)),
        }
    }

    pub fn clear(&mut self) {
        self.portals.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(found: &Found<String>) -> Vec<&str> {
        found.candidates.iter().map(|c| c.as_str()).collect()
    }

    fn value(text: &str) -> Option<Arc<String>> {
        Some(Arc::new(text.into()))
    }

    #[test]
    fn a_name_stands_for_everything_it_may_stand_for() {
        let mut table = Table::default();
        let s = Bytes::from_static(b"s");
        table.propose(s.clone(), 1, 1, value("old"));
        assert_eq!(names(&table.find(b"s", 1)), ["old"]);
        table.settle(b"s", 1, true);
        // Behind the next Sync: the server may have skipped it.
        table.propose(s.clone(), 2, 2, value("new"));
        assert_eq!(names(&table.find(b"s", 2)), ["new"]);
        assert_eq!(names(&table.find(b"s", 3)), ["new", "old"]);
        table.settle(b"s", 2, false);
        assert_eq!(names(&table.find(b"s", 3)), ["old"]);
        // Close is no more certain than Parse.
        table.propose(s.clone(), 3, 3, None);
        assert!(names(&table.find(b"s", 3)).is_empty());
        assert_eq!(names(&table.find(b"s", 4)), ["old"]);
        table.settle(b"s", 3, true);
        assert_eq!((names(&table.find(b"s", 4)).len(), table.len()), (0, 0));
    }

    #[test]
    fn names_that_the_server_forgets_are_forgotten() {
        let mut table = Table::default();
        for (number, name) in [(1, "a"), (2, "b")] {
            table.propose(name.into(), number, 1, value(name));
        }
        table.settle(b"a", 1, true);
        table.forget_all();
        assert!(table.find(b"a", 1).candidates.is_empty());
        assert_eq!(names(&table.find(b"b", 1)), ["b"]);
        table.settle(b"b", 2, true);
        assert_eq!(table.forget(b"b").as_deref().map(String::as_str), Some("b"));
        assert_eq!(table.len(), 0);
    }
}
