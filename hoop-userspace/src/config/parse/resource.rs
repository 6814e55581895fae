//! `[[resource]]`: what is governed, and how hoop logs in to it.

use std::collections::HashMap;
use std::ops::Range;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use toml::Spanned;

use super::super::bundle::is_pem;
use super::super::{Host, Login, Network, ProtocolKind, Resource, UpstreamTls, raw, text};
use super::{Missing, Parser};
use crate::secret::Secret;

const MAX_HOSTS: usize = 1000;
const MIN_MESSAGE: u64 = 64 << 10;
const MAX_MESSAGE: u64 = 1 << 30;

impl Parser<'_> {
    pub(super) fn resources(&mut self, raw: &[Spanned<raw::Resource>]) -> Vec<Resource> {
        self.unique(raw.iter().map(|r| &r.get_ref().name), "resource");
        self.overlaps(raw);
        let read = |r: &Spanned<raw::Resource>| {
            let resource = self.resource(r.get_ref());
            self.network(r.get_ref(), &resource);
            resource
        };
        raw.iter().map(read).collect()
    }

    /// What is dialled in a client's own network must prove itself.
    fn network(&mut self, raw: &raw::Resource, resource: &Resource) {
        let Some(written) = &raw.network else { return };
        if *written.get_ref() != Network::Client {
            return;
        }
        if raw.upstream.is_some() {
            self.problems.add_with_fix(
                written.span(),
                "`upstream` is dialled from the host, and network = \"client\" is where the client is",
                "remove one of them",
            );
        }
        // What could not be read may be what proves it.
        if let Err(why) = resource.proves()
            && !self.incomplete
        {
            let what =
                format!("in a client's network anybody may have the server's address, and {why}");
            let fix = "give tls = \"verify-full\" (with ca), or host_keys, host_ca or known_hosts";
            self.problems.add_with_fix(written.span(), what, fix);
        }
    }

    fn resource(&mut self, raw: &raw::Resource) -> Resource {
        self.name(&raw.name, "a resource");
        if raw.protocol == ProtocolKind::Ssh {
            return self.ssh_resource(raw);
        }
        if raw.protocol == ProtocolKind::Kubernetes {
            return self.kubernetes_resource(raw);
        }
        self.no_ssh("postgres", raw);
        self.no_kubernetes("postgres", raw);
        let tls = raw.tls.unwrap_or(UpstreamTls::VerifyFull);
        if let Some(ca) = raw.ca.as_ref().filter(|_| tls == UpstreamTls::Disable) {
            self.problems.add_with_fix(
                ca.span(),
                "`ca` has no effect with tls = \"disable\"",
                "remove one of them",
            );
        }
        let max_message = self.size(
            raw.max_message.as_ref(),
            64 << 20,
            MIN_MESSAGE..=MAX_MESSAGE,
        );
        let login = self.login(raw.login.span(), raw.login.get_ref(), tls);
        Resource {
            ca: self.certificates(raw.ca.as_ref()),
            allow_plain: raw.allow_plain.unwrap_or(true),
            allow_replication: raw.allow_replication.unwrap_or(false),
            agent_password: raw.agent_password.as_ref().and_then(|p| self.secret(p)),
            estimate: raw.estimate.unwrap_or(false),
            ..self.common(raw, tls, login, max_message)
        }
    }

    /// What every resource has; what is a protocol's own is off.
    pub(super) fn common(
        &mut self,
        raw: &raw::Resource,
        tls: UpstreamTls,
        login: Login,
        max_message: usize,
    ) -> Resource {
        Resource {
            name: raw.name.get_ref().as_str().into(),
            protocol: raw.protocol,
            hosts: self.hosts(&raw.hosts),
            port: self.port(raw),
            upstream: raw
                .upstream
                .as_ref()
                .and_then(|u| self.take(u, text::upstream)),
            tls,
            ca: None,
            login,
            allow_plain: false,
            allow_replication: false,
            agent_password: None,
            max_message,
            estimate: false,
            network: raw.network.as_ref().map(|n| *n.get_ref()),
            ssh: None,
            kubernetes: None,
        }
    }

    pub(super) fn port(&mut self, raw: &raw::Resource) -> u16 {
        let Some(written) = &raw.port else {
            return default_port(raw.protocol);
        };
        if *written.get_ref() == 0 {
            self.problems
                .add(written.span(), "no server listens on port 0");
        }
        *written.get_ref()
    }

    pub(super) fn hosts(&mut self, raw: &Spanned<Vec<raw::Text>>) -> Vec<Host> {
        let list = raw.get_ref();
        if list.is_empty() || list.len() > MAX_HOSTS {
            let what = format!("give 1 to {MAX_HOSTS} hosts: names, addresses, networks");
            self.problems.add(raw.span(), what);
        }
        list.iter()
            .filter_map(|host| self.take(host, text::host))
            .collect()
    }

    /// One destination belongs to one resource, or the file's order would decide by accident.
    /// (Of networks that overlap, a connection tells by the name that was looked up for it.)
    fn overlaps(&mut self, raw: &[Spanned<raw::Resource>]) {
        let mut seen = HashMap::new();
        for resource in raw {
            let resource = resource.get_ref();
            let port = resource
                .port
                .as_ref()
                .map_or_else(|| default_port(resource.protocol), |p| *p.get_ref());
            for written in resource.hosts.get_ref() {
                let Ok(host) = text::host(written.get_ref()) else {
                    continue;
                };
                let host = match host {
                    Host::Name(name) => name,
                    Host::Net(net) => net.to_string(),
                };
                let owner = resource.name.get_ref().as_str();
                if let Some(first) = seen.insert((host, port), owner) {
                    let what = format!(
                        "{:?} port {port} belongs to `{first}` already",
                        written.get_ref()
                    );
                    self.problems.add(written.span(), what);
                }
            }
        }
    }

    fn login(&mut self, span: Range<usize>, raw: &raw::Login, tls: UpstreamTls) -> Login {
        let user = self.user(span.clone(), raw);
        if raw.certificate.is_some() && tls == UpstreamTls::Disable {
            let what = "a certificate cannot log in with tls = \"disable\"";
            self.problems.add(span.clone(), what);
        }
        let (certificate, key) = self.pair(span, raw);
        Login {
            user,
            password: raw.password.as_ref().and_then(|p| self.secret(p)),
            certificate: certificate.zip(key),
            database: raw.database.as_ref().map(|d| d.get_ref().clone()),
        }
    }

    pub(super) fn user(&mut self, span: Range<usize>, raw: &raw::Login) -> String {
        let Some(user) = &raw.user else {
            self.problems.add(span, "the key `user` is missing here");
            return String::new();
        };
        if user.get_ref().is_empty() || user.get_ref().contains('\0') {
            self.problems
                .add(user.span(), "the user has no usable name");
        }
        user.get_ref().clone()
    }

    /// A certificate in PEM and its key.
    pub(super) fn pair(
        &mut self,
        span: Range<usize>,
        raw: &raw::Login,
    ) -> (Option<String>, Option<Secret>) {
        if raw.certificate.is_some() != raw.key.is_some() {
            let what = "a certificate logs in together with its key: give both";
            self.problems.add(span, what);
        }
        let certificate = self.certificates(raw.certificate.as_ref());
        let key = raw.key.as_ref().and_then(|key| self.private_key(key));
        (certificate, key)
    }

    fn private_key(&mut self, written: &Spanned<raw::SecretRef>) -> Option<Secret> {
        let key = self.secret(written)?;
        if PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).is_err() {
            let what = "this is no private key in PEM (an encrypted one cannot be used)";
            self.problems.add(written.span(), what);
            return None;
        }
        Some(key)
    }

    pub(super) fn secret(&mut self, written: &Spanned<raw::SecretRef>) -> Option<Secret> {
        let found = self.bundle.secret(written.get_ref()).cloned();
        if found.is_none() {
            self.absent(written.span());
        }
        found
    }

    /// PEM from the text itself or from the file that it names; at least one certificate.
    pub(super) fn certificates(&mut self, written: Option<&raw::Text>) -> Option<String> {
        let written = written?;
        let pem = if is_pem(written.get_ref()) {
            written.get_ref().clone()
        } else {
            match self.bundle.file(written.get_ref()) {
                Some(text) => text.expose().to_owned(),
                None => {
                    self.absent(written.span());
                    return None;
                }
            }
        };
        let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        if !parsed.is_ok_and(|found| !found.is_empty()) {
            let what = "no certificate in PEM is found there";
            self.problems.add(written.span(), what);
        }
        Some(pem)
    }

    pub(super) fn absent(&mut self, span: Range<usize>) {
        self.incomplete = true;
        if self.missing == Missing::Report {
            let what = "the keeper sent no content for this: start hoop anew";
            self.problems.add(span, what);
        }
    }
}

fn default_port(protocol: ProtocolKind) -> u16 {
    match protocol {
        ProtocolKind::Postgres => 5432,
        ProtocolKind::Ssh => 22,
        ProtocolKind::Kubernetes => 443,
    }
}
