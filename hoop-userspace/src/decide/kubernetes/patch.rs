//! Patches: what an object will have, and what it will no longer have.

use serde_json::{Map, Value};

use crate::wire::kubernetes::json;

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

/// What a step of a JSON patch does with a value that it does not hold: of an object whose fields are
/// masked, that shows them where no mask looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Moving {
    /// `copy` or `move`.
    Moves(String),
    /// `test`: whether it passes says whether a value was guessed.
    Tests(String),
    /// Nobody knows.
    Unreadable,
}

/// The first step that does.
pub(super) fn moving(body: &[u8]) -> Option<Moving> {
    let Ok(Value::Array(steps)) = json::parse(body) else {
        return Some(Moving::Unreadable);
    };
    steps.iter().find_map(|step| {
        let text = |name: &str| step.get(name).and_then(Value::as_str);
        let path = text("path").unwrap_or_default();
        match text("op") {
            Some("add" | "replace" | "remove") => None,
            Some("test") if is_shown(path) => None,
            Some("test") => Some(Moving::Tests(path.to_owned())),
            Some("copy" | "move") => Some(Moving::Moves(text("from").unwrap_or(path).to_owned())),
            _ => Some(Moving::Unreadable),
        }
    })
}

/// Of `metadata`, but for annotations, which hold copies of the object.
fn is_shown(path: &str) -> bool {
    let member = path.strip_prefix("/metadata/").unwrap_or_default();
    let member = member.split('/').next().unwrap_or_default();
    [
        "finalizers",
        "generation",
        "labels",
        "name",
        "namespace",
        "ownerReferences",
        "resourceVersion",
        "uid",
    ]
    .contains(&member)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_moves_or_tests_what_is_hidden_is_found() {
        let moves = |at: &str| Some(Moving::Moves(at.to_owned()));
        let tests = |at: &str| Some(Moving::Tests(at.to_owned()));
        for (patch, expected) in [
            (r#"[]"#, None),
            (
                r#"[{"op":"add","path":"/data/a","value":"b"},{"op":"remove","path":"/data/b"}]"#,
                None,
            ),
            (
                r#"[{"op":"test","path":"/metadata/resourceVersion","value":"5"}]"#,
                None,
            ),
            (
                r#"[{"op":"test","path":"/metadata/labels/a","value":"5"}]"#,
                None,
            ),
            (
                r#"[{"op":"copy","from":"/data/a","path":"/metadata/labels/a"}]"#,
                moves("/data/a"),
            ),
            (
                r#"[{"op":"remove","path":"/x"},{"op":"move","from":"/data","path":"/x"}]"#,
                moves("/data"),
            ),
            (
                r#"[{"op":"test","path":"/data/a","value":"b"}]"#,
                tests("/data/a"),
            ),
            (
                r#"[{"op":"test","path":"/metadata","value":{}}]"#,
                tests("/metadata"),
            ),
            (
                r#"[{"op":"test","path":"/metadata/annotations/a","value":"b"}]"#,
                tests("/metadata/annotations/a"),
            ),
            (r#"[{"op":"test","path":"","value":{}}]"#, tests("")),
            (r#"[{"op":"frob","path":"/a"}]"#, Some(Moving::Unreadable)),
            (
                r#"[{"op":"add","op":"copy","from":"/data/a","path":"/a"}]"#,
                Some(Moving::Unreadable),
            ),
            (r#"{"op":"copy"}"#, Some(Moving::Unreadable)),
            ("", Some(Moving::Unreadable)),
        ] {
            assert_eq!(moving(patch.as_bytes()), expected, "{patch}");
        }
    }
}
