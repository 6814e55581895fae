//! Refusals in words. Their readers are people and language models: who, what, which rule, and
//! what to do next.

use std::sync::Arc;

use crate::ids::{AgentName, ExchangeId, ResourceName};
use crate::terminate::{SqlText, Undecidable};

use super::masks::Escape;
use super::objects::TooMany;
use super::{Access, Code, Demand, Refusal, Retry, Rule};

/// A refusal that is not bound to a request yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Words {
    pub code: Code,
    pub message: String,
    pub rule: Option<Rule>,
    pub retry: Retry,
    pub hint: String,
}

impl Words {
    pub(super) fn refusal(
        &self,
        exchange: ExchangeId,
        unit: u16,
        asked: Option<Arc<SqlText>>,
    ) -> Refusal {
        Refusal {
            exchange,
            unit,
            code: self.code,
            message: self.message.clone(),
            rule: self.rule.clone(),
            retry: self.retry,
            hint: self.hint.clone(),
            approval: None,
            asked,
        }
    }
}

fn what(access: &Access) -> String {
    format!("{} on {}", access.verb, access.object)
}

pub(super) fn forbidden(agent: &AgentName, access: &Access, rule: Rule, unbounded: bool) -> Words {
    let (retry, hint) = if unbounded {
        (
            Retry::Narrower,
            "say with WHERE which rows you mean".to_owned(),
        )
    } else {
        (
            Retry::Never,
            "do without it, or ask the operator whether the rule should change".into(),
        )
    };
    Words {
        code: Code::Forbidden,
        message: format!(
            "{agent} may not run {}: rule {:?} forbids it",
            what(access),
            rule.0
        ),
        rule: Some(rule),
        retry,
        hint,
    }
}

pub(super) fn not_permitted(
    agent: &AgentName,
    access: &Access,
    qualify: bool,
    policies: &str,
) -> Words {
    let message = format!(
        "{agent} may not run {} ({}): no rule permits it",
        what(access),
        access.action
    );
    if qualify {
        return Words {
            code: Code::NotPermitted,
            message: format!("{message} whatever schema it is in"),
            rule: None,
            retry: Retry::Narrower,
            hint: "write the name with its schema, as in public.users".into(),
        };
    }
    Words {
        code: Code::NotPermitted,
        message,
        rule: None,
        retry: Retry::Never,
        hint: keep_to(policies),
    }
}

/// What to do where no rule permits.
pub(super) fn keep_to(policies: &str) -> String {
    match policies {
        "" => "no policy is configured; ask the operator for one".into(),
        policies => {
            format!("keep to what the policies permit ({policies}), or ask the operator for a rule")
        }
    }
}

pub(super) fn unfollowed(agent: &AgentName, why: &TooMany) -> Words {
    Words {
        code: Code::NotPermitted,
        message: format!("{agent} may not run this: {why}"),
        rule: None,
        retry: Retry::Narrower,
        hint: "name fewer tables and views in one statement".into(),
    }
}

pub(super) fn unparsable(agent: &AgentName, why: &str) -> Words {
    Words {
        code: Code::Unparsable,
        message: format!("{agent} may not run what hoop cannot read: {why}"),
        rule: None,
        retry: Retry::Narrower,
        hint: "correct the statement, or write it more simply".into(),
    }
}

pub(super) fn failed(agent: &AgentName, access: &Access, rule: Option<Rule>, why: &str) -> Words {
    Words {
        code: Code::PolicyError,
        message: format!(
            "{agent} may not run {}: a rule could not be evaluated: {why}",
            what(access)
        ),
        rule,
        retry: Retry::Never,
        hint: "tell the operator; nothing passes until the rule is corrected".into(),
    }
}

pub(super) fn unaskable(agent: &AgentName, why: &impl std::fmt::Display) -> Words {
    Words {
        code: Code::PolicyError,
        message: format!("{agent} may not run this: {why}"),
        rule: None,
        retry: Retry::Never,
        hint: "tell the operator; this is a fault of hoop's".into(),
    }
}

pub(super) fn masked(agent: &AgentName, verb: super::Verb, escape: &Escape) -> Words {
    let (message, retry, hint) = match escape {
        Escape::Column(relation) => (
            format!(
                "{agent} may not run {verb} with masked columns of {relation}: they would leave the reach of the masks"
            ),
            Retry::Narrower,
            match verb.0 {
                "COPY TO" => {
                    "COPY TO STDOUT, one in a text and in UTF-8, shows them masked, as a plain SELECT does"
                }
                _ => {
                    "name the columns, without those that are masked; a plain SELECT shows them masked"
                }
            },
        ),
        Escape::Opaque => (
            format!(
                "{agent} may not run {verb} with rows of unknown origin: they may hold masked columns"
            ),
            Retry::Narrower,
            "copy from tables by name, with their columns listed",
        ),
        Escape::Unsettled(relation) => (
            format!(
                "{agent} may not run {verb} with rows of {relation}: it was defined a moment ago, and hoop does not know yet whether masked columns stand under it"
            ),
            Retry::Again,
            "send it again after the transaction that defines it, in a request of its own; a plain SELECT passes now",
        ),
        Escape::Unread(relation) => (
            format!(
                "{agent} may not run {verb} with rows of {relation}: hoop cannot read the database's catalog now, and it may be a view of masked columns"
            ),
            Retry::Again,
            "send it again in half a minute; if that does not help, ask the operator to look at hoop's log",
        ),
        Escape::Renamed(renamed) => (
            format!(
                "{agent} may not give {renamed} another name or place: its masks know it by this one"
            ),
            Retry::Never,
            "ask the operator, who can change the masks with it",
        ),
        Escape::Storage(relation) => (
            format!("{agent} may not read {relation}: it stores values of masked columns"),
            Retry::Never,
            "read the tables themselves",
        ),
    };
    Words {
        code: Code::MaskedRead,
        message,
        rule: None,
        retry,
        hint: hint.into(),
    }
}

pub(super) fn grammar(agent: &AgentName) -> Words {
    Words {
        code: Code::Forbidden,
        message: format!("{agent} may not change how the server reads SQL: hoop would no longer read the same"),
        rule: Some(Rule("hoop/grammar".into())),
        retry: Retry::Never,
        hint: "leave standard_conforming_strings on, backslash_quote as it is and client_encoding at UTF8, and give set_config a constant name".into(),
    }
}

pub(super) fn approval(agent: &AgentName, access: &Access, demands: &[Arc<Demand>]) -> Words {
    asking(agent, &format!("run {}", what(access)), demands)
}

/// The same of something that is in words already.
pub(super) fn asking(agent: &AgentName, what: &str, demands: &[Arc<Demand>]) -> Words {
    let whose: Vec<_> = demands.iter().map(|demand| demand.whose()).collect();
    let rules: Vec<_> = demands.iter().map(|d| format!("{:?}", d.rule)).collect();
    Words {
        code: Code::ApprovalUnavailable,
        message: format!(
            "{agent} needs the approval of {} to {what} by rule {}",
            whose.join(", and "),
            rules.join(" and "),
        ),
        rule: demands
            .first()
            .map(|demand| Rule(demand.rule.as_str().into())),
        retry: Retry::AfterApproval,
        hint: "wait for the answer, or do without it".into(),
    }
}

/// A resource is reached by itself, where hoop sees what is done with it.
pub(super) fn past_hoop(
    agent: &AgentName,
    host: &str,
    to: &str,
    port: u16,
    resource: &ResourceName,
) -> Words {
    Words {
        code: Code::Destination,
        message: format!(
            "{agent} may not connect from {host} to {to}:{port}: it is the resource {resource}, which hoop governs"
        ),
        rule: Some(Rule("hoop/governed".into())),
        retry: Retry::Never,
        hint: format!("connect to {to} itself, without {host} in between"),
    }
}

pub(super) fn undecidable(agent: &AgentName, why: &Undecidable) -> Words {
    let (code, retry, hint) = match why {
        Undecidable::TooLarge { .. } => {
            (Code::TooLarge, Retry::Narrower, "send it in smaller parts")
        }
        Undecidable::UnknownName(_) => (
            Code::UnknownName,
            Retry::Narrower,
            "prepare it under a name of its own, by the protocol and not by SQL, or send the statement itself",
        ),
        Undecidable::NotUtf8 => (Code::Unparsable, Retry::Narrower, "send it in UTF-8"),
        Undecidable::UnknownOperation(_) => (
            Code::Unparsable,
            Retry::Never,
            "use the client's ordinary commands, without extensions of its own",
        ),
        Undecidable::NotServed(_) => (
            Code::NotPermitted,
            Retry::Never,
            "send it as kubectl and client-go do; the operator's chapter on Kubernetes lists what is not served",
        ),
    };
    Words {
        code,
        message: format!("{agent} may not run this: {why}"),
        rule: None,
        retry,
        hint: hint.into(),
    }
}
