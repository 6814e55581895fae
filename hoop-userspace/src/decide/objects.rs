//! What the server's catalog says of the objects that a text names: which tables stand under a view,
//! what a function declares of itself, whose an object is. Pure data; `forward` looks it up.
//!
//! A name without a schema is in every schema here as elsewhere: whatever is known of any object of
//! that name counts, at its worst.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;

use super::{Access, Action, Facts, Object, RelationName, Verb};

/// Relations that one text may reach through views and partitions.
const MAX_REACHED: usize = 1_000;

/// The verb of a read that no text names: rows come from this relation through a view.
const THROUGH_VIEW: Verb = Verb("SELECT THROUGH VIEW");
const REFRESH: Verb = Verb("REFRESH MATERIALIZED VIEW");

/// One database's objects outside the system's schemas, at one moment; by default nothing is known.
#[derive(Debug, Default)]
pub struct Objects {
    epoch: u64,
    content: Content,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Content {
    relations: Vec<Placed>,
    /// Statements give names, in whatever schema.
    named: HashMap<Box<str>, Vec<usize>>,
    functions: HashMap<Box<str>, Vec<KnownFunction>>,
}

/// A relation, and by their places the others that it is made of.
#[derive(Debug, PartialEq, Eq)]
struct Placed {
    relation: KnownRelation,
    reads: Vec<usize>,
    parents: Vec<usize>,
}

/// A table or view of the database's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KnownRelation {
    pub oid: u32,
    pub schema: Box<str>,
    pub name: Box<str>,
    pub owner: Box<str>,
    /// It has triggers or rules that act when it is written.
    pub acts: bool,
    /// What a view's or materialised view's definition reads, directly.
    pub reads: Vec<u32>,
    /// The system's own relations among what it reads.
    pub system: Vec<RelationName>,
    /// What it is a partition or an heir of, directly.
    pub parents: Vec<u32>,
    /// Its columns that have the name of a function.
    pub columns: Vec<Box<str>>,
}

/// A function, procedure, aggregate's part or operator of the database's own. Several may have one
/// name; an aggregate is known by the functions that it is made of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KnownFunction {
    pub schema: Box<str>,
    pub name: Box<str>,
    pub owner: Box<str>,
    pub volatility: Volatility,
    /// It runs with its owner's rights.
    pub security_definer: bool,
    pub language: Box<str>,
}

/// What a function declares of itself. The order is that of what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Volatility {
    Immutable,
    Stable,
    Volatile,
}

impl Volatility {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Immutable => "immutable",
            Self::Stable => "stable",
            Self::Volatile => "volatile",
        }
    }
}

/// What is known of the object of one access.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct About {
    pub owners: BTreeSet<Box<str>>,
    pub code: Option<Code>,
}

/// What is known of all functions that a name may mean.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Code {
    pub volatility: Volatility,
    pub security_definer: bool,
    pub languages: BTreeSet<Box<str>>,
}

/// What a text reaches beyond the relations that it names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reached {
    /// Whether anything is known at all.
    pub known: bool,
    /// Needed beside the accesses of the statement at this place.
    through: Vec<BTreeSet<Access>>,
    /// What the relations are a part of: a rule that forbids the whole forbids the part, while a
    /// permit of the part is enough.
    wholes: Vec<BTreeSet<Access>>,
    /// Every relation in the above.
    pub base_reads: BTreeSet<RelationName>,
    /// Something that is written has triggers or rules.
    pub has_triggers: bool,
}

/// A text reaches more than is followed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it reaches more than {MAX_REACHED} relations through views and partitions")]
pub(super) struct TooMany;

impl Objects {
    pub fn new(
        relations: impl IntoIterator<Item = KnownRelation>,
        functions: impl IntoIterator<Item = KnownFunction>,
    ) -> Self {
        Self {
            epoch: 0,
            content: Content::new(relations, functions),
        }
    }

    /// The same under a number of the caller's, above 0: verdicts under another are not used.
    #[must_use]
    pub fn at_epoch(self, epoch: u64) -> Self {
        Self { epoch, ..self }
    }

    /// 0 where nothing is known.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    pub fn is_known(&self) -> bool {
        self.epoch > 0
    }

    /// Whether both say the same, whenever it was.
    pub fn same(&self, other: &Self) -> bool {
        self.content == other.content
    }

    pub(super) fn about(&self, object: &Object) -> About {
        match object {
            Object::Table(name) => About {
                owners: (self.content.candidates(name))
                    .map(|at| at.relation.owner.clone())
                    .collect(),
                code: None,
            },
            Object::Function(name) => self.content.code(name),
            _ => About::default(),
        }
    }

    pub(super) fn reach(&self, facts: &Facts) -> Result<Reached, TooMany> {
        let mut reached = Reached {
            known: self.is_known(),
            ..Reached::default()
        };
        if !reached.known {
            return Ok(reached);
        }
        for statement in &facts.statements {
            let mut through = BTreeSet::new();
            let mut wholes = BTreeSet::new();
            for access in &statement.accesses {
                self.content
                    .follow(access, &mut through, &mut wholes, &mut reached)?;
            }
            // What the text names itself is decided as such.
            for access in &statement.accesses {
                through.remove(access);
                wholes.remove(access);
            }
            reached.through.push(through);
            reached.wholes.push(wholes);
        }
        if let (Some(first), Some(through)) =
            (facts.statements.first(), reached.through.first_mut())
        {
            through.extend(self.content.calls(facts, first.verb));
        }
        Ok(reached)
    }
}

/// Whether anything of these facts can be told better by the catalog.
pub(super) fn depends(facts: &Facts) -> bool {
    if !facts.copied.relations.is_empty() {
        return true;
    }
    let mut accesses = facts.statements.iter().flat_map(|s| &s.accesses);
    accesses.any(|access| match &access.object {
        Object::Table(name) => {
            matches!(access.action, Action::Read | Action::Write) && !is_system(name)
        }
        Object::Function(_) => access.action == Action::Procedural,
        _ => false,
    })
}

/// Others have no names like these, or their owner wants them taken for the system's.
fn is_system(name: &RelationName) -> bool {
    match name.schema.as_deref() {
        Some(schema) => matches!(schema, "pg_catalog" | "information_schema"),
        None => name.name.starts_with("pg_"),
    }
}

impl Reached {
    pub(super) fn through(&self, statement: usize) -> impl Iterator<Item = &Access> {
        self.through.get(statement).into_iter().flatten()
    }

    pub(super) fn wholes(&self, statement: usize) -> impl Iterator<Item = &Access> {
        self.wholes.get(statement).into_iter().flatten()
    }
}

impl Content {
    fn new(
        relations: impl IntoIterator<Item = KnownRelation>,
        functions: impl IntoIterator<Item = KnownFunction>,
    ) -> Self {
        let mut all: Vec<KnownRelation> = relations.into_iter().collect();
        // In one order, so that the same catalog is equal to itself.
        all.sort();
        let places: HashMap<u32, usize> = all.iter().enumerate().map(|(i, r)| (r.oid, i)).collect();
        let place = |oids: &[u32]| oids.iter().filter_map(|o| places.get(o).copied()).collect();
        let mut content = Self::default();
        for relation in all {
            let named = content.named.entry(relation.name.clone()).or_default();
            named.push(content.relations.len());
            content.relations.push(Placed {
                reads: place(&relation.reads),
                parents: place(&relation.parents),
                relation,
            });
        }
        content.pass_on_triggers();
        let mut functions: Vec<_> = functions.into_iter().collect();
        functions.sort();
        functions.dedup();
        for function in functions {
            let named = content.functions.entry(function.name.clone()).or_default();
            named.push(function);
        }
        content
    }

    /// A row that is written to a table may be written to any of its partitions.
    fn pass_on_triggers(&mut self) {
        let acting = (0..self.relations.len()).filter(|at| self.get(*at).is_some_and(acts));
        let mut open: Vec<usize> = acting.collect();
        let mut seen: HashSet<usize> = open.iter().copied().collect();
        while let Some(at) = open.pop() {
            let Some(placed) = self.relations.get_mut(at) else {
                continue;
            };
            placed.relation.acts = true;
            open.extend(placed.parents.iter().filter(|parent| seen.insert(**parent)));
        }
    }

    fn get(&self, at: usize) -> Option<&Placed> {
        self.relations.get(at)
    }

    /// All relations that a name as written may mean.
    fn candidates<'a>(&'a self, name: &'a RelationName) -> impl Iterator<Item = &'a Placed> {
        let places = self.named.get(&name.name).map_or(&[][..], Vec::as_slice);
        let placed = places.iter().filter_map(|at| self.get(*at));
        placed.filter(|placed| may_be(&placed.relation.schema, name))
    }

    fn code(&self, name: &RelationName) -> About {
        let all = self.functions.get(&name.name).into_iter().flatten();
        let mut about = About::default();
        for function in all.filter(|f| may_be(&f.schema, name)) {
            about.owners.insert(function.owner.clone());
            let code = about.code.get_or_insert(Code {
                volatility: Volatility::Immutable,
                security_definer: false,
                languages: BTreeSet::new(),
            });
            code.volatility = code.volatility.max(function.volatility);
            code.security_definer |= function.security_definer;
            code.languages.insert(function.language.clone());
        }
        about
    }

    /// `u.f` calls `f(u)` where `u` has no column `f`.
    fn calls<'a>(&'a self, facts: &'a Facts, verb: Verb) -> impl Iterator<Item = Access> + 'a {
        let lacks = move |relation: &RelationName, column: &str| {
            let columns = |placed: &Placed| placed.relation.columns.iter().any(|c| **c == *column);
            self.candidates(relation).any(|placed| !columns(placed))
        };
        let called = facts.columns.iter().filter_map(move |column| {
            let (relation, name) = (column.relation.as_ref()?, column.column.as_deref()?);
            let is_call = self.functions.contains_key(name) && lacks(relation, name);
            is_call.then(|| RelationName::new(None, name))
        });
        called.map(move |function| Access {
            action: Action::Procedural,
            verb,
            object: Object::Function(function),
        })
    }

    /// Adds what one access reaches.
    fn follow(
        &self,
        access: &Access,
        through: &mut BTreeSet<Access>,
        wholes: &mut BTreeSet<Access>,
        reached: &mut Reached,
    ) -> Result<(), TooMany> {
        let Object::Table(name) = &access.object else {
            return Ok(());
        };
        // Definitions say nothing of rows; what they select is an access of its own. A refresh runs
        // what was defined.
        if !matches!(access.action, Action::Read | Action::Write) || access.verb == REFRESH {
            return Ok(());
        }
        let writes = access.action == Action::Write;
        let named: Vec<&Placed> = self.candidates(name).collect();
        reached.has_triggers |= writes && named.iter().any(|placed| acts(placed));
        for placed in self.under(&named, |placed| &placed.reads)? {
            reached.has_triggers |= writes && acts(placed);
            let base = full_name(placed);
            note(&mut reached.base_reads, &base)?;
            through.insert(read(&base));
            if writes {
                through.insert(on(access, &base));
            }
        }
        let views = self.under(&named, |placed| &placed.reads)?;
        for system in named.iter().chain(&views).flat_map(|p| &p.relation.system) {
            note(&mut reached.base_reads, system)?;
            through.insert(read(system));
        }
        for placed in self.under(&[&named[..], &views].concat(), |placed| &placed.parents)? {
            let whole = full_name(placed);
            note(&mut reached.base_reads, &whole)?;
            wholes.insert(on(access, &whole));
        }
        Ok(())
    }

    /// Everything below these by the given edges, themselves not.
    fn under<'a>(
        &'a self,
        from: &[&'a Placed],
        edges: impl Fn(&Placed) -> &[usize],
    ) -> Result<Vec<&'a Placed>, TooMany> {
        let mut open: Vec<usize> = from.iter().flat_map(|p| edges(p)).copied().collect();
        let mut seen: HashSet<usize> = HashSet::new();
        let mut found = Vec::new();
        while let Some(at) = open.pop() {
            if !seen.insert(at) {
                continue;
            }
            if seen.len() > MAX_REACHED {
                return Err(TooMany);
            }
            if let Some(placed) = self.get(at) {
                found.push(placed);
                open.extend(edges(placed));
            }
        }
        Ok(found)
    }
}

fn note(all: &mut BTreeSet<RelationName>, name: &RelationName) -> Result<(), TooMany> {
    all.insert(name.clone());
    if all.len() > MAX_REACHED {
        return Err(TooMany);
    }
    Ok(())
}

/// `pg_temp` is whichever of the temporary schemas is the session's.
fn may_be(schema: &str, written: &RelationName) -> bool {
    match written.schema.as_deref() {
        None => true,
        Some("pg_temp") => schema.starts_with("pg_temp"),
        Some(named) => named == schema,
    }
}

fn acts(placed: &Placed) -> bool {
    placed.relation.acts
}

fn full_name(placed: &Placed) -> RelationName {
    RelationName::new(Some(&placed.relation.schema), &placed.relation.name)
}

fn read(base: &RelationName) -> Access {
    Access {
        action: Action::Read,
        verb: THROUGH_VIEW,
        object: Object::Table(base.clone()),
    }
}

/// The same to another relation.
fn on(access: &Access, relation: &RelationName) -> Access {
    Access {
        object: Object::Table(relation.clone()),
        ..access.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::sql::{Limits, Parser};
    use super::*;

    fn relation(oid: u32, name: &str, reads: &[u32], parents: &[u32]) -> KnownRelation {
        let (schema, name) = name.split_once('.').unwrap();
        KnownRelation {
            oid,
            schema: schema.into(),
            name: name.into(),
            owner: "dba".into(),
            reads: reads.into(),
            parents: parents.into(),
            ..KnownRelation::default()
        }
    }

    fn objects(relations: Vec<KnownRelation>) -> Objects {
        Objects::new(relations, []).at_epoch(1)
    }

    fn reach(objects: &Objects, sql: &str) -> (Vec<String>, Vec<String>, Reached) {
        let facts = Parser::new(Limits::default()).facts(sql);
        let reached = objects.reach(&facts).unwrap();
        let show = |a: &Access| format!("{} {} {}", a.action, a.verb, a.object);
        let through = reached.through(0).map(show).collect();
        let wholes = reached.wholes(0).map(show).collect();
        (through, wholes, reached)
    }

    #[test]
    fn views_are_followed_to_the_tables_and_circles_end() {
        let known = objects(vec![
            relation(1, "app.summary", &[2, 1], &[]),
            relation(2, "app.detail", &[3], &[]),
            relation(3, "hr.salaries", &[], &[]),
        ]);
        let expected = [
            "sql:read SELECT THROUGH VIEW table app.detail",
            "sql:read SELECT THROUGH VIEW table app.summary",
            "sql:read SELECT THROUGH VIEW table hr.salaries",
        ];
        assert_eq!(reach(&known, "SELECT * FROM app.summary").0, expected);
        assert_eq!(reach(&known, "SELECT * FROM summary").0, expected);
        assert_eq!(
            reach(&known, "SELECT * FROM other.summary").0,
            [""; 0],
            "another schema's"
        );
        let (through, _, reached) = reach(&known, "SELECT * FROM hr.salaries");
        assert!(through.is_empty() && reached.base_reads.is_empty() && reached.known);
        assert!(
            reach(&known, "DROP VIEW app.summary").0.is_empty(),
            "no row is read"
        );
    }

    #[test]
    fn a_write_through_a_view_is_one_to_the_tables() {
        let mut table = relation(2, "hr.salaries", &[], &[]);
        table.acts = true;
        let known = objects(vec![relation(1, "app.v", &[2], &[]), table]);
        let (through, _, reached) = reach(&known, "UPDATE app.v SET a = 1 WHERE b = 2");
        assert_eq!(
            through,
            [
                "sql:read SELECT THROUGH VIEW table hr.salaries",
                "sql:write UPDATE table hr.salaries"
            ]
        );
        assert!(reached.has_triggers);
        let (_, _, reached) = reach(&known, "SELECT * FROM app.v");
        assert!(!reached.has_triggers, "reading fires nothing");
    }

    #[test]
    fn parts_belong_to_their_wholes() {
        let mut part = relation(3, "parts.y2024", &[], &[2]);
        part.acts = true;
        let known = objects(vec![
            relation(1, "app.v", &[3], &[]),
            relation(2, "hr.salaries", &[], &[]),
            part,
        ]);
        let (through, wholes, _) = reach(&known, "SELECT * FROM parts.y2024");
        assert_eq!(through, [""; 0]);
        assert_eq!(wholes, ["sql:read SELECT table hr.salaries"]);
        let (_, wholes, reached) = reach(&known, "SELECT * FROM app.v");
        assert_eq!(wholes, ["sql:read SELECT table hr.salaries"]);
        assert_eq!(reached.base_reads.len(), 2);
        let (_, _, reached) = reach(&known, "DELETE FROM hr.salaries WHERE a = 1");
        assert!(reached.has_triggers, "the partition's");
    }

    #[test]
    fn the_systems_own_are_reached_too() {
        let mut view = relation(1, "app.passwords", &[], &[]);
        view.system = vec![RelationName::new(Some("pg_catalog"), "pg_authid")];
        let (through, _, _) = reach(&objects(vec![view]), "SELECT * FROM passwords");
        assert_eq!(
            through,
            ["sql:read SELECT THROUGH VIEW table pg_catalog.pg_authid"]
        );
    }

    #[test]
    fn the_worst_of_all_functions_of_a_name_counts() {
        let function = |schema: &str, volatility, security_definer, language: &str| KnownFunction {
            schema: schema.into(),
            name: "f".into(),
            owner: schema.into(),
            volatility,
            security_definer,
            language: language.into(),
        };
        let known = Objects::new(
            [],
            [
                function("a", Volatility::Immutable, false, "sql"),
                function("b", Volatility::Volatile, true, "plpgsql"),
            ],
        );
        let about = |schema| known.about(&Object::Function(RelationName::new(schema, "f")));
        let one = about(Some("a")).code.unwrap();
        assert_eq!(
            (one.volatility, one.security_definer),
            (Volatility::Immutable, false)
        );
        let any = about(None);
        let code = any.code.unwrap();
        assert_eq!(
            (code.volatility, code.security_definer),
            (Volatility::Volatile, true)
        );
        assert_eq!((code.languages.len(), any.owners.len()), (2, 2));
        assert_eq!(about(Some("c")), About::default());
    }

    #[test]
    fn a_column_that_is_not_there_is_a_call() {
        let function = KnownFunction {
            schema: "public".into(),
            name: "total".into(),
            owner: "dba".into(),
            volatility: Volatility::Volatile,
            security_definer: false,
            language: "sql".into(),
        };
        let mut orders = relation(1, "app.orders", &[], &[]);
        orders.columns = vec!["total".into()];
        let users = relation(2, "app.users", &[], &[]);
        let known = Objects::new([orders, users], [function]).at_epoch(1);
        let call = ["sql:procedural SELECT function total"];
        assert_eq!(reach(&known, "SELECT u.total FROM app.users u").0, call);
        assert_eq!(reach(&known, "SELECT o.total FROM app.orders o").0, [""; 0]);
        assert_eq!(reach(&known, "SELECT u.name FROM app.users u").0, [""; 0]);
    }

    #[test]
    fn what_reaches_too_much_is_not_followed() {
        let tables = (2..2_000).map(|oid| relation(oid, &format!("app.t{oid}"), &[], &[]));
        let all: Vec<u32> = (2..2_000).collect();
        let known = objects(tables.chain([relation(1, "app.v", &all, &[])]).collect());
        let facts = Parser::new(Limits::default()).facts("SELECT * FROM app.v");
        assert_eq!(known.reach(&facts), Err(TooMany));
    }

    #[test]
    fn nothing_is_reached_where_nothing_is_known() {
        let facts = Parser::new(Limits::default()).facts("SELECT * FROM v");
        assert_eq!(Objects::default().reach(&facts), Ok(Reached::default()));
        let again = || objects(vec![relation(1, "a.b", &[], &[])]);
        assert!(again().same(&again().at_epoch(7)));
        assert!(!again().same(&Objects::default()));
    }
}
