//! What all checks look at: the configuration as far as it can be read, the daemon's own word, and
//! the processes and cgroups that there are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::unistd::Uid;

use super::finding::{Check, Finding};
use super::processes::{self, Process};
use crate::attribute::containers::Isolated;
use crate::attribute::{Containers, Looked, cgroup2_mount};
use crate::config::{self, Agent, Bundle, Config, credentials};
use crate::identify::agent_for;
use crate::keeper::cgroups;
use crate::keeper::control::{self, Ask, AskError};
use crate::keeper::people::is_below;
use crate::keeper::status::Status;

const CONFIGURATION: Check = Check::new(
    "config",
    "a file that hoop would not take is not in force: what it says of agents, hosts and masks does not hold",
);
const ATTACH: &str = "agents.slice";
const PINS: &str = "/sys/fs/bpf/hoop";
const RUNTIME: &str = "/run/hoop";

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
        let mount = cgroup2_mount();
        let attach = config.as_ref().map_or(ATTACH, |c| &c.capture.attach);
        Self {
            path: path.to_owned(),
            cgroups: cgroups::below(&mount, attach),
            containers: Containers::new(mount.clone()),
            processes: processes::all(Path::new("/proc")),
            config,
            problems,
            secrets,
            root,
            mount,
            status,
        }
    }

    pub fn configuration(&self) -> Vec<Finding> {
        let shown = self.path.display();
        if self.config.is_none() {
            let mend = format!("hoop check --config {shown}");
            return vec![CONFIGURATION.fail(self.problems.join("; "), mend)];
        }
        match self.problems.first() {
            None => vec![CONFIGURATION.ok(format!("{shown} is valid"))],
            Some(first) if self.problems.iter().all(|p| credentials::is_missing(p)) => {
                vec![CONFIGURATION.unknown(
                    format!("{shown} is valid as far as it can be read: {first}"),
                    "systemctl start hoop",
                )]
            }
            // Read without its secrets.
            Some(first) if self.root => {
                vec![CONFIGURATION.fail(first.clone(), format!("hoop check --config {shown}"))]
            }
            Some(_) => vec![CONFIGURATION.unknown(
                format!("{shown} is valid as far as it can be read; its secrets cannot"),
                "sudo hoop doctor",
            )],
        }
    }

    pub fn agents(&self) -> &[Agent] {
        self.config.as_ref().map_or(&[], |config| &config.agents)
    }

    pub fn capture(&self) -> config::Capture {
        match &self.config {
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
