//! What an issuer reports by itself: Okta's event hooks, and Security Event Tokens as OpenID's Shared
//! Signals Framework pushes them (RFC 8417, RFC 8935; CAEP and RISC events).
//!
//! A report is believed as far as it was proved: a hook by the secret that Okta sends with it, a token
//! by its transmitter's signature. It can only take away, or have hoop look again; never let anybody in.

mod hook;
mod set;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde_json::Value;

pub use hook::{HookSecret, read as read_hook};
pub use set::SetError;
pub(super) use set::Transmitter;

/// Names that are taken from one report.
const MAX_NAMES: usize = 64;
/// How deep a subject's description may lie.
const MAX_DEPTH: usize = 4;

/// What a report means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Subjects and clients that may go on no more.
    pub revoked: BTreeSet<String>,
    /// Whose claims changed: their next token says how.
    pub changed: BTreeSet<String>,
}

/// What names a subject in any of RFC 9493's formats, and in the older ones that are still sent.
fn names(subject: &Value, depth: usize, found: &mut BTreeSet<String>) {
    let Value::Object(members) = subject else {
        return;
    };
    for (member, value) in members {
        match (member.as_str(), value) {
            // An account's URI is `acct:` and the address.
            ("sub" | "id" | "email" | "uri" | "alternateId", Value::String(name)) => {
                let name = name.strip_prefix("acct:").unwrap_or(name);
                if found.len() < MAX_NAMES && !name.is_empty() && name.len() <= 256 {
                    found.insert(name.to_owned());
                }
            }
            (_, Value::Object(_)) if depth < MAX_DEPTH => names(value, depth + 1, found),
            ("identifiers", Value::Array(several)) if depth < MAX_DEPTH => {
                for one in several.iter().take(MAX_NAMES) {
                    names(one, depth + 1, found);
                }
            }
            _ => {}
        }
    }
}
