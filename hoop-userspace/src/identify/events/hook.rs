//! Okta's event hooks: JSON that is proved by a secret in the `Authorization` header.

use ring::hmac;
use ring::rand::SystemRandom;
use serde_json::Value;

use super::{MAX_NAMES, Report, names};
use crate::secret::Secret;

/// Events after which a client or a user may go on no more. A single revoked token is not among
/// them: it may be one of many, and the issuer is asked about those in use.
const REVOKING: [&str; 8] = [
    "application.lifecycle.deactivate",
    "application.lifecycle.delete",
    "app.oauth2.client.lifecycle.deactivate",
    "app.oauth2.client.lifecycle.delete",
    "user.lifecycle.suspend",
    "user.lifecycle.deactivate",
    "user.lifecycle.delete.initiated",
    "user.lifecycle.delete.completed",
];

/// What the sender must know, kept so that comparing with it takes the same time whatever is sent.
pub struct HookSecret {
    key: hmac::Key,
    tag: hmac::Tag,
}

impl HookSecret {
    pub fn new(secret: &Secret) -> Result<Self, String> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| "the system has no randomness".to_owned())?;
        let tag = hmac::sign(&key, secret.expose().as_bytes());
        Ok(Self { key, tag })
    }

    /// Whether the `Authorization` header is the secret.
    pub fn is(&self, header: Option<&[u8]>) -> bool {
        header.is_some_and(|header| hmac::verify(&self.key, header, self.tag.as_ref()).is_ok())
    }
}

/// What a hook's body reports; `None` if it is no such body.
pub fn read(body: &[u8]) -> Option<Report> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let events = body.get("data")?.get("events")?.as_array()?;
    let mut report = Report::default();
    for event in events.iter().take(MAX_NAMES) {
        let kind = event.get("eventType")?.as_str()?;
        if !REVOKING.contains(&kind) {
            continue;
        }
        let targets = event.get("target").and_then(Value::as_array);
        for target in targets.into_iter().flatten().take(MAX_NAMES) {
            names(target, 0, &mut report.revoked);
        }
    }
    Some(report)
}
