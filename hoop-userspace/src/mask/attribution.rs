//! Which columns of a result must be masked: by the table and column that the server names, and
//! for everything else by what the statement may read.

use std::cell::RefCell;

use super::asking::Missing;
use super::catalog::{Catalog, FIRST_NORMAL_OID, Relation};
use super::rules::Rules;
use crate::config::How;
use crate::decide::{ColumnName, Facts, RelationName};
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
        let same = |r: &&Relation| name.schema.as_ref().is_none_or(|s| *s == r.schema);
        let relations = self.catalog.named(&name.name).filter(same);
        let touches = relations.map(|r| self.touch_of_relation(r, name, columns));
        match touches.reduce(Touch::max) {
            Some(touch) => touch,
            None if !is_system(name) => {
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
        let derives = self.derives(relation);
        let family = self.catalog.family(relation.oid);
        let mut masked = family.iter().filter_map(|oid| self.catalog.relation(*oid));
        let named = |c: &ColumnName| c.relation.as_ref().is_none_or(|r| r.name == name.name);
        let is_masked = |c: &ColumnName| match &c.column {
            // Every column, or the whole row.
            None => true,
            Some(column) => self.how(relation, column).is_some(),
        };
        if derives {
            return Touch::Values;
        }
        if !masked.any(|r| self.rules.names(r)) {
            return Touch::Nothing;
        }
        match columns.iter().any(|c| named(c) && is_masked(c)) {
            true => Touch::Values,
            false => Touch::Table,
        }
    }

    /// How each column is masked; `None` where it passes.
    pub fn plan(&self, columns: &Columns, touch: Touch) -> Vec<Option<How>> {
        let columns = columns.columns.iter();
        columns.map(|c| self.column(c, touch)).collect()
    }

    fn column(&self, column: &Column, touch: Touch) -> Option<How> {
        const WHOLE: Option<How> = Some(How::Redact);
        if touch == Touch::Everything {
            return WHOLE;
        }
        if column.table == 0 {
            return if touch >= Touch::Values { WHOLE } else { None };
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
        match self.how(relation, name) {
            Some(how) => Some(how.clone()),
            None if self.derives(relation) => WHOLE,
            None => None,
        }
    }

    /// All views whose rows may come from a masked table.
    pub fn derived(&self) -> Vec<RelationName> {
        let views = self.catalog.relations().filter(|r| self.derives(r));
        let mut names: Vec<_> = views
            .map(|r| RelationName::new(Some(&r.schema), &r.name))
            .collect();
        // Subjects with the same views are decided alike.
        names.sort();
        names
    }

    /// How a column is masked by its name in this relation or in one of its family.
    fn how(&self, relation: &Relation, column: &str) -> Option<&How> {
        let family = self.catalog.family(relation.oid);
        let members = family.iter().filter_map(|oid| self.catalog.relation(*oid));
        let found = members.filter_map(|r| self.rules.of_column(&r.schema, &r.name, column));
        found.min_by_key(|how| super::rules::shows(how))
    }

    /// Whether the relation, or one of its family, is a view whose rows may come from a masked table.
    fn derives(&self, relation: &Relation) -> bool {
        if relation.opaque {
            return true;
        }
        if relation.reads.is_empty() && relation.parents.is_empty() {
            return false;
        }
        let family = self.catalog.family(relation.oid);
        let mut members = family.iter().filter_map(|oid| self.catalog.relation(*oid));
        if members.all(|member| member.reads.is_empty()) {
            return false;
        }
        self.catalog.sources(relation.oid).into_iter().any(|oid| {
            !family.contains(&oid)
                && match self.catalog.relation(oid) {
                    Some(source) => source.opaque || self.rules.names(source),
                    // Of the system's own, those that hold samples of values make a view opaque.
                    None => oid >= FIRST_NORMAL_OID,
                }
        })
    }

    fn miss(&self, missing: Missing) {
        self.missing.borrow_mut().push(missing);
    }
}

fn is_system(name: &RelationName) -> bool {
    match name.schema.as_deref() {
        Some("pg_catalog" | "information_schema") => true,
        Some(_) => false,
        // `pg_catalog` is searched first, and user relations of such names are in the catalog.
        None => name.name.starts_with("pg_"),
    }
}
