//! `hoop discover`: what agents in discover mode reached, and what the kernel refused to others:
//! the material from which an operator writes resources and `egress_allow`.

use std::process::ExitCode;

use anyhow::{Context, Result};

use super::control::DaemonArg;
use crate::keeper::control::Ask;
use crate::keeper::seen::{Row, Verdict};
use crate::keeper::status::stamp;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    daemon: DaemonArg,
    /// Only this agent
    #[arg(long)]
    agent: Option<String>,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let answer = args.daemon.ask(&Ask::Discover)?;
    let rows: Vec<Row> =
        serde_json::from_value(answer).context("the daemon is of another version")?;
    let wanted = |row: &&Row| args.agent.is_none() || row.key.agent == args.agent;
    for row in rows.iter().filter(wanted) {
        if args.json {
            println!("{}", serde_json::to_string(row)?);
        } else {
            println!("{}", line(row));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(row: &Row) -> String {
    let verdict = match row.key.verdict {
        Verdict::Passed => "passed ",
        Verdict::Refused => "refused",
    };
    let names = if row.names.is_empty() {
        String::new()
    } else {
        format!(" ({})", row.names.join(", "))
    };
    let why = row
        .key
        .why
        .as_ref()
        .map(|why| format!(": {why}"))
        .unwrap_or_default();
    let who = row.key.agent.as_deref().unwrap_or(&row.key.cgroup);
    format!(
        "{verdict} {:>6}x  {who}  {}  {} {}{names}{why}  last {}",
        row.count,
        row.key.executable,
        row.key.how,
        row.key.destination,
        stamp(row.last),
    )
}
