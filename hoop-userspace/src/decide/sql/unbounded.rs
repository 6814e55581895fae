//! Whether a condition lets every row pass: there is none, it holds no column, or it compares a
//! column with itself. What is cleverer than that passes for bounded.

use pg_raw_parse::Node;
use pg_raw_parse::nodes::{A_Expr, ColumnRef, RangeVar, SubLink};
use pg_raw_parse::raw::A_Expr_Kind::{AEXPR_NOT_DISTINCT, AEXPR_OP};
use pg_raw_parse::raw::BoolExprType::{AND_EXPR, OR_EXPR};

use super::children::{Children, children};

pub(super) fn is_unbounded(condition: Node<'_>, target: Option<&RangeVar>) -> bool {
    let alias = target.and_then(RangeVar::alias).and_then(|a| a.aliasname());
    let target = Target(alias.or(target.and_then(RangeVar::relname)));
    // All of these have to hold; one that depends on the row is enough.
    let mut all = vec![condition];
    while let Some(node) = all.pop() {
        match node {
            Node::BoolExpr(n) if n.boolop == AND_EXPR => all.extend(n.args().iter()),
            _ if target.bounds(node) => return false,
            _ => {}
        }
    }
    true
}

/// The name by which the condition speaks of the row.
struct Target<'a>(Option<&'a str>);

impl Target<'_> {
    /// Every alternative depends on the row.
    fn bounds(&self, condition: Node<'_>) -> bool {
        let mut any = vec![condition];
        while let Some(node) = any.pop() {
            match node {
                Node::BoolExpr(n) if n.boolop == OR_EXPR => any.extend(n.args().iter()),
                _ if !self.depends(node) => return false,
                _ => {}
            }
        }
        true
    }

    fn depends(&self, node: Node<'_>) -> bool {
        any_below(node, |node, work| match node {
            Node::ColumnRef(_) | Node::CurrentOfExpr(_) => Some(true),
            Node::A_Expr(n) if self.compares_with_itself(n) => Some(false),
            Node::SubLink(n) => {
                work.push(n.testexpr());
                Some(self.correlated(n))
            }
            _ => None,
        })
    }

    fn compares_with_itself(&self, n: &A_Expr) -> bool {
        let (Node::ColumnRef(left), Node::ColumnRef(right)) = (n.lexpr(), n.rexpr()) else {
            return false;
        };
        matches!(n.kind, AEXPR_OP | AEXPR_NOT_DISTINCT) && self.own(left) == self.own(right)
    }

    /// The column's name, without the target's own.
    fn own<'n>(&self, column: &'n ColumnRef) -> Vec<Option<&'n str>> {
        let mut parts: Vec<_> = column.fields().iter().map(Node::as_str).collect();
        if parts.len() == 2 && self.0.is_some() && parts.first() == Some(&self.0) {
            parts.remove(0);
        }
        parts
    }

    /// A subquery bounds the statement only if it speaks of the target's row: any other is a constant.
    fn correlated(&self, n: &SubLink) -> bool {
        any_below(n.subselect(), |node, _| match node {
            Node::ColumnRef(column) => {
                let mut parts = column.fields().iter().rev().skip(1).map(Node::as_str);
                Some(self.0.is_some() && parts.next() == Some(self.0))
            }
            _ => None,
        })
    }
}

/// Whether `test` says yes anywhere at or below `node`; where it says anything, what is below is
/// left to it.
fn any_below<'a>(
    node: Node<'a>,
    mut test: impl FnMut(Node<'a>, &mut Vec<Node<'a>>) -> Option<bool>,
) -> bool {
    let mut work = vec![node];
    let mut below = Children::default();
    while let Some(node) = work.pop() {
        match test(node, &mut work) {
            Some(true) => return true,
            Some(false) => {}
            None => match children(node, &mut below) {
                Ok(()) => work.append(&mut below.0),
                Err(_) => return false,
            },
        }
    }
    false
}
