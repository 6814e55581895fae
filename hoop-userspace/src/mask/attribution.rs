//! Which columns of a result must be masked: by the table and column that the server names, and
//! for everything else by what the statement may read.

use std::collections::HashSet;

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

/// `pg_statistic` and `pg_statistic_ext_data`, by object id.
const SAMPLES: [u32; 2] = [2619, 3429];

/// What a unit's replies may show. Each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Touch {
    /// Nothing masked.
    Nothing,
    /// A masked table, but no masked column by name: its messages may quote a row.
    Table,
    /// Values that derive from masked columns, in columns that name no table.
    Values,
    /// Anything, in any column.
    Everything,
}

/// A relation or column that the catalog does not list, so that it should be read again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unknown(pub Missing);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Missing {
    Oid(u32),
    Name(Box<str>),
}

pub(super) struct Attribution<'a> {
    pub rules: &'a Rules,
    pub catalog: &'a Catalog,
    /// What the catalog was asked for already; it is not asked twice.
    pub asked: &'a HashSet<Missing>,
}

impl Attribution<'_> {
    /// What a unit may show, from what its text reads.
    pub fn touch(&self, facts: &Facts) -> Result<Touch, Unknown> {
        let mut touch = match facts.opaque {
            true => Touch::Values,
            false => Touch::Nothing,
        };
        for name in facts.reads.iter().chain(&facts.writes) {
            touch = touch.max(self.touch_of(name, &facts.columns)?);
        }
        Ok(touch)
    }

    fn touch_of(&self, name: &RelationName, columns: &[ColumnName]) -> Result<Touch, Unknown> {
        let same = |r: &&Relation| {
            r.name == name.name && name.schema.as_ref().is_none_or(|s| *s == r.schema)
        };
        let mut found = false;
        let mut touch = Touch::Nothing;
        for relation in self.catalog.relations().filter(same) {
            found = true;
            touch = touch.max(self.touch_of_relation(relation, name, columns));
        }
        if found {
            return Ok(touch);
        }
        if is_system(name) {
            let statistics = STATISTICS.contains(&&*name.name);
            return Ok(if statistics {
                Touch::Everything
            } else {
                Touch::Nothing
            });
        }
        self.ask(Missing::Name(name.name.clone()))?;
        // Temporary, new in this transaction, or none of ours: by the patterns alone.
        Ok(
            match self.rules.may_name(name.schema.as_deref(), &name.name) {
                true => Touch::Values,
                false => Touch::Nothing,
            },
        )
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
    pub fn plan(&self, columns: &Columns, touch: Touch) -> Result<Vec<Option<How>>, Unknown> {
        columns
            .columns
            .iter()
            .map(|c| self.column(c, touch))
            .collect()
    }

    fn column(&self, column: &Column, touch: Touch) -> Result<Option<How>, Unknown> {
        const WHOLE: Option<How> = Some(How::Redact);
        if touch == Touch::Everything {
            return Ok(WHOLE);
        }
        if column.table == 0 {
            return Ok(if touch >= Touch::Values { WHOLE } else { None });
        }
        if column.table < FIRST_NORMAL_OID {
            return Ok(None);
        }
        let Some(relation) = self.catalog.relation(column.table) else {
            self.ask(Missing::Oid(column.table))?;
            return Ok(WHOLE);
        };
        // System columns: where and when, not what.
        if column.attribute < 0 {
            return Ok(None);
        }
        let Some(name) = relation.columns.get(&column.attribute) else {
            self.ask(Missing::Oid(column.table))?;
            return Ok(WHOLE);
        };
        match self.how(relation, name) {
            Some(how) => Ok(Some(how.clone())),
            None if self.derives(relation) => Ok(WHOLE),
            None => Ok(None),
        }
    }

    /// How a column is masked by its name in this relation or in one of its family.
    fn how(&self, relation: &Relation, column: &str) -> Option<&How> {
        let family = self.catalog.family(relation.oid);
        let members = family.iter().filter_map(|oid| self.catalog.relation(*oid));
        let found = members.filter_map(|r| self.rules.of_column(&r.schema, &r.name, column));
        found.min_by_key(|how| super::rules::shows(how))
    }

    /// Whether the relation is a view whose rows may come from a masked table.
    fn derives(&self, relation: &Relation) -> bool {
        if relation.opaque {
            return true;
        }
        if relation.reads.is_empty() {
            return false;
        }
        self.catalog.sources(relation.oid).into_iter().any(|oid| {
            oid != relation.oid
                && match self.catalog.relation(oid) {
                    Some(source) => source.opaque || self.rules.names(source),
                    // The system's own hold no user's values, but for those with samples.
                    None => oid >= FIRST_NORMAL_OID || SAMPLES.contains(&oid),
                }
        })
    }

    fn ask(&self, missing: Missing) -> Result<(), Unknown> {
        match self.asked.contains(&missing) {
            true => Ok(()),
            false => Err(Unknown(missing)),
        }
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
