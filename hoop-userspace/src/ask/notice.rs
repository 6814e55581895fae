//! What channels say of a question: a webhook's JSON, and Slack's blocks.
//!
//! Statements are left out unless the channel is told to show them: they may hold what shall not
//! leave the host.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::case::{Case, State, Verdict};
use super::count::missing;

/// Characters of a statement in a message.
const MAX_STATEMENT: usize = 2000;

/// What happened, as the body's `type`. The names are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    Asked,
    /// The state that it came to is in the body.
    Settled,
    /// One person approved alone, in an emergency.
    BreakGlass,
}

impl Happened {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "approval.asked",
            Self::Settled => "approval.settled",
            Self::BreakGlass => "approval.break_glass",
        }
    }
}

/// The body of a webhook.
pub fn webhook(case: &Case, happened: Happened, statements: bool) -> Value {
    let asking = &case.asking;
    let mut data = json!({
        "question": case.id,
        "state": case.standing.state,
        "agent": asking.agent,
        "service_account": asking.subject,
        "resource": asking.resource,
        "database": asking.database,
        "session": asking.session.to_string(),
        "message": asking.message,
        "rules": asking.demands.iter().map(|d| &d.rule).collect::<Vec<_>>(),
        "needs": needs(case),
        "asked": stamp(case.asked),
        "until": stamp(case.until),
        "in_transaction": asking.in_transaction,
        "approved_by": approvers(case),
        "by": case.standing.by,
        "reason": case.standing.reason,
        "break_glass": case.standing.break_glass,
    });
    if statements && let Some(data) = data.as_object_mut() {
        let shown: Vec<String> = asking.statements.iter().map(|s| cut(&s.text)).collect();
        data.insert("statements".into(), json!(shown));
    }
    let timestamp = match happened {
        Happened::Asked => case.asked,
        Happened::Settled | Happened::BreakGlass => case.standing.at,
    };
    json!({ "type": happened.as_str(), "timestamp": stamp(timestamp), "data": data })
}

/// Buttons that answer a question, by what the keeper made of it; whoever presses one is asked who
/// it is by Slack's signature.
pub fn buttons(value: &str) -> Value {
    let button = |action: &str, label: &str, style: &str| {
        json!({
            "type": "button", "action_id": action, "value": value, "style": style,
            "text": { "type": "plain_text", "text": label },
        })
    };
    let elements = [
        button("approve", "Approve", "primary"),
        button("refuse", "Refuse", "danger"),
    ];
    json!({ "type": "actions", "elements": elements })
}

/// What a message to Slack shows besides.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extras<'c> {
    pub statements: bool,
    /// What buttons say, where they are heard.
    pub buttons: Option<&'c str>,
    /// Where the console is.
    pub console: Option<&'c str>,
}

/// The body of a message to Slack's incoming webhooks.
pub fn slack(case: &Case, happened: Happened, extras: Extras<'_>) -> Value {
    let statements = extras.statements;
    let head = match happened {
        Happened::Asked => format!("Approval needed: {}", case.id),
        Happened::Settled => format!("Question {} is {}", case.id, case.standing.state),
        Happened::BreakGlass => format!("BREAK GLASS: {} was approved by one person", case.id),
    };
    let mut blocks = vec![
        json!({ "type": "header", "text": plain(&head) }),
        json!({ "type": "section", "text": plain(&case.asking.message) }),
    ];
    if statements {
        // Slack takes 50 blocks.
        let shown = case.asking.statements.iter().take(20);
        blocks.extend(shown.map(|s| json!({ "type": "section", "text": plain(&cut(&s.text)) })));
    }
    let mut notes = vec![format!(
        "agent {} on {}",
        case.asking.agent, case.asking.resource
    )];
    if case.standing.state == State::Pending {
        notes.push(format!("needs {}", needs(case).join("; ")));
        notes.push(format!("until {}", stamp(case.until)));
        notes.push(match extras.console {
            Some(console) => format!("{console}/approvals/{}", case.id),
            None => format!("hoop approvals show {}", case.id),
        });
    }
    let approvers = approvers(case);
    if !approvers.is_empty() {
        notes.push(format!("approved by {}", approvers.join(", ")));
    }
    if let Some(by) = &case.standing.by {
        notes.push(format!("{} by {by}", case.standing.state));
    }
    if !case.standing.reason.is_empty() {
        notes.push(case.standing.reason.clone());
    }
    let elements: Vec<Value> = notes.iter().take(10).map(|note| plain(note)).collect();
    blocks.push(json!({ "type": "context", "elements": elements }));
    if case.standing.state == State::Pending
        && let Some(value) = extras.buttons
    {
        blocks.push(buttons(value));
    }
    json!({ "text": head, "blocks": blocks })
}

/// Text that Slack does not interpret: no links, no mentions.
fn plain(text: &str) -> Value {
    json!({ "type": "plain_text", "text": cut(text), "emoji": false })
}

fn needs(case: &Case) -> Vec<String> {
    match case.standing.state {
        State::Pending => {
            let demands = case.asking.demands.iter();
            demands.filter_map(|d| missing(d, &case.votes)).collect()
        }
        _ => Vec::new(),
    }
}

fn approvers(case: &Case) -> Vec<&str> {
    let approvals = case.votes.iter().filter(|v| v.verdict == Verdict::Approve);
    approvals.map(|vote| vote.who.as_str()).collect()
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_STATEMENT).collect()
}

fn stamp(time: OffsetDateTime) -> String {
    let whole = time.replace_nanosecond(0).unwrap_or(time);
    whole.format(&Rfc3339).unwrap_or_default()
}
