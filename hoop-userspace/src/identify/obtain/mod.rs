//! Obtaining an agent's token at its issuer's token endpoint, and renewing it: at two thirds of its
//! life in the background, one request at a time per agent, with pauses that grow while the issuer
//! refuses. Runs in the worker. What is obtained is a claim like any other until it is verified.

mod client;
mod key;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use zeroize::Zeroizing;

pub(super) use client::{Client as Proof, Endpoint, Request};
pub use key::SigningKey;

use super::discovery::Discovery;
use super::error::Quoted;
use super::http::Client;
use super::metrics::Metrics;
use super::token::MAX_TOKEN;
use crate::config::{Agent, TokenSource};

const SAML_BEARER: &str = "urn:ietf:params:oauth:grant-type:saml2-bearer";
/// Discovery and the request together.
const WITHIN: Duration = Duration::from_secs(8);
/// Where the issuer does not say how long its token lives.
const UNSAID: Duration = Duration::from_secs(300);
/// The pause after the first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// A token is not given up before this age, which is also how often unknown keys are asked for.
const YOUNG: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

pub(super) type Token = Arc<Zeroizing<String>>;

/// Obtains one agent's token.
pub(super) struct Obtainer(Arc<Inner>);

struct Inner {
    client: Client,
    discovery: Arc<Discovery>,
    client_id: String,
    scope: Option<String>,
    proof: Arc<Proof>,
    metrics: Arc<Metrics>,
    first_pause: Duration,
    known: Mutex<Known>,
    /// Held while the issuer is asked, so that it is asked once for all who wait.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    held: Option<Held>,
    failures: u32,
    failed: Option<(Instant, String)>,
}

struct Held {
    token: Token,
    /// Of the SAML assertion that it was given for: a new assertion wants a new token.
    basis: Option<[u8; 32]>,
    obtained: Instant,
    life: Duration,
}

impl Obtainer {
    /// `None` if the keeper finds the agent's token and nothing has to be obtained.
    pub fn new(
        agent: &Agent,
        client: &Client,
        discovery: &Arc<Discovery>,
        metrics: &Arc<Metrics>,
    ) -> Result<Option<Self>, String> {
        Self::with_pause(agent, client, discovery, metrics, FIRST_PAUSE)
    }

    pub(super) fn with_pause(
        agent: &Agent,
        client: &Client,
        discovery: &Arc<Discovery>,
        metrics: &Arc<Metrics>,
        first_pause: Duration,
    ) -> Result<Option<Self>, String> {
        let (auth, scope) = match &agent.token {
            Some(TokenSource::ClientCredentials {
                client: auth,
                scope,
            }) => (Some(auth), scope),
            Some(TokenSource::Saml {
                client: auth,
                scope,
                ..
            }) => (auth.as_ref(), scope),
            _ => return Ok(None),
        };
        let Some(client_id) = &agent.client_id else {
            return Ok(None);
        };
        Ok(Some(Self(Arc::new(Inner {
            client: client.clone(),
            discovery: discovery.clone(),
            client_id: client_id.clone(),
            scope: scope.clone(),
            proof: Arc::new(Proof::new(auth)?),
            metrics: metrics.clone(),
            first_pause,
            known: Mutex::default(),
            asking: tokio::sync::Mutex::new(()),
        }))))
    }

    /// In whose name the token is obtained, where the issuer can know that it is the client.
    pub fn own_proof(&self) -> Option<(String, Arc<Proof>)> {
        let proof = match *self.0.proof {
            Proof::Public => return None,
            _ => self.0.proof.clone(),
        };
        Some((self.0.client_id.clone(), proof))
    }

    /// Forgets the token in any case: whoever may obtain the next one was asked.
    pub fn forget(&self) {
        let mut known = self.0.known();
        known.held = None;
        known.failures = 0;
        known.failed = None;
    }

    /// A token that has not run out, or why there is none. `assertion` is the SAML assertion, if
    /// that is the grant.
    pub async fn token(&self, assertion: Option<&str>) -> Result<Token, String> {
        let basis = assertion.map(digest_of);
        if let Some((token, fresh)) = self.0.held(basis) {
            if !fresh {
                self.renew(assertion, basis);
            }
            return Ok(token);
        }
        let _alone = self.0.asking.lock().await;
        // Others may have asked while this one waited.
        if let Some((token, _)) = self.0.held(basis) {
            return Ok(token);
        }
        self.0.ask(assertion, basis).await
    }

    /// Forgets a token that the issuer's keys no longer prove, so that the next one is asked for. A
    /// young one stays: not every connection shall cost the issuer a request.
    pub fn discard(&self, token: &Token) -> bool {
        let mut known = self.0.known();
        let found = known
            .held
            .take_if(|held| Arc::ptr_eq(&held.token, token) && held.obtained.elapsed() >= YOUNG);
        // Somebody else may have done it already.
        found.is_some()
            || known
                .held
                .as_ref()
                .is_none_or(|held| !Arc::ptr_eq(&held.token, token))
    }

    /// In the background: whoever wants the token now goes on with the one there is.
    fn renew(&self, assertion: Option<&str>, basis: Option<[u8; 32]>) {
        let inner = Arc::clone(&self.0);
        let assertion = assertion.map(|text| Zeroizing::new(text.to_owned()));
        tokio::spawn(async move {
            let Ok(_alone) = inner.asking.try_lock() else {
                return;
            };
            // Another renewal may have ended just now.
            if inner.held(basis).is_some_and(|(_, fresh)| fresh) {
                return;
            }
            let assertion = assertion.as_ref().map(|text| text.as_str());
            if let Err(why) = inner.ask(assertion, basis).await {
                tracing::debug!(client = inner.client_id, why, "a token was not renewed");
            }
        });
    }
}

impl Inner {
    /// The token that is held for this assertion, and whether it is still in the first two thirds
    /// of its life.
    fn held(&self, basis: Option<[u8; 32]>) -> Option<(Token, bool)> {
        let known = self.known();
        let held = known.held.as_ref()?;
        let age = held.obtained.elapsed();
        let fits = held.basis == basis && age < held.life;
        fits.then(|| (Arc::clone(&held.token), age * 3 < held.life * 2))
    }

    /// Asks the issuer unless it refused a moment ago.
    async fn ask(&self, assertion: Option<&str>, basis: Option<[u8; 32]>) -> Result<Token, String> {
        if let Some(why) = self.paused() {
            return Err(why);
        }
        let obtained = Instant::now();
        let answer = tokio::time::timeout(WITHIN, self.request(assertion)).await;
        let answer = answer.unwrap_or_else(|_| Err("the issuer is too slow".to_owned()));
        self.metrics.obtained(answer.is_ok());
        let mut known = self.known();
        match answer {
            Ok((token, life)) => {
                let token = Arc::new(token);
                known.failures = 0;
                known.failed = None;
                known.held = Some(Held {
                    token: Arc::clone(&token),
                    basis,
                    obtained,
                    life,
                });
                Ok(token)
            }
            Err(why) => {
                known.failures = known.failures.saturating_add(1);
                known.failed = Some((Instant::now(), why.clone()));
                Err(why)
            }
        }
    }

    /// Why the last request failed, while it is too early for the next.
    fn paused(&self) -> Option<String> {
        let known = self.known();
        let (at, why) = known.failed.as_ref()?;
        let doubled =
            self.first_pause * 2_u32.saturating_pow(known.failures.saturating_sub(1).min(6));
        let pause = doubled.min(LONGEST_PAUSE);
        (at.elapsed() < pause).then(|| why.clone())
    }

    async fn request(
        &self,
        assertion: Option<&str>,
    ) -> Result<(Zeroizing<String>, Duration), String> {
        let url = self.discovery.token().await?;
        let assertion = assertion.map(|text| Zeroizing::new(URL_SAFE_NO_PAD.encode(text)));
        let mut grant = match &assertion {
            Some(assertion) => vec![("grant_type", SAML_BEARER), ("assertion", assertion)],
            None => vec![("grant_type", "client_credentials")],
        };
        if let Some(scope) = &self.scope {
            grant.push(("scope", scope));
        }
        let place = Endpoint {
            issuer: self.discovery.issuer(),
            url: url.as_str(),
        };
        let now = SystemTime::now();
        let request = self.proof.request(&self.client_id, &place, &grant, now)?;
        let answer = self.client.post(&url, request).await?;
        if answer.status != http::StatusCode::OK {
            return Err(refusal(answer.status.as_u16(), &answer.body));
        }
        granted(&answer.body)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// RFC 6749 §5.1.
fn granted(body: &[u8]) -> Result<(Zeroizing<String>, Duration), String> {
    #[derive(serde::Deserialize)]
    struct Granted {
        access_token: Zeroizing<String>,
        token_type: String,
        expires_in: Option<u64>,
    }
    // The parser's own words could repeat the token.
    let granted: Granted = serde_json::from_slice(body)
        .map_err(|_| "the token endpoint's answer is no token in JSON".to_owned())?;
    if !granted.token_type.eq_ignore_ascii_case("bearer") {
        let kind = Quoted::new(&granted.token_type);
        return Err(format!(
            "the issuer gives a token of type {kind}, not Bearer"
        ));
    }
    if granted.access_token.is_empty() || granted.access_token.len() > MAX_TOKEN {
        return Err("the token endpoint gives no token, or one that is too long".to_owned());
    }
    let life = granted.expires_in.map_or(UNSAID, Duration::from_secs);
    Ok((granted.access_token, life))
}

/// RFC 6749 §5.2. The description is left out: some issuers repeat in it what was sent.
fn refusal(status: u16, body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Refused {
        error: String,
    }
    match serde_json::from_slice::<Refused>(body) {
        Err(_) => format!("the token endpoint answers {status}"),
        Ok(refused) => {
            let hint = match refused.error.as_str() {
                "invalid_client" => ": compare client_id and its key or secret with the issuer's",
                "invalid_grant" => ": the assertion has expired, or the issuer does not trust it",
                "invalid_scope" => ": let the issuer grant the client this scope",
                "unauthorized_client" => ": let the issuer allow the client this grant",
                _ => "",
            };
            format!(
                "the issuer refuses with {}{hint}",
                Quoted::new(&refused.error)
            )
        }
    }
}

fn digest_of(assertion: &str) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(digest::digest(&digest::SHA256, assertion.as_bytes()).as_ref());
    digest
}
