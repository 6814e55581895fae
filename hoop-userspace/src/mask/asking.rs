//! When the catalog is to be read again.
//!
//! What a catalog does not list is asked for once, and masked whole if it is still missing. A newer
//! catalog is a reason to ask again; a look-up that brought nothing new is a reason to wait, counted
//! in batches because this stage knows no clock.

use std::collections::HashSet;
use std::sync::Arc;

use super::Catalog;

/// Missing relations that are remembered as asked for; beyond that the memory starts anew.
const MAX_ASKED: usize = 4096;

/// After this many look-ups in vain the wait between them grows no more: 256 batches.
const MOST_FAILURES: u32 = 8;

/// A relation that the catalog does not list, or one of its columns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Missing {
    Oid(u32),
    Name(Box<str>),
}

#[derive(Debug, Default)]
pub(super) struct Asking {
    asked: HashSet<Missing>,
    /// The batch was sent back and comes again.
    waiting: bool,
    /// The last catalog that a look-up brought, or that was in use when one began.
    last: Option<Arc<Catalog>>,
    failures: u32,
    /// Batches to let pass before a look-up is worth trying again.
    patience: u32,
}

impl Asking {
    /// Takes note of the catalog that comes with a batch.
    pub(super) fn batch(&mut self, catalog: &Arc<Catalog>) {
        let same = self.last.as_ref().is_some_and(|l| Arc::ptr_eq(l, catalog));
        if std::mem::take(&mut self.waiting) {
            match same || catalog.is_empty() {
                true => {
                    self.failures = (self.failures + 1).min(MOST_FAILURES);
                    self.patience = 1 << self.failures;
                }
                false => (self.failures, self.patience) = (0, 0),
            }
            // What was known goes on to be, where the look-up failed.
            if !catalog.is_empty() || self.last.is_none() {
                self.last = Some(catalog.clone());
            }
            return;
        }
        if same {
            return;
        }
        if !catalog.is_empty() {
            (self.failures, self.patience) = (0, 0);
            self.last = Some(catalog.clone());
        } else if self.patience > 0 {
            // What was known has expired, and the look-ups fail.
            self.patience -= 1;
            return;
        }
        self.asked.clear();
    }

    /// Whether to send the batch back for a look-up, given what it misses.
    pub(super) fn ask(&mut self, missing: Vec<Missing>) -> bool {
        if self.patience > 0 || missing.iter().all(|m| self.asked.contains(m)) {
            return false;
        }
        if self.asked.len() + missing.len() > MAX_ASKED {
            self.asked.clear();
        }
        self.asked.extend(missing);
        self.waiting = true;
        true
    }

    /// The rules changed: other relations count now.
    pub(super) fn forget(&mut self) {
        self.asked.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::{Relation, RelationKind};

    fn catalog() -> Arc<Catalog> {
        Arc::new(Catalog::new([Relation {
            oid: 20000,
            schema: "public".into(),
            name: "users".into(),
            kind: RelationKind::Table,
            columns: Default::default(),
            parents: Vec::new(),
            reads: Vec::new(),
            opaque: false,
        }]))
    }

    fn missing() -> Vec<Missing> {
        vec![Missing::Oid(1)]
    }

    #[test]
    fn what_is_missing_is_asked_for_once() {
        let (mut asking, known) = (Asking::default(), catalog());
        asking.batch(&Arc::default());
        assert!(asking.ask(missing()));
        asking.batch(&known);
        assert!(!asking.ask(missing()));
        asking.batch(&known);
        assert!(!asking.ask(missing()));
        assert!(asking.ask(vec![Missing::Oid(2)]));
    }

    #[test]
    fn a_newer_or_expired_catalog_is_asked_again() {
        let mut asking = Asking::default();
        asking.batch(&catalog());
        assert!(asking.ask(missing()));
        asking.batch(&catalog());
        asking.batch(&catalog());
        assert!(asking.ask(missing()));
        asking.batch(&catalog());
        asking.batch(&Arc::default());
        assert!(asking.ask(missing()));
    }

    #[test]
    fn look_ups_that_fail_become_rare() {
        let mut asking = Asking::default();
        let mut asked = 0;
        for _ in 0..2000 {
            asking.batch(&Arc::default());
            if asking.ask(missing()) {
                asked += 1;
                asking.batch(&Arc::default());
                assert!(!asking.ask(missing()), "a batch is sent back once");
            }
        }
        assert!((5..20).contains(&asked), "{asked}");
    }
}
