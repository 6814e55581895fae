//! What the command must know of this host, and where it writes down what it did.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::attribute::{Containers, cgroup2_mount};
use crate::capture::{Bypasses, Capture, boot_now};
use crate::config::{self, Bundle, Config, Pick};
use crate::identify::{Choice, Rule, Ruled, choose, covers, groups};
use crate::keeper::bypass::{Broken, Kept};
use crate::keeper::cgroups;
use crate::keeper::control::{self, Ask, AskError};
use crate::keeper::folders::KEEPER;
use crate::keeper::journal::Entry;
use crate::keeper::status::BypassStatus;
use crate::record::Ledger;

const SYSLOG: &str = "/dev/log";
/// syslog(3): LOG_AUTH, LOG_WARNING.
const PRIORITY: u8 = 4 << 3 | 4;

/// What this command must know of the configuration, and no more: the emergency may well be that
/// the rest of the file is broken.
pub struct Host {
    pub mount: PathBuf,
    pub capture: config::Capture,
    pub runtime: PathBuf,
    pub keeper: PathBuf,
    pub kept: Kept,
    agents: Vec<Mapping>,
    containers: config::Containers,
}

pub struct Mapping {
    name: String,
    cgroup: String,
    pub mode: String,
    pick: Option<Pick>,
    /// Its `container` or `pod` says nothing that could be read: nothing passes that may be its.
    unreadable: bool,
}

impl Ruled for Mapping {
    fn rule(&self) -> Rule<'_> {
        Rule {
            cgroup: &self.cgroup,
            pick: self.pick.as_ref(),
        }
    }
}

/// What became of telling the daemon.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    Dead,
    /// It follows the list; whether its ledger has it.
    Lives {
        written: bool,
    },
}

/// Who keeps what was done.
pub struct Written {
    pub daemon: Daemon,
    ledger: bool,
    syslog: bool,
}

impl Written {
    pub fn text(&self) -> String {
        let mut places = Vec::new();
        if self.daemon == (Daemon::Lives { written: true }) {
            places.push("the daemon's ledger");
        }
        if self.ledger {
            places.push("a ledger of its own, beside the daemon's");
        }
        if self.syslog {
            places.push("the system's log");
        }
        format!("Written down in {}.", places.join(" and "))
    }
}

impl Host {
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let table: toml::Table =
            toml::from_str(&text).with_context(|| format!("{} is no TOML", path.display()))?;
        Ok(Self::of(&table))
    }

    /// For what must go on though the file is none: by the usual paths, or these.
    pub fn read_or_usual(
        path: &Path,
        state: Option<&Path>,
        runtime: Option<&Path>,
        pins: Option<&Path>,
    ) -> Self {
        let mut host = Self::read(path).unwrap_or_else(|error| {
            eprintln!(
                "hoop: {error:#}; going by --state, --runtime and --pins, or the paths that are usual where they are not given"
            );
            Self::of(&toml::Table::new())
        });
        if let Some(state) = state {
            host.keeper = state.join(KEEPER);
        }
        if let Some(runtime) = runtime {
            runtime.clone_into(&mut host.runtime);
        }
        host.kept = Kept::new(&host.keeper, &host.runtime);
        if let Some(pins) = pins {
            pins.clone_into(&mut host.capture.pins);
        }
        host
    }

    pub fn of(table: &toml::Table) -> Self {
        let text = |section: &str, key: &str, default: &str| {
            let found = table.get(section).and_then(|s| s.get(key)?.as_str());
            found.unwrap_or(default).to_owned()
        };
        let of_agent = |agent: &toml::Value| {
            let text = |key: &str| Some(agent.get(key)?.as_str()?.to_owned());
            let picks = ["container", "pod"].iter().any(|k| agent.get(k).is_some());
            let pick = only(table, Some(agent)).and_then(|mut only| only.agents.pop()?.pick);
            Some(Mapping {
                name: text("name")?,
                cgroup: text("cgroup")?.trim_matches('/').to_owned(),
                mode: text("mode").unwrap_or_else(|| "enforce".into()),
                unreadable: picks && pick.is_none(),
                pick,
            })
        };
        let agents = table.get("agent").and_then(|a| a.as_array());
        let runtime = PathBuf::from(text("worker", "runtime", "/run/hoop"));
        let keeper = Path::new(&text("worker", "state", "/var/lib/hoop")).join(KEEPER);
        Self {
            kept: Kept::new(&keeper, &runtime),
            runtime,
            keeper,
            mount: cgroup2_mount(),
            capture: config::Capture {
                attach: text("capture", "attach", "agents.slice")
                    .trim_matches('/')
                    .to_owned(),
                resolvers: Vec::new(),
                port: 0,
                pins: text("capture", "pins", "/sys/fs/bpf/hoop").into(),
                lsm: config::LsmTier::default(),
            },
            agents: agents.into_iter().flatten().filter_map(of_agent).collect(),
            containers: only(table, None).map_or_else(Default::default, |only| only.containers),
        }
    }

    pub fn agent(&self, name: &str) -> Result<&Mapping> {
        let found = self.agents.iter().find(|agent| agent.name == name);
        let found = found.with_context(|| {
            let known: Vec<_> = self.agents.iter().map(|a| a.name.as_str()).collect();
            format!(
                "there is no agent {name:?}; there are: {}",
                known.join(", ")
            )
        })?;
        ensure!(
            !found.unreadable,
            "which containers {name} is cannot be read: mend its `container` or `pod` (`hoop check`)"
        );
        Ok(found)
    }

    /// The agent's cgroups as they are now.
    pub fn cgroups_of(&self, agent: &str) -> BTreeMap<u64, String> {
        let mut found = cgroups::below(&self.mount, &self.capture.attach);
        let containers = Containers::new(self.mount.clone());
        let look = |cgroup: &str| containers.of(&self.containers, cgroup);
        found.retain(|_, cgroup| {
            let whose = choose(&self.agents, cgroup, &look);
            matches!(whose, Choice::Of(mapping) if mapping.name == agent)
                && !groups(&self.agents, cgroup, &look)
                && !self
                    .agents
                    .iter()
                    .any(|m| m.unreadable && covers(&m.cgroup, cgroup))
        });
        found
    }

    /// As the list and the map have it: only where both agree does anything pass.
    pub fn broken(&self) -> Result<Vec<BypassStatus>> {
        let entries = match Bypasses::open(&self.capture) {
            Ok(map) => map.entries(),
            Err(_) => Vec::new(),
        };
        let paths = cgroups::below(&self.mount, &self.capture.attach);
        let now = boot_now();
        let holding = self.kept.read()?;
        let holding = holding.into_iter().filter(|broken| broken.holds(now));
        let status = |broken: Broken| BypassStatus {
            left_s: broken.left().as_secs(),
            cgroups: entries
                .iter()
                .filter(|(_, entry)| entry.number == broken.number)
                .filter_map(|(id, _)| paths.get(id).cloned())
                .collect(),
            agent: broken.agent,
            since: broken.since,
            until: broken.until,
            by: broken.by,
            reason: broken.reason,
        };
        Ok(holding.map(status).collect())
    }

    /// Where a daemon answers, the map is by then as the list says.
    pub fn tell_daemon(&self) -> bool {
        control::ask(&self.runtime, &Ask::Bypasses).is_ok()
    }

    /// Whether a daemon lives, and has this one in its ledger. One of another version does not say.
    fn announce(&self, number: u64) -> Daemon {
        match control::ask(&self.runtime, &Ask::BypassWritten { number }) {
            Ok(answer) => Daemon::Lives {
                written: answer.as_bool() == Some(true),
            },
            Err(AskError::Connect { .. }) => Daemon::Dead,
            Err(_) => Daemon::Lives { written: false },
        }
    }

    /// In the daemon's ledger or, where that has it not, in one of our own; and in the system's log.
    pub fn write_down(&self, number: u64, entry: &Entry) -> Result<Written> {
        let mut written = Written {
            daemon: self.announce(number),
            ledger: false,
            syslog: syslog(entry).is_ok(),
        };
        if written.daemon != (Daemon::Lives { written: true }) {
            match self.ledger(entry) {
                Ok(()) => written.ledger = true,
                Err(error) if written.syslog => {
                    eprintln!("hoop: it is in the system's log and in no ledger: {error:#}");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    pub fn write_down_here(&self, entry: &Entry) -> Result<()> {
        let syslog = syslog(entry);
        self.ledger(entry).or_else(|error| match syslog {
            Ok(()) => Ok(()),
            Err(_) => Err(error),
        })
    }

    fn ledger(&self, entry: &Entry) -> Result<()> {
        let mut ledger = Ledger::open(&self.keeper, "bypass")?;
        ledger.append(entry)?;
        // On the disk before it takes effect: the host may be about to fail.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(ledger.durable())?;
        Ok(())
    }

    /// The daemon's ports, by what it left in the kernel.
    pub fn ports(&self) -> Vec<u16> {
        Capture::pinned_ports(&self.capture).unwrap_or_default()
    }

    pub fn resolvers(&self) -> Vec<std::net::IpAddr> {
        Capture::pinned_resolvers(&self.capture).unwrap_or_default()
    }
}

/// To whatever collects this host's log.
fn syslog(entry: &Entry) -> Result<()> {
    let text = serde_json::to_string(entry)?;
    let line = format!("<{PRIORITY}>hoop[{}]: {text}", std::process::id());
    UnixDatagram::unbound()?.send_to(line.as_bytes(), SYSLOG)?;
    Ok(())
}

/// `[containers]` and one agent's way to be found, read as the daemon reads them, whatever else is
/// wrong in the file.
fn only(table: &toml::Table, agent: Option<&toml::Value>) -> Option<Config> {
    let mut only = toml::Table::new();
    for section in ["capture", "containers"] {
        if let Some(section_of) = table.get(section) {
            only.insert(section.to_owned(), section_of.clone());
        }
    }
    if let Some(agent) = agent {
        let mut found = toml::Table::new();
        for key in ["name", "cgroup", "container", "pod"] {
            if let Some(value) = agent.get(key) {
                found.insert(key.to_owned(), value.clone());
            }
        }
        found.insert("mode".to_owned(), "discover".into());
        only.insert("agent".to_owned(), toml::Value::Array(vec![found.into()]));
    }
    let text = toml::to_string(&only).ok()?;
    Config::from_bundle(&Bundle::from_text(Path::new("containers"), &text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_the_daemon_would_not_take_still_says_enough() {
        let table = toml::from_str(
            "nonsense = 1\n[capture]\nattach = \"/a.slice/\"\n[worker]\nstate = \"/s\"\n\
             [[agent]]\nname = \"bot\"\ncgroup = \"a.slice/bot*\"\nmode = \"observe\"\n\
             [[agent]]\nname = \"half\"\n",
        );
        let host = Host::of(&table.unwrap());
        assert_eq!(host.capture.attach, "a.slice");
        assert_eq!(host.capture.pins, Path::new("/sys/fs/bpf/hoop"));
        assert_eq!(host.keeper, Path::new("/s/keeper"));
        assert_eq!(host.agent("bot").unwrap().mode, "observe");
        let error = host.agent("half").err().unwrap().to_string();
        assert!(error.contains("there are: bot"), "{error}");
    }
}
