//! Stage 4: who is this? A token is a claim until it is verified; [`Identity`] is what is left then.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::config::{Agent, Kind};
use crate::ids::{AgentName, IssuerName};
use crate::record::IdentityNote;

mod ask;
mod discovery;
mod error;
pub mod events;
mod exec;
mod http;
mod jwt;
mod keys;
mod mapping;
mod metrics;
mod object;
mod obtain;
mod pace;
mod standing;
mod suspension;
pub mod token;
mod verifier;

pub use error::{IdentityError, Quoted, Reason};
pub(crate) use http::{chain, https};
pub use jwt::ALGORITHMS;
pub use mapping::{
    Choice, Look, Rule, Ruled, agent_for, choose, covers, groups, instance_of, mode_for,
};
pub use metrics::{Counts, Metrics};
pub use obtain::SigningKey;
pub use standing::{Bound, Occasion, Standing, TOLERANCE};
pub use suspension::{By, Suspension, Suspensions};
pub use verifier::{Proved, Verifier, VerifierError};

#[cfg(test)]
mod tests;

/// Some centuries from now; `SystemTime` has no last moment that all platforms share.
const NEVER: Duration = Duration::from_secs(1 << 34);

/// A verified non-human (or, where the mapping says so, human) identity. Only this stage makes one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    agent: AgentName,
    issuer: IssuerName,
    kind: Kind,
    subject: String,
    client_id: String,
    groups: Vec<String>,
    scopes: Vec<String>,
    expires: SystemTime,
    /// False only in observe mode, where an unverified identity passes and is marked.
    verified: bool,
}

impl Identity {
    /// For observe mode, where who connects passes unproved and the recording says so. It has no
    /// client id, group or scope that a policy could take for proved, and never expires.
    pub fn unverified(agent: &Agent) -> Self {
        Self {
            agent: agent.name.clone(),
            issuer: agent.issuer.clone().unwrap_or_else(|| "none".into()),
            kind: agent.kind,
            subject: String::new(),
            client_id: String::new(),
            groups: Vec::new(),
            scopes: Vec::new(),
            expires: SystemTime::UNIX_EPOCH + NEVER,
            verified: false,
        }
    }

    /// For `hoop policy test`: the agent as if its token had been verified and listed these
    /// groups. No session ever runs under it.
    pub(crate) fn supposed(agent: &Agent, groups: Vec<String>) -> Self {
        Self {
            client_id: agent.client_id.clone().unwrap_or_default(),
            subject: agent.client_id.clone().unwrap_or_default(),
            groups,
            verified: true,
            ..Self::unverified(agent)
        }
    }

    /// For deciding again what was recorded: who it was then. No session ever runs under it.
    pub(crate) fn recorded(name: &str, note: &IdentityNote, agent: Option<&Agent>) -> Self {
        let nobody = Self {
            agent: name.into(),
            issuer: agent
                .and_then(|agent| agent.issuer.clone())
                .unwrap_or_else(|| "none".into()),
            kind: agent.map(|agent| agent.kind).unwrap_or_default(),
            subject: String::new(),
            client_id: String::new(),
            groups: Vec::new(),
            scopes: Vec::new(),
            expires: SystemTime::UNIX_EPOCH + NEVER,
            verified: false,
        };
        match note {
            IdentityNote::Unverified { .. } => nobody,
            IdentityNote::Verified {
                kind,
                issuer,
                subject,
                client_id,
                groups,
                scopes,
                ..
            } => Self {
                issuer: issuer.as_str().into(),
                kind: *kind,
                subject: subject.clone(),
                client_id: client_id.clone(),
                groups: groups.clone(),
                scopes: scopes.clone(),
                verified: true,
                ..nobody
            },
        }
    }

    /// The same under the groups and scopes of a renewed token.
    pub(crate) fn renewed_as(&self, groups: Vec<String>, scopes: Vec<String>) -> Self {
        Self {
            groups,
            scopes,
            ..self.clone()
        }
    }

    /// A verified identity for the tests of later stages.
    #[cfg(test)]
    pub(crate) fn for_test(agent: &str, groups: &[&str]) -> Self {
        Self {
            agent: agent.into(),
            issuer: "test".into(),
            kind: Kind::Service,
            subject: agent.to_owned(),
            client_id: agent.to_owned(),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            scopes: Vec::new(),
            expires: SystemTime::UNIX_EPOCH + NEVER,
            verified: true,
        }
    }

    pub fn agent(&self) -> &AgentName {
        &self.agent
    }
    pub fn issuer(&self) -> &IssuerName {
        &self.issuer
    }
    /// Whether it is a service account or a human user.
    pub fn kind(&self) -> Kind {
        self.kind
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
