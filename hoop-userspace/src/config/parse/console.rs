//! `[console]`, and the `events` of `[issuer]` that it takes.

use std::time::Duration;

use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use toml::Spanned;

use super::super::bundle::UNREAD;
use super::super::{Console, Events, RoleGroups, SignIn, Slack, Transmitter, raw};
use super::{Parser, url_fault};

const HALF_HOUR: Duration = Duration::from_secs(30 * 60);
const WORKDAY: Duration = Duration::from_secs(8 * 60 * 60);
const DAY: Duration = Duration::from_secs(86_400);

impl Parser<'_> {
    pub(super) fn console(
        &mut self,
        written: &Spanned<raw::Console>,
        file: &raw::File,
    ) -> Option<Console> {
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
        let tls = certificate.zip(key);
        let origin = match &raw.url {
            Some(url) => self.origin(url)?,
            None if tls.is_some() => format!("https://{listen}"),
            None => format!("http://{listen}"),
        };
        let user = raw.user.as_ref().map_or("hoop-console", |u| u.get_ref());
        let worker = file.worker.user.as_ref().map_or("hoop", |u| u.get_ref());
        if user == worker {
            let what = "the console needs an account apart from the worker's";
            let at = raw.user.as_ref().map_or(written.span(), Spanned::span);
            self.problems.add(at, what);
        }
        Some(Console {
            listen,
            tls,
            origin,
            user: user.to_owned(),
            sign_in: self.sign_in(raw, file),
            roles: RoleGroups {
                viewer: raw.roles.viewer.clone(),
                approver: raw.roles.approver.clone(),
                auditor: raw.roles.auditor.clone(),
                admin: raw.roles.admin.clone(),
            },
            groups: raw.groups.iter().map(approvers_of).collect(),
            idle: self.span(raw.idle.as_ref(), HALF_HOUR, DAY),
            lifetime: self.span(raw.lifetime.as_ref(), WORKDAY, 7 * DAY),
            slack: raw
                .slack
                .as_ref()
                .and_then(|slack| self.slack(slack.get_ref(), file)),
        })
    }

    /// What browsers send as `Origin`: no path, no default port.
    fn origin(&mut self, written: &raw::Text) -> Option<String> {
        let url = url::Url::parse(written.get_ref()).ok();
        let bare = |url: &url::Url| url.path() == "/" && url_fault(url).is_none();
        match url.filter(bare) {
            Some(url) => Some(url.origin().ascii_serialization()),
            None => {
                let what = "`url` is how browsers reach the console, without a path: https, or http on loopback";
                let fix = "write url = \"https://hoop.example\"";
                self.problems.add_with_fix(written.span(), what, fix);
                None
            }
        }
    }

    fn sign_in(&mut self, raw: &raw::Console, file: &raw::File) -> Option<SignIn> {
        let (issuer, client_id) = match (&raw.issuer, &raw.client_id) {
            (Some(issuer), Some(client_id)) => (issuer, client_id),
            (None, None) => return None,
            (Some(one), None) | (None, Some(one)) => {
                let what = "`issuer` and `client_id` go together: who signs people in, and as which application";
                self.problems.add(one.span(), what);
                return None;
            }
        };
        let known: Vec<&str> = file
            .issuers
            .iter()
            .map(|(name, _)| name.get_ref().as_str())
            .collect();
        if !file.broken.contains(issuer.get_ref()) {
            self.reference(issuer, &known, "issuer");
        }
        let secret = match &raw.secret {
            Some(written) => Some(self.secret(written)?),
            None => None,
        };
        let claim = |written: &Option<raw::Text>, default: &str| {
            let written = written.as_ref().map(|claim| claim.get_ref().clone());
            written.unwrap_or_else(|| default.to_owned())
        };
        let usual = || ["openid", "email", "groups"].map(str::to_owned).to_vec();
        let scopes = raw.scopes.as_ref();
        Some(SignIn {
            issuer: issuer.get_ref().as_str().into(),
            client_id: client_id.get_ref().clone(),
            secret,
            scopes: scopes.map_or_else(usual, |scopes| scopes.get_ref().clone()),
            login_claim: claim(&raw.login_claim, "email"),
            groups_claim: claim(&raw.groups_claim, "groups"),
        })
    }

    fn slack(&mut self, raw: &raw::Slack, file: &raw::File) -> Option<Slack> {
        let known: Vec<&str> = file
            .approvers
            .iter()
            .map(|approver| approver.get_ref().name.get_ref().as_str())
            .collect();
        for name in raw.users.values() {
            self.reference(name, &known, "approver");
        }
        let users = raw.users.iter();
        Some(Slack {
            signing_secret: self.secret(&raw.signing_secret)?,
            users: users
                .map(|(id, name)| (id.clone(), name.get_ref().clone()))
                .collect(),
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

fn approvers_of((name, of): (&String, &Spanned<Vec<raw::Text>>)) -> (String, Vec<String>) {
    let of = of.get_ref().iter().map(|group| group.get_ref().clone());
    (name.clone(), of.collect())
}
