//! `hoop worker`: not for people. The keeper starts it, with their socket as standard input.

use std::process::ExitCode;

use anyhow::Result;

use super::log::LogArgs;
use crate::worker;

#[derive(clap::Args)]
pub struct Args {
    /// The account to become
    #[arg(long)]
    user: String,
    #[command(flatten)]
    log: LogArgs,
}

pub fn run(args: Args) -> Result<ExitCode> {
    args.log.start()?;
    worker::run(&args.user)?;
    Ok(ExitCode::SUCCESS)
}
