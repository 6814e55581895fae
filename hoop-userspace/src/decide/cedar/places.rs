//! In which schemas a name without one is looked for.
//!
//! PostgreSQL resolves an unqualified name by the search path, which hoop does not know: it is the
//! role's, the database's or the session's, and tables come and go. So such a name stands for
//! every table of that name. What is asked of the policies is therefore asked once for every
//! schema that they could tell from others (any text in them may be a schema's name), and once for
//! a schema that none of them knows, called `?`. A rule about `public.users` then holds for
//! `users`, and a permit for `public.users` alone does not cover it: the agent is told to qualify.

use std::collections::BTreeSet;

use cedar_policy::PolicySet;
use serde_json::Value;

/// Always among them.
const USUAL: &[&str] = &["public", "?"];

pub(super) fn schemas(set: &PolicySet) -> Vec<Box<str>> {
    let mut found: BTreeSet<Box<str>> = USUAL.iter().map(|&name| name.into()).collect();
    for policy in set.policies() {
        // What cannot be rendered cannot be looked through; the usual schemas remain.
        let mut work: Vec<Value> = policy.to_json().into_iter().collect();
        while let Some(value) = work.pop() {
            match value {
                Value::Object(fields) => {
                    for (key, value) in fields {
                        look(&mut found, &mut work, &key, value);
                    }
                }
                Value::Array(items) => work.extend(items),
                _ => {}
            }
        }
    }
    found.into_iter().collect()
}

/// Whether any policy reads an attribute of this name, of whatever it is. A policy that cannot be
/// rendered may.
pub(super) fn names(set: &PolicySet, attribute: &str) -> bool {
    set.policies().any(|policy| {
        let Ok(policy) = policy.to_json() else {
            return true;
        };
        let mut work = vec![policy];
        while let Some(value) = work.pop() {
            match value {
                Value::Object(fields) => {
                    if fields.get("attr").and_then(Value::as_str) == Some(attribute) {
                        return true;
                    }
                    work.extend(fields.into_iter().map(|(_, value)| value));
                }
                Value::Array(items) => work.extend(items),
                _ => {}
            }
        }
        false
    })
}

fn look(found: &mut BTreeSet<Box<str>>, work: &mut Vec<Value>, key: &str, value: Value) {
    match (key, value) {
        ("Value", Value::String(text)) => note(found, &text),
        ("id", Value::String(id)) => note_id(found, &id),
        ("pattern", Value::Array(parts)) => note_pattern(found, &parts),
        // Of comments and rule names nothing is decided.
        ("annotations", _) => {}
        ("==" | "!=" | "contains" | "containsAny" | "containsAll" | "like", value)
            if of_other_attribute(&value) => {}
        (_, value) => work.push(value),
    }
}

/// Constants are compared with an attribute that is no schema: in every schema alike.
fn of_other_attribute(comparison: &Value) -> bool {
    let sides = [comparison.get("left"), comparison.get("right")];
    let other = |side: &Value| {
        let attribute = side.get(".").and_then(|access| access.get("attr"));
        attribute.is_some_and(|name| name != "schema")
    };
    let constant = |side: &Value| side.get("Value").is_some_and(Value::is_string) || is_set(side);
    let pattern = comparison.get("pattern").is_some();
    let constants = sides.into_iter().flatten().filter(|s| constant(s)).count();
    sides.into_iter().flatten().any(other) && (pattern || constants == 1)
}

fn is_set(side: &Value) -> bool {
    let items = side.get("Set").and_then(Value::as_array);
    items.is_some_and(|items| items.iter().all(|item| item.get("Value").is_some()))
}

fn note(found: &mut BTreeSet<Box<str>>, text: &str) {
    // Verbs are in capitals and flags are many; neither names a schema that anybody has.
    if !text.is_empty() && text.chars().any(|c| !c.is_ascii_uppercase() && c != ' ') {
        found.insert(text.into());
    }
}

/// `resource/database/schema/…`
fn note_id(found: &mut BTreeSet<Box<str>>, id: &str) {
    if let Some(schema) = id.split('/').nth(2) {
        note(found, &schema.replace("%2F", "/").replace("%25", "%"));
    }
}

/// A pattern is tried with nothing and with something in place of its wildcards.
fn note_pattern(found: &mut BTreeSet<Box<str>>, parts: &[Value]) {
    for filling in ["", "x"] {
        let text: String = parts
            .iter()
            .map(|part| {
                part.get("Literal")
                    .and_then(Value::as_str)
                    .unwrap_or(filling)
            })
            .collect();
        note(found, &text);
    }
}
