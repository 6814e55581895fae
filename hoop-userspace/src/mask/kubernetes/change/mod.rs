//! What a held change would make of an object, for people: two objects of the API server's, under
//! the same masks as its answers, and the difference between them.
//!
//! What came from the API server is a [`Raw`], which nothing outside this stage can read. Both
//! objects are masked before anything is compared. Where two values are masked alike and were not
//! the same, that is said, and neither is shown.

mod diff;
mod lines;
mod pair;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::marker::ANNOTATION;
use super::{KubernetesMasks, Place, text};
use crate::terminate::KubernetesAsked;
use crate::wire::kubernetes::json;

use pair::pair;

/// Bytes of one object that is compared.
pub const MAX_COMPARED: usize = 1 << 20;
/// Bytes of a difference that people are shown.
pub const MAX_DIFF: usize = 16 << 10;
/// Characters of a server's own words.
const MAX_WORDS: usize = 1000;

/// Members of `metadata` that change by themselves, or with every change.
const NOISE: [&str; 6] = [
    "creationTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// What an API server said, which has yet to be masked. Nobody else can read it:
///
/// ```compile_fail
/// let raw = hoop::mask::Raw::new(bytes::Bytes::from_static(b"{}"));
/// let text = raw.0;
/// ```
///
/// ```compile_fail
/// fn shown(raw: &hoop::mask::Raw) -> String { raw.to_string() }
/// ```
///
/// ```compile_fail
/// fn told(raw: &hoop::mask::Raw) -> String { serde_json::to_string(raw).unwrap() }
/// ```
pub struct Raw(Bytes);

impl Raw {
    pub fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Raw({} bytes)", self.0.len())
    }
}

/// What a request would do, as an API server said without doing it.
#[derive(Debug)]
pub struct Foreseen {
    pub asked: Arc<KubernetesAsked>,
    /// The object as it is; `None` where there is none yet.
    pub before: Option<Raw>,
    pub after: After,
}

#[derive(Debug)]
pub enum After {
    /// The object as it would be.
    Object(Raw),
    /// It would be deleted.
    Nothing,
    /// The server would not do it: its `Status`, under the code of HTTP.
    Refused(u16, Raw),
    /// Nobody knows, for this reason, in hoop's words.
    Unknown(String),
}

/// What a difference is of. The names are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    Created,
    Changed,
    Deleted,
    /// The server would store what it has already.
    Unchanged,
    /// The server would not take it.
    Refused,
    Unknown,
}

/// What people are shown of a held change. It passed the masks; only this stage makes one:
///
/// ```compile_fail
/// let forged = hoop::mask::Change { note: "x".into(), diff: String::new() };
/// ```
///
/// ```compile_fail
/// let forged: hoop::mask::Change = serde_json::from_str("{}").unwrap();
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    kind: ChangeKind,
    note: String,
    diff: String,
}

impl Change {
    pub fn kind(&self) -> ChangeKind {
        self.kind
    }

    /// One sentence for people, or several.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// Lines that begin with a space, `-`, `+` or `@@`, with three lines around each difference; at
    /// most [`MAX_DIFF`] bytes. Empty where there is nothing to compare.
    pub fn diff(&self) -> &str {
        &self.diff
    }

    fn words(kind: ChangeKind, note: impl Into<String>) -> Self {
        Self {
            kind,
            note: note.into(),
            diff: String::new(),
        }
    }
}

/// One object, as it is and as it may be shown.
struct Both {
    raw: Value,
    masked: Value,
}

impl KubernetesMasks {
    /// What people may see of a change that is held for them.
    pub fn change(&self, foreseen: &Foreseen) -> Change {
        let info = &foreseen.asked.info;
        let unknown = |why: String| Change::words(ChangeKind::Unknown, self.told(&why));
        let place = Place::of(info);
        let after = match &foreseen.after {
            After::Unknown(why) => {
                return unknown(format!("What it would change is not known: {why}."));
            }
            After::Refused(code, status) => return self.refused(foreseen, *code, status),
            After::Object(raw) => Some(raw),
            After::Nothing => None,
        };
        let read = |raw: Option<&Raw>| raw.map(|raw| self.both(&place, raw)).transpose();
        match (read(foreseen.before.as_ref()), read(after)) {
            (Ok(before), Ok(after)) => self.compared(info.subresource == "status", before, after),
            (Err(why), _) | (_, Err(why)) => {
                unknown(format!("What it would change is not shown: {why}."))
            }
        }
    }

    /// The API server said no, and why. Of what Secrets and tokens are written with nothing is told
    /// but the reason's name: messages quote what they find wrong.
    fn refused(&self, foreseen: &Foreseen, code: u16, status: &Raw) -> Change {
        let info = &foreseen.asked.info;
        let place = Place::of(info);
        let status = self.json(&place, &status.0).ok().and_then(|shown| {
            let bytes = shown.body.as_deref().unwrap_or(&status.0);
            json::parse(bytes).ok()
        });
        let status = status.unwrap_or_default();
        let reason = text(status.get("reason"));
        let message = text(status.get("message"));
        let secret = info.resource == "secrets";
        let words = match (secret || message.is_empty(), reason) {
            (false, _) => self.unquoted(foreseen, &place, message),
            (true, "") => format!("it answers with status {code}"),
            (true, reason) => reason.to_owned(),
        };
        let words: String = words.chars().take(MAX_WORDS).collect();
        let note = format!("The API server would not take it: {words}");
        Change::words(ChangeKind::Refused, self.told(&note))
    }

    /// A message without the values that masks hide in what was written and in what is there.
    fn unquoted(&self, foreseen: &Foreseen, place: &Place<'_>, message: &str) -> String {
        let mut hidden = Vec::new();
        let asked = &foreseen.asked;
        let written = super::written::read(&self.kinds, asked.content_type.as_deref(), &asked.body);
        let stored = foreseen.before.as_ref();
        let stored = stored.and_then(|raw| json::parse(&raw.0).ok());
        for value in [written, stored].into_iter().flatten() {
            let mut masked = value.clone();
            self.value(place, &mut masked);
            pair::hidden(&value, &masked, &mut hidden);
        }
        // The longest first: one may be within another.
        hidden.sort_by_key(|value| std::cmp::Reverse(value.len()));
        let mut message = message.to_owned();
        for value in hidden {
            message = message.replace(&value, "***");
        }
        message
    }

    fn both(&self, place: &Place<'_>, raw: &Raw) -> Result<Both, String> {
        if raw.0.len() > MAX_COMPARED {
            return Err(format!("the object has more than {MAX_COMPARED} bytes"));
        }
        let mut raw = json::parse(&raw.0).map_err(|error| error.to_string())?;
        let object = raw.is_object() && text(raw.get("kind")) != "Status";
        if !object {
            return Err("the API server answers with no object".into());
        }
        let mut masked = raw.clone();
        self.value(place, &mut masked);
        clean(&mut raw);
        clean(&mut masked);
        unmark(&raw, &mut masked);
        Ok(Both { raw, masked })
    }

    fn compared(&self, of_status: bool, before: Option<Both>, after: Option<Both>) -> Change {
        let kind = match (&before, &after) {
            (Some(before), Some(after)) if before.raw == after.raw => ChangeKind::Unchanged,
            (Some(_), Some(_)) => ChangeKind::Changed,
            (None, Some(_)) => ChangeKind::Created,
            (Some(_), None) => ChangeKind::Deleted,
            (None, None) => ChangeKind::Unchanged,
        };
        let note = match kind {
            ChangeKind::Created => "It would create this.",
            ChangeKind::Deleted => "It would delete this.",
            ChangeKind::Changed => "It would change this.",
            _ => {
                let note = "The API server would store what it has already.";
                return Change::words(ChangeKind::Unchanged, note);
            }
        };
        let (before, after) = pair(before.as_ref(), after.as_ref(), of_status);
        let (before, after) = (lines::of(before.as_ref()), lines::of(after.as_ref()));
        let differs = diff::unified(&before, &after, MAX_DIFF, |line| self.told(line));
        let mut note = note.to_owned();
        if differs.text.is_empty() {
            note.push_str(" What differs is masked.");
        }
        if differs.coarse {
            note.push_str(" So much differs that lines which stayed may stand among the others.");
        }
        if differs.left_out > 0 {
            let left = differs.left_out;
            let more = format!(" It is cut: {left} more lines are not shown.");
            note.push_str(&more);
        }
        Change {
            kind,
            note,
            diff: differs.text,
        }
    }

    /// A line as people see it: without what the detectors find in it.
    fn told(&self, line: &str) -> String {
        let detection = self.rules.detection();
        let masked = detection.and_then(|d| d.masked_cut(line.as_bytes()));
        match masked {
            Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            None => line.to_owned(),
        }
    }
}

/// Leaves out what changes by itself.
fn clean(object: &mut Value) {
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.retain(|name, _| !NOISE.contains(&name.as_str()));
    }
}

/// Takes out the annotation that the masks put in: it is nothing that the object has.
fn unmark(raw: &Value, masked: &mut Value) {
    let annotations = |v: &Value| v.pointer("/metadata/annotations").cloned();
    let own = annotations(raw);
    let own = own.as_ref().and_then(Value::as_object);
    if own.is_some_and(|own| own.contains_key(ANNOTATION)) {
        return;
    }
    let Some(Value::Object(metadata)) = masked.get_mut("metadata") else {
        return;
    };
    let emptied = match metadata.get_mut("annotations") {
        Some(Value::Object(annotations)) => {
            annotations.shift_remove(ANNOTATION);
            annotations.is_empty() && own.is_none_or(Map::is_empty)
        }
        _ => false,
    };
    if emptied && own.is_none() {
        metadata.shift_remove("annotations");
    }
}
