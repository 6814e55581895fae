//! `[[resource]]` with `protocol = "kubernetes"`.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::super::{
    Impersonate, Kubernetes, KubernetesCredential, Login, Resource, TokenSource, UpstreamTls, raw,
};
use super::Parser;

const HOLD: Duration = Duration::from_secs(50);
const LONGEST_HOLD: Duration = Duration::from_secs(3600);
const MIN_MESSAGE: u64 = 64 << 10;
const MAX_MESSAGE: u64 = 1 << 29;
const MAX_GROUPS: usize = 32;
const MAX_NAME: usize = 256;
const MAX_TYPES: usize = 16;
const USER: &str = "hoop:{agent}";
const PLACES: [&str; 3] = ["{agent}", "{subject}", "{client_id}"];

impl Parser<'_> {
    pub(super) fn kubernetes_resource(&mut self, raw: &raw::Resource) -> Resource {
        self.only_kubernetes(raw);
        let tls = raw.tls.unwrap_or(UpstreamTls::VerifyFull);
        if tls == UpstreamTls::Disable {
            let what = "an API server is reached by TLS alone: a credential would be read by all";
            self.problems.add(raw.name.span(), what);
        }
        let login = raw.login.get_ref();
        let (certificate, key) = self.pair(raw.login.span(), login);
        let credential = self.kubernetes_credential(&raw.login);
        let impersonate = login.impersonate.as_ref().map(|i| self.impersonate(i));
        if matches!(credential, KubernetesCredential::Agent) && impersonate.is_some() {
            let what = "with its own token the agent is itself already";
            let fix = "remove `impersonate`, or give hoop a token of its own";
            self.problems.add_with_fix(raw.login.span(), what, fix);
        }
        let max_message = self.size(
            raw.max_message.as_ref(),
            64 << 20,
            MIN_MESSAGE..=MAX_MESSAGE,
        );
        let login = Login {
            user: shown(&credential, impersonate.as_ref()),
            password: None,
            certificate: certificate.zip(key),
            database: None,
        };
        Resource {
            ca: self.certificates(raw.ca.as_ref()),
            estimate: raw.estimate.unwrap_or(false),
            kubernetes: Some(Kubernetes {
                credential,
                impersonate,
                hold: self.span(raw.hold.as_ref(), HOLD, LONGEST_HOLD),
                show_secrets: self.show_secrets(raw.show_secrets.as_ref()),
            }),
            ..self.common(raw, tls, login, max_message)
        }
    }

    fn kubernetes_credential(&mut self, raw: &Spanned<raw::Login>) -> KubernetesCredential {
        let login = raw.get_ref();
        let own = login.as_agent.as_ref().is_some_and(|own| *own.get_ref());
        match (&login.token, own) {
            (Some(written), true) => {
                let what = "`token` is hoop's and `as_agent` the agent's: give one of them";
                self.problems.add(written.span(), what);
                KubernetesCredential::Agent
            }
            (None, true) => KubernetesCredential::Agent,
            (None, false) => {
                if login.certificate.is_none() {
                    let what = "hoop has nothing to prove itself with to the API server";
                    let fix = "give token = { file = … } or { exec = … }, certificate and key, or as_agent = true";
                    self.problems.add_with_fix(raw.span(), what, fix);
                }
                KubernetesCredential::Certificate
            }
            (Some(written), false) => match self.token(written, true) {
                Some(
                    source @ (TokenSource::File(_)
                    | TokenSource::Credential(_)
                    | TokenSource::Exec(_)),
                ) => KubernetesCredential::Token(source),
                Some(_) => {
                    let what = "the token of a login comes from file, credential or exec";
                    self.problems.add(written.span(), what);
                    KubernetesCredential::Certificate
                }
                None => KubernetesCredential::Certificate,
            },
        }
    }

    fn impersonate(&mut self, written: &Spanned<raw::Impersonate>) -> Impersonate {
        let raw = written.get_ref();
        let usable = |text: &str| {
            let printable = text.chars().all(|c| (' '..='~').contains(&c));
            !text.trim().is_empty() && text.len() <= MAX_NAME && printable
        };
        let user = raw.user.as_ref().map_or(USER, |user| user.get_ref());
        let mut rest = user.to_owned();
        for place in PLACES {
            rest = rest.replace(place, "");
        }
        if !usable(user) || rest.contains(['{', '}']) {
            let what = format!(
                "a user is up to {MAX_NAME} characters of ASCII, with {} in it where that is meant",
                PLACES.join(", ")
            );
            self.problems.add(written.span(), what);
        }
        let groups: Vec<_> = raw.groups.iter().flatten().collect();
        let prefix = raw.agent_groups.as_ref();
        let prefixed = prefix.is_none_or(|p| p.get_ref().is_empty() || usable(p.get_ref()));
        let named = groups.iter().all(|group| usable(group.get_ref()));
        if groups.len() > MAX_GROUPS || !named || !prefixed {
            let what = format!("groups are up to {MAX_GROUPS} names of ASCII");
            self.problems.add(written.span(), what);
        }
        Impersonate {
            user: user.to_owned(),
            groups: groups.iter().map(|g| g.get_ref().clone()).collect(),
            agent_groups: prefix.map(|p| p.get_ref().clone()),
        }
    }

    fn show_secrets(&mut self, written: Option<&Spanned<Vec<raw::Text>>>) -> Vec<String> {
        let Some(written) = written else {
            return Vec::new();
        };
        let types = written.get_ref();
        let usable = |kind: &raw::Text| {
            let name = |b: u8| b.is_ascii_alphanumeric() || b"./_-".contains(&b);
            let kind = kind.get_ref();
            !kind.is_empty() && kind.len() <= MAX_NAME && kind.bytes().all(name)
        };
        if types.len() > MAX_TYPES || !types.iter().all(usable) {
            let what = format!(
                "types of Secrets are up to {MAX_TYPES} names such as \"helm.sh/release.v1\""
            );
            self.problems.add(written.span(), what);
        }
        types.iter().map(|kind| kind.get_ref().clone()).collect()
    }

    /// Settings of other protocols would look as if they protected something.
    fn only_kubernetes(&mut self, raw: &raw::Resource) {
        let login = raw.login.get_ref();
        let at = |set: bool| set.then(|| raw.name.span());
        let spans = [
            ("allow_plain", at(raw.allow_plain.is_some())),
            ("allow_replication", at(raw.allow_replication.is_some())),
            ("agent_password", span(&raw.agent_password)),
            ("user", span(&login.user)),
            ("password", span(&login.password)),
            ("database", span(&login.database)),
        ];
        self.without("kubernetes", spans);
        self.no_ssh("kubernetes", raw);
    }

    pub(super) fn no_kubernetes(&mut self, protocol: &str, raw: &raw::Resource) {
        let login = raw.login.get_ref();
        let spans = [
            ("hold", span(&raw.hold)),
            ("show_secrets", span(&raw.show_secrets)),
            ("token", span(&login.token)),
            ("as_agent", span(&login.as_agent)),
            ("impersonate", span(&login.impersonate)),
        ];
        self.without(protocol, spans);
    }
}

fn span<T>(written: &Option<Spanned<T>>) -> Option<Range<usize>> {
    written.as_ref().map(Spanned::span)
}

/// What recordings and policies call the account, where nobody is impersonated.
fn shown(credential: &KubernetesCredential, impersonate: Option<&Impersonate>) -> String {
    match (credential, impersonate) {
        (_, Some(impersonate)) => impersonate.user.clone(),
        (KubernetesCredential::Agent, None) => "agent".to_owned(),
        (_, None) => "hoop".to_owned(),
    }
}
