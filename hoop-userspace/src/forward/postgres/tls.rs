//! TLS toward the server: verified by default, down to the name.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use lru::LruCache;
use ring::digest::{self, Algorithm};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::ForwardError;
use crate::config::{Resource, UpstreamTls};

/// How one resource's server is verified, and how hoop shows a certificate of its own.
#[derive(Clone)]
pub struct ServerTls {
    pub config: Arc<ClientConfig>,
    pub name: ServerName<'static>,
}

impl ServerTls {
    /// `name` is what the certificate must say; without one it must say `address`.
    /// `None` where the resource does without TLS.
    pub fn of(
        resource: &Resource,
        name: Option<&str>,
        address: IpAddr,
        known: &KnownTls,
    ) -> Result<Option<Self>, ForwardError> {
        if resource.tls == UpstreamTls::Disable {
            return Ok(None);
        }
        let name = match name {
            Some(name) => ServerName::try_from(name.to_owned()).map_err(|e| settings(&e))?,
            None => ServerName::from(address),
        };
        let config = known.config(resource)?;
        Ok(Some(Self { config, name }))
    }

    pub async fn handshake(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, ForwardError> {
        TlsConnector::from(self.config.clone())
            .connect(self.name.clone(), stream)
            .await
            .map_err(|error| ForwardError::Tls(explain(&error, &self.name)))
    }
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, ForwardError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| {
            ForwardError::TlsSettings(format!("a certificate is no usable PEM: {error}"))
        })
}

fn settings(error: &dyn std::fmt::Display) -> ForwardError {
    ForwardError::TlsSettings(error.to_string())
}

/// What was made for connections before: reading a CA again for each would cost more than the rest
/// of its login, and every session that can cancel holds one.
pub struct KnownTls {
    /// The system's CA bundle, read once, when it is first needed: it is some hundred certificates.
    system: OnceLock<Arc<RootCertStore>>,
    /// By the digest of everything that they are made from.
    configs: Mutex<LruCache<[u8; 32], Arc<ClientConfig>>>,
}

const KNOWN_CONFIGS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

impl Default for KnownTls {
    fn default() -> Self {
        Self {
            system: OnceLock::new(),
            configs: Mutex::new(LruCache::new(KNOWN_CONFIGS)),
        }
    }
}

impl KnownTls {
    fn config(&self, resource: &Resource) -> Result<Arc<ClientConfig>, ForwardError> {
        let key = made_from(resource);
        let configs = || self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = configs().get(&key) {
            return Ok(config.clone());
        }
        let config = Arc::new(self.make(resource)?);
        configs().put(key, config.clone());
        Ok(config)
    }

    fn make(&self, resource: &Resource) -> Result<ClientConfig, ForwardError> {
        let provider = Arc::new(default_provider());
        let roots = self.roots(resource.ca.as_deref())?;
        let mut verifier: Arc<dyn ServerCertVerifier> =
            WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
                .build()
                .map_err(|e| settings(&e))?;
        if resource.tls == UpstreamTls::VerifyCa {
            verifier = Arc::new(AnyName(verifier));
        }
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| settings(&e))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &resource.login.certificate {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = certificates(chain)?;
                let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
                    .map_err(|_| settings(&"the login's private key is no usable PEM"))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|e| settings(&e))?
            }
        };
        // PostgreSQL resumes no session, so that each connection proves the server anew.
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn roots(&self, ca: Option<&str>) -> Result<Arc<RootCertStore>, ForwardError> {
        let Some(ca) = ca else {
            return self.system();
        };
        let mut store = RootCertStore::empty();
        for certificate in certificates(ca)? {
            store.add(certificate).map_err(|error| {
                ForwardError::TlsSettings(format!("a certificate of the configured CA: {error}"))
            })?;
        }
        if store.is_empty() {
            return Err(ForwardError::TlsSettings(
                "the configured CA holds no certificate".into(),
            ));
        }
        Ok(store.into())
    }

    fn system(&self) -> Result<Arc<RootCertStore>, ForwardError> {
        let roots = self.system.get_or_init(|| {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            store.into()
        });
        if roots.is_empty() {
            let why = "the system has no CA certificates; install them or configure ca";
            return Err(ForwardError::TlsSettings(why.into()));
        }
        Ok(roots.clone())
    }
}

fn made_from(resource: &Resource) -> [u8; 32] {
    let (chain, key) = match &resource.login.certificate {
        Some((chain, key)) => (Some(chain.as_str()), Some(key.expose())),
        None => (None, None),
    };
    let mut digest = digest::Context::new(&digest::SHA256);
    digest.update(&[u8::from(resource.tls == UpstreamTls::VerifyCa)]);
    for part in [resource.ca.as_deref(), chain, key] {
        // Lengths, so that no part can pass for the end of the one before it.
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        digest.update(&length.to_be_bytes());
        digest.update(part.unwrap_or_default().as_bytes());
    }
    let mut name = [0; 32];
    name.copy_from_slice(digest.finish().as_ref());
    name
}

/// libpq's `verify-ca`: everything is verified but the name.
#[derive(Debug)]
struct AnyName(Arc<dyn ServerCertVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict =
            self.0
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verdict {
            // The name is checked last: whoever fails only here has passed everything else.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// What a person must know: which check failed, and for which name.
fn explain(error: &std::io::Error, name: &ServerName<'_>) -> String {
    let name = name.to_str();
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidCertificate(problem)) => match problem {
            CertificateError::UnknownIssuer => {
                "the server's certificate is not signed by the configured CA".into()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("the server's certificate is not for {name}")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the server's certificate has expired".into()
            }
            other => format!("the server's certificate is not acceptable: {other}"),
        },
        Some(other) => other.to_string(),
        None => error.to_string(),
    }
}

/// `tls-server-end-point` (RFC 5929 §4.1): the certificate's hash by its signature's own hash
/// function, SHA-256 in place of MD5 and SHA-1. `None` where none is defined (Ed25519) or it
/// is one of RSASSA-PSS, where PostgreSQL versions differ.
pub fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let algorithm: &Algorithm = match parsed.signature_algorithm.algorithm.to_id_string().as_str() {
        // RSA with MD5, SHA-1, SHA-256; ECDSA with SHA-1, SHA-256.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2" => &digest::SHA256,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &digest::SHA384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}
