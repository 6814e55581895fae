//! From a statement's tree to the skeleton that its lineage is followed by.
//!
//! What is not understood is left out as a whole: a statement without a skeleton is masked by what it
//! reads, not by column.

mod copying;
mod expr;
mod from;
mod named;
mod write;

use pg_raw_parse::nodes::{CommonTableExpr, ResTarget, SelectStmt, SortBy, WindowDef, WithClause};
use pg_raw_parse::raw::SetOperation::{SETOP_NONE, SETOP_UNION};
use pg_raw_parse::{ConstValue, Node};

use crate::decide::lineage::{
    Body, Cte, Expr, Named, Part, Pick, Query, Select, Shown, Shows, Target, Traced,
};

use super::functions::Functions;
use super::walk::names;

pub(super) use copying::{copies_out, form as copy_form};

/// Queries and joins within each other.
const DEPTH: usize = 64;

/// Too deep, or not understood.
struct Lost;

type Result<T> = std::result::Result<T, Lost>;

/// What a statement shows and how, and the size of what is known of it.
pub(super) fn trace(node: Node<'_>, functions: &Functions) -> (Traced, usize) {
    let mut build = Build {
        functions,
        depth: 0,
        size: 0,
        unknown: false,
    };
    let (shows, query) = build.statement(node);
    let query = query.ok().flatten().map(|query| Query {
        unknown: build.unknown,
        ..query
    });
    let named = named(node);
    let traced = Traced {
        shows,
        query,
        named,
    };
    (traced, build.size)
}

/// The cursor or prepared statement that a statement defines or uses.
fn named(node: Node<'_>) -> Option<Named> {
    Some(match node {
        Node::DeclareCursorStmt(n) => Named::Declares(n.portalname()?.into()),
        Node::FetchStmt(n) => Named::Fetches(n.portalname()?.into()),
        Node::PrepareStmt(n) => Named::Prepares(n.name()?.into()),
        Node::ExecuteStmt(n) => Named::Executes(n.name()?.into()),
        _ => return None,
    })
}

struct Build<'f> {
    functions: &'f Functions,
    depth: usize,
    size: usize,
    unknown: bool,
}

impl Build<'_> {
    fn statement(&mut self, node: Node<'_>) -> (Shows, Result<Option<Query>>) {
        let query = |build: &mut Self, node| build.query(node).map(Some);
        match node {
            Node::SelectStmt(n) => {
                let shows = if into(n) { Shows::Nothing } else { Shows::Rows };
                (shows, query(self, node))
            }
            Node::InsertStmt(_)
            | Node::UpdateStmt(_)
            | Node::DeleteStmt(_)
            | Node::MergeStmt(_) => (write::shows(node), query(self, node)),
            Node::CopyStmt(n) => self.copy(n),
            Node::ExplainStmt(n) => (Shows::Other, query(self, n.query())),
            Node::CreateTableAsStmt(n) => (Shows::Nothing, query(self, n.query())),
            Node::ViewStmt(n) => (Shows::Nothing, query(self, n.query())),
            Node::DeclareCursorStmt(n) => (Shows::Nothing, query(self, n.query())),
            Node::PrepareStmt(n) => (Shows::Nothing, query(self, n.query())),
            Node::FetchStmt(n) if n.ismove => (Shows::Nothing, Ok(None)),
            Node::FetchStmt(_)
            | Node::ExecuteStmt(_)
            | Node::CallStmt(_)
            | Node::VariableShowStmt(_) => (Shows::Other, Ok(None)),
            _ => (Shows::Nothing, Ok(None)),
        }
    }

    fn query(&mut self, node: Node<'_>) -> Result<Query> {
        self.deeper(|build| match node {
            Node::SelectStmt(n) => build.select_query(n),
            _ => build.write(node),
        })
    }

    fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.size += 1;
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(Lost);
        }
        let done = work(self);
        self.depth -= 1;
        done
    }

    fn select_query(&mut self, n: &SelectStmt) -> Result<Query> {
        let (with, recursive) = self.with(n.with_clause())?;
        let mut order = Vec::new();
        for sort in n.sort_clause().iter() {
            self.pick(sort.node(), &mut order)?;
        }
        self.decides(n.limit_offset(), &mut order)?;
        self.decides(n.limit_count(), &mut order)?;
        let body = match n.op {
            SETOP_NONE if n.values_lists().is_empty() => Body::Select(self.select(n)?),
            SETOP_NONE => self.values(n)?,
            _ => self.arms(n)?,
        };
        Ok(Query {
            with,
            recursive,
            body,
            order,
            unknown: false,
        })
    }

    fn with(&mut self, clause: Option<&WithClause>) -> Result<(Vec<Cte>, bool)> {
        let Some(clause) = clause else {
            return Ok((Vec::new(), false));
        };
        let ctes: Result<Vec<_>> = clause.ctes().iter().map(|cte| self.cte(cte)).collect();
        Ok((ctes?, clause.recursive))
    }

    fn cte(&mut self, n: &CommonTableExpr) -> Result<Cte> {
        let added = [
            n.search_clause().and_then(|s| s.search_seq_column()),
            n.cycle_clause().and_then(|c| c.cycle_mark_column()),
            n.cycle_clause().and_then(|c| c.cycle_path_column()),
        ];
        Ok(Cte {
            name: n.ctename().ok_or(Lost)?.into(),
            columns: boxed(names(n.aliascolnames().iter())),
            query: self.query(n.ctequery())?,
            added: boxed(added.into_iter().flatten().collect()),
        })
    }

    fn select(&mut self, n: &SelectStmt) -> Result<Select> {
        let mut picks = Vec::new();
        let mut from = Vec::new();
        for node in n.from_clause().iter() {
            from.push(self.from(node, &mut picks)?);
        }
        let mut targets = Vec::new();
        for target in n.target_list().iter() {
            targets.push(self.target(target, &mut picks)?);
        }
        let distinct = n.distinct_clause();
        for node in distinct.iter().filter(|node| !matches!(node, Node::None)) {
            self.pick(node, &mut picks)?;
        }
        self.decides(n.where_clause(), &mut picks)?;
        for node in n.group_clause().iter() {
            self.pick(node, &mut picks)?;
        }
        self.decides(n.having_clause(), &mut picks)?;
        for node in n.window_clause().iter() {
            if let Node::WindowDef(window) = node {
                self.window(window, &mut picks)?;
            }
        }
        Ok(Select {
            from,
            targets,
            picks,
            distinct: distinct.iter().any(|node| matches!(node, Node::None)),
        })
    }

    fn target(&mut self, n: &ResTarget, picks: &mut Vec<Pick>) -> Result<Target> {
        let name = n.name().map(Into::into);
        let shown = match n.val() {
            Node::ColumnRef(column) if ends_in_star(column.fields().iter()) => {
                Shown::All(boxed(names(column.fields().iter())))
            }
            Node::A_Indirection(fields) if ends_in_star(fields.indirection().iter()) => {
                Shown::Fields(self.expr(fields.arg(), picks)?.computed())
            }
            value => Shown::Value(self.expr(value, picks)?),
        };
        self.size += 1;
        Ok(Target {
            name: name.or_else(|| named::name(n.val()).map(Into::into)),
            shown,
        })
    }

    fn values(&mut self, n: &SelectStmt) -> Result<Body> {
        let mut picks = Vec::new();
        let mut columns: Vec<Expr> = Vec::new();
        for (row, node) in n.values_lists().iter().enumerate() {
            let row_values = node.as_node_list().ok_or(Lost)?;
            for (at, value) in row_values.iter().enumerate() {
                let value = self.expr(value, &mut picks)?;
                match columns.get_mut(at) {
                    None if row == 0 => columns.push(value),
                    None => return Err(Lost),
                    Some(column) => column.add(value),
                }
            }
        }
        Ok(Body::Values(columns, picks))
    }

    /// A chain of set operations is as long as it likes.
    fn arms(&mut self, n: &SelectStmt) -> Result<Body> {
        let mut distinct = false;
        let mut arms = Vec::new();
        let mut left = n;
        loop {
            distinct |= !left.all || left.op != SETOP_UNION;
            arms.push(self.deeper(|build| build.select_query(left.rarg().ok_or(Lost)?))?);
            left = left.larg().ok_or(Lost)?;
            if left.op == SETOP_NONE || !is_bare(left) {
                break;
            }
        }
        arms.push(self.deeper(|build| build.select_query(left))?);
        arms.reverse();
        Ok(Body::Arms { arms, distinct })
    }

    /// An expression whose value decides about rows.
    fn decides(&mut self, node: Node<'_>, picks: &mut Vec<Pick>) -> Result<()> {
        if matches!(node, Node::None) {
            return Ok(());
        }
        let value = self.expr(node, picks)?;
        if !value.is_constant() {
            picks.push(Pick::Value(value));
        }
        Ok(())
    }

    /// The same where output columns are in sight, by name or number: ORDER BY, GROUP BY, DISTINCT ON.
    fn pick(&mut self, node: Node<'_>, picks: &mut Vec<Pick>) -> Result<()> {
        match node {
            Node::A_Const(n) => {
                if let Some(ConstValue::Integer(at)) = n.val() {
                    picks.push(Pick::Position(usize::try_from(at).unwrap_or(usize::MAX)));
                }
                Ok(())
            }
            Node::ColumnRef(n) => match *boxed(names(n.fields().iter())) {
                [ref name] if n.fields().len() == 1 => {
                    picks.push(Pick::Name(name.clone()));
                    Ok(())
                }
                _ => self.decides(node, picks),
            },
            Node::GroupingSet(n) => self.deeper(|build| {
                let mut content = n.content().iter();
                content.try_for_each(|node| build.pick(node, picks))
            }),
            // `GROUP BY (a, b)` reads as a row of both.
            Node::RowExpr(n) => self.deeper(|build| {
                let mut args = n.args().iter();
                args.try_for_each(|node| build.pick(node, picks))
            }),
            _ => self.decides(node, picks),
        }
    }

    fn window(&mut self, n: &WindowDef, picks: &mut Vec<Pick>) -> Result<()> {
        for node in n.partition_clause().iter() {
            self.decides(node, picks)?;
        }
        for sort in n.order_clause().iter() {
            self.decides(sort.node(), picks)?;
        }
        self.decides(n.start_offset(), picks)?;
        self.decides(n.end_offset(), picks)
    }

    fn sorts<'a>(
        &mut self,
        sorts: impl Iterator<Item = &'a SortBy>,
        picks: &mut Vec<Pick>,
    ) -> Result<()> {
        for sort in sorts {
            self.decides(sort.node(), picks)?;
        }
        Ok(())
    }
}

impl Expr {
    fn is_constant(&self) -> bool {
        matches!(self, Self::Computed(parts) if parts.is_empty())
    }

    fn parts(self) -> Vec<Part> {
        match self {
            Self::Column(names) => vec![Part::Column(names)],
            Self::Query(query) => vec![Part::Query(query)],
            Self::Computed(parts) => parts,
        }
    }

    fn computed(self) -> Self {
        Self::Computed(self.parts())
    }

    /// A value that is either's.
    fn add(&mut self, other: Self) {
        if other.is_constant() && !matches!(self, Self::Computed(_)) {
            return;
        }
        let mut parts = std::mem::replace(self, Self::Computed(Vec::new())).parts();
        parts.extend(other.parts());
        *self = Self::Computed(parts);
    }
}

/// INTO stands in the leftmost arm, and counts for all of them.
fn into(mut n: &SelectStmt) -> bool {
    while let Some(left) = n.larg() {
        n = left;
    }
    n.into_clause().is_some()
}

/// Nothing but its arms.
fn is_bare(n: &SelectStmt) -> bool {
    n.with_clause().is_none()
        && n.sort_clause().is_empty()
        && matches!(n.limit_count(), Node::None)
        && matches!(n.limit_offset(), Node::None)
}

fn ends_in_star<'a>(fields: impl Iterator<Item = Node<'a>>) -> bool {
    matches!(fields.last(), Some(Node::A_Star(_)))
}

fn boxed(names: Vec<&str>) -> Vec<Box<str>> {
    names.into_iter().map(Into::into).collect()
}
