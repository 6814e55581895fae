//! What a database's relations are called and what they derive from: how an object id and an
//! attribute number in a result become `schema.table.column`. Pure data; `forward` fetches it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::decide::{Objects, Query};

/// Object ids below this are the system's own, from when the database cluster was made
/// (PostgreSQL, `FirstNormalObjectId`); a [`Catalog`] does not list them.
pub const FIRST_NORMAL_OID: u32 = 16384;

/// One database's relations outside the system's schemas, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    relations: HashMap<u32, Relation>,
    /// Inheritance the other way round: rows of a child are seen through its parent.
    children: HashMap<u32, Vec<u32>>,
    /// Statements give names, in whatever schema.
    named: HashMap<Box<str>, Vec<u32>>,
    /// What views are defined as, where this is known.
    definitions: HashMap<u32, Arc<Query>>,
    /// Object ids of columns' types.
    kinds: HashMap<(u32, i16), u32>,
    objects: Arc<Objects>,
    /// Names of the system's own relations that are found without a schema.
    system: HashSet<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    pub oid: u32,
    pub schema: Box<str>,
    pub name: Box<str>,
    pub kind: RelationKind,
    /// By attribute number; dropped columns are absent.
    pub columns: BTreeMap<i16, Box<str>>,
    /// What it inherits from or is a partition of, directly.
    pub parents: Vec<u32>,
    /// What a view's or materialised view's definition reads, directly. Whole relations, because
    /// PostgreSQL's record of the columns read is incomplete: a reference to a whole row leaves no
    /// trace in it beside a reference to one column of the same table.
    pub reads: Vec<u32>,
    /// The definition calls a function that is not the system's own, or a rule returns rows: what its
    /// columns show is not known.
    pub opaque: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RelationKind {
    Table,
    Partitioned,
    View,
    Materialized,
    Foreign,
}

impl Catalog {
    pub fn new(relations: impl IntoIterator<Item = Relation>) -> Self {
        let relations: HashMap<_, _> = relations.into_iter().map(|r| (r.oid, r)).collect();
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        let mut named: HashMap<Box<str>, Vec<u32>> = HashMap::new();
        for relation in relations.values() {
            let same = named.entry(relation.name.clone()).or_default();
            same.push(relation.oid);
            for parent in &relation.parents {
                children.entry(*parent).or_default().push(relation.oid);
            }
        }
        Self {
            relations,
            children,
            named,
            definitions: HashMap::new(),
            kinds: HashMap::new(),
            objects: Arc::default(),
            system: HashSet::new(),
        }
    }

    /// With the names of the relations in `pg_catalog`.
    #[must_use]
    pub fn with_system(mut self, names: impl IntoIterator<Item = Box<str>>) -> Self {
        self.system.extend(names);
        self
    }

    /// Whether a name without a schema is one of the system's own relations.
    pub fn is_system(&self, name: &str) -> bool {
        self.system.contains(name)
    }

    /// With what the views among the relations are defined as.
    #[must_use]
    pub fn with_definitions(
        mut self,
        definitions: impl IntoIterator<Item = (u32, Arc<Query>)>,
    ) -> Self {
        self.definitions.extend(definitions);
        self
    }

    /// With the types of columns: relation, attribute number, type.
    #[must_use]
    pub fn with_kinds(mut self, kinds: impl IntoIterator<Item = ((u32, i16), u32)>) -> Self {
        self.kinds.extend(kinds);
        self
    }

    pub fn definition(&self, oid: u32) -> Option<&Arc<Query>> {
        self.definitions.get(&oid)
    }

    /// The type of a column.
    pub fn kind(&self, oid: u32, attribute: i16) -> Option<u32> {
        self.kinds.get(&(oid, attribute)).copied()
    }

    /// The same with what decisions need of the same moment.
    #[must_use]
    pub fn with_objects(self, objects: Arc<Objects>) -> Self {
        Self { objects, ..self }
    }

    /// What decisions need of it.
    pub fn objects(&self) -> &Arc<Objects> {
        &self.objects
    }

    pub fn relation(&self, oid: u32) -> Option<&Relation> {
        self.relations.get(&oid)
    }

    /// All relations of this name.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &Relation> {
        let oids = self.named.get(name).map_or(&[][..], Vec::as_slice);
        oids.iter().filter_map(|oid| self.relation(*oid))
    }

    pub fn relations(&self) -> impl Iterator<Item = &Relation> {
        self.relations.values()
    }

    pub fn is_empty(&self) -> bool {
        self.relations.is_empty()
    }

    /// The name of a column; `None` where the relation or the column is not known.
    pub fn column(&self, oid: u32, attribute: i16) -> Option<&str> {
        self.relation(oid)?
            .columns
            .get(&attribute)
            .map(|name| &**name)
    }

    /// The relations that are one table by inheritance or partitioning, this one included, in
    /// both directions: their columns correspond by name, not by number.
    pub fn family(&self, oid: u32) -> HashSet<u32> {
        self.reach(oid, |_| &[])
    }

    /// Everything that rows of this relation may come from, itself included: what it reads and its
    /// family, all the way. A relation that is not known is among the answer by its id alone.
    pub fn sources(&self, oid: u32) -> HashSet<u32> {
        self.reach(oid, |relation| &relation.reads)
    }

    fn reach(&self, oid: u32, also: impl Fn(&Relation) -> &[u32]) -> HashSet<u32> {
        let mut found = HashSet::from([oid]);
        let mut open = vec![oid];
        while let Some(oid) = open.pop() {
            let relation = self.relation(oid);
            let parents = relation.map_or(&[][..], |r| &r.parents);
            let read = relation.map_or(&[][..], &also);
            let children = self.children.get(&oid).map_or(&[][..], Vec::as_slice);
            for next in parents.iter().chain(read).chain(children) {
                if found.insert(*next) {
                    open.push(*next);
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(oid: u32, reads: &[u32], parents: &[u32]) -> Relation {
        Relation {
            oid,
            schema: "public".into(),
            name: format!("r{oid}").into(),
            kind: RelationKind::Table,
            columns: BTreeMap::from([(1, "id".into())]),
            parents: parents.into(),
            reads: reads.into(),
            opaque: false,
        }
    }

    #[test]
    fn sources_are_followed_to_the_end_and_circles_end() {
        let catalog = Catalog::new([
            relation(1, &[2], &[]),
            relation(2, &[1], &[3]),
            relation(3, &[9], &[]),
        ]);
        assert_eq!(catalog.sources(1), HashSet::from([1, 2, 3, 9]));
        assert_eq!(catalog.family(2), HashSet::from([2, 3]));
        assert_eq!(catalog.family(3), HashSet::from([2, 3]));
        assert_eq!(catalog.sources(7), HashSet::from([7]));
        assert_eq!(catalog.column(1, 1), Some("id"));
        assert_eq!(catalog.column(1, 2), None);
    }
}
