//! TLS toward the client: one [`Offer`] per destination, minted by the [`Authority`] and cached.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use ring::digest;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::server::NoServerSessionStorage;
use rustls::sign::CertifiedKey;
use rustls::sign::SingleCertAndKey;
use time::{Duration, OffsetDateTime};

use super::authority::{Authority, AuthorityError, Leaf};
use crate::config::{Host, Resource};
use crate::ids::ResourceName;

/// The application protocol of PostgreSQL's direct TLS (version 17 and later).
const ALPN_POSTGRES: &[u8] = b"postgresql";

/// A certificate names at most this many hosts, so that the handshake stays small.
const MAX_NAMES: usize = 32;

const CACHED: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// A leaf is replaced this long before it ends.
const RENEWAL: Duration = Duration::days(7);

/// What a client is offered when it asks for TLS.
#[derive(Clone)]
pub struct Offer {
    pub config: Arc<ServerConfig>,
    /// The channel binding data `tls-server-end-point` of the offered certificate (RFC 5929 §4.1).
    pub end_point: Arc<[u8]>,
    expires: OffsetDateTime,
}

/// Makes offers. Shared by all connections of a worker.
pub struct Offers {
    authority: Arc<Authority>,
    cache: Mutex<LruCache<Key, Offer>>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    resource: ResourceName,
    names: Vec<String>,
    address: Option<IpAddr>,
}

impl Offers {
    pub fn new(authority: Arc<Authority>) -> Self {
        Self {
            authority,
            cache: Mutex::new(LruCache::new(CACHED)),
        }
    }

    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Forgets what was minted. Call it when [`Authority::cover`] made a new certificate.
    pub fn clear(&self) {
        self.cache().clear();
    }

    /// The offer for one connection to `resource`. Its certificate carries every name of the
    /// resource, `name` (what the route says the client asked for) first, and the address where
    /// the configuration covers it; so nothing depends on whether the client sends a server name.
    pub fn offer(
        &self,
        resource: &Resource,
        name: Option<&str>,
        address: IpAddr,
    ) -> Result<Offer, AuthorityError> {
        let address = Some(address).filter(|a| self.authority.vouches_for_address(*a));
        let key = Key {
            resource: resource.name.clone(),
            names: names(resource, name),
            address,
        };
        let now = OffsetDateTime::now_utc();
        if let Some(offer) = self.cache().get(&key)
            && offer.expires - RENEWAL > now
        {
            return Ok(offer.clone());
        }
        let leaf = self
            .authority
            .mint(resource.name.as_str(), &key.names, address)?;
        let offer = Offer::new(leaf)?;
        self.cache().put(key, offer.clone());
        Ok(offer)
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, LruCache<Key, Offer>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn names(resource: &Resource, first: Option<&str>) -> Vec<String> {
    let configured = resource.hosts.iter().filter_map(|host| match host {
        Host::Name(name) => Some(name.as_str()),
        Host::Net(_) => None,
    });
    let mut names: Vec<String> = Vec::new();
    for name in first.into_iter().chain(configured) {
        if names.len() < MAX_NAMES && !names.iter().any(|n| n.eq_ignore_ascii_case(name)) {
            names.push(name.into());
        }
    }
    names
}

impl Offer {
    fn new(leaf: Leaf) -> Result<Self, AuthorityError> {
        // Minted with ECDSA and SHA-256, so the certificate's own hash is the binding's hash.
        let end_point = leaf
            .chain
            .first()
            .map(|c| digest::digest(&digest::SHA256, c));
        let provider = default_provider();
        let key = CertifiedKey::from_der(leaf.chain, leaf.key, &provider)?;
        let mut config = ServerConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.alpn_protocols = vec![ALPN_POSTGRES.to_vec()];
        // A resumed session would skip the certificate that channel binding is about.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self {
            config: config.into(),
            end_point: end_point.as_ref().map_or(&[][..], AsRef::as_ref).into(),
            expires: leaf.expires,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};

    use super::*;
    use crate::forward::fixture::{config, resource};
    use crate::terminate::authority::{CERTIFICATE_FILE, Destinations, KEY_FILE};

    fn offers(state: &Path, resources: Vec<Resource>) -> Offers {
        let destinations = Destinations::of(&config(resources));
        Offers::new(Arc::new(Authority::open(state, &destinations).unwrap()))
    }

    /// A handshake in memory with a client that trusts the CA; returns the certificate it saw.
    fn shake(offers: &Offers, offer: &Offer, name: &str) -> Result<Vec<u8>, rustls::Error> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(offers.authority().ca_pem().as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_string()).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name)?;
        let mut server = ServerConnection::new(offer.config.clone())?;
        for _ in 0..4 {
            let (mut out, mut back) = (Vec::new(), Vec::new());
            while client.wants_write() {
                client.write_tls(&mut out).unwrap();
            }
            let mut out = out.as_slice();
            while !out.is_empty() {
                server.read_tls(&mut out).unwrap();
            }
            server.process_new_packets()?;
            while server.wants_write() {
                server.write_tls(&mut back).unwrap();
            }
            let mut back = back.as_slice();
            while !back.is_empty() {
                client.read_tls(&mut back).unwrap();
            }
            client.process_new_packets()?;
        }
        assert!(!client.is_handshaking());
        Ok(client.peer_certificates().unwrap()[0].to_vec())
    }

    #[test]
    fn rustls_accepts_names_and_addresses_within_the_constraints() {
        let state = tempfile::tempdir().unwrap();
        let orders = resource(
            "orders",
            &["DB.prod.internal", "ro.prod.internal", "10.20.0.0/24"],
        );
        let v6 = resource("six", &["2001:db8::/64"]);
        let offers = offers(state.path(), vec![orders.clone(), v6.clone()]);
        let offer = offers
            .offer(&orders, None, "10.20.0.7".parse().unwrap())
            .unwrap();
        for name in ["db.prod.internal", "ro.prod.internal", "10.20.0.7"] {
            let seen = shake(&offers, &offer, name).unwrap();
            assert_eq!(
                *offer.end_point,
                *digest::digest(&digest::SHA256, &seen).as_ref()
            );
        }
        assert!(shake(&offers, &offer, "10.20.0.8").is_err());
        let offer = offers
            .offer(&v6, None, "2001:db8::5".parse().unwrap())
            .unwrap();
        shake(&offers, &offer, "2001:db8::5").unwrap();
    }

    #[test]
    fn a_name_outside_the_configuration_is_neither_minted_nor_believed() {
        let state = tempfile::tempdir().unwrap();
        let orders = resource("orders", &["db.prod.internal"]);
        let offers = offers(state.path(), vec![orders.clone()]);
        let address = "10.0.0.1".parse().unwrap();
        let offer = offers
            .offer(&orders, Some("bank.example"), address)
            .unwrap();
        assert!(shake(&offers, &offer, "bank.example").is_err());
        assert!(shake(&offers, &offer, "10.0.0.1").is_err());
        shake(&offers, &offer, "db.prod.internal").unwrap();
        // Whoever holds the key cannot do more: the constraint is in the client's copy of the CA.
        let wider = config(vec![resource("bank", &["bank.example"])]);
        let thief = tempfile::tempdir().unwrap();
        for file in [KEY_FILE, CERTIFICATE_FILE] {
            std::fs::copy(state.path().join(file), thief.path().join(file)).unwrap();
        }
        let stolen = Authority::open(thief.path(), &Destinations::of(&wider)).unwrap();
        let stolen = Offers::new(Arc::new(stolen));
        let forged = stolen.offer(&wider.resources[0], None, address).unwrap();
        assert!(shake(&stolen, &forged, "bank.example").is_ok());
        assert!(shake(&offers, &forged, "bank.example").is_err());
    }

    #[test]
    fn offers_are_cached_by_what_they_name() {
        let state = tempfile::tempdir().unwrap();
        let orders = resource("orders", &["db.prod.internal", "10.20.0.0/24"]);
        let offers = offers(state.path(), vec![orders.clone()]);
        let offer = |address: &str| {
            offers
                .offer(&orders, None, address.parse().unwrap())
                .unwrap()
        };
        assert!(Arc::ptr_eq(
            &offer("10.20.0.1").config,
            &offer("10.20.0.1").config
        ));
        assert!(!Arc::ptr_eq(
            &offer("10.20.0.1").config,
            &offer("10.20.0.2").config
        ));
        assert!(Arc::ptr_eq(
            &offer("10.99.0.1").config,
            &offer("10.99.0.2").config
        ));
    }
}
