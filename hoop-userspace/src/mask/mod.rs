//! Stage 9: what the agent may see. Pure: no clock, no file, no socket.

mod asking;
mod attribution;
mod catalog;
mod copying;
mod known;
mod loose;
mod masked;
mod masker;
mod report;
mod rewrite;
mod rules;
mod unsettled;
mod value;
mod views;

pub use catalog::{Catalog, FIRST_NORMAL_OID, Relation, RelationKind};
pub use masked::{Masked, Span};
pub use masker::{Masker, Masking};
pub use rules::{HashKey, Rules};

#[cfg(test)]
mod tests;
