//! Names that the session has defined, as long as no look-up can have seen it.
//!
//! What is made in a transaction is seen by the session alone until it commits: a view that hides a
//! table behind the table's own name would be traced as the table. Such a name means anything until a
//! catalog was read after the transaction.

use std::collections::HashSet;

use crate::decide::{Access, Action, Facts, Object, Renamed, Statement};
use crate::ids::ExchangeId;

/// Beyond this many, any name counts.
const MAX_NAMES: usize = 512;

/// A unit of a request.
pub(super) type Place = (ExchangeId, u16);

#[derive(Debug, Default)]
pub(super) struct Unsettled {
    names: HashSet<Box<str>>,
    /// Code that is not seen, a rename, or a transaction prepared before may have changed what any name means: for what runs after
    /// this unit.
    any: Option<Place>,
}

impl Unsettled {
    /// Takes note of what a unit is about to define; whether that is new. `unseen` is whether it may
    /// run code that nobody has seen.
    pub(super) fn add(&mut self, place: Place, facts: &Facts, unseen: bool) -> bool {
        let before = (self.names.len(), self.any);
        let accesses = || facts.statements.iter().flat_map(|s| &s.accesses);
        let renames = facts.renamed.iter().any(|renamed| match renamed {
            Renamed::Table { .. } | Renamed::Schema { .. } => true,
            Renamed::Column { .. } | Renamed::Detached { .. } | Renamed::Attribute { .. } => false,
        });
        let commits = facts.statements.iter().any(Statement::commits_unseen);
        if renames || commits || unseen || accesses().any(defines_schema) {
            // The first of a text's own statements may do it, and the next be read differently.
            let several = facts.statements.len() > 1;
            let since = match several {
                true => (ExchangeId(0), 0),
                false => place,
            };
            self.any = Some(self.any.map_or(since, |any| any.min(since)));
        }
        for access in accesses().filter(|a| a.action == Action::Ddl) {
            if let Object::Table(name) = &access.object {
                self.names.insert(name.name.clone());
            }
        }
        if self.names.len() > MAX_NAMES {
            self.names.clear();
            self.any = Some((ExchangeId(0), 0));
        }
        (self.names.len(), self.any) != before
    }

    /// Whether any name may have another meaning where this unit is read.
    pub(super) fn any(&self, place: Place) -> bool {
        self.any.is_some_and(|since| place > since)
    }

    pub(super) fn holds(&self, name: &str) -> bool {
        self.names.contains(name)
    }
}

fn defines_schema(access: &Access) -> bool {
    access.action == Action::Ddl && matches!(access.object, Object::Schema { .. })
}
