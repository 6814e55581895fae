//! `[[resource]]` for each destination that speaks what hoop governs.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::super::line::{Line, clean};
use super::super::protocol::{KUBERNETES, POSTGRES, SSH};
use super::{Out, is_governed, quoted, seen, unique};

/// Fewer than a configuration may have.
const MOST: usize = 300;
const MOST_NOTES: usize = 10;
const MOST_HOSTS: usize = 500;

/// Servers that share a name, port and protocol are one resource.
struct Resource<'p> {
    name: String,
    protocol: &'static str,
    port: u16,
    hosts: Vec<String>,
    lines: Vec<&'p Line>,
}

pub(super) struct Resources<'p> {
    all: Vec<Resource<'p>>,
    by_destination: BTreeMap<SocketAddr, usize>,
    left_out: usize,
}

impl<'p> Resources<'p> {
    pub fn of(lines: &'p [Line]) -> Self {
        let mut found = Self {
            all: Vec::new(),
            by_destination: BTreeMap::new(),
            left_out: 0,
        };
        // A pair of host and port belongs to one resource: whoever comes first.
        let mut owners: BTreeMap<(String, u16), usize> = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for line in lines.iter().filter(|line| is_governed(line)) {
            let Some(protocol) = line.protocol else {
                continue;
            };
            let port = line.destination.port();
            if let Some(known) = found.by_destination.get(&line.destination) {
                let known = *known;
                if let Some(resource) = found.all.get_mut(known) {
                    resource.lines.push(line);
                }
                continue;
            }
            // Others are what that one is an alias of, and stand in the comment.
            let name = line.hosts().next();
            let shared = name.as_ref();
            let shared = shared.and_then(|name| owners.get(&(name.clone(), port)).copied());
            let same = shared.filter(|index| {
                found
                    .all
                    .get(*index)
                    .is_some_and(|known| known.protocol == protocol)
            });
            let index = match same {
                Some(index) => index,
                None if found.all.len() >= MOST => {
                    found.left_out += 1;
                    continue;
                }
                None => {
                    let called = name.clone();
                    let called =
                        called.unwrap_or_else(|| format!("{protocol}-{}", line.destination.ip()));
                    found.all.push(Resource {
                        name: unique(&called, &mut taken),
                        protocol,
                        port,
                        hosts: Vec::new(),
                        lines: Vec::new(),
                    });
                    found.all.len() - 1
                }
            };
            let address = line.destination.ip().to_string();
            for host in name.into_iter().chain([address]) {
                // Taken by an earlier one, this or another.
                let Entry::Vacant(free) = owners.entry((host.clone(), port)) else {
                    continue;
                };
                free.insert(index);
                if let Some(resource) = found.all.get_mut(index)
                    && resource.hosts.len() < MOST_HOSTS
                {
                    resource.hosts.push(host);
                }
            }
            if let Some(resource) = found.all.get_mut(index) {
                resource.lines.push(line);
            }
            found.by_destination.insert(line.destination, index);
        }
        found
    }

    pub fn name_of(&self, line: &Line) -> Option<&str> {
        let index = self.by_destination.get(&line.destination)?;
        Some(&self.all.get(*index)?.name)
    }

    pub fn write(&self, out: &mut Out) {
        for resource in &self.all {
            resource.write(out);
        }
        if self.left_out > 0 {
            out.line(&format!(
                "# {} more servers were seen, and are left out.",
                self.left_out
            ));
            out.blank();
        }
    }
}

impl Resource<'_> {
    fn write(&self, out: &mut Out) {
        for line in self.lines.iter().take(MOST_NOTES) {
            out.note(&format!(
                "Seen from {}: {}.",
                clean(&line.cgroup),
                seen(line)
            ));
        }
        let hosts: Vec<String> = self.hosts.iter().map(|host| quoted(host)).collect();
        let mut entry = vec![
            "[[resource]]".to_owned(),
            format!("name = {}", quoted(&self.name)),
            format!("protocol = {}", quoted(self.protocol)),
            format!("hosts = [{}]", hosts.join(", ")),
            format!("port = {}", self.port),
        ];
        // An agent's token, or trust in whatever key is shown, is for nobody who may be somebody else.
        let sure = self.protocol == POSTGRES || self.lines.iter().any(|line| line.is_sure());
        if !sure {
            out.note("Its port or the client's name alone speaks for what it is: uncomment what you know to be right.");
        }
        entry.extend(self.login().iter().map(|line| (*line).to_owned()));
        for line in entry {
            match sure || line.starts_with('#') {
                true => out.line(&line),
                false => out.note(&line),
            }
        }
        out.blank();
    }

    fn login(&self) -> &'static [&'static str] {
        match self.protocol {
            POSTGRES => &[
                "# Before an agent is more than watched: the account that hoop logs in with, and where its",
                "# password is kept. `ca` where the server's certificate is not of a public authority.",
                "login = { user = \"CHANGE-ME\" }",
                "# login = { user = \"hoop\", password = { credential = \"orders-password\" } }",
                "# ca = \"/etc/hoop/postgres-ca.pem\"",
            ],
            SSH => &[
                "# Which keys the server has is not seen by watching. This believes the first that it shows;",
                "# better, and before an agent is more than watched, name them:",
                "# known_hosts = \"/etc/ssh/ssh_known_hosts\"",
                "trust_on_first_use = true",
                "# hoop signs certificates for the account that the client asks for, once the server trusts it;",
                "# or it has a key: login = { user = \"deploy\", key = { credential = \"deploy-key\" } }",
                "login = { user = \"as-client\", certificate = \"minted\" }",
            ],
            KUBERNETES => &[
                "# The cluster's own authority, before an agent is more than watched:",
                "# ca = \"/etc/hoop/cluster-ca.pem\"",
                "# The agent's own token goes to the API server; or hoop has one, and impersonates:",
                "# login = { token = { file = \"/etc/hoop/cluster-token\" }, impersonate = {} }",
                "login = { as_agent = true }",
            ],
            _ => &[],
        }
    }
}
