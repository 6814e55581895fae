//! What is asked and answered between the worker, which holds the client, and the keeper, which
//! holds the votes. Each message fits into one packet.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::case::HeldChange;
use crate::attribute::Process;
use crate::decide::{Demand, Question, Scope, Subject};
use crate::hex;
use crate::ids::{AgentName, QuestionId, ResourceName, SessionId};
use crate::terminate::Parameter;

/// Bytes of statements and parameters that people can be shown of one question. What is longer is
/// not asked: nobody shall approve what could not be shown whole.
const MAX_SHOWN: usize = 24 << 10;
/// A question by more rules than this is not asked.
const MAX_DEMANDS: usize = 16;
const MAX_DEMANDS_BYTES: usize = 8 << 10;
const MAX_MESSAGE: usize = 2000;
const MAX_ARGUMENTS: usize = 2000;
const MAX_PARENTS: usize = 8;

/// Names a waiting client to the worker that holds it. No two workers use the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ticket(pub u64);

/// Everything that people need to know to answer, and what tells a question from others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asking {
    pub agent: AgentName,
    /// What the issuer calls the service account.
    pub subject: String,
    #[serde(with = "as_text")]
    pub session: SessionId,
    pub resource: ResourceName,
    pub database: String,
    /// The role that hoop is logged in as.
    pub login: String,
    pub caller: Caller,
    /// Who wants to do what, and by which rule that needs asking: one sentence.
    pub message: String,
    pub statements: Vec<Shown>,
    /// See [`Question::fingerprint`].
    pub fingerprint: String,
    /// See [`Question::digest`], in hex.
    pub digest: String,
    pub demands: Vec<Demand>,
    /// Locks may be held while it waits.
    pub in_transaction: bool,
}

/// The process that opened the connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    pub pid: u32,
    pub uid: u32,
    pub executable: Option<String>,
    pub command: String,
    pub cgroup: String,
    /// From the parent upwards.
    pub parents: Vec<String>,
}

/// A statement that would run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    pub text: String,
    /// As bound: text, `\x…` for binary, `None` for NULL.
    pub parameters: Vec<Option<String>>,
}

/// What the worker says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToDesk {
    Ask {
        ticket: Ticket,
        asking: Box<Asking>,
    },
    /// How many rows the server's planner expects the statement to return or change.
    Estimated {
        ticket: Ticket,
        rows: u64,
    },
    /// What the request would change, as the API server says.
    Foreseen {
        ticket: Ticket,
        change: HeldChange,
    },
    Withdraw {
        ticket: Ticket,
        how: Withdrawn,
    },
}

/// Why a client waits no longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Withdrawn {
    /// The question is not to be answered any more.
    Cancelled(String),
    /// The client went away; it may come back with the same request.
    HungUp,
    /// hoop stopped, and cut the client off.
    Stopped,
}

/// What the worker hears.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Heard {
    /// People are being asked. `joined`: they were already, about the same request.
    Asked {
        ticket: Ticket,
        question: QuestionId,
        until: SystemTime,
        joined: bool,
    },
    Answered {
        ticket: Ticket,
        question: Option<QuestionId>,
        answer: Answer,
    },
    /// What runs under this approval must end.
    Revoked { question: QuestionId, why: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    Approved {
        said: Vec<Said>,
        scope: Scope,
        /// When a window closes.
        until: Option<SystemTime>,
        /// By one person in an emergency.
        break_glass: bool,
    },
    Refused {
        by: String,
        reason: String,
    },
    Expired,
    /// Nobody can be asked.
    Unavailable(String),
}

/// One person's approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    pub who: String,
    pub reason: String,
}

/// Bytes of a question on its way to the keeper; what the packet holds besides is small.
const MAX_PACKED: usize = 112 << 10;

/// A question that people cannot be shown whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLong {
    #[error(
        "its statements have {0} bytes with their parameters, and whoever approves can be shown {MAX_SHOWN}"
    )]
    Statements(usize),
    #[error("more rules ask about it than can be answered at once")]
    Demands,
}

impl Asking {
    pub fn new(
        question: &Question,
        subject: &Subject,
        in_transaction: bool,
    ) -> Result<Self, TooLong> {
        let statements: Vec<Shown> = question
            .waiting()
            .map(|waiting| Shown {
                text: waiting.text.text.to_string(),
                parameters: waiting.parameters.iter().map(shown).collect(),
            })
            .collect();
        let length = statements.iter().map(Shown::length).sum();
        if length > MAX_SHOWN {
            return Err(TooLong::Statements(length));
        }
        let demands: Vec<Demand> = question.demands().iter().map(|d| (**d).clone()).collect();
        let bytes: usize = demands.iter().map(weight).sum();
        if demands.len() > MAX_DEMANDS || bytes > MAX_DEMANDS_BYTES {
            return Err(TooLong::Demands);
        }
        let identity = &subject.identity;
        let asking = Self {
            agent: identity.agent().clone(),
            subject: identity.subject().to_owned(),
            session: subject.session,
            resource: subject.resource.clone(),
            database: subject.database.clone(),
            login: subject.login.clone(),
            caller: Caller::of(&subject.process),
            message: cut(question.message(), MAX_MESSAGE),
            statements,
            fingerprint: question.fingerprint().to_owned(),
            digest: hex::encode(question.digest()),
            demands,
            in_transaction,
        };
        // It crosses to the keeper in one packet, or it could not be put at all.
        let packed = crate::handover::packed_length(&asking);
        if packed > MAX_PACKED {
            return Err(TooLong::Statements(packed));
        }
        Ok(asking)
    }

    /// What an approval of this would cover. Rules that differ in it leave the least.
    pub fn scope(&self) -> Scope {
        let mut scopes = self.demands.iter().map(|demand| demand.scope);
        let first = scopes.next().unwrap_or(Scope::Statement);
        match scopes.all(|scope| scope == first) {
            true => first,
            false => Scope::Statement,
        }
    }

    /// Whether an approval of `self` covers the `other` too.
    pub fn covers(&self, other: &Self) -> bool {
        let same = self.agent == other.agent
            && self.subject == other.subject
            && self.resource == other.resource
            && self.demands == other.demands;
        let place = self.database == other.database && self.login == other.login;
        same && match self.scope() {
            Scope::Statement => place && self.digest == other.digest,
            Scope::Fingerprint => place && self.fingerprint == other.fingerprint,
            Scope::Session => self.session == other.session,
            Scope::Resource => true,
        }
    }
}

impl Shown {
    fn length(&self) -> usize {
        let parameters = self.parameters.iter();
        let parameters = parameters.map(|p| 8 + p.as_ref().map_or(0, String::len));
        self.text.len() + parameters.sum::<usize>()
    }
}

impl Caller {
    fn of(process: &Process) -> Self {
        let path = |path: &std::path::Path| cut(&path.display().to_string(), MAX_MESSAGE);
        Self {
            pid: process.pid,
            uid: process.uid,
            executable: process.executable.as_deref().map(path),
            command: match process.argv.is_empty() {
                true => process.comm.clone(),
                false => cut(&process.argv.join(" "), MAX_ARGUMENTS),
            },
            cgroup: cut(&process.cgroup, MAX_MESSAGE),
            parents: process
                .parents
                .iter()
                .take(MAX_PARENTS)
                .map(|parent| cut(&parent.comm, 64))
                .collect(),
        }
    }
}

fn weight(demand: &Demand) -> usize {
    let groups = demand.groups.iter().flatten().chain(&demand.break_glass);
    demand.rule.len() + groups.map(|g| g.len() + 8).sum::<usize>()
}

fn shown(parameter: &Parameter) -> Option<String> {
    let value = parameter.value.as_ref()?;
    Some(match std::str::from_utf8(value) {
        Ok(text) if !parameter.binary => text.to_owned(),
        _ => format!("\\x{}", hex::encode(value)),
    })
}

/// Long enough to tell, short enough to show.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// A session's id as people know it, in JSON too.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::ids::SessionId;

    pub fn serialize<S: Serializer>(id: &SessionId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SessionId, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
