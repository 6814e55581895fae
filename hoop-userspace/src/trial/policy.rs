//! What the policies say of a text that somebody supposes, and why.

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Unusable, unusable};
use crate::attribute::Process;
use crate::config::{Agent, Config, Host, Mode, ProtocolKind, Resource};
use crate::decide::{Decider, Facts, KubernetesFacts, Refusal, Rule, ShellFacts, Subject};
use crate::identify::Identity;
use crate::ids::{Epochs, SessionId};
use crate::terminate::{KubernetesAsked, SqlText};
use crate::wire::kubernetes::request;

/// Who is supposed to ask, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Supposed {
    pub agent: String,
    pub resource: String,
    /// Used where the resource's login names none.
    pub database: String,
    /// The host as the client calls it; the resource's first name where there is none.
    pub host: Option<String>,
    /// Groups that the agent's token would list.
    pub groups: Vec<String>,
    pub executable: Option<PathBuf>,
}

/// Decides in the name of one that is supposed.
pub struct Tester {
    protocol: ProtocolKind,
    decider: Arc<Decider>,
    subject: Subject,
    hasher: RandomState,
}

impl Tester {
    pub fn new(config: &Config, supposed: Supposed) -> Result<Self, Unusable> {
        Self::with(Arc::new(Decider::new(config)?), config, supposed)
    }

    /// By the policies of this configuration, compiled before.
    pub fn with(
        decider: Arc<Decider>,
        config: &Config,
        supposed: Supposed,
    ) -> Result<Self, Unusable> {
        let (protocol, subject) = supposed.subject(config)?;
        Ok(Self {
            protocol,
            subject,
            decider,
            hasher: RandomState::new(),
        })
    }

    /// Whether the resource is a cluster.
    pub fn takes_requests(&self) -> bool {
        self.protocol == ProtocolKind::Kubernetes
    }

    /// What becomes of a text in the resource's own language.
    pub fn text(&self, text: &str) -> Result<Answer, Unusable> {
        match self.protocol {
            ProtocolKind::Postgres => self.sql(text),
            ProtocolKind::Ssh => self.exec(text),
            ProtocolKind::Kubernetes => self.request(&ApiRequest::of(text)?),
        }
    }

    /// What becomes of a text of SQL.
    pub fn sql(&self, text: &str) -> Result<Answer, Unusable> {
        if self.protocol != ProtocolKind::Postgres {
            let resource = &self.subject.resource;
            return unusable(match self.protocol {
                ProtocolKind::Kubernetes => format!("{resource} is a cluster: it takes no SQL"),
                _ => format!("{resource} is reached by SSH: it takes no SQL"),
            });
        }
        let text = Arc::new(SqlText {
            hash: self.hasher.hash_one(text),
            text: text.into(),
        });
        let explained = self.decider.explain(&self.subject, text);
        let found = Found::Sql {
            facts: explained.facts,
            reads_masked_in_predicate: explained.picks,
        };
        Ok(answer(
            explained.rules,
            explained.refusal,
            explained.asks,
            found,
        ))
    }

    /// What becomes of a shell command.
    pub fn exec(&self, text: &str) -> Result<Answer, Unusable> {
        if self.protocol != ProtocolKind::Ssh {
            let resource = &self.subject.resource;
            return unusable(match self.protocol {
                ProtocolKind::Kubernetes => format!(
                    "{resource} is a cluster: ask about a request, as in 'POST /api/v1/namespaces/NS/pods/POD/exec?command=ls'"
                ),
                _ => format!("{resource} is a database: it runs no shell commands"),
            });
        }
        let explained = self.decider.explain_exec(&self.subject, text);
        let found = Found::Exec(explained.facts);
        Ok(answer(
            explained.rules,
            explained.refusal,
            explained.asks,
            found,
        ))
    }
}

impl Tester {
    /// What becomes of a request to an API server.
    pub fn request(&self, asked: &ApiRequest) -> Result<Answer, Unusable> {
        if self.protocol != ProtocolKind::Kubernetes {
            let resource = &self.subject.resource;
            return unusable(format!(
                "{resource} is no cluster: it takes no API requests"
            ));
        }
        let (path, query) = match asked.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (asked.target.as_str(), None),
        };
        let read = match request::read(&asked.method, path, query) {
            Ok(read) => read,
            // hoop refuses it before any policy is asked.
            Err(error) => return Ok(undecided(&error.to_string())),
        };
        let streams = ["exec", "attach", "portforward"];
        let asked = KubernetesAsked {
            method: asked.method.as_str().into(),
            target: asked.target.as_str().into(),
            upgrade: streams.contains(&read.info.subresource.as_str()),
            info: read.info,
            options: read.options,
            content_type: asked.content_type.as_deref().map(Into::into),
            body: asked.body.clone().into(),
        };
        let explained = self.decider.explain_kubernetes(&self.subject, &asked);
        let found = Found::Kubernetes(explained.facts);
        Ok(answer(
            explained.rules,
            explained.refusal,
            explained.asks,
            found,
        ))
    }
}

/// A request to an API server that somebody supposes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiRequest {
    pub method: String,
    /// Path and query, percent-encoded.
    pub target: String,
    pub content_type: Option<String>,
    pub body: Vec<u8>,
}

impl ApiRequest {
    /// From `METHOD PATH`.
    pub fn of(line: &str) -> Result<Self, Unusable> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [method, target] = words.as_slice() else {
            return unusable("a request is 'METHOD PATH', as in 'GET /api/v1/pods?watch=1'");
        };
        Ok(Self {
            method: (*method).to_owned(),
            target: (*target).to_owned(),
            ..Self::default()
        })
    }

    /// With a body. Where no type is given, it is what kubectl gives: JSON, or a merge patch.
    #[must_use]
    pub fn with_body(mut self, content_type: Option<String>, body: Vec<u8>) -> Self {
        let usual = match self.method.as_str() {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let kind = content_type.map(|kind| kind.to_ascii_lowercase());
        self.content_type = Some(kind.unwrap_or_else(|| usual.to_owned()));
        self.body = body;
        self
    }
}

fn answer(rules: Vec<Rule>, refusal: Option<Refusal>, asks: bool, found: Found) -> Answer {
    Answer {
        verdict: match (&refusal, asks) {
            (None, _) => Verdict::Allow,
            (Some(_), true) => Verdict::Ask,
            (Some(_), false) => Verdict::Refuse,
        },
        rules,
        message: refusal.as_ref().map(|r| r.message.clone()),
        refusal: refusal.and_then(|r| serde_json::from_str(&r.json_line()).ok()),
        facts: Some(found),
    }
}

impl Supposed {
    fn subject(self, config: &Config) -> Result<(ProtocolKind, Subject), Unusable> {
        let agent = named(
            &self.agent,
            &config.agents,
            |a: &Agent| a.name.as_str(),
            "agent",
        )?;
        let resource = named(
            &self.resource,
            &config.resources,
            |r: &Resource| r.name.as_str(),
            "resource",
        )?;
        let database = match resource.protocol {
            ProtocolKind::Postgres => resource.login.database.clone(),
            ProtocolKind::Ssh | ProtocolKind::Kubernetes => {
                self.host.or_else(|| first_name(resource))
            }
        };
        let database = database.unwrap_or(self.database);
        let subject = Subject {
            session: SessionId::from([0; 16]),
            identity: Arc::new(Identity::supposed(agent, self.groups)),
            process: Arc::new(Process {
                executable: self.executable,
                ..Process::default()
            }),
            resource: resource.name.clone(),
            database,
            login: resource.login.user.clone(),
            epochs: Epochs::default(),
            // What enforce mode says is what is asked, whatever mode the agent is in now.
            mode: Mode::Enforce,
            // Known to the server alone.
            derived: Arc::default(),
            // As if nothing had happened yet.
            activity: Default::default(),
            objects: Arc::default(),
            unseen: Arc::default(),
        };
        Ok((resource.protocol, subject))
    }
}

/// A resource's first host by name, or else its first network.
fn first_name(resource: &Resource) -> Option<String> {
    let named = resource.hosts.iter().find_map(|host| match host {
        Host::Name(name) => Some(name.clone()),
        Host::Net(_) => None,
    });
    named.or_else(|| match resource.hosts.first() {
        Some(Host::Net(net)) => Some(net.addr().to_string()),
        _ => None,
    })
}

fn named<'c, T>(
    wanted: &str,
    all: &'c [T],
    name: impl Fn(&T) -> &str,
    kind: &str,
) -> Result<&'c T, Unusable> {
    if let Some(found) = all.iter().find(|one| name(one) == wanted) {
        return Ok(found);
    }
    let names: Vec<_> = all.iter().map(&name).collect();
    unusable(match names.is_empty() {
        true => format!("the configuration has no {kind}"),
        false => format!(
            "there is no {kind} {wanted:?}: there are {}",
            names.join(", ")
        ),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Allow,
    Refuse,
    Ask,
}

impl Verdict {
    /// As programs read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Refuse => "refuse",
            Self::Ask => "ask",
        }
    }
}

#[derive(Debug, Serialize)]
pub struct Answer {
    pub verdict: Verdict,
    pub rules: Vec<Rule>,
    /// Why not, for people; absent if allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What the agent's client would be told beside: `code`, `rule`, `retry`, `approval`, `hint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<serde_json::Value>,
    pub facts: Option<Found>,
}

/// What the parser of the text's language found.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Found {
    Sql {
        #[serde(flatten)]
        facts: Arc<Facts>,
        /// By the resource's masks.
        reads_masked_in_predicate: bool,
    },
    Exec(Arc<ShellFacts>),
    Kubernetes(Arc<KubernetesFacts>),
}

/// What is not decided is refused, never allowed.
pub fn undecided(why: &str) -> Answer {
    Answer {
        verdict: Verdict::Refuse,
        rules: Vec::new(),
        message: Some(why.to_owned()),
        refusal: None,
        facts: None,
    }
}
