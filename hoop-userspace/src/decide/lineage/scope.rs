//! What a column's name means where it stands (PostgreSQL manual, "Column References").

use std::sync::Arc;

use super::{Item, Items, Mark};

/// Where and when, not what.
const SYSTEM_COLUMNS: [&str; 6] = ["tableoid", "ctid", "xmin", "xmax", "cmin", "cmax"];

/// What one query's FROM brings into sight.
#[derive(Clone, Debug, Default)]
pub(super) struct Level {
    /// By their names.
    pub sources: Vec<Source>,
    /// For names without a qualifier, and for `*`, in order.
    pub plain: Vec<Arc<Items>>,
}

#[derive(Clone, Debug)]
pub(super) struct Source {
    pub schema: Option<Box<str>>,
    pub name: Box<str>,
    pub items: Arc<Items>,
}

impl Level {
    /// The columns of `*` or, with a name in front, of `name.*`.
    fn star(&self, qualifier: &[Box<str>]) -> Option<Vec<Arc<Items>>> {
        if qualifier.is_empty() {
            return Some(self.plain.clone());
        }
        let found = self.named(qualifier)?;
        Some(vec![found])
    }

    /// What goes by this name; several things of one name are any of them.
    fn named(&self, qualifier: &[Box<str>]) -> Option<Arc<Items>> {
        let (name, schema) = match qualifier {
            [name] => (name, None),
            [.., schema, name] => (name, Some(schema)),
            [] => return None,
        };
        let mut matching = self.sources.iter().filter(|source| {
            source.name == *name
                && schema.is_none_or(|s| source.schema.as_ref().is_none_or(|own| own == s))
        });
        let first = matching.next()?.items.clone();
        let mut more: Vec<_> = matching.map(|source| Items::clone(&source.items)).collect();
        if more.is_empty() {
            return Some(first);
        }
        more.push(Items::clone(&first));
        Some(Arc::new(Items::one_of(more)))
    }

    fn width(&self) -> usize {
        self.plain.iter().map(|items| items.list.len()).sum()
    }
}

/// How many columns are in sight.
pub(super) fn width(levels: &[Level]) -> usize {
    levels.iter().map(Level::width).sum()
}

/// The column that these names mean, the innermost level last. What is not found may be anything.
pub(super) fn column(levels: &[Level], names: &[Box<str>]) -> Item {
    let found = match names {
        [name] => unqualified(levels, name),
        [qualifier @ .., name] => {
            let mut levels = levels.iter().rev();
            let items = levels.find_map(|level| level.named(qualifier));
            items.map(|items| qualified(&items, name))
        }
        [] => None,
    };
    found.unwrap_or_else(|| of(Mark::Whole))
}

/// All columns behind `name.*` or `*` at once.
pub(super) fn star(levels: &[Level], qualifier: &[Box<str>]) -> Option<Vec<Arc<Items>>> {
    match qualifier {
        [] => levels.last()?.star(qualifier),
        _ => levels.iter().rev().find_map(|level| level.star(qualifier)),
    }
}

fn qualified(items: &Items, name: &str) -> Item {
    match items.named(name) {
        (Some(item), None) => item,
        (Some(item), Some(perhaps)) => Item {
            mark: item.mark.or(&perhaps),
            ..Item::default()
        },
        (None, Some(perhaps)) => of(perhaps),
        (None, None) if SYSTEM_COLUMNS.contains(&name) => of(Mark::Clean),
        // `t.f` is `f(t)` where `t` has no column `f`: what that returns is not known.
        (None, None) => of(Mark::Whole),
    }
}

/// `None` where nothing in sight is called so.
pub(super) fn unqualified(levels: &[Level], name: &str) -> Option<Item> {
    let mut perhaps: Option<Mark> = None;
    for level in levels.iter().rev() {
        let mut certain: Option<Item> = None;
        for items in &level.plain {
            let (found, may_be) = items.named(name);
            if let Some(mark) = may_be {
                perhaps = Some(perhaps.unwrap_or_default().or(&mark));
            }
            if let Some(found) = found {
                certain = Some(match certain {
                    None => found,
                    Some(other) => of(other.mark.or(&found.mark)),
                });
            }
        }
        if let Some(item) = certain {
            return Some(match perhaps {
                None => item,
                Some(perhaps) => of(item.mark.or(&perhaps)),
            });
        }
    }
    // No column: the whole row of what is called so.
    let mut levels = levels.iter().rev();
    let row = levels.find_map(|level| level.named(&[name.into()]));
    match (row, perhaps) {
        (None, None) => SYSTEM_COLUMNS.contains(&name).then(|| of(Mark::Clean)),
        (None, Some(perhaps)) => Some(of(perhaps)),
        (Some(row), perhaps) => {
            let row = row.all().computed();
            Some(of(row.or(&perhaps.unwrap_or_default())))
        }
    }
}

fn of(mark: Mark) -> Item {
    Item {
        mark,
        ..Item::default()
    }
}
