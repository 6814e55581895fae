//! Patches: what an object will have, and what it will no longer have.

use serde_json::{Map, Value};

use super::facts::{KubernetesFacts, KubernetesFlag};

/// Steps of one JSON patch; the API server takes 10,000.
const MAX_STEPS: usize = 10_000;

/// Parts of a path. Objects of Kubernetes are some twenty deep.
const MAX_PARTS: usize = 64;

/// A JSON patch (RFC 6902). Each value is looked at as if it stood in an object at its path.
pub(super) fn steps(facts: &mut KubernetesFacts, patch: &Value) {
    let Some(steps) = patch.as_array().filter(|s| s.len() <= MAX_STEPS) else {
        return facts.opaque("a JSON patch is a list of at most 10,000 steps");
    };
    for step in steps {
        let text = |name: &str| step.get(name).and_then(Value::as_str);
        let (Some(op), Some(path)) = (text("op"), text("path")) else {
            return facts.opaque("a step of a JSON patch has no op or no path");
        };
        match (op, step.get("value")) {
            ("test", _) => {}
            ("remove", _) => facts.flag(KubernetesFlag::Removes),
            ("add" | "replace", Some(value)) => match within(path, value.clone()) {
                Some(whole) => {
                    merged(facts, &whole, 0);
                    facts.object(&whole);
                }
                None => facts.opaque("a path of a JSON patch is malformed or too deep"),
            },
            // What stands there only the server knows.
            ("move" | "copy", _) => facts.opaque("a JSON patch moves or copies what is not in it"),
            _ => facts.opaque("a step of a JSON patch has an op that is none, or no value"),
        }
    }
}

/// An object that has this value at this path, and nothing else.
fn within(path: &str, value: Value) -> Option<Value> {
    let parts: Vec<String> = match path.split_once('/') {
        None if path.is_empty() => Vec::new(),
        Some(("", rest)) => rest
            .split('/')
            .map(|part| part.replace("~1", "/").replace("~0", "~"))
            .collect(),
        _ => return None,
    };
    if parts.len() > MAX_PARTS {
        return None;
    }
    let whole = parts.into_iter().rev().fold(value, |value, part| {
        let index = part == "-" || !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        match index {
            // A number may be a key too: then nothing is looked for below it but what any object has.
            true => Value::Array(vec![value]),
            false => Value::Object(Map::from_iter([(part, value)])),
        }
    });
    Some(whole)
}

/// A merge patch (RFC 7386) or a strategic one: null takes away, and so do the directives of the latter.
pub(super) fn merged(facts: &mut KubernetesFacts, value: &Value, depth: usize) {
    match value {
        Value::Null if depth > 0 => facts.flag(KubernetesFlag::Removes),
        Value::Array(items) => {
            for item in items {
                merged(facts, item, depth + 1);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                let takes_away = match name.as_str() {
                    "$patch" => member != "merge",
                    "$retainKeys" => true,
                    name => name.starts_with("$deleteFromPrimitiveList/"),
                };
                if takes_away {
                    facts.flag(KubernetesFlag::Removes);
                }
                merged(facts, member, depth + 1);
            }
        }
        _ => {}
    }
}
