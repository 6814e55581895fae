//! An object as lines that people read: YAML's form, keys sorted, texts of several lines as such.

use serde_json::Value;

/// A value and what is noted beside it.
pub(super) struct Node {
    pub what: What,
    pub note: Option<&'static str>,
}

pub(super) enum What {
    /// Text, number, truth, null, an empty list or object.
    Leaf(Value),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
    /// Left out: it is there.
    Unseen,
}

impl Node {
    pub(super) fn new(what: What) -> Self {
        Self { what, note: None }
    }
}

pub(super) fn of(node: Option<&Node>) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(node) = node {
        put(node, 0, "", &mut lines);
    }
    lines
}

/// `lead` is what the first line begins with: a key, a dash, or nothing.
fn put(node: &Node, depth: usize, lead: &str, lines: &mut Vec<String>) {
    let note = |line: String| match node.note {
        Some(note) => format!("{line}  # {note}"),
        None => line,
    };
    let indent = "  ".repeat(depth);
    let key = lead.ends_with(':');
    let space = if key { " " } else { "" };
    match &node.what {
        What::Leaf(Value::String(text)) if is_block(text) => {
            let chomp = if text.ends_with('\n') { "|" } else { "|-" };
            lines.push(note(format!("{lead}{space}{chomp}")));
            let text = text.strip_suffix('\n').unwrap_or(text);
            let below = "  ".repeat(depth + usize::from(key));
            lines.extend(text.split('\n').map(|line| format!("{below}{line}")));
        }
        What::Leaf(value) => lines.push(note(format!("{lead}{space}{}", scalar(value)))),
        What::Unseen => lines.push(note(format!("{lead}{space}(not shown)"))),
        What::Map(members) => {
            let depth = depth + usize::from(key);
            if key || node.note.is_some() {
                lines.push(note(lead.trim_end().to_owned()));
            }
            // The first member stands behind a dash.
            let mut dash = (!key && node.note.is_none()).then_some(lead);
            for (name, member) in members {
                let indent = "  ".repeat(depth);
                let lead = match dash.take() {
                    Some(lead) if !lead.is_empty() => format!("{lead}{}:", quoted(name)),
                    _ => format!("{indent}{}:", quoted(name)),
                };
                put(member, depth, &lead, lines);
            }
        }
        What::List(items) => {
            if key || node.note.is_some() || !lead.is_empty() {
                lines.push(note(lead.trim_end().to_owned()));
            }
            for item in items {
                put(item, depth + 2, &format!("{indent}  - "), lines);
            }
        }
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

/// As it is where it could be nothing but this text.
fn quoted(text: &str) -> String {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_./@+=,%$*~^()".contains(c) || c == ' ';
    let begins = |c: char| c.is_ascii_alphabetic() || c == '/' || c == '_';
    let words = ["null", "true", "false", "yes", "no", "on", "off"];
    let plain = text.starts_with(begins)
        && text.chars().all(|c| inner(c) || c == ':')
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !words.contains(&text.to_ascii_lowercase().as_str());
    match plain {
        true => text.to_owned(),
        false => Value::from(text).to_string(),
    }
}

/// Several lines, and nothing in them that a line could not show.
fn is_block(text: &str) -> bool {
    let inner = text.strip_suffix('\n').unwrap_or(text);
    inner.contains('\n') && !text.chars().any(|c| c.is_control() && c != '\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(value: &Value) -> Node {
        Node::new(match value {
            Value::Array(items) if !items.is_empty() => {
                What::List(items.iter().map(node).collect())
            }
            Value::Object(members) if !members.is_empty() => {
                What::Map(members.iter().map(|(k, v)| (k.clone(), node(v))).collect())
            }
            other => What::Leaf(other.clone()),
        })
    }

    #[test]
    fn an_object_is_written_as_people_write_it() {
        let value = serde_json::json!({
            "spec": {
                "replicas": 3, "paused": false, "empty": {}, "none": [],
                "containers": [
                    {"name": "web", "args": ["-v", "true"], "image": "a.example/web:1.2"},
                    {"name": "log"},
                ],
                "text": "one\n two\n", "cut": "one\ntwo", "odd": "a: b", "no": "no",
                "nested": [[1, 2], [3]],
            },
        });
        let expected = "\
spec:
  replicas: 3
  paused: false
  empty: {}
  none: []
  containers:
    - name: web
      args:
        - \"-v\"
        - \"true\"
      image: a.example/web:1.2
    - name: log
  text: |
    one
     two
  cut: |-
    one
    two
  odd: \"a: b\"
  \"no\": \"no\"
  nested:
    -
        - 1
        - 2
    -
        - 3";
        assert_eq!(of(Some(&node(&value))).join("\n"), expected);
    }

    #[test]
    fn what_could_not_be_seen_is_quoted() {
        for (text, shown) in [
            ("a\tb\nc", "\"a\\tb\\nc\""),
            ("", "\"\""),
            ("12", "\"12\""),
            ("a # b", "\"a # b\""),
            ("\u{7}", "\"\\u0007\""),
        ] {
            assert_eq!(of(Some(&node(&Value::from(text)))), [shown], "{text:?}");
        }
    }
}
