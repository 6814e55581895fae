//! `[[resource]]` with `protocol = "ssh"`.

use std::net::IpAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use russh::keys::ssh_key::known_hosts::KnownHosts;
use russh::keys::{Certificate, PublicKey, decode_secret_key};
use toml::Spanned;

use super::super::bundle::{MINTED, UNREAD};
use super::super::{
    Login, Resource, Ssh, SshAnswer, SshClientUser, SshCredential, SshHostKeys, SshMinted,
    UpstreamTls, raw,
};
use super::Parser;

/// Lines of a `known_hosts` and entries of a list of keys.
const MAX_KEYS: usize = 10_000;
const SHORTEST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_PRINCIPALS: usize = 64;
const MAX_NAME: usize = 256;
const MAX_COMMAND: usize = 4096;
/// SFTP packets and SSH messages are bounded by the protocol; this bounds what is collected of one.
const MAX_MESSAGE: usize = 1 << 20;

impl Parser<'_> {
    pub(super) fn ssh_resource(&mut self, raw: &raw::Resource) -> Resource {
        self.no_tls(raw);
        self.no_kubernetes("ssh", raw);
        let user = self.user(raw.login.span(), raw.login.get_ref());
        let login = Login {
            user: user.clone(),
            password: None,
            certificate: None,
            database: None,
        };
        Resource {
            ssh: Some(Ssh {
                host_keys: self.host_keys(raw),
                user: match user.as_str() {
                    "as-client" => SshClientUser::AsClient,
                    user => SshClientUser::Fixed(user.to_owned()),
                },
                credentials: self.credentials(raw.login.span(), raw.login.get_ref()),
            }),
            ..self.common(raw, UpstreamTls::Disable, login, MAX_MESSAGE)
        }
    }

    /// Settings of other protocols would look as if they protected something.
    fn no_tls(&mut self, raw: &raw::Resource) {
        let login = raw.login.get_ref();
        let spans = [
            ("tls", raw.tls.map(|_| raw.name.span())),
            ("ca", raw.ca.as_ref().map(Spanned::span)),
            ("allow_plain", raw.allow_plain.map(|_| raw.name.span())),
            (
                "allow_replication",
                raw.allow_replication.map(|_| raw.name.span()),
            ),
            ("estimate", raw.estimate.map(|_| raw.name.span())),
            (
                "agent_password",
                raw.agent_password.as_ref().map(Spanned::span),
            ),
            ("max_message", raw.max_message.as_ref().map(Spanned::span)),
            ("database", login.database.as_ref().map(Spanned::span)),
        ];
        self.without("ssh", spans);
    }

    pub(super) fn no_ssh(&mut self, protocol: &str, raw: &raw::Resource) {
        let spans = [
            ("host_keys", raw.host_keys.as_ref().map(Spanned::span)),
            ("host_ca", raw.host_ca.as_ref().map(Spanned::span)),
            ("known_hosts", raw.known_hosts.as_ref().map(Spanned::span)),
            (
                "trust_on_first_use",
                raw.trust_on_first_use.as_ref().map(Spanned::span),
            ),
        ];
        self.without(protocol, spans);
        let login = raw.login.get_ref();
        let answers = login.answers.as_ref().and_then(|list| list.first());
        let spans = [
            ("minted", login.minted.as_ref().map(Spanned::span)),
            ("agent", login.agent.as_ref().map(Spanned::span)),
            ("answers", answers.map(Spanned::span)),
        ];
        self.without(protocol, spans);
    }

    pub(super) fn without<const N: usize>(
        &mut self,
        protocol: &str,
        settings: [(&str, Option<Range<usize>>); N],
    ) {
        for (name, span) in settings {
            if let Some(span) = span {
                let what = format!("`{name}` means nothing with protocol = \"{protocol}\"");
                self.problems.add_with_fix(span, what, "remove it");
            }
        }
    }

    fn host_keys(&mut self, raw: &raw::Resource) -> SshHostKeys {
        let known_hosts = match &raw.known_hosts {
            None => Vec::new(),
            Some(written) => match self.bundle.file(written.get_ref()).cloned() {
                None => {
                    self.absent(written.span());
                    Vec::new()
                }
                Some(text) => {
                    let parsed: Result<Vec<_>, _> =
                        KnownHosts::new(text.expose()).take(MAX_KEYS).collect();
                    parsed.unwrap_or_else(|error| {
                        let what = format!("a line of this known_hosts cannot be read: {error}");
                        self.problems.add(written.span(), what);
                        Vec::new()
                    })
                }
            },
        };
        let found = SshHostKeys {
            keys: self.public_keys(raw.host_keys.as_ref()),
            authorities: self.public_keys(raw.host_ca.as_ref()),
            known_hosts,
            trust_on_first_use: raw
                .trust_on_first_use
                .as_ref()
                .is_some_and(|t| *t.get_ref()),
        };
        let written = raw.host_keys.is_some() || raw.host_ca.is_some() || raw.known_hosts.is_some();
        if !written && !found.trust_on_first_use {
            let what = "nothing says by which key the server is known";
            let fix = "give host_keys, host_ca or known_hosts (ssh-keyscan prints keys; compare them with the server's own), or trust_on_first_use = true";
            self.problems
                .add_with_fix(raw.name.span(), what.to_owned(), fix);
        }
        found
    }

    fn public_keys(&mut self, written: Option<&Spanned<Vec<raw::Text>>>) -> Vec<PublicKey> {
        let Some(written) = written else {
            return Vec::new();
        };
        let list = written.get_ref();
        if list.is_empty() || list.len() > MAX_KEYS {
            let what = "give at least one key, as in a .pub file";
            self.problems.add(written.span(), what);
        }
        list.iter()
            .filter_map(|key| self.take(key, public_key))
            .collect()
    }

    fn credentials(&mut self, span: Range<usize>, raw: &raw::Login) -> Vec<SshCredential> {
        let mut found = Vec::new();
        let minted = raw.certificate.as_ref().filter(|c| c.get_ref() == MINTED);
        if let Some(written) = minted {
            if raw.key.is_some() {
                let what = "hoop makes the key of a minted certificate itself";
                self.problems.add_with_fix(
                    written.span(),
                    what,
                    "remove `key`, or the certificate",
                );
            }
            let minted = raw.minted.as_ref().map(Spanned::get_ref);
            let minted = minted.map_or_else(SshMinted::default, |minted| self.minted(minted));
            found.push(SshCredential::Minted(minted));
        } else if let Some(minted) = &raw.minted {
            let what = "`minted` says what a minted certificate holds";
            let fix = "write certificate = \"minted\" beside it, or remove it";
            self.problems.add_with_fix(minted.span(), what, fix);
        }
        if let Some(agent) = &raw.agent {
            let path = PathBuf::from(agent.get_ref());
            if !path.is_absolute() {
                let what = "the agent's socket must be an absolute path";
                self.problems.add(agent.span(), what);
            }
            found.push(SshCredential::Agent(path));
        }
        if let Some(key) = &raw.key {
            let written = raw.certificate.as_ref().filter(|_| minted.is_none());
            found.extend(self.key(key, written));
        } else if let Some(written) = raw.certificate.as_ref().filter(|_| minted.is_none()) {
            let what = "a certificate logs in together with its key: give both, or certificate = \"minted\"";
            self.problems.add(written.span(), what);
        }
        if let Some(password) = &raw.password {
            found.extend(self.secret(password).map(SshCredential::Password));
        }
        found.extend(raw.answers.as_deref().and_then(|list| self.answers(list)));
        let nothing = raw.key.is_none() && raw.certificate.is_none() && raw.password.is_none();
        if nothing && raw.agent.is_none() && raw.answers.is_none() {
            let what = "hoop has nothing to log in with";
            let fix = "give key, agent, password, answers or certificate = \"minted\"";
            self.problems.add_with_fix(span, what, fix);
        }
        found
    }

    fn minted(&mut self, raw: &raw::Minted) -> SshMinted {
        let mut minted = SshMinted::default();
        if let Some(lifetime) = &raw.lifetime {
            minted.lifetime = lifetime.get_ref().0;
            if !(SHORTEST..=LONGEST).contains(&minted.lifetime) {
                let what = "a minted certificate lives for 10s to 24h";
                self.problems.add(lifetime.span(), what);
            }
        }
        if let Some(principals) = &raw.principals {
            let list = principals.get_ref();
            let usable = |p: &raw::Text| {
                let name = p.get_ref();
                !name.is_empty() && name.len() <= MAX_NAME && !name.contains(['\0', ','])
            };
            if list.is_empty() || list.len() > MAX_PRINCIPALS || !list.iter().all(usable) {
                let what = "give 1 to 64 names of up to 256 bytes";
                self.problems.add(principals.span(), what);
            }
            minted.principals = list.iter().map(|p| p.get_ref().clone()).collect();
        }
        if let Some(command) = &raw.force_command {
            let text = command.get_ref();
            if text.is_empty() || text.len() > MAX_COMMAND || text.contains('\0') {
                let what = "a forced command has 1 to 4096 bytes";
                self.problems.add(command.span(), what);
            }
            minted.force_command = Some(text.clone());
        }
        for net in raw.source_address.iter().flat_map(|list| list.get_ref()) {
            minted.source_address.extend(self.take(net, network));
        }
        minted
    }

    fn answers(&mut self, list: &[Spanned<raw::StoredAnswer>]) -> Option<SshCredential> {
        let mut answers = Vec::new();
        for written in list {
            let raw = written.get_ref();
            if raw.prompt.get_ref().trim().is_empty() {
                let what = "say what the question holds, such as \"Verification code\"";
                self.problems.add(raw.prompt.span(), what);
            }
            answers.push(SshAnswer {
                prompt: raw.prompt.get_ref().trim().to_lowercase(),
                answer: self.secret(&raw.answer)?,
            });
        }
        (!answers.is_empty()).then_some(SshCredential::Answers(answers))
    }

    fn key(
        &mut self,
        written: &Spanned<raw::SecretRef>,
        certificate: Option<&raw::Text>,
    ) -> Option<SshCredential> {
        let text = self.secret(written)?;
        // For tools that reach nothing; it opens nothing.
        if text.expose() == UNREAD {
            return None;
        }
        // The end of the file's last line went with the newline that is no part of a password.
        let key = match decode_secret_key(&format!("{}\n", text.expose()), None) {
            Ok(key) => Arc::new(key),
            Err(_) => {
                let what = "this is no private key of SSH (an encrypted one cannot be used)";
                self.problems.add(written.span(), what);
                return None;
            }
        };
        let certificate = match certificate {
            None => None,
            Some(at) => Some(Box::new(self.user_certificate(at)?)),
        };
        Some(SshCredential::Key { key, certificate })
    }

    fn user_certificate(&mut self, written: &raw::Text) -> Option<Certificate> {
        let Some(text) = self.bundle.file(written.get_ref()).cloned() else {
            self.absent(written.span());
            return None;
        };
        let parsed = Certificate::from_openssh(text.expose().trim());
        parsed
            .map_err(|_| {
                let what = "this is no certificate of SSH: a file ending in -cert.pub is meant";
                self.problems.add(written.span(), what);
            })
            .ok()
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse()
        .or_else(|_| address())
        .map_err(|_| format!("{text:?} is no network: write \"10.0.0.0/8\" or one address"))
}

fn public_key(text: &str) -> Result<PublicKey, String> {
    PublicKey::from_openssh(text.trim()).map_err(|_| {
        format!("{text:?} is no public key: write it as in a .pub file, \"ssh-ed25519 AAAA…\"")
    })
}
