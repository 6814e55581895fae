//! One line of what `hoop discover` prints: an owner's connections to one destination.

use std::net::SocketAddr;

use serde::Serialize;
use time::OffsetDateTime;

use super::super::visible::is_hidden;
use super::protocol::{self, By};
use crate::config::host_name;
use crate::keeper::seen::{Row, Verdict};
use crate::keeper::status::stamp;

/// The longest text that is shown of what others have named.
const LONGEST: usize = 300;

/// From watching the host; its keys are what `--host --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Below the cgroup2 mount; `/` is its root.
    pub cgroup: String,
    /// The systemd unit that the cgroup's path names.
    pub unit: Option<String>,
    pub executable: String,
    /// The inode of the network namespace, and whether it is the one of whoever watched.
    pub namespace: u64,
    pub own_namespace: bool,
    /// `tcp` or `udp`; of the daemon also `other`.
    pub how: &'static str,
    pub destination: SocketAddr,
    /// By the hosts file, and by answers of resolvers that the daemon saw.
    pub names: Vec<String>,
    /// What the resolver says of the address: whatever its owner writes there.
    pub reverse_name: Option<String>,
    pub protocol: Option<&'static str>,
    pub protocol_by: Option<By>,
    pub connections: u64,
    /// Alive when the watching ended.
    pub open: u64,
    /// Whose cgroup or executable is a conclusion from the others to that destination.
    pub inferred: u64,
    /// Refused, or never established.
    pub unanswered: u64,
    pub sent: u64,
    pub received: u64,
    #[serde(with = "time::serde::rfc3339")]
    pub first: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub last: OffsetDateTime,
    /// The agent as the daemon's configuration calls it; only the daemon knows.
    #[serde(skip)]
    pub agent: Option<String>,
    /// Why the kernel refused it, or let it pass as an exception; only the daemon knows.
    #[serde(skip)]
    pub why: Option<String>,
}

impl Line {
    /// What the daemon saw, for a configuration: it counts connections, not bytes.
    pub fn of_daemon(row: &Row, guess: Option<(&'static str, By)>) -> Self {
        Self {
            cgroup: row.key.cgroup.clone(),
            unit: crate::attribute::unit(&row.key.cgroup),
            executable: row.key.executable.clone(),
            namespace: 0,
            own_namespace: true,
            how: match row.key.how.as_str() {
                "tcp" => "tcp",
                "udp" => "udp",
                _ => "other",
            },
            destination: row.key.destination,
            names: row.names.clone(),
            reverse_name: None,
            protocol: guess.map(|(protocol, _)| protocol),
            protocol_by: guess.map(|(_, by)| by),
            connections: row.count,
            open: 0,
            inferred: 0,
            unanswered: match row.key.verdict {
                Verdict::Passed => 0,
                Verdict::Refused => row.count,
            },
            sent: 0,
            received: 0,
            first: row.first,
            last: row.last,
            agent: row.key.agent.clone(),
            why: row.key.why.clone(),
        }
    }

    /// Why it is no part of a configuration as it stands. A program is called what whoever started it
    /// likes, and at a port of something else that alone makes nothing a server.
    pub fn doubt(&self) -> Option<String> {
        if let Some(why) = &self.why {
            return Some(clean(why));
        }
        let of_port = protocol::of_port(self.destination.port());
        let otherwise = self.protocol_by == Some(By::Client) && of_port != self.protocol;
        let (true, Some(protocol)) = (otherwise && of_port.is_some(), self.protocol) else {
            return None;
        };
        Some(format!("only the client's name speaks for {protocol}"))
    }

    /// Whether the server itself tells what it speaks, or runs here.
    pub fn is_sure(&self) -> bool {
        matches!(self.protocol_by, Some(By::Probe | By::Server))
    }

    /// Its names as a configuration takes them.
    pub fn hosts(&self) -> impl Iterator<Item = String> {
        self.names.iter().filter_map(|name| host_name(name))
    }

    /// What is known of the destination beside its address.
    pub fn called(&self) -> String {
        let mut called: Vec<String> = self.names.iter().map(|name| clean(name)).collect();
        if let Some(name) = &self.reverse_name {
            called.push(format!("reverse DNS: {}", clean(name)));
        }
        called.join(", ")
    }

    fn protocol_shown(&self) -> String {
        let by = match self.protocol_by {
            None => return "?".to_owned(),
            Some(By::Probe) => "asked",
            Some(By::Server) => "by its server",
            Some(By::Client) => "by the client",
            Some(By::Port) => "by the port",
        };
        format!("{} {by}", self.protocol.unwrap_or_default())
    }

    fn counted(&self) -> String {
        let also: Vec<String> = [
            (self.open, "open"),
            (self.unanswered, "unanswered"),
            (self.inferred, "inferred"),
        ]
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
        match also.is_empty() {
            true => format!("{}x", self.connections),
            false => format!("{}x ({})", self.connections, also.join(", ")),
        }
    }
}

/// For people: each owner once, and its destinations below it in columns.
pub fn table(lines: &[Line]) -> String {
    const HEAD: [&str; 7] = [
        "destination",
        "protocol",
        "connections",
        "sent",
        "received",
        "seen (UTC)",
        "names",
    ];
    let cells = |line: &Line| -> [String; 7] {
        let counted = line.how == "tcp";
        let volume = |bytes| {
            if counted {
                bytes_shown(bytes)
            } else {
                "?".to_owned()
            }
        };
        let mut destination = line.destination.to_string();
        if line.how == "udp" {
            destination.push_str(" udp");
        }
        if !line.own_namespace {
            destination.push_str(&format!(" in net:[{}]", line.namespace));
        }
        [
            destination,
            line.protocol_shown(),
            line.counted(),
            volume(line.sent),
            volume(line.received),
            format!("{} to {}", clock(line.first), clock(line.last)),
            line.called(),
        ]
    };
    let rows: Vec<[String; 7]> = lines.iter().map(cells).collect();
    let width = |column: usize| {
        let all = rows.iter().filter_map(|row| row.get(column));
        let all = all.map(|cell| cell.chars().count());
        all.chain(HEAD.get(column).map(|head| head.len()))
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let joined = |cells: &[String]| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        format!("  {}", padded.collect::<Vec<_>>().join("  "))
            .trim_end()
            .to_owned()
            + "\n"
    };
    let mut text = String::new();
    let mut before = None;
    for (line, row) in lines.iter().zip(&rows) {
        let owner = (&line.cgroup, &line.executable);
        if before != Some(owner) {
            if before.is_some() {
                text.push('\n');
            }
            text.push_str(&format!(
                "{}  {}\n",
                clean(&line.cgroup),
                clean(&line.executable)
            ));
            text.push_str(&joined(&HEAD.map(str::to_owned)));
            before = Some(owner);
        }
        text.push_str(&joined(row));
    }
    text
}

fn clock(time: OffsetDateTime) -> String {
    let stamp = stamp(time);
    let clock = stamp.split('T').nth(1).unwrap_or_default();
    clock.trim_end_matches('Z').to_owned()
}

/// In powers of 1024, with one digit behind the point.
pub fn bytes_shown(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = u128::from(bytes) * 10 / 1024;
    for unit in UNITS {
        if tenths < 10_240 {
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
        tenths /= 1024;
    }
    format!("{bytes} B")
}

/// What others named, so that it neither moves a terminal's cursor nor ends a line or a comment.
pub fn clean(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        if shown.len() >= LONGEST {
            shown.push('…');
            break;
        }
        match is_hidden(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn line(cgroup: &str, executable: &str, destination: &str) -> Line {
        Line {
            cgroup: cgroup.into(),
            unit: crate::attribute::unit(cgroup),
            executable: executable.into(),
            namespace: 1,
            own_namespace: true,
            how: "tcp",
            destination: destination.parse().unwrap(),
            names: Vec::new(),
            reverse_name: None,
            protocol: Some("postgres"),
            protocol_by: Some(By::Port),
            connections: 3,
            open: 1,
            inferred: 0,
            unanswered: 0,
            sent: 1536,
            received: 5,
            first: OffsetDateTime::UNIX_EPOCH,
            last: OffsetDateTime::UNIX_EPOCH,
            agent: None,
            why: None,
        }
    }

    #[test]
    fn a_table_for_people() {
        let mut named = line("a.slice/b.service", "/usr/bin/psql", "10.0.0.9:5432");
        named.names = vec!["db.prod.internal".into()];
        named.inferred = 1;
        let mut udp = line("a.slice/b.service", "/usr/bin/psql", "10.0.0.2:53");
        (udp.how, udp.protocol, udp.own_namespace) = ("udp", Some("dns"), false);
        let other = line("/", "/bin/\u{1b}[2Jx\n", "[2001:db8::1]:5432");
        insta::assert_snapshot!(table(&[named, udp, other]), @r"
    a.slice/b.service  /usr/bin/psql
      destination                 protocol              connections              sent     received  seen (UTC)            names
      10.0.0.9:5432               postgres by the port  3x (1 open, 1 inferred)  1.5 KiB  5 B       00:00:00 to 00:00:00  db.prod.internal
      10.0.0.2:53 udp in net:[1]  dns by the port       3x (1 open)              ?        ?         00:00:00 to 00:00:00

    /  /bin/\u{1b}[2Jx\n
      destination                 protocol              connections              sent     received  seen (UTC)            names
      [2001:db8::1]:5432          postgres by the port  3x (1 open)              1.5 KiB  5 B       00:00:00 to 00:00:00
    ");
    }

    #[test]
    fn json_has_these_keys() {
        let json = serde_json::to_value(line("a.slice/b.service", "/x", "10.0.0.9:5432")).unwrap();
        let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
        let expected = "cgroup unit executable namespace own_namespace how destination names \
            reverse_name protocol protocol_by connections open inferred unanswered sent received \
            first last";
        assert_eq!(keys, expected.split_whitespace().collect::<Vec<_>>());
        assert_eq!(json["protocol_by"], "port");
    }

    #[test]
    fn sizes() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (1 << 20, "1.0 MiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(bytes_shown(bytes), shown);
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_is_shown_ends_a_line(text in "\\PC*|[\\x00-\\x1f\u{2028}\u{202e}]*") {
            let shown = clean(&text);
            proptest::prop_assert!(!shown.contains(is_hidden));
            proptest::prop_assert!(shown.len() <= LONGEST + 16);
        }
    }
}
