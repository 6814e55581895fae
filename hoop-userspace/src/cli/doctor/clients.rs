//! Which client of which agent would take hoop for the server, and which would not.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};

use super::finding::{Check, Finding};
use super::host::Host;
use super::processes::Process;
use crate::cli::trust::Ours;
use crate::cli::{trust_kube, trust_ssh};
use crate::config::{Agent, Config, ProtocolKind, Resource};
use crate::terminate::authority::CERTIFICATE_FILE;
use crate::terminate::ssh::keys::HOST_AUTHORITY;

const TRUST: Check = Check::new(
    "trust",
    "hoop shows a certificate of its own: a client that verifies and does not know hoop's authority does not connect",
);
const MAX_FILE: u64 = 8 << 20;
const SYSTEM_BUNDLES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];
const SYSTEM_KNOWN: &str = "/etc/ssh/ssh_known_hosts";
const SYSTEM_MEND: &str =
    "hoop trust show >/usr/local/share/ca-certificates/hoop.crt && update-ca-certificates";

/// Of one client: what it would do.
#[derive(Debug, PartialEq, Eq)]
enum Trusts {
    Yes(String),
    /// Why not, and the command.
    No(String, String),
    Unknown(String),
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
        Trusts::No(why, mend) => TRUST.warn(why, mend),
        Trusts::Unknown(why) => TRUST.unknown(why, "sudo hoop doctor, while the agent runs"),
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
        return vec![("every client", Trusts::Unknown(why))];
    }
    let homes = homes(&processes);
    match resource.protocol {
        ProtocolKind::Ssh => vec![("ssh", ssh(config, resource, &homes))],
        ProtocolKind::Postgres | ProtocolKind::Kubernetes => {
            let path = config.worker.state.join(CERTIFICATE_FILE);
            let ours = match read(&path).as_deref().map(Ours::of) {
                Some(Ok(ours)) => ours,
                _ => {
                    let why = format!("hoop's authority cannot be read from {}", path.display());
                    return vec![("every client", Trusts::Unknown(why))];
                }
            };
            if resource.protocol == ProtocolKind::Kubernetes {
                let known = kubeconfig(&ours, resource, &processes, &homes);
                return vec![("kubectl, helm, client libraries", known)];
            }
            vec![
                ("libpq", libpq(&ours, &processes, &homes)),
                ("the system's list (Go, Rust, curl)", system(&ours)),
                ("Node.js", node(&ours, &processes)),
            ]
        }
    }
}

fn homes(processes: &[&Process]) -> Vec<PathBuf> {
    let uids: BTreeSet<u32> = processes.iter().map(|p| p.uids[1]).collect();
    let home = |uid: u32| Some(User::from_uid(Uid::from_raw(uid)).ok()??.dir);
    uids.into_iter().filter_map(home).collect()
}

/// psql, psycopg and all that is libpq: `PGSSLROOTCERT`, or a file in the home.
fn libpq(ours: &Ours, processes: &[&Process], homes: &[PathBuf]) -> Trusts {
    let named: BTreeSet<String> = processes
        .iter()
        .filter_map(|process| process.variable("PGSSLROOTCERT"))
        .collect();
    let mut files: Vec<PathBuf> = named.into_iter().map(PathBuf::from).collect();
    if files.is_empty() {
        files = homes
            .iter()
            .map(|home| home.join(".postgresql/root.crt"))
            .collect();
    }
    if files.is_empty() {
        return Trusts::Unknown("no process of the agent runs, so its home is not known".into());
    }
    for file in &files {
        if file == Path::new("system") {
            return system(ours);
        }
        let shown = file.display();
        match read(file) {
            Some(text) if ours.stand_in(&text) => {}
            Some(_) => {
                return Trusts::No(
                    format!("{shown} does not have hoop's authority"),
                    mend_libpq(file),
                );
            }
            None if file.exists() => return Trusts::Unknown(format!("{shown} cannot be read")),
            None => {
                return Trusts::No(
                    format!(
                        "there is no {shown}: it connects as long as it verifies nothing (sslmode below verify-ca)"
                    ),
                    mend_libpq(file),
                );
            }
        }
    }
    let shown: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
    Trusts::Yes(format!("{} has hoop's authority", shown.join(", ")))
}

/// kubectl and its kin: the first file of `KUBECONFIG`, or the one in the home.
fn kubeconfig(
    ours: &Ours,
    resource: &Resource,
    processes: &[&Process],
    homes: &[PathBuf],
) -> Trusts {
    let named = processes.iter().filter_map(|p| p.variable("KUBECONFIG"));
    let named = named.filter_map(|list| list.split(':').next().map(PathBuf::from));
    let own = homes.iter().map(|home| home.join(".kube/config"));
    let files: BTreeSet<PathBuf> = named.chain(own).collect();
    let mut trusted = None;
    for file in &files {
        let Some(text) = read(file) else { continue };
        let folder = file.parent().unwrap_or(Path::new("/"));
        match trust_kube::trusts(&text, folder, resource, ours) {
            Some(true) => trusted = Some(file),
            Some(false) => {
                return Trusts::No(
                    format!("{} does not have hoop's authority for it", file.display()),
                    "hoop trust kubeconfig --home DIR, or --ca-file FILE".into(),
                );
            }
            None => {}
        }
    }
    match trusted {
        Some(file) => Trusts::Yes(format!("{} has hoop's authority", file.display())),
        None => Trusts::Unknown("no kubeconfig that names this cluster was found".into()),
    }
}

fn mend_libpq(file: &Path) -> String {
    let home = file
        .parent()
        .filter(|folder| folder.ends_with(".postgresql"))
        .and_then(Path::parent);
    match home {
        Some(home) => format!("hoop trust postgres --home {}", home.display()),
        None => format!("hoop trust show >>{}", file.display()),
    }
}

fn system(ours: &Ours) -> Trusts {
    let Some((path, text)) = SYSTEM_BUNDLES
        .iter()
        .find_map(|p| Some((p, read(Path::new(p))?)))
    else {
        return Trusts::No(
            "the system has no list of authorities".into(),
            SYSTEM_MEND.into(),
        );
    };
    match ours.stand_in(&text) {
        true => Trusts::Yes(format!("{path} has hoop's authority")),
        false => Trusts::No(
            format!("{path} does not have hoop's authority"),
            SYSTEM_MEND.into(),
        ),
    }
}

fn node(ours: &Ours, processes: &[&Process]) -> Trusts {
    const VARIABLE: &str = "NODE_EXTRA_CA_CERTS";
    if processes.is_empty() {
        return Trusts::Unknown(
            "no process of the agent runs, so its environment is not known".into(),
        );
    }
    let files: BTreeSet<String> = processes
        .iter()
        .filter_map(|p| p.variable(VARIABLE))
        .collect();
    let mend = || {
        "set Environment=NODE_EXTRA_CA_CERTS= in the agent's unit to the path that `hoop trust show --json` says".to_owned()
    };
    match files
        .iter()
        .find(|file| read(Path::new(file)).is_some_and(|text| ours.stand_in(&text)))
    {
        Some(file) => Trusts::Yes(format!("{VARIABLE} is {file}, which has hoop's authority")),
        None if files.is_empty() => Trusts::No(format!("{VARIABLE} is not set"), mend()),
        None => Trusts::No(
            "the list it names does not have hoop's authority".into(),
            mend(),
        ),
    }
}

fn ssh(config: &Config, resource: &Resource, homes: &[PathBuf]) -> Trusts {
    let key = config
        .worker
        .state
        .join(HOST_AUTHORITY)
        .with_extension("pub");
    let Some(key) = read(&key) else {
        return Trusts::Unknown(format!(
            "hoop's SSH authority cannot be read from {}",
            key.display()
        ));
    };
    let patterns = trust_ssh::patterns_of(std::iter::once(resource));
    if knows(
        &read(Path::new(SYSTEM_KNOWN)).unwrap_or_default(),
        &key,
        &patterns,
    ) {
        return Trusts::Yes(format!("{SYSTEM_KNOWN} has hoop's authority"));
    }
    let without = homes.iter().find(|home| {
        let own = read(&home.join(".ssh/known_hosts")).unwrap_or_default();
        !knows(&own, &key, &patterns)
    });
    match without {
        _ if homes.is_empty() => Trusts::No(
            format!("{SYSTEM_KNOWN} does not have hoop's authority for it"),
            "hoop trust ssh".into(),
        ),
        Some(home) => Trusts::No(
            format!(
                "neither {SYSTEM_KNOWN} nor {} has hoop's authority for it",
                home.join(".ssh/known_hosts").display()
            ),
            "hoop trust ssh (or --home DIR for one account)".into(),
        ),
        None => Trusts::Yes("the account's known hosts have hoop's authority".into()),
    }
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

/// At most so much of a regular file, without waiting for a pipe in its place.
fn read(path: &Path) -> Option<String> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = fs::OpenOptions::new();
    let opened = options
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
    let file = opened.open(path).ok()?;
    file.metadata().ok().filter(fs::Metadata::is_file)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

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
        let file = Path::new("/home/bot/.postgresql/root.crt");
        assert_eq!(mend_libpq(file), "hoop trust postgres --home /home/bot");
        assert!(mend_libpq(Path::new("/etc/x.pem")).ends_with(">>/etc/x.pem"));
        let no = Trusts::No("x".into(), "y".into());
        assert_eq!(judge(no).state, State::Warn);
    }
}
