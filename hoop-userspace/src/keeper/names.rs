//! Names that agents' DNS answers gave for addresses lately. They label, never grant.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use lru::LruCache;

/// Addresses that are remembered.
const MAX_ADDRESSES: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();
/// Names that are remembered for one address, the latest first.
const MAX_NAMES: usize = 8;
/// How long a name is remembered after its answer, whatever the answer's own lifetime: clients
/// keep connections and addresses longer than they should.
const REMEMBERED: Duration = Duration::from_secs(3600);

pub struct Names {
    by_address: LruCache<IpAddr, VecDeque<(String, Instant)>>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            by_address: LruCache::new(MAX_ADDRESSES),
        }
    }
}

/// What is remembered, for the keeper that takes over: an address, and its names with their ages in
/// seconds, the latest first.
pub type Carried = Vec<(IpAddr, Vec<(String, u64)>)>;

impl Names {
    pub fn carry(&self, now: Instant) -> Carried {
        let addresses = self.by_address.iter().map(|(address, names)| {
            let names = names.iter();
            let names = names.map(|(name, at)| (name.clone(), now.duration_since(*at).as_secs()));
            (*address, names.collect())
        });
        addresses.collect()
    }

    pub fn take_over(carried: Carried, now: Instant) -> Self {
        let mut names = Self::default();
        // The one looked at last comes first, and is to be forgotten last.
        for (address, of_address) in carried.into_iter().rev() {
            for (name, age) in of_address.into_iter().rev() {
                if let Some(at) = now.checked_sub(Duration::from_secs(age)) {
                    names.note(&name, &[address], at);
                }
            }
        }
        names
    }

    pub fn note(&mut self, name: &str, addresses: &[IpAddr], now: Instant) {
        for address in addresses {
            let names = self
                .by_address
                .get_or_insert_mut(address.to_canonical(), VecDeque::new);
            names.retain(|(known, _)| known != name);
            names.push_front((name.to_owned(), now));
            names.truncate(MAX_NAMES);
        }
    }

    pub fn of(&mut self, address: IpAddr, now: Instant) -> Vec<String> {
        let Some(names) = self.by_address.get_mut(&address.to_canonical()) else {
            return Vec::new();
        };
        names.retain(|(_, at)| now.duration_since(*at) < REMEMBERED);
        names.iter().map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_name_comes_first_and_old_ones_go() {
        let mut names = Names::default();
        let address = IpAddr::from([192, 0, 2, 1]);
        let start = Instant::now();
        names.note("b.example", &[address], start);
        names.note("a.example", &[address], start + Duration::from_secs(1));
        names.note("b.example", &[address], start + REMEMBERED / 2);
        assert_eq!(
            names.of(address, start + REMEMBERED / 2),
            ["b.example", "a.example"]
        );
        assert_eq!(
            names.of(address, start + REMEMBERED + Duration::from_secs(2)),
            ["b.example"]
        );
        let carried = names.carry(start + REMEMBERED);
        let mut next = Names::take_over(carried, start + REMEMBERED);
        assert_eq!(next.of(address, start + REMEMBERED), ["b.example"]);
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(names.of(mapped, start + REMEMBERED), ["b.example"]);
    }
}
