//! Stage 4: who is this? A token is a claim until it is verified; [`Identity`] is what is left then.

use std::time::SystemTime;

use serde::Serialize;

use crate::ids::{AgentName, IssuerName};

mod mapping;

pub use mapping::{agent_for, covers};

/// A verified non-human (or, where the mapping says so, human) identity. Only this stage makes one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    agent: AgentName,
    issuer: IssuerName,
    subject: String,
    client_id: String,
    groups: Vec<String>,
    scopes: Vec<String>,
    expires: SystemTime,
    /// False only in observe mode, where an unverified identity passes and is marked.
    verified: bool,
}

impl Identity {
    pub fn agent(&self) -> &AgentName {
        &self.agent
    }
    pub fn issuer(&self) -> &IssuerName {
        &self.issuer
    }
    pub fn subject(&self) -> &str {
        &self.subject
    }
    pub fn client_id(&self) -> &str {
        &self.client_id
    }
    pub fn groups(&self) -> &[String] {
        &self.groups
    }
    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }
    pub fn expires(&self) -> SystemTime {
        self.expires
    }
    pub fn verified(&self) -> bool {
        self.verified
    }
}
