//! Is this the server that is meant?

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::known_hosts::Marker;
use russh::keys::{Algorithm, Certificate, EcdsaCurve, HashAlg, PublicKey, PublicKeyOrCertificate};

use super::Noted;
use super::known::{FirstUse, Seen, matches};
use crate::config::{Ssh, SshHostKeys};
use crate::forward::Target;
use crate::terminate::ssh::Recognise;

/// What one server is known by.
pub struct Expected {
    keys: SshHostKeys,
    /// As the client calls it, then its address.
    names: Vec<String>,
    port: u16,
    first_use: Arc<FirstUse>,
    objection: Noted,
    learned: Noted,
}

impl Expected {
    pub fn of(ssh: &Ssh, target: &Target<'_>, first_use: Arc<FirstUse>) -> Self {
        let from_client = target.network.is_client();
        // In the client's network the address is the agent's choice, and no name of the server's unless
        // the operator gave it the network.
        let address = target.addresses.first().map(|a| a.ip());
        let own = |ip: &IpAddr| !from_client || target.resource.has_in_a_network(*ip);
        let address = address.filter(own).map(|ip| ip.to_string());
        let mut keys = ssh.host_keys.clone();
        // Whoever is first at an address there need not be the server.
        keys.trust_on_first_use &= !from_client;
        Self {
            keys,
            names: target.name.iter().cloned().chain(address).collect(),
            port: target.resource.port,
            first_use,
            objection: Noted::default(),
            learned: Noted::default(),
        }
    }

    /// Why the server was not believed.
    pub fn objection(&self) -> Option<String> {
        self.objection.take()
    }

    /// The key that was not known before.
    pub fn learned(&self) -> Option<String> {
        self.learned.take()
    }

    /// Which algorithms can lead to a key that is known; `None` where any may.
    pub fn algorithms(&self) -> Option<Vec<Algorithm>> {
        let mut known: Vec<Algorithm> = self.known_keys().map(|k| k.algorithm()).collect();
        if self.keys.trust_on_first_use {
            known.extend(self.first_use.algorithms(&self.lines()));
        }
        if known.is_empty() {
            return None;
        }
        let usable = all_algorithms().into_iter().filter(|one| {
            let rsa = matches!(one, Algorithm::Rsa { .. });
            known
                .iter()
                .any(|k| k == one || rsa && matches!(k, Algorithm::Rsa { .. }))
        });
        Some(usable.collect())
    }

    /// Certificates are asked for where somebody may vouch for the server.
    pub fn certificate_algorithms(&self) -> Vec<Algorithm> {
        match self.authorities().next() {
            Some(_) => all_algorithms(),
            None => Vec::new(),
        }
    }

    /// As `known_hosts` writes names.
    fn lines(&self) -> Vec<String> {
        let line = |name: &String| match self.port {
            22 => name.clone(),
            port => format!("[{name}]:{port}"),
        };
        self.names.iter().map(line).collect()
    }

    fn known_keys(&self) -> impl Iterator<Item = &PublicKey> {
        let marked = self.entries(None);
        self.keys.keys.iter().chain(marked)
    }

    fn authorities(&self) -> impl Iterator<Item = &PublicKey> {
        let marked = self.entries(Some(Marker::CertAuthority));
        self.keys.authorities.iter().chain(marked)
    }

    fn entries(&self, marker: Option<Marker>) -> impl Iterator<Item = &PublicKey> {
        let lines = self.lines();
        self.keys
            .known_hosts
            .iter()
            .filter(move |entry| entry.marker() == marker.as_ref())
            .filter(move |entry| {
                lines
                    .iter()
                    .any(|name| matches(entry.host_patterns(), name))
            })
            .map(|entry| entry.public_key())
    }

    fn is_revoked(&self, key: &PublicKey) -> bool {
        self.entries(Some(Marker::Revoked))
            .any(|revoked| revoked.key_data() == key.key_data())
    }

    fn judge(&self, shown: &PublicKeyOrCertificate) -> Result<(), String> {
        let key = shown.public_key();
        if self.is_revoked(&key) {
            return Err(format!("its key {} is revoked", fingerprint(&key)));
        }
        // What an authority has signed is worth no more than its key.
        if let PublicKeyOrCertificate::Certificate(certificate) = shown {
            let authority = certificate.signature_key();
            let revoked = self.entries(Some(Marker::Revoked));
            if revoked.map(PublicKey::key_data).any(|key| key == authority) {
                let authority = fingerprint(&PublicKey::from(authority.clone()));
                return Err(format!(
                    "its certificate is by the authority {authority}, which is revoked"
                ));
            }
        }
        match shown {
            PublicKeyOrCertificate::Certificate(certificate) => self.certified(certificate),
            PublicKeyOrCertificate::PublicKey { .. } => self.known(&key),
        }
    }

    fn known(&self, key: &PublicKey) -> Result<(), String> {
        if self.known_keys().any(|k| k.key_data() == key.key_data()) {
            return Ok(());
        }
        let shown = fingerprint(key);
        if !self.keys.trust_on_first_use {
            return Err(format!(
                "it shows the key {shown}, which is none of those that the resource names"
            ));
        }
        match self.first_use.see(&self.lines(), key) {
            Ok(Seen::Before) => Ok(()),
            Ok(Seen::First) => {
                self.learned
                    .set(format!("{} {shown}", self.names.join(",")));
                Ok(())
            }
            Ok(Seen::Other) => Err(format!(
                "it shows the key {shown}, and another was seen first; if the server was made anew, an operator must remove its line from {}",
                self.first_use.path().display()
            )),
            Err(error) => Err(format!(
                "its key {shown} cannot be kept in {}: {error}",
                self.first_use.path().display()
            )),
        }
    }

    fn certified(&self, certificate: &Certificate) -> Result<(), String> {
        let authorities: Vec<_> = self
            .authorities()
            .map(|key| key.fingerprint(HashAlg::Sha256))
            .collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map(|d| d.as_secs()).unwrap_or_default();
        certificate
            .validate_at(now, &authorities)
            .map_err(|_| "its certificate is by no authority of the resource, or not valid now")?;
        if certificate.cert_type() != CertType::Host {
            return Err("it shows a certificate that is no server's".into());
        }
        if certificate.critical_options().iter().next().is_some() {
            return Err("its certificate demands what hoop does not know".into());
        }
        // One that names nobody would be anybody's.
        let principals = certificate.valid_principals();
        if !principals.iter().any(|p| self.names.contains(p)) {
            return Err(format!("its certificate is for {}", principals.join(", ")));
        }
        Ok(())
    }
}

impl Recognise for Expected {
    fn recognise(&self, key: &PublicKeyOrCertificate) -> bool {
        match self.judge(key) {
            Ok(()) => true,
            Err(why) => {
                self.objection.set(why);
                false
            }
        }
    }
}

fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// In order of preference; SHA-1 is not among them.
fn all_algorithms() -> Vec<Algorithm> {
    let ecdsa = |curve| Algorithm::Ecdsa { curve };
    let rsa = |hash| Algorithm::Rsa { hash: Some(hash) };
    vec![
        Algorithm::Ed25519,
        ecdsa(EcdsaCurve::NistP256),
        ecdsa(EcdsaCurve::NistP384),
        ecdsa(EcdsaCurve::NistP521),
        rsa(HashAlg::Sha512),
        rsa(HashAlg::Sha256),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{SshClientUser, SshMinted};
    use crate::forward::fixture;
    use crate::terminate::ssh::Keys;
    use russh::keys::ssh_key::known_hosts::KnownHosts;

    const ONE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const OTHER: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";

    fn key(text: &str) -> PublicKeyOrCertificate {
        PublicKey::from_openssh(text).unwrap().into()
    }

    fn expected(keys: SshHostKeys, port: u16, state: &std::path::Path) -> Expected {
        let mut resource = fixture::resource("web", &["web1.prod.internal"]);
        resource.port = port;
        let target = Target {
            resource: &resource,
            name: Some("web1.prod.internal".into()),
            addresses: vec!["10.0.0.7:22".parse().unwrap()],
            network: crate::forward::Network::Host,
        };
        let ssh = Ssh {
            host_keys: keys,
            user: SshClientUser::AsClient,
            credentials: Vec::new(),
        };
        Expected::of(&ssh, &target, Arc::new(FirstUse::new(state)))
    }

    fn known_hosts(text: &str) -> SshHostKeys {
        SshHostKeys {
            known_hosts: KnownHosts::new(text).collect::<Result<_, _>>().unwrap(),
            ..SshHostKeys::default()
        }
    }

    #[test]
    fn a_key_is_believed_by_name_address_and_port_and_no_other_is() {
        let state = tempfile::tempdir().unwrap();
        let believed = |text: String, port| {
            let expected = expected(known_hosts(&text), port, state.path());
            assert!(!expected.recognise(&key(OTHER)), "{text}");
            assert!(expected.objection().is_some());
            expected.recognise(&key(ONE))
        };
        assert!(believed(format!("web1.prod.internal {ONE}"), 22));
        assert!(believed(format!("10.0.0.7 {ONE}"), 22));
        assert!(believed(format!("*.prod.internal {ONE}"), 22));
        assert!(believed(format!("[web1.prod.internal]:2222 {ONE}"), 2222));
        assert!(!believed(format!("web1.prod.internal {ONE}"), 2222));
        assert!(!believed(format!("*.prod.internal,!web1.* {ONE}"), 22));
        assert!(!believed(format!("web2.prod.internal {ONE}"), 22));
        let revoked = format!("web1.prod.internal {ONE}\n@revoked * {ONE}");
        assert!(!believed(revoked, 22));
    }

    #[test]
    fn a_certificate_is_believed_for_the_names_that_it_says() {
        let state = tempfile::tempdir().unwrap();
        let keys = Keys::open(state.path()).unwrap();
        let authority = std::fs::read_to_string(state.path().join("ssh-host-ca.pub")).unwrap();
        let trusting = SshHostKeys {
            authorities: vec![PublicKey::from_openssh(&authority).unwrap()],
            ..SshHostKeys::default()
        };
        let expected = expected(trusting.clone(), 22, state.path());
        let shown = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|n| (*n).to_owned()).collect();
            let faces = keys.faces(&names, SystemTime::now()).unwrap();
            PublicKeyOrCertificate::Certificate(faces.certificate.unwrap())
        };
        assert!(expected.recognise(&shown(&["web1.prod.internal"])));
        let mut revoking = known_hosts(&format!("@revoked * {authority}"));
        revoking.authorities = trusting.authorities.clone();
        let revoking = self::expected(revoking, 22, state.path());
        assert!(!revoking.recognise(&shown(&["web1.prod.internal"])));
        assert!(revoking.objection().unwrap().contains("revoked"));
        assert!(!expected.recognise(&shown(&["web2.prod.internal"])));
        assert!(
            !expected.recognise(&key(ONE)),
            "a key that nobody vouches for"
        );
        let long_ago = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1 << 30);
        let old = keys
            .faces(&["web1.prod.internal".into()], long_ago)
            .unwrap();
        let old = PublicKeyOrCertificate::Certificate(old.certificate.unwrap());
        assert!(!expected.recognise(&old));
        let (_, user) = keys
            .mint(
                &SshMinted::default(),
                "web1.prod.internal",
                "x",
                SystemTime::now(),
            )
            .unwrap();
        let public = std::fs::read_to_string(state.path().join("ssh-user-ca.pub")).unwrap();
        let mut both = trusting;
        both.authorities
            .push(PublicKey::from_openssh(&public).unwrap());
        let expected = self::expected(both, 22, state.path());
        assert!(!expected.recognise(&PublicKeyOrCertificate::Certificate(user)));
    }

    #[test]
    fn the_first_key_that_is_seen_is_the_only_one_from_then_on() {
        let state = tempfile::tempdir().unwrap();
        let first = SshHostKeys {
            trust_on_first_use: true,
            ..SshHostKeys::default()
        };
        let one = expected(first.clone(), 22, state.path());
        assert!(one.recognise(&key(ONE)));
        assert!(one.learned().unwrap().contains("SHA256:"));
        let again = expected(first, 22, state.path());
        assert!(again.recognise(&key(ONE)) && again.learned().is_none());
        assert!(!again.recognise(&key(OTHER)));
        assert_eq!(again.algorithms(), Some(vec![Algorithm::Ed25519]));
    }
}
