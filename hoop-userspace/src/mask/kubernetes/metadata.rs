//! What stands around an object: annotations, which may hold a whole object as text, and who manages
//! which of its fields.

use serde_json::{Map, Value};

use super::object::{Following, Work, Zone};
use crate::config::How;
use crate::wire::kubernetes::json;

/// Annotations that name things, and are shown where no value is known that others may hold.
const NAMING: [&str; 13] = [
    "cert-manager.io/certificate-name",
    "cert-manager.io/issuer-group",
    "cert-manager.io/issuer-kind",
    "cert-manager.io/issuer-name",
    "deployment.kubernetes.io/revision",
    "helm.sh/hook",
    "helm.sh/hook-delete-policy",
    "helm.sh/hook-weight",
    "helm.sh/resource-policy",
    "kubernetes.io/service-account.name",
    "kubernetes.io/service-account.uid",
    "meta.helm.sh/release-name",
    "meta.helm.sh/release-namespace",
];

/// What metadata belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Around {
    Other,
    Secret,
    /// A Secret without its values, as where only metadata is asked for: which of them stand in
    /// annotations nobody can tell.
    Bare,
}

impl Work<'_> {
    pub(super) fn metadata(
        &mut self,
        metadata: &mut Map<String, Value>,
        around: Around,
        ruled: bool,
    ) {
        let secret = around != Around::Other;
        let ruled = ruled || around == Around::Bare;
        for (name, value) in metadata.iter_mut() {
            match (name.as_str(), value) {
                ("annotations", Value::Object(annotations)) => {
                    for (key, value) in annotations.iter_mut() {
                        match around == Around::Bare && !NAMING.contains(&key.as_str()) {
                            true => self.whole(value, &How::Redact, Zone::Free),
                            false => self.annotation(key, value, secret),
                        }
                    }
                }
                ("managedFields", Value::Array(entries)) => {
                    for fields in entries.iter_mut().filter_map(|e| e.get_mut("fieldsV1")) {
                        self.fields(fields, ruled, 0);
                    }
                }
                ("managedFields" | "ownerReferences" | "finalizers", _) => {}
                ("labels", labels) => self.walk(labels, &Following::NONE, Zone::Free, "labels"),
                (name, other) => self.walk(other, &Following::NONE, Zone::Typed, name),
            }
        }
    }

    /// An annotation may hold a whole object as text, as `kubectl apply` leaves it.
    fn annotation(&mut self, key: &str, value: &mut Value, secret: bool) {
        let Value::String(written) = value else {
            return self.whole(value, &How::Redact, Zone::Free);
        };
        let begins = written.trim_start().as_bytes().first().copied();
        if matches!(begins, Some(b'{' | b'[')) {
            let before = self.values;
            match json::parse(written.as_bytes()) {
                Ok(mut inner) => {
                    self.within_text = true;
                    self.document(&mut inner);
                    self.within_text = false;
                    if self.values > before {
                        let end = if written.ends_with('\n') { "\n" } else { "" };
                        *written = format!("{inner}{end}");
                    }
                }
                Err(_) if secret => *written = self.hide(&How::Redact, written, Zone::Free),
                Err(_) => self.detect(written, Zone::Free, key),
            }
        } else if secret && is_packed(written) {
            // What some tools keep there, compressed, is the object.
            *written = self.hide(&How::Redact, written, Zone::Free);
        } else {
            self.detect(written, Zone::Free, key);
        }
    }

    /// Who manages which fields: names, but for `v:`, which is followed by a value of a set, and
    /// `k:`, which is followed by those that tell elements of a list apart.
    fn fields(&mut self, fields: &mut Value, ruled: bool, depth: usize) {
        let Value::Object(members) = fields else {
            return;
        };
        if depth > 100 {
            return members.clear();
        }
        let detection = self.masks.rules.detection();
        let hides = |key: &str| {
            let found = detection.is_some_and(|d| d.finds("", key));
            key.starts_with("v:") && (ruled || found) || key.starts_with("k:") && found
        };
        let hidden = members.keys().filter(|key| hides(key)).count();
        if hidden > 0 {
            self.values += hidden as u64;
            let plain = self.masks.marker.plain();
            self.rename(members, |key| hides(key).then(|| format!("v:\"{plain}\"")));
        }
        for (_, member) in members.iter_mut() {
            self.fields(member, ruled, depth + 1);
        }
    }
}

/// A long text without spaces that base64 could have made.
fn is_packed(text: &str) -> bool {
    let of_base64 =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'-' | b'_');
    text.len() >= 64 && text.trim().bytes().all(of_base64)
}
