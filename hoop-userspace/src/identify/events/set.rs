//! Security Event Tokens: signed by their transmitter, meant for us, recent, and each taken once.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lru::LruCache;
use serde_json::Value;

use super::super::discovery::Discovery;
use super::super::error::Reason;
use super::super::http::Client;
use super::super::jwt::{Kind, Unverified};
use super::super::keys::{Keys, Pace};
use super::super::object::Object;
use super::{Report, names};
use crate::config::{self, Issuer};

/// Tokens whose id is remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
/// A token that was issued longer ago reports nothing new.
const LONGEST: Duration = Duration::from_secs(3600);

const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";

/// Whoever sends an issuer's events.
pub struct Transmitter {
    keys: Keys,
    issuer: Issuer,
    /// The tokens that were taken.
    taken: Mutex<LruCache<String, ()>>,
}

/// Why a token was not taken; [`SetError::code`] is RFC 8935 §2.4's.
#[derive(Debug, thiserror::Error)]
#[error("{description}")]
pub struct SetError {
    pub code: &'static str,
    pub description: String,
    /// The transmitter's keys cannot be had just now: it may send the token again.
    pub passing: bool,
}

impl Transmitter {
    pub fn new(of: &Issuer, transmitter: &config::Transmitter, client: &Client) -> Self {
        let discovery = Discovery::of_transmitter(client.clone(), &transmitter.issuer);
        Self {
            keys: Keys::new(client.clone(), Arc::new(discovery), Pace::default()),
            issuer: Issuer {
                identifier: transmitter.issuer.clone(),
                audience: transmitter.audience.clone(),
                ..of.clone()
            },
            taken: Mutex::new(LruCache::new(REMEMBERED)),
        }
    }

    /// What a token reports, once it is proved.
    pub async fn take(&self, token: &str) -> Result<Report, SetError> {
        let unverified = Unverified::parse(token, Kind::Event)?;
        let keys = self.keys.get(|keys| unverified.has_key_in(keys)).await?;
        let claims = unverified.verify(&keys, &self.issuer)?;
        self.check(&claims, SystemTime::now())?;
        let events = claims.get("events").and_then(Value::as_object);
        let events = events.ok_or_else(|| invalid("it holds no events"))?;
        let mut whom = std::collections::BTreeSet::new();
        if let Some(subject) = claims.get("sub_id") {
            names(subject, 0, &mut whom);
        }
        let mut report = Report::default();
        for (kind, event) in events {
            let mut named = whom.clone();
            if let Some(subject) = event.get("subject") {
                names(subject, 0, &mut named);
            }
            if is_revoking(kind) {
                report.revoked.extend(named);
            } else if kind.strip_prefix(CAEP) == Some("token-claims-change") {
                report.changed.extend(named);
            }
        }
        Ok(report)
    }

    fn check(&self, claims: &Object, now: SystemTime) -> Result<(), SetError> {
        let text = |claim| claims.text(claim).ok().flatten();
        if text("iss") != Some(&self.issuer.identifier) {
            return Err(error("invalid_issuer", "it is of another issuer"));
        }
        let audience = match claims.get("aud") {
            Some(Value::String(one)) => *one == self.issuer.audience,
            Some(Value::Array(several)) => several
                .iter()
                .any(|one| one.as_str() == Some(&self.issuer.audience)),
            _ => false,
        };
        if !audience {
            return Err(error("invalid_audience", "it is for another audience"));
        }
        let issued = claims.get("iat").and_then(Value::as_u64);
        let issued = issued.ok_or_else(|| invalid("`iat` is missing"))?;
        let issued = UNIX_EPOCH + Duration::from_secs(issued.min(1 << 40));
        if issued > now + self.issuer.skew || issued + LONGEST < now {
            return Err(invalid(
                "it was issued in the future, or more than an hour ago",
            ));
        }
        let id = text("jti").filter(|id| !id.is_empty() && id.len() <= 256);
        let id = id.ok_or_else(|| invalid("`jti` is missing"))?;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.put(id.to_owned(), ()) {
            None => Ok(()),
            Some(()) => Err(invalid("it was taken before")),
        }
    }
}

fn is_revoking(kind: &str) -> bool {
    match (kind.strip_prefix(CAEP), kind.strip_prefix(RISC)) {
        (Some("session-revoked"), _) => true,
        (_, Some(kind)) => matches!(
            kind,
            "account-disabled" | "account-purged" | "credential-compromise" | "sessions-revoked"
        ),
        _ => false,
    }
}

impl From<Reason> for SetError {
    fn from(reason: Reason) -> Self {
        let code = match reason {
            Reason::Signature | Reason::UnknownKey { .. } | Reason::KeyUnnamed => "invalid_key",
            Reason::NoKeys(_) => "invalid_key",
            _ => "invalid_request",
        };
        Self {
            code,
            passing: matches!(reason, Reason::NoKeys(_)),
            description: reason.to_string(),
        }
    }
}

fn invalid(description: &str) -> SetError {
    error("invalid_request", description)
}

fn error(code: &'static str, description: &str) -> SetError {
    SetError {
        code,
        description: description.to_owned(),
        passing: false,
    }
}
