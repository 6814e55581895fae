//! What the keeper tells the worker: the bundle of configuration at start and reload, and one
//! [`Handover`] beside each socket.
//!
//! The two may be of two builds: after an upgrade the worker before goes on with its sessions under
//! the keeper after. So the messages are JSON over a Unix seqpacket socket, by names that are kept.
//! A field that is added later has a default (`#[serde(default)]`), one that is not known is passed
//! over, and a message that is not known is logged and left; a field or a message is never given
//! another meaning. `golden.jsonl` holds what was once said, and a test that it is still understood.

mod channel;
pub mod console;
#[cfg(test)]
mod golden_tests;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::accept::Namespace;
use crate::ask::{Heard, ToDesk};
use crate::attribute::Process;
use crate::config::{Kind, Mode};
use crate::identify::{Counts, Suspension, Suspensions};
use crate::ids::{AgentName, IssuerName, ResourceName, SessionId};

pub use channel::{Channel, ChannelError, MAX_MESSAGE, Side, packed_length, pair};

/// What the keeper says.
#[derive(Serialize, Deserialize)]
pub enum ToWorker {
    /// The configuration, at first and at every reload: [`crate::config::Bundle`] in its wire form.
    Configure {
        epoch: u64,
        #[serde(with = "base64_text")]
        bundle: Vec<u8>,
    },
    /// A connection to take over; its socket is beside the message.
    Connection(Box<Handover>),
    /// A connection of the console's process, which passes on what issuers report; its socket is
    /// beside the message.
    Console,
    /// Asks for [`FromWorker::Sessions`].
    ListSessions,
    /// Ends a session; `reason` is shown and recorded.
    Kill { session: SessionId, reason: String },
    /// Holds a session's client, or lets it go on.
    Freeze { session: SessionId, freeze: Freeze },
    /// Everybody who is suspended; sent before the first configuration and at every change.
    Suspended(Suspensions),
    /// The answer to [`FromWorker::WantToken`] or [`FromWorker::WantLogin`].
    Token { request: u64, token: TokenText },
    /// Asks for [`FromWorker::Agents`].
    ListAgents,
    /// Something to send to a channel, answered by [`FromWorker::Delivered`].
    Deliver(Delivery),
    /// What became of a question that a client waits for.
    Heard(Heard),
    /// Take nothing new, let sessions finish until the deadline, in milliseconds, then end them and exit.
    Drain { within: u64 },
    /// Another worker takes what is new. Go on with the sessions that there are until the last has
    /// ended, or until the deadline, in milliseconds; then exit.
    Retire { within: u64 },
    /// A client cancels what a session does, that another worker does not have.
    Cancel(Cancel),
    /// An issuer reported this to another worker.
    Reported(Reported),
    /// The answer to [`FromWorker::WantSocket`]: the socket is beside it, or there is none, and why.
    Socket {
        request: u64,
        problem: Option<String>,
    },
}

/// What the worker says. Each fits into one packet: the keeper takes nothing larger.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromWorker {
    /// The answer to [`ToWorker::Configure`]. After the first that succeeded, connections are welcome.
    Configured {
        epoch: u64,
        outcome: Result<(), String>,
    },
    /// Part of the answer to [`ToWorker::ListSessions`].
    Sessions { part: Vec<LiveSession>, last: bool },
    /// Part of the answer to [`ToWorker::ListAgents`].
    Agents {
        part: Vec<AgentStanding>,
        counts: Counts,
        last: bool,
    },
    /// An agent's token was revoked: it does nothing until somebody lets it go on.
    Suspend(Suspension),
    /// Asks for what an agent's token source holds now.
    WantToken { request: u64, agent: AgentName },
    /// Asks for what the token source of a resource's login holds now.
    WantLogin {
        request: u64,
        resource: ResourceName,
    },
    /// Asks for an unconnected TCP socket in another network namespace, by its cookie: a server is to
    /// be reached from where its client is.
    WantSocket {
        request: u64,
        namespace: u64,
        v6: bool,
    },
    /// The answer to [`ToWorker::Kill`] and [`ToWorker::Freeze`], in their order.
    Steered { session: SessionId, found: bool },
    /// Whether it was sent, or why not.
    Delivered {
        number: u64,
        problem: Option<String>,
    },
    /// A question for people, or one taken back.
    Question(ToDesk),
    /// A client cancels what a session does that is not here: a worker that retires may have it.
    Cancel(Cancel),
    /// What an issuer has reported, and proved: a worker that retires may have sessions of whom it names.
    Reported(Reported),
    /// Something that belongs into the keeper's ledger, because no session's recording has it.
    Event {
        kind: String,
        detail: String,
        session: Option<SessionId>,
    },
}

/// What an issuer reported by itself, as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    pub issuer: IssuerName,
    /// Subjects and clients that may go on no more.
    pub revoked: BTreeSet<String>,
    /// Whose claims changed.
    pub changed: BTreeSet<String>,
}

/// PostgreSQL's CancelRequest, as an agent's client sent it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// Who asks: nobody cancels another agent's work.
    pub agent: AgentName,
    pub pid: u32,
    #[serde(with = "base64_text")]
    pub key: Vec<u8>,
}

/// One message to one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Counts the keeper's.
    pub number: u64,
    pub channel: String,
    /// The same for every attempt.
    pub id: String,
    pub body: String,
}

/// An operator's word that a session is to stand still, or to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    pub by: String,
    pub reason: String,
    /// When the session ends unless somebody lets it go on; `None`: it goes on.
    pub until: Option<SystemTime>,
}

/// One session that goes on now, as `hoop status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveSession {
    pub session: SessionId,
    pub since: SystemTime,
    pub agent: AgentName,
    /// What the issuer calls the identity.
    pub subject: String,
    pub resource: ResourceName,
    pub database: String,
    pub login: String,
    pub pid: u32,
    pub executable: Option<String>,
    pub frozen: Option<Freeze>,
}

/// How an agent's identity stood when it was last looked at, as `hoop status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStanding {
    pub agent: AgentName,
    pub instance: Option<String>,
    pub looked_at: SystemTime,
    pub kind: Kind,
    pub subject: Option<String>,
    pub client_id: Option<String>,
    pub expires: Option<SystemTime>,
    /// When the issuer last confirmed the token.
    pub confirmed: Option<SystemTime>,
    /// How long a revocation may go unnoticed, in milliseconds; `None`: until the token ends.
    pub bound: Option<u64>,
    /// Why that is longer than configured, if it is.
    pub note: Option<String>,
    /// Why the agent is not identified.
    pub refused: Option<String>,
}

/// One captured connection; its socket travels beside it as SCM_RIGHTS.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// Why it is nobody's although a mapping may mean it.
    #[serde(default)]
    pub refused: Option<Unmapped>,
    /// The network namespace that it comes from, where that is not the keeper's own.
    #[serde(default)]
    pub namespace: Option<Namespace>,
}

/// Why a connection is given no agent, in words for the client and its operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmapped {
    pub why: String,
    /// What to do about it.
    pub next: String,
}

/// The agent's token as the keeper found it: a claim until `identify` has verified it.
///
/// Deliberately not [`crate::secret::Secret`]: this is the wire form.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenText {
    Found(Zeroizing<String>),
    /// The worker obtains it from the issuer.
    Obtained,
    /// A SAML assertion, which the worker exchanges at the issuer.
    Assertion(Zeroizing<String>),
    /// Why there is none, in words for the operator.
    Missing(String),
}

impl std::fmt::Debug for TokenText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Found(_) => f.write_str("Found(…)"),
            Self::Obtained => f.write_str("Obtained"),
            Self::Assertion(_) => f.write_str("Assertion(…)"),
            Self::Missing(why) => write!(f, "Missing({why:?})"),
        }
    }
}

/// Bytes in JSON.
pub(crate) mod base64_text {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(bytes)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = Zeroizing::<String>::deserialize(deserializer)?;
        STANDARD
            .decode(text.as_bytes())
            .map_err(|_| serde::de::Error::custom("not base64"))
    }
}
