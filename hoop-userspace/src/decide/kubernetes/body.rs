//! Bodies of requests, in the forms in which an API server takes them.

use serde_json::Value;

use crate::wire::kubernetes::protobuf::Kinds;
use crate::wire::kubernetes::request::RequestInfo;
use crate::wire::kubernetes::{json, yaml};

use super::facts::{KubernetesFacts, KubernetesFlag};
use super::{patch, pods, rights};

/// A body, read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Body {
    None,
    Object(Value),
    /// Parts of an object, as they will be.
    Patch(&'static str, Value),
    /// What it does is not known, and why.
    Opaque(String),
}

impl Body {
    pub(super) fn read(
        kinds: &Kinds,
        info: &RequestInfo,
        content_type: Option<&str>,
        bytes: &[u8],
    ) -> Self {
        if bytes.is_empty() {
            return Self::None;
        }
        let media = content_type.unwrap_or_default();
        let media = media.split(';').next().unwrap_or_default();
        let media = media.trim().to_ascii_lowercase();
        let parsed = |read: Result<Value, json::Unreadable>| read.map_err(|e| e.to_string());
        let value = match (info.verb.as_str(), media.as_str()) {
            ("patch", "application/json-patch+json") => {
                return Self::patch("json", parsed(json::parse(bytes)));
            }
            ("patch", "application/merge-patch+json") => {
                return Self::patch("merge", parsed(json::parse(bytes)));
            }
            ("patch", "application/strategic-merge-patch+json") => {
                return Self::patch("strategic", parsed(json::parse(bytes)));
            }
            ("patch", "application/apply-patch+yaml") => {
                return Self::patch("apply", parsed(yaml_or_json(bytes)));
            }
            ("patch", other) => Err(format!(
                "a patch of the type {other:?}, which hoop cannot read"
            )),
            (_, "application/json" | "") => parsed(json::parse(bytes)),
            (_, "application/yaml") => parsed(yaml_or_json(bytes)),
            (_, "application/vnd.kubernetes.protobuf") => match kinds.decode(bytes) {
                Ok(decoded) if !decoded.incomplete => Ok(decoded.value),
                Ok(decoded) => {
                    let kind = decoded.value.get("kind").and_then(Value::as_str);
                    let kind: String = kind.unwrap_or_default().chars().take(80).collect();
                    Err(format!(
                        "a {kind:?} in protobuf with fields that hoop does not know"
                    ))
                }
                Err(error) => Err(error.to_string()),
            },
            (_, other) => Err(format!(
                "a body of the type {other:?}, which hoop cannot read"
            )),
        };
        match value {
            Ok(value @ Value::Object(_)) => Self::Object(value),
            Ok(_) => Self::Opaque("the body is no object".into()),
            Err(why) => Self::Opaque(why),
        }
    }

    fn patch(kind: &'static str, value: Result<Value, String>) -> Self {
        match value {
            Ok(value) => Self::Patch(kind, value),
            Err(why) => Self::Opaque(why),
        }
    }
}

fn yaml_or_json(bytes: &[u8]) -> Result<Value, json::Unreadable> {
    match bytes.trim_ascii_start().first() {
        Some(b'{') => json::parse(bytes),
        _ => yaml::parse(bytes),
    }
}

impl KubernetesFacts {
    /// What the body says.
    pub(super) fn by_body(&mut self, body: Body) {
        match body {
            Body::None => {}
            Body::Opaque(why) => self.opaque(why),
            Body::Object(value) => {
                self.options(&value);
                self.object(&value);
            }
            Body::Patch(kind, value) => {
                kind.clone_into(&mut self.patch);
                match kind {
                    "json" => patch::steps(self, &value),
                    _ => {
                        patch::merged(self, &value, 0);
                        self.object(&value);
                    }
                }
            }
        }
    }

    /// An object, or the parts of one that a patch sets.
    pub(super) fn object(&mut self, value: &Value) {
        pods::look(self, value);
        rights::look(self, value);
    }

    /// DeleteOptions replace the query's, in a body of their own and in an eviction.
    fn options(&mut self, value: &Value) {
        use super::KubernetesAction::{Delete, DeleteCollection};
        let options = match self.action {
            Delete | DeleteCollection => Some(value),
            _ if self.subresource == "eviction" => {
                self.dry_run = false;
                value.get("deleteOptions")
            }
            _ => None,
        };
        let Some(options) = options else {
            return;
        };
        let dry_run = options.get("dryRun").and_then(Value::as_array);
        self.dry_run = dry_run.is_some_and(|d| d.len() == 1 && d.first() == Some(&"All".into()));
        self.flags.retain(|flag| *flag != KubernetesFlag::Force);
        if options.get("gracePeriodSeconds").and_then(Value::as_i64) == Some(0) {
            self.flag(KubernetesFlag::Force);
        }
    }
}
