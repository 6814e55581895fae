//! What was recorded, put to a decider again: what it says, and whether it is still the same that is asked.

use std::sync::Arc;

use super::policy::Verdict;
use super::recorded::Decision;
use crate::decide::{Decided, Decider, Demand, Scope, Subject};
use crate::ids::ExchangeId;
use crate::terminate::again::Lost;
use crate::terminate::{Asked, Request, SshAsked, Unit};
use crate::wire::kubernetes::marker;

/// Why what was decided can no longer be read from what is recorded of it, if so. Detectors mask constants
/// where they stand, quotes or not: then it may be another statement that is read. So it may where a
/// client prepared another under a name that was taken, which its server refused.
pub fn another(decider: &Decider, decision: &Decision<'_>, asked: &Asked) -> Option<Lost> {
    const MARK: &str = "[masked:";
    let of_text = |text| {
        let facts = decider.facts_of(text);
        let then = decision.fingerprint.filter(|then| !then.is_empty());
        match (decision.redacted, then) {
            (true, Some(then)) => (facts.fingerprint != then).then_some(Lost::Redacted),
            (true, None) => Some(Lost::Redacted),
            (false, _) if text.text.contains(MARK) && facts.unparsable.is_some() => {
                Some(Lost::Redacted)
            }
            (false, Some(then)) if !text.text.contains(MARK) && facts.fingerprint != then => {
                Some(Lost::Name)
            }
            (false, _) => None,
        }
    };
    let redacted = match asked {
        Asked::Sql(asked) => return asked.candidates.iter().find_map(of_text),
        _ if decision.redacted => true,
        // Before what is masked was noted.
        Asked::Ssh(SshAsked::Exec { text, .. }) => text.text.contains(MARK),
        Asked::Ssh(asked) => asked.text().text.contains(MARK),
        Asked::Kubernetes(asked) => {
            let kind = asked.content_type.as_deref();
            asked.target.contains(MARK)
                || memchr::memmem::find(&asked.body, MARK.as_bytes()).is_some()
                || marker::finds_masked(kind, &asked.body).is_some()
        }
        _ => false,
    };
    redacted.then_some(Lost::Redacted)
}

/// What the policies of a decider say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub verdict: Verdict,
    /// The rules that permit, ask or refuse.
    pub rules: Vec<String>,
    /// Of a refusal.
    pub code: Option<&'static str>,
    /// Of a question: what each rule demands, in words that are the same for the same.
    pub demands: Vec<String>,
}

/// Decides one thing again, as a session's own loop does.
pub fn decide(decider: &Decider, subject: &Subject, asked: Asked) -> Said {
    let request = Request {
        exchange: ExchangeId(0),
        wire: bytes::Bytes::new(),
        units: [Unit { end: 0, asked }].into_iter().collect(),
    };
    match decider.decide(subject, request) {
        Decided::Permitted(permitted) => {
            let rules = permitted.units().iter().flat_map(|unit| unit.rules.iter());
            Said {
                verdict: Verdict::Allow,
                rules: rules.map(|rule| rule.0.to_string()).collect(),
                code: None,
                demands: Vec::new(),
            }
        }
        Decided::Refused { refusal, .. } => Said {
            verdict: Verdict::Refuse,
            rules: refusal.rule.iter().map(|rule| rule.0.to_string()).collect(),
            code: Some(refusal.code.name()),
            demands: Vec::new(),
        },
        Decided::Ask { question, .. } => Said {
            verdict: Verdict::Ask,
            rules: question.demands().iter().map(|d| d.rule.clone()).collect(),
            code: None,
            demands: demanded(question.demands()),
        },
    }
}

/// All that a demand says but how its rule is written.
fn demanded(demands: &[Arc<Demand>]) -> Vec<String> {
    let mut all: Vec<String> = demands.iter().map(|demand| said(demand)).collect();
    all.sort();
    all
}

fn said(demand: &Demand) -> String {
    let Demand {
        rule,
        wording: _,
        groups: _,
        approvals: _,
        wait,
        scope,
        lasts,
        reason,
        break_glass,
    } = demand;
    let mut text = format!("{rule}: {} for each {scope}", demand.whose());
    let for_a_while = matches!(scope, Scope::Fingerprint | Scope::Resource);
    let more = [
        for_a_while.then(|| format!("for {lasts} s")),
        wait.map(|wait| format!("answered within {wait} s")),
        reason.then(|| "with a reason".to_owned()),
        (!break_glass.is_empty()).then(|| format!("break glass: {}", break_glass.join(", "))),
    ];
    for more in more.into_iter().flatten() {
        text.push_str(", ");
        text.push_str(&more);
    }
    text
}

/// Whether a decision depends on a database's catalog, which no recording holds.
pub fn depends_on_catalog(decider: &Decider, asked: &Asked) -> bool {
    let request = Request {
        exchange: ExchangeId(0),
        wire: bytes::Bytes::new(),
        units: [Unit {
            end: 0,
            asked: asked.clone(),
        }]
        .into_iter()
        .collect(),
    };
    decider.depends_on_objects(&request)
}
