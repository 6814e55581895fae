//! Objects of Kubernetes: what the agent may see of them.
//!
//! Secrets lose their values, whatever they are sent in: alone, in lists, in events of a watch, in
//! the annotation that `kubectl apply` keeps, in the objects of a Table. Other objects lose what a
//! `[[mask]]` names by namespace, resource and field, and what the detectors find. What stays is an
//! object that its schema still allows, and one that cannot be written back ([`marker`]).

mod change;
mod known;
mod list;
mod marker;
mod metadata;
mod object;
mod status;
mod table;
#[cfg(test)]
mod tests;
mod written;

pub use crate::wire::kubernetes::marker::finds_masked;
pub use change::{After, Change, ChangeKind, Foreseen, MAX_COMPARED, Raw};
pub use list::ListMasking;

use std::sync::Arc;

use serde_json::Value;

use super::rules::Rules;
use crate::wire::kubernetes::protobuf::Kinds;
use crate::wire::kubernetes::{json, request::RequestInfo};

use marker::Marker;
use object::Work;

/// Bytes of one object, or of one element of a list.
pub const MAX_OBJECT: usize = 16 << 20;

/// Bytes of a list from which on one element at a time is read. As values, all of them would take
/// several times their bytes at once.
const LARGE: usize = 1 << 20;

/// The masks of one resource, for what its API server answers. Shared by its sessions.
#[derive(Debug)]
pub struct KubernetesMasks {
    rules: Arc<Rules>,
    /// Types of Secrets whose values are shown.
    shown: Vec<String>,
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
    #[error("the answer ends within an object")]
    Unfinished,
}

impl KubernetesMasks {
    /// Values of Secrets are masked without any rule that names them, but for those whose `type` is
    /// in `shown`. What is masked besides says `rules`: `columns` name namespace, resource and field
    /// of an object.
    pub fn new(rules: Arc<Rules>, shown: Vec<String>, kinds: Arc<Kinds>) -> Self {
        Self {
            marker: Marker::new(rules.key()),
            rules,
            shown,
            kinds,
        }
    }

    /// Masks one whole document: an object, a list of them, a Table, an event of a watch, a Status.
    /// What cannot be read as JSON with one meaning is no answer that can be shown, nor is an object
    /// of more than [`MAX_OBJECT`] bytes.
    pub fn json(&self, place: &Place<'_>, document: &[u8]) -> Result<Shown, Unmaskable> {
        if document.len() > LARGE && list::begins(document) {
            return self.elements(place, document);
        }
        if document.len() > MAX_OBJECT {
            return Err(Unmaskable::TooLarge);
        }
        let mut value = json::parse(document)?;
        let values = self.value(place, &mut value);
        Ok(Shown {
            body: (values > 0).then(|| value.to_string().into_bytes()),
            values,
        })
    }

    /// A list or a Table, an element after the other.
    fn elements(&self, place: &Place<'_>, document: &[u8]) -> Result<Shown, Unmaskable> {
        let mut list = self.list(*place);
        let mut shown = Vec::with_capacity(document.len());
        list.feed(document, &mut shown)?;
        let values = list.finish()?;
        Ok(Shown {
            body: (values > 0).then_some(shown),
            values,
        })
    }

    /// A list in whatever pieces it comes: an element at a time is held and masked.
    pub fn list<'m>(&'m self, place: Place<'m>) -> ListMasking<'m> {
        ListMasking::new(self, place)
    }

    /// A body that is written, as it may be recorded and shown to people. One that cannot be read
    /// is told by its size. And whether anything of it is missing there.
    pub fn recorded(
        &self,
        place: &Place<'_>,
        content_type: Option<&str>,
        body: &[u8],
    ) -> (Vec<u8>, bool) {
        let (value, masked) = match written::read(&self.kinds, content_type, body) {
            Some(mut value) => {
                let values = self.value(place, &mut value);
                (value, values > 0)
            }
            None => {
                let told = serde_json::json!({"unreadable": true, "bytes": body.len()});
                (told, true)
            }
        };
        (value.to_string().into_bytes(), masked)
    }

    /// Whether the values of Secrets of that type are shown. One that says no type is not one of them.
    fn shows(&self, kind: &str) -> bool {
        !kind.is_empty() && self.shown.iter().any(|shown| shown == kind)
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
