//! What a token request says: the grant, and the client's proof of itself (RFC 6749 §2.3, RFC 7522,
//! RFC 7523).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use url::form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

use super::key::SigningKey;
use crate::config::{AssertionAudience, ClientAuth};

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// An assertion serves one request, which takes seconds.
const ASSERTION_LIFE: Duration = Duration::from_secs(60);

/// Where something is asked for.
pub(in crate::identify) struct Endpoint<'e> {
    pub issuer: &'e str,
    /// Of the token endpoint, or whichever the request goes to.
    pub url: &'e str,
}

/// The body of a request, and its `Authorization` if that is how the client proves itself.
pub(in crate::identify) struct Request {
    pub body: Zeroizing<String>,
    pub authorization: Option<Zeroizing<String>>,
}

/// The client with its key ready.
pub(in crate::identify) enum Client {
    Key {
        key: Box<SigningKey>,
        kid: Option<String>,
        audience: AssertionAudience,
    },
    Secret {
        secret: crate::secret::Secret,
        post: bool,
    },
    /// Only its name, beside a SAML assertion that says who it is.
    Public,
}

impl Client {
    pub fn new(auth: Option<&ClientAuth>) -> Result<Self, String> {
        Ok(match auth {
            None => Self::Public,
            Some(ClientAuth::Secret { secret, post }) => Self::Secret {
                secret: secret.clone(),
                post: *post,
            },
            Some(ClientAuth::Key {
                key,
                algorithm,
                kid,
                audience,
            }) => {
                let key = SigningKey::read(key.expose(), *algorithm)?;
                let kid = kid.clone().or_else(|| key.kid().map(str::to_owned));
                Self::Key {
                    key: Box::new(key),
                    kid,
                    audience: *audience,
                }
            }
        })
    }

    /// Adds the client's proof to a grant, or to a question about a token.
    pub fn request(
        &self,
        id: &str,
        endpoint: &Endpoint<'_>,
        grant: &[(&str, &str)],
        now: SystemTime,
    ) -> Result<Request, String> {
        let mut form = Form::default();
        for (name, value) in grant {
            form.add(name, value);
        }
        let mut authorization = None;
        match self {
            Self::Public => form.add("client_id", id),
            Self::Secret { secret, post: true } => {
                form.add("client_id", id);
                form.add("client_secret", secret.expose());
            }
            Self::Secret { secret, .. } => {
                let mut pair = Zeroizing::new(String::with_capacity(1024));
                pair.extend(byte_serialize(id.as_bytes()));
                pair.push(':');
                pair.extend(byte_serialize(secret.expose().as_bytes()));
                let encoded = Zeroizing::new(STANDARD.encode(&*pair));
                authorization = Some(Zeroizing::new(format!("Basic {}", *encoded)));
            }
            Self::Key { key, kid, audience } => {
                let audience = match audience {
                    AssertionAudience::TokenEndpoint => endpoint.url,
                    AssertionAudience::Issuer => endpoint.issuer,
                };
                let assertion = assertion(key, kid.as_deref(), id, audience, now)?;
                form.add("client_id", id);
                form.add("client_assertion_type", JWT_BEARER);
                form.add("client_assertion", &assertion);
            }
        }
        Ok(Request {
            body: form.0,
            authorization,
        })
    }
}

fn assertion(
    key: &SigningKey,
    kid: Option<&str>,
    client: &str,
    audience: &str,
    now: SystemTime,
) -> Result<Zeroizing<String>, String> {
    let mut random = [0; 16];
    SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| "the system has no randomness".to_owned())?;
    let now = now
        .duration_since(UNIX_EPOCH)
        .map_err(|_| "the clock stands before 1970".to_owned())?;
    let mut header = json!({ "alg": format!("{:?}", key.algorithm()), "typ": "JWT" });
    if let (Some(kid), Some(members)) = (kid, header.as_object_mut()) {
        members.insert("kid".to_owned(), kid.into());
    }
    let claims = json!({
        "iss": client,
        "sub": client,
        "aud": audience,
        "iat": now.as_secs(),
        "exp": (now + ASSERTION_LIFE).as_secs(),
        "jti": URL_SAFE_NO_PAD.encode(random),
    });
    let mut token = Zeroizing::new(String::with_capacity(2048));
    token.push_str(&URL_SAFE_NO_PAD.encode(header.to_string()));
    token.push('.');
    token.push_str(&URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = key.sign(token.as_bytes())?;
    token.push('.');
    token.push_str(&URL_SAFE_NO_PAD.encode(signature));
    Ok(token)
}

/// `application/x-www-form-urlencoded`, in memory that is wiped.
struct Form(Zeroizing<String>);

impl Default for Form {
    fn default() -> Self {
        // Long enough that a usual request is never copied while it grows.
        Self(Zeroizing::new(String::with_capacity(8 << 10)))
    }
}

impl Form {
    fn add(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        self.0.extend(byte_serialize(value.as_bytes()));
    }
}
