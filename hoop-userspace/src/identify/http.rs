//! Asking an issuer: HTTPS with bounded time, bounded answers and no redirects.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use url::Url;
use zeroize::Zeroizing;

use super::obtain::Request;

const CONNECT: Duration = Duration::from_secs(3);
const WHOLE: Duration = Duration::from_secs(5);
const MAX_ANSWER: usize = 1 << 20;
/// Of a token endpoint, which sends a token and little else.
const MAX_GRANT: usize = 64 << 10;

pub(super) struct Client(reqwest::Client);

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
        if answer.status() != reqwest::StatusCode::OK {
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

    /// Sends a form to a token endpoint. The answer's status and body, JSON or not; nothing that
    /// was sent or received is in an error's words.
    pub async fn post(
        &self,
        url: &Url,
        request: Request,
    ) -> Result<(u16, Zeroizing<Vec<u8>>), String> {
        let form = Zeroizing::new(request.body.as_bytes().to_vec());
        let mut asked = self
            .0
            .post(url.clone())
            .header("accept", "application/json")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(bytes::Bytes::from_owner(form));
        if let Some(authorization) = &request.authorization {
            let mut value = http::HeaderValue::from_str(authorization)
                .map_err(|_| "the client's secret fits into no header".to_owned())?;
            value.set_sensitive(true);
            asked = asked.header("authorization", value);
        }
        let mut answer = asked.send().await.map_err(|e| chain(&e))?;
        let status = answer.status().as_u16();
        // At once, so that growing leaves no copies behind.
        let mut body = Zeroizing::new(Vec::with_capacity(MAX_GRANT));
        while let Some(chunk) = answer.chunk().await.map_err(|e| chain(&e))? {
            if body.len() + chunk.len() > MAX_GRANT {
                return Err(format!("{url} answers with more than {MAX_GRANT} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, body))
    }
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
