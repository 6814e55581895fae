//! What the policies say of a text that somebody supposes, and why.

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Unusable, unusable};
use crate::attribute::Process;
use crate::config::{Agent, Config, Host, Mode, ProtocolKind, Resource};
use crate::decide::{Decider, Facts, Refusal, Rule, ShellFacts, Subject};
use crate::identify::Identity;
use crate::ids::{Epochs, SessionId};
use crate::terminate::SqlText;

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

    /// What becomes of a text in the resource's own language.
    pub fn text(&self, text: &str) -> Result<Answer, Unusable> {
        match self.protocol {
            ProtocolKind::Postgres => self.sql(text),
            ProtocolKind::Ssh => self.exec(text),
        }
    }

    /// What becomes of a text of SQL.
    pub fn sql(&self, text: &str) -> Result<Answer, Unusable> {
        if self.protocol != ProtocolKind::Postgres {
            let resource = &self.subject.resource;
            return unusable(format!("{resource} is reached by SSH: it takes no SQL"));
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
            return unusable(format!(
                "{resource} is a database: it runs no shell commands"
            ));
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
            ProtocolKind::Ssh => self.host.or_else(|| first_name(resource)),
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
