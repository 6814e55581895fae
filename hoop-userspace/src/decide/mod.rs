//! Stage 6: may it? Pure: no clock, no file, no socket.

mod activity;
mod cache;
mod cedar;
mod decider;
mod demand;
mod exec;
mod facts;
mod fastpath;
mod kubernetes;
mod lineage;
mod masks;
mod objects;
mod outcome;
mod question;
mod shell;
mod sql;
mod ssh;
mod subject;
mod unseen;
mod verdict;
mod words;

pub use activity::{Activity, Tally};
pub use cedar::{PACKS, PolicyProblem, SCHEMA};
pub use decider::{DecideError, Decider, Explained};
pub use demand::{Demand, Scope};
pub use exec::ExplainedExec;
pub use facts::{
    Access, Action, ColumnName, Copied, Facts, Flag, Object, RelationName, Renamed, Setting,
    Statement, Verb,
};
pub use kubernetes::{ExplainedKubernetes, KubernetesAction, KubernetesFacts, KubernetesFlag};
pub use lineage::{CopyForm, Item, Items, Mark, Named, Output, Query, World};
pub use objects::{KnownFunction, KnownRelation, Objects, Volatility};
pub use question::{Question, Waiting};
pub use shell::{FileAccess, FileVerb, ShellCommand, ShellFacts, ShellFlag, Stdin};
pub use sql::{Definitions, keeps_grammar, outline};
pub use subject::{Derived, Subject};
pub use unseen::Unseen;
pub use verdict::{Code, Decided, Permitted, PermittedUnit, Refusal, Retry, Rule};

#[cfg(test)]
mod tests;
