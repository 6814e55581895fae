//! Which names a destination has, the surest first: the hosts file, names that the daemon saw in
//! answers of resolvers, and what resolvers say of the address.
//!
//! The last are whatever the address's owner writes: they label, and never become a rule.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::capture::names::{pointer, question};
use crate::config::{host_name, host_resolvers};
use crate::keeper::seen::Row;

const HOSTS: &str = "/etc/hosts";
const RESOLV: &str = "/etc/resolv.conf";
const MOST_HOSTS: usize = 1 << 20;
/// For all addresses together.
const PATIENCE: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_secs(1);
const MOST_ASKED: usize = 512;
const MOST_RESOLVERS: usize = 2;
const MOST_NAMES: usize = 8;
const LONGEST_ANSWER: usize = 4096;

/// What is known of addresses.
#[derive(Debug, Default)]
pub struct Names {
    /// By the host's own files, for everybody.
    known: HashMap<IpAddr, Vec<String>>,
    /// By answers that this cgroup was given: what one was told labels no other's destinations.
    answered: HashMap<String, HashMap<IpAddr, Vec<String>>>,
    reverse: HashMap<IpAddr, String>,
}

impl Names {
    /// Of the hosts file, and of what the daemon saw.
    pub fn known(daemon: &[Row]) -> Self {
        let text = std::fs::read(HOSTS).unwrap_or_default();
        let text = text.get(..MOST_HOSTS).unwrap_or(&text);
        Self::read(&String::from_utf8_lossy(text), daemon)
    }

    fn read(hosts: &str, daemon: &[Row]) -> Self {
        let mut names = Self::default();
        for line in hosts.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else {
                continue;
            };
            words.for_each(|name| know(&mut names.known, address, name));
        }
        for row in daemon {
            let address = row.key.destination.ip();
            let answered = names.answered.entry(row.key.cgroup.clone()).or_default();
            row.names
                .iter()
                .for_each(|name| know(answered, address, name));
        }
        names
    }

    /// Asks the host's resolvers for the names of those addresses of which a cgroup knows none, for three
    /// seconds in all.
    pub fn ask<'t>(&mut self, destinations: impl Iterator<Item = (&'t str, SocketAddr)>) {
        let addresses: BTreeSet<IpAddr> = destinations
            .map(|(cgroup, destination)| (cgroup, destination.ip()))
            .filter(|(cgroup, ip)| !ip.is_loopback() && self.of(cgroup, *ip).next().is_none())
            .map(|(_, ip)| ip)
            .collect();
        let resolvers: Vec<SocketAddr> = host_resolvers(Path::new(RESOLV))
            .into_iter()
            .take(MOST_RESOLVERS)
            .map(|ip| SocketAddr::new(ip, 53))
            .collect();
        let addresses: Vec<IpAddr> = addresses.into_iter().take(MOST_ASKED).collect();
        self.reverse
            .extend(reverse(&addresses, &resolvers, PATIENCE));
    }

    /// What the cgroup may have called the address.
    pub fn of_address(&self, cgroup: &str, ip: IpAddr) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for name in self.of(cgroup, ip) {
            if names.len() < MOST_NAMES && !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    fn of(&self, cgroup: &str, ip: IpAddr) -> impl Iterator<Item = &String> {
        let ip = ip.to_canonical();
        let answered = self.answered.get(cgroup).and_then(|all| all.get(&ip));
        self.known.get(&ip).into_iter().chain(answered).flatten()
    }

    pub fn reverse_of(&self, ip: IpAddr) -> Option<String> {
        self.reverse.get(&ip).cloned()
    }
}

fn know(names: &mut HashMap<IpAddr, Vec<String>>, address: IpAddr, name: &str) {
    let Some(name) = host_name(name) else {
        return;
    };
    let known = names.entry(address.to_canonical()).or_default();
    if known.len() < MOST_NAMES && !known.contains(&name) {
        known.push(name);
    }
}

/// Every question goes to the first resolver, and after a second without an answer to the next.
fn reverse(
    addresses: &[IpAddr],
    resolvers: &[SocketAddr],
    patience: Duration,
) -> HashMap<IpAddr, String> {
    let mut found = HashMap::new();
    let until = Instant::now() + patience;
    let mut waiting: HashMap<u16, (IpAddr, Vec<u8>)> = addresses
        .iter()
        .zip(1_u16..)
        .map(|(address, id)| (id, (*address, question(id, *address))))
        .collect();
    for (turn, resolver) in resolvers.iter().enumerate() {
        if waiting.is_empty() {
            break;
        }
        let last = turn + 1 == resolvers.len();
        let end = if last {
            until
        } else {
            until.min(Instant::now() + AGAIN)
        };
        // Connected, so that nobody else's answer is taken.
        let any = if resolver.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let Ok(socket) = UdpSocket::bind(any).and_then(|socket| {
            socket.connect(resolver)?;
            Ok(socket)
        }) else {
            continue;
        };
        for (_, asked) in waiting.values() {
            let _ = socket.send(asked);
        }
        let mut buffer = [0; LONGEST_ANSWER];
        while !waiting.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || socket.set_read_timeout(Some(left)).is_err() {
                break;
            }
            let Ok(length) = socket.recv(&mut buffer) else {
                break; // the time is over, or nobody is there
            };
            let answer = buffer.get(..length).unwrap_or_default();
            let Some(id) = answer.first_chunk().map(|id| u16::from_be_bytes(*id)) else {
                continue;
            };
            let named = waiting
                .get(&id)
                .and_then(|(_, asked)| pointer(answer, asked));
            if let Some((id, name)) = named {
                let address = waiting.remove(&id).map(|(address, _)| address);
                let name = name.as_deref().and_then(host_name);
                found.extend(address.zip(name));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_file_gives_names_and_nothing_else() {
        let hosts = "# 10.0.0.1 no\n10.0.0.1 DB.prod.internal db # b\nx y\n::ffff:10.0.0.2 c\n10.0.0.3 a\"b\n";
        let names = Names::read(hosts, &[]);
        let of = |ip: &str| names.of_address("x", ip.parse().unwrap());
        assert_eq!(of("10.0.0.1"), ["db.prod.internal", "db"]);
        assert_eq!(of("10.0.0.2"), ["c"]);
        assert!(of("10.0.0.3").is_empty());
    }

    #[test]
    fn what_one_cgroup_was_answered_names_nothing_of_anothers() {
        let row: Row = serde_json::from_value(serde_json::json!({
            "verdict": "passed", "agent": null, "cgroup": "a.slice/evil.service",
            "executable": "/x", "destination": "192.0.2.1:443", "how": "tcp", "why": null,
            "names": ["good.example"], "count": 1,
            "first": "2026-11-27T10:00:00Z", "last": "2026-11-27T10:00:00Z",
        }))
        .unwrap();
        let names = Names::read("192.0.2.1 own\n", &[row]);
        let of = |cgroup| names.of_address(cgroup, "192.0.2.1".parse().unwrap());
        assert_eq!(of("a.slice/evil.service"), ["own", "good.example"]);
        assert_eq!(of("a.slice/bot.service"), ["own"]);
    }

    #[test]
    fn a_resolver_is_asked_and_silence_is_waited_for_in_bounds() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let resolver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addresses = [silent.local_addr().unwrap(), resolver.local_addr().unwrap()];
        let answers = std::thread::spawn(move || {
            for _ in 0..2 {
                let mut buffer = [0; 512];
                let (length, peer) = resolver.recv_from(&mut buffer).unwrap();
                let mut answer = buffer[..length].to_vec();
                answer[2] |= 0x80;
                answer[7] = 1;
                answer.extend(b"\xc0\x0c\x00\x0c\x00\x01\x00\x00\x00\x3c\x00\x05\x02db\x01x\x00");
                answer[length + 11] = 6;
                resolver.send_to(&answer, peer).unwrap();
            }
        });
        let wanted = ["192.0.2.1", "2001:db8::7"].map(|ip| ip.parse().unwrap());
        let found = reverse(&wanted, &addresses, Duration::from_secs(5));
        answers.join().unwrap();
        assert_eq!(found.len(), 2);
        assert!(found.values().all(|name| name == "db.x"));
        let began = Instant::now();
        assert!(reverse(&wanted, &addresses[..1], Duration::from_millis(50)).is_empty());
        assert!(began.elapsed() < Duration::from_secs(2));
    }
}
