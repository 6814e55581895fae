//! Objects of Kubernetes: what the agent may see of them.
//!
//! Secrets lose their values, whatever they are sent in: alone, in lists, in events of a watch, in
//! the annotation that `kubectl apply` keeps, in the objects of a Table. Other objects lose what a
//! `[[mask]]` names by namespace, resource and field, and what the detectors find. What stays is an
//! object that its schema still allows, and one that cannot be written back ([`marker`]).

#[cfg(test)]
mod detected;
mod known;
mod list;
mod marker;
mod metadata;
mod object;
mod table;
#[cfg(test)]
mod tests;
mod written;

pub use crate::wire::kubernetes::marker::finds_masked;
pub use list::ListMasking;

use std::sync::Arc;

use serde_json::Value;

use super::rules::Rules;
use crate::wire::kubernetes::protobuf::{Kinds, Malformed};
use crate::wire::kubernetes::{json, request::RequestInfo};

use marker::Marker;
use object::Work;

/// Bytes of one object, or of one element of a list that is masked as it comes.
pub const MAX_OBJECT: usize = 16 << 20;

/// The masks of one resource, for what its API server answers. Shared by its sessions.
#[derive(Debug)]
pub struct KubernetesMasks {
    rules: Arc<Rules>,
    /// Values of Secrets are masked.
    secrets: bool,
    kinds: Arc<Kinds>,
    marker: Marker,
}

/// What an answer is about, by its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place<'p> {
    /// Empty for all of them, and for what is in none.
    pub namespace: &'p str,
    /// Empty for the core group.
    pub group: &'p str,
    /// In the plural, as URLs have it; empty for other than resources.
    pub resource: &'p str,
    pub subresource: &'p str,
}

impl<'p> Place<'p> {
    pub fn of(info: &'p RequestInfo) -> Self {
        Self {
            namespace: &info.namespace,
            group: &info.api_group,
            resource: &info.resource,
            subresource: &info.subresource,
        }
    }
}

/// What became of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// `None` where nothing was masked: the bytes pass as they came.
    pub body: Option<Vec<u8>>,
    /// How many values were masked.
    pub values: u64,
}

/// Why an answer cannot be shown. The text is fit for the agent to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmaskable {
    #[error("an object of the answer is larger than {MAX_OBJECT} bytes")]
    TooLarge,
    #[error("the answer could not be read to be masked: {0}")]
    Json(#[from] json::Unreadable),
    #[error("the answer could not be read to be masked: {0}")]
    Protobuf(#[from] Malformed),
    #[error("hoop does not know the protobuf form of {0:?}: ask for JSON")]
    UnknownKind(String),
    #[error("the answer ends within an object")]
    Unfinished,
}

impl KubernetesMasks {
    /// `secrets`: values of Secrets are masked without any rule that names them. What is masked
    /// besides says `rules`: `columns` name namespace, resource and field of an object.
    pub fn new(rules: Arc<Rules>, secrets: bool, kinds: Arc<Kinds>) -> Self {
        Self {
            marker: Marker::new(rules.key()),
            rules,
            secrets,
            kinds,
        }
    }

    /// Masks one whole document: an object, a list of them, a Table, an event of a watch, a Status.
    /// What cannot be read as JSON with one meaning is no answer that can be shown.
    pub fn json(&self, place: &Place<'_>, document: &[u8]) -> Result<Shown, Unmaskable> {
        let mut value = json::parse(document)?;
        let values = self.value(place, &mut value);
        Ok(Shown {
            body: (values > 0).then(|| value.to_string().into_bytes()),
            values,
        })
    }

    /// The same of an object in protobuf, with its envelope.
    pub fn protobuf(&self, place: &Place<'_>, object: &[u8]) -> Result<Shown, Unmaskable> {
        let decoded = self.kinds.decode(object)?;
        self.decoded(place, decoded, |old, new| {
            self.kinds.rewrite(object, old, new)
        })
    }

    /// The same of an event of a watch in protobuf, without its length.
    pub fn protobuf_event(&self, place: &Place<'_>, event: &[u8]) -> Result<Shown, Unmaskable> {
        let decoded = self.kinds.decode_event(event)?;
        self.decoded(place, decoded, |old, new| {
            self.kinds.rewrite_event(event, old, new)
        })
    }

    /// A large list as it comes: an element at a time is held and masked.
    pub fn list<'m>(&'m self, place: Place<'m>) -> ListMasking<'m> {
        ListMasking::new(self, place)
    }

    /// A body that is written, as it may be recorded and shown to people. One that cannot be read
    /// is told by its size.
    pub fn recorded(&self, place: &Place<'_>, content_type: Option<&str>, body: &[u8]) -> Vec<u8> {
        match written::read(&self.kinds, content_type, body) {
            Some(mut value) => {
                self.value(place, &mut value);
                value.to_string().into_bytes()
            }
            None => serde_json::json!({"unreadable": true, "bytes": body.len()})
                .to_string()
                .into_bytes(),
        }
    }

    fn decoded(
        &self,
        place: &Place<'_>,
        decoded: crate::wire::kubernetes::protobuf::Decoded,
        rewrite: impl FnOnce(&Value, &Value) -> Result<Vec<u8>, Malformed>,
    ) -> Result<Shown, Unmaskable> {
        let old = decoded.value;
        let kind = text(old.get("kind"));
        let version = text(old.get("apiVersion"));
        if !self.kinds.knows(version, kind) {
            return Err(Unmaskable::UnknownKind(kind.to_owned()));
        }
        let mut new = old.clone();
        let mut values = self.value(place, &mut new);
        if decoded.incomplete {
            // What is not known is left out, so the object is not what it was.
            values += 1;
            object::annotate(&mut new, self.marker.plain());
        }
        let body = (values > 0).then(|| rewrite(&old, &new)).transpose()?;
        Ok(Shown { body, values })
    }

    /// Masks a document that was read; returns how many values that were.
    fn value(&self, place: &Place<'_>, value: &mut Value) -> u64 {
        let mut work = Work::new(self, *place);
        work.document(value);
        work.values
    }
}

fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}
