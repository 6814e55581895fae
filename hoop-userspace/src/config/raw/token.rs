//! `token` of `[[agent]]` as it is written.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use toml::Spanned;

use super::super::{AssertionAudience, SigningAlgorithm};
use super::{SecretRef, SecretRefVisitor, Span, Text};

/// Exactly one of these.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Token {
    pub file: Option<Text>,
    pub credential: Option<Text>,
    pub env: Option<Text>,
    pub client_credentials: Option<Spanned<ClientCredentials>>,
    pub exec: Option<Spanned<Exec>>,
    pub saml: Option<Spanned<Saml>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ClientCredentials {
    pub key: Option<Spanned<KeyRef>>,
    pub alg: Option<SigningAlgorithm>,
    pub kid: Option<Text>,
    pub audience: Option<AssertionAudience>,
    pub secret: Option<Spanned<SecretRef>>,
    pub auth: Option<SecretAuth>,
    pub scope: Option<Text>,
}

#[derive(Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum SecretAuth {
    Basic,
    Post,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Exec {
    pub command: Spanned<Vec<String>>,
    pub timeout: Option<Spanned<Span>>,
    pub refresh: Option<Spanned<Span>>,
}

/// Client authentication stands beside the file, as in `client_credentials`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Saml {
    pub file: Text,
    pub scope: Option<Text>,
    pub key: Option<Spanned<KeyRef>>,
    pub alg: Option<SigningAlgorithm>,
    pub kid: Option<Text>,
    pub audience: Option<AssertionAudience>,
    pub secret: Option<Spanned<SecretRef>>,
    pub auth: Option<SecretAuth>,
}

/// `introspection` of `[issuer]`: the client in whose name hoop asks, or `"off"`.
pub(in crate::config) enum Introspection {
    Off,
    As(IntrospectionClient),
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct IntrospectionClient {
    pub client_id: Text,
    pub key: Option<Spanned<KeyRef>>,
    pub alg: Option<SigningAlgorithm>,
    pub kid: Option<Text>,
    pub audience: Option<AssertionAudience>,
    pub secret: Option<Spanned<SecretRef>>,
    pub auth: Option<SecretAuth>,
}

impl Introspection {
    /// The secrets that it refers to, with their places.
    pub fn secrets(&self) -> Vec<Spanned<SecretRef>> {
        let Self::As(client) = self else {
            return Vec::new();
        };
        let key = client.key.as_ref().map(KeyRef::spanned);
        key.into_iter().chain(client.secret.clone()).collect()
    }
}

impl<'de> Deserialize<'de> for Introspection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IntrospectionVisitor)
    }
}

struct IntrospectionVisitor;

impl<'de> Visitor<'de> for IntrospectionVisitor {
    type Value = Introspection;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"off\" or { client_id = \"…\", key = \"…\" }")
    }

    fn visit_str<E: de::Error>(self, written: &str) -> Result<Introspection, E> {
        match written {
            "off" => Ok(Introspection::Off),
            other => Err(de::Error::unknown_variant(other, &["off"])),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Introspection, A::Error> {
        let map = de::value::MapAccessDeserializer::new(map);
        IntrospectionClient::deserialize(map).map(Introspection::As)
    }
}

impl Token {
    /// The secrets that it refers to, with their places.
    pub fn secrets(&self) -> Vec<Spanned<SecretRef>> {
        let mut found = Vec::new();
        let mut take = |key: &Option<Spanned<KeyRef>>, secret: &Option<Spanned<SecretRef>>| {
            found.extend(key.as_ref().map(KeyRef::spanned));
            found.extend(secret.clone());
        };
        if let Some(written) = &self.client_credentials {
            take(&written.get_ref().key, &written.get_ref().secret);
        }
        if let Some(written) = &self.saml {
            take(&written.get_ref().key, &written.get_ref().secret);
        }
        found
    }
}

/// A private key: the path of its file, or a reference as for any secret.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::config) struct KeyRef(pub SecretRef);

impl KeyRef {
    pub fn spanned(written: &Spanned<Self>) -> Spanned<SecretRef> {
        Spanned::new(written.span(), written.get_ref().0.clone())
    }
}

impl<'de> Deserialize<'de> for KeyRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeyRefVisitor)
    }
}

struct KeyRefVisitor;

impl<'de> Visitor<'de> for KeyRefVisitor {
    type Value = KeyRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"PATH\", { credential = \"NAME\" } or { file = \"PATH\" }")
    }

    fn visit_str<E: de::Error>(self, path: &str) -> Result<KeyRef, E> {
        // A key that was pasted here is not repeated.
        if path.contains("-----") || path.contains(['{', '\n']) {
            return Err(E::custom(
                "a private key never stands in this file: write the path of its file",
            ));
        }
        Ok(KeyRef(SecretRef::File(path.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<KeyRef, A::Error> {
        SecretRefVisitor.visit_map(map).map(KeyRef)
    }
}

/// One text or a list of them.
pub(in crate::config) struct OneOrMany(pub Vec<String>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor)
    }
}

struct OneOrManyVisitor;

impl<'de> Visitor<'de> for OneOrManyVisitor {
    type Value = OneOrMany;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_str<E: de::Error>(self, one: &str) -> Result<OneOrMany, E> {
        Ok(OneOrMany(vec![one.to_owned()]))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany, A::Error> {
        let mut found = Vec::new();
        while let Some(next) = list.next_element()? {
            found.push(next);
        }
        Ok(OneOrMany(found))
    }
}
