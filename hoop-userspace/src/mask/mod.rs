//! Stage 9: what the agent may see. Pure: no clock, no file, no socket.

mod answers;
mod asking;
mod attribution;
mod catalog;
mod copying;
pub mod detect;
mod document;
mod known;
mod kubernetes;
mod loose;
mod masked;
mod masker;
mod named;
mod path;
mod report;
mod rewrite;
mod rules;
mod sensing;
mod tuples;
mod unsettled;
mod value;
mod views;

pub use catalog::{Catalog, FIRST_NORMAL_OID, Relation, RelationKind};
pub use detect::{
    Detector, Kind as DetectorKind, OwnDetector, OwnWhat, Pattern, Validate, WordList,
};
pub use kubernetes::{
    After, Change, ChangeKind, Foreseen, KubernetesMasks, ListMasking, MAX_COMPARED, Place, Raw,
    Shown, Unmaskable, finds_masked,
};
pub use masked::{Masked, Span};
pub use masker::{Masker, Masking};
pub use path::JsonPath;
pub use rules::{HashKey, Rules};
pub use sensing::Detection;

#[cfg(test)]
mod tests;
