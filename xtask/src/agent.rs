//! `cargo xtask agent -- COMMAND…`: any command, unmodified, as the agent of a world that stays.

use std::ffi::OsString;

use anyhow::{Result, bail};

use crate::products::{self, Profile};
use crate::shell;

#[derive(clap::Args)]
pub struct Arguments {
    /// Run outside the agent's cgroup, straight to the server, for comparison
    #[arg(long)]
    direct: bool,
    /// Which of the world's agents
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let program = products::program(Profile::Dev, "hoop-world");
    if !program.exists() {
        bail!("no world is up: start one with `cargo xtask demo --stay` in another terminal");
    }
    // Not shell::command: the caller's working directory is part of "any command".
    let mut world = std::process::Command::new(program);
    world.arg("agent");
    if arguments.direct {
        world.arg("--direct");
    }
    if let Some(agent) = &arguments.agent {
        world.arg("--agent").arg(agent);
    }
    shell::become_it(world.arg("--").args(&arguments.command))
}
