//! What a session and its agent have done lately, for rules about what is unusual.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Facts, RelationName};

/// Counted only while a rule speaks of it; otherwise nothing has happened.
#[derive(Clone, Debug, Default)]
pub struct Activity {
    pub session: Tally,
    /// Of all sessions of the agent on this host.
    pub agent: Tally,
}

#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests that ran something in the last minute.
    pub statements: u64,
    /// Rows that it was sent in the last hour, and bytes of answers.
    pub rows: u64,
    pub bytes: u64,
    /// Refusals since something was last permitted.
    pub refusals: u64,
    /// Tables that it has read or written before.
    pub seen: Arc<BTreeSet<RelationName>>,
}

impl Tally {
    /// The tables of these facts that are new to it.
    pub(in crate::decide) fn new_tables<'f>(
        &self,
        facts: &'f Facts,
    ) -> impl Iterator<Item = &'f RelationName> {
        let tables = facts.reads.iter().chain(&facts.writes);
        tables.filter(|table| !self.seen.contains(*table))
    }
}
