//! Column lineage: whose values each column of a result may carry.
//!
//! The parser makes a [`Query`] of a statement: its skeleton, without constants, so that texts which
//! differ in these alone share one. What a name means is not in it; a [`World`] says that, and
//! [`Query::resolve`] puts both together. The masks have a world of the database's own catalog, the policies
//! one of the masks' patterns alone.

mod copy;
mod items;
mod join;
mod resolve;
mod scope;
mod shape;

pub use copy::CopyForm;
pub use items::{Item, Items, Mark, Output, Piece};
pub use resolve::World;
pub use shape::{
    Alias, Body, Cte, Expr, From, Join, Lineage, Named, Part, Pick, Query, Select, Shown, Shows,
    Target, Traced, Write,
};

#[cfg(test)]
mod tests;
