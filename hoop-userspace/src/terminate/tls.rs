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
