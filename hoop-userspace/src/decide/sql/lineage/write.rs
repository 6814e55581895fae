//! INSERT, UPDATE, DELETE and MERGE: what they show by RETURNING, and what picks the rows.

use pg_raw_parse::Node;
use pg_raw_parse::nodes::{InsertStmt, MergeStmt, RangeVar, ReturningClause, ReturningOption};

use crate::decide::lineage::{Body, Expr, From, Pick, Query, Shows, Target, Write};
use crate::decide::sql::walk::relation_name;

use super::from::alias;
use super::{Build, Lost, Result};

/// Rows, if there is a RETURNING.
pub(super) fn shows(node: Node<'_>) -> Shows {
    let returning = match node {
        Node::InsertStmt(n) => n.returning_clause(),
        Node::UpdateStmt(n) => n.returning_clause(),
        Node::DeleteStmt(n) => n.returning_clause(),
        Node::MergeStmt(n) => n.returning_clause(),
        _ => None,
    };
    match returning {
        Some(_) => Shows::Rows,
        None => Shows::Nothing,
    }
}

impl Build<'_> {
    pub(super) fn write(&mut self, node: Node<'_>) -> Result<Query> {
        let (with, returning) = match node {
            Node::InsertStmt(n) => (n.with_clause(), n.returning_clause()),
            Node::UpdateStmt(n) => (n.with_clause(), n.returning_clause()),
            Node::DeleteStmt(n) => (n.with_clause(), n.returning_clause()),
            Node::MergeStmt(n) => (n.with_clause(), n.returning_clause()),
            _ => return Err(Lost),
        };
        let (with, recursive) = self.with(with)?;
        let mut write = match node {
            Node::InsertStmt(n) => self.insert(n)?,
            Node::UpdateStmt(n) => {
                let mut write = target(n.relation())?;
                for set in n.target_list().iter() {
                    self.stores(set.val(), &mut write.picks)?;
                }
                self.sources(n.from_clause().iter(), &mut write)?;
                self.decides(n.where_clause(), &mut write.picks)?;
                write
            }
            Node::DeleteStmt(n) => {
                let mut write = target(n.relation())?;
                self.sources(n.using_clause().iter(), &mut write)?;
                self.decides(n.where_clause(), &mut write.picks)?;
                write
            }
            Node::MergeStmt(n) => self.merge(n)?,
            _ => return Err(Lost),
        };
        if let Some(clause) = returning {
            self.returning(clause, &mut write)?;
        }
        Ok(Query {
            with,
            recursive,
            body: Body::Write(Box::new(write)),
            ..Query::default()
        })
    }

    fn insert(&mut self, n: &InsertStmt) -> Result<Write> {
        let mut write = target(n.relation())?;
        if !matches!(n.select_stmt(), Node::None) {
            write.inner = Some(self.query(n.select_stmt())?);
        }
        if let Some(conflict) = n.on_conflict_clause() {
            write.rows.push("excluded".into());
            for set in conflict.target_list().iter() {
                self.stores(set.val(), &mut write.picks)?;
            }
            self.decides(conflict.where_clause(), &mut write.picks)?;
        }
        Ok(write)
    }

    fn merge(&mut self, n: &MergeStmt) -> Result<Write> {
        let mut write = target(n.relation())?;
        write.sources_first = true;
        self.sources(std::iter::once(n.source_relation()), &mut write)?;
        self.decides(n.join_condition(), &mut write.picks)?;
        for when in n.merge_when_clauses().iter() {
            self.decides(when.condition(), &mut write.picks)?;
            for node in when.target_list().iter() {
                if let Node::ResTarget(set) = node {
                    self.stores(set.val(), &mut write.picks)?;
                }
            }
            for value in when.values().iter() {
                self.stores(value, &mut write.picks)?;
            }
        }
        Ok(write)
    }

    fn sources<'a>(
        &mut self,
        nodes: impl Iterator<Item = Node<'a>>,
        write: &mut Write,
    ) -> Result<()> {
        for node in nodes {
            let from = self.from(node, &mut write.picks)?;
            write.sources.push(from);
        }
        Ok(())
    }

    /// A value that is stored shows nowhere; predicates within it count.
    fn stores(&mut self, node: Node<'_>, picks: &mut Vec<Pick>) -> Result<()> {
        let node = match node {
            Node::MultiAssignRef(n) => n.source(),
            node => node,
        };
        let value = self.expr(node, picks)?;
        if matches!(value, Expr::Query(_)) || !value.is_constant() {
            picks.push(Pick::Inside(value));
        }
        Ok(())
    }

    fn returning(&mut self, clause: &ReturningClause, write: &mut Write) -> Result<()> {
        let options = clause.options().iter().filter_map(ReturningOption::value);
        let rows = ["old", "new"].into_iter().chain(options);
        write.rows.extend(rows.map(Into::into));
        for node in clause.exprs().iter() {
            let Node::ResTarget(n) = node else {
                return Err(Lost);
            };
            let target: Target = self.target(n, &mut write.picks)?;
            write.targets.push(target);
        }
        Ok(())
    }
}

fn target(relation: Option<&RangeVar>) -> Result<Write> {
    let relation = relation.ok_or(Lost)?;
    Ok(Write {
        target: From::Relation {
            name: relation_name(relation),
            alias: relation.alias().and_then(alias),
        },
        sources_first: false,
        sources: Vec::new(),
        rows: Vec::new(),
        inner: None,
        picks: Vec::new(),
        targets: Vec::new(),
    })
}
