//! What each column of a view may carry, by the view's definition; and the world that statements are
//! traced in.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use super::asking::Missing;
use super::attribution::{in_system, stores_samples};
use super::catalog::{Catalog, FIRST_NORMAL_OID, Relation, RelationKind};
use super::rules::Rules;
use crate::config::How;
use crate::decide::{Derived, Item, Items, Mark, Query, RelationName, World};

/// Views of views: deeper ones are masked whole.
const DEPTH: usize = 24;

/// The views of one catalog under one set of rules.
#[derive(Debug, Default)]
pub(super) struct Views {
    columns: HashMap<u32, Arc<Items>>,
    /// Those with columns that carry masked values.
    pub derived: Arc<[Derived]>,
}

impl Views {
    pub(super) fn of(catalog: &Catalog, rules: &Rules) -> Self {
        let tracer = Tracer {
            catalog,
            rules,
            found: RefCell::default(),
            depth: Cell::new(0),
        };
        let mut derived = Vec::new();
        for relation in catalog.relations() {
            let items = match is_view(relation) {
                true => tracer.view(relation),
                // Of a table alone, the masks' own names say all.
                false if catalog.family(relation.oid).len() == 1 => continue,
                false => Arc::new(tracer.items(relation)),
            };
            // What a mask names by itself is known without the catalog.
            let carries = items.list.iter().filter(|item| {
                let name = item.name.as_deref().unwrap_or_default();
                let own = rules.of_column(&relation.schema, &relation.name, name);
                !item.mark.is_clean() && own.is_none()
            });
            let columns: Vec<_> = carries.filter_map(|item| item.name.clone()).collect();
            if !columns.is_empty() {
                derived.push(Derived {
                    relation: RelationName::new(Some(&relation.schema), &relation.name),
                    columns,
                });
            }
        }
        // Subjects with the same views are decided alike.
        derived.sort();
        Self {
            columns: tracer.found.into_inner(),
            derived: derived.into(),
        }
    }

    /// The relation's columns with how each is to be shown: by its name in this relation or in one of
    /// its family, or by what the view takes it from.
    pub(super) fn items(&self, catalog: &Catalog, rules: &Rules, relation: &Relation) -> Items {
        let family = Family::of(catalog, relation);
        listed(relation, |column| {
            family.mark(rules, column, |view| self.columns.get(&view.oid).cloned())
        })
    }

    /// The same of one column.
    pub(super) fn mark(
        &self,
        catalog: &Catalog,
        rules: &Rules,
        relation: &Relation,
        column: &str,
    ) -> Mark {
        let family = Family::of(catalog, relation);
        family.mark(rules, column, |view| self.columns.get(&view.oid).cloned())
    }
}

/// The relations that are one table by inheritance or partitioning.
struct Family<'a>(Vec<&'a Relation>);

impl<'a> Family<'a> {
    fn of(catalog: &'a Catalog, relation: &'a Relation) -> Self {
        let family = catalog.family(relation.oid);
        if family.len() == 1 {
            return Self(vec![relation]);
        }
        let members = family.iter().filter_map(|oid| catalog.relation(*oid));
        Self(members.collect())
    }

    /// How a column is masked by its name in any of them.
    fn how(&self, rules: &Rules, column: &str) -> Option<How> {
        let members = self.0.iter();
        let found = members.filter_map(|r| rules.of_column(&r.schema, &r.name, column));
        found.reduce(|one, two| one.and(&two))
    }

    fn mark(
        &self,
        rules: &Rules,
        column: &str,
        view: impl Fn(&Relation) -> Option<Arc<Items>>,
    ) -> Mark {
        if let Some(how) = self.how(rules, column) {
            return Mark::Plain(how);
        }
        let views = self.0.iter().filter(|member| is_view(member));
        views.fold(Mark::Clean, |mark, member| {
            let found = view(member).and_then(|items| items.mark_of(column));
            mark.or(&found.unwrap_or(Mark::Whole))
        })
    }
}

fn listed(relation: &Relation, mut mark: impl FnMut(&str) -> Mark) -> Items {
    let list = relation.columns.iter().map(|(number, name)| Item {
        name: Some(name.clone()),
        mark: mark(name),
        from: Some((relation.oid, *number)),
    });
    Items::listed(list.collect())
}

fn is_view(relation: &Relation) -> bool {
    matches!(
        relation.kind,
        RelationKind::View | RelationKind::Materialized
    ) || relation.opaque
        || !relation.reads.is_empty()
}

/// Whether rows of the relation, or of one of its family, may come from a masked table.
pub(super) fn derives(catalog: &Catalog, rules: &Rules, relation: &Relation) -> bool {
    if relation.opaque {
        return true;
    }
    let family = catalog.family(relation.oid);
    let mut members = family.iter().filter_map(|oid| catalog.relation(*oid));
    if members.all(|member| member.reads.is_empty()) {
        return false;
    }
    catalog.sources(relation.oid).into_iter().any(|oid| {
        !family.contains(&oid)
            && match catalog.relation(oid) {
                Some(source) => source.opaque || rules.names(source),
                // Of the system's own, those that hold samples of values make a view opaque.
                None => oid >= FIRST_NORMAL_OID,
            }
    })
}

/// Follows views into each other.
struct Tracer<'a> {
    catalog: &'a Catalog,
    rules: &'a Rules,
    found: RefCell<HashMap<u32, Arc<Items>>>,
    depth: Cell<usize>,
}

impl Tracer<'_> {
    fn view(&self, view: &Relation) -> Arc<Items> {
        if let Some(found) = self.found.borrow().get(&view.oid) {
            return found.clone();
        }
        // A circle, which PostgreSQL does not allow, ends here.
        let whole = Arc::new(listed(view, |_| Mark::Whole));
        self.found.borrow_mut().insert(view.oid, whole.clone());
        let items = match self.depth.get() < DEPTH {
            true => {
                self.depth.set(self.depth.get() + 1);
                let items = Arc::new(self.trace(view));
                self.depth.set(self.depth.get() - 1);
                items
            }
            false => whole,
        };
        self.found.borrow_mut().insert(view.oid, items.clone());
        items
    }

    fn trace(&self, view: &Relation) -> Items {
        let traced = self.catalog.definition(view.oid).and_then(|query| {
            // What the catalog knows of and the text does not show: operators, casts, samples.
            let unseen = view.opaque && !query.unknown;
            (!unseen).then(|| self.columns(view, query))?
        });
        let otherwise = match derives(self.catalog, self.rules, view) {
            true => Mark::Whole,
            false => Mark::Clean,
        };
        let family = Family::of(self.catalog, view);
        let mut number = 0;
        listed(view, |name| {
            number += 1;
            if let Some(how) = family.how(self.rules, name) {
                return Mark::Plain(how);
            }
            match &traced {
                Some(items) => items
                    .get(number - 1)
                    .map_or(Mark::Whole, |item| item.mark.clone()),
                None => otherwise.clone(),
            }
        })
    }

    fn columns(&self, view: &Relation, query: &Query) -> Option<Vec<Item>> {
        let names: Vec<&str> = view.columns.values().map(|name| &**name).collect();
        let resolved = query.resolve(self)?;
        resolved
            .output
            .align(names.len(), |at| names.get(at).copied())
    }

    fn items(&self, relation: &Relation) -> Items {
        let family = Family::of(self.catalog, relation);
        listed(relation, |name| {
            family.mark(self.rules, name, |view| Some(self.view(view)))
        })
    }
}

impl World for Tracer<'_> {
    fn relation(&self, name: &RelationName) -> Arc<Items> {
        meaning(self.catalog, name, |relation| match is_view(relation) {
            true => self.view(relation),
            false => Arc::new(self.items(relation)),
        })
        // Definitions name what there is; the rest is the system's own, and looked at before.
        .unwrap_or_else(|| Arc::new(Items::any(Mark::Whole)))
    }
}

/// All relations that a name as written may mean.
pub(super) fn named<'a>(
    catalog: &'a Catalog,
    name: &'a RelationName,
) -> impl Iterator<Item = &'a Relation> {
    let all = catalog.named(&name.name);
    all.filter(|relation| match name.schema.as_deref() {
        None => true,
        Some("pg_temp") => relation.schema.starts_with("pg_temp_"),
        Some(schema) => *schema == *relation.schema,
    })
}

/// Whether a name that no relation of the database's own has is one of the system's.
pub(super) fn is_system(catalog: &Catalog, name: &RelationName) -> bool {
    in_system(name) || name.schema.is_none() && catalog.is_system(&name.name)
}

/// What a name stands for; `None` if the catalog should list it and does not.
fn meaning(
    catalog: &Catalog,
    name: &RelationName,
    items: impl Fn(&Relation) -> Arc<Items>,
) -> Option<Arc<Items>> {
    let mut candidates: Vec<_> = named(catalog, name).map(items).collect();
    if candidates.len() <= 1 {
        if let Some(only) = candidates.pop() {
            return Some(only);
        }
        let mark = match stores_samples(name) {
            true => Mark::Whole,
            false => Mark::Clean,
        };
        return is_system(catalog, name).then(|| Arc::new(Items::any(mark)));
    }
    let all = candidates.into_iter().map(Arc::unwrap_or_clone);
    Some(Arc::new(Items::one_of(all.collect())))
}

/// The world of a session's statements.
pub(super) struct Known<'a> {
    pub catalog: &'a Catalog,
    pub rules: &'a Rules,
    pub views: &'a Views,
    pub missing: &'a RefCell<Vec<Missing>>,
    /// Whether a name may mean something that the catalog does not show yet.
    pub unsettled: &'a dyn Fn(&str) -> bool,
}

impl World for Known<'_> {
    fn relation(&self, name: &RelationName) -> Arc<Items> {
        if !in_system(name) && (self.unsettled)(&name.name) {
            return Arc::new(Items::any(Mark::Whole));
        }
        let found = meaning(self.catalog, name, |relation| {
            Arc::new(self.views.items(self.catalog, self.rules, relation))
        });
        found.unwrap_or_else(|| {
            self.missing
                .borrow_mut()
                .push(Missing::Name(name.name.clone()));
            Arc::new(Items::any(Mark::Whole))
        })
    }
}
