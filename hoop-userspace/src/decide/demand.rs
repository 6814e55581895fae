//! What a rule that asks demands: whose approvals, how many, and what they then cover.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `@approvers` of one rule, and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Demand {
    pub rule: String,
    /// SHA-256 of the rule as it is written, in hex: an approval holds for no other wording of it.
    #[serde(default)]
    pub wording: String,
    /// For each of these, one person from any of its groups; nobody stands for two of them.
    pub groups: Vec<Vec<String>>,
    /// How many people in all, from any of the groups.
    pub approvals: u8,
    /// Seconds that an answer is waited for; `None` leaves it to the configuration.
    pub wait: Option<u32>,
    pub scope: Scope,
    /// Seconds from the approval that [`Scope::Fingerprint`] and [`Scope::Resource`] hold.
    pub lasts: u32,
    /// Whoever approves must say why.
    pub reason: bool,
    /// Groups of which one person alone may approve in an emergency, with a reason, loudly.
    pub break_glass: Vec<String>,
}

/// What an approval covers, for the agent that asked and under the rules that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// This statement with these parameters, once.
    Statement,
    /// Statements that differ from it in constants only, for a while.
    Fingerprint,
    /// Everything that asks by the same rules, until the session ends.
    Session,
    /// Everything that asks by the same rules on this resource, for a while.
    Resource,
}

impl Demand {
    /// Whose approval: `dba or oncall, and security`.
    pub fn whose(&self) -> String {
        let clauses: Vec<String> = self.groups.iter().map(|g| g.join(" or ")).collect();
        let whose = clauses.join(", and ");
        match usize::from(self.approvals) {
            n if n > self.groups.len() => format!("{n} people of {whose}"),
            _ => whose,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Statement => "statement",
            Self::Fingerprint => "fingerprint",
            Self::Session => "session",
            Self::Resource => "resource",
        })
    }
}
