//! Signing in by OpenID Connect: authorisation code with PKCE (RFC 7636), state and nonce.
//!
//! `openidconnect` builds the request, exchanges the code and verifies the ID token; how the issuer
//! is reached is ours, with bounded time and size and no redirects.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::core::{
    CoreAuthenticationFlow, CoreClient, CoreJwsSigningAlgorithm, CoreProviderMetadata,
};
use openidconnect::{
    AccessTokenHash, AsyncHttpClient, AuthorizationCode, ClientId, ClientSecret, CsrfToken,
    HttpRequest, HttpResponse, IssuerUrl, Nonce, OAuth2TokenResponse, PkceCodeChallenge,
    PkceCodeVerifier, RedirectUrl, Scope, TokenResponse,
};
use serde_json::Value;
use url::Url;

use super::fields::Fields;
use super::sign_in::AT_ISSUER;
use crate::config::{Config, SignIn};
use crate::identify::{chain, https};

/// Sign-ins under way. Past it the oldest is forgotten.
const MAX_PENDING: usize = 1000;
/// The issuer's description and keys are asked for again after this.
const FRESH: Duration = Duration::from_secs(15 * 60);
const MAX_ANSWER: usize = 1 << 20;
/// Signatures with a key pair; what a client secret signs proves less.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 8] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// Sign-ins that are at the issuer, by the text in the browser's cookie.
#[derive(Default)]
pub struct Pending(Mutex<HashMap<String, Leaving>>);

struct Leaving {
    since: Instant,
    state: String,
    nonce: Nonce,
    verifier: PkceCodeVerifier,
    next: String,
}

/// One configuration's issuer.
pub struct Oidc {
    settings: SignIn,
    issuer: IssuerUrl,
    back: RedirectUrl,
    client: Client,
    known: tokio::sync::Mutex<Option<(Instant, CoreProviderMetadata)>>,
}

/// Login, groups, and the page that was wanted.
type Back = (String, Vec<String>, String);

impl Oidc {
    pub fn new(config: &Config, settings: &SignIn, origin: &str) -> Result<Self, String> {
        let issuer = config.issuers.get(&settings.issuer);
        let issuer = issuer.ok_or_else(|| format!("there is no issuer {}", settings.issuer))?;
        let back = RedirectUrl::new(format!("{origin}/sign-in/callback"));
        Ok(Self {
            settings: settings.clone(),
            issuer: IssuerUrl::new(issuer.identifier.clone()).map_err(|e| e.to_string())?,
            back: back.map_err(|error| error.to_string())?,
            client: Client(https(issuer.ca.as_deref())?),
            known: tokio::sync::Mutex::default(),
        })
    }

    /// Where the browser is sent, and what its cookie holds meanwhile.
    pub async fn leave(&self, pending: &Pending, next: String) -> Result<(Url, String), String> {
        let metadata = self.metadata().await?;
        let client = CoreClient::from_provider_metadata(
            metadata,
            ClientId::new(self.settings.client_id.clone()),
            None,
        )
        .set_redirect_uri(self.back.clone());
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let mut asked = client.authorize_url(
            CoreAuthenticationFlow::AuthorizationCode,
            CsrfToken::new_random,
            Nonce::new_random,
        );
        // `openid` is there already.
        for scope in self
            .settings
            .scopes
            .iter()
            .filter(|scope| *scope != "openid")
        {
            asked = asked.add_scope(Scope::new(scope.clone()));
        }
        let (url, state, nonce) = asked.set_pkce_challenge(challenge).url();
        let ticket = CsrfToken::new_random_len(32).secret().clone();
        pending.put(
            ticket.clone(),
            Leaving {
                since: Instant::now(),
                state: state.secret().clone(),
                nonce,
                verifier,
                next,
            },
        );
        Ok((url, ticket))
    }

    /// Whom the issuer sends back.
    pub async fn come_back(
        &self,
        pending: &Pending,
        ticket: &str,
        query: &Fields,
    ) -> Result<Back, String> {
        let leaving = pending.take(ticket);
        let leaving = leaving
            .ok_or("this sign-in was not begun in this browser, or long ago: begin again")?;
        if leaving.state != query.get("state") {
            return Err("the issuer's answer belongs to another sign-in: begin again".into());
        }
        // RFC 9207: an answer of another issuer is none.
        let from = query.get("iss");
        if !from.is_empty() && from != self.issuer.as_str() {
            return Err("the answer is of another issuer".into());
        }
        if !query.get("error").is_empty() {
            let (error, why) = (query.get("error"), query.get("error_description"));
            return Err(format!("the issuer says {error}: {why}"));
        }
        let code = AuthorizationCode::new(query.get("code").to_owned());
        let (claims, next) = self.exchange(code, leaving).await?;
        let login = claims
            .get(&self.settings.login_claim)
            .and_then(Value::as_str);
        let login = login
            .filter(|login| !login.is_empty())
            .ok_or_else(|| format!("its ID token has no claim {:?}", self.settings.login_claim))?;
        if !is_proved(&self.settings.login_claim, &claims) {
            return Err(
                "the issuer does not say that it verified this address (email_verified): have it do so, or name another claim by [console] login_claim"
                    .into(),
            );
        }
        let groups = match claims.get(&self.settings.groups_claim) {
            Some(Value::Array(groups)) => groups
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            Some(Value::String(group)) => vec![group.clone()],
            _ => Vec::new(),
        };
        Ok((login.to_owned(), groups, next))
    }

    async fn exchange(
        &self,
        code: AuthorizationCode,
        leaving: Leaving,
    ) -> Result<(Value, String), String> {
        let metadata = self.metadata().await?;
        let secret = self.settings.secret.as_ref();
        let secret = secret.map(|secret| ClientSecret::new(secret.expose().to_owned()));
        let client = CoreClient::from_provider_metadata(
            metadata,
            ClientId::new(self.settings.client_id.clone()),
            secret,
        )
        .set_redirect_uri(self.back.clone());
        let answer = client
            .exchange_code(code)
            .map_err(|error| error.to_string())?
            .set_pkce_verifier(leaving.verifier)
            .request_async(&self.client)
            .await
            .map_err(|error| format!("the issuer does not take the code: {}", chain(&error)))?;
        let token = answer.id_token().ok_or("the issuer sends no ID token")?;
        // Signature, issuer, audience, times and nonce.
        let verifier = client.id_token_verifier().set_allowed_algs(ALGORITHMS);
        let verified = token
            .claims(&verifier, &leaving.nonce)
            .map_err(|error| format!("the ID token is not valid: {}", chain(&error)))?;
        if let Some(hash) = verified.access_token_hash() {
            let algorithm = token.signing_alg().map_err(|error| error.to_string())?;
            let key = token
                .signing_key(&verifier)
                .map_err(|error| error.to_string())?;
            let actual = AccessTokenHash::from_token(answer.access_token(), algorithm, key);
            if actual.map_err(|error| error.to_string())? != *hash {
                return Err("the ID token is of another access token".into());
            }
        }
        // The claims that are named by configuration, out of what was verified.
        let text = token.to_string();
        let payload = text.split('.').nth(1).unwrap_or_default();
        let payload = URL_SAFE_NO_PAD
            .decode(payload)
            .map_err(|error| error.to_string())?;
        let claims = serde_json::from_slice(&payload).map_err(|error| error.to_string())?;
        Ok((claims, leaving.next))
    }

    async fn metadata(&self) -> Result<CoreProviderMetadata, String> {
        let mut known = self.known.lock().await;
        if let Some((at, metadata)) = known.as_ref()
            && at.elapsed() < FRESH
        {
            return Ok(metadata.clone());
        }
        let found = CoreProviderMetadata::discover_async(self.issuer.clone(), &self.client).await;
        let found =
            found.map_err(|error| format!("the issuer cannot be asked: {}", chain(&error)))?;
        *known = Some((Instant::now(), found.clone()));
        Ok(found)
    }
}

/// Whoever may write any address there could be anybody: an address is believed only where the
/// issuer says, in so many words, that it is the person's.
fn is_proved(claim: &str, claims: &Value) -> bool {
    claim != "email" || claims.get("email_verified") == Some(&Value::Bool(true))
}

/// Why the issuer could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotSent(String);

/// How the issuer is reached.
struct Client(reqwest::Client);

impl<'c> AsyncHttpClient<'c> for Client {
    type Error = NotSent;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, NotSent>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(send(&self.0, request))
    }
}

async fn send(client: &reqwest::Client, request: HttpRequest) -> Result<HttpResponse, NotSent> {
    let failed = |error: reqwest::Error| NotSent(chain(&error));
    let (head, body) = request.into_parts();
    let mut asked = client.request(head.method, head.uri.to_string());
    for (name, value) in &head.headers {
        asked = asked.header(name, value);
    }
    let mut answer = asked.body(body).send().await.map_err(failed)?;
    let mut made = ::http::Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        made = made.header(name, value);
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if bytes.len() + chunk.len() > MAX_ANSWER {
            return Err(NotSent(format!(
                "it answers with more than {MAX_ANSWER} bytes"
            )));
        }
        bytes.extend_from_slice(&chunk);
    }
    made.body(bytes).map_err(|error| NotSent(error.to_string()))
}

impl Pending {
    fn put(&self, ticket: String, leaving: Leaving) {
        let mut pending = self.lock();
        pending.retain(|_, leaving| leaving.since.elapsed().as_secs() < AT_ISSUER);
        while pending.len() >= MAX_PENDING {
            let oldest = pending.iter().min_by_key(|(_, leaving)| leaving.since);
            let Some(oldest) = oldest.map(|(ticket, _)| ticket.clone()) else {
                break;
            };
            pending.remove(&oldest);
        }
        pending.insert(ticket, leaving);
    }

    /// Each is for one answer.
    fn take(&self, ticket: &str) -> Option<Leaving> {
        let leaving = self.lock().remove(ticket)?;
        (leaving.since.elapsed().as_secs() < AT_ISSUER).then_some(leaving)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Leaving>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_believed_where_the_issuer_verified_it() {
        let claims = |verified: Value| serde_json::json!({ "email_verified": verified });
        assert!(is_proved("email", &claims(true.into())));
        for verified in [false.into(), "true".into(), Value::Null, 1.into()] {
            assert!(!is_proved("email", &claims(verified)));
        }
        assert!(!is_proved("email", &serde_json::json!({})));
        assert!(is_proved("sub", &serde_json::json!({})));
    }

    #[test]
    fn a_sign_in_is_finished_once_and_only_where_it_was_begun() {
        let pending = Pending::default();
        for n in 0..=MAX_PENDING {
            let (_, verifier) = PkceCodeChallenge::new_random_sha256();
            let leaving = Leaving {
                since: Instant::now(),
                state: "s".into(),
                nonce: Nonce::new("n".into()),
                verifier,
                next: "/".into(),
            };
            pending.put(n.to_string(), leaving);
        }
        assert!(pending.take("0").is_none(), "the oldest made room");
        assert!(pending.take("1").is_some());
        assert!(pending.take("1").is_none());
        assert!(pending.take("").is_none());
    }
}
