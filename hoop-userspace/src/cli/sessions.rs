//! `hoop sessions`: what was recorded, a line for each.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, Result};

use super::{ConfigArg, since};
use crate::config::Bundle;
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
            return Ok(directory.clone());
        }
        let config = Bundle::without_secrets(&self.config.config)
            .context("the configuration says where recordings are; or give --directory")?;
        Ok(config.record.directory)
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
pub struct Args {
    #[command(flatten)]
    directory: DirectoryArg,
    /// Only this agent's
    #[arg(long)]
    agent: Option<String>,
    /// Only those to this resource
    #[arg(long)]
    resource: Option<String>,
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

pub fn run(args: Args) -> Result<ExitCode> {
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
