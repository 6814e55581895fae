//! Becoming a command at a certain place: a cgroup, a mount namespace, an account.
//!
//! A small program of its own (`hoop-world enter`) does this, because doing it between fork and
//! exec in a threaded test would need `unsafe`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use nix::sched::CloneFlags;
use nix::sys::signal::SigSet;

use crate::files;

#[derive(clap::Args)]
pub struct Arguments {
    /// The cgroup's folder
    #[arg(long)]
    cgroup: Option<PathBuf>,
    /// The mount namespace, as a file below /proc
    #[arg(long)]
    mounts: Option<PathBuf>,
    /// The account
    #[arg(long)]
    user: Option<String>,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// The command that becomes `program` at a place; arguments are appended to it.
pub fn command(
    cgroup: Option<&std::path::Path>,
    mounts: Option<&std::path::Path>,
    user: Option<&str>,
    program: &std::ffi::OsStr,
) -> Result<Command> {
    let mut command = Command::new(files::program("hoop-world")?);
    command.arg("enter");
    if let Some(cgroup) = cgroup {
        command.arg("--cgroup").arg(cgroup);
    }
    if let Some(mounts) = mounts {
        command.arg("--mounts").arg(mounts);
    }
    if let Some(user) = user {
        command.arg("--user").arg(user);
    }
    command.arg("--").arg(program);
    Ok(command)
}

/// Returns only if it failed.
pub fn run(arguments: &Arguments) -> Result<()> {
    let here = std::env::current_dir().unwrap_or_else(|_| "/".into());
    if let Some(cgroup) = &arguments.cgroup {
        let procs = cgroup.join("cgroup.procs");
        // 0 is whoever writes.
        std::fs::write(&procs, "0").with_context(|| format!("cannot enter {}", procs.display()))?;
    }
    if let Some(mounts) = &arguments.mounts {
        let file = std::fs::File::open(mounts)
            .with_context(|| format!("the world is gone: cannot open {}", mounts.display()))?;
        nix::sched::setns(file, CloneFlags::CLONE_NEWNS).context("cannot enter its mounts")?;
        // Entering moved us to the root folder.
        std::env::set_current_dir(&here).or_else(|_| std::env::set_current_dir("/"))?;
    }
    if let Some(user) = &arguments.user {
        files::become_user(user)?;
    }
    // Whoever holds back Ctrl-C for itself must not hold it back for what it starts.
    SigSet::empty()
        .thread_set_mask()
        .context("cannot let signals through")?;
    let (program, rest) = arguments.command.split_first().context("no command")?;
    let error = Command::new(program).args(rest).exec();
    Err(error).with_context(|| format!("cannot start {}", program.to_string_lossy()))
}
