//! What the policies say of a text that somebody supposes, and why.

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::{Unusable, unusable};
use crate::attribute::Process;
use crate::config::{Agent, Config, Mode, Resource};
use crate::decide::{Decider, Facts, Rule, Subject};
use crate::identify::Identity;
use crate::ids::{Epochs, SessionId};
use crate::terminate::SqlText;

/// Who is supposed to ask, and where.
#[derive(Clone, Debug, Default)]
pub struct Supposed {
    pub agent: String,
    pub resource: String,
    /// Used where the resource's login names none.
    pub database: String,
    /// Groups that the agent's token would list.
    pub groups: Vec<String>,
    pub executable: Option<PathBuf>,
}

/// Decides in the name of one that is supposed.
pub struct Tester {
    decider: Decider,
    subject: Subject,
    hasher: RandomState,
}

impl Tester {
    pub fn new(config: &Config, supposed: Supposed) -> Result<Self, Unusable> {
        Ok(Self {
            subject: supposed.subject(config)?,
            decider: Decider::new(config)?,
            hasher: RandomState::new(),
        })
    }

    pub fn sql(&self, text: &str) -> Answer {
        let text = Arc::new(SqlText {
            hash: self.hasher.hash_one(text),
            text: text.into(),
        });
        let explained = self.decider.explain(&self.subject, text);
        let refusal = explained.refusal;
        Answer {
            verdict: match (&refusal, explained.asks) {
                (None, _) => Verdict::Allow,
                (Some(_), true) => Verdict::Ask,
                (Some(_), false) => Verdict::Refuse,
            },
            rules: explained.rules,
            message: refusal.as_ref().map(|r| r.message.clone()),
            refusal: refusal.and_then(|r| serde_json::from_str(&r.json_line()).ok()),
            facts: Some(Found {
                facts: explained.facts,
                reads_masked_in_predicate: explained.picks,
            }),
        }
    }
}

impl Supposed {
    fn subject(self, config: &Config) -> Result<Subject, Unusable> {
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
        let database = resource.login.database.clone().unwrap_or(self.database);
        Ok(Subject {
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
        })
    }
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Allow,
    Refuse,
    Ask,
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

/// What is known of a text.
#[derive(Debug, Serialize)]
pub struct Found {
    #[serde(flatten)]
    pub facts: Arc<Facts>,
    /// By the resource's masks.
    pub reads_masked_in_predicate: bool,
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
