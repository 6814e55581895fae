//! What the parser found in a statement, before any policy looks at it.

use serde::Serialize;

/// Everything that is known of one SQL text from the text alone. Shared by every session that
/// sends the same text under the same grammar state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Relations read, CTE names and aliases resolved away. Sorted, without repeats.
    pub reads: Vec<RelationName>,
    /// Relations written, created, altered or dropped. Sorted, without repeats.
    pub writes: Vec<RelationName>,
    /// Functions called, operators' functions excluded. Sorted, without repeats.
    pub functions: Vec<RelationName>,
    /// What rows may come from beyond `reads`: set by EXECUTE, FETCH, CALL, DO, functions that run
    /// text, functions that are not known to be free of table access.
    pub opaque: bool,
}

/// A name as written: schema if given, case folded as PostgreSQL folds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RelationName {
    pub schema: Option<Box<str>>,
    pub name: Box<str>,
}
