//! What `hoop status` shows: a contract of its own, apart from the types that it is made from.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::Kind;
use crate::identify::{By, Counts};

/// The daemon at one moment. The keys are kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    pub config: PathBuf,
    /// Nothing is wrong: every hook attached, the worker ready, the last reload taken, no glass broken.
    pub well: bool,
    pub reload: Reload,
    /// Since the last upgrade in place, if there was one.
    #[serde(default)]
    pub upgrade: Option<UpgradeStatus>,
    pub worker: WorkerStatus,
    /// Workers from before an upgrade, oldest first: they go on with their sessions.
    #[serde(default)]
    pub retiring: Vec<RetiringStatus>,
    /// The slice that the kernel programs govern, below the cgroup2 mount.
    pub attached_to: String,
    pub hooks: Vec<Hook>,
    /// The programs that only a kernel with BPF among its security modules runs.
    #[serde(default)]
    pub lsm: LsmStatus,
    pub agents: Vec<AgentStatus>,
    /// Agents whose connections pass hoop by: somebody broke the glass.
    #[serde(default)]
    pub bypasses: Vec<BypassStatus>,
    pub sessions: Vec<SessionStatus>,
    pub approvals: ApprovalsStatus,
    pub channels: Vec<ChannelStatus>,
    pub counters: CountersStatus,
    /// What was counted of identities since the worker's start.
    pub identity: Counts,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reload {
    /// Counts configurations that were taken, from 1.
    pub epoch: u64,
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Why the file as it is now was not taken; the one before is in force.
    pub error: Option<String>,
}

/// How the configuration in force stands to the files as they are now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    pub epoch: u64,
    /// Why they differ, if they do: a file was changed since, or is none that could be taken.
    pub differs: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerStatus {
    pub pid: Option<u32>,
    pub ready: bool,
    pub restarts: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UpgradeStatus {
    /// The version before.
    pub from: String,
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RetiringStatus {
    pub pid: u32,
    pub version: String,
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// When it ends what still goes on.
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
    pub sessions: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hook {
    pub name: String,
    pub attached: bool,
    /// What is wrong with it, if anything is.
    pub problem: Option<String>,
}

/// The LSM tier: what no other hook sees. The daemon is as well without it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LsmStatus {
    pub on: bool,
    /// For people: `on (4 of 4 hooks)`, or `off: ` and why.
    pub text: String,
    /// What an operator can do, where it is off.
    pub mend: Option<String>,
}

/// Of a daemon that has no such tier.
impl Default for LsmStatus {
    fn default() -> Self {
        Self {
            on: false,
            text: "off: this version of the daemon has none".into(),
            mend: None,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AgentStatus {
    pub name: String,
    pub mode: String,
    pub kind: Kind,
    /// The cgroups that match now.
    pub cgroups: Vec<String>,
    /// How its identity stood when it was last looked at; one for each instance. None before the
    /// first connection.
    pub identities: Vec<IdentityStatus>,
    pub suspended: Vec<SuspendedStatus>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IdentityStatus {
    pub instance: Option<String>,
    pub subject: Option<String>,
    pub client_id: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    pub looked_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires: Option<OffsetDateTime>,
    /// When the issuer last confirmed the token; null where it is not asked.
    #[serde(with = "time::serde::rfc3339::option")]
    pub confirmed: Option<OffsetDateTime>,
    /// How long a revocation may go unnoticed now; null: until the token expires.
    pub revocation_bound_ms: Option<u64>,
    /// Why that is longer than configured, if it is.
    pub note: Option<String>,
    /// Why it is not identified.
    pub refused: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SuspendedStatus {
    pub instance: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    pub by: By,
    pub why: String,
}

/// That the glass is broken for an agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BypassStatus {
    pub agent: String,
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
    /// Whole seconds, by the clock that ends it.
    pub left_s: u64,
    pub by: String,
    pub reason: String,
    pub cgroups: Vec<String>,
}

impl BypassStatus {
    /// One line for people.
    pub fn line(&self) -> String {
        format!(
            "THE GLASS IS BROKEN for {} until {} by {}: {}; its connections pass unseen and unrecorded; `hoop break-glass end --agent {}` ends it",
            self.agent,
            stamp(self.until),
            self.by,
            self.reason,
            self.agent,
        )
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionStatus {
    pub session: String,
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    pub agent: String,
    pub identity: String,
    pub resource: String,
    pub database: String,
    pub login: String,
    pub pid: u32,
    pub executable: Option<String>,
    /// It stands still, if it does.
    pub frozen: Option<FrozenStatus>,
}

/// Who had a session stand still, why, and when it ends unless somebody lets it go on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FrozenStatus {
    pub by: String,
    pub reason: String,
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
}

/// What people are asked.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ApprovalsStatus {
    /// Questions that wait for an answer.
    pub pending: usize,
    /// Why nobody can be asked, if that is so.
    pub problem: Option<String>,
}

/// A channel that people are told by.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ChannelStatus {
    pub name: String,
    /// Messages that are to be sent, or sent again.
    pub waiting: usize,
    pub delivered: u64,
    pub given_up: u64,
    /// Why the last attempt failed, if it did.
    pub problem: Option<String>,
}

/// RFC 3339 to the second, in UTC.
pub fn stamp(time: OffsetDateTime) -> String {
    let whole = time.to_offset(time::UtcOffset::UTC);
    let whole = whole.replace_nanosecond(0).unwrap_or(whole);
    whole.format(&Rfc3339).unwrap_or_default()
}

/// Since the keeper's start; upgrades go on counting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountersStatus {
    /// Connections that arrived with an origin.
    pub accepted: u64,
    pub handed_over: u64,
    /// Connections to the capture listeners that no agent made.
    pub no_origin: u64,
    /// Connections reset because too many were waiting, or no worker took them.
    pub busy: u64,
    /// Connections and packets that the kernel refused.
    pub kernel_refused: u64,
}
