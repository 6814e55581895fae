//! One object gone through, and what of it is masked.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};

use super::known::LOOKED_FOR;
use super::marker::ANNOTATION;
use super::metadata::Around;
use super::{KubernetesMasks, Place, text};
use crate::config::How;
use crate::mask::path::{Child, JsonPath, Reached};

/// Objects within lists within events within annotations: deeper, a text is masked whole.
const DEPTH: usize = 8;

/// Shorter values are not looked for elsewhere: they occur by chance.
const TELLING: usize = 6;

/// Values of one object that are looked for elsewhere in it.
const MAX_KNOWN: usize = 512;

/// Members that name things, which other objects and clients refer to. They are no place for what
/// is hidden, and an object without them is none.
pub(super) const NAMES: [&str; 16] = [
    "apiVersion",
    "containerID",
    "continue",
    "creationTimestamp",
    "deletionTimestamp",
    "fieldPath",
    "generateName",
    "imageID",
    "kind",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "type",
    "uid",
    "volumeName",
];

/// How texts within a place are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Zone {
    /// Of a schema that Kubernetes itself has: names of members are its own.
    Typed,
    /// Names and values are whatever the author chose: a telling name tells.
    Free,
    /// The same in base64.
    Bytes,
}

/// One document being masked.
pub(super) struct Work<'m> {
    pub masks: &'m KubernetesMasks,
    place: Place<'m>,
    pub values: u64,
    /// Values of the object at hand that were masked, to be looked for in its other texts: their
    /// first [`LOOKED_FOR`] bytes.
    pub known: Vec<Vec<u8>>,
    /// Something was masked that could not hold a marker.
    unmarked: bool,
    depth: usize,
    /// The object at hand is a text within another, which has the same values.
    pub within_text: bool,
    /// Of the object around it, empty where there is none.
    around: String,
}

/// What the rules say of an object's field, and how far their paths lead.
#[derive(Clone)]
pub(super) struct Following<'r> {
    paths: &'r [(JsonPath, How)],
    reached: Vec<Reached>,
}

impl<'r> Following<'r> {
    pub(super) const NONE: Self = Following {
        paths: &[],
        reached: Vec::new(),
    };

    fn new(paths: &'r [(JsonPath, How)]) -> Self {
        Self {
            paths,
            reached: paths.iter().map(|(path, _)| path.start()).collect(),
        }
    }

    fn child(&self, child: Child<'_>) -> Self {
        let pairs = self.paths.iter().zip(&self.reached);
        Self {
            paths: self.paths,
            reached: pairs.map(|((path, _), r)| path.follow(*r, child)).collect(),
        }
    }

    /// Where several paths name a place, the mask counts that shows least.
    fn how(&self) -> Option<&'r How> {
        let pairs = self.paths.iter().zip(&self.reached);
        let named = pairs.filter(|((path, _), reached)| path.ends(**reached));
        named.map(|((_, how), _)| how).min_by_key(|how| how.shows())
    }
}

impl<'m> Work<'m> {
    pub(super) fn new(masks: &'m KubernetesMasks, place: Place<'m>) -> Self {
        Self {
            masks,
            place,
            values: 0,
            known: Vec::new(),
            unmarked: false,
            depth: 0,
            within_text: false,
            around: String::new(),
        }
    }

    /// Whatever an API server may answer, or be sent.
    pub(super) fn document(&mut self, value: &mut Value) {
        match value {
            Value::Object(object) => self.object(object, None),
            // A JSON patch.
            Value::Array(steps) => {
                for step in steps {
                    self.step(step);
                }
            }
            other => self.loose(other),
        }
    }

    /// `item_of`: the kind of the list that it stands in, whose items need not name theirs.
    pub(super) fn object(&mut self, object: &mut Map<String, Value>, item_of: Option<&str>) {
        if self.depth >= DEPTH {
            for (_, value) in object.iter_mut() {
                self.whole(value, &How::Redact, Zone::Free);
            }
            return;
        }
        self.depth += 1;
        let kind = text(object.get("kind")).to_owned();
        let event = ["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"];
        let is_event = (kind.is_empty() || kind == "WatchEvent")
            && event.contains(&text(object.get("type")))
            && object.contains_key("object");
        if is_event {
            for (name, value) in object.iter_mut() {
                match (name.as_str(), value) {
                    ("object", Value::Object(inner)) => self.object(inner, None),
                    ("type" | "kind" | "apiVersion", Value::String(_)) => {}
                    (_, other) => self.loose(other),
                }
            }
            self.depth -= 1;
            return;
        }
        if self.is_failure(object, &kind) {
            self.failure(object);
            self.depth -= 1;
            return;
        }
        let is_list = (kind.ends_with("List") || kind.is_empty())
            && object.get("items").is_some_and(Value::is_array);
        if kind == "Table" || is_list {
            for (name, value) in object.iter_mut() {
                self.member(name, value, &kind);
            }
        } else {
            let inherited = item_of.and_then(|list| list.strip_suffix("List"));
            let kind = match kind.is_empty() {
                true => inherited.unwrap_or_default().to_owned(),
                false => kind,
            };
            self.single(object, &kind);
        }
        self.depth -= 1;
    }

    /// A member of a list or a Table.
    pub(super) fn member(&mut self, name: &str, value: &mut Value, list: &str) {
        match (name, value) {
            ("items" | "rows", Value::Array(items)) => {
                for item in items {
                    self.element(name, item, list);
                }
            }
            ("kind" | "apiVersion", Value::String(_)) => {}
            (_, other) => self.loose(other),
        }
    }

    /// An element of a list, or a row of a Table.
    pub(super) fn element(&mut self, of: &str, element: &mut Value, list: &str) {
        match (of, element) {
            ("rows", Value::Object(row)) => self.row(row),
            (_, Value::Object(item)) => self.object(item, Some(list)),
            (_, other) => self.loose(other),
        }
    }

    /// An object that is no list.
    fn single(&mut self, object: &mut Map<String, Value>, kind: &str) {
        let known = std::mem::take(&mut self.known);
        let unmarked = std::mem::take(&mut self.unmarked);
        let within_text = std::mem::take(&mut self.within_text);
        let secret = self.is_secret(kind);
        let shown = self.masks.shows(text(object.get("type")));
        let bare = !object.contains_key("data") && !object.contains_key("stringData");
        let namespace = object.get("metadata").and_then(|m| m.get("namespace"));
        let namespace = match (text(namespace), &*self.around) {
            ("", "") => self.place.namespace.to_owned(),
            ("", around) => around.to_owned(),
            (named, _) => named.to_owned(),
        };
        let around = std::mem::replace(&mut self.around, namespace.clone());
        let free = !built_in(text(object.get("apiVersion")), self.place.group);
        for (field, value) in object.iter_mut() {
            if field == "apiVersion" || field == "kind" {
                continue;
            }
            let how = self.rule(&namespace, kind, field);
            let zone = match (kind, field.as_str()) {
                ("Secret" | "", "data") if secret => Zone::Bytes,
                (_, "binaryData") => Zone::Bytes,
                ("ConfigMap" | "", "data") | (_, "stringData") => Zone::Free,
                _ if free => Zone::Free,
                _ => Zone::Typed,
            };
            let hidden = secret && !shown && matches!(&**field, "data" | "stringData");
            let token = match (self.place.resource, self.place.subresource) {
                (_, "token") => field == "status",
                ("tokenreviews", _) => field == "spec",
                _ => false,
            };
            match how {
                Some(How::Inside(paths)) if !hidden => {
                    self.walk(value, &Following::new(&paths), zone, field);
                }
                Some(how) => self.whole(value, &how, zone),
                None if hidden => self.whole(value, &How::Redact, zone),
                None if token => {
                    if let Some(token) = value.get_mut("token") {
                        self.whole(token, &How::Redact, Zone::Typed);
                    }
                }
                None if field == "metadata" => {}
                None => self.walk(value, &Following::NONE, zone, field),
            }
        }
        if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
            let ruled = !self.rules_of(&namespace, kind).is_empty();
            let around = match (secret && !shown, bare) {
                (false, _) => Around::Other,
                (true, false) => Around::Secret,
                (true, true) => Around::Bare,
            };
            self.metadata(metadata, around, ruled);
        }
        self.around = around;
        self.look_for_known(object);
        if self.unmarked {
            let mut value = Value::Object(std::mem::take(object));
            annotate(&mut value, self.masks.marker.plain());
            if let Value::Object(annotated) = value {
                *object = annotated;
            }
        }
        self.unmarked = unmarked;
        let inner = std::mem::replace(&mut self.known, known);
        if within_text {
            let room = MAX_KNOWN.saturating_sub(self.known.len());
            self.known.extend(inner.into_iter().take(room));
        }
    }

    pub(super) fn is_secret(&self, kind: &str) -> bool {
        kind == "Secret" || self.place.resource == "secrets" && self.place.group.is_empty()
    }

    /// What the rules say of a field, by the resource of the request or by the object's own kind.
    fn rule(&self, namespace: &str, kind: &str, field: &str) -> Option<How> {
        let rules = &self.masks.rules;
        let own = plural(kind);
        let named = [self.place.resource, own.as_str()];
        let mut found = named
            .into_iter()
            .filter(|name| !name.is_empty())
            .filter_map(|name| rules.of_column(namespace, name, field));
        let first = found.next()?;
        Some(found.fold(first, |one, other| one.and(&other)))
    }

    /// The fields that rules name, `None` where any is meant.
    pub(super) fn rules_of(&self, namespace: &str, kind: &str) -> Vec<(Option<String>, How)> {
        let rules = &self.masks.rules;
        let mut all = rules.of_relation(namespace, self.place.resource);
        all.extend(rules.of_relation(namespace, &plural(kind)));
        all
    }

    pub(super) fn place(&self) -> &Place<'m> {
        &self.place
    }

    /// All texts, numbers and truths in a value, each by itself: its form stays.
    pub(super) fn whole(&mut self, value: &mut Value, how: &How, zone: Zone) {
        match value {
            Value::Null => {}
            Value::Array(items) => {
                for item in items {
                    self.whole(item, how, zone);
                }
            }
            Value::Object(members) => {
                for (_, member) in members.iter_mut() {
                    self.whole(member, how, zone);
                }
            }
            Value::String(written) => {
                let other = self.hide(how, written, zone);
                *written = other;
            }
            Value::Number(_) => {
                *value = Value::Number(0.into());
                self.unmarked = true;
                self.values += 1;
            }
            Value::Bool(_) => {
                *value = Value::Bool(false);
                self.unmarked = true;
                self.values += 1;
            }
        }
    }

    /// What stands in place of a text, which is remembered.
    pub(super) fn hide(&mut self, how: &How, written: &str, zone: Zone) -> String {
        self.values += 1;
        let marker = &self.masks.marker;
        match zone {
            Zone::Bytes => {
                let bytes = BASE64_STANDARD.decode(written).ok();
                let bytes = bytes.unwrap_or_else(|| written.as_bytes().to_vec());
                let other = marker.encoded(how, &bytes);
                self.remember(written.as_bytes());
                self.remember(&bytes);
                other
            }
            Zone::Free | Zone::Typed => {
                let other = marker.of(how, written.as_bytes());
                self.remember(written.as_bytes());
                self.remember(BASE64_STANDARD.encode(written).as_bytes());
                other
            }
        }
    }

    fn remember(&mut self, value: &[u8]) {
        let value = value.trim_ascii();
        if value.len() >= TELLING && self.known.len() < MAX_KNOWN {
            let looked_for = value.get(..LOOKED_FOR).unwrap_or(value);
            self.known.push(looked_for.to_vec());
        }
    }

    /// A value under a name: what the paths name, and what the detectors find.
    pub(super) fn walk(&mut self, value: &mut Value, at: &Following<'_>, zone: Zone, name: &str) {
        if let Some(how) = at.how() {
            let how = how.clone();
            return self.whole(value, &how, zone);
        }
        match value {
            // Templates and their like hold objects whole.
            Value::Object(members) if text(members.get("kind")) == "Secret" => {
                self.object(members, None);
            }
            Value::Object(members) => self.members(members, at, zone),
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.walk(item, &at.child(Child::Index(index)), zone, name);
                }
            }
            Value::String(written) => {
                let named = zone == Zone::Typed && NAMES.contains(&name);
                if !named && !is_time(written) {
                    self.detect(written, zone, name);
                }
            }
            Value::Number(number) => {
                let detection = self.masks.rules.detection();
                let found =
                    detection.is_some_and(|d| d.finds(label(zone, name), &number.to_string()));
                if found {
                    self.whole(value, &How::Redact, zone);
                }
            }
            Value::Bool(_) | Value::Null => {}
        }
    }

    fn members(&mut self, members: &mut Map<String, Value>, at: &Following<'_>, zone: Zone) {
        // `env` and its like: the value's name stands beside it.
        let named = match (members.get("name"), members.get("value")) {
            (Some(Value::String(name)), Some(Value::String(_))) => Some(name.clone()),
            _ => None,
        };
        for (key, member) in members.iter_mut() {
            let child = at.child(Child::Key(key));
            match &named {
                Some(name) if key == "value" => self.walk(member, &child, Zone::Free, name),
                _ if key == "annotations" || key == "labels" => {
                    self.walk(member, &child, Zone::Free, key);
                }
                _ => self.walk(member, &child, zone, key),
            }
        }
        let detection = self.masks.rules.detection();
        if let Some(detection) = detection.filter(|_| zone != Zone::Typed)
            && members.keys().any(|key| detection.finds("", key))
        {
            self.rename(members, |key| {
                detection
                    .finds("", key)
                    .then(|| self.masks.marker.plain().to_owned())
            });
        }
    }

    /// Gives members other names. Of several that would have the same, one stays.
    pub(super) fn rename(
        &self,
        members: &mut Map<String, Value>,
        other: impl Fn(&str) -> Option<String>,
    ) {
        let old = std::mem::take(members);
        for (key, value) in old {
            let key = other(&key).unwrap_or(key);
            members.insert(key, value);
        }
    }

    pub(super) fn detect(&mut self, written: &mut String, zone: Zone, name: &str) {
        let Some(detection) = self.masks.rules.detection() else {
            return;
        };
        if zone == Zone::Bytes {
            let bytes = BASE64_STANDARD.decode(written.as_str()).unwrap_or_default();
            let text = std::str::from_utf8(&bytes).unwrap_or_default();
            if detection.finds(name, text) {
                *written = self.hide(&How::Redact, written, zone);
            }
            return;
        }
        let marker = &self.masks.marker;
        let mut hidden = Vec::new();
        let other = detection.marked(label(zone, name), written, &mut |how, value| {
            hidden.push(value.to_owned());
            marker.of(how, value.as_bytes())
        });
        if let Some(other) = other {
            self.values += hidden.len().max(1) as u64;
            for value in &hidden {
                self.remember(value.as_bytes());
            }
            *written = other;
        }
    }

    /// What is in no object: errors, discovery, numbers of a scale.
    fn loose(&mut self, value: &mut Value) {
        self.walk(value, &Following::NONE, Zone::Typed, "");
    }

    /// One step of a JSON patch (RFC 6902).
    fn step(&mut self, step: &mut Value) {
        let path = text(step.get("path")).to_owned();
        let mut names = path.split('/').skip(1);
        let field = names.next().unwrap_or_default().to_owned();
        let secret = self.is_secret("");
        let namespace = self.place.namespace.to_owned();
        let how = self.rule(&namespace, "", &field);
        let Some(value) = step.get_mut("value") else {
            return;
        };
        match how {
            // Which places a path reaches from the middle of an object is not followed.
            Some(How::Inside(_)) => self.whole(value, &How::Redact, Zone::Free),
            Some(how) => self.whole(value, &how, Zone::Free),
            None if secret => self.whole(value, &How::Redact, Zone::Free),
            None => self.walk(
                value,
                &Following::NONE,
                Zone::Free,
                path.rsplit('/').next().unwrap_or_default(),
            ),
        }
    }
}

impl Work<'_> {
    /// A text that stands alone: a cell of a Table.
    pub(super) fn cell(&mut self, cell: &mut Value, hidden: bool) {
        match hidden {
            true => self.whole(cell, &How::Redact, Zone::Typed),
            false => self.walk(cell, &Following::NONE, Zone::Typed, "cell"),
        }
    }
}

/// Marks an object that holds a masked value which cannot say so itself.
pub(super) fn annotate(object: &mut Value, marker: &str) {
    let Some(object) = object.as_object_mut() else {
        return;
    };
    let empty = || Value::Object(Map::new());
    let metadata = object.entry("metadata").or_insert_with(empty);
    if !metadata.is_object() {
        *metadata = empty();
    }
    if let Some(metadata) = metadata.as_object_mut() {
        let annotations = metadata.entry("annotations").or_insert_with(empty);
        if !annotations.is_object() {
            *annotations = empty();
        }
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(ANNOTATION.into(), marker.into());
        }
    }
}

/// The plural that URLs have, of kinds that rules may speak of.
fn plural(kind: &str) -> String {
    let lower = kind.to_ascii_lowercase();
    match lower.as_bytes() {
        [] => lower,
        [.., b's' | b'x'] => lower + "es",
        [.., b'a' | b'e' | b'i' | b'o' | b'u', b'y'] => lower + "s",
        [start @ .., b'y'] => format!("{}ies", String::from_utf8_lossy(start)),
        _ => lower + "s",
    }
}

/// Of a group that Kubernetes brings, whose schemas are known not to name members by their values.
fn built_in(api_version: &str, group: &str) -> bool {
    let group = match api_version.split_once('/') {
        Some((group, _)) => group,
        None if api_version.is_empty() => group,
        None => "",
    };
    !group.contains('.') || group.ends_with(".k8s.io") && !group.starts_with("custom.")
}

/// The name under which a text is looked at.
fn label(zone: Zone, name: &str) -> &str {
    match zone {
        Zone::Typed => "",
        Zone::Free | Zone::Bytes => name,
    }
}

/// RFC 3339: a time that clients parse, and nothing that anybody hides.
fn is_time(text: &str) -> bool {
    let form = b"dddd-dd-ddTdd:dd:dd";
    let bytes = text.as_bytes();
    bytes.len() <= 32
        && bytes.ends_with(b"Z")
        && bytes.len() > form.len()
        && bytes.iter().zip(form).all(|(b, f)| match f {
            b'd' => b.is_ascii_digit(),
            f => b == f,
        })
        && bytes
            .iter()
            .skip(form.len())
            .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_plurals_of_urls() {
        for (kind, expected) in [
            ("Secret", "secrets"),
            ("ConfigMap", "configmaps"),
            ("Ingress", "ingresses"),
            ("NetworkPolicy", "networkpolicies"),
            ("Gateway", "gateways"),
            ("", ""),
        ] {
            assert_eq!(plural(kind), expected);
        }
    }

    #[test]
    fn times_are_told_from_other_texts() {
        assert!(is_time("2026-01-02T03:04:05Z"));
        assert!(is_time("2026-01-02T03:04:05.123456Z"));
        assert!(!is_time("2026-01-02"));
        assert!(!is_time("4111-11-11T11:11:11 4111111111111111Z"));
    }
}
