//! `cargo xtask load|unload|status`: the kernel programs on one cgroup, without a daemon.
//!
//! Loaded and alone they refuse every connection of that cgroup, which is what happens when the
//! daemon ends: these commands are for looking at exactly that.

use anyhow::Result;

use crate::products::{self, Profile};
use crate::{setup, shell};

#[derive(clap::Args)]
pub struct Arguments {
    /// The cgroup, below the cgroup2 mount; never the root
    #[arg(long)]
    cgroup: String,
    /// Where links and maps are pinned
    #[arg(long, default_value = "/sys/fs/bpf/hoop-xtask")]
    pins: String,
}

/// `what` is the subcommand of `hoop capture`.
pub fn run(what: &str, arguments: &Arguments) -> Result<()> {
    setup::require_root(&format!("`cargo xtask {what}`"))?;
    products::build(Profile::Dev)?;
    let mut hoop = shell::command(products::program(Profile::Dev, "hoop"));
    hoop.args([
        "capture",
        what,
        "--cgroup",
        &arguments.cgroup,
        "--pins",
        &arguments.pins,
    ]);
    shell::run(&mut hoop)
}
