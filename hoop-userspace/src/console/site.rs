//! One configuration of the console, and what is made from it.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::oidc::Oidc;
use crate::config::{self, Config};
use crate::ids::IssuerName;

pub struct Site {
    pub config: Arc<Config>,
    pub tls: Option<TlsAcceptor>,
    /// What browsers send as `Origin`.
    pub origin: String,
    /// What they send as `Host`.
    pub host: String,
    pub oidc: Option<Oidc>,
}

impl Site {
    pub fn new(config: Config) -> Result<Self, String> {
        let console = config.console.as_ref().ok_or("there is no [console]")?;
        let origin = console.origin.clone();
        let host = origin
            .split_once("://")
            .map_or("", |(_, host)| host)
            .to_owned();
        let oidc = match &console.sign_in {
            Some(sign_in) => Some(Oidc::new(&config, sign_in, &origin)?),
            None => None,
        };
        Ok(Self {
            tls: tls(console)?,
            origin,
            host,
            oidc,
            config: Arc::new(config),
        })
    }

    /// Whether there is an issuer of that name that reports anything.
    pub fn hears(&self, issuer: &str) -> bool {
        let issuer = self.config.issuers.get(&IssuerName::from(issuer));
        issuer.is_some_and(|issuer| {
            issuer.events.hook.is_some() || issuer.events.transmitter.is_some()
        })
    }

    /// Whether browsers reach it by https, and may be asked to send cookies no other way.
    pub fn is_secure(&self) -> bool {
        self.origin.starts_with("https://")
    }

    /// The session's cookie. Its prefix makes browsers insist on `Secure`, on no domain and on the
    /// whole path (RFC 6265bis §4.1.3.2). Over plain http on loopback no browser would take it so,
    /// and it goes to every port of the host's name: that is for trying out, and for hosts with one
    /// user (`docs/CONSOLE.md`).
    pub fn cookie(&self) -> &'static str {
        match self.is_secure() {
            true => "__Host-hoop",
            false => "hoop",
        }
    }

    /// The cookie of a sign-in under way.
    pub fn sign_in_cookie(&self) -> &'static str {
        match self.is_secure() {
            true => "__Host-hoop-sign-in",
            false => "hoop-sign-in",
        }
    }

    /// A `Set-Cookie` value; nothing but the console's own requests carries it.
    pub fn set_cookie(&self, name: &str, value: &str, seconds: u64) -> String {
        let secure = if self.is_secure() { "; Secure" } else { "" };
        format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}")
    }
}

/// What takes TLS off, where the configuration has a certificate.
pub fn tls(console: &config::Console) -> Result<Option<TlsAcceptor>, String> {
    let Some((certificate, key)) = &console.tls else {
        return Ok(None);
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
    let chain = chain.map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
        .map_err(|_| "its key is no private key in PEM".to_owned())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}
