//! What the keeper tells the worker: the bundle of configuration at start and reload, and one
//! [`Handover`] beside each socket. The two processes share a binary, so the encoding
//! (postcard over a Unix seqpacket socket) needs no versions.

use std::net::SocketAddr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::attribute::Process;
use crate::config::Mode;
use crate::ids::AgentName;

/// One captured connection; its socket travels beside it as SCM_RIGHTS.
#[derive(Debug, Serialize, Deserialize)]
pub struct Handover {
    /// Counts the keeper's accepted connections.
    pub connection: u64,
    pub accepted: SystemTime,
    /// The mapping that matched the cgroup; `None` if none did, which is refused and recorded.
    pub agent: Option<AgentName>,
    pub mode: Mode,
    /// Where the client believes it is connected to.
    pub destination: SocketAddr,
    /// Names that this host's DNS answers gave for that address lately. They label, never grant.
    pub observed: Vec<String>,
    pub process: Process,
    pub token: TokenText,
}

/// The agent's token as the keeper found it: a claim until `identify` has verified it.
///
/// Deliberately not [`crate::secret::Secret`]: this is the wire form. `identify` wraps it at once.
#[derive(Serialize, Deserialize)]
pub enum TokenText {
    Found(String),
    /// Why there is none, in words for the operator.
    Missing(String),
}

impl std::fmt::Debug for TokenText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Found(_) => f.write_str("Found(…)"),
            Self::Missing(why) => write!(f, "Missing({why:?})"),
        }
    }
}
