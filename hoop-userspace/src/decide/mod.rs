//! Stage 6: may it? Pure: no clock, no file, no socket.

mod decider;
mod facts;
mod subject;
mod verdict;

pub use decider::{DecideError, Decider};
pub use facts::{
    Access, Action, ColumnName, Copied, Facts, Flag, Object, RelationName, Setting, Statement, Verb,
};
pub use subject::Subject;
pub use verdict::{Code, Decided, Permitted, PermittedUnit, Question, Refusal, Retry, Rule};
