//! What the masks forbid: moving values to where no mask follows them.
//!
//! Names are compared cautiously: one that is written without a schema may be in any.

use std::sync::Arc;

use crate::config::{ColumnPattern, How};

use super::lineage::{Item, Items, Mark, Shows, World};
use super::{ColumnName, Copied, Derived, Facts, Object, RelationName, Renamed, Subject, Unseen};

/// The masked columns of one resource.
#[derive(Debug, Default)]
pub(super) struct Masks(pub Vec<ColumnPattern>);

/// What would escape the masks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Escape {
    /// A relation with masked columns is copied.
    Column(RelationName),
    /// Rows whose origin the text does not show are copied.
    Opaque,
    /// Rows of a relation are copied that was defined a moment ago: nobody knows what it shows.
    Unsettled(RelationName),
    /// Rows of a relation are copied that may be a view: the catalog is not known.
    Unread(RelationName),
    /// What a mask names would be called otherwise.
    Renamed(Renamed),
    /// Stored values of all tables: planner statistics, TOAST.
    Storage(RelationName),
}

impl Masks {
    /// Whether a mask names a field of a cluster's resource, in this namespace or, where the request
    /// names none, in any.
    pub(super) fn of_kind(&self, namespace: &str, kind: &str) -> bool {
        let names = |pattern: &Option<String>, name: &str| {
            pattern.as_deref().is_none_or(|pattern| pattern == name)
        };
        self.0.iter().any(|column| {
            names(&column.table, kind) && (namespace.is_empty() || names(&column.schema, namespace))
        })
    }

    pub(super) fn escape(&self, facts: &Facts, subject: &Subject) -> Option<Escape> {
        let derived = &*subject.derived;
        if self.0.is_empty() {
            return None;
        }
        let stored = facts.reads.iter().find(|name| stores_values(name));
        if let Some(name) = stored {
            return Some(Escape::Storage(name.clone()));
        }
        let renamed = facts.renamed.iter().find(|r| self.names(r, derived));
        if let Some(renamed) = renamed {
            return Some(Escape::Renamed(renamed.clone()));
        }
        if facts.copied.opaque {
            return Some(Escape::Opaque);
        }
        if let Some(escape) = refreshed(facts, subject) {
            return Some(escape);
        }
        let copied = &facts.copied;
        let view = copied.relations.iter().find(|relation| {
            let mut views = derived.iter().filter(|d| may_name(relation, &d.relation));
            views.any(|view| copied.columns.iter().any(|column| shows(view, column)))
        });
        if let Some(view) = view {
            return Some(Escape::Column(view.clone()));
        }
        let column = copied.columns.iter();
        let mut column = column.filter_map(|column| self.column(column, &copied.relations));
        match column.next() {
            Some(relation) => Some(Escape::Column(relation)),
            None => unseen(facts, &subject.unseen),
        }
    }

    /// Whether a mask knows this by the name that it is about to lose. A pattern that takes any
    /// name in that place goes on to match.
    fn names(&self, renamed: &Renamed, derived: &[Derived]) -> bool {
        if let Renamed::Detached { part, .. } = renamed
            // Its columns are masked by the names of others: of the whole, or what that is a part of.
            && derived.iter().any(|d| may_name(part, &d.relation))
        {
            return true;
        }
        self.0.iter().any(|mask| match renamed {
            Renamed::Column { relation, column } => {
                mask.column
                    .as_deref()
                    .is_some_and(|masked| masked == &**column)
                    && may_be(mask, relation)
            }
            Renamed::Table { relation }
            | Renamed::Detached {
                whole: relation, ..
            } => (mask.table.is_some() || mask.schema.is_some()) && may_be(mask, relation),
            Renamed::Schema { name } => mask.schema.as_deref().is_some_and(|s| s == &**name),
            // Which tables are made of the type is not known.
            Renamed::Attribute { name } => mask.column.as_deref().is_some_and(|c| c == &**name),
        })
    }

    fn column(&self, column: &ColumnName, relations: &[RelationName]) -> Option<RelationName> {
        let candidates = match &column.relation {
            Some(relation) => std::slice::from_ref(relation),
            None => relations,
        };
        let mut masks = self
            .0
            .iter()
            .filter(|mask| match (&mask.column, &column.column) {
                (Some(masked), Some(read)) => **masked == **read,
                _ => true,
            });
        masks.find_map(|mask| candidates.iter().find(|r| may_be(mask, r)).cloned())
    }

    /// Whether a masked column has a say in which rows there are, how many, or in which order.
    pub(super) fn picks(&self, facts: &Facts, derived: &[Derived]) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let names = Names {
            masks: self,
            derived,
        };
        // What is not followed picks by all that it reads.
        let by_name = || {
            facts
                .columns
                .iter()
                .any(|column| names.may_read(column, facts))
        };
        let mut statements = facts.lineage.statements.iter();
        statements.any(|traced| match &traced.query {
            Some(query) => match query.resolve(&names) {
                Some(resolved) => resolved.picks,
                None => by_name(),
            },
            None => traced.shows != Shows::Nothing && by_name(),
        }) || facts.unparsable.is_some()
    }

    /// Relations with masked columns among those that the text names.
    pub(super) fn touched(&self, facts: &Facts) -> Vec<String> {
        let named = facts.reads.iter().chain(&facts.writes);
        let masked = named.filter(|r| self.0.iter().any(|mask| may_be(mask, r)));
        let mut names: Vec<_> = masked.map(ToString::to_string).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// A materialised view that would be filled with values that no mask follows once the views that it
/// reads are others.
fn refreshed(facts: &Facts, subject: &Subject) -> Option<Escape> {
    let accesses = facts.statements.iter().flat_map(|s| &s.accesses);
    let mut views = accesses.filter_map(|access| match (access.verb.0, &access.object) {
        ("REFRESH MATERIALIZED VIEW", Object::Table(name)) => Some(name),
        _ => None,
    });
    let derives = |name: &&RelationName| {
        let mut derived = subject.derived.iter();
        derived.any(|d| may_name(name, &d.relation))
    };
    let first = views.clone().next()?;
    if let Some(view) = views.find(derives) {
        return Some(Escape::Column(view.clone()));
    }
    let mut own = Unseen::default();
    if facts.statements.len() > 1 {
        own.add(facts);
    }
    // What it reads the text does not say: whatever is not seen may be among it.
    match subject.unseen.unread {
        true => Some(Escape::Unread(first.clone())),
        false if subject.unseen.is_empty() && own.is_empty() => None,
        false => Some(Escape::Unsettled(first.clone())),
    }
}

/// A relation that is copied and that the catalog says nothing of.
fn unseen(facts: &Facts, unseen: &Unseen) -> Option<Escape> {
    let mut own = Unseen::default();
    if facts.statements.len() > 1 {
        // What the first of a text's statements defines, the next may copy.
        own.add(facts);
    }
    if unseen.is_empty() && own.is_empty() {
        return None;
    }
    let copied = &facts.copied;
    let relations = copied.relations.iter();
    let mut relations =
        relations.filter(|relation| !is_system(relation) && moves(copied, relation));
    let defined = |relation: &&RelationName| unseen.may_be(relation) || own.may_be(relation);
    if let Some(relation) = relations.clone().find(defined) {
        return Some(Escape::Unsettled(relation.clone()));
    }
    relations
        .next()
        .filter(|_| unseen.unread)
        .map(|relation| Escape::Unread(relation.clone()))
}

/// Whether values of this relation may be among those that are copied.
fn moves(copied: &Copied, relation: &RelationName) -> bool {
    let mut columns = copied.columns.iter();
    columns.any(|column| {
        let of = column.relation.as_ref();
        of.is_none_or(|of| of.name == relation.name)
    })
}

/// Nobody defines anything there.
fn is_system(name: &RelationName) -> bool {
    let schema = name.schema.as_deref();
    matches!(schema, Some("pg_catalog" | "information_schema"))
}

/// Relations as the masks' patterns alone know them: whatever a pattern may mean is masked.
struct Names<'a> {
    masks: &'a Masks,
    derived: &'a [Derived],
}

impl Names<'_> {
    fn may_read(&self, column: &ColumnName, facts: &Facts) -> bool {
        let relations: &[_] = match &column.relation {
            Some(relation) => std::slice::from_ref(relation),
            None => &facts.reads,
        };
        let mut views = self.derived.iter();
        self.masks.column(column, relations).is_some()
            || views.any(|view| {
                shows(view, column) && relations.iter().any(|r| may_name(r, &view.relation))
            })
    }
}

impl World for Names<'_> {
    fn relation(&self, name: &RelationName) -> Arc<Items> {
        let mut items = Items::any(Mark::Clean);
        let item = |name: &str| Item {
            name: Some(name.into()),
            mark: Mark::Plain(How::Redact),
            from: None,
        };
        for mask in self.masks.0.iter().filter(|mask| may_be(mask, name)) {
            match &mask.column {
                Some(column) => items.list.push(item(column)),
                None => items.open = Some(Mark::Plain(How::Redact)),
            }
        }
        let views = self.derived.iter().filter(|d| may_name(name, &d.relation));
        let columns = views.flat_map(|view| &view.columns);
        items.list.extend(columns.map(|column| item(column)));
        Arc::new(items)
    }
}

/// Whether a column as written may be one of those that carry masked values.
fn shows(view: &Derived, column: &ColumnName) -> bool {
    let relation = column.relation.as_ref();
    let names = relation.is_none_or(|relation| may_name(relation, &view.relation));
    let name = column.column.as_ref();
    names && name.is_none_or(|name| view.columns.contains(name))
}

/// Whether a name as written may mean this relation.
fn may_name(written: &RelationName, relation: &RelationName) -> bool {
    let schema = written.schema.is_none() || written.schema == relation.schema;
    schema && written.name == relation.name
}

fn may_be(mask: &ColumnPattern, relation: &RelationName) -> bool {
    let table = mask
        .table
        .as_deref()
        .is_none_or(|table| table == &*relation.name);
    let schema = match (&mask.schema, &relation.schema) {
        (Some(masked), Some(named)) => **masked == **named,
        _ => true,
    };
    // PostgreSQL's own catalogs hold no column that a pattern means.
    table && schema && (mask.table.is_some() || relation.schema.as_deref() != Some("pg_catalog"))
}

fn stores_values(name: &RelationName) -> bool {
    match name.schema.as_deref() {
        Some("pg_toast") => true,
        None | Some("pg_catalog") => {
            matches!(
                &*name.name,
                "pg_statistic"
                    | "pg_statistic_ext_data"
                    | "pg_stats"
                    | "pg_stats_ext"
                    | "pg_stats_ext_exprs"
                    | "pg_largeobject"
            )
        }
        Some(_) => false,
    }
}
