//! Asking an issuer: HTTPS with bounded time, bounded answers and no redirects.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use url::Url;
use zeroize::Zeroizing;

use super::obtain::Request;

const CONNECT: Duration = Duration::from_secs(3);
const WHOLE: Duration = Duration::from_secs(5);
const MAX_ANSWER: usize = 1 << 20;
/// Of a token or introspection endpoint, which sends a token or its claims and little else.
const MAX_GRANT: usize = 64 << 10;

/// Cheap to clone; clones share their connections.
#[derive(Clone)]
pub(super) struct Client(reqwest::Client);

/// Whatever an endpoint answers, JSON or not.
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Zeroizing<Vec<u8>>,
}

/// A client that trusts the system's roots, and those of `ca` (PEM) besides.
pub(crate) fn https(ca: Option<&str>) -> Result<reqwest::Client, String> {
    let mut roots = rustls::RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    for certificate in CertificateDer::pem_slice_iter(ca.unwrap_or_default().as_bytes()) {
        let certificate = certificate.map_err(|e| format!("the `ca`: {e}"))?;
        let added = roots.add(certificate);
        added.map_err(|e| format!("the `ca`: {e}"))?;
    }
    // Named, not taken from the process: which provider is the default is nobody's here.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .use_preconfigured_tls(tls)
        .redirect(reqwest::redirect::Policy::none())
        // A proxy from the environment would be an unlooked-for way in and out.
        .no_proxy()
        .connect_timeout(CONNECT)
        .timeout(WHOLE)
        .build()
        .map_err(|e| chain(&e))
}

impl Client {
    /// Trusts the system's roots, and those of `ca` (PEM) besides.
    pub fn new(ca: Option<&str>) -> Result<Self, String> {
        https(ca).map(Self)
    }

    /// The answer's body, if it is 200 and says that it is JSON of one of the `types`.
    pub async fn get(&self, url: &Url, types: &[&str]) -> Result<Vec<u8>, String> {
        let answer = self.0.get(url.clone()).header("accept", types.join(", "));
        let mut answer = answer.send().await.map_err(|e| chain(&e))?;
        if answer.status() != StatusCode::OK {
            return Err(format!("{url} answers {} instead of 200", answer.status()));
        }
        let kind = answer.headers().get("content-type");
        let kind = kind.and_then(|k| k.to_str().ok()).unwrap_or_default();
        let bare = kind.split(';').next().unwrap_or_default().trim();
        if !types.iter().any(|t| t.eq_ignore_ascii_case(bare)) {
            return Err(format!(
                "{url} answers {kind:?} instead of {}",
                types.join(" or ")
            ));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| chain(&e))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(format!("{url} answers with more than {MAX_ANSWER} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Sends a form to a token or introspection endpoint. Nothing that was sent or received is in
    /// an error's words.
    pub async fn post(&self, url: &Url, request: Request) -> Result<Answer, String> {
        let form = Zeroizing::new(request.body.as_bytes().to_vec());
        let mut asked = self
            .0
            .post(url.clone())
            .header("accept", "application/json")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(bytes::Bytes::from_owner(form));
        if let Some(authorization) = &request.authorization {
            asked = asked.header("authorization", sensitive(authorization)?);
        }
        whole(url, asked).await
    }

    /// Gets in somebody's name. Nothing of it is in an error's words.
    pub async fn get_as(&self, url: &Url, authorization: &str) -> Result<Answer, String> {
        let asked = self.0.get(url.clone()).header("accept", "application/json");
        whole(
            url,
            asked.header("authorization", sensitive(authorization)?),
        )
        .await
    }
}

async fn whole(url: &Url, asked: reqwest::RequestBuilder) -> Result<Answer, String> {
    let mut answer = asked.send().await.map_err(|e| chain(&e))?;
    // At once, so that growing leaves no copies behind.
    let mut body = Zeroizing::new(Vec::with_capacity(MAX_GRANT));
    while let Some(chunk) = answer.chunk().await.map_err(|e| chain(&e))? {
        if body.len() + chunk.len() > MAX_GRANT {
            return Err(format!("{url} answers with more than {MAX_GRANT} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer {
        status: answer.status(),
        headers: std::mem::take(answer.headers_mut()),
        body,
    })
}

fn sensitive(authorization: &str) -> Result<http::HeaderValue, String> {
    let mut value = http::HeaderValue::from_str(authorization)
        .map_err(|_| "the client's secret or token fits into no header".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// The error with its causes: reqwest's own text stops at "error sending request".
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
