//! What an issuer says of itself: OpenID Connect Discovery §4, and RFC 8414's introspection endpoint.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use openidconnect::core::CoreProviderMetadata;
use url::Url;

use super::http::Client;

/// Endpoints this old are asked for again.
const FRESH: Duration = Duration::from_secs(15 * 60);
/// Between two questions while the issuer does not describe itself.
const PAUSE: Duration = Duration::from_secs(1);

/// Where an issuer's endpoints are.
#[derive(Debug)]
pub(super) struct Endpoints {
    pub jwks: Url,
    pub token: Option<Url>,
    pub introspection: Option<Url>,
    pub userinfo: Option<Url>,
}

/// Asks one issuer for its description, and keeps it for a while.
pub(super) struct Discovery {
    client: Client,
    issuer: String,
    document: Document,
    known: Mutex<Known>,
    /// Held while the issuer is asked, so that it is asked once for all who wait.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    endpoints: Option<(Instant, Arc<Endpoints>)>,
    failed: Option<(Instant, String)>,
}

impl Discovery {
    pub fn new(client: Client, issuer: &str) -> Self {
        Self {
            client,
            issuer: issuer.to_owned(),
            document: Document::OpenId,
            known: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// Of a sender of security events, which has keys and no other endpoint of interest.
    pub fn of_transmitter(client: Client, issuer: &str) -> Self {
        Self {
            document: Document::SharedSignals,
            ..Self::new(client, issuer)
        }
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The token endpoint (RFC 6749 §3.2).
    pub async fn token(&self) -> Result<Url, String> {
        let endpoint = self.endpoints().await?.token.clone();
        endpoint.ok_or_else(|| self.lacks("token"))
    }

    /// The introspection endpoint (RFC 7662 §2).
    pub async fn introspection(&self) -> Result<Url, String> {
        let endpoint = self.endpoints().await?.introspection.clone();
        endpoint.ok_or_else(|| self.lacks("introspection"))
    }

    /// The userinfo endpoint (OpenID Connect Core §5.3).
    pub async fn userinfo(&self) -> Result<Url, String> {
        let endpoint = self.endpoints().await?.userinfo.clone();
        endpoint.ok_or_else(|| self.lacks("userinfo"))
    }

    /// What is known, if it is young; asked for otherwise.
    pub async fn endpoints(&self) -> Result<Arc<Endpoints>, String> {
        if let Some(known) = self.young() {
            return known;
        }
        let _alone = self.asking.lock().await;
        match self.young() {
            Some(known) => known,
            None => self.ask().await,
        }
    }

    /// Asks in any case; the answer serves others too.
    pub async fn ask(&self) -> Result<Arc<Endpoints>, String> {
        let read = self.read().await.map(Arc::new);
        let mut known = self.known();
        match &read {
            Ok(endpoints) => {
                known.endpoints = Some((Instant::now(), endpoints.clone()));
                known.failed = None;
            }
            Err(why) => known.failed = Some((Instant::now(), why.clone())),
        }
        read
    }

    fn young(&self) -> Option<Result<Arc<Endpoints>, String>> {
        let known = self.known();
        if let Some((at, endpoints)) = &known.endpoints
            && at.elapsed() < FRESH
        {
            return Some(Ok(endpoints.clone()));
        }
        let (at, why) = known.failed.as_ref()?;
        (at.elapsed() < PAUSE).then(|| Err(why.clone()))
    }

    async fn read(&self) -> Result<Endpoints, String> {
        let url = url_of(&self.issuer, self.document)?;
        let body = self.client.get(&url, &["application/json"]).await?;
        let unusable = |e| format!("{url} is no OpenID provider metadata: {e}");
        if self.document == Document::SharedSignals {
            let sender: Sender = serde_json::from_slice(&body)
                .map_err(|e| format!("{url} is no transmitter's metadata: {e}"))?;
            self.is_itself(&sender.issuer, &url)?;
            return Ok(Endpoints {
                jwks: is_safe(&sender.jwks_uri, &url)?,
                token: None,
                introspection: None,
                userinfo: None,
            });
        }
        let metadata: CoreProviderMetadata = serde_json::from_slice(&body).map_err(unusable)?;
        self.is_itself(metadata.issuer().as_str(), &url)?;
        let more: More = serde_json::from_slice(&body).map_err(unusable)?;
        let safe = |endpoint: &Url| is_safe(endpoint, &url);
        Ok(Endpoints {
            jwks: safe(metadata.jwks_uri().url())?,
            token: metadata
                .token_endpoint()
                .map(|e| safe(e.url()))
                .transpose()?,
            userinfo: metadata
                .userinfo_endpoint()
                .map(|e| safe(e.url()))
                .transpose()?,
            introspection: more.introspection_endpoint.as_ref().map(safe).transpose()?,
        })
    }

    fn is_itself(&self, described: &str, at: &Url) -> Result<(), String> {
        if described == self.issuer {
            return Ok(());
        }
        Err(format!(
            "{at} describes the issuer {described:?}: the configuration must write it exactly so"
        ))
    }

    fn lacks(&self, endpoint: &str) -> String {
        format!("{} names no {endpoint} endpoint", self.issuer)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which description is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Document {
    OpenId,
    /// OpenID Shared Signals Framework §7.1.
    SharedSignals,
}

/// What a transmitter says of itself.
#[derive(serde::Deserialize)]
struct Sender {
    issuer: String,
    jwks_uri: Url,
}

/// RFC 8414 §2.
#[derive(serde::Deserialize)]
struct More {
    introspection_endpoint: Option<Url>,
}

/// By https, or by http on the loopback address that the issuer itself has.
fn is_safe(endpoint: &Url, described_at: &Url) -> Result<Url, String> {
    if endpoint.scheme() != "https" && endpoint.origin() != described_at.origin() {
        return Err(format!(
            "{described_at} names {endpoint}, which is not https"
        ));
    }
    Ok(endpoint.clone())
}

/// Below the issuer's own path as OpenID Connect Discovery §4 has it and Okta serves it; a
/// transmitter's stands before its path.
fn url_of(identifier: &str, document: Document) -> Result<Url, String> {
    let base = identifier.strip_suffix('/').unwrap_or(identifier);
    let mut url = Url::parse(base).map_err(|e| e.to_string())?;
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&match document {
        Document::OpenId => format!("{path}/.well-known/openid-configuration"),
        Document::SharedSignals => format!("/.well-known/ssf-configuration{path}"),
    });
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discovery_is_below_the_issuers_path() {
        for (issuer, url) in [
            (
                "https://a.example/oauth2/aus1",
                "https://a.example/oauth2/aus1/.well-known/openid-configuration",
            ),
            (
                "https://a.example",
                "https://a.example/.well-known/openid-configuration",
            ),
            (
                "https://a.example/",
                "https://a.example/.well-known/openid-configuration",
            ),
        ] {
            assert_eq!(url_of(issuer, Document::OpenId).unwrap().as_str(), url);
        }
    }

    #[test]
    fn a_transmitters_description_is_before_its_path() {
        let url = url_of("https://a.example/t/1/", Document::SharedSignals).unwrap();
        let expected = "https://a.example/.well-known/ssf-configuration/t/1";
        assert_eq!(url.as_str(), expected);
    }

    #[test]
    fn endpoints_are_safe_or_the_issuers_own() {
        let own = Url::parse("http://127.0.0.1:9/x").unwrap();
        for (endpoint, fine) in [
            ("https://elsewhere.example/y", true),
            ("http://127.0.0.1:9/y", true),
            ("http://127.0.0.1:10/y", false),
            ("http://elsewhere.example/y", false),
        ] {
            let endpoint = Url::parse(endpoint).unwrap();
            assert_eq!(is_safe(&endpoint, &own).is_ok(), fine, "{endpoint}");
        }
    }
}
