//! Which protocol a destination speaks, as far as this host's own state tells it.
//!
//! The kernel's counters hold no byte of what was said: the program that listens there, if it is on
//! this host, is the surest sign, then the client's name, then the port. Whoever wants it surer asks
//! (`--probe`).

use std::path::Path;

use serde::Serialize;

/// Why a protocol is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The destination itself said so.
    Probe,
    /// The program that listens there.
    Server,
    /// The program that connects.
    Client,
    Port,
}

pub const POSTGRES: &str = "postgres";
pub const SSH: &str = "ssh";
pub const KUBERNETES: &str = "kubernetes";
pub const HTTPS: &str = "https";
/// Those that hoop terminates.
pub const GOVERNED: [&str; 3] = [POSTGRES, SSH, KUBERNETES];

const SERVERS: &[(&str, &[&str])] = &[
    (
        POSTGRES,
        &[
            "postgres",
            "postmaster",
            "pgbouncer",
            "pgpool",
            "pgcat",
            "odyssey",
        ],
    ),
    (SSH, &["sshd", "sshd-session", "dropbear"]),
    (KUBERNETES, &["kube-apiserver", "k3s", "k0s", "kubelite"]),
    ("mysql", &["mysqld", "mariadbd"]),
    ("redis", &["redis-server", "valkey-server"]),
    ("etcd", &["etcd"]),
];
const CLIENTS: &[(&str, &[&str])] = &[
    (
        POSTGRES,
        &[
            "psql",
            "pg_dump",
            "pg_dumpall",
            "pg_restore",
            "pg_basebackup",
            "pg_isready",
            "pgbench",
            "vacuumdb",
            "reindexdb",
            "createdb",
            "dropdb",
            "pgcli",
        ],
    ),
    (
        SSH,
        &[
            "ssh",
            "autossh",
            "dbclient",
            "plink",
            "ssh-keyscan",
            "mosh-client",
        ],
    ),
    (
        KUBERNETES,
        &[
            "kubectl",
            "helm",
            "k9s",
            "kubelet",
            "kube-proxy",
            "kube-scheduler",
            "kube-controller-manager",
        ],
    ),
    ("mysql", &["mysql", "mariadb", "mysqldump", "mariadb-dump"]),
    ("redis", &["redis-cli", "valkey-cli"]),
];
const PORTS: &[(u16, &str)] = &[
    (22, SSH),
    (25, "smtp"),
    (53, "dns"),
    (80, "http"),
    (88, "kerberos"),
    (123, "ntp"),
    (389, "ldap"),
    (443, HTTPS),
    (445, "smb"),
    (465, "smtp"),
    (587, "smtp"),
    (636, "ldaps"),
    (853, "dns-over-tls"),
    (1433, "mssql"),
    (1521, "oracle"),
    (2049, "nfs"),
    (2379, "etcd"),
    (3306, "mysql"),
    (4222, "nats"),
    (5432, POSTGRES),
    (5671, "amqps"),
    (5672, "amqp"),
    (6379, "redis"),
    (6432, POSTGRES),
    (6443, KUBERNETES),
    (8080, "http"),
    (8443, HTTPS),
    (9042, "cassandra"),
    (9092, "kafka"),
    (9200, "elasticsearch"),
    (11211, "memcached"),
    (27017, "mongodb"),
];

/// By what listens there, what connects, and the port.
pub fn guess(server: Option<&str>, client: &str, port: u16) -> Option<(&'static str, By)> {
    let by_name = |table: &[(&'static str, &[&str])], path: &str| {
        let name = Path::new(path).file_name()?.to_str()?;
        let found = table.iter().find(|(_, names)| names.contains(&name));
        found.map(|(protocol, _)| *protocol)
    };
    let by_port = of_port(port);
    let server = server.and_then(|server| by_name(SERVERS, server));
    // Every client also asks resolvers.
    let client = by_name(CLIENTS, client).filter(|_| by_port != Some("dns"));
    server
        .map(|protocol| (protocol, By::Server))
        .or(client.map(|protocol| (protocol, By::Client)))
        .or(by_port.map(|protocol| (protocol, By::Port)))
}

/// What usually listens at a port.
pub fn of_port(port: u16) -> Option<&'static str> {
    let found = PORTS.iter().find(|(of, _)| *of == port);
    found.map(|(_, protocol)| *protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_surest_sign_counts() {
        for (server, client, port, expected) in [
            (
                Some("/usr/lib/postgresql/15/bin/postgres"),
                "/bin/x",
                7000,
                Some((POSTGRES, By::Server)),
            ),
            (
                Some("/usr/sbin/nginx"),
                "/usr/bin/kubectl",
                443,
                Some((KUBERNETES, By::Client)),
            ),
            (None, "/usr/bin/ssh", 2222, Some((SSH, By::Client))),
            (
                None,
                "/usr/bin/python3.11",
                5432,
                Some((POSTGRES, By::Port)),
            ),
            (None, "/usr/bin/psql", 53, Some(("dns", By::Port))),
            (None, "(ended before it was seen)", 40001, None),
            (None, "", 1, None),
        ] {
            assert_eq!(guess(server, client, port), expected, "{client} {port}");
        }
    }
}
