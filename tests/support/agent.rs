//! Running any command, unmodified, as an agent or past hoop.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::enter;
use crate::state::State;

/// Who runs a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who<'a> {
    /// In that agent's cgroup.
    Agent(&'a str),
    /// Outside every agent's cgroup: nothing captures it.
    Direct,
}

impl State {
    /// The command as that one would start it: cgroup, hostnames and environment; arguments follow.
    pub fn command(&self, who: Who<'_>, program: impl AsRef<OsStr>) -> Result<Command> {
        let cgroup: PathBuf = match who {
            Who::Agent(name) => {
                let known = || self.agents.keys().cloned().collect::<Vec<_>>().join(", ");
                let agent = self.agents.get(name);
                agent
                    .with_context(|| format!("no agent {name:?}; there are {}", known()))?
                    .clone()
            }
            Who::Direct => self.outside.clone(),
        };
        let mut command =
            enter::command(Some(&cgroup), Some(&self.mounts), None, program.as_ref())?;
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command.envs(&self.environment);
        if who == Who::Direct {
            command.env("PGPASSWORD", &self.password);
        }
        Ok(command)
    }
}
