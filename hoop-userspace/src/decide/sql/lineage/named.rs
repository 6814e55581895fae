//! What PostgreSQL calls a column that the text does not name (its `FigureColname`).

use pg_raw_parse::Node;
use pg_raw_parse::raw::A_Expr_Kind::AEXPR_NULLIF;
use pg_raw_parse::raw::SubLinkType::{ARRAY_SUBLINK, EXISTS_SUBLINK};

/// What an expression without any name is called.
const NONE: &str = "?column?";

/// `None` where it is not certain.
pub(super) fn name(node: Node<'_>) -> Option<&str> {
    match node {
        Node::ColumnRef(n) => n.fields().iter().next_back()?.as_str(),
        Node::FuncCall(n) => n.funcname().iter().next_back()?.as_str(),
        Node::A_Indirection(n) => n.indirection().iter().rev().find_map(Node::as_str),
        Node::CollateClause(n) => name(n.arg()),
        Node::A_Expr(n) if n.kind == AEXPR_NULLIF => Some("nullif"),
        // A cast keeps a name, and gives its own where there is none.
        Node::TypeCast(n) => name(n.arg()).filter(|_| {
            matches!(
                n.arg(),
                Node::ColumnRef(_) | Node::FuncCall(_) | Node::A_Indirection(_)
            )
        }),
        Node::CoalesceExpr(_) => Some("coalesce"),
        Node::A_ArrayExpr(_) => Some("array"),
        Node::RowExpr(_) => Some("row"),
        Node::GroupingFunc(_) => Some("grouping"),
        Node::SubLink(n) if n.sub_link_type == EXISTS_SUBLINK => Some("exists"),
        Node::SubLink(n) if n.sub_link_type == ARRAY_SUBLINK => Some("array"),
        Node::A_Expr(_)
        | Node::BoolExpr(_)
        | Node::NullTest(_)
        | Node::BooleanTest(_)
        | Node::A_Const(_)
        | Node::ParamRef(_) => Some(NONE),
        _ => None,
    }
}
