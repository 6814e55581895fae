//! Two masked objects side by side, with what can be said of values that are masked alike.

use std::collections::BTreeSet;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};

use super::Both;
use super::lines::{Node, What};

/// What `kubectl apply` keeps: all of the object once more, on one line.
const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

const MASKED: &str = "masked, and another value";
const UNSEEN: &str = "differs";
const PERHAPS: &str = "masked values in it may differ";

/// Shorter values occur in messages by chance.
const TELLING: usize = 4;

/// One value, as it is and as it is shown.
#[derive(Clone, Copy)]
struct One<'v> {
    raw: Option<&'v Value>,
    masked: &'v Value,
}

impl<'v> One<'v> {
    fn of(both: &'v Both) -> Self {
        Self {
            raw: Some(&both.raw),
            masked: &both.masked,
        }
    }

    fn raw_member(self, key: &str) -> Option<&'v Value> {
        self.raw?.get(key)
    }

    /// The elements as they are, where none was left out.
    fn raw_list(self, length: usize) -> Option<&'v [Value]> {
        let list = self.raw?.as_array()?;
        (list.len() == length).then_some(list.as_slice())
    }
}

/// Where in an object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Object,
    Metadata,
    Annotations,
    Deeper,
}

/// Both objects, ready to be put into lines. Notes are in the second.
pub(super) fn pair(
    before: Option<&Both>,
    after: Option<&Both>,
    of_status: bool,
) -> (Option<Node>, Option<Node>) {
    let pairing = Pairing { of_status };
    match (before.map(One::of), after.map(One::of)) {
        (Some(before), Some(after)) => {
            let (before, after) = pairing.values(At::Object, before, after);
            (Some(before), Some(after))
        }
        (before, after) => {
            let alone = |one: One<'_>| pairing.alone(At::Object, one.masked);
            (before.map(alone), after.map(alone))
        }
    }
}

struct Pairing {
    of_status: bool,
}

impl Pairing {
    fn values(&self, at: At, before: One<'_>, after: One<'_>) -> (Node, Node) {
        match (before.masked, after.masked) {
            (Value::Object(one), Value::Object(other)) if !one.is_empty() && !other.is_empty() => {
                self.maps(at, (before, one), (after, other))
            }
            (Value::Array(one), Value::Array(other)) if !one.is_empty() && !other.is_empty() => {
                self.lists((before, one), (after, other))
            }
            (one, other) => {
                let alike = one == other && before.raw != after.raw;
                let mut node = self.alone(at, other);
                node.note = alike.then_some(MASKED);
                (self.alone(at, one), node)
            }
        }
    }

    fn maps(
        &self,
        at: At,
        (before, one): (One<'_>, &Map<String, Value>),
        (after, other): (One<'_>, &Map<String, Value>),
    ) -> (Node, Node) {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let mut renamed = false;
        for (_, key) in sorted(one.keys().chain(other.keys())) {
            let below = at.below(key);
            let (raw_before, raw_after) = (before.raw_member(key), after.raw_member(key));
            match (one.get(key), other.get(key)) {
                (Some(_), Some(_)) if self.is_left_out(at, key) => {
                    let mut node = unseen();
                    node.note = (raw_before != raw_after).then_some(UNSEEN);
                    ours.push((key.clone(), unseen()));
                    theirs.push((key.clone(), node));
                }
                (Some(one), Some(other)) => {
                    renamed |= raw_before.is_none() || raw_after.is_none();
                    let before = One {
                        raw: raw_before,
                        masked: one,
                    };
                    let after = One {
                        raw: raw_after,
                        masked: other,
                    };
                    let (one, other) = self.values(below, before, after);
                    ours.push((key.clone(), one));
                    theirs.push((key.clone(), other));
                }
                (Some(one), None) => self.only(at, key, one, &mut ours),
                (None, Some(other)) => self.only(at, key, other, &mut theirs),
                (None, None) => {}
            }
        }
        let mut node = Node::new(What::Map(theirs));
        // Under names that are hidden, nobody can tell which was which.
        node.note = (renamed && before.raw != after.raw).then_some(PERHAPS);
        (Node::new(What::Map(ours)), node)
    }

    /// Elements are compared by their names where they have such, as Kubernetes merges them, and
    /// else by their places.
    fn lists(
        &self,
        (before, one): (One<'_>, &[Value]),
        (after, other): (One<'_>, &[Value]),
    ) -> (Node, Node) {
        let raw = before.raw_list(one.len()).zip(after.raw_list(other.len()));
        let named = names(one).zip(names(other));
        let partner = |index: usize| match &named {
            Some((ours, theirs)) => {
                let name = theirs.get(index)?;
                ours.iter().position(|own| own == name)
            }
            None => (one.len() == other.len()).then_some(index),
        };
        let mut ours: Vec<Node> = one.iter().map(|v| self.alone(At::Deeper, v)).collect();
        let mut theirs = Vec::with_capacity(other.len());
        for (index, value) in other.iter().enumerate() {
            let found = partner(index).and_then(|at| {
                let (raw_before, raw_after) = raw?;
                let before = One {
                    raw: raw_before.get(at),
                    masked: one.get(at)?,
                };
                let after = One {
                    raw: raw_after.get(index),
                    masked: value,
                };
                Some((at, self.values(At::Deeper, before, after)))
            });
            match found {
                Some((at, (own, node))) => {
                    if let Some(place) = ours.get_mut(at) {
                        *place = own;
                    }
                    theirs.push(node);
                }
                None => theirs.push(self.alone(At::Deeper, value)),
            }
        }
        let unpaired = named.is_none() && one.len() != other.len() || raw.is_none();
        let masks = |of: One<'_>, list: &[Value]| match of.raw {
            Some(Value::Array(raw)) => raw.as_slice() != list,
            _ => true,
        };
        let mut node = Node::new(What::List(theirs));
        let hides = masks(before, one) && masks(after, other);
        node.note = (unpaired && hides && before.raw != after.raw).then_some(PERHAPS);
        (Node::new(What::List(ours)), node)
    }

    fn only(&self, at: At, key: &str, value: &Value, nodes: &mut Vec<(String, Node)>) {
        let node = match self.is_left_out(at, key) {
            true => unseen(),
            false => self.alone(at.below(key), value),
        };
        nodes.push((key.to_owned(), node));
    }

    /// A value that has no other beside it.
    fn alone(&self, at: At, value: &Value) -> Node {
        Node::new(match value {
            Value::Object(members) if !members.is_empty() => {
                let mut nodes = Vec::with_capacity(members.len());
                for (_, key) in sorted(members.keys()) {
                    if let Some(member) = members.get(key) {
                        self.only(at, key, member, &mut nodes);
                    }
                }
                What::Map(nodes)
            }
            Value::Array(items) if !items.is_empty() => {
                What::List(items.iter().map(|v| self.alone(At::Deeper, v)).collect())
            }
            other => What::Leaf(other.clone()),
        })
    }

    /// What says nothing that stands nowhere else: what controllers report, and what `kubectl apply`
    /// keeps. That it differs is told.
    fn is_left_out(&self, at: At, key: &str) -> bool {
        match at {
            At::Object => key == "status" && !self.of_status,
            At::Annotations => key == APPLIED,
            At::Metadata | At::Deeper => false,
        }
    }
}

impl At {
    fn below(self, key: &str) -> Self {
        match (self, key) {
            (Self::Object, "metadata") => Self::Metadata,
            (Self::Metadata, "annotations") => Self::Annotations,
            _ => Self::Deeper,
        }
    }
}

/// Each key once: what says which object it is first, as people write it, and the rest by the alphabet.
fn sorted<'k>(keys: impl Iterator<Item = &'k String>) -> BTreeSet<(usize, &'k String)> {
    const FIRST: [&str; 5] = ["apiVersion", "kind", "name", "namespace", "metadata"];
    let place = |key: &String| FIRST.iter().position(|first| first == key);
    keys.map(|key| (place(key).unwrap_or(FIRST.len()), key))
        .collect()
}

fn unseen() -> Node {
    Node::new(What::Unseen)
}

/// The names of a list's elements, if each has one of its own.
fn names(list: &[Value]) -> Option<Vec<&str>> {
    let names: Option<Vec<&str>> = list.iter().map(|v| v.get("name")?.as_str()).collect();
    let names = names?;
    let distinct: BTreeSet<&str> = names.iter().copied().collect();
    (distinct.len() == names.len()).then_some(names)
}

/// The texts that a mask hides: as they stand there, and what they are in base64.
pub(super) fn hidden(raw: &Value, masked: &Value, found: &mut Vec<String>) {
    match (raw, masked) {
        (Value::Object(raw), Value::Object(masked)) => {
            for (key, value) in raw {
                match masked.get(key) {
                    Some(masked) => hidden(value, masked, found),
                    None => {
                        found.push(key.clone());
                        hidden(value, &Value::Null, found);
                    }
                }
            }
        }
        (Value::Array(raw), Value::Array(masked)) => {
            for (index, value) in raw.iter().enumerate() {
                hidden(value, masked.get(index).unwrap_or(&Value::Null), found);
            }
        }
        (Value::Object(raw), _) => raw.values().for_each(|v| hidden(v, &Value::Null, found)),
        (Value::Array(raw), _) => raw.iter().for_each(|v| hidden(v, &Value::Null, found)),
        (Value::String(raw), masked) if masked.as_str() != Some(raw) => {
            let decoded = BASE64_STANDARD.decode(raw).ok();
            let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
            let all = [Some(raw.clone()), decoded];
            let telling = |text: &String| text.len() >= TELLING;
            found.extend(all.into_iter().flatten().filter(telling));
        }
        (Value::Number(raw), masked) if masked.as_number() != Some(raw) => {
            found.extend(Some(raw.to_string()).filter(|text| text.len() >= TELLING));
        }
        _ => {}
    }
}
