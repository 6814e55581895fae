//! What all checks look at: the configuration as far as it can be read, the daemon's own word, and
//! the processes and cgroups that there are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::unistd::Uid;

use super::finding::{Check, Finding, as_root, quoted, run};
use super::processes::{self, Process};
use crate::attribute::containers::Isolated;
use crate::attribute::{Containers, Looked, cgroup2_mount};
use crate::capture::Capture;
use crate::config::{self, Agent, Bundle, Config, Mode, credentials};
use crate::identify::agent_for;
use crate::keeper::cgroups;
use crate::keeper::control::{self, Ask, AskError};
use crate::keeper::people::is_below;
use crate::keeper::status::{self, Status};

/// How the file that is looked at stands to what holds now.
pub enum InForce {
    AsTheFile,
    /// It, or a file that it names, is another than was loaded.
    Changed(String),
    /// The daemon was started with this one.
    Another(PathBuf),
    /// No daemon says.
    Unknown(String),
}

const CONFIGURATION: Check = Check::new(
    "config",
    "a file that hoop would not take is not in force: what it says of agents, hosts and masks does not hold",
);
const ATTACH: &str = "agents.slice";
const PINS: &str = "/sys/fs/bpf/hoop";
pub const RUNTIME: &str = "/run/hoop";
pub const STATE: &str = "/var/lib/hoop";

pub struct Host {
    pub path: PathBuf,
    /// `None` where the file is no configuration.
    pub config: Option<Config>,
    problems: Vec<String>,
    /// Whether the secrets that the file names were read, too.
    pub secrets: bool,
    pub root: bool,
    pub mount: PathBuf,
    pub status: Result<Status, AskError>,
    pub in_force: InForce,
    /// By cgroup, as the kernel has them; only where no daemon says and root asks.
    modes: Option<BTreeMap<u64, Mode>>,
    pub processes: Vec<Process>,
    /// All cgroups below the slice, by id.
    pub cgroups: BTreeMap<u64, String>,
    containers: Containers,
}

impl Host {
    pub fn look(path: &Path) -> Self {
        let root = Uid::effective().is_root();
        let (config, problems, secrets) = configuration(path);
        let runtime = config
            .as_ref()
            .map_or(Path::new(RUNTIME), |c| &c.worker.runtime);
        let status = control::ask(runtime, &Ask::Status)
            .and_then(|answer| Ok(serde_json::from_value(answer)?));
        let in_force = in_force(path, runtime, &status);
        let mount = cgroup2_mount();
        let capture = capture(config.as_ref());
        let modes = match &status {
            Err(_) if root => Capture::pinned_modes(&capture).ok(),
            _ => None,
        };
        Self {
            path: path.to_owned(),
            cgroups: cgroups::below(&mount, &capture.attach),
            containers: Containers::new(mount.clone()),
            processes: processes::all(Path::new("/proc")),
            config,
            problems,
            secrets,
            root,
            mount,
            status,
            in_force,
            modes,
        }
    }

    pub fn configuration(&self) -> Vec<Finding> {
        let shown = self.path.display();
        let mend = run(format!(
            "hoop check --config {}",
            quoted(&shown.to_string())
        ));
        if self.config.is_none() {
            return vec![CONFIGURATION.fail(self.problems.join("; "), mend)];
        }
        match self.problems.first() {
            None => vec![CONFIGURATION.ok(format!("{shown} is valid"))],
            Some(first) if self.problems.iter().all(|p| credentials::is_missing(p)) => {
                vec![CONFIGURATION.unknown(
                    format!("{shown} is valid as far as it can be read: {first}"),
                    run("systemctl start hoop.service"),
                )]
            }
            // Read without its secrets.
            Some(first) if self.root => {
                vec![CONFIGURATION.fail(first.clone(), mend)]
            }
            Some(_) => vec![CONFIGURATION.unknown(
                format!("{shown} is valid as far as it can be read; its secrets cannot"),
                as_root(),
            )],
        }
    }

    pub fn agents(&self) -> &[Agent] {
        self.config.as_ref().map_or(&[], |config| &config.agents)
    }

    pub fn capture(&self) -> config::Capture {
        capture(self.config.as_ref())
    }

    /// The mode that holds for an agent now, whatever the file says by now; `None` where that cannot be
    /// told, or the agent is none that the daemon knows.
    pub fn mode_in_force(&self, agent: &Agent) -> Option<Mode> {
        if let Ok(status) = &self.status {
            let known = status
                .agents
                .iter()
                .find(|a| a.name == agent.name.as_str())?;
            let name = serde_json::Value::from(known.mode.as_str());
            return serde_json::from_value(name).ok();
        }
        let modes = self.modes.as_ref()?;
        let ids: BTreeMap<&str, u64> = self
            .cgroups
            .iter()
            .map(|(id, p)| (p.as_str(), *id))
            .collect();
        let its = self.cgroups_of(agent);
        its.values()
            .map(|cgroup| answering(modes, &ids, cgroup))
            .min()
    }

    /// The agent's processes that live now.
    pub fn processes_of(&self, agent: &Agent) -> Vec<&Process> {
        let Some(config) = &self.config else {
            return Vec::new();
        };
        let its = |process: &&Process| {
            is_below(&process.cgroup, &config.capture.attach)
                && agent_for(config, &process.cgroup, &|cgroup| self.container(cgroup))
                    .known()
                    .is_some_and(|a| a.name == agent.name)
        };
        self.processes.iter().filter(its).collect()
    }

    /// The container that a cgroup is of, as its runtime wrote it down.
    pub fn container(&self, cgroup: &str) -> Looked {
        self.containers.of(&self.runtimes(), cgroup)
    }

    /// Whether what runs in a cgroup is cut off from the kernel's hooks, as the daemon judges it.
    pub fn isolated(&self, cgroup: &str) -> Option<Isolated> {
        self.containers.isolated(&self.runtimes(), cgroup, None)
    }

    fn runtimes(&self) -> config::Containers {
        let config = self.config.as_ref();
        config.map_or_else(Default::default, |config| config.containers.clone())
    }

    /// The agent's cgroups that there are now.
    pub fn cgroups_of(&self, agent: &Agent) -> BTreeMap<u64, String> {
        let Some(config) = &self.config else {
            return BTreeMap::new();
        };
        let its = self.cgroups.iter().filter(|(_, cgroup)| {
            agent_for(config, cgroup, &|cgroup| self.container(cgroup))
                .known()
                .is_some_and(|found| found.name == agent.name)
        });
        its.map(|(id, cgroup)| (*id, cgroup.clone())).collect()
    }
}

/// A cgroup's mode, or that of the nearest above it which has one; enforced without any, as the
/// programs have it.
fn answering(modes: &BTreeMap<u64, Mode>, ids: &BTreeMap<&str, u64>, cgroup: &str) -> Mode {
    let levels = Path::new(cgroup).ancestors().filter_map(Path::to_str);
    let mut found = levels.filter_map(|level| modes.get(ids.get(level)?));
    found.next().copied().unwrap_or(Mode::Enforce)
}

fn in_force(path: &Path, runtime: &Path, status: &Result<Status, AskError>) -> InForce {
    let status = match status {
        Ok(status) => status,
        Err(error) => return InForce::Unknown(error.to_string()),
    };
    let same = match (path.canonicalize(), status.config.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => path == status.config,
    };
    if !same {
        return InForce::Another(status.config.clone());
    }
    let answer = control::ask(runtime, &Ask::InForce);
    match answer.and_then(|answer| Ok(serde_json::from_value::<status::InForce>(answer)?)) {
        Ok(status::InForce { differs: None, .. }) => InForce::AsTheFile,
        Ok(status::InForce {
            differs: Some(why), ..
        }) => InForce::Changed(why),
        Err(error) => InForce::Unknown(error.to_string()),
    }
}

fn capture(config: Option<&Config>) -> config::Capture {
    match config {
        Some(config) => config.capture.clone(),
        None => config::Capture {
            attach: ATTACH.into(),
            resolvers: Vec::new(),
            port: 0,
            pins: PINS.into(),
            lsm: config::LsmTier::default(),
        },
    }
}

/// The configuration, what is wrong with it, and whether its secrets were read.
fn configuration(path: &Path) -> (Option<Config>, Vec<String>, bool) {
    match Bundle::gather_and_parse(path).1 {
        Ok(config) => (Some(config), Vec::new(), true),
        Err(error) => {
            let problems = error.problems.iter().map(ToString::to_string).collect();
            (Bundle::without_secrets(path).ok(), problems, false)
        }
    }
}

/// How an agent is named in findings.
pub fn of_agent(agent: &Agent) -> String {
    format!("agent {}", agent.name)
}

/// Some of many numbers, for people.
pub fn some(pids: &[u32]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = pids.iter().take(SHOWN).map(u32::to_string).collect();
    match pids.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_above_with_a_mode_answers() {
        let modes = BTreeMap::from([(1, Mode::Discover), (2, Mode::Observe)]);
        let ids = BTreeMap::from([("a.slice/x", 1), ("a.slice/x/y", 2), ("a.slice/z", 3)]);
        let of = |cgroup: &str| answering(&modes, &ids, cgroup);
        assert_eq!(of("a.slice/x/y"), Mode::Observe);
        assert_eq!(of("a.slice/x/made-since"), Mode::Discover);
        // As the programs have it: what nobody says anything of is enforced.
        assert_eq!(of("a.slice/z"), Mode::Enforce);
    }
}
