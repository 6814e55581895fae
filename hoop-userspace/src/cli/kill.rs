//! `hoop kill SESSION`: ends a session that goes on now; the client and the recording are told why.

use std::process::ExitCode;

use anyhow::Result;

use super::control::DaemonArg;
use crate::keeper::control::Ask;

#[derive(clap::Args)]
pub struct Args {
    /// The session, as `hoop status` prints it
    session: String,
    /// Why; the client reads it
    #[arg(long, default_value = "no reason was given")]
    reason: String,
    #[command(flatten)]
    daemon: DaemonArg,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let Args {
        session,
        reason,
        daemon,
        json,
    } = args;
    let answer = daemon.ask(&Ask::Kill {
        session: session.clone(),
        reason,
    })?;
    if json {
        println!("{answer}");
    } else {
        println!("{session} was told to end");
    }
    Ok(ExitCode::SUCCESS)
}
