//! `hoop agent suspend|resume`: an agent may do nothing, or may go on. Neither asks the issuer.

use std::process::ExitCode;

use anyhow::Result;

use super::control::DaemonArg;
use crate::keeper::control::Ask;
use crate::keeper::status::BypassStatus;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// End all that an agent does now, and refuse it until it is resumed
    Suspend(Change),
    /// Let a suspended agent go on
    Resume(Change),
}

#[derive(clap::Args)]
struct Change {
    /// The agent's name in the configuration
    agent: String,
    /// Only this instance: what stands for the `*` of the agent's cgroup
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    /// Why; the agent reads it, and the ledger keeps it
    #[arg(long, default_value = "no reason was given")]
    reason: String,
    #[command(flatten)]
    daemon: DaemonArg,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let (change, suspend) = match args.command {
        Command::Suspend(change) => (change, true),
        Command::Resume(change) => (change, false),
    };
    let Change {
        agent,
        instance,
        reason,
        daemon,
        json,
    } = change;
    let shown = match &instance {
        Some(instance) => format!("{agent}, instance {instance},"),
        None => agent.clone(),
    };
    let ask = if suspend {
        Ask::Suspend {
            agent,
            instance,
            reason,
        }
    } else {
        Ask::Resume {
            agent,
            instance,
            reason,
        }
    };
    let answer = daemon.ask(&ask)?;
    if json {
        println!("{answer}");
    } else if !suspend {
        println!("{shown} may go on");
    } else if answer.get("changed").is_some_and(|changed| changed == true) {
        println!("{shown} is suspended until `hoop agent resume`");
    } else {
        println!("{shown} was suspended already");
    }
    bypasses(&daemon);
    Ok(ExitCode::SUCCESS)
}

/// What goes past hoop meanwhile is said wherever agents are stopped or let go on.
fn bypasses(daemon: &DaemonArg) {
    let answer = daemon.ask(&Ask::Bypasses).unwrap_or_default();
    let bypasses: Vec<BypassStatus> = serde_json::from_value(answer).unwrap_or_default();
    for bypass in bypasses {
        eprintln!("{}", bypass.line());
    }
}
