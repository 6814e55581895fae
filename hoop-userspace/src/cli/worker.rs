//! `hoop worker` and `hoop serve-console`: not for people. The keeper starts them, with their socket as
//! standard input.

use std::process::ExitCode;

use anyhow::Result;

use super::log::LogArgs;
use crate::{console, worker};

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

pub fn serve_console(args: Args) -> Result<ExitCode> {
    args.log.start()?;
    console::run(&args.user)?;
    Ok(ExitCode::SUCCESS)
}
