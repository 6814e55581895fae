//! What a decision is: a permission, a refusal or a question, each a value that only this stage makes.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use smallvec::SmallVec;

use crate::ids::{Epochs, ExchangeId, SessionId};
use crate::terminate::SqlText;

use super::Question;

/// The outcome for one request. When unit `k` is refused or asked about, `before` holds the
/// permission for the units in front of it.
#[derive(Debug)]
pub enum Decided {
    Permitted(Permitted),
    Refused {
        before: Option<Permitted>,
        refusal: Refusal,
    },
    Ask {
        before: Option<Permitted>,
        question: Box<Question>,
    },
}

/// Leave to forward exactly these bytes, once, in this session, under these epochs.
///
/// It is not `Clone`, and only `decide` builds one.
///
/// ```compile_fail
/// fn twice(p: hoop::decide::Permitted) { let _ = (p.clone(), p); }
/// ```
///
/// ```compile_fail
/// use hoop::decide::Permitted;
/// let forged = Permitted { wire: bytes::Bytes::new() };
/// ```
#[derive(Debug)]
pub struct Permitted {
    pub(in crate::decide) session: SessionId,
    pub(in crate::decide) exchange: ExchangeId,
    pub(in crate::decide) epochs: Epochs,
    pub(in crate::decide) wire: Bytes,
    /// Index of its first unit in the request.
    pub(in crate::decide) first: u16,
    pub(in crate::decide) units: SmallVec<[PermittedUnit; 6]>,
}

/// What is known of one permitted unit; the masks and the recorder read it.
#[derive(Clone, Debug)]
pub struct PermittedUnit {
    /// `None` for a unit without a statement.
    pub statement: Option<Arc<crate::decide::Facts>>,
    /// The rules that permitted it.
    pub rules: Arc<[Rule]>,
    /// Whether it runs something now; a unit may also only prepare a statement.
    pub runs: bool,
    /// In observe mode: the refusal that enforce mode would have given.
    pub would_refuse: Option<Box<Refusal>>,
}

impl Permitted {
    pub fn session(&self) -> SessionId {
        self.session
    }
    pub fn exchange(&self) -> ExchangeId {
        self.exchange
    }
    pub fn epochs(&self) -> Epochs {
        self.epochs
    }
    /// The bytes that were parsed; these and no others are forwarded.
    pub fn wire(&self) -> &Bytes {
        &self.wire
    }
    /// Index of the first of these units in the request.
    pub fn first(&self) -> u16 {
        self.first
    }
    pub fn units(&self) -> &[PermittedUnit] {
        &self.units
    }
}

/// The name of a rule as an operator wrote it: a policy's `@id`, or file and position.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Rule(pub Arc<str>);

/// Why a request was not forwarded, in words for people and in one stable JSON line for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub exchange: ExchangeId,
    /// Index of the refused unit of the request.
    pub unit: u16,
    pub code: Code,
    /// Who, what and why: one sentence, lower case, no full stop.
    pub message: String,
    pub rule: Option<Rule>,
    pub retry: Retry,
    /// What to do next, for people; also the JSON line's `hint`.
    pub hint: String,
    /// The question that was put to people about it, if one was.
    pub approval: Option<String>,
    /// The statement that was refused, for the recording; `None` where there is none or its text
    /// is not known.
    pub asked: Option<Arc<SqlText>>,
}

/// Stable codes of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// A `forbid` policy matched.
    Forbidden,
    /// No `permit` policy matched.
    NotPermitted,
    /// The text could not be understood.
    Unparsable,
    /// It is not known what a name of the client's stands for.
    UnknownName,
    /// A policy failed to evaluate.
    PolicyError,
    /// A masked table would be read where masks cannot follow.
    MaskedRead,
    /// What a mask put in place of a value would be written over the value.
    MaskedWrite,
    /// A human must approve and none can be asked.
    ApprovalUnavailable,
    /// Whoever was asked said no.
    ApprovalRefused,
    /// Whoever was asked did not answer in time.
    ApprovalExpired,
    /// The client took its request back while people were being asked.
    Cancelled,
    /// The identity was not verified.
    Identity,
    /// The destination is not configured for this agent.
    Destination,
    /// The request is larger than the configured bound.
    TooLarge,
    /// The rules changed between decision and forwarding.
    Changed,
    /// hoop, or the server behind it, cannot serve this now: nothing was decided.
    Unavailable,
}

impl Code {
    /// As the JSON line has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::NotPermitted => "not_permitted",
            Self::Unparsable => "unparsable",
            Self::UnknownName => "unknown_name",
            Self::PolicyError => "policy_error",
            Self::MaskedRead => "masked_read",
            Self::MaskedWrite => "masked_write",
            Self::ApprovalUnavailable => "approval_unavailable",
            Self::ApprovalRefused => "approval_refused",
            Self::ApprovalExpired => "approval_expired",
            Self::Cancelled => "cancelled",
            Self::Identity => "identity",
            Self::Destination => "destination",
            Self::TooLarge => "too_large",
            Self::Changed => "changed",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Whether asking again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    Never,
    /// The same request may pass later: what stood in its way is passing.
    Again,
    /// A narrower request may pass.
    Narrower,
    AfterApproval,
}

#[derive(Serialize)]
struct Line<'a> {
    code: Code,
    rule: Option<&'a str>,
    retry: Retry,
    approval: Option<&'a str>,
    hint: &'a str,
}

impl Refusal {
    /// The one-line JSON form: `code`, `rule`, `retry`, `approval`, `hint`, in this order.
    pub fn json_line(&self) -> String {
        let line = Line {
            code: self.code,
            rule: self.rule.as_ref().map(|r| &*r.0),
            retry: self.retry,
            approval: self.approval.as_deref(),
            hint: &self.hint,
        };
        // A struct of strings and unit enums cannot fail to serialise.
        serde_json::to_string(&line).unwrap_or_default()
    }
}

/// Refusals of other stages, in the same words.
impl Refusal {
    /// Whoever connects was not proved to be the agent that the configuration names.
    pub fn identity(agent: &str, why: impl std::fmt::Display) -> Self {
        Self::before_session(
            Code::Identity,
            format!("{agent} is not who it should be: {why}"),
            "check the agent's token and its entry in hoop's configuration".into(),
        )
    }

    /// The destination is no resource and no allowed egress.
    pub fn destination(agent: &str, destination: impl std::fmt::Display, why: &str) -> Self {
        Self::before_session(
            Code::Destination,
            format!("{agent} may not reach {destination}: {why}"),
            "use a destination that is configured, or ask the operator to add this one".into(),
        )
    }

    fn before_session(code: Code, message: String, hint: String) -> Self {
        Self {
            exchange: ExchangeId(0),
            unit: 0,
            code,
            message,
            rule: None,
            retry: Retry::Never,
            hint,
            approval: None,
            asked: None,
        }
    }
}
