//! What an expression is made of.

use pg_raw_parse::Node;
use pg_raw_parse::nodes::{A_Indirection, CaseExpr, ColumnRef, FuncCall, SubLink};
use pg_raw_parse::raw::SubLinkType::{EXISTS_SUBLINK, EXPR_SUBLINK};

use crate::decide::lineage::{Expr, Part, Pick};
use crate::decide::sql::children::{Children, children};
use crate::decide::sql::functions::{is_builtin_operator, returns_record, takes_row};
use crate::decide::sql::walk::names;

use super::{Build, Lost, Result, boxed, ends_in_star};

impl Build<'_> {
    /// Predicates within it are added to `picks`.
    pub(super) fn expr(&mut self, node: Node<'_>, picks: &mut Vec<Pick>) -> Result<Expr> {
        self.size += 1;
        match node {
            // What most long statements are full of.
            Node::A_Const(_) | Node::ParamRef(_) | Node::SetToDefault(_) | Node::None => {
                Ok(Expr::Computed(Vec::new()))
            }
            Node::ColumnRef(n) if !ends_in_star(n.fields().iter()) => {
                Ok(Expr::Column(boxed(names(n.fields().iter()))))
            }
            Node::SubLink(n) if n.sub_link_type == EXPR_SUBLINK => {
                Ok(Expr::Query(Box::new(self.query(n.subselect())?)))
            }
            // The same value in another order.
            Node::CollateClause(n) => match n.arg() {
                Node::ColumnRef(_) => self.expr(n.arg(), picks),
                _ => self.computed(node, picks),
            },
            _ => self.computed(node, picks),
        }
    }

    /// Walks down without recursion, but for queries.
    fn computed(&mut self, node: Node<'_>, picks: &mut Vec<Pick>) -> Result<Expr> {
        let mut parts = Vec::new();
        let mut open = vec![node];
        let mut below = Children::default();
        while let Some(node) = open.pop() {
            match node {
                Node::A_Const(_)
                | Node::ParamRef(_)
                | Node::TypeName(_)
                | Node::GroupingFunc(_)
                | Node::MergeSupportFunc(_)
                | Node::CurrentOfExpr(_)
                | Node::A_Star(_)
                | Node::String(_) => {}
                Node::ColumnRef(n) => parts.push(column(n)),
                Node::SubLink(n) => self.sublink(n, &mut parts, &mut open, picks)?,
                Node::FuncCall(n) => self.call(n, &mut parts, &mut open, picks)?,
                Node::A_Expr(n) => {
                    self.operator(n.name().iter(), &mut parts);
                    open.extend([n.lexpr(), n.rexpr()]);
                }
                Node::CaseExpr(n) => self.case(n, &mut open, picks)?,
                Node::A_Indirection(n) => self.fields(n, &mut parts, &mut open),
                Node::SelectStmt(_)
                | Node::InsertStmt(_)
                | Node::UpdateStmt(_)
                | Node::DeleteStmt(_)
                | Node::MergeStmt(_) => parts.push(Part::Query(Box::new(self.query(node)?))),
                Node::None => {}
                node => {
                    children(node, &mut below).map_err(|_| Lost)?;
                    open.append(&mut below.0);
                }
            }
            self.size += 1;
        }
        Ok(Expr::Computed(parts))
    }

    fn sublink<'a>(
        &mut self,
        n: &'a SubLink,
        parts: &mut Vec<Part>,
        open: &mut Vec<Node<'a>>,
        picks: &mut Vec<Pick>,
    ) -> Result<()> {
        let query = Box::new(self.query(n.subselect())?);
        if n.sub_link_type == EXISTS_SUBLINK {
            // Whether there are rows, not what they hold.
            picks.push(Pick::Inside(Expr::Query(query)));
            return Ok(());
        }
        parts.push(Part::Query(query));
        self.operator(n.oper_name().iter(), parts);
        open.push(n.testexpr());
        Ok(())
    }

    fn call<'a>(
        &mut self,
        n: &'a FuncCall,
        parts: &mut Vec<Part>,
        open: &mut Vec<Node<'a>>,
        picks: &mut Vec<Pick>,
    ) -> Result<()> {
        let called = names(n.funcname().iter());
        let (name, schema) = match *called {
            [.., schema, name] => (name, Some(schema)),
            [name] => (name, None),
            [] => return Err(Lost),
        };
        let effect = self.functions.effect(schema, name, n.args().len());
        let known = effect.known && !effect.opaque && !effect.file;
        if !known {
            self.unknown = true;
            parts.push(Part::Unknown);
        }
        // A number of rows, as `count(*)` is.
        let counts = known && name == "count";
        for argument in n.args().iter() {
            match counts {
                true => self.decides(argument, picks)?,
                false => open.push(argument),
            }
        }
        match n.agg_within_group {
            // What is sorted is what is returned.
            true => open.extend(n.agg_order().iter().map(|sort| sort.node())),
            false => self.sorts(n.agg_order().iter(), picks)?,
        }
        self.decides(n.agg_filter(), picks)?;
        match n.over() {
            Some(window) => self.window(window, picks),
            None => Ok(()),
        }
    }

    /// The condition decides which result it is, and can be read off it.
    fn case<'a>(
        &mut self,
        n: &'a CaseExpr,
        open: &mut Vec<Node<'a>>,
        picks: &mut Vec<Pick>,
    ) -> Result<()> {
        self.decides(n.arg(), picks)?;
        open.extend([n.arg(), n.defresult()]);
        for node in n.args().iter() {
            let Node::CaseWhen(when) = node else {
                return Err(Lost);
            };
            self.decides(when.expr(), picks)?;
            open.extend([when.expr(), when.result()]);
        }
        Ok(())
    }

    /// `(…).f` is a field, or what a function of that name makes of it.
    fn fields<'a>(
        &mut self,
        n: &'a A_Indirection,
        parts: &mut Vec<Part>,
        open: &mut Vec<Node<'a>>,
    ) {
        let record = match n.arg() {
            Node::FuncCall(call) => names(call.funcname().iter())
                .last()
                .is_some_and(|name| returns_record(name)),
            _ => false,
        };
        for field in n.indirection().iter() {
            match field.as_str() {
                Some(name) => {
                    let effect = self.functions.effect(None, name, 1);
                    let known = effect.known && !effect.opaque || takes_row(name);
                    if !record && !known {
                        self.unknown = true;
                        parts.push(Part::Unknown);
                    }
                }
                None => open.push(field),
            }
        }
        open.push(n.arg());
    }

    fn operator<'a>(&mut self, name: impl Iterator<Item = Node<'a>>, parts: &mut Vec<Part>) {
        let parts_of_name = names(name);
        let Some((symbol, schemas)) = parts_of_name.split_last() else {
            return;
        };
        let own = matches!(schemas.last(), None | Some(&"pg_catalog"));
        let word = symbol.bytes().all(|b| b.is_ascii_alphabetic() || b == b' ');
        if !own || !(word || is_builtin_operator(symbol)) {
            self.unknown = true;
            parts.push(Part::Unknown);
        }
    }
}

fn column(n: &ColumnRef) -> Part {
    let fields = boxed(names(n.fields().iter()));
    match ends_in_star(n.fields().iter()) {
        true => Part::All(fields),
        false => Part::Column(fields),
    }
}
