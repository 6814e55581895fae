//! What the service manager says of an agent's unit: filters cannot be read out of a process.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(3);
const PROPERTIES: &str = "RestrictAddressFamilies,SystemCallFilter,SystemCallArchitectures";

/// The settings of one unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    pub name: String,
    properties: BTreeMap<String, String>,
}

impl Unit {
    /// The service that a cgroup is of. A scope has no settings for what runs in it, and of services
    /// within others (a user's own manager) the system's manager knows nothing.
    pub fn service_of(cgroup: &str) -> Option<&str> {
        let is_unit = |level: &&str| level.ends_with(".service") || level.ends_with(".scope");
        let mut units = cgroup.split('/').filter(is_unit);
        let first = units.next().filter(|name| name.ends_with(".service"))?;
        units.next().is_none().then_some(first)
    }

    /// `None` where there is none, or no systemd to ask.
    pub fn of(name: &str) -> Option<Self> {
        if !Path::new("/run/systemd/system").exists() {
            return None;
        }
        let text = shown(name)?;
        Some(Self::parse(name, &text))
    }

    pub fn parse(name: &str, text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Self {
            name: name.to_owned(),
            properties: pairs
                .map(|(k, v)| (k.to_owned(), v.trim().to_owned()))
                .collect(),
        }
    }

    /// Whether sockets of that family are refused (`RestrictAddressFamilies=`).
    pub fn refuses_family(&self, family: &str) -> bool {
        let families = self.property("RestrictAddressFamilies");
        match families.strip_prefix('~') {
            Some(refused) => refused.split(' ').any(|one| one == family),
            None => !families.is_empty() && !families.split(' ').any(|one| one == family),
        }
    }

    /// Whether that system call is refused (`SystemCallFilter=`), as systemd lists the filter.
    pub fn refuses_call(&self, call: &str) -> bool {
        let filter = self.property("SystemCallFilter");
        // Each may bear an error of its own, `name:EPERM`.
        let lists = |list: &str| {
            list.split(' ')
                .any(|one| one.split(':').next() == Some(call))
        };
        match filter.strip_prefix('~') {
            Some(refused) => lists(refused),
            None => !filter.is_empty() && !lists(filter),
        }
    }

    /// Whether programs for other processors that this one runs too (32-bit x86) are refused system
    /// calls altogether: `RestrictAddressFamilies=` has no hold on them.
    pub fn is_native(&self) -> bool {
        const OTHERS: [&str; 6] = ["x86", "x32", "arm", "ppc", "s390", "mips"];
        let architectures = self.property("SystemCallArchitectures");
        let other = |one: &str| OTHERS.contains(&one);
        !architectures.is_empty() && !architectures.split(' ').any(other)
    }

    fn property(&self, name: &str) -> &str {
        self.properties.get(name).map_or("", String::as_str)
    }
}

/// What `systemctl show` prints, unless it takes too long.
fn shown(name: &str) -> Option<String> {
    let mut child = Command::new("systemctl")
        .args(["show", "--property", PROPERTIES, "--", name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let until = Instant::now() + PATIENCE;
    while child.try_wait().ok()?.is_none() {
        if Instant::now() > until {
            // Waited for, so that it leaves no zombie.
            child.kill().ok()?;
            child.wait().ok()?;
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_as_they_are_listed() {
        let unit = |text: &str| Unit::parse("a.service", text);
        let allowing =
            unit("RestrictAddressFamilies=AF_INET AF_UNIX\nSystemCallFilter=read write\n");
        assert!(allowing.refuses_family("AF_VSOCK") && !allowing.refuses_family("AF_INET"));
        assert!(allowing.refuses_call("io_uring_setup") && !allowing.refuses_call("read"));
        let refusing =
            unit("RestrictAddressFamilies=~AF_VSOCK\nSystemCallFilter=~io_uring_setup:EPERM bpf\n");
        assert!(refusing.refuses_family("AF_VSOCK") && !refusing.refuses_family("AF_PACKET"));
        assert!(refusing.refuses_call("io_uring_setup") && !refusing.refuses_call("read"));
        let open = unit("RestrictAddressFamilies=\nSystemCallFilter=\n");
        assert!(!open.refuses_family("AF_VSOCK") && !open.refuses_call("io_uring_setup"));
        assert!(unit("SystemCallArchitectures=native\n").is_native());
        assert!(!unit("SystemCallArchitectures=x86-64 x86\n").is_native());
        assert!(!unit("SystemCallArchitectures=\n").is_native());
    }
    #[test]
    fn only_a_service_of_the_systems_manager_has_settings() {
        let of = Unit::service_of;
        assert_eq!(of("agents.slice/bot.service/inner"), Some("bot.service"));
        assert_eq!(of("agents.slice/docker-0a.scope"), None);
        assert_eq!(of("user.slice/user@7.service/app.slice/bot.service"), None);
        assert_eq!(of("agents.slice"), None);
    }
}
