//! Errors of an API server, which quote what they are about: `Invalid value: "…"`, the difference that
//! a pod may not have, the element of a set that somebody else manages.
//!
//! Where objects are masked, the words of an error are shown as far as they are known to hold none of
//! their values. What stands in their place is no mark: nobody writes an error back.

use serde_json::{Map, Value};

use super::object::{Following, Work, Zone};
use super::text;

/// In place of what is left out.
const WITHHELD: &str = "(withheld by hoop: it may quote masked values)";

/// The members of a Status.
const MEMBERS: [&str; 8] = [
    "apiVersion",
    "code",
    "details",
    "kind",
    "message",
    "metadata",
    "reason",
    "status",
];

/// What stands before a value, in the words of API servers, their decoders and patches.
const QUOTING: [&str; 15] = [
    "\n",
    "{",
    "[=",
    "Duplicate value",
    "Invalid value",
    "Unsupported value",
    "bigger context",
    "cannot parse",
    "cannot unmarshal",
    "denied the request",
    "error found in",
    "failed expression",
    "may not change",
    "may not update",
    "testing value",
];

/// Types of errors about fields (`k8s.io/apimachinery/pkg/util/validation/field`).
const TYPES: [&str; 10] = [
    "Duplicate value",
    "Forbidden",
    "Internal error",
    "Invalid value",
    "Not found",
    "Required value",
    "Too few",
    "Too long",
    "Too many",
    "Unsupported value",
];

/// What may stand behind the type.
const HARMLESS: [&str; 2] = [
    "field is immutable",
    "field is immutable when `immutable` is set",
];

impl Work<'_> {
    /// Whether it is a Status that does not say that all went well. A part of one says nothing.
    pub(super) fn is_failure(&self, object: &Map<String, Value>, kind: &str) -> bool {
        kind == "Status"
            && matches!(text(object.get("apiVersion")), "" | "v1")
            && text(object.get("status")) != "Success"
            && object.keys().all(|key| MEMBERS.contains(&key.as_str()))
    }

    /// Reason, code, and what it is about stay.
    pub(super) fn failure(&mut self, status: &mut Map<String, Value>) {
        if self.is_masked_place() {
            self.withhold(status);
        }
        for (name, value) in status.iter_mut() {
            if !matches!(
                name.as_str(),
                "apiVersion" | "code" | "kind" | "reason" | "status"
            ) {
                self.walk(value, &Following::NONE, Zone::Typed, name);
            }
        }
    }

    /// Whether what a request is about has values that are masked without a detector.
    fn is_masked_place(&self) -> bool {
        let place = self.place();
        self.is_secret("")
            || place.subresource == "token"
            || place.resource == "tokenreviews"
            || !self.rules_of(place.namespace, "").is_empty()
    }

    fn withhold(&mut self, status: &mut Map<String, Value>) {
        let reason = text(status.get("reason")).to_owned();
        let mut fields = Vec::new();
        let causes = status.get_mut("details").and_then(|d| d.get_mut("causes"));
        for cause in causes.and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(cause) = cause.as_object_mut() else {
                continue;
            };
            self.rewrite(cause, "field", |field| cut(field, &["[=", "\n"]));
            let manages = text(cause.get("reason")) == "FieldManagerConflict";
            self.rewrite(cause, "message", |message| match manages {
                true => cut(message, &QUOTING),
                false => of_field(message),
            });
            let (field, message) = (text(cause.get("field")), text(cause.get("message")));
            fields.push(format!("{field}: {message}"));
        }
        self.rewrite(status, "message", |message| match reason.as_str() {
            "Invalid" => invalid(message, &fields),
            "Conflict" => conflict(message),
            _ => cut(message, &QUOTING),
        });
    }

    fn rewrite(
        &mut self,
        of: &mut Map<String, Value>,
        member: &str,
        other: impl Fn(&str) -> String,
    ) {
        if let Some(Value::String(written)) = of.get_mut(member) {
            let other = other(written);
            if *written != other {
                *written = other;
                self.values += 1;
            }
        }
    }
}

/// A text up to the first of these.
fn cut(text: &str, before: &[&str]) -> String {
    match before.iter().filter_map(|mark| text.find(mark)).min() {
        None => text.to_owned(),
        Some(at) => withheld(text.get(..at).unwrap_or_default()),
    }
}

fn withheld(shown: &str) -> String {
    let shown = shown.trim_end();
    match shown.is_empty() {
        true => WITHHELD.to_owned(),
        false => format!("{shown} {WITHHELD}"),
    }
}

/// `Invalid value: "x": must be …`: the type alone is always the server's own words.
fn of_field(message: &str) -> String {
    match message.split_once(": ") {
        Some((_, rest)) if HARMLESS.contains(&rest) => message.to_owned(),
        Some((kind, _)) if TYPES.contains(&kind) => withheld(kind),
        None if TYPES.contains(&message) => message.to_owned(),
        _ => WITHHELD.to_owned(),
    }
}

/// `Secret "db" is invalid: data[a]: Invalid value: …`: put together again of what the causes show.
fn invalid(message: &str, fields: &[String]) -> String {
    const IS: &str = " is invalid:";
    let Some((what, _)) = message.split_once(IS) else {
        return WITHHELD.to_owned();
    };
    if cut(what, &QUOTING) != what {
        return WITHHELD.to_owned();
    }
    match fields {
        [] => withheld(&format!("{what}{IS}")),
        [one] => format!("{what}{IS} {one}"),
        more => format!("{what}{IS} [{}]", more.join(", ")),
    }
}

/// Those of versions and those of managers of fields, which name the fields.
fn conflict(message: &str) -> String {
    let known = ["Operation cannot be fulfilled on ", "Apply failed with "];
    let lists = message.starts_with("Apply failed with ");
    match known.iter().any(|begin| message.starts_with(begin)) {
        true if lists => {
            let lines: Vec<_> = message
                .split('\n')
                .map(|line| cut(line, &QUOTING))
                .collect();
            lines.join("\n")
        }
        true => cut(message, &QUOTING),
        false => cut(message, &[QUOTING.as_slice(), &[": "]].concat()),
    }
}
