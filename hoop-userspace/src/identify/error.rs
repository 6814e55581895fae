//! Why somebody is not who they say. The texts name the agent and the next step, never the token;
//! what they quote of it is bounded and escaped, since its bearer chose it.

use crate::ids::AgentName;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("agent `{agent}` is not identified: {reason}")]
pub struct IdentityError {
    pub agent: AgentName,
    pub reason: Reason,
}

impl IdentityError {
    /// Whether the same token may pass in a moment, because only the issuer could not be asked.
    pub fn is_passing(&self) -> bool {
        matches!(
            self.reason,
            Reason::Unreachable(_) | Reason::NoKeys(_) | Reason::NotObtained(_)
        )
    }
}

/// One variant per check, in the order of the checks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("it has no token: {0}")]
    NoToken(String),
    #[error("no token can be obtained for it: {0}")]
    NotObtained(String),
    #[error(
        "its configuration lacks issuer, client_id and token: add them, or use mode = \"observe\""
    )]
    NotConfigured,
    #[error(
        "what was found is no access token in JWT form ({0}): look at what the token source holds"
    )]
    Malformed(&'static str),
    #[error(
        "the token is signed with {0}, which is never accepted: let the issuer sign with RS256, PS256, ES256 or EdDSA"
    )]
    Algorithm(Quoted),
    #[error("the token is signed with {found}; `algorithms` in [issuer] lists {listed}")]
    AlgorithmNotListed { found: Quoted, listed: String },
    #[error(
        "the token demands extensions (`crit`) that hoop does not know: let the issuer leave them out"
    )]
    Critical,
    #[error("the token is of type {0}: give an access token, not another kind")]
    Type(Quoted),
    #[error("the issuer's keys cannot be had: {0}")]
    NoKeys(String),
    #[error(
        "the token names no key (`kid`) and the issuer has several: let the issuer name the key"
    )]
    KeyUnnamed,
    #[error(
        "{issuer} has no key {kid} that fits: is the token from this issuer, and newer than its last change of keys?"
    )]
    UnknownKey { issuer: String, kid: Quoted },
    #[error("the token's signature is wrong: it was altered, or somebody else signed it")]
    Signature,
    #[error("the token's claim `{claim}` is {problem}")]
    Claim {
        claim: String,
        problem: &'static str,
    },
    #[error("the token was issued by {found}, not by {expected}: compare `url` in [issuer]")]
    Issuer { found: Quoted, expected: String },
    #[error("the token is for {found}, not for {expected}: compare `audience` in [issuer]")]
    Audience { found: Quoted, expected: String },
    #[error("the token expired {0} s ago: renew it in its source")]
    Expired(u64),
    #[error(
        "the token is valid only in {0} s (`{1}`): compare this host's clock with the issuer's"
    )]
    NotYet(u64, &'static str),
    #[error(
        "the token belongs to client {found}, not to {expected}: give the agent its own token, or correct its client_id"
    )]
    Client { found: Quoted, expected: String },
    #[error("the issuer cannot be asked whether its token still holds: {0}")]
    Unreachable(String),
    #[error(
        "its token was revoked: the issuer calls it inactive before its end; let the issuer allow it again, then run `hoop agent resume`"
    )]
    Inactive,
    #[error("it is suspended since {since}: {why}; `hoop agent resume` lets it go on")]
    Suspended { since: String, why: String },
    #[error("its cgroup names no instance where the pattern has its `*`")]
    NoInstance,
    #[error(
        "the cgroup is of instance {expected}, and the token's claim `{claim}` says {found}: give each instance its own token"
    )]
    Instance {
        claim: String,
        found: Quoted,
        expected: Quoted,
    },
    #[error(
        "the token's claim `{claim}` is {found}, not `{expected}`: compare `required_claims` in [[agent]]"
    )]
    Required {
        claim: String,
        found: Quoted,
        expected: String,
    },
}

/// Text from a token: shortened, control characters escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quoted(String);

impl Quoted {
    const LONGEST: usize = 80;

    pub(super) fn new(text: &str) -> Self {
        let mut short: String = text.chars().take(Self::LONGEST).collect();
        if short.len() < text.len() {
            short.push('…');
        }
        Self(short)
    }
}

impl std::fmt::Display for Quoted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
