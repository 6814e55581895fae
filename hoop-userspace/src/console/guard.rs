//! How often one address may ask: a bucket of requests, and a smaller one of sign-ins.
//!
//! Behind a reverse proxy everybody shares the proxy's address; it should limit by itself there.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

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

#[derive(Default)]
pub struct Guard {
    requests: Buckets,
    sign_ins: Buckets,
}

type Buckets = Mutex<HashMap<IpAddr, (f64, Instant)>>;

impl Guard {
    pub fn may_ask(&self, peer: IpAddr) -> bool {
        take(&self.requests, peer, REQUESTS, Instant::now())
    }

    /// Whoever guesses codes or states guesses slowly.
    pub fn may_sign_in(&self, peer: IpAddr) -> bool {
        take(&self.sign_ins, peer, SIGN_INS, Instant::now())
    }
}

fn take(buckets: &Buckets, peer: IpAddr, rate: Rate, now: Instant) -> bool {
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
