//! What operators write, parsed into what is valid by construction.
//!
//! The keeper gathers a [`Bundle`] (the file, the policies, the secrets that only root may read)
//! and sends it to the worker; both call [`Config::from_bundle`], so both hold the same thing.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::ids::{AgentName, IssuerName, ResourceName};
use crate::mask::{Detector, JsonPath};
use crate::secret::Secret;

mod bundle;
mod containers;
pub mod credentials;
pub(crate) mod glob;
mod kubernetes;
mod parse;
mod problem;
mod raw;
mod sockets;
mod ssh;
#[cfg(test)]
mod tests;
mod text;
mod token;

pub(crate) use bundle::host_resolvers;
pub use bundle::{BadBundle, Bundle};
pub use containers::{ContainerPick, Containers, Pick, PodPick, Said};
pub use kubernetes::{Impersonate, Kubernetes, KubernetesCredential};
pub use problem::{ConfigError, Problem};
pub use sockets::{By as SocketBy, DEFAULT as REFUSED_SOCKETS, LsmTier, LsmWish, SocketPattern};
pub use ssh::{Ssh, SshAnswer, SshClientUser, SshCredential, SshHostKeys, SshMinted};
pub use token::{
    AssertionAudience, ClientAuth, Exec, Introspection, Kind, RequiredClaim, SigningAlgorithm,
    TokenSource,
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyFile {
    pub name: String,
    pub text: String,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub capture: Capture,
    pub issuers: BTreeMap<IssuerName, Issuer>,
    pub agents: Vec<Agent>,
    pub resources: Vec<Resource>,
    pub masks: Vec<Mask>,
    pub approvers: Vec<Approver>,
    pub approvals: Approvals,
    pub channels: Vec<Channel>,
    pub policy: Policy,
    pub record: Record,
    pub worker: Worker,
    pub containers: Containers,
    /// No listener without it.
    pub console: Option<Console>,
}

/// Whether `[[agent]] name`, `[[resource]] name` and their like can be this.
pub(crate) fn is_name(text: &str) -> bool {
    text::is_name(text)
}

/// A host's name as `hosts` and `egress_allow` compare it; `None` if it can be none.
pub(crate) fn host_name(text: &str) -> Option<String> {
    text::host_name(text)
}

/// Whether a cgroup's path stands for itself as a pattern.
pub(crate) fn is_cgroup(path: &str) -> bool {
    text::cgroup_fault(path).is_none() && !path.contains(['*', '?'])
}

impl Config {
    /// Parses what was gathered; on failure every problem that was found, with its place.
    pub fn from_bundle(bundle: &Bundle) -> Result<Self, ConfigError> {
        match parse::config(bundle, parse::Missing::Report) {
            (Some(config), _) => Ok(config),
            (None, problems) => Err(ConfigError { problems }),
        }
    }
}

/// `[capture]`
#[derive(Clone, Debug)]
pub struct Capture {
    /// The slice that the programs attach to, below the cgroup2 mount. Default `agents.slice`.
    pub attach: String,
    /// Resolvers that agents may ask. Default: those of `/etc/resolv.conf`.
    pub resolvers: Vec<IpAddr>,
    /// Port of the capture listeners on 127.0.0.1 and ::1; 0 lets the kernel choose.
    pub port: u16,
    /// Where links and maps are pinned. Default `/sys/fs/bpf/hoop`.
    pub pins: PathBuf,
    /// What only a security module sees.
    pub lsm: LsmTier,
}

/// `[issuer.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    pub name: IssuerName,
    /// The URL exactly as written: `iss` must equal it, character by character.
    pub identifier: String,
    pub url: Url,
    pub audience: String,
    /// Added to the system's roots when the issuer is reached.
    pub ca: Option<String>,
    /// Clock difference that is tolerated for `exp` and `nbf`. Default 30 s, at most 300 s.
    pub skew: Duration,
    /// The signatures that are accepted, by their JOSE names. Default: all that hoop knows.
    pub algorithms: Vec<String>,
    pub claims: ClaimNames,
    /// In whose name the issuer is asked whether a token still holds (RFC 7662).
    pub introspection: Introspection,
    /// Whether a token must open the issuer's userinfo endpoint as well. Default false.
    pub userinfo: bool,
    /// How old the issuer's last word on a token may be. Default 2 s; 1 s to 5 min.
    pub recheck: Duration,
    /// What it reports by itself.
    pub events: Events,
    /// How long tokens that were confirmed go on while the issuer cannot be asked; `None` refuses.
    /// At most 1 h.
    pub grace: Option<Duration>,
}

/// `events` of `[issuer.NAME]`: what is taken on the console's listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// What Okta sends as `Authorization` with its event hooks.
    pub hook: Option<Secret>,
    pub transmitter: Option<Transmitter>,
}

/// Who sends Security Event Tokens (OpenID Shared Signals).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmitter {
    /// Exactly as its tokens' `iss` has it.
    pub issuer: String,
    /// Must be among the tokens' `aud`.
    pub audience: String,
}

/// `[console]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Console {
    pub listen: SocketAddr,
    /// PEM certificate chain and private key; `None` only on loopback.
    pub tls: Option<(String, Secret)>,
    /// The origin (RFC 6454) that browsers see: scheme, host and port. Default: of `listen`.
    pub origin: String,
    /// The account that the console's process runs as. Default `hoop-console`.
    pub user: String,
    /// How people sign in besides `hoop console login`.
    pub sign_in: Option<SignIn>,
    pub roles: RoleGroups,
    /// Groups of approvers by the groups of the issuer whose members are in them.
    pub groups: BTreeMap<String, Vec<String>>,
    /// A session that is not used for so long ends. Default 30 min, at most a day.
    pub idle: Duration,
    /// A session ends after this in any case. Default 8 h, at most a week.
    pub lifetime: Duration,
    pub slack: Option<Slack>,
}

/// People sign in by OpenID Connect: authorisation code with PKCE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignIn {
    pub issuer: IssuerName,
    pub client_id: String,
    /// `None`: a public client, which PKCE alone proves.
    pub secret: Option<Secret>,
    pub scopes: Vec<String>,
    /// The claim of the ID token that names a person. Default `email`.
    pub login_claim: String,
    pub groups_claim: String,
}

/// Groups of the issuer whose members have a role at the console.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleGroups {
    pub viewer: Vec<String>,
    pub approver: Vec<String>,
    pub auditor: Vec<String>,
    pub admin: Vec<String>,
}

/// Slack's buttons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slack {
    pub signing_secret: Secret,
    /// Names of `[[approver]]` by Slack's ids of users.
    pub users: BTreeMap<String, String>,
}

/// Which claims carry what; each a list, tried in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimNames {
    pub client_id: Vec<String>,
    pub groups: Vec<String>,
    pub scopes: Vec<String>,
}

/// From the one that holds an agent back least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The kernel only watches: nothing is redirected.
    Discover,
    /// Everything runs and is recorded; what would have been refused passes and is marked.
    Observe,
    Enforce,
}

/// `[[agent]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    pub name: AgentName,
    /// Pattern below the cgroup2 mount (`*` and `?` within one level); a match covers the cgroup
    /// and all below it.
    pub cgroup: String,
    /// Of the containers below such a cgroup, those that it is; `None`: whatever runs there.
    pub pick: Option<Pick>,
    pub issuer: Option<IssuerName>,
    pub client_id: Option<String>,
    /// Whether the token is a service account's or a human user's. Default service.
    pub kind: Kind,
    pub token: Option<TokenSource>,
    /// The claim that must equal what the one `*` of `cgroup` stands for.
    pub instance_claim: Option<String>,
    pub required_claims: Vec<RequiredClaim>,
    pub egress: Vec<Egress>,
    /// People who may not approve what this agent asks, by the names of `[[approver]]`.
    pub owners: Vec<String>,
    pub mode: Mode,
    /// Local ports on which the agent may accept connections.
    pub listen: Vec<u16>,
    /// From where its connections go on where it is in another network namespace; resources may say
    /// otherwise. Default: from that namespace.
    pub network: Option<Network>,
}

/// From where a server is dialled that a client in another network namespace asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// From the client's namespace, where the client itself would.
    Client,
    /// From hoop's own.
    Host,
}

/// One entry of `egress_allow`: passes unterminated, and is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Egress {
    /// By the name in the TLS ClientHello (`*.` matches one label), relayed to hoop's own resolution of it.
    Name {
        name: String,
        port: u16,
    },
    Net {
        net: IpNet,
        port: u16,
    },
}

/// `[[resource]]`
#[derive(Clone, Debug)]
pub struct Resource {
    pub name: ResourceName,
    pub protocol: ProtocolKind,
    pub hosts: Vec<Host>,
    pub port: u16,
    /// Where to dial instead of the original destination; tests and tunnels use it.
    pub upstream: Option<(String, u16)>,
    pub tls: UpstreamTls,
    /// PEM of the CA that signed the server's certificate; `None` means the system's roots.
    pub ca: Option<String>,
    pub login: Login,
    /// Whether clients may speak plain text to hoop. Default true (the hop is loopback).
    pub allow_plain: bool,
    pub allow_replication: bool,
    /// Dummy password for clients that insist on SCRAM.
    pub agent_password: Option<Secret>,
    /// Largest whole message held in memory, in bytes. Default 64 MiB.
    pub max_message: usize,
    /// Present exactly where `protocol = "ssh"`.
    pub ssh: Option<Ssh>,
    /// Present exactly where `protocol = "kubernetes"`.
    pub kubernetes: Option<Kubernetes>,
    /// Whether the server may be asked what a request would do that people are asked about, on hoop's
    /// own account: PostgreSQL to plan a statement, an API server for a dry run. Default false: planning
    /// evaluates functions that are declared immutable, and admission webhooks see dry runs.
    pub estimate: bool,
    /// From where it is dialled; `None`: with `upstream` from the host, else as the agent says.
    pub network: Option<Network>,
}

impl Resource {
    /// Whether a server can prove that it is this one, to somebody who does not know where the
    /// connection to it leads; if not, why. `verify-ca` does so only where the operator has placed
    /// the resource there, by a CA that is not everybody's.
    pub fn proves(&self) -> Result<(), &'static str> {
        if let Some(ssh) = &self.ssh {
            let keys = &ssh.host_keys;
            let known = !keys.keys.is_empty() || !keys.authorities.is_empty();
            return match known || !keys.known_hosts.is_empty() {
                true => Ok(()),
                false => {
                    Err("no host key of it is configured (trust_on_first_use proves nothing there)")
                }
            };
        }
        match (self.tls, &self.ca) {
            (UpstreamTls::VerifyFull, _) => Ok(()),
            (UpstreamTls::VerifyCa, Some(_)) if self.network == Some(Network::Client) => Ok(()),
            (UpstreamTls::VerifyCa, Some(_)) => Err(
                "with tls = \"verify-ca\" whoever has a certificate of its CA will do, unless the resource says network = \"client\"",
            ),
            (UpstreamTls::VerifyCa, None) => {
                Err("with tls = \"verify-ca\" and the system's roots anybody's certificate will do")
            }
            (UpstreamTls::Disable, _) => Err("with tls = \"disable\" it shows no certificate"),
        }
    }

    /// Whether the address lies in a network that the operator gave this resource.
    pub fn has_in_a_network(&self, address: IpAddr) -> bool {
        self.hosts
            .iter()
            .any(|host| matches!(host, Host::Net(net) if net.contains(&address.to_canonical())))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProtocolKind {
    Postgres,
    Ssh,
    Kubernetes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Name(String),
    Net(IpNet),
}

/// How the server's certificate is checked (libpq's names).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpstreamTls {
    Disable,
    /// Encrypted, chain verified, name not.
    VerifyCa,
    VerifyFull,
}

/// hoop's own credential upstream.
#[derive(Clone, Debug)]
pub struct Login {
    pub user: String,
    pub password: Option<Secret>,
    /// PEM certificate chain and private key for certificate login.
    pub certificate: Option<(String, Secret)>,
    /// Database to use whatever the client asks for; `None` keeps the client's.
    pub database: Option<String>,
}

/// `[[mask]]`
#[derive(Clone, Debug)]
pub struct Mask {
    pub resource: ResourceName,
    pub columns: Vec<ColumnPattern>,
    /// Of JSON documents in these columns, what alone is masked; the whole value if empty.
    pub json: Vec<JsonPath>,
    /// What is masked wherever it stands.
    pub detect: Vec<Detector>,
    pub how: How,
}

/// `schema.table.column`, each part a name or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnPattern {
    pub schema: Option<String>,
    pub table: Option<String>,
    pub column: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// `[masked]`
    Redact,
    /// All but the last four characters replaced; values of eight or fewer wholly.
    Partial,
    /// Keyed hash: equal values stay equal.
    Hash,
    Null,
    Fixed(String),
    /// Of a JSON document, what these paths name; the rest is shown. Another value is `Redact`ed.
    #[serde(skip)]
    Inside(Arc<[(JsonPath, How)]>),
}

impl How {
    /// How much it shows, compared with the others.
    pub fn shows(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Redact => 1,
            Self::Fixed(_) => 2,
            Self::Hash => 3,
            Self::Partial => 4,
            Self::Inside(_) => 5,
        }
    }

    /// What holds where both do: the one that shows less.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        match (&self, other) {
            (Self::Inside(one), Self::Inside(two)) if one != two => {
                let more = two.iter().filter(|path| !one.contains(path));
                Self::Inside(one.iter().chain(more).cloned().collect())
            }
            _ if self.shows() <= other.shows() => self,
            _ => other.clone(),
        }
    }
}

/// `[[approver]]`: a person who may approve.
#[derive(Clone, Debug)]
pub struct Approver {
    pub name: String,
    /// The account on this host. Default: the name.
    pub user: String,
    /// How the console's issuer names the person; `None`: does not sign in there.
    pub login: Option<String>,
    pub groups: Vec<String>,
}

/// `[[channel]]`: where people are told of questions.
#[derive(Clone, Debug)]
pub struct Channel {
    pub name: String,
    pub kind: ChannelKind,
    /// Of a webhook; Slack's address is itself the secret.
    pub url: Option<Url>,
    pub secret: Secret,
    /// Added to the system's roots.
    pub ca: Option<String>,
    /// Whether statements are shown there.
    pub statements: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelKind {
    /// Standard Webhooks: JSON, signed with a shared key.
    Webhook,
    /// Slack's incoming webhooks: Block Kit.
    Slack,
}

/// `[approvals]`
#[derive(Clone, Debug)]
pub struct Approvals {
    /// How long an answer is waited for where the rule does not say. Default 15 min.
    pub wait: Duration,
    /// At most, inside an open transaction. Default 60 s.
    pub wait_in_transaction: Duration,
    /// How long an approval may be used whose client is gone. Default 15 min.
    pub answer_for: Duration,
    pub on_hangup: OnHangup,
    /// How often a client that waits is told so. Default 30 s.
    pub remind: Duration,
    /// Groups of approvers by the groups of this host whose members are in them.
    pub groups: BTreeMap<String, Vec<String>>,
}

/// What becomes of a question whose client goes away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnHangup {
    #[default]
    Cancel,
    /// The same request joins it, or uses its answer once.
    Keep,
}

/// `[policy]`
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Ready-made packs.
    pub packs: Vec<String>,
    /// Files of the policy directory, sorted by name.
    pub files: Vec<PolicyFile>,
}

/// `[record]`
#[derive(Clone, Debug)]
pub struct Record {
    /// Default `/var/lib/hoop/recordings`.
    pub directory: PathBuf,
    pub durability: Durability,
    /// Bytes of result rows kept per exchange. Default 64 KiB.
    pub result_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// In the kernel's hands before it takes effect, on disk within 200 ms.
    Kernel,
    /// On disk before it takes effect.
    Disk,
}

/// `[worker]`
#[derive(Clone, Debug)]
pub struct Worker {
    /// The account that the worker runs as. Default `hoop`.
    pub user: String,
    /// CA and signing keys live here. Default `/var/lib/hoop`.
    pub state: PathBuf,
    /// Control sockets live here. Default `/run/hoop`.
    pub runtime: PathBuf,
    /// How long sessions may go on after a stop was asked for. Default 30 s.
    pub drain: Duration,
    /// How long sessions may go on in the worker before an upgrade. Default 24 h, at most 7 days.
    pub retire: Duration,
}
