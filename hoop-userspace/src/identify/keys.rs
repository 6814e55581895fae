//! An issuer's keys: found by discovery, kept, and asked for anew when a token names one that is
//! not among them (rotation) or when they have grown old (withdrawal).

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::core::CoreJsonWebKey;
use serde_json::Value;

use super::discovery::Discovery;
use super::error::Reason;
use super::http::Client;

const MAX_KEYS: usize = 64;
/// RFC 7518 §3.3: an RSA key shorter than this signs nothing that counts.
const MIN_RSA_BYTES: usize = 256;

/// The issuer's keys at one time. `generation` changes exactly when the keys do.
#[derive(Debug)]
pub(super) struct KeySet {
    pub keys: Vec<CoreJsonWebKey>,
    pub generation: u64,
}

/// How often an issuer is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Keys this old are asked for again.
    pub fresh: Duration,
    /// Keys this old are no longer believed, even if the issuer cannot be reached.
    pub usable: Duration,
    /// Between two questions for a key that is unknown: anybody can invent key names.
    pub unknown: Duration,
    /// Between two questions while no keys are known at all.
    pub failed: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            fresh: Duration::from_secs(15 * 60),
            usable: Duration::from_secs(60 * 60),
            unknown: Duration::from_secs(10),
            failed: Duration::from_secs(1),
        }
    }
}

pub(super) struct Keys {
    client: Client,
    discovery: Arc<Discovery>,
    pace: Pace,
    known: RwLock<Known>,
    /// Held while the issuer is being asked, so that it is asked once for all who wait.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    set: Option<Arc<KeySet>>,
    fetched: Option<Instant>,
    asked: Option<Instant>,
    /// Why the last question failed, if it did.
    failure: Option<String>,
}

impl Keys {
    pub fn new(client: Client, discovery: Arc<Discovery>, pace: Pace) -> Self {
        Self {
            client,
            discovery,
            pace,
            known: RwLock::default(),
            asking: tokio::sync::Mutex::new(()),
        }
    }

    /// Keys among which `wanted` finds what it needs, if the issuer has such.
    pub async fn get(&self, wanted: impl Fn(&KeySet) -> bool) -> Result<Arc<KeySet>, Reason> {
        let (set, age) = self.usable();
        let stale = age >= self.pace.fresh;
        if let Some(set) = set.as_ref().filter(|set| wanted(set)) {
            // Somebody else is asking already: what is known is good enough until then.
            if !stale || self.asking.try_lock().is_err() {
                return Ok(Arc::clone(set));
            }
        }
        let _alone = self.asking.lock().await;
        // Others may have asked while this one waited.
        let (set, age) = self.usable();
        let satisfied = set.as_ref().is_some_and(|set| wanted(set)) && age < self.pace.fresh;
        if !satisfied && self.may_ask(set.is_some()) {
            let fetched = self.fetch().await;
            self.store(fetched);
        }
        self.usable().0.ok_or_else(|| {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            let why = known
                .failure
                .clone()
                .unwrap_or_else(|| "not asked yet".to_owned());
            Reason::NoKeys(why)
        })
    }

    fn usable(&self) -> (Option<Arc<KeySet>>, Duration) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let age = known.fetched.map_or(Duration::MAX, |at| at.elapsed());
        let set = known.set.clone().filter(|_| age < self.pace.usable);
        (set, age)
    }

    fn may_ask(&self, some_are_known: bool) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let pause = if some_are_known {
            self.pace.unknown
        } else {
            self.pace.failed
        };
        known.asked.is_none_or(|at| at.elapsed() >= pause)
    }

    fn store(&self, fetched: Result<Vec<CoreJsonWebKey>, String>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        known.asked = Some(now);
        match fetched {
            Err(why) => known.failure = Some(why),
            Ok(keys) => {
                let last = known.set.take();
                known.set = Some(match last {
                    Some(last) if last.keys == keys => last,
                    last => Arc::new(KeySet {
                        keys,
                        generation: last.map_or(1, |last| last.generation + 1),
                    }),
                });
                known.fetched = Some(now);
                known.failure = None;
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<CoreJsonWebKey>, String> {
        // The keys' place may have changed with them.
        let jwks = &self.discovery.ask().await?.jwks;
        let types = ["application/json", "application/jwk-set+json"];
        let body = self.client.get(jwks, &types).await?;
        read_keys(&body).map_err(|why| format!("{jwks} {why}"))
    }
}

/// The keys that can verify a signature; the rest are left out, as RFC 7517 §5 has it.
fn read_keys(body: &[u8]) -> Result<Vec<CoreJsonWebKey>, String> {
    #[derive(serde::Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let set: Set = serde_json::from_slice(body).map_err(|e| format!("is no key set: {e}"))?;
    if set.keys.len() > MAX_KEYS {
        return Err(format!("holds more than {MAX_KEYS} keys"));
    }
    Ok(set
        .keys
        .into_iter()
        .filter(is_sound)
        .filter_map(|key| serde_json::from_value(key).ok())
        .collect())
}

/// Public, asymmetric, for signatures, and long enough.
fn is_sound(key: &Value) -> bool {
    let text = |member: &str| key.get(member).and_then(Value::as_str);
    let sized = match text("kty") {
        Some("RSA") => text("n")
            .and_then(|n| URL_SAFE_NO_PAD.decode(n).ok())
            .is_some_and(|n| n.iter().skip_while(|b| **b == 0).count() >= MIN_RSA_BYTES),
        Some("EC" | "OKP") => true,
        // `oct` keys are secrets that both sides hold; a published one is nobody's.
        _ => false,
    };
    // A private key that is published proves nothing any more.
    sized && key.get("d").is_none() && !matches!(text("use"), Some(usage) if usage != "sig")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsound_keys_are_left_out() {
        let short = URL_SAFE_NO_PAD.encode([0xff; 128]);
        let long = URL_SAFE_NO_PAD.encode([0xff; 256]);
        let body = serde_json::json!({ "keys": [
            { "kty": "RSA", "n": short, "e": "AQAB" },
            { "kty": "RSA", "n": long, "e": "AQAB", "kid": "good" },
            { "kty": "RSA", "n": long, "e": "AQAB", "use": "enc" },
            { "kty": "RSA", "n": long, "e": "AQAB", "d": "AQAB" },
            { "kty": "oct", "k": "AAAA" },
            { "kty": "quantum" },
            "nonsense",
        ]});
        let keys = read_keys(&serde_json::to_vec(&body).unwrap()).unwrap();
        assert_eq!(keys.len(), 1);
        assert!(read_keys(b"{}").is_err() && read_keys(b"[").is_err());
    }
}
