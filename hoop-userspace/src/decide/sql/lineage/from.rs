//! What a query selects from.

use pg_raw_parse::Node;
use pg_raw_parse::nodes::{Alias as AliasNode, JoinExpr, RangeFunction};

use crate::decide::lineage::{Alias, Expr, From, Join, Pick};
use crate::decide::sql::walk::{names, relation_name};

use super::{Build, Lost, Result, boxed};

impl Build<'_> {
    /// Join conditions are added to `picks`.
    pub(super) fn from(&mut self, node: Node<'_>, picks: &mut Vec<Pick>) -> Result<From> {
        self.size += 1;
        match node {
            Node::RangeVar(n) => Ok(From::Relation {
                name: relation_name(n),
                alias: n.alias().and_then(alias),
            }),
            Node::RangeSubselect(n) => Ok(From::Query {
                query: Box::new(self.query(n.subquery())?),
                alias: n.alias().and_then(alias),
                lateral: n.lateral,
            }),
            Node::RangeFunction(n) => self.function(n, picks),
            Node::JoinExpr(n) => self.deeper(|build| build.join(n, picks)),
            Node::RangeTableSample(n) => {
                for argument in n.args().iter() {
                    self.decides(argument, picks)?;
                }
                self.decides(n.repeatable(), picks)?;
                self.from(n.relation(), picks)
            }
            Node::RangeTableFunc(n) => Ok(From::Function {
                value: self.expr(node, picks)?,
                alias: n.alias().and_then(alias),
                columns: Vec::new(),
            }),
            Node::JsonTable(n) => Ok(From::Function {
                value: self.expr(node, picks)?,
                alias: n.alias().and_then(alias),
                columns: Vec::new(),
            }),
            _ => Err(Lost),
        }
    }

    fn function(&mut self, n: &RangeFunction, picks: &mut Vec<Pick>) -> Result<From> {
        let mut parts = Vec::new();
        let mut columns = Vec::new();
        let mut called = None;
        for one in n.functions().iter() {
            // A function and, in ROWS FROM, its column definitions.
            let mut pair = one.as_node_list().ok_or(Lost)?.iter();
            let function = pair.next().ok_or(Lost)?;
            if let Node::FuncCall(call) = function {
                called = names(call.funcname().iter()).last().copied();
            }
            parts.extend(self.expr(function, picks)?.parts());
        }
        for column in n.coldeflist().iter() {
            columns.push(column.colname().ok_or(Lost)?.into());
        }
        let given = n.alias().and_then(alias);
        let own = called.filter(|_| !n.is_rowsfrom).map(|name| Alias {
            name: name.into(),
            columns: Vec::new(),
        });
        Ok(From::Function {
            value: Expr::Computed(parts),
            alias: given.or(own),
            columns,
        })
    }

    fn join(&mut self, n: &JoinExpr, picks: &mut Vec<Pick>) -> Result<From> {
        let left = self.from(n.larg(), picks)?;
        let right = self.from(n.rarg(), picks)?;
        self.decides(n.quals(), picks)?;
        let using = n.using_clause().iter().filter_map(|name| name.sval());
        let using_alias = n.join_using_alias().and_then(AliasNode::aliasname);
        Ok(From::Join(Box::new(Join {
            left,
            right,
            using: using.map(Into::into).collect(),
            natural: n.is_natural,
            alias: n.alias().and_then(alias),
            using_alias: using_alias.map(Into::into),
        })))
    }
}

pub(super) fn alias(n: &AliasNode) -> Option<Alias> {
    Some(Alias {
        name: n.aliasname()?.into(),
        columns: boxed(names(n.colnames().iter())),
    })
}
