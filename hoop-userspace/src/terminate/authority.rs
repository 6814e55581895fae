//! The local CA: what makes a client that asked for `db.prod.internal` believe that it reached it.
//!
//! One key per host, made at the first start, never leaving the state directory. Its certificate is
//! constrained to the configured destinations (RFC 5280 §4.2.1.10), so that whoever steals the key
//! can impersonate those and nothing else, to those clients that trust it. When a destination is
//! added, the certificate is made anew with the same key, and clients must be given the new one.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::time::Duration;

use ipnet::IpNet;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use x509_parser::extensions::{GeneralName, ParsedExtension};

use crate::config::{Config, Host};
use crate::whole;
use crate::wire::tls::host_name;

/// The CA's certificate within the state directory. Readable by all: it is no secret.
pub const CERTIFICATE_FILE: &str = "ca.pem";
/// The CA's key within the state directory.
pub const KEY_FILE: &str = "ca.key";

/// Starts the subject's common name; `hoop trust` knows its own certificates by it.
pub const COMMON_NAME: &str = "hoop local authority";

const CA_LIFE: Duration = Duration::from_secs(3650 * DAY);
const LEAF_LIFE: Duration = Duration::from_secs(30 * DAY);
/// A CA this close to its end is made anew at the next start.
const CA_RENEWAL: Duration = Duration::from_secs(90 * DAY);
/// Clocks of clients may be behind.
const BACKDATED: Duration = Duration::from_secs(DAY);
const DAY: u64 = 24 * 60 * 60;

/// Permitted when nothing else is: an absent list would permit every name (RFC 6761 §6.4).
const NO_NAME: &str = "hoop.invalid";
/// RFC 5737's documentation network, for the same reason.
const NO_NET: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 0));

#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error(
        "cannot {what} {path}: {source}; the state directory must belong to the worker's account"
    )]
    File {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{path} may be read by others (mode {mode:o}); make it anew or run chmod 600")]
    Exposed { path: PathBuf, mode: u32 },
    #[error(
        "{path} holds no usable {what}: {why}; move it away and hoop makes a new CA, which clients must be given"
    )]
    Unusable {
        path: PathBuf,
        what: &'static str,
        why: String,
    },
    #[error("cannot make a certificate: {0}")]
    Mint(#[from] rcgen::Error),
    #[error("cannot use the certificate that was made: {0}")]
    Tls(#[from] rustls::Error),
}

/// What the CA may vouch for: the configured names and networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destinations {
    names: Vec<String>,
    nets: Vec<IpNet>,
}

impl Destinations {
    pub fn of(config: &Config) -> Self {
        let mut all = Self::default();
        // SSH has authorities of its own.
        let tls = config.resources.iter().filter(|r| r.ssh.is_none());
        for host in tls.flat_map(|r| &r.hosts) {
            match host {
                Host::Name(name) => all.names.extend(host_name(name)),
                Host::Net(net) => all.nets.push(net.trunc()),
            }
        }
        all.tidy()
    }

    fn tidy(mut self) -> Self {
        self.names.sort();
        self.names.dedup();
        self.nets.sort();
        self.nets.dedup();
        self
    }

    fn contains(&self, other: &Self) -> bool {
        other.names.iter().all(|n| self.names.contains(n))
            && other.nets.iter().all(|n| self.nets.contains(n))
    }

    fn constraints(&self) -> NameConstraints {
        let dns = |name: &String| GeneralSubtree::DnsName(name.clone());
        let ip = |net: &IpNet| {
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(
                net.network(),
                net.prefix_len(),
            ))
        };
        let mut permitted: Vec<_> = self.names.iter().map(dns).collect();
        if permitted.is_empty() {
            permitted.push(dns(&NO_NAME.into()));
        }
        permitted.extend(self.nets.iter().map(ip));
        if self.nets.is_empty() {
            permitted.push(ip(&IpNet::from(NO_NET)));
        }
        NameConstraints {
            permitted_subtrees: permitted,
            excluded_subtrees: Vec::new(),
        }
    }
}

/// The CA. Minting takes about 0.1 ms, so callers cache what they get.
pub struct Authority {
    directory: PathBuf,
    key_der: Vec<u8>,
    current: RwLock<Issued>,
}

#[derive(Clone)]
struct Issued {
    pem: String,
    der: CertificateDer<'static>,
    destinations: Destinations,
}

/// A certificate that names one destination, with its key.
pub struct Leaf {
    /// The leaf alone: the CA is with the client.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    pub expires: OffsetDateTime,
}

impl Authority {
    /// Opens the CA in the state directory, or makes it. `destinations` that its certificate does
    /// not cover yet cause a new certificate with the same key.
    pub fn open(state: &Path, destinations: &Destinations) -> Result<Self, AuthorityError> {
        let key = open_key(&state.join(KEY_FILE))?;
        let path = state.join(CERTIFICATE_FILE);
        let issued = kept_or_issued(&path, &key, destinations)?;
        Ok(Self {
            directory: state.into(),
            key_der: key.serialize_der(),
            current: RwLock::new(issued),
        })
    }

    /// Makes the certificate anew if it does not cover the destinations; says whether it did.
    pub fn cover(&self, destinations: &Destinations) -> Result<bool, AuthorityError> {
        if self.issued().destinations.contains(destinations) {
            return Ok(false);
        }
        let path = self.directory.join(CERTIFICATE_FILE);
        // Another worker, before or after this one, may have made it already.
        let issued = kept_or_issued(&path, &self.key()?, destinations)?;
        match self.current.write() {
            Ok(mut current) => *current = issued,
            Err(poisoned) => *poisoned.into_inner() = issued,
        }
        Ok(true)
    }

    /// The certificate that clients must trust.
    pub fn ca_pem(&self) -> String {
        self.issued().pem
    }

    /// Whether a client that trusts the CA will accept this name from it.
    pub fn vouches_for(&self, name: &str) -> bool {
        let destinations = self.issued().destinations;
        host_name(name).is_some_and(|name| {
            destinations.names.iter().any(|known| {
                name.strip_suffix(known.as_str())
                    .is_some_and(|p| p.is_empty() || p.ends_with('.'))
            })
        })
    }

    pub fn vouches_for_address(&self, address: IpAddr) -> bool {
        self.issued()
            .destinations
            .nets
            .iter()
            .any(|net| net.contains(&address))
    }

    /// Makes a certificate for those of the names and addresses that the CA may vouch for; one
    /// that it may not would spoil the whole certificate. `label` names the resource for people.
    pub fn mint(
        &self,
        label: &str,
        names: &[String],
        address: Option<IpAddr>,
    ) -> Result<Leaf, AuthorityError> {
        let now = OffsetDateTime::now_utc();
        let mut params = CertificateParams::default();
        params.not_before = now - BACKDATED;
        params.not_after = now + LEAF_LIFE;
        // The space keeps clients from taking it for a host name.
        params.distinguished_name = common_name(format!("hoop for {label}"));
        params.use_authority_key_identifier_extension = true;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        for name in names.iter().filter(|n| self.vouches_for(n)) {
            params
                .subject_alt_names
                .extend(host_name(name).map(dns).transpose()?);
        }
        let address = address.filter(|a| self.vouches_for_address(*a));
        params
            .subject_alt_names
            .extend(address.map(SanType::IpAddress));
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let issuer = Issuer::from_ca_cert_der(&self.issued().der, self.key()?)?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Leaf {
            chain: vec![certificate.der().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            expires: params.not_after,
        })
    }

    fn issued(&self) -> Issued {
        match self.current.read() {
            Ok(current) => current.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }

    fn key(&self) -> Result<KeyPair, AuthorityError> {
        Ok(KeyPair::try_from(self.key_der.as_slice())?)
    }
}

fn dns(name: String) -> Result<SanType, rcgen::Error> {
    Ok(SanType::DnsName(name.try_into()?))
}

fn common_name(text: String) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

/// Reads the key, or makes one. A key that others may read is refused, not repaired: somebody may
/// have read it.
fn open_key(path: &Path) -> Result<KeyPair, AuthorityError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            replace(path, key.serialize_pem().as_bytes(), 0o600)?;
            return Ok(key);
        }
        Err(source) => {
            return Err(AuthorityError::File {
                what: "read",
                path: path.into(),
                source,
            });
        }
    };
    let mode = fs::metadata(path)
        .map_err(|source| AuthorityError::File {
            what: "examine",
            path: path.into(),
            source,
        })?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(AuthorityError::Exposed {
            path: path.into(),
            mode: mode & 0o777,
        });
    }
    KeyPair::from_pem(&text).map_err(|error| AuthorityError::Unusable {
        path: path.into(),
        what: "key",
        why: error.to_string(),
    })
}

/// The certificate on disk; `None` if there is none, or it is about to end, or is of another key.
fn read_certificate(path: &Path, key: &KeyPair) -> Result<Option<Issued>, AuthorityError> {
    let pem = match fs::read_to_string(path) {
        Ok(pem) => pem,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(AuthorityError::File {
                what: "read",
                path: path.into(),
                source,
            });
        }
    };
    let unusable = |why: String| AuthorityError::Unusable {
        path: path.into(),
        what: "certificate",
        why,
    };
    let der =
        CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| unusable(e.to_string()))?;
    let (_, parsed) =
        x509_parser::parse_x509_certificate(&der).map_err(|e| unusable(e.to_string()))?;
    let ends = parsed.validity().not_after.timestamp();
    let renew_at = (OffsetDateTime::now_utc() + CA_RENEWAL).unix_timestamp();
    if parsed.public_key().subject_public_key.data != key.public_key_raw() || ends < renew_at {
        return Ok(None);
    }
    let destinations = permitted(&parsed);
    Ok(Some(Issued {
        pem,
        der: der.clone(),
        destinations,
    }))
}

/// What the certificate's constraints permit.
fn permitted(certificate: &x509_parser::certificate::X509Certificate<'_>) -> Destinations {
    let mut all = Destinations::default();
    for extension in certificate.extensions() {
        let ParsedExtension::NameConstraints(constraints) = extension.parsed_extension() else {
            continue;
        };
        for subtree in constraints.permitted_subtrees.iter().flatten() {
            match &subtree.base {
                GeneralName::DNSName(name) => all.names.push((*name).into()),
                GeneralName::IPAddress(bytes) => all.nets.extend(net(bytes)),
                _ => {}
            }
        }
    }
    all.tidy()
}

/// An address and a mask back to back (RFC 5280 §4.2.1.10).
fn net(bytes: &[u8]) -> Option<IpNet> {
    let (address, mask) = bytes.split_at_checked(bytes.len() / 2)?;
    let ip = |bytes: &[u8]| -> Option<IpAddr> {
        match bytes.len() {
            4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
            16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
            _ => None,
        }
    };
    IpNet::with_netmask(ip(address)?, ip(mask)?).ok()
}

/// The certificate on disk if it covers the destinations, or one that is made now.
fn kept_or_issued(
    path: &Path,
    key: &KeyPair,
    destinations: &Destinations,
) -> Result<Issued, AuthorityError> {
    match read_certificate(path, key)? {
        Some(issued) if issued.destinations.contains(destinations) => Ok(issued),
        _ => issue(path, key, destinations),
    }
}

fn issue(
    path: &Path,
    key: &KeyPair,
    destinations: &Destinations,
) -> Result<Issued, AuthorityError> {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.not_before = now - BACKDATED;
    params.not_after = now + CA_LIFE;
    params.distinguished_name = common_name(format!("{COMMON_NAME} ({})", host_label()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(destinations.constraints());
    let certificate = params.self_signed(key)?;
    let pem = certificate.pem();
    replace(path, pem.as_bytes(), 0o644)?;
    Ok(Issued {
        pem,
        der: certificate.der().clone(),
        destinations: destinations.clone(),
    })
}

/// Tells the CAs of several hosts apart in a client's list.
fn host_label() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    let name: String = name
        .to_string_lossy()
        .chars()
        .filter(char::is_ascii_graphic)
        .take(40)
        .collect();
    if name.is_empty() {
        "this host".into()
    } else {
        name
    }
}

/// Writes a file so that a crash leaves the old one or the new one, never half of one.
fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), AuthorityError> {
    whole::write(path, content, mode).map_err(|source| AuthorityError::File {
        what: "write",
        path: path.into(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::fixture::{config, resource};

    fn destinations(hosts: &[&str]) -> Destinations {
        Destinations::of(&config(vec![resource("orders", hosts)]))
    }

    #[test]
    fn made_once_and_made_anew_with_the_same_key_when_destinations_are_added() {
        let state = tempfile::tempdir().unwrap();
        let open = |hosts| Authority::open(state.path(), &destinations(hosts)).unwrap();
        let key = |a: &Authority| a.key().unwrap().public_key_raw().to_vec();
        let first = open(&["db.internal", "10.0.0.0/8", "2001:db8::/32"]);
        let again = open(&["db.internal", "2001:db8::/32"]);
        assert_eq!(first.ca_pem(), again.ca_pem());
        assert!(!again.cover(&destinations(&["10.0.0.0/8"])).unwrap());
        assert!(again.cover(&destinations(&["new.internal"])).unwrap());
        assert_ne!(first.ca_pem(), again.ca_pem());
        assert_eq!(key(&first), key(&again));
        assert!(again.vouches_for("new.internal") && !again.vouches_for("db.internal"));
        assert_eq!(open(&["new.internal"]).ca_pem(), again.ca_pem());
        let mode = fs::metadata(state.path().join(KEY_FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_another_worker_has_made_is_not_made_again() {
        let state = tempfile::tempdir().unwrap();
        let open = || Authority::open(state.path(), &destinations(&["db.internal"])).unwrap();
        let (one, other) = (open(), open());
        let wanted = destinations(&["db.internal", "new.internal"]);
        assert!(one.cover(&wanted).unwrap() && other.cover(&wanted).unwrap());
        assert_eq!(one.ca_pem(), other.ca_pem());
        let on_disk = fs::read_to_string(state.path().join(CERTIFICATE_FILE)).unwrap();
        assert_eq!(on_disk, one.ca_pem());
    }

    #[test]
    fn without_destinations_it_vouches_for_nothing() {
        let state = tempfile::tempdir().unwrap();
        let authority = Authority::open(state.path(), &Destinations::default()).unwrap();
        for name in ["db.internal", "localhost", "internal", ""] {
            assert!(!authority.vouches_for(name), "{name}");
        }
        assert!(!authority.vouches_for_address("10.0.0.1".parse().unwrap()));
        assert!(authority.mint("x", &["db.internal".into()], None).is_ok());
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let state = tempfile::tempdir().unwrap();
        Authority::open(state.path(), &Destinations::default()).unwrap();
        let key = state.path().join(KEY_FILE);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Authority::open(state.path(), &Destinations::default())
            .err()
            .unwrap();
        assert!(
            error
                .to_string()
                .contains("may be read by others (mode 640)"),
            "{error}"
        );
        fs::write(&key, "junk").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let error = Authority::open(state.path(), &Destinations::default())
            .err()
            .unwrap();
        assert!(error.to_string().contains("holds no usable key"), "{error}");
    }
}
