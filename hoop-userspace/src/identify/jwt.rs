//! A token's form, its signature and its claims (RFC 7515, 7519, 8725, 9068). Pure: the key set
//! and the time are given.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::JsonWebKey;
use openidconnect::core::{CoreJsonWebKey, CoreJwsSigningAlgorithm as Algorithm};
use serde_json::Value;

use super::error::{Quoted, Reason};
use super::keys::KeySet;
use super::object::Object;
use super::token::MAX_TOKEN;
use crate::config::{Agent, Issuer};

const MAX_LIST: usize = 1000;

/// A token whose form was read and of which nothing is believed.
pub(super) struct Unverified<'t> {
    pub kid: Option<String>,
    algorithm: Algorithm,
    algorithm_name: String,
    /// Exactly the bytes that were signed.
    signed: &'t [u8],
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// What a verified token says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claims {
    pub subject: String,
    pub client_id: String,
    pub groups: Vec<String>,
    pub scopes: Vec<String>,
    pub expires: SystemTime,
}

/// What a token is for, which its header says where it says anything (RFC 8725 §3.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// RFC 9068, or untyped as most issuers' are.
    Access,
    /// RFC 8417: always typed, so that no access token passes for one.
    Event,
}

impl<'t> Unverified<'t> {
    pub fn parse(token: &'t str, kind: Kind) -> Result<Self, Reason> {
        if token.len() > MAX_TOKEN {
            return Err(Reason::Malformed("it is too long"));
        }
        let malformed = || Reason::Malformed("it is not three parts of base64url joined by dots");
        let (signed, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
        let (header, payload) = signed.split_once('.').ok_or_else(malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed());
        let (header, payload) = (decode(header)?, decode(payload)?);
        let signature = decode(signature)?;
        let (algorithm, algorithm_name, kid) = read_header(&header, kind)?;
        Ok(Self {
            kid,
            algorithm,
            algorithm_name,
            signed: signed.as_bytes(),
            payload,
            signature,
        })
    }

    /// Whether the set has a key that this token names, or the only one it could mean.
    pub fn has_key_in(&self, keys: &KeySet) -> bool {
        self.candidates(keys).next().is_some()
    }

    /// Checks the signature; only then are the claims read at all.
    pub fn verify(&self, keys: &KeySet, issuer: &Issuer) -> Result<Object, Reason> {
        if !issuer.algorithms.contains(&self.algorithm_name) {
            return Err(Reason::AlgorithmNotListed {
                found: Quoted::new(&self.algorithm_name),
                listed: issuer.algorithms.join(", "),
            });
        }
        if self.kid.is_none() && keys.keys.len() > 1 {
            return Err(Reason::KeyUnnamed);
        }
        if !self.has_key_in(keys) {
            return Err(Reason::UnknownKey {
                issuer: issuer.identifier.clone(),
                kid: Quoted::new(self.kid.as_deref().unwrap_or("")),
            });
        }
        // `verify_signature` refuses a key whose kind, `use` or `alg` does not fit.
        let genuine = self.candidates(keys).any(|key| {
            key.verify_signature(&self.algorithm, self.signed, &self.signature)
                .is_ok()
        });
        if !genuine {
            return Err(Reason::Signature);
        }
        Object::parse(&self.payload).ok_or(Reason::Malformed(
            "its claims are not a JSON object with each name once",
        ))
    }

    fn candidates<'k>(&self, keys: &'k KeySet) -> impl Iterator<Item = &'k CoreJsonWebKey> {
        let named = |key: &&CoreJsonWebKey| match &self.kid {
            Some(kid) => key.key_id().is_some_and(|id| id.as_str() == kid.as_str()),
            None => true,
        };
        keys.keys
            .iter()
            .filter(named)
            .collect::<Vec<_>>()
            .into_iter()
    }
}

/// `jwk`, `x5c`, `jku` and `x5u` are not looked at: a key comes from the issuer, never from the
/// token that it is to prove.
fn read_header(bytes: &[u8], kind: Kind) -> Result<(Algorithm, String, Option<String>), Reason> {
    let header = Object::parse(bytes).ok_or(Reason::Malformed(
        "its header is not a JSON object with each name once",
    ))?;
    let text = |member| {
        header
            .text(member)
            .map_err(|_| Reason::Malformed("its header holds a value of the wrong kind"))
    };
    let name = text("alg")?.ok_or(Reason::Malformed("it names no algorithm"))?;
    let algorithm = algorithm(name).ok_or_else(|| Reason::Algorithm(Quoted::new(name)))?;
    if header.get("crit").is_some() {
        return Err(Reason::Critical);
    }
    let typed = text("typ")?;
    let bare = typed.map(str::to_ascii_lowercase);
    let bare = bare
        .as_deref()
        .map(|typed| typed.strip_prefix("application/").unwrap_or(typed));
    let fits = match kind {
        Kind::Access => matches!(bare, None | Some("at+jwt" | "jwt")),
        Kind::Event => bare == Some("secevent+jwt"),
    };
    if !fits {
        return Err(Reason::Type(Quoted::new(typed.unwrap_or("no type"))));
    }
    let kid = text("kid")?.map(str::to_owned);
    Ok((algorithm, name.to_owned(), kid))
}

/// The signatures that are accepted unless the issuer's configuration lists fewer.
pub const ALGORITHMS: [&str; 9] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
];

/// What is absent is refused: `none`, the symmetric HS family
/// (hoop would hold the key that makes tokens), ES512 (the library cannot verify it).
fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "RS256" => Algorithm::RsaSsaPkcs1V15Sha256,
        "RS384" => Algorithm::RsaSsaPkcs1V15Sha384,
        "RS512" => Algorithm::RsaSsaPkcs1V15Sha512,
        "PS256" => Algorithm::RsaSsaPssSha256,
        "PS384" => Algorithm::RsaSsaPssSha384,
        "PS512" => Algorithm::RsaSsaPssSha512,
        "ES256" => Algorithm::EcdsaP256Sha256,
        "ES384" => Algorithm::EcdsaP384Sha384,
        "EdDSA" => Algorithm::EdDsa,
        _ => return None,
    })
}

/// Whether the verified claims are for us, now, and for the agent's own client.
pub(super) fn check(
    claims: &Object,
    issuer: &Issuer,
    client_id: Option<&str>,
    now: SystemTime,
) -> Result<Claims, Reason> {
    let found = required_text(claims, "iss")?;
    if found != issuer.identifier {
        return Err(Reason::Issuer {
            found: Quoted::new(found),
            expected: issuer.identifier.clone(),
        });
    }
    check_audience(claims, &issuer.audience)?;
    let expires = check_times(claims, issuer.skew, now)?;
    let client_id = check_client(claims, issuer, client_id)?;
    let subject = match claims.get("sub") {
        None => client_id.clone(),
        Some(_) => required_text(claims, "sub")?.to_owned(),
    };
    Ok(Claims {
        subject,
        client_id,
        groups: list(claims, &issuer.claims.groups)?,
        scopes: list(claims, &issuer.claims.scopes)?,
        expires,
    })
}

fn check_audience(claims: &Object, expected: &str) -> Result<(), Reason> {
    let audience = claims.get("aud").ok_or_else(|| wrong("aud", "missing"))?;
    let fits = match audience {
        Value::String(one) => one == expected,
        Value::Array(several) => several.iter().any(|one| one.as_str() == Some(expected)),
        _ => return Err(wrong("aud", "neither text nor a list")),
    };
    fits.then_some(()).ok_or_else(|| Reason::Audience {
        found: Quoted::new(&match audience {
            Value::String(one) => one.clone(),
            other => other.to_string(),
        }),
        expected: expected.to_owned(),
    })
}

fn check_times(claims: &Object, skew: Duration, now: SystemTime) -> Result<SystemTime, Reason> {
    let expires = time(claims, "exp")?.ok_or_else(|| wrong("exp", "missing"))?;
    if now >= expires + skew {
        let ago = now.duration_since(expires).unwrap_or_default();
        return Err(Reason::Expired(ago.as_secs()));
    }
    for claim in ["nbf", "iat"] {
        if let Some(from) = time(claims, claim)?
            && from > now + skew
        {
            let wait = from.duration_since(now).unwrap_or_default();
            return Err(Reason::NotYet(wait.as_secs(), claim));
        }
    }
    Ok(expires)
}

/// Seconds since 1970, which may have a fraction.
fn time(claims: &Object, claim: &'static str) -> Result<Option<SystemTime>, Reason> {
    /// Past any real token, and far from where adding to a `SystemTime` could fail.
    const LAST: f64 = 1e11;
    let Some(value) = claims.get(claim) else {
        return Ok(None);
    };
    let seconds = value
        .as_f64()
        .filter(|s| (0.0..LAST).contains(s))
        .ok_or_else(|| wrong(claim, "no time in seconds since 1970"))?;
    Ok(Some(UNIX_EPOCH + Duration::from_secs_f64(seconds)))
}

/// The first of the configured claims that is there decides.
fn check_client(
    claims: &Object,
    issuer: &Issuer,
    expected: Option<&str>,
) -> Result<String, Reason> {
    let names = &issuer.claims.client_id;
    let Some(claim) = names.iter().find(|name| claims.get(name).is_some()) else {
        return Err(wrong(&names.join("` or `"), "missing"));
    };
    let found = required_text(claims, claim)?;
    // Without a client id in the mapping the instance's claim tells whose it is.
    if expected.is_some_and(|expected| found != expected) || found.is_empty() {
        return Err(Reason::Client {
            found: Quoted::new(found),
            expected: expected.unwrap_or("any").to_owned(),
        });
    }
    Ok(found.to_owned())
}

/// What the agent's own mapping asks for: the instance that its cgroup names, and certain values.
pub(super) fn check_demands(
    claims: &Object,
    agent: &Agent,
    instance: Option<&str>,
) -> Result<(), Reason> {
    if let Some(claim) = &agent.instance_claim {
        let instance = instance.filter(|instance| !instance.is_empty());
        let instance = instance.ok_or(Reason::NoInstance)?;
        let found = required_text(claims, claim)?;
        if found != instance {
            return Err(Reason::Instance {
                claim: claim.clone(),
                found: Quoted::new(found),
                expected: Quoted::new(instance),
            });
        }
    }
    for required in &agent.required_claims {
        let value = claims
            .get(&required.name)
            .ok_or_else(|| wrong(&required.name, "missing"))?;
        let fits = |value: &Value| scalar(value).is_some_and(|text| required.any.contains(&text));
        let holds = match value {
            Value::Array(several) => several.iter().any(fits),
            one => fits(one),
        };
        if !holds {
            return Err(Reason::Required {
                claim: required.name.clone(),
                found: Quoted::new(&scalar(value).unwrap_or_else(|| value.to_string())),
                expected: required.any.join("` or `"),
            });
        }
    }
    Ok(())
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    }
}

/// A list of texts, or one text with spaces between (RFC 8693's `scope`).
fn list(claims: &Object, names: &[String]) -> Result<Vec<String>, Reason> {
    let Some(claim) = names.iter().find(|name| claims.get(name).is_some()) else {
        return Ok(Vec::new());
    };
    let items: Option<Vec<String>> = match claims.get(claim) {
        Some(Value::String(text)) => Some(text.split_whitespace().map(str::to_owned).collect()),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect(),
        _ => None,
    };
    items
        .filter(|items| items.len() <= MAX_LIST)
        .ok_or_else(|| wrong(claim, "no list of at most 1000 texts"))
}

fn required_text<'c>(claims: &'c Object, claim: &str) -> Result<&'c str, Reason> {
    match claims.text(claim) {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(wrong(claim, "missing")),
        Err(_) => Err(wrong(claim, "not text")),
    }
}

fn wrong(claim: &str, problem: &'static str) -> Reason {
    Reason::Claim {
        claim: claim.to_owned(),
        problem,
    }
}
