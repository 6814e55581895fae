//! `hoop run`: the daemon in the foreground.

use std::process::ExitCode;

use anyhow::Result;

use super::{ConfigArg, log::LogArgs};
use crate::keeper;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    log: LogArgs,
}

pub fn run(args: Args) -> Result<ExitCode> {
    args.log.start()?;
    keeper::run(&keeper::Start {
        config: args.config.config,
        worker_arguments: args.log.to_arguments(),
    })?;
    Ok(ExitCode::SUCCESS)
}
