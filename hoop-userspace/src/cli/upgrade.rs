//! `hoop upgrade`: another build takes over from the running daemon, in place.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::control::DaemonArg;
use crate::keeper::control::Ask;

/// For the build to be tried, to take over, and to have a worker ready.
const PATIENCE: Duration = Duration::from_secs(150);

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    daemon: DaemonArg,
    /// The program to go on as; by default the file that the daemon was started from, as it is now
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Only say whether it could take over
    #[arg(long)]
    check: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let to = args.to.map(std::path::absolute).transpose();
    let ask = Ask::Upgrade {
        to: to.context("the program has no path")?,
        check: args.check,
    };
    let answer = args.daemon.ask_within(&ask, PATIENCE)?;
    match args.json {
        true => println!("{answer}"),
        false => println!("{}", text(&answer)),
    }
    Ok(ExitCode::SUCCESS)
}

fn text(answer: &Value) -> String {
    let word = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or("?");
    let (from, to, program) = (word("from"), word("to"), word("program"));
    if answer.get("upgraded") != Some(&Value::Bool(true)) {
        return format!(
            "hoop {to} ({program}) could take over from hoop {from}; nothing has changed"
        );
    }
    let number = |key: &str| answer.get(key).and_then(Value::as_u64).unwrap_or_default();
    let retiring = answer.get("retiring").and_then(Value::as_array);
    let retiring = match retiring.map_or(0, Vec::len) {
        1 => "one worker from before goes on".to_owned(),
        n => format!("{n} workers from before go on"),
    };
    format!(
        "hoop {to} ({program}) has taken over from hoop {from}: keeper {}, worker {}; {retiring} with the sessions that there are, see `hoop status`",
        number("keeper"),
        number("worker"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_told() {
        let checked = serde_json::json!({
            "from": "0.1.0", "to": "0.2.0", "program": "/usr/bin/hoop", "upgraded": false,
        });
        assert!(text(&checked).contains("could take over from hoop 0.1.0"));
        let done = serde_json::json!({
            "from": "0.1.0", "to": "0.2.0", "program": "/usr/bin/hoop", "upgraded": true,
            "keeper": 7, "worker": 9, "retiring": [8],
        });
        let done = text(&done);
        assert!(done.contains("keeper 7, worker 9; one worker"), "{done}");
    }
}
