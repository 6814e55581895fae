//! What an agent writes, read for the recording.

use serde_json::Value;

use crate::wire::kubernetes::protobuf::{Kinds, is_enveloped};
use crate::wire::kubernetes::{json, yaml};

/// A body by its content type; `None` where it cannot be read.
pub(super) fn read(kinds: &Kinds, content_type: Option<&str>, body: &[u8]) -> Option<Value> {
    if is_enveloped(body) {
        let decoded = kinds.decode(body).ok()?;
        return (!decoded.incomplete).then_some(decoded.value);
    }
    let yaml = content_type.is_some_and(|t| t.contains("yaml"));
    match json::parse(body) {
        Ok(value) => Some(value),
        Err(_) if yaml => yaml::parse(body).ok(),
        Err(_) => None,
    }
}
