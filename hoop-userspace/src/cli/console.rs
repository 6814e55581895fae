//! `hoop console login`: a way in that needs no issuer, for whoever may use the control socket.

use std::process::ExitCode;

use anyhow::Result;

use super::control::DaemonArg;
use crate::keeper::control::Ask;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Print an address that signs you in, once and within two minutes
    Login {
        #[command(flatten)]
        daemon: DaemonArg,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

pub fn run(args: Args) -> Result<ExitCode> {
    let Command::Login { daemon, json } = args.command;
    let answer = daemon.ask(&Ask::ConsoleLogin)?;
    match json {
        true => println!("{answer}"),
        false => {
            let url = answer.get("url").and_then(|url| url.as_str());
            println!("{}", url.unwrap_or_default());
        }
    }
    Ok(ExitCode::SUCCESS)
}
