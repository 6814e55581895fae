//! What another process must know to act in a world: `cargo xtask agent` reads it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::files;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    pub folder: PathBuf,
    /// The mount namespace in which the original hostnames resolve.
    pub mounts: PathBuf,
    /// Each agent's cgroup, by its name.
    pub agents: BTreeMap<String, PathBuf>,
    /// A cgroup that no agent's mapping covers.
    pub outside: PathBuf,
    /// What every client gets, agent or not.
    pub environment: BTreeMap<String, String>,
    /// The role's real password, for direct connections only.
    pub password: String,
    /// hoop's configuration file.
    pub config: PathBuf,
}

impl State {
    pub fn save(&self) -> Result<()> {
        files::write(&place()?, serde_json::to_vec_pretty(self)?)
    }

    /// The world that `demo --stay` left up.
    pub fn load() -> Result<Self> {
        let hint = "start one with `cargo xtask demo --stay` in another terminal";
        let text = files::read(&place()?).with_context(|| format!("no world is up: {hint}"))?;
        let state: Self = serde_json::from_str(&text)?;
        if !state.mounts.exists() {
            bail!("the last world is gone: {hint}");
        }
        Ok(state)
    }

    pub fn forget(&self) {
        if let Ok(place) = place() {
            std::fs::remove_file(place).ok();
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

fn place() -> Result<PathBuf> {
    Ok(files::target()?.join("world.json"))
}
