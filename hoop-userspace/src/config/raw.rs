//! The file as it is written: one serde type per table, unknown keys refused. Each table is read
//! by itself, so that a mistake in one hides no mistake in another.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::problem::{Problems, did_you_mean};
use super::text;
use super::{
    ChannelKind, Durability, How, Kind, LsmWish, Mode, Network, OnHangup, ProtocolKind, UpstreamTls,
};

mod containers;
mod token;

pub(super) use containers::{ContainerPick, Containers, PodPick, Said};
pub(super) use token::{
    ClientCredentials, Exec, Introspection, KeyRef, OneOrMany, Saml, SecretAuth, Token,
};

pub(super) type Text = Spanned<String>;

/// The whole file. What could not be read is absent, and a problem says so.
#[derive(Default)]
pub(super) struct File {
    pub issuers: Vec<(Text, Spanned<Issuer>)>,
    pub agents: Vec<Spanned<Agent>>,
    pub resources: Vec<Spanned<Resource>>,
    pub masks: Vec<Spanned<Mask>>,
    pub approvers: Vec<Spanned<Approver>>,
    pub approvals: Approvals,
    pub channels: Vec<Spanned<Channel>>,
    pub detectors: Vec<(Text, Spanned<Detector>)>,
    pub policy: Policy,
    pub record: Record,
    pub capture: Capture,
    pub worker: Worker,
    pub containers: Containers,
    pub console: Option<Spanned<Console>>,
    /// Names of tables that could not be read: references to them are not reported again.
    pub broken: Vec<String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Issuer {
    pub url: Text,
    pub audience: Text,
    pub ca: Option<Text>,
    pub skew: Option<Spanned<Span>>,
    pub algorithms: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    pub claims: Claims,
    pub introspection: Option<Spanned<Introspection>>,
    pub userinfo: Option<bool>,
    pub recheck: Option<Spanned<Span>>,
    pub unreachable: Option<Spanned<Unreachable>>,
    #[serde(default)]
    pub events: Events,
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Events {
    pub hook: Option<Spanned<SecretRef>>,
    pub transmitter: Option<Text>,
    pub audience: Option<Text>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Console {
    pub listen: Text,
    pub certificate: Option<Text>,
    pub key: Option<Spanned<SecretRef>>,
    pub url: Option<Text>,
    pub user: Option<Text>,
    pub issuer: Option<Text>,
    pub client_id: Option<Text>,
    pub secret: Option<Spanned<SecretRef>>,
    pub scopes: Option<Spanned<Vec<String>>>,
    pub login_claim: Option<Text>,
    pub groups_claim: Option<Text>,
    #[serde(default)]
    pub roles: Roles,
    #[serde(default)]
    pub groups: BTreeMap<String, Spanned<Vec<Text>>>,
    pub idle: Option<Spanned<Span>>,
    pub lifetime: Option<Spanned<Span>>,
    pub slack: Option<Spanned<Slack>>,
}

/// Groups of the issuer whose members have a role.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Roles {
    #[serde(default)]
    pub viewer: Vec<String>,
    #[serde(default)]
    pub approver: Vec<String>,
    #[serde(default)]
    pub auditor: Vec<String>,
    #[serde(default)]
    pub admin: Vec<String>,
}

/// Slack's buttons.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Slack {
    pub signing_secret: Spanned<SecretRef>,
    /// Names of `[[approver]]` by Slack's ids of users.
    pub users: BTreeMap<String, Text>,
}

/// `"refuse"`, or `{ grace = "5m" }`.
pub(super) enum Unreachable {
    Refuse,
    Grace(Span),
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Claims {
    pub client_id: Option<Spanned<OneOrMany>>,
    pub groups: Option<Spanned<OneOrMany>>,
    pub scopes: Option<Spanned<OneOrMany>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Agent {
    pub name: Text,
    pub cgroup: Text,
    pub container: Option<Spanned<ContainerPick>>,
    pub pod: Option<Spanned<PodPick>>,
    pub issuer: Option<Text>,
    pub client_id: Option<Text>,
    pub kind: Option<Kind>,
    pub token: Option<Spanned<Token>>,
    pub instance_claim: Option<Text>,
    pub required_claims: Option<Spanned<BTreeMap<String, OneOrMany>>>,
    #[serde(default)]
    pub egress_allow: Vec<Text>,
    pub owner: Option<Spanned<OneOrMany>>,
    pub mode: Option<Mode>,
    #[serde(default)]
    pub listen: Vec<Spanned<u16>>,
    pub network: Option<Network>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Resource {
    pub name: Text,
    pub protocol: ProtocolKind,
    pub hosts: Spanned<Vec<Text>>,
    pub port: Option<Spanned<u16>>,
    pub upstream: Option<Text>,
    pub tls: Option<UpstreamTls>,
    pub ca: Option<Text>,
    pub login: Spanned<Login>,
    pub allow_plain: Option<bool>,
    pub allow_replication: Option<bool>,
    pub agent_password: Option<Spanned<SecretRef>>,
    pub max_message: Option<Spanned<Size>>,
    pub host_keys: Option<Spanned<Vec<Text>>>,
    pub host_ca: Option<Spanned<Vec<Text>>>,
    pub known_hosts: Option<Text>,
    pub trust_on_first_use: Option<Spanned<bool>>,
    pub hold: Option<Spanned<Span>>,
    pub show_secrets: Option<Spanned<Vec<Text>>>,
    pub estimate: Option<bool>,
    pub network: Option<Spanned<Network>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    /// Required but of Kubernetes.
    pub user: Option<Text>,
    pub password: Option<Spanned<SecretRef>>,
    pub certificate: Option<Text>,
    pub key: Option<Spanned<SecretRef>>,
    pub database: Option<Text>,
    pub minted: Option<Spanned<Minted>>,
    pub agent: Option<Text>,
    pub answers: Option<Vec<Spanned<StoredAnswer>>>,
    pub token: Option<Spanned<Token>>,
    pub as_agent: Option<Spanned<bool>>,
    pub impersonate: Option<Spanned<Impersonate>>,
}

/// For whom an API server is asked.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Impersonate {
    pub user: Option<Text>,
    pub groups: Option<Vec<Text>>,
    pub agent_groups: Option<Text>,
}

/// What a certificate that hoop signs for a login says beside the account.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Minted {
    pub lifetime: Option<Spanned<Span>>,
    pub principals: Option<Spanned<Vec<Text>>>,
    pub force_command: Option<Text>,
    pub source_address: Option<Spanned<Vec<Text>>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredAnswer {
    pub prompt: Text,
    pub answer: Spanned<SecretRef>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mask {
    pub resource: Text,
    pub columns: Option<Spanned<Vec<Text>>>,
    pub json: Option<Spanned<Vec<Text>>>,
    pub detect: Option<Spanned<Vec<Text>>>,
    pub how: How,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Approver {
    pub name: Text,
    pub user: Option<Text>,
    pub login: Option<Text>,
    pub groups: Spanned<Vec<Text>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Channel {
    pub name: Text,
    pub kind: ChannelKind,
    pub url: Option<Text>,
    pub secret: Spanned<SecretRef>,
    pub ca: Option<Text>,
    #[serde(default)]
    pub statements: bool,
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Approvals {
    pub wait: Option<Spanned<Span>>,
    pub wait_in_transaction: Option<Spanned<Span>>,
    pub answer_for: Option<Spanned<Span>>,
    pub on_hangup: Option<OnHangup>,
    pub remind: Option<Spanned<Span>>,
    #[serde(default)]
    pub groups: BTreeMap<String, Spanned<Vec<Text>>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Detector {
    pub pattern: Option<Text>,
    pub keywords: Option<Spanned<Vec<String>>>,
    pub validate: Option<Text>,
    pub words: Option<Spanned<Vec<String>>>,
    pub words_file: Option<Text>,
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    #[serde(default, rename = "use")]
    pub packs: Vec<Text>,
    pub directory: Option<Text>,
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub directory: Option<Text>,
    pub durability: Option<Durability>,
    pub result_bytes: Option<Spanned<Size>>,
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Capture {
    pub attach: Option<Text>,
    pub resolvers: Option<Vec<Text>>,
    pub port: Option<u16>,
    pub pins: Option<Text>,
    pub lsm: Option<LsmWish>,
    pub refused_sockets: Option<Spanned<Vec<Text>>>,
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Worker {
    pub user: Option<Text>,
    pub state: Option<Text>,
    pub runtime: Option<Text>,
    pub drain: Option<Spanned<Span>>,
    pub retire: Option<Spanned<Span>>,
}

/// Where a secret is kept: never in this file.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum SecretRef {
    File(String),
    Credential(String),
}

/// `"30s"`.
pub(super) struct Span(pub Duration);

/// `"64MiB"`, or a number of bytes.
pub(super) struct Size(pub u64);

const TABLES: [&str; 14] = [
    "issuer",
    "agent",
    "resource",
    "mask",
    "detector",
    "approver",
    "approvals",
    "channel",
    "policy",
    "record",
    "capture",
    "worker",
    "containers",
    "console",
];

impl File {
    pub fn read(text: &str, problems: &mut Problems<'_>) -> Self {
        let mut file = Self::default();
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            problems.add_toml(error, 0..0);
        }
        if !errors.is_empty() {
            return file;
        }
        for (key, value) in root.into_inner() {
            file.table(key.get_ref(), key.span(), value, problems);
        }
        file
    }

    fn table(
        &mut self,
        key: &str,
        at: Range<usize>,
        value: Spanned<DeValue<'_>>,
        problems: &mut Problems<'_>,
    ) {
        match key {
            "issuer" => self.issuers = self.named(key, "an issuer", value, problems),
            "detector" => self.detectors = self.named(key, "a detector", value, problems),
            "agent" => self.agents = self.entries(key, value, problems),
            "resource" => self.resources = self.entries(key, value, problems),
            "mask" => self.masks = self.entries(key, value, problems),
            "approver" => self.approvers = self.entries(key, value, problems),
            "approvals" => self.approvals = one(value, problems).unwrap_or_default(),
            "channel" => self.channels = self.entries(key, value, problems),
            "policy" => self.policy = one(value, problems).unwrap_or_default(),
            "record" => self.record = one(value, problems).unwrap_or_default(),
            "capture" => self.capture = one(value, problems).unwrap_or_default(),
            "worker" => self.worker = one(value, problems).unwrap_or_default(),
            "containers" => self.containers = one(value, problems).unwrap_or_default(),
            "console" => {
                let span = value.span();
                self.console = one(value, problems).map(|console| Spanned::new(span, console));
            }
            _ => problems.add_with_fix(
                at,
                format!("unknown table or key `{key}`"),
                did_you_mean(key, TABLES)
                    .unwrap_or_else(|| format!("use one of: {}", TABLES.join(", "))),
            ),
        }
    }

    /// Tables of which each has a name, as in `[issuer.NAME]`.
    fn named<T: for<'de> Deserialize<'de>>(
        &mut self,
        key: &str,
        one_of_them: &str,
        value: Spanned<DeValue<'_>>,
        problems: &mut Problems<'_>,
    ) -> Vec<(Text, Spanned<T>)> {
        let span = value.span();
        let DeValue::Table(table) = value.into_inner() else {
            let what = format!("`{key}` must be tables: write [{key}.NAME]");
            problems.add(span, what);
            return Vec::new();
        };
        let mut entries = Vec::new();
        for (written, value) in table {
            let name = written.get_ref().to_string();
            if !value.get_ref().is_table() {
                let fix = format!("write [{key}.NAME] above it, then {name} = …");
                let what = format!("{one_of_them} needs a name");
                problems.add_with_fix(written.span(), what, fix);
                continue;
            }
            let at = value.span();
            match one(value, problems) {
                Some(entry) => {
                    entries.push((Spanned::new(written.span(), name), Spanned::new(at, entry)));
                }
                None => self.broken.push(name),
            }
        }
        entries
    }

    fn entries<T: for<'de> Deserialize<'de>>(
        &mut self,
        key: &str,
        value: Spanned<DeValue<'_>>,
        problems: &mut Problems<'_>,
    ) -> Vec<Spanned<T>> {
        let span = value.span();
        let DeValue::Array(array) = value.into_inner() else {
            let fix = format!("write [[{key}]] with two brackets");
            problems.add_with_fix(span, format!("`{key}` is a list of tables"), fix);
            return Vec::new();
        };
        let mut entries = Vec::new();
        for value in array {
            let at = value.span();
            let name = value
                .get_ref()
                .get("name")
                .and_then(|name| name.get_ref().as_str())
                .map(str::to_owned);
            match one(value, problems) {
                Some(entry) => entries.push(Spanned::new(at, entry)),
                None => self.broken.extend(name),
            }
        }
        entries
    }
}

/// Reads one table, or says what is wrong with it.
fn one<T: for<'de> Deserialize<'de>>(
    value: Spanned<DeValue<'_>>,
    problems: &mut Problems<'_>,
) -> Option<T> {
    let span = value.span();
    T::deserialize(ValueDeserializer::from(value))
        .map_err(|error| problems.add_toml(&error, span))
        .ok()
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretRefVisitor)
    }
}

/// By hand, so that a secret written into the file is refused without being shown.
struct SecretRefVisitor;

impl<'de> Visitor<'de> for SecretRefVisitor {
    type Value = SecretRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{ credential = \"NAME\" } or { file = \"PATH\" }")
    }

    fn visit_str<E: de::Error>(self, _secret: &str) -> Result<SecretRef, E> {
        Err(E::custom(
            "a secret never stands in this file: write { credential = \"NAME\" } or { file = \"PATH\" }",
        ))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretRef, A::Error> {
        const KEYS: &[&str] = &["file", "credential"];
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            let next = match key.as_str() {
                "file" => SecretRef::File(map.next_value()?),
                "credential" => SecretRef::Credential(map.next_value()?),
                other => return Err(de::Error::unknown_field(other, KEYS)),
            };
            if found.replace(next).is_some() {
                return Err(de::Error::custom("give `file` or `credential`, not both"));
            }
        }
        found.ok_or_else(|| de::Error::custom("give `file` or `credential`"))
    }
}

impl<'de> Deserialize<'de> for Unreachable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UnreachableVisitor)
    }
}

struct UnreachableVisitor;

impl<'de> Visitor<'de> for UnreachableVisitor {
    type Value = Unreachable;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"refuse\" or { grace = \"5m\" }")
    }

    fn visit_str<E: de::Error>(self, written: &str) -> Result<Unreachable, E> {
        match written {
            "refuse" => Ok(Unreachable::Refuse),
            other => Err(de::Error::unknown_variant(other, &["refuse"])),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unreachable, A::Error> {
        match map.next_key::<String>()?.as_deref() {
            Some("grace") => {}
            Some(other) => return Err(de::Error::unknown_field(other, &["grace"])),
            None => return Err(de::Error::missing_field("grace")),
        }
        let grace = map.next_value()?;
        match map.next_key::<String>()? {
            None => Ok(Unreachable::Grace(grace)),
            Some(other) => Err(de::Error::unknown_field(&other, &["grace"])),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = String::deserialize(deserializer)?;
        text::duration(&written)
            .map(Self)
            .map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size like \"64MiB\" or a number of bytes")
    }

    fn visit_str<E: de::Error>(self, written: &str) -> Result<Size, E> {
        text::size(written).map(Size).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
        u64::try_from(bytes)
            .map(Size)
            .map_err(|_| E::custom("a size cannot be negative"))
    }
}
