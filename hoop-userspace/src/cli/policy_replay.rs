//! `hoop policy replay`: what was recorded, decided again under other policies.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Result, anyhow, bail};

use super::sessions::DirectoryArg;
use super::since;
use super::visible::visible;
use crate::config::{Bundle, Config};
use crate::trial::changes::{Change, Changes, Totals, changes};
use crate::trial::recorded::Filter;

/// Some verdict changes.
const CHANGES: u8 = 1;
/// Nothing can be said, or not of everything.
const FAILED: u8 = 2;

#[derive(clap::Args)]
pub struct Args {
    /// The other policies: a directory of *.cedar files instead of the configuration's
    #[arg(long, value_name = "DIR")]
    policy: PathBuf,
    /// A pack beside them, instead of the configuration's; may be repeated
    #[arg(long = "use", value_name = "PACK")]
    packs: Vec<String>,
    /// No packs beside them
    #[arg(long, conflicts_with = "packs")]
    no_packs: bool,
    #[command(flatten)]
    directory: DirectoryArg,
    /// Only what happened since then: 90s, 30m, 12h, 7d, a date or an RFC 3339 time
    #[arg(long, value_name = "WHEN", value_parser = since::parse)]
    since: Option<SystemTime>,
    /// Only of this agent
    #[arg(long)]
    agent: Option<String>,
    /// Only on this resource
    #[arg(long)]
    resource: Option<String>,
    /// Tell the N most frequent changes
    #[arg(long, value_name = "N", default_value_t = 100)]
    top: usize,
    /// Print one JSON object per line, the last of which sums up
    #[arg(long)]
    json: bool,
}

/// 0 if no verdict changes, 1 if one does, 2 if that cannot be said.
pub fn run(args: Args) -> ExitCode {
    match compared(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("hoop: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn compared(args: Args) -> Result<u8> {
    let config = args.directory.config()?;
    let other = other(&config, &args)?;
    let directory = args.directory.directory()?;
    if !directory.is_dir() {
        bail!("there are no recordings in {}", directory.display());
    }
    let filter = Filter {
        since: args.since,
        agent: args.agent,
        resource: args.resource,
    };
    let found = changes(&directory, &config, &other, &filter);
    let found = found.map_err(|why| anyhow!("{why}"))?;
    for error in &found.unreadable {
        eprintln!("hoop: {error}");
    }
    match args.json {
        true => {
            for change in found.changes.iter().take(args.top) {
                println!("{}", serde_json::to_string(change)?);
            }
            let totals = serde_json::json!({ "totals": found.totals });
            println!("{totals}");
        }
        false => print!("{}", for_people(&found, args.top)),
    }
    if found.totals.decided == 0 {
        eprintln!("hoop: nothing was decided again, and so nothing can be said");
        return Ok(FAILED);
    }
    Ok(match (found.totals.unreadable, found.totals.changed) {
        (0, 0) => 0,
        (0, _) => CHANGES,
        _ => FAILED,
    })
}

fn other(config: &Config, args: &Args) -> Result<Config> {
    let mut other = config.clone();
    other.policy.files = Bundle::policies_of(&args.policy).map_err(|why| anyhow!("{why}"))?;
    if args.no_packs || !args.packs.is_empty() {
        other.policy.packs = args.packs.clone();
    }
    if other.policy.files.is_empty() && args.packs.is_empty() && !args.no_packs {
        bail!(
            "{} holds no policies (*.cedar): if packs alone are meant, name them with --use",
            args.policy.display()
        );
    }
    if other.policy.files.is_empty() && other.policy.packs.is_empty() {
        bail!(
            "{} holds no policies (*.cedar), and there are no packs",
            args.policy.display()
        );
    }
    Ok(other)
}

fn for_people(found: &Changes, top: usize) -> String {
    let mut text = String::new();
    for change in found.changes.iter().take(top) {
        text.push_str(&paragraph(change));
        text.push('\n');
    }
    text.push_str(&summary(&found.totals, found.changes.len(), top));
    text
}

fn paragraph(change: &Change) -> String {
    let or_dash = |text: &Option<String>| text.as_deref().map_or("-".into(), visible);
    let by = |rules: &[String]| match rules.is_empty() {
        true => "no rule".to_owned(),
        false => visible(&rules.join(", ")),
    };
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "{:>6} x {} -> {}: {} on {}",
        change.count,
        change.was.name(),
        change.becomes.name(),
        or_dash(&change.agent),
        or_dash(&change.resource)
    );
    if let Some(place) = &change.place {
        let _ = write!(text, "/{}", visible(place));
    }
    let _ = writeln!(text, "\n         {}", visible(&change.shape));
    let code = change.code.iter().map(|code| format!(" ({code})"));
    let code: String = code.collect();
    let _ = writeln!(
        text,
        "         by {} then, by {} now{code}",
        by(&change.was_by),
        by(&change.becomes_by)
    );
    for demand in &change.demands {
        let _ = writeln!(text, "         asks {}", visible(demand));
    }
    if change.configured != change.was {
        let _ = writeln!(
            text,
            "         the configured policies say {} by now as well: they, or what they go by, have changed since",
            change.configured.name()
        );
    }
    let sessions = match change.sessions {
        1 => "1 session".to_owned(),
        several => format!("{several} sessions"),
    };
    let _ = writeln!(
        text,
        "         {sessions}; exchange {} of `hoop replay {}`",
        change.example.exchange, change.example.session
    );
    text
}

fn summary(totals: &Totals, rows: usize, top: usize) -> String {
    let mut text = format!(
        "{} decided again, {} of them otherwise ({} of {rows} shown)\n",
        totals.decided,
        totals.changed,
        rows.min(top)
    );
    let not: u64 = totals.not_decided.values().sum();
    if not > 0 {
        let _ = writeln!(text, "{not} could not be decided again:");
        for (why, count) in &totals.not_decided {
            let _ = writeln!(text, "{count:>6} x {why}");
        }
    }
    if totals.without_catalog > 0 {
        let _ = writeln!(
            text,
            "{} were decided as if the database's catalog were out of reach",
            totals.without_catalog
        );
    }
    if totals.activity {
        text.push_str(
            "these policies speak of activity: each was decided as if nothing had happened before\n",
        );
    }
    if totals.not_told_apart > 0 {
        let _ = writeln!(
            text,
            "{} of the changes were of further shapes, which were too many to tell apart",
            totals.not_told_apart
        );
    }
    if totals.unreadable > 0 {
        let _ = writeln!(
            text,
            "{} recordings could not be read to their end, and count as far as they could",
            totals.unreadable
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::policy::Verdict;
    use crate::trial::report::Example;

    #[test]
    fn what_agents_name_ends_no_line() {
        let forged = "x\n     9 x allow -> refuse\u{1b}[2J";
        let change = Change {
            was: Verdict::Allow,
            becomes: Verdict::Refuse,
            configured: Verdict::Allow,
            count: 1,
            sessions: 1,
            agent: Some(forged.into()),
            resource: Some(forged.into()),
            place: Some(forged.into()),
            protocol: "ssh".into(),
            was_by: vec![forged.into()],
            becomes_by: Vec::new(),
            code: Some("not_permitted".into()),
            demands: Vec::new(),
            shape: forged.into(),
            fingerprint: None,
            example: Example {
                session: "01k".into(),
                exchange: 1,
            },
        };
        let text = paragraph(&change);
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
