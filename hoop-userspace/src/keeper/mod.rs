//! The privileged process: captures, accepts, attributes, reads what only root may read, and hands
//! each socket to the worker. It parses nothing that an agent sends.

pub mod cgroups;
pub mod control;
pub mod folders;
pub mod journal;
pub mod names;
pub mod notify;
pub mod seen;
pub mod status;
pub mod supervise;

use std::path::PathBuf;

/// How the keeper was started.
#[derive(Clone, Debug)]
pub struct Start {
    pub config: PathBuf,
    /// Passed on to each worker.
    pub worker_arguments: Vec<String>,
}

/// Why the keeper cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    #[error("the keeper must be started as root")]
    NotRoot,
}

/// Runs the daemon until it is told to stop.
pub fn run(_start: &Start) -> Result<(), KeeperError> {
    Err(KeeperError::NotRoot)
}
