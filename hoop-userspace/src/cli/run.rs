//! `hoop run`: the daemon in the foreground.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::{ConfigArg, log::LogArgs};
use crate::keeper::{self, upgrade};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    log: LogArgs,
    /// Say whether this build could take over from the daemon that asks, and change nothing
    #[arg(long, hide = true, conflicts_with = "luggage")]
    rehearse: bool,
    /// Take over from the build that this process was: what it hands over is on standard input
    #[arg(long, hide = true)]
    luggage: bool,
}

pub fn run(args: Args) -> Result<ExitCode> {
    args.log.start()?;
    let start = keeper::Start {
        config: args.config.config,
        worker_arguments: args.log.to_arguments(),
        program: program().context("cannot tell which file this is")?,
        takes_over: args.luggage,
    };
    if args.rehearse {
        return Ok(match upgrade::rehearsal::rehearse(&start)? {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        });
    }
    keeper::run(&start)?;
    Ok(ExitCode::SUCCESS)
}

/// Looked up now: when a package manager has replaced the file, the name is no longer told.
fn program() -> std::io::Result<PathBuf> {
    std::fs::read_link("/proc/self/exe")
}
