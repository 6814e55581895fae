//! `hoop sessions`: what was recorded, a line for each; `hoop sessions kill` ends what goes on now,
//! `freeze` and `thaw` have it stand still and go on.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};

use super::control::DaemonArg;
use super::{ConfigArg, since};
use crate::config::{Bundle, Config};
use crate::keeper::control::Ask;
use crate::replay::{Summary, list};

/// Where recordings are.
#[derive(clap::Args, Clone, Debug)]
pub struct DirectoryArg {
    #[command(flatten)]
    config: ConfigArg,
    /// The recordings' directory, instead of the configuration's
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl DirectoryArg {
    pub fn directory(&self) -> Result<PathBuf> {
        if let Some(directory) = &self.directory {
            // Of a configured one that hoop has not made yet nothing is wrong.
            ensure!(
                directory.is_dir(),
                "there is no directory {}",
                directory.display()
            );
            return Ok(directory.clone());
        }
        let config = Bundle::without_secrets(&self.config.config)
            .context("the configuration says where recordings are; or give --directory")?;
        Ok(config.record.directory)
    }

    /// The configuration; where recordings are need not be read from it.
    pub fn config(&self) -> Result<Config> {
        Ok(Bundle::without_secrets(&self.config.config)?)
    }

    /// The configuration where there is one: `None` if its file is absent and `--directory` says where
    /// recordings are.
    pub fn config_if_any(&self) -> Result<Option<Config>> {
        match self.directory.is_some() && !self.config.config.exists() {
            true => Ok(None),
            false => self.config().map(Some),
        }
    }

    /// Where this host keeps its keys and ledgers; not known where the recordings may be another's.
    pub fn state(&self) -> Option<PathBuf> {
        if self.directory.is_some() {
            return None;
        }
        let config = Bundle::without_secrets(&self.config.config).ok()?;
        Some(config.worker.state)
    }

    /// Where the ledgers are, as far as that is known.
    pub fn ledgers(&self) -> Option<PathBuf> {
        let state = self.state()?;
        Some(state.join(crate::keeper::folders::KEEPER))
    }
}

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    directory: DirectoryArg,
    /// Only this agent's
    #[arg(long)]
    agent: Option<String>,
    /// Only those to this resource
    #[arg(long)]
    resource: Option<String>,
    /// Only those under a service account's identity, or a user's
    #[arg(long, value_name = "KIND", value_parser = ["service", "user"])]
    kind: Option<String>,
    /// Only those in which something was refused
    #[arg(long)]
    refused: bool,
    /// Only those that began since then: 90s, 30m, 12h, 7d, a date or an RFC 3339 time
    #[arg(long, value_name = "WHEN", value_parser = since::parse)]
    since: Option<SystemTime>,
    /// Only the last N
    #[arg(long, value_name = "N")]
    last: Option<usize>,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Command {
    /// End a session, or all of an agent's; client and recording are told why
    Kill(Kill),
    /// Hold a session's client until somebody has looked; it ends if nobody lets it go on
    Freeze(Freeze),
    /// Let a frozen session go on
    Thaw(Thaw),
}

#[derive(clap::Args)]
struct Freeze {
    /// How long at most, in seconds; as long as a question waits if left out
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u32>,
    #[command(flatten)]
    how: Thaw,
}

#[derive(clap::Args)]
struct Thaw {
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

#[derive(clap::Args)]
struct Kill {
    #[command(flatten)]
    which: Which,
    /// Why; the client reads it
    #[arg(long, default_value = "no reason was given")]
    reason: String,
    #[command(flatten)]
    daemon: DaemonArg,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The session, as `hoop status` prints it
    session: Option<String>,
    /// All sessions of this agent
    #[arg(long)]
    agent: Option<String>,
}

fn kill(kill: Kill) -> Result<ExitCode> {
    let Kill {
        which,
        reason,
        daemon,
        json,
    } = kill;
    let ask = match which {
        Which {
            session: Some(session),
            ..
        } => Ask::Kill { session, reason },
        Which { agent, .. } => Ask::KillAgent {
            agent: agent.unwrap_or_default(),
            reason,
        },
    };
    let answer = daemon.ask(&ask)?;
    if json {
        println!("{answer}");
        return Ok(ExitCode::SUCCESS);
    }
    match answer.get("killed").and_then(|killed| killed.as_array()) {
        None => println!(
            "{} was told to end",
            answer
                .get("session")
                .and_then(|id| id.as_str())
                .unwrap_or("?")
        ),
        Some(killed) if killed.is_empty() => println!("no session of it goes on now"),
        Some(killed) => {
            for session in killed.iter().filter_map(|session| session.as_str()) {
                println!("{session} was told to end");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn freeze(how: Thaw, seconds: Option<u32>) -> Result<ExitCode> {
    let ask = Ask::Freeze {
        session: how.session,
        reason: how.reason,
        seconds,
    };
    let answer = how.daemon.ask(&ask)?;
    let word = |key: &str| answer.get(key).and_then(|value| value.as_str());
    match how.json {
        true => println!("{answer}"),
        false => println!(
            "{} stands still, and ends at {} unless `hoop sessions thaw` lets it go on",
            word("session").unwrap_or("?"),
            word("until").unwrap_or("?")
        ),
    }
    Ok(ExitCode::SUCCESS)
}

fn thaw(how: Thaw) -> Result<ExitCode> {
    let ask = Ask::Thaw {
        session: how.session,
        reason: how.reason,
    };
    let answer = how.daemon.ask(&ask)?;
    let session = answer.get("session").and_then(|value| value.as_str());
    match how.json {
        true => println!("{answer}"),
        false => println!("{} goes on", session.unwrap_or("?")),
    }
    Ok(ExitCode::SUCCESS)
}

pub fn run(args: Args) -> Result<ExitCode> {
    match args.command {
        Some(Command::Kill(which)) => return kill(which),
        Some(Command::Freeze(freeze)) => return self::freeze(freeze.how, freeze.seconds),
        Some(Command::Thaw(how)) => return thaw(how),
        None => {}
    }
    let mut unreadable = 0;
    let mut found = Vec::new();
    for summary in list(&args.directory.directory()?, args.since) {
        match summary {
            Ok(summary) if args.wants(&summary) => found.push(summary),
            Ok(_) => {}
            Err(error) => {
                unreadable += 1;
                eprintln!("hoop: {error}");
            }
        }
    }
    let skip = args.last.map_or(0, |last| found.len().saturating_sub(last));
    for summary in found.iter().skip(skip) {
        if args.json {
            println!("{}", serde_json::to_string(summary)?);
        } else {
            println!("{}", line(summary));
        }
    }
    Ok(if unreadable == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Args {
    fn wants(&self, summary: &Summary) -> bool {
        let same = |wanted: &Option<String>, is: &Option<String>| wanted.is_none() || wanted == is;
        same(&self.agent, &summary.agent)
            && same(&self.resource, &summary.resource)
            && same(&self.kind, &summary.kind)
            && (!self.refused || summary.refusals > 0)
    }
}

fn line(s: &Summary) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
    let end = match (&s.end, s.sealed) {
        (Some(end), true) => end.clone(),
        (Some(end), false) => format!("{end}, unsealed"),
        (None, _) => "open".into(),
    };
    format!(
        "{}  {}  {}  {} {}  {} forwarded, {} refused, {} rows  {end}",
        s.session,
        s.started.get(..19).unwrap_or(&s.started),
        text(&s.agent),
        text(&s.resource),
        s.destination,
        s.requests,
        s.refusals,
        s.rows,
    )
}
