//! A session as people read it.

use std::fmt::Write;

use super::story::{Event, Line, Report, Statement};

/// Rows shown of one batch.
const ROWS: usize = 20;
/// Characters shown of one value.
const WIDTH: usize = 48;

/// Turns lines into text.
#[derive(Default)]
pub struct Transcript {
    columns: Vec<String>,
}

impl Transcript {
    pub fn line(&mut self, line: &Line) -> String {
        let mut out = String::new();
        let at = line.at.get(11..23).unwrap_or(&line.at);
        // Writing to a string does not fail.
        let _ = self.event(&mut out, at, &line.event);
        out
    }

    fn event(&mut self, out: &mut String, at: &str, event: &Event) -> std::fmt::Result {
        match event {
            Event::Session(session) => header(out, session),
            Event::Request {
                statements,
                rules,
                would_refuse,
                ..
            } => {
                for statement in statements.iter().filter(|s| s.step != "prepare") {
                    writeln!(out, "{at}  > {}", shown(statement))?;
                }
                if statements.iter().any(|s| s.step != "prepare") && !rules.is_empty() {
                    writeln!(out, "{:12}    allowed by {}", "", rules.join(", "))?;
                }
                if let Some(refused) = would_refuse {
                    writeln!(
                        out,
                        "{:12}    would have been refused: {}",
                        "", refused.message
                    )?;
                }
                Ok(())
            }
            Event::Refusal { refused, .. } => {
                if let Some(text) = &refused.text {
                    writeln!(out, "{at}  > {}", one_line(text))?;
                }
                writeln!(out, "{at}  x refused: {}", refused.message)?;
                if let Some(rule) = &refused.rule {
                    writeln!(out, "{:12}    rule {rule}", "")?;
                }
                writeln!(out, "{:12}    hint: {}", "", refused.hint)
            }
            Event::Reply {
                columns,
                rows,
                row_count,
                tags,
                errors,
                notices,
                masked,
                truncated,
                ..
            } => {
                if !columns.is_empty() {
                    self.columns.clone_from(columns);
                }
                if !rows.is_empty() {
                    table(out, &self.columns, rows)?;
                }
                if *truncated || rows.len() > ROWS {
                    writeln!(out, "{:12}    … {row_count} rows in this batch", "")?;
                }
                for tag in tags {
                    let note = match masked {
                        0 => String::new(),
                        1 => "  (1 value masked)".into(),
                        n => format!("  ({n} values masked)"),
                    };
                    writeln!(out, "{at}  < {tag}{note}")?;
                }
                reports(out, at, errors.iter().chain(notices))
            }
            Event::Bulk { bytes, end, .. } => {
                writeln!(
                    out,
                    "{at}  > {bytes} bytes of content{}",
                    if *end { ", the last" } else { "" }
                )
            }
            Event::Cancel { .. } => writeln!(out, "{at}  > cancel"),
            Event::End {
                end,
                reason,
                outcome,
                requests,
                refusals,
                rows,
                ..
            } => {
                let reason = if reason.is_empty() {
                    String::new()
                } else {
                    format!(": {reason}")
                };
                writeln!(
                    out,
                    "{at}  = {end}{reason}; {requests} forwarded, {refusals} refused, {rows} rows; server {outcome}"
                )
            }
            Event::Seal { key, good } => {
                let state = if *good { "sealed" } else { "SEAL DOES NOT FIT" };
                writeln!(
                    out,
                    "{at}  = {state} by key {}",
                    key.get(..16).unwrap_or(key)
                )
            }
            Event::Entry { entry } => writeln!(out, "{at}  {entry}"),
        }
    }
}

fn header(out: &mut String, session: &serde_json::Value) -> std::fmt::Result {
    let text = |path: &str| match session.pointer(path) {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(serde_json::Value::Null) | None => "-".into(),
        Some(other) => other.to_string(),
    };
    writeln!(
        out,
        "session  {}  started {}",
        text("/session"),
        text("/started")
    )?;
    let who = match text("/identity/verified").as_str() {
        "true" => format!(
            "{} of {}",
            text("/identity/subject"),
            text("/identity/issuer")
        ),
        _ => format!("not verified: {}", text("/identity/why")),
    };
    writeln!(out, "agent    {}  ({who})", text("/agent"))?;
    let argv = session.pointer("/process/argv").and_then(|a| a.as_array());
    let argv: Vec<&str> = argv
        .into_iter()
        .flatten()
        .filter_map(|a| a.as_str())
        .collect();
    let command = if argv.is_empty() {
        text("/process/comm")
    } else {
        argv.join(" ")
    };
    writeln!(
        out,
        "process  {} (uid {}): {}",
        text("/process/pid"),
        text("/process/uid"),
        one_line(&command)
    )?;
    writeln!(
        out,
        "server   {} at {}, database {}, as {}",
        text("/resource"),
        text("/destination"),
        text("/database"),
        text("/login")
    )
}

fn shown(statement: &Statement) -> String {
    let mut text = one_line(&statement.text);
    for (i, parameter) in statement.parameters.iter().enumerate() {
        let value = parameter.as_deref().map_or("NULL".into(), clip);
        let _ = write!(text, "  ${}={value}", i + 1);
    }
    text
}

fn reports<'r>(
    out: &mut String,
    at: &str,
    reports: impl Iterator<Item = &'r Report>,
) -> std::fmt::Result {
    for report in reports {
        writeln!(
            out,
            "{at}  < {} {}: {}",
            report.severity,
            report.sqlstate,
            one_line(&report.message)
        )?;
    }
    Ok(())
}

fn table(out: &mut String, columns: &[String], rows: &[Vec<Option<String>>]) -> std::fmt::Result {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .take(ROWS)
        .map(|row| {
            row.iter()
                .map(|v| v.as_deref().map_or(String::new(), clip))
                .collect()
        })
        .collect();
    let count = cells.iter().map(Vec::len).max().unwrap_or(0);
    let heads: Vec<String> = (0..count)
        .map(|i| {
            columns
                .get(i)
                .map_or_else(|| (i + 1).to_string(), |c| clip(c))
        })
        .collect();
    let widths: Vec<usize> = (0..count)
        .map(|i| {
            cells
                .iter()
                .filter_map(|r| r.get(i))
                .chain(heads.get(i))
                .map(|c| c.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for row in std::iter::once(&heads).chain(&cells) {
        let padded: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(c, w)| format!("{c:w$}"))
            .collect();
        writeln!(out, "{:12}    | {}", "", padded.join(" | ").trim_end())?;
    }
    Ok(())
}

/// Control characters of a recording must not reach a terminal.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn clip(text: &str) -> String {
    let line = one_line(text);
    match line.chars().count() > WIDTH {
        true => line.chars().take(WIDTH).chain(['…']).collect(),
        false => line,
    }
}
