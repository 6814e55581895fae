//! How often one address may ask: a bucket of requests, and a smaller one of sign-ins.
//!
//! Behind a reverse proxy everybody shares the proxy's address; it should limit by itself there.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::routes::SignIn;

/// Addresses that are remembered. Past it, full buckets are forgotten, which loses nothing.
const MAX_ADDRESSES: usize = 10_000;

/// How many at once, and how many a second over time.
#[derive(Clone, Copy)]
struct Rate {
    burst: f64,
    a_second: f64,
}

const REQUESTS: Rate = Rate {
    burst: 200.0,
    a_second: 40.0,
};
const SIGN_INS: Rate = Rate {
    burst: 20.0,
    a_second: 0.2,
};

/// Each has a bucket of its own: whoever guesses codes keeps nobody from the issuer.
#[derive(Default)]
pub struct Guard {
    requests: Buckets,
    codes: Buckets,
    leaving: Buckets,
    returning: Buckets,
}

type Buckets = Mutex<HashMap<IpAddr, (f64, Instant)>>;

impl Guard {
    pub fn may_ask(&self, peer: IpAddr) -> bool {
        take(&self.requests, peer, REQUESTS, Instant::now())
    }

    /// Whoever guesses codes or states guesses slowly.
    pub fn may_sign_in(&self, peer: IpAddr, step: SignIn) -> bool {
        let buckets = match step {
            SignIn::Redeem => &self.codes,
            SignIn::Leave => &self.leaving,
            SignIn::Return => &self.returning,
            SignIn::Choose | SignIn::Code | SignIn::Out => return true,
        };
        take(buckets, peer, SIGN_INS, Instant::now())
    }
}

/// Whom an address stands for: of IPv6, everybody has a /64 to choose from.
pub fn neighbour(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// How many of something go on at once, by whose they are.
pub struct Places<K: Eq + Hash>(Arc<Mutex<HashMap<K, u32>>>);

/// Given back when it is dropped.
pub struct Place<K: Eq + Hash> {
    held: Arc<Mutex<HashMap<K, u32>>>,
    whose: K,
}

impl<K: Eq + Hash> Default for Places<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Eq + Hash + Clone> Places<K> {
    /// One more, unless there are that many.
    pub fn take(&self, whose: K, most: u32) -> Option<Place<K>> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(whose.clone()).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(held);
        Some(Place {
            held: self.0.clone(),
            whose,
        })
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.whose) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                held.remove(&self.whose);
            }
        }
    }
}

fn take(buckets: &Buckets, peer: IpAddr, rate: Rate, now: Instant) -> bool {
    let peer = neighbour(peer);
    let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
    let filled = |(left, since): (f64, Instant)| {
        let more = now.duration_since(since).as_secs_f64() * rate.a_second;
        (left + more).min(rate.burst)
    };
    if buckets.len() >= MAX_ADDRESSES {
        buckets.retain(|_, bucket| filled(*bucket) < rate.burst);
        if buckets.len() >= MAX_ADDRESSES && !buckets.contains_key(&peer) {
            return false;
        }
    }
    let left = filled(buckets.get(&peer).copied().unwrap_or((rate.burst, now)));
    let may = left >= 1.0;
    buckets.insert(peer, (if may { left - 1.0 } else { left }, now));
    may
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let buckets = Buckets::default();
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let start = Instant::now();
        for _ in 0..20 {
            assert!(take(&buckets, one, SIGN_INS, start));
        }
        assert!(!take(&buckets, one, SIGN_INS, start));
        assert!(take(&buckets, other, SIGN_INS, start));
        let later = start + Duration::from_secs(5);
        assert!(take(&buckets, one, SIGN_INS, later));
        assert!(!take(&buckets, one, SIGN_INS, later));
    }

    #[test]
    fn a_network_is_one_neighbour_and_each_way_in_has_its_own_bucket() {
        let guard = Guard::default();
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        for n in 0..20 {
            let peer = at(&format!("2001:db8::{n:x}"));
            assert!(guard.may_sign_in(peer, SignIn::Redeem));
        }
        assert!(!guard.may_sign_in(at("2001:db8::ffff"), SignIn::Redeem));
        assert!(guard.may_sign_in(at("2001:db8:0:1::1"), SignIn::Redeem));
        assert!(guard.may_sign_in(at("2001:db8::1"), SignIn::Leave));
        assert!(guard.may_sign_in(at("2001:db8::1"), SignIn::Return));
        assert_eq!(neighbour(at("::ffff:10.0.0.1")), at("10.0.0.1"));
    }

    #[test]
    fn a_place_is_given_back() {
        let places: Places<u8> = Places::default();
        let first = places.take(1, 2).unwrap();
        let second = places.take(1, 2).unwrap();
        assert!(places.take(1, 2).is_none());
        assert!(places.take(2, 2).is_some());
        drop(first);
        assert!(places.take(1, 2).is_some());
        drop(second);
        assert!(places.0.lock().unwrap().is_empty());
    }

    #[test]
    fn many_addresses_cost_bounded_memory() {
        let buckets = Buckets::default();
        let start = Instant::now();
        for n in 0..MAX_ADDRESSES as u32 + 5 {
            take(&buckets, IpAddr::from(n.to_be_bytes()), REQUESTS, start);
        }
        assert!(buckets.lock().unwrap().len() <= MAX_ADDRESSES);
        let later = start + Duration::from_secs(60);
        assert!(take(
            &buckets,
            IpAddr::from([255, 0, 0, 1]),
            REQUESTS,
            later
        ));
    }
}
