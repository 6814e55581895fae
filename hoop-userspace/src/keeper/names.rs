//! Names that an agent's DNS answers gave for addresses lately. They label, never grant; and what one
//! cgroup was answered labels nobody else's connections.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use lru::LruCache;

/// Addresses that are remembered, of all cgroups together.
const MAX_ADDRESSES: usize = match cfg!(test) {
    true => 64,
    false => 16_384,
};
/// Names that are remembered for one address, the latest first.
const MAX_NAMES: usize = 8;
/// How long a name is remembered after its answer, whatever the answer's own lifetime: clients
/// keep connections and addresses longer than they should.
const REMEMBERED: Duration = Duration::from_secs(3600);

type Addresses = LruCache<IpAddr, VecDeque<(String, Instant)>>;

#[derive(Default)]
pub struct Names {
    by_cgroup: HashMap<u64, Addresses>,
    /// Addresses of all cgroups together.
    count: usize,
}

/// What is remembered, for the keeper that takes over: a cgroup's id, an address, and its names with
/// their ages in seconds, the latest first.
pub type Carried = Vec<(u64, IpAddr, Vec<(String, u64)>)>;

impl Names {
    pub fn carry(&self, now: Instant) -> Carried {
        let mut carried = Vec::with_capacity(self.count);
        for (cgroup, addresses) in &self.by_cgroup {
            for (address, names) in addresses {
                let age = |at: &Instant| now.duration_since(*at).as_secs();
                let names = names.iter().map(|(name, at)| (name.clone(), age(at)));
                carried.push((*cgroup, *address, names.collect()));
            }
        }
        carried
    }

    pub fn take_over(carried: Carried, now: Instant) -> Self {
        let mut names = Self::default();
        // The one looked at last comes first, and is to be forgotten last.
        for (cgroup, address, of_address) in carried.into_iter().rev() {
            for (name, age) in of_address.into_iter().rev() {
                if let Some(at) = now.checked_sub(Duration::from_secs(age)) {
                    names.note(cgroup, &name, &[address], at);
                }
            }
        }
        names
    }

    /// An answer that a socket of the cgroup received, as it has the names: that which was asked for
    /// first, which is to come first here too, and then what it is an alias of.
    pub fn answered(&mut self, cgroup: u64, names: &[String], addresses: &[IpAddr], now: Instant) {
        for name in names.iter().rev() {
            self.note(cgroup, name, addresses, now);
        }
    }

    fn note(&mut self, cgroup: u64, name: &str, addresses: &[IpAddr], now: Instant) {
        for address in addresses {
            let of_cgroup = self
                .by_cgroup
                .entry(cgroup)
                .or_insert_with(LruCache::unbounded);
            let before = of_cgroup.len();
            let names = of_cgroup.get_or_insert_mut(address.to_canonical(), VecDeque::new);
            names.retain(|(known, _)| known != name);
            names.push_front((name.to_owned(), now));
            names.truncate(MAX_NAMES);
            self.count += of_cgroup.len() - before;
            if self.count > MAX_ADDRESSES {
                self.forget_one();
            }
        }
    }

    /// What the cgroup was answered for the address.
    pub fn of(&mut self, cgroup: u64, address: IpAddr, now: Instant) -> Vec<String> {
        let of_cgroup = self.by_cgroup.get_mut(&cgroup);
        let Some(names) = of_cgroup.and_then(|all| all.get_mut(&address.to_canonical())) else {
            return Vec::new();
        };
        names.retain(|(_, at)| now.duration_since(*at) < REMEMBERED);
        names.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Of whoever has most: one that asks for a great many names loses its own.
    fn forget_one(&mut self) {
        let most = self.by_cgroup.iter_mut().max_by_key(|(_, all)| all.len());
        if let Some((_, addresses)) = most
            && addresses.pop_lru().is_some()
        {
            self.count -= 1;
        }
        // Cgroups come and go.
        self.by_cgroup.retain(|_, addresses| !addresses.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CGROUP: u64 = 7;

    #[test]
    fn the_latest_name_comes_first_and_old_ones_go() {
        let mut names = Names::default();
        let address = IpAddr::from([192, 0, 2, 1]);
        let start = Instant::now();
        names.note(CGROUP, "b.example", &[address], start);
        let next = start + Duration::from_secs(1);
        names.note(CGROUP, "a.example", &[address], next);
        names.note(CGROUP, "b.example", &[address], start + REMEMBERED / 2);
        assert_eq!(
            names.of(CGROUP, address, start + REMEMBERED / 2),
            ["b.example", "a.example"]
        );
        assert_eq!(
            names.of(CGROUP, address, start + REMEMBERED + Duration::from_secs(2)),
            ["b.example"]
        );
        let carried = names.carry(start + REMEMBERED);
        let mut next = Names::take_over(carried, start + REMEMBERED);
        assert_eq!(next.of(CGROUP, address, start + REMEMBERED), ["b.example"]);
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(names.of(CGROUP, mapped, start + REMEMBERED), ["b.example"]);
    }

    #[test]
    fn the_name_that_was_asked_for_comes_before_what_it_is_an_alias_of() {
        let mut names = Names::default();
        let (address, now) = (IpAddr::from([192, 0, 2, 1]), Instant::now());
        let answer = ["db.example".to_owned(), "x7.cloud.example".to_owned()];
        names.answered(CGROUP, &answer, &[address], now);
        assert_eq!(names.of(CGROUP, address, now), answer);
    }

    #[test]
    fn nobody_names_or_displaces_what_another_was_answered() {
        let mut names = Names::default();
        let (address, now) = (IpAddr::from([192, 0, 2, 1]), Instant::now());
        names.note(CGROUP, "db.example", &[address], now);
        for last in 0..=u8::try_from(2 * MAX_ADDRESSES).unwrap() {
            names.note(8, "evil.example", &[IpAddr::from([192, 0, 2, last])], now);
        }
        assert_eq!(names.count, MAX_ADDRESSES);
        assert_eq!(names.of(CGROUP, address, now), ["db.example"]);
        assert_eq!(names.of(9, address, now), Vec::<String>::new());
        // The latest of the one that asks for many are still there.
        let last = IpAddr::from([192, 0, 2, 128]);
        assert_eq!(names.of(8, last, now), ["evil.example"]);
    }
}
