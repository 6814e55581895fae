//! A query and a world together: what each column of the result may carry.

use std::sync::Arc;

use super::join::{either, natural, using};
use super::scope::{self, Level, Source};
use super::{
    Alias, Body, Cte, Expr, From, Item, Items, Join, Mark, Output, Part, Pick, Piece, Query,
    Select, Shown, Target, Write,
};
use crate::decide::RelationName;

/// Columns, names and queries that are looked at before a query is given up as too large.
const BUDGET: usize = 200_000;

/// Queries and joins within each other.
const DEPTH: usize = 160;

/// Columns that a name is compared with at the price of one.
const LOOKED_AT: usize = 8;

/// A recursive query adds to its marks in each round; there are few.
const ROUNDS: usize = 24;

/// What relations there are.
pub trait World {
    /// The columns of what a relation's name, as written, stands for. Not of a WITH query.
    fn relation(&self, name: &RelationName) -> Arc<Items>;
}

/// What was found out about one query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    pub output: Output,
    /// A masked column has a say in which rows there are, how many, or in which order.
    pub picks: bool,
}

impl Query {
    /// `None` where the query is too large to be followed.
    pub fn resolve(&self, world: &dyn World) -> Option<Resolved> {
        let mut resolver = Resolver {
            world,
            levels: Vec::new(),
            ctes: Vec::new(),
            budget: BUDGET,
            depth: 0,
            picks: false,
        };
        let output = resolver.query(self).ok()?;
        Some(Resolved {
            output,
            picks: resolver.picks,
        })
    }
}

/// The query is too large.
struct TooLarge;

type Result<T> = std::result::Result<T, TooLarge>;

struct Resolver<'w> {
    world: &'w dyn World,
    /// What is in sight, the innermost last.
    levels: Vec<Level>,
    ctes: Vec<(Box<str>, Arc<Items>)>,
    budget: usize,
    depth: usize,
    picks: bool,
}

impl Resolver<'_> {
    fn spend(&mut self, cost: usize) -> Result<()> {
        self.budget = self.budget.checked_sub(cost).ok_or(TooLarge)?;
        Ok(())
    }

    fn query(&mut self, query: &Query) -> Result<Output> {
        self.spend(1)?;
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(TooLarge);
        }
        let ctes = self.ctes.len();
        match query.recursive {
            true => self.recursive(&query.with)?,
            false => {
                for cte in &query.with {
                    let items = self.cte(cte)?;
                    self.ctes.push((cte.name.clone(), items));
                }
            }
        }
        let output = self.body(query)?;
        self.ctes.truncate(ctes);
        self.depth -= 1;
        Ok(output)
    }

    fn cte(&mut self, cte: &Cte) -> Result<Arc<Items>> {
        let mut items = self.query(&cte.query)?.into_items().renamed(&cte.columns);
        let all = items.all().computed();
        items.list.extend(cte.added.iter().map(|name| Item {
            name: Some(name.clone()),
            mark: all.clone(),
            from: None,
        }));
        self.spend(items.list.len())?;
        Ok(Arc::new(items))
    }

    /// Each may read all, itself too: rounds until nothing is added.
    fn recursive(&mut self, with: &[Cte]) -> Result<()> {
        let first = self.ctes.len();
        let none = Arc::new(Items::any(Mark::Clean));
        self.ctes
            .extend(with.iter().map(|cte| (cte.name.clone(), none.clone())));
        for _ in 0..ROUNDS {
            let mut changed = false;
            for (at, cte) in (first..).zip(with) {
                let items = self.cte(cte)?;
                if let Some((_, known)) = self.ctes.get_mut(at)
                    && *known != items
                {
                    *known = items;
                    changed = true;
                }
            }
            if !changed {
                return Ok(());
            }
        }
        Err(TooLarge)
    }

    fn body(&mut self, query: &Query) -> Result<Output> {
        match &query.body {
            Body::Select(select) => self.select(select, &query.order),
            Body::Values(columns, picks) => {
                let mut output = Output::default();
                for (at, expr) in (1..).zip(columns) {
                    let mark = self.expr(expr)?.mark;
                    output.0.push(Piece::One(Item {
                        name: Some(format!("column{at}").into()),
                        mark,
                        from: None,
                    }));
                }
                self.picks(picks, &output)?;
                self.picks(&query.order, &output)?;
                Ok(output)
            }
            Body::Arms { arms, distinct } => {
                let mut output: Option<Output> = None;
                for arm in arms {
                    let arm = self.query(arm)?;
                    output = Some(match output {
                        None => arm,
                        Some(output) => either(output, arm),
                    });
                }
                let output = output.unwrap_or_default();
                self.picks |= *distinct && !output.all().is_clean();
                // Only output columns are in sight behind an arm.
                self.levels.push(Level::default());
                self.picks(&query.order, &output)?;
                self.levels.pop();
                Ok(output)
            }
            Body::Write(write) => self.write(write),
        }
    }

    fn select(&mut self, select: &Select, order: &[Pick]) -> Result<Output> {
        self.levels.push(Level::default());
        for from in &select.from {
            self.from(from)?;
        }
        let output = self.targets(&select.targets)?;
        self.picks |= select.distinct && !output.all().is_clean();
        self.picks(&select.picks, &output)?;
        self.picks(order, &output)?;
        self.levels.pop();
        Ok(output)
    }

    fn write(&mut self, write: &Write) -> Result<Output> {
        if let Some(inner) = &write.inner {
            self.query(inner)?;
        }
        self.levels.push(Level::default());
        let (before, after) = match write.sources_first {
            true => (&*write.sources, &[][..]),
            false => (&[][..], &*write.sources),
        };
        for from in before {
            self.from(from)?;
        }
        self.target(&write.target, &write.rows)?;
        for from in after {
            self.from(from)?;
        }
        let output = self.targets(&write.targets)?;
        self.picks(&write.picks, &output)?;
        self.levels.pop();
        Ok(output)
    }

    /// The relation that is written: never a WITH query. `rows` are its rows by other names, which
    /// hide nothing else.
    fn target(&mut self, target: &From, rows: &[Box<str>]) -> Result<()> {
        let From::Relation { name, alias } = target else {
            return Ok(());
        };
        let items = self.world.relation(name);
        self.spend(items.list.len())?;
        let called = alias.as_ref().map_or(&name.name, |alias| &alias.name);
        let named = rows.iter().filter(|row| *row != called).map(|row| Source {
            schema: None,
            name: row.clone(),
            items: items.clone(),
        });
        let named: Vec<_> = named.collect();
        let level = self.level()?;
        level.sources.extend(named);
        add(
            level,
            name.schema.as_deref(),
            &name.name,
            alias.as_ref(),
            items,
        );
        Ok(())
    }

    /// The innermost level. There is one wherever a FROM is looked at.
    fn level(&mut self) -> Result<&mut Level> {
        self.levels.last_mut().ok_or(TooLarge)
    }

    fn from(&mut self, from: &From) -> Result<()> {
        self.spend(1)?;
        match from {
            From::Relation { name, alias } => {
                let cte = match name.schema {
                    None => self.ctes.iter().rev().find(|(n, _)| *n == name.name),
                    Some(_) => None,
                };
                let items = match cte {
                    Some((_, items)) => items.clone(),
                    None => self.world.relation(name),
                };
                self.spend(items.list.len())?;
                let schema = name.schema.as_deref();
                add(self.level()?, schema, &name.name, alias.as_ref(), items);
            }
            From::Query {
                query,
                alias,
                lateral,
            } => {
                // What stands before it is in sight of a LATERAL query alone.
                let hidden = match lateral {
                    true => None,
                    false => self.levels.pop(),
                };
                let output = self.query(query)?;
                self.levels.extend(hidden);
                let items = Arc::new(output.into_items());
                self.spend(items.list.len())?;
                match alias {
                    Some(alias) => add(self.level()?, None, &alias.name, Some(alias), items),
                    None => self.level()?.plain.push(items),
                }
            }
            From::Function {
                value,
                alias,
                columns,
            } => {
                let mark = self.expr(value)?.mark.computed();
                // How many rows it makes may depend on what it is given.
                self.picks |= !mark.is_clean();
                let items = Arc::new(Items::any(mark).renamed(columns));
                match alias {
                    Some(alias) => add(self.level()?, None, &alias.name, Some(alias), items),
                    None => self.level()?.plain.push(items),
                }
            }
            From::Join(join) => self.join(join)?,
        }
        Ok(())
    }

    fn join(&mut self, join: &Join) -> Result<()> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(TooLarge);
        }
        let start = self.level()?.plain.len();
        let sources = self.level()?.sources.len();
        self.from(&join.left)?;
        let middle = self.level()?.plain.len();
        self.from(&join.right)?;
        self.depth -= 1;
        let right: Vec<_> = self.level()?.plain.split_off(middle);
        let left: Vec<_> = self.level()?.plain.split_off(start);
        let (merged, rest) = match join.natural {
            true => natural(&left, &right),
            false => using(&left, &right, &join.using),
        };
        self.picks |= merged.iter().any(|item| !item.mark.is_clean());
        self.spend(merged.len() + rest.list.len())?;
        let mut items = rest;
        items.list.splice(0..0, merged.iter().cloned());
        let items = Arc::new(items);
        let level = self.level()?;
        match &join.alias {
            // Hides what is joined.
            Some(alias) => {
                level.sources.truncate(sources);
                add(level, None, &alias.name, Some(alias), items);
            }
            None => {
                level.plain.push(items);
                level
                    .sources
                    .extend(join.using_alias.iter().map(|name| Source {
                        schema: None,
                        name: name.clone(),
                        items: Arc::new(Items::listed(merged.clone())),
                    }));
            }
        }
        Ok(())
    }

    fn targets(&mut self, targets: &[Target]) -> Result<Output> {
        let mut output = Output::default();
        for target in targets {
            match &target.shown {
                Shown::Value(expr) => {
                    let item = self.expr(expr)?;
                    output.0.push(Piece::One(Item {
                        name: target.name.clone(),
                        ..item
                    }));
                }
                Shown::All(qualifier) => match scope::star(&self.levels, qualifier) {
                    Some(found) => {
                        for items in found {
                            self.spend(items.list.len())?;
                            output.0.extend(Output::of(Items::clone(&items)).0);
                        }
                    }
                    None => output.0.push(Piece::Many(Items::any(Mark::Whole))),
                },
                Shown::Fields(expr) => {
                    let mark = self.expr(expr)?.mark.computed();
                    output.0.push(Piece::Many(Items::any(mark)));
                }
            }
        }
        self.spend(output.0.len())?;
        Ok(output)
    }

    fn expr(&mut self, expr: &Expr) -> Result<Item> {
        self.spend(1)?;
        match expr {
            Expr::Column(names) => self.column(names),
            Expr::Query(query) => {
                let output = self.query(query)?;
                Ok(match &*output.0 {
                    [Piece::One(item)] => Item {
                        from: None,
                        ..item.clone()
                    },
                    _ => Item {
                        mark: output.all(),
                        ..Item::default()
                    },
                })
            }
            Expr::Computed(parts) => {
                let mut mark = Mark::Clean;
                for part in parts {
                    mark = mark.or(&self.part(part)?);
                }
                Ok(Item {
                    mark: mark.computed(),
                    ..Item::default()
                })
            }
        }
    }

    fn column(&mut self, names: &[Box<str>]) -> Result<Item> {
        self.spend(scope::width(&self.levels) / LOOKED_AT)?;
        Ok(scope::column(&self.levels, names))
    }

    fn part(&mut self, part: &Part) -> Result<Mark> {
        self.spend(1)?;
        Ok(match part {
            Part::Column(names) => self.column(names)?.mark,
            Part::All(qualifier) => match scope::star(&self.levels, qualifier) {
                Some(found) => found.iter().fold(Mark::Clean, |all, i| all.or(&i.all())),
                None => Mark::Whole,
            },
            Part::Query(query) => self.query(query)?.all(),
            Part::Unknown => Mark::Whole,
        })
    }

    fn picks(&mut self, picks: &[Pick], output: &Output) -> Result<()> {
        for pick in picks {
            let mark = match pick {
                Pick::Value(expr) => self.expr(expr)?.mark,
                Pick::Inside(expr) => {
                    self.expr(expr)?;
                    Mark::Clean
                }
                Pick::Name(name) => {
                    // Too cautious where both are there and differ, never the other way.
                    let shown = output.clone().into_items().mark_of(name);
                    let column = scope::unqualified(&self.levels, name).map(|item| item.mark);
                    match (shown, column) {
                        (Some(shown), Some(column)) => shown.or(&column),
                        (Some(mark), None) | (None, Some(mark)) => mark,
                        (None, None) => Mark::Whole,
                    }
                }
                Pick::Position(at) => match at.checked_sub(1).and_then(|at| output.0.get(at)) {
                    Some(Piece::One(item)) if output.is_listed() => item.mark.clone(),
                    _ => output.all(),
                },
            };
            self.picks |= !mark.is_clean();
        }
        Ok(())
    }
}

/// Brings something into sight by its name.
fn add(
    level: &mut Level,
    schema: Option<&str>,
    name: &str,
    alias: Option<&Alias>,
    items: Arc<Items>,
) {
    let (schema, name, items) = match alias {
        Some(alias) if alias.columns.is_empty() => (None, &*alias.name, items),
        Some(alias) => {
            let renamed = Arc::unwrap_or_clone(items).renamed(&alias.columns);
            (None, &*alias.name, Arc::new(renamed))
        }
        None => (schema.map(Into::into), name, items),
    };
    level.sources.push(Source {
        schema,
        name: name.into(),
        items: items.clone(),
    });
    level.plain.push(items);
}
