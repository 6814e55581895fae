//! Asking the running daemon.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::ConfigArg;
use crate::keeper::control::{self, Ask};

/// Which daemon is asked.
#[derive(clap::Args, Clone, Debug)]
pub struct DaemonArg {
    #[command(flatten)]
    config: ConfigArg,
    /// The daemon's runtime folder, instead of the one that the configuration names
    #[arg(long, value_name = "FOLDER")]
    runtime: Option<PathBuf>,
}

impl DaemonArg {
    pub fn ask(&self, ask: &Ask) -> Result<serde_json::Value> {
        Ok(control::ask(&self.folder(), ask)?)
    }

    /// The same, waiting so long for the answer.
    pub fn ask_within(&self, ask: &Ask, patience: Duration) -> Result<serde_json::Value> {
        Ok(control::ask_within(&self.folder(), ask, patience)?)
    }

    fn folder(&self) -> PathBuf {
        let named = self.runtime.clone();
        named.unwrap_or_else(|| runtime_of(&self.config.config))
    }

    /// The slice that the configuration names, or the one that is attached to without it.
    pub fn attach(&self) -> String {
        let named = value_of(&self.config.config, "capture", "attach");
        named.unwrap_or_else(|| "agents.slice".to_owned())
    }
}

/// The runtime folder that a configuration names.
fn runtime_of(config: &Path) -> PathBuf {
    let folder = value_of(config, "worker", "runtime");
    folder.unwrap_or_else(|| "/run/hoop".to_owned()).into()
}

/// One text of a configuration. Read with as little of it as possible: the daemon must be reachable
/// just when its file is being edited, and by those who may not read the secrets that it names.
fn value_of(config: &Path, table: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(config).ok()?;
    let whole: toml::Table = toml::from_str(&text).ok()?;
    Some(whole.get(table)?.get(key)?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtime_folder_is_found_even_in_a_broken_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hoop.toml");
        std::fs::write(&file, "[worker]\nruntime = \"/run/other\"\nnonsense = 1\n").unwrap();
        assert_eq!(runtime_of(&file), Path::new("/run/other"));
        std::fs::write(&file, "[worker\n").unwrap();
        assert_eq!(runtime_of(&file), Path::new("/run/hoop"));
        assert_eq!(
            runtime_of(Path::new("/nonexistent")),
            Path::new("/run/hoop")
        );
    }
}
