//! What one statement was found to do, and how the findings of a text become its facts.

use std::collections::{BTreeSet, HashMap};

use crate::decide::{
    Access, Action, ColumnName, Copied, Facts, Flag, Object, RelationName, Renamed, Setting,
    Statement, Verb,
};

use super::functions;

/// Findings of one statement.
#[derive(Debug, Default)]
pub(super) struct Found<'a> {
    pub verb: Verb,
    pub accesses: BTreeSet<Access>,
    pub flags: BTreeSet<Flag>,
    pub reads: BTreeSet<RelationName>,
    pub writes: BTreeSet<RelationName>,
    pub functions: BTreeSet<RelationName>,
    pub settings: BTreeSet<Setting>,
    pub files: BTreeSet<String>,
    pub programs: BTreeSet<String>,
    pub opaque: bool,
    pub copied: BTreeSet<RelationName>,
    pub copied_opaque: bool,
    pub renamed: BTreeSet<Renamed>,
    /// A function is called that keeps what it is given where another statement finds it: a
    /// setting, a notification, a sequence, a lock. Whatever is read may be among it.
    pub keeps: bool,
    /// What the statement needs at least, where nothing that it names says more.
    pub least: Option<(Action, Verb)>,
    /// Columns that need no attribution, and whether they are copied.
    known: Vec<(ColumnName, bool)>,
    columns: Vec<Reference<'a>>,
    aliases: HashMap<&'a str, Alias>,
    fields: BTreeSet<(&'a str, Option<&'a str>)>,
}

/// A column as written.
#[derive(Debug)]
struct Reference<'a> {
    schema: Option<&'a str>,
    qualifier: Option<&'a str>,
    /// `None` is `*`.
    column: Option<&'a str>,
    copied: bool,
}

/// What a name before a dot stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Alias {
    Relation(RelationName),
    /// A subquery, a function, a join, a CTE, or more than one thing.
    Other,
}

impl<'a> Found<'a> {
    pub(super) fn new(verb: Verb) -> Self {
        Self {
            verb,
            ..Self::default()
        }
    }

    pub(super) fn access(&mut self, action: Action, verb: Verb, object: Object) {
        self.accesses.insert(Access {
            action,
            verb,
            object,
        });
    }

    /// `name` stands for a relation, or (`None`) for something else.
    pub(super) fn alias(&mut self, name: &'a str, relation: Option<&RelationName>) {
        let alias = relation.cloned().map_or(Alias::Other, Alias::Relation);
        self.aliases
            .entry(name)
            .and_modify(|known| {
                if *known != alias {
                    *known = Alias::Other;
                }
            })
            .or_insert(alias);
    }

    pub(super) fn column(&mut self, parts: &[Option<&'a str>], copied: bool) {
        let (column, before) = match parts.split_last() {
            Some((column, before)) => (*column, before),
            None => return,
        };
        let (qualifier, before) = match before.split_last() {
            Some((qualifier, before)) => (*qualifier, before),
            None => (None, before),
        };
        self.columns.push(Reference {
            schema: before.last().copied().flatten(),
            qualifier,
            column,
            copied,
        });
    }

    /// A column that COPY sends: with `copied`, out of the masks' reach.
    pub(super) fn sends(&mut self, column: ColumnName, copied: bool) {
        self.known.push((column, copied));
    }

    /// Columns of a relation, or of any, are renamed: all of them may be read.
    pub(super) fn renames(&mut self, relation: Option<&RelationName>, copied: bool) {
        let every = ColumnName {
            relation: relation.cloned(),
            column: None,
        };
        self.known.push((every, copied));
    }

    /// `(…).field`: a field of a composite value, or a call of a function of that name.
    pub(super) fn field(&mut self, field: &'a str, of: Option<&'a str>) {
        self.fields.insert((field, of));
    }

    /// Decides what could not be decided before the whole statement was seen.
    pub(super) fn finish(&mut self) -> Vec<(ColumnName, bool)> {
        self.settle_fields();
        let (action, verb) = self.least.unwrap_or((Action::Read, self.verb));
        let least = self.least.is_some();
        if !self.accesses.iter().any(|a| !least || a.action == action) {
            self.access(action, verb, Object::Database);
        }
        let columns = std::mem::take(&mut self.columns);
        let known = std::mem::take(&mut self.known);
        columns
            .into_iter()
            .map(|reference| (self.attribute(&reference), reference.copied))
            .chain(known)
            .collect()
    }

    fn settle_fields(&mut self) {
        let expands = RelationName::new(Some("information_schema"), "_pg_expandarray");
        let expands = self.functions.contains(&expands);
        for (field, of) in std::mem::take(&mut self.fields) {
            // Drivers read keys of indexes as `(result.keys).x`.
            let driver = expands && matches!(field, "x" | "n");
            if driver || of.is_some_and(functions::returns_record) {
                continue;
            }
            let function = RelationName::new(None, field);
            self.functions.insert(function.clone());
            let object = Object::Function(function);
            self.access(Action::Procedural, self.verb, object);
            self.flags.insert(Flag::Opaque);
            self.opaque = true;
        }
    }

    fn attribute(&self, reference: &Reference<'a>) -> ColumnName {
        let relation = match (reference.schema, reference.qualifier) {
            (Some(schema), Some(table)) => Some(RelationName::new(Some(schema), table)),
            (None, Some(alias)) => match self.aliases.get(alias) {
                Some(Alias::Relation(relation)) => Some(relation.clone()),
                _ => None,
            },
            _ => match self.whole_row(reference) {
                Some(alias) => {
                    return ColumnName {
                        relation: alias,
                        column: None,
                    };
                }
                None => self.only_relation(),
            },
        };
        // `u.to_json` is `to_json(u)`, which holds every column.
        let column = reference
            .column
            .filter(|name| reference.qualifier.is_none() || !functions::takes_row(name));
        ColumnName {
            relation,
            column: column.map(Into::into),
        }
    }

    /// A bare name that is an alias stands for the row, unless a column has that name as well.
    fn whole_row(&self, reference: &Reference<'a>) -> Option<Option<RelationName>> {
        match self.aliases.get(reference.column?)? {
            Alias::Relation(relation) => Some(Some(relation.clone())),
            Alias::Other => Some(None),
        }
    }

    /// The relation, if the statement speaks of one alone.
    fn only_relation(&self) -> Option<RelationName> {
        let mut aliases = self.aliases.values();
        let Some(Alias::Relation(first)) = aliases.next() else {
            return None;
        };
        aliases
            .all(|alias| matches!(alias, Alias::Relation(other) if other == first))
            .then(|| first.clone())
    }
}

/// Adds one statement's findings to a text's facts. [`tidy`] ends it.
pub(super) fn add(facts: &mut Facts, mut found: Found<'_>) {
    for (column, copied) in found.finish() {
        if copied || found.keeps {
            facts.copied.columns.push(column.clone());
        }
        facts.columns.push(column);
    }
    let Copied {
        relations, opaque, ..
    } = &mut facts.copied;
    relations.extend(found.copied);
    if found.keeps {
        relations.extend(found.reads.iter().cloned());
    }
    *opaque |= found.copied_opaque;
    facts.renamed.extend(found.renamed);
    facts.opaque |= found.opaque;
    facts.verbs.push(found.verb);
    facts.verbs.extend(found.accesses.iter().map(|a| a.verb));
    facts.flags.extend(found.flags.iter().copied());
    facts.reads.extend(found.reads);
    facts.writes.extend(found.writes);
    facts.functions.extend(found.functions);
    facts.settings.extend(found.settings);
    facts.files.extend(found.files);
    facts.programs.extend(found.programs);
    facts.statements.push(Statement {
        verb: found.verb,
        flags: found.flags.into_iter().collect(),
        accesses: found.accesses.into_iter().collect(),
    });
}

pub(super) fn tidy(facts: &mut Facts) {
    fn sort<T: Ord>(list: &mut Vec<T>) {
        list.sort_unstable();
        list.dedup();
        list.shrink_to_fit();
    }
    if facts.statements.len() > 1 {
        facts.flags.push(Flag::MultiStatement);
        for statement in &mut facts.statements {
            statement.flags.push(Flag::MultiStatement);
            sort(&mut statement.flags);
        }
    }
    sort(&mut facts.verbs);
    sort(&mut facts.flags);
    sort(&mut facts.reads);
    sort(&mut facts.writes);
    sort(&mut facts.functions);
    sort(&mut facts.columns);
    sort(&mut facts.copied.columns);
    sort(&mut facts.copied.relations);
    sort(&mut facts.renamed);
    sort(&mut facts.settings);
    sort(&mut facts.files);
    sort(&mut facts.programs);
}
