//! `[console]`, and the `events` of `[issuer]` that it takes.

use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use toml::Spanned;

use super::super::bundle::UNREAD;
use super::super::{Console, Events, Transmitter, raw};
use super::{Parser, url_fault};

impl Parser<'_> {
    pub(super) fn console(&mut self, written: &Spanned<raw::Console>) -> Option<Console> {
        let raw = written.get_ref();
        let listen: std::net::SocketAddr = match raw.listen.get_ref().parse() {
            Ok(listen) => listen,
            Err(_) => {
                let what = format!("{:?} is no address with a port", raw.listen.get_ref());
                let fix = "write listen = \"127.0.0.1:8443\"";
                self.problems.add_with_fix(raw.listen.span(), what, fix);
                return None;
            }
        };
        let certificate = self.certificates(raw.certificate.as_ref());
        let key = raw.key.as_ref().and_then(|key| self.secret(key));
        if let (Some(written), Some(key)) = (&raw.key, &key)
            && key.expose() != UNREAD
            && PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).is_err()
        {
            let what = "this is no private key in PEM (not encrypted)";
            self.problems.add(written.span(), what);
        }
        if raw.certificate.is_some() != raw.key.is_some() {
            let what = "`certificate` and `key` go together";
            self.problems.add(written.span(), what);
        } else if raw.certificate.is_none() && !listen.ip().is_loopback() {
            let what = "what listens beyond loopback needs `certificate` and `key`";
            self.problems.add(written.span(), what);
        }
        Some(Console {
            listen,
            tls: certificate.zip(key),
        })
    }

    pub(super) fn events(&mut self, raw: &raw::Events) -> Events {
        let hook = raw.hook.as_ref().and_then(|hook| self.secret(hook));
        let transmitter = match (&raw.transmitter, &raw.audience) {
            (None, None) => None,
            (Some(issuer), Some(audience)) => {
                self.transmitter(issuer);
                Some(Transmitter {
                    issuer: issuer.get_ref().clone(),
                    audience: audience.get_ref().clone(),
                })
            }
            (Some(one), None) | (None, Some(one)) => {
                let what = "`transmitter` and `audience` go together: who sends, and to whom";
                self.problems.add(one.span(), what);
                None
            }
        };
        Events { hook, transmitter }
    }

    fn transmitter(&mut self, issuer: &raw::Text) {
        let fault = match url::Url::parse(issuer.get_ref()) {
            Ok(url) => url_fault(&url).map(str::to_owned),
            Err(error) => Some(format!("{:?} is no URL: {error}", issuer.get_ref())),
        };
        if let Some(fault) = fault {
            self.problems.add(issuer.span(), fault);
        }
    }
}
