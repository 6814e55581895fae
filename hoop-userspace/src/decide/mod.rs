//! Stage 6: may it? Pure: no clock, no file, no socket.

mod facts;
mod verdict;

pub use facts::{Facts, RelationName};

pub use verdict::{Code, Decided, Permitted, PermittedUnit, Question, Refusal, Retry, Rule};
