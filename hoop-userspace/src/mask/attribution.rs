//! Which columns of a result must be masked: by the table and column that the server names, and
//! for everything else by what the statement may read.

use std::cell::RefCell;

use super::asking::Missing;
use super::catalog::{Catalog, FIRST_NORMAL_OID, Relation};
use super::rules::Rules;
use super::views::{self, Known, Views};
use crate::config::How;
use crate::decide::{Action, ColumnName, Facts, Item, Mark, Object, Output, Query, RelationName};
use crate::terminate::{Column, Columns};

/// System relations that hold samples of other tables' values (PostgreSQL manual, "pg_statistic").
const STATISTICS: [&str; 6] = [
    "pg_statistic",
    "pg_stats",
    "pg_statistic_ext_data",
    "pg_stats_ext",
    "pg_stats_ext_exprs",
    "pg_largeobject",
];

/// What a unit's replies may show. Each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Touch {
    /// Nothing masked.
    Nothing,
    /// A masked table, but no masked column by name: its messages may quote a row.
    Table,
    /// Values that derive from masked columns, in columns that name no table.
    Values,
    /// The same, and code that nobody has seen runs: its errors may say anything in anyone's name.
    Opaque,
    /// Anything, in any column.
    Everything,
}

pub(super) struct Attribution<'a> {
    pub rules: &'a Rules,
    pub catalog: &'a Catalog,
    pub views: &'a Views,
    /// Whether a name may mean something that the catalog does not show yet.
    pub unsettled: &'a dyn Fn(&str) -> bool,
    /// The same of what the session itself has defined by that name.
    pub defined: &'a dyn Fn(&str) -> bool,
    /// What the catalog should list and does not. It counts as masked.
    pub missing: &'a RefCell<Vec<Missing>>,
}

impl Attribution<'_> {
    /// What a unit may show, from what its text reads.
    pub fn touch(&self, facts: &Facts) -> Touch {
        let unseen = match facts.opaque {
            true => Touch::Opaque,
            false => Touch::Nothing,
        };
        let names = facts.reads.iter().chain(&facts.writes);
        names
            .map(|name| self.touch_of(name, &facts.columns))
            .fold(unseen, Touch::max)
    }

    fn touch_of(&self, name: &RelationName, columns: &[ColumnName]) -> Touch {
        let own = views::is_system(self.catalog, name);
        if !in_system(name) && (self.unsettled)(&name.name) {
            return Touch::Values;
        }
        let relations = views::named(self.catalog, name);
        let touches = relations.map(|r| self.touch_of_relation(r, name, columns));
        match touches.reduce(Touch::max) {
            Some(touch) => touch,
            None if !own => {
                // A view that was made in this transaction, or no look-up succeeds: it may read
                // anything.
                self.miss(Missing::Name(name.name.clone()));
                Touch::Values
            }
            None if STATISTICS.contains(&&*name.name) => Touch::Everything,
            None => Touch::Nothing,
        }
    }

    fn touch_of_relation(
        &self,
        relation: &Relation,
        name: &RelationName,
        columns: &[ColumnName],
    ) -> Touch {
        let masked = self.views.items(self.catalog, self.rules, relation);
        let named = |c: &ColumnName| c.relation.as_ref().is_none_or(|r| r.name == name.name);
        let is_masked = |c: &ColumnName| match &c.column {
            // Every column, or the whole row.
            None => true,
            Some(column) => match masked.mark_of(column) {
                Some(mark) => !mark.is_clean(),
                // One that the catalog does not show yet.
                None => {
                    let rules = self.rules;
                    let found = rules.of_column(&relation.schema, &relation.name, column);
                    found.is_some()
                }
            },
        };
        if relation.opaque && relation.reads.is_empty() {
            // Rules on a table: they return what they like.
            return Touch::Opaque;
        }
        if masked.all().is_clean() {
            // Its messages may quote what it is made of.
            return match views::derives(self.catalog, self.rules, relation) {
                true => Touch::Table,
                false => Touch::Nothing,
            };
        }
        match columns.iter().any(|c| named(c) && is_masked(c)) {
            true => Touch::Values,
            false => Touch::Table,
        }
    }

    /// What each column of the text's result may carry, if it has one and the text tells.
    pub fn trace(&self, facts: &Facts) -> Option<Output> {
        let shown = facts.lineage.shown()?;
        if facts.statements.len() > 1 && self.writes_may_answer(facts) {
            return None;
        }
        self.resolve(shown.query.as_ref()?)
    }

    /// What each column of a query's rows may carry.
    pub fn resolve(&self, query: &Query) -> Option<Output> {
        let known = Known {
            catalog: self.catalog,
            rules: self.rules,
            views: self.views,
            missing: self.missing,
            unsettled: self.unsettled,
        };
        Some(query.resolve(&known)?.output)
    }

    /// Whether a write of the text may return rows that it does not ask for: a rule that is not
    /// known selects what it likes, and its rows come before or behind those of the others.
    fn writes_may_answer(&self, facts: &Facts) -> bool {
        let accesses = facts.statements.iter().flat_map(|s| &s.accesses);
        let mut written = accesses.filter_map(|access| match &access.object {
            Object::Table(name) if access.action == Action::Write => Some(name),
            _ => None,
        });
        written.any(|name| {
            let mut known = views::named(self.catalog, name).peekable();
            (self.unsettled)(&name.name) || known.peek().is_none() || known.any(|r| r.opaque)
        })
    }

    /// How each column is masked; `None` where it passes.
    pub fn plan(
        &self,
        columns: &Columns,
        touch: Touch,
        traced: Option<&Output>,
    ) -> Vec<Option<How>> {
        let columns = &columns.columns;
        let traced = traced.and_then(|output| aligned(output, columns));
        let traced = |at| traced.as_ref().and_then(|items| items.get(at));
        let columns = columns.iter().enumerate();
        columns
            .map(|(at, column)| self.column(column, touch, traced(at)))
            .collect()
    }

    fn column(&self, column: &Column, touch: Touch, traced: Option<&Item>) -> Option<How> {
        const WHOLE: Option<How> = Some(How::Redact);
        if touch == Touch::Everything {
            return WHOLE;
        }
        if column.table == 0 {
            return match traced {
                _ if touch < Touch::Values => None,
                Some(item) => shown(item.mark.clone()),
                None => WHOLE,
            };
        }
        if column.table < FIRST_NORMAL_OID {
            return None;
        }
        let Some(relation) = self.catalog.relation(column.table) else {
            self.miss(Missing::Oid(column.table));
            return WHOLE;
        };
        // System columns: where and when, not what.
        if column.attribute < 0 {
            return None;
        }
        let Some(name) = relation.columns.get(&column.attribute) else {
            self.miss(Missing::Oid(column.table));
            return WHOLE;
        };
        let mark = self.views.mark(self.catalog, self.rules, relation, name);
        // A view may have been replaced by another of the same columns, a rule may return others.
        let redefined = match relation.reads.is_empty() {
            true => (self.defined)(&relation.name),
            false => (self.unsettled)(&relation.name),
        };
        match redefined && mark.is_clean() {
            true => WHOLE,
            false => shown(mark),
        }
    }

    fn miss(&self, missing: Missing) {
        self.missing.borrow_mut().push(missing);
    }
}

/// How a column with this mark is shown; `None` where it passes.
pub(super) fn shown(mark: Mark) -> Option<How> {
    match mark {
        Mark::Clean => None,
        Mark::Plain(how) => Some(how),
        Mark::Whole => Some(How::Redact),
    }
}

/// What the text says of each column of the result, unless the server describes another result.
fn aligned(output: &Output, columns: &[Column]) -> Option<Vec<Item>> {
    // No column of a server's is called nothing: that is one whose label is not known.
    let label = |at: usize| columns.get(at).map(|c| &*c.label).filter(|l| !l.is_empty());
    let items = output.align(columns.len(), label)?;
    let mut pairs = items.iter().zip(columns);
    let agree = pairs.all(|(item, column)| {
        let said = (column.table != 0).then_some((column.table, column.attribute));
        said.is_none() || item.from.is_none() || said == item.from
    });
    agree.then_some(items)
}

/// Whether a system relation holds samples of other tables' values.
pub(super) fn stores_samples(name: &RelationName) -> bool {
    let system = in_system(name) || name.schema.is_none();
    system && STATISTICS.contains(&&*name.name)
}

/// Whether a name is in one of the system's schemas, as it is written.
pub(super) fn in_system(name: &RelationName) -> bool {
    let schema = name.schema.as_deref();
    matches!(schema, Some("pg_catalog" | "information_schema"))
}
