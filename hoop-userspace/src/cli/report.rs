//! `hoop report`: what was refused, asked about or masked, or would have been, by rule, agent and
//! shape; and the narrowest policy that would let what was refused pass.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Result, anyhow, bail};

use super::sessions::DirectoryArg;
use super::since;
use super::visible::visible;
use crate::config::{Bundle, Config};
use crate::trial::recorded::Filter;
use crate::trial::report::{Kind, Report, Row, Totals, report};

#[derive(clap::Args)]
pub struct Args {
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
    /// Tell the N most frequent
    #[arg(long, value_name = "N", default_value_t = 50)]
    top: usize,
    /// Print one JSON object per line, the last of which sums up
    #[arg(long)]
    json: bool,
}

/// 1 if a recording could not be read.
pub fn run(args: Args) -> Result<ExitCode> {
    let directory = args.directory.directory()?;
    if !directory.is_dir() {
        bail!("there are no recordings in {}", directory.display());
    }
    let config = args.directory.config_if_any()?;
    let known = config.is_some();
    let config = match config {
        Some(config) => config,
        None => Config::from_bundle(&Bundle::from_text(Path::new("hoop.toml"), ""))?,
    };
    let filter = Filter {
        since: args.since,
        agent: args.agent,
        resource: args.resource,
    };
    let report = report(&directory, &config, known, &filter, args.top);
    let report = report.map_err(|why| anyhow!("{why}"))?;
    for error in &report.unreadable {
        eprintln!("hoop: {error}");
    }
    match args.json {
        true => {
            for row in &report.rows {
                println!("{}", serde_json::to_string(row)?);
            }
            let totals = serde_json::json!({ "totals": report.totals });
            println!("{totals}");
        }
        false => print!("{}", for_people(&report)),
    }
    Ok(match report.totals.unreadable {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn for_people(report: &Report) -> String {
    let mut text = String::new();
    for row in &report.rows {
        text.push_str(&paragraph(row));
        text.push('\n');
    }
    text.push_str(&summary(&report.totals, report.rows.len()));
    text
}

fn paragraph(row: &Row) -> String {
    let or_dash = |text: &Option<String>| text.as_deref().map_or("-".into(), visible);
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "{:>6} x {}: {} on {}",
        row.count,
        row.kind.words(),
        or_dash(&row.agent),
        or_dash(&row.resource)
    );
    if let Some(place) = &row.place {
        let _ = write!(text, "/{}", visible(place));
    }
    // Of a database it is the resource's own.
    if let Some(login) = row.login.as_ref().filter(|_| row.protocol != "postgres") {
        let _ = write!(text, " as {}", visible(login));
    }
    let _ = writeln!(text, "{}", why(row));
    let _ = writeln!(text, "         {}", visible(&row.shape));
    let values = match row.values {
        0 => String::new(),
        values => format!("{values} values, "),
    };
    let sessions = match row.sessions {
        1 => "1 session".to_owned(),
        several => format!("{several} sessions"),
    };
    let _ = writeln!(
        text,
        "         {values}{sessions}, last {}; exchange {} of `hoop replay {}`",
        row.last.get(..19).unwrap_or(&row.last),
        row.example.exchange,
        row.example.session
    );
    if let Some(permit) = &row.permit {
        let covers = match row.protocol.as_str() {
            "postgres" => ", whatever its constants are",
            "ssh" => ", whatever arguments it has that are not named here",
            _ => "",
        };
        let _ = writeln!(text, "         this would let it through{covers}:");
        for line in permit.lines() {
            let _ = writeln!(text, "           {line}");
        }
    }
    if let Some(why) = &row.no_permit {
        let _ = writeln!(text, "         no permit is proposed: {}", visible(why));
    }
    text
}

fn why(row: &Row) -> String {
    let rules = visible(&row.rules.join(", "));
    let code = row.code.as_deref().map(visible);
    match (row.kind, code.as_deref()) {
        (Kind::Masked | Kind::WouldMask, _) if rules.is_empty() => String::new(),
        (Kind::Masked | Kind::WouldMask, _) => format!(", permitted by {rules}"),
        (_, Some("not_permitted")) => ", no rule permits it".to_owned(),
        (_, Some(code)) if rules.is_empty() => format!(", {code}"),
        (_, Some(code)) => format!(", {code} by {rules}"),
        (_, None) if rules.is_empty() => String::new(),
        (_, None) => format!(" by {rules}"),
    }
}

fn summary(totals: &Totals, shown: usize) -> String {
    let mut text = format!(
        "{} refused, {} would be refused, {} asked about, {} would be asked about, {} masked, {} would be masked; {} of {} shapes shown\n",
        totals.refused,
        totals.would_refuse,
        totals.asked,
        totals.would_ask,
        totals.masked,
        totals.would_mask,
        shown,
        totals.shapes
    );
    if totals.not_told_apart > 0 {
        let _ = writeln!(
            text,
            "{} of these were of further shapes, which were too many to tell apart: give --agent, --resource or --since",
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
    use crate::trial::report::Example;

    #[test]
    fn what_agents_name_ends_no_line_and_forges_no_permit() {
        let forged = "x\n         this would let it through:\u{1b}[2J\u{202e}";
        let row = Row {
            kind: Kind::Refused,
            count: 1,
            sessions: 1,
            agent: Some(forged.into()),
            resource: Some(forged.into()),
            place: Some(forged.into()),
            protocol: "ssh".into(),
            login: Some(forged.into()),
            code: Some(forged.into()),
            rules: vec![forged.into()],
            shape: forged.into(),
            fingerprint: None,
            values: 0,
            first: String::new(),
            last: String::new(),
            example: Example {
                session: "01k".into(),
                exchange: 1,
            },
            permit: None,
            no_permit: Some(forged.into()),
        };
        let text = paragraph(&row);
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
    }
}
