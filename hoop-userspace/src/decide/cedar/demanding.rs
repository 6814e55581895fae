//! What the annotations of a policy demand of people, checked word by word: a misspelt `@approvers`
//! must not become a permission. On a forbid they say who may lift it.

use cedar_policy::Policy;

use crate::decide::{Demand, Rule, Scope};

const KNOWN: &[&str] = &[
    "id",
    "description",
    "approvers",
    "min_approvals",
    "ttl",
    "scope",
    "lasts",
    "reason",
    "break_glass",
];

/// The first two are for every policy.
const HOW: usize = 3;

/// A day: past it a waiting client, or access that was meant to be short, is likelier forgotten.
const LONGEST: u32 = 86_400;

/// How long a window is open where the rule does not say.
const LASTS: u32 = 15 * 60;

pub(super) fn demand(policy: &Policy, rule: &Rule) -> Result<Option<Demand>, String> {
    for (name, _) in policy.annotations() {
        if !KNOWN.contains(&name) {
            return Err(format!(
                "@{name} means nothing here; there are @{}",
                KNOWN.join(", @")
            ));
        }
    }
    let text = |name| policy.annotation(name);
    let Some(approvers) = text("approvers") else {
        let how = KNOWN.iter().skip(HOW).find(|name| text(name).is_some());
        return match how {
            Some(name) => Err(format!(
                "@{name} says how to ask, but no @approvers says whom"
            )),
            None => Ok(None),
        };
    };
    let groups = clauses(approvers)?;
    let approvals = match text("min_approvals") {
        None => u8::try_from(groups.len()).unwrap_or(u8::MAX),
        Some(text) => approvals(text, groups.len())?,
    };
    let scope = scope(text("scope"))?;
    let lasts = text("lasts").map(|t| seconds("lasts", t)).transpose()?;
    if let (Some(_), Scope::Statement | Scope::Session) = (lasts, scope) {
        return Err(
            "@lasts is for @scope(\"fingerprint\") and @scope(\"resource\"): a statement is approved once, a session until it ends"
                .into(),
        );
    }
    Ok(Some(Demand {
        rule: rule.0.to_string(),
        wording: wording(policy),
        groups,
        approvals,
        wait: text("ttl").map(|t| seconds("ttl", t)).transpose()?,
        scope,
        lasts: lasts.unwrap_or(LASTS),
        reason: match text("reason") {
            None => false,
            Some("required") => true,
            Some(other) => return Err(format!("@reason({other:?}) can only be \"required\"")),
        },
        break_glass: match text("break_glass") {
            None => Vec::new(),
            Some(text) => names(text).ok_or("@break_glass names no group")?,
        },
    }))
}

fn wording(policy: &Policy) -> String {
    let text = policy.to_string();
    crate::hex::encode(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()))
}

/// `dba, oncall & security`: one of the first two, and one of the last.
fn clauses(text: &str) -> Result<Vec<Vec<String>>, String> {
    let clauses: Option<Vec<_>> = text.split('&').map(names).collect();
    let clauses = clauses.ok_or_else(|| match text.trim() {
        "" => "@approvers names no group".to_owned(),
        _ => format!("@approvers({text:?}) lacks a group beside & or a comma"),
    })?;
    match clauses.len() {
        1..=8 => Ok(clauses),
        _ => Err("@approvers joins at most 8 groups by &".into()),
    }
}

fn names(text: &str) -> Option<Vec<String>> {
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    (!names.iter().any(String::is_empty)).then_some(names)
}

fn approvals(text: &str, clauses: usize) -> Result<u8, String> {
    let number = text.parse().ok().filter(|n| (1..=20).contains(n));
    let number: u8 =
        number.ok_or_else(|| format!("@min_approvals({text:?}) is no number from 1 to 20"))?;
    if usize::from(number) < clauses {
        return Err(format!(
            "@min_approvals({text:?}) is less than the {clauses} groups that @approvers joins by &"
        ));
    }
    Ok(number)
}

fn seconds(name: &str, text: &str) -> Result<u32, String> {
    let wrong = || format!("@{name}({text:?}) is no time such as \"90s\", \"15m\" or \"1h\"");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    let seconds = number.parse::<u32>().ok().and_then(|n| n.checked_mul(unit));
    seconds
        .filter(|s| (1..=LONGEST).contains(s))
        .ok_or_else(wrong)
}

fn scope(text: Option<&str>) -> Result<Scope, String> {
    match text {
        None | Some("statement") => Ok(Scope::Statement),
        Some("fingerprint") => Ok(Scope::Fingerprint),
        Some("session") => Ok(Scope::Session),
        Some("resource") => Ok(Scope::Resource),
        Some(other) => Err(format!(
            "@scope({other:?}) is none of \"statement\", \"fingerprint\", \"session\" and \"resource\""
        )),
    }
}
