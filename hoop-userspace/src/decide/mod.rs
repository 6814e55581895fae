//! Stage 6: may it? Pure: no clock, no file, no socket.

mod cache;
mod cedar;
mod decider;
mod facts;
mod masks;
mod objects;
mod outcome;
mod sql;
mod subject;
mod verdict;
mod words;

pub use cedar::{PACKS, PolicyProblem, SCHEMA};
pub use decider::{DecideError, Decider, Explained};
pub use facts::{
    Access, Action, ColumnName, Copied, Facts, Flag, Object, RelationName, Renamed, Setting,
    Statement, Verb,
};
pub use objects::{KnownFunction, KnownRelation, Objects, Volatility};
pub use sql::keeps_grammar;
pub use subject::Subject;
pub use verdict::{Code, Decided, Permitted, PermittedUnit, Question, Refusal, Retry, Rule};

#[cfg(test)]
mod tests;
