//! hoop's own resolution of every configured name.
//!
//! An agent can make any name resolve to anything, for itself. What a destination *is* therefore
//! rests on what hoop resolved. Rotating DNS must not cause refusals, so addresses are kept for a
//! while after they were last seen, and an address that is not known causes one fresh look.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::task::JoinSet;

use crate::config::{Config, Egress, Host};
use crate::wire::tls::host_name;

/// How often configured names are looked up again.
pub const REFRESH: Duration = Duration::from_secs(30);

/// How long an address counts after it was last seen in an answer. Longer than the usual life of a
/// DNS record (5 minutes), and short enough that an address somebody else got is soon not ours.
pub const GRACE: Duration = Duration::from_secs(600);

/// A destination that is not known causes a fresh look, but not more often than this.
const MISS_INTERVAL: Duration = Duration::from_secs(1);

/// Longer than this no look-up is waited for.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Each look-up takes a thread of the blocking pool.
const CONCURRENT_LOOKUPS: usize = 16;

/// Addresses kept for one name; the longest unseen goes first.
const MAX_ADDRESSES: usize = 256;

/// Names asked for by `*.` rules, which clients choose.
const MAX_OTHER_NAMES: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

type Answer = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
type Lookup = Box<dyn Fn(String) -> Answer + Send + Sync>;

/// Cheap to clone; all clones share what was resolved.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    lookup: Lookup,
    known: Mutex<Known>,
    /// Held during a refresh; holds when the last one ended.
    refreshing: AsyncMutex<Option<Instant>>,
    lookups: Semaphore,
}

struct Known {
    /// Configured names, in lower case.
    names: HashMap<String, Addresses>,
    /// Names that clients asked for by a wildcard rule.
    others: LruCache<String, (Instant, Addresses)>,
    /// Look-ups that have not come back, so that a resolver that hangs costs one thread a name.
    pending: HashSet<String>,
}

#[derive(Clone, Default)]
struct Addresses(Vec<Seen>);

#[derive(Clone, Copy)]
struct Seen {
    address: IpAddr,
    last: Instant,
}

impl Resolver {
    /// Resolves the names of this configuration with the system's resolver. Nothing is known until
    /// [`Resolver::refresh`] has run.
    pub fn new(config: &Config) -> Self {
        Self::with_lookup(config, |name| {
            Box::pin(async move {
                let found = tokio::net::lookup_host((name, 0)).await?;
                Ok(found.map(|a| a.ip().to_canonical()).collect())
            })
        })
    }

    fn with_lookup(
        config: &Config,
        lookup: impl Fn(String) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let resolver = Self(Arc::new(Inner {
            lookup: Box::new(lookup),
            known: Mutex::new(Known {
                names: HashMap::new(),
                others: LruCache::new(MAX_OTHER_NAMES),
                pending: HashSet::new(),
            }),
            refreshing: AsyncMutex::new(None),
            lookups: Semaphore::new(CONCURRENT_LOOKUPS),
        }));
        resolver.set_config(config);
        resolver
    }

    /// A reload: names that went are forgotten, new ones are unknown until the next refresh.
    pub fn set_config(&self, config: &Config) {
        let wanted = configured_names(config);
        let mut known = self.known();
        known.names.retain(|name, _| wanted.contains(name));
        for name in wanted {
            known.names.entry(name).or_default();
        }
    }

    /// Refreshes for ever; run it as a task that the worker's drain ends.
    pub async fn keep_fresh(self) {
        loop {
            self.refresh().await;
            tokio::time::sleep(REFRESH).await;
        }
    }

    /// Looks up every configured name. Several callers at once share one refresh.
    pub async fn refresh(&self) {
        self.refresh_unless_after(Instant::now()).await;
    }

    /// A destination was not known: looks again, unless that was done a moment ago. Says whether
    /// anything was looked up since the caller asked.
    pub async fn refresh_on_miss(&self) -> bool {
        let now = Instant::now();
        self.refresh_unless_after(now.checked_sub(MISS_INTERVAL).unwrap_or(now))
            .await
    }

    async fn refresh_unless_after(&self, since: Instant) -> bool {
        let asked = Instant::now();
        let mut last = self.0.refreshing.lock().await;
        if let Some(ended) = *last
            && ended > since
        {
            return ended > asked;
        }
        let names: Vec<String> = self.known().names.keys().cloned().collect();
        let mut lookups = JoinSet::new();
        for name in names {
            let resolver = self.clone();
            lookups.spawn(async move {
                match resolver.look_up(&name).await {
                    Ok(found) => resolver.learn(&name, &found, Instant::now()),
                    // What was known stays known for its grace time.
                    Err(error) => tracing::warn!(name, %error, "a configured name did not resolve"),
                }
            });
        }
        lookups.join_all().await;
        *last = Some(Instant::now());
        true
    }

    /// Every address that a configured name has or lately had, the newest answers first.
    pub fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let Some(name) = host_name(name) else {
            return Vec::new();
        };
        self.known()
            .names
            .get(&name)
            .map(|a| a.live(Instant::now()))
            .unwrap_or_default()
    }

    pub fn knows(&self, name: &str, address: IpAddr) -> bool {
        self.addresses(name).contains(&address.to_canonical())
    }

    /// Resolves any name that the configuration allows, for a connection that is about to be made.
    pub async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let name = host_name(name)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a host name"))?;
        let known = self.addresses(&name);
        if !known.is_empty() {
            return Ok(known);
        }
        let now = Instant::now();
        if let Some((at, addresses)) = self.known().others.get(&name)
            && now.duration_since(*at) < REFRESH
        {
            return Ok(addresses.live(now));
        }
        self.resolve_again(&name).await
    }

    /// Looks a name up now, whatever is known of it. For a client that goes to an address that is
    /// not known as the name's: its resolver may have answered a moment later than ours.
    pub async fn resolve_again(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let name = host_name(name)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a host name"))?;
        let found = self.look_up(&name).await?;
        let mut addresses = Addresses::default();
        addresses.learn(&found, Instant::now());
        let mut known = self.known();
        if known.names.contains_key(&name) {
            drop(known);
            self.learn(&name, &found, Instant::now());
        } else {
            known.others.put(name, (Instant::now(), addresses));
        }
        Ok(found)
    }

    async fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let _permit = self.0.lookups.acquire().await.map_err(io::Error::other)?;
        if !self.known().pending.insert(name.into()) {
            return Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                "the last look-up still runs",
            ));
        }
        let resolver = self.clone();
        let owned = name.to_string();
        // A task of its own: a look-up that outlives the wait still clears its mark.
        let answer = tokio::spawn(async move {
            let answer = (resolver.0.lookup)(owned.clone()).await;
            resolver.known().pending.remove(&owned);
            answer
        });
        match tokio::time::timeout(LOOKUP_TIMEOUT, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(failed)) => Err(io::Error::other(failed)),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn learn(&self, name: &str, found: &[IpAddr], now: Instant) {
        if let Some(addresses) = self.known().names.get_mut(name) {
            addresses.learn(found, now);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Addresses {
    fn learn(&mut self, found: &[IpAddr], now: Instant) {
        self.0
            .retain(|s| now.duration_since(s.last) < GRACE && !found.contains(&s.address));
        let fresh = found.iter().map(|a| Seen {
            address: a.to_canonical(),
            last: now,
        });
        self.0.splice(0..0, fresh);
        self.0.truncate(MAX_ADDRESSES);
    }

    fn live(&self, now: Instant) -> Vec<IpAddr> {
        let live = self
            .0
            .iter()
            .filter(|s| now.saturating_duration_since(s.last) < GRACE);
        live.map(|s| s.address).collect()
    }
}

/// Host names of resources, and egress names without a wildcard.
fn configured_names(config: &Config) -> HashSet<String> {
    let hosts = config
        .resources
        .iter()
        .flat_map(|r| &r.hosts)
        .filter_map(|host| match host {
            Host::Name(name) => Some(name),
            Host::Net(_) => None,
        });
    let egress = config
        .agents
        .iter()
        .flat_map(|a| &a.egress)
        .filter_map(|rule| match rule {
            Egress::Name { name, .. } => Some(name),
            Egress::Net { .. } => None,
        });
    // A name with a wildcard is no host name, and stays out.
    hosts
        .chain(egress)
        .filter_map(|name| host_name(name))
        .collect()
}

/// Joins addresses and a port.
pub fn with_port(addresses: &[IpAddr], port: u16) -> Vec<SocketAddr> {
    addresses
        .iter()
        .map(|a| SocketAddr::new(*a, port))
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::config::Egress;
    use crate::forward::fixture::{agent, config, resource};

    pub type Table = Arc<Mutex<HashMap<String, Vec<IpAddr>>>>;

    /// A resolver over a table that the test may change.
    pub fn over(
        config: &Config,
        table: &[(&'static str, &str)],
    ) -> (Resolver, Table, Arc<AtomicUsize>) {
        let mut answers: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for (name, address) in table {
            answers
                .entry((*name).into())
                .or_default()
                .push(address.parse().unwrap());
        }
        let answers = Arc::new(Mutex::new(answers));
        let asked = Arc::new(AtomicUsize::new(0));
        let (table, count) = (answers.clone(), asked.clone());
        let resolver = Resolver::with_lookup(config, move |name| {
            count.fetch_add(1, Ordering::Relaxed);
            let answer = table.lock().unwrap().get(&name).cloned();
            Box::pin(async move { answer.ok_or_else(|| io::ErrorKind::NotFound.into()) })
        });
        (resolver, answers, asked)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn an_address_counts_for_its_grace_time_after_it_was_last_seen() {
        let mut addresses = Addresses::default();
        let start = Instant::now();
        addresses.learn(&[ip("10.0.0.1")], start);
        addresses.learn(&[ip("10.0.0.2")], start + GRACE / 2);
        assert_eq!(
            addresses.live(start + GRACE / 2),
            [ip("10.0.0.2"), ip("10.0.0.1")]
        );
        assert_eq!(addresses.live(start + GRACE), [ip("10.0.0.2")]);
        addresses.learn(&[ip("10.0.0.2"), ip("::ffff:10.0.0.3")], start + GRACE);
        assert_eq!(
            addresses.live(start + GRACE),
            [ip("10.0.0.2"), ip("10.0.0.3")]
        );
        assert!(addresses.live(start + 3 * GRACE).is_empty());
    }

    #[tokio::test]
    async fn a_failed_look_up_forgets_nothing_and_a_reload_forgets_what_went() {
        let first = config(vec![resource(
            "orders",
            &["DB.prod.internal.", "10.0.0.0/8"],
        )]);
        let (resolver, answers, _) = over(&first, &[("db.prod.internal", "10.1.0.1")]);
        assert!(resolver.addresses("db.prod.internal").is_empty());
        resolver.refresh().await;
        answers.lock().unwrap().clear();
        resolver.refresh().await;
        assert!(resolver.knows("db.prod.internal", ip("::ffff:10.1.0.1")));
        resolver.set_config(&config(vec![resource("orders", &["other.internal"])]));
        assert!(!resolver.knows("db.prod.internal", ip("10.1.0.1")));
    }

    #[tokio::test]
    async fn many_misses_share_one_look_up() {
        let config = config(vec![resource("orders", &["db.prod.internal"])]);
        let (resolver, _, asked) = over(&config, &[("db.prod.internal", "10.1.0.1")]);
        let mut misses = JoinSet::new();
        for _ in 0..50 {
            let resolver = resolver.clone();
            misses.spawn(async move { resolver.refresh_on_miss().await });
        }
        assert!(misses.join_all().await.contains(&true));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert!(!resolver.refresh_on_miss().await, "that was a moment ago");
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn names_of_wildcard_rules_are_resolved_when_asked_and_remembered() {
        let mut config = config(Vec::new());
        let rule = |name: &str| Egress::Name {
            name: name.into(),
            port: 443,
        };
        config.agents = vec![agent(vec![rule("*.llm.example"), rule("api.example")])];
        let table = [("a.llm.example", "192.0.2.1"), ("api.example", "192.0.2.2")];
        let (resolver, _, asked) = over(&config, &table);
        resolver.refresh().await;
        assert_eq!(asked.load(Ordering::Relaxed), 1, "the wildcard is no name");
        for _ in 0..3 {
            assert_eq!(
                resolver.resolve("A.llm.example").await.unwrap(),
                [ip("192.0.2.1")]
            );
            assert_eq!(
                resolver.resolve("api.example").await.unwrap(),
                [ip("192.0.2.2")]
            );
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        assert!(resolver.resolve("no name").await.is_err());
    }
}
