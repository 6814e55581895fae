//! The small notations of the file: durations, sizes, names, addresses, column patterns.

use std::time::Duration;

use ipnet::IpNet;

use super::{ColumnPattern, Egress, Host};

/// `500ms`, `30s`, `5m`, `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let parsed = number.parse::<u32>().ok().and_then(|n| match unit {
        "ms" => Some(Duration::from_millis(n.into())),
        "s" => Some(Duration::from_secs(n.into())),
        "m" => Some(Duration::from_secs(u64::from(n) * 60)),
        "h" => Some(Duration::from_secs(u64::from(n) * 3600)),
        _ => None,
    });
    parsed.ok_or_else(|| {
        format!("{text:?} is not a duration: write a whole number and ms, s, m or h, like \"30s\"")
    })
}

/// `64MiB`: powers of 1024 only, because nobody agrees on what MB is.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    let scale: Option<u64> = match unit {
        "B" | "" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    scale
        .zip(number.parse::<u64>().ok())
        .and_then(|(scale, n)| n.checked_mul(scale))
        .ok_or_else(|| {
            format!("{text:?} is not a size: write a whole number and B, KiB, MiB or GiB, like \"64MiB\"")
        })
}

fn split_unit(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at_checked(digits).unwrap_or((text, ""))
}

/// What agents, resources, issuers and credentials may be called.
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// A host name in lower case, without a final dot.
pub(super) fn host_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    // A name whose last label is a number is an address that somebody mistyped.
    let numeric = name
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    (name.len() <= 253 && !numeric && name.split('.').all(label)).then_some(name)
}

/// An address or a network; an address counts as a network of one.
pub(super) fn net(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>()
        .map(|n| n.trunc())
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .ok()
}

pub(super) fn host(text: &str) -> Result<Host, String> {
    net(text)
        .map(Host::Net)
        .or_else(|| host_name(text).map(Host::Name))
        .ok_or_else(|| {
            format!("{text:?} is no host: write a name, an address or a network like 10.20.0.0/24")
        })
}

/// `host:port`, `[v6]:port`, `[v6/len]:port`.
pub(super) fn with_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|p| *p != 0)?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    Some((host, port))
}

pub(super) fn egress(text: &str) -> Result<Egress, String> {
    let wrong = || {
        format!(
            "{text:?} is no destination: write name:port, *.name:port, address:port, network:port or [v6 network]:port"
        )
    };
    let (host, port) = with_port(text).ok_or_else(wrong)?;
    if let Some(net) = net(host) {
        return Ok(Egress::Net { net, port });
    }
    let (star, rest) = match host.strip_prefix("*.") {
        Some(rest) => ("*.", rest),
        None => ("", host),
    };
    let name = host_name(rest).ok_or_else(wrong)?;
    Ok(Egress::Name {
        name: format!("{star}{name}"),
        port,
    })
}

pub(super) fn upstream(text: &str) -> Result<(String, u16), String> {
    with_port(text)
        .and_then(|(host, port)| {
            let host = match host.parse::<std::net::IpAddr>() {
                Ok(ip) => ip.to_string(),
                Err(_) => host_name(host)?,
            };
            Some((host, port))
        })
        .ok_or_else(|| format!("{text:?} is no address to dial: write host:port or [v6]:port"))
}

/// `schema.table.column`. A name without quotes is folded to lower case, as PostgreSQL does with
/// it; `"Quoted"` keeps its case and may hold dots; `*` stands for any name.
pub(super) fn column_pattern(text: &str) -> Result<ColumnPattern, String> {
    let parts = split_parts(text).ok_or_else(|| format!("{text:?} has a quote that never ends"))?;
    let [schema, table, column] = <[_; 3]>::try_from(parts).map_err(|parts| {
        let stars = "*.".repeat(3usize.saturating_sub(parts.len()));
        match parts.len() {
            1 | 2 => format!("{text:?} must be schema.table.column: write \"{stars}{text}\""),
            _ => format!("{text:?} must be schema.table.column, each a name or *"),
        }
    })?;
    let parse = |part: String| -> Result<Option<String>, String> {
        if part == "*" {
            return Ok(None);
        }
        let name = match part.strip_prefix('"').and_then(|p| p.strip_suffix('"')) {
            Some(quoted) => quoted.replace("\"\"", "\""),
            None if part.contains(['*', '"']) => {
                return Err(format!(
                    "{part:?} in {text:?}: each part is a whole name or *"
                ));
            }
            None => part.to_lowercase(),
        };
        if name.is_empty() {
            return Err(format!("{text:?} has an empty part: write * for any name"));
        }
        Ok(Some(name))
    };
    Ok(ColumnPattern {
        schema: parse(schema)?,
        table: parse(table)?,
        column: parse(column)?,
    })
}

/// Splits at dots outside quotes, keeping the quotes.
fn split_parts(text: &str) -> Option<Vec<String>> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        quoted ^= c == '"';
        match parts.last_mut() {
            Some(last) if c != '.' || quoted => last.push(c),
            _ => parts.push(String::new()),
        }
    }
    (!quoted).then_some(parts)
}

/// Why a cgroup path or pattern cannot be one; `None` if it can.
pub(super) fn cgroup_fault(text: &str) -> Option<(String, &'static str)> {
    if text.starts_with('/') {
        let what = format!("{text:?} starts with a slash");
        return Some((
            what,
            "write the path below the cgroup2 mount, like agents.slice/bot.service",
        ));
    }
    if text.is_empty() || text.len() > 1024 {
        return Some((
            "a cgroup path has 1 to 1024 characters".into(),
            "write a path like agents.slice",
        ));
    }
    let bad = |part: &str| part.is_empty() || part == "." || part == "..";
    if text.split('/').any(bad) {
        let what = format!("{text:?} has an empty, `.` or `..` part");
        return Some((what, "write each level once, without a slash at the end"));
    }
    if text.contains(['[', ']', '{', '}']) || text.contains("**") {
        let what = format!("{text:?} has a wildcard that does not exist here");
        return Some((
            what,
            "only * (any characters within one level) and ? (one character) are wildcards",
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert!(duration("30").is_err());
        assert!(duration("s").is_err());
        assert!(duration("-1s").is_err());
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("12"), Ok(12));
        assert!(size("64MB").is_err());
        assert!(size("99999999999GiB").is_err());
    }

    #[test]
    fn hosts() {
        assert_eq!(
            host("DB.prod.internal."),
            Ok(Host::Name("db.prod.internal".into()))
        );
        assert!(
            matches!(host("10.20.0.7/24"), Ok(Host::Net(n)) if n.to_string() == "10.20.0.0/24")
        );
        assert!(matches!(host("::1"), Ok(Host::Net(n)) if n.prefix_len() == 128));
        for bad in [
            "",
            "10.20.0",
            "a b",
            "-a",
            "a..b",
            "*.x",
            "10.0.0.0/33",
            "x/24",
        ] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn destinations() {
        assert_eq!(
            egress("*.LLM.example:443"),
            Ok(Egress::Name {
                name: "*.llm.example".into(),
                port: 443
            })
        );
        assert!(matches!(
            egress("10.0.0.0/8:53"),
            Ok(Egress::Net { port: 53, .. })
        ));
        assert!(matches!(
            egress("[2001:db8::/32]:443"),
            Ok(Egress::Net { .. })
        ));
        for bad in [
            "x",
            "x:0",
            "x:70000",
            "2001:db8::1:443",
            "*:443",
            "a.*.b:1",
            "*.*.b:1",
        ] {
            assert!(egress(bad).is_err(), "{bad}");
        }
        assert_eq!(upstream("127.0.0.1:5433"), Ok(("127.0.0.1".into(), 5433)));
        assert_eq!(upstream("[::1]:1"), Ok(("::1".into(), 1)));
    }

    #[test]
    fn columns() {
        let parts = |t: &str| column_pattern(t).map(|p| (p.schema, p.table, p.column));
        let name = |n: &str| Some(n.to_owned());
        assert_eq!(parts("*.*.Email"), Ok((None, None, name("email"))));
        assert_eq!(
            parts("public.\"Us.ers\".\"a\"\"b\""),
            Ok((name("public"), name("Us.ers"), name("a\"b")))
        );
        assert!(parts("users.ssn").is_err_and(|e| e.contains("*.users.ssn")));
        for bad in ["", "a.b.c.d", "a.b.c*", "a..c", "a.b.\"c", "a.b.\"\""] {
            assert!(parts(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cgroup_patterns() {
        assert_eq!(cgroup_fault("agents.slice/a\\x2db*.service"), None);
        for bad in ["", "/a", "a/", "a//b", "a/../b", "a/**", "a/[b]"] {
            assert!(cgroup_fault(bad).is_some(), "{bad}");
        }
    }
}
