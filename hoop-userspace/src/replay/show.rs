//! A session as people read it.
//!
//! What a recording says came from an agent or a server: whatever could move the cursor, hide text
//! or begin a line of its own is taken out of it.

use super::host::{Flow, HostEvent};
use super::story::{Event, Line, Refused, Report, Statement};

/// Lines shown of what is printed or typed at once.
const LINES: usize = 40;
/// Rows shown of one batch.
const ROWS: usize = 20;
/// Characters shown of one value.
const WIDTH: usize = 48;

/// Turns lines into text.
#[derive(Default)]
pub struct Transcript {
    columns: Vec<String>,
}

/// Lines in the making: what begins at a time, and what belongs to it.
struct Page<'a> {
    at: &'a str,
    text: String,
}

impl Page<'_> {
    fn line(&mut self, mark: char, text: &str) {
        let line = format!("{}  {mark} {}\n", one_line(self.at), one_line(text));
        self.text.push_str(&line);
    }

    fn more(&mut self, text: &str) {
        self.bare(&format!("{:12}    {text}", ""));
    }

    fn bare(&mut self, text: &str) {
        self.text.push_str(one_line(text).trim_end());
        self.text.push('\n');
    }
}

impl Transcript {
    pub fn line(&mut self, line: &Line) -> String {
        let mut page = Page {
            at: line.at.get(11..23).unwrap_or(&line.at),
            text: String::new(),
        };
        self.event(&mut page, &line.event);
        page.text
    }

    fn event(&mut self, page: &mut Page<'_>, event: &Event) {
        match event {
            Event::Session(session) => header(page, session),
            Event::Request {
                statements,
                rules,
                would_refuse,
                truncated,
                ..
            } => {
                let shown = statements.iter().filter(|s| s.step != "prepare");
                let mut any = false;
                for statement in shown {
                    any = true;
                    page.line('>', &self::shown(statement));
                }
                if any && !rules.is_empty() {
                    page.more(&format!("allowed by {}", rules.join(", ")));
                }
                if *truncated {
                    page.more("… the request was too long to keep whole");
                }
                if let Some(refused) = would_refuse {
                    page.more(&format!("would have been refused: {}", refused.message));
                }
            }
            Event::Refusal { refused, .. } => refusal(page, refused),
            Event::Reply { .. } => self.reply(page, event),
            Event::Bulk { bytes, end, .. } => {
                let last = if *end { ", the last" } else { "" };
                page.line('>', &format!("{bytes} bytes of content{last}"));
            }
            Event::Cancel { .. } => page.line('>', "cancel"),
            Event::Renewed { expires, .. } => {
                page.line('=', &format!("token renewed; it holds until {expires}"));
            }
            Event::Question { .. } => question(page, event),
            Event::Answer { .. } => answer(page, event),
            Event::End {
                end,
                reason,
                outcome,
                requests,
                refusals,
                rows,
                ..
            } => {
                let reason = match reason.is_empty() {
                    true => String::new(),
                    false => format!(": {reason}"),
                };
                page.line(
                    '=',
                    &format!(
                        "{end}{reason}; {requests} forwarded, {refusals} refused, {rows} rows; server {outcome}"
                    ),
                );
            }
            Event::Seal { key, good } => {
                let state = if *good { "sealed" } else { "SEAL DOES NOT FIT" };
                let key = key.get(..16).unwrap_or(key);
                page.line('=', &format!("{state} by key {key}"));
            }
            Event::Entry { entry } => page.line(' ', &entry.to_string()),
            Event::Host(event) => host(page, event),
        }
    }

    fn reply(&mut self, page: &mut Page<'_>, event: &Event) {
        let Event::Reply {
            columns,
            rows,
            row_count,
            tags,
            errors,
            notices,
            masked,
            truncated,
            ..
        } = event
        else {
            return;
        };
        if !columns.is_empty() {
            self.columns.clone_from(columns);
        }
        if !rows.is_empty() {
            table(page, &self.columns, rows);
        }
        if *truncated || rows.len() > ROWS {
            page.more(&format!("… {row_count} rows in this batch"));
        }
        let note = match masked {
            0 => String::new(),
            1 => "  (1 value masked)".into(),
            n => format!("  ({n} values masked)"),
        };
        for tag in tags {
            page.line('<', &format!("{tag}{note}"));
        }
        for report in errors.iter().chain(notices) {
            self::report(page, report);
        }
    }
}

fn question(page: &mut Page<'_>, event: &Event) {
    let Event::Question {
        question,
        message,
        statements,
        until,
        joined,
        ..
    } = event
    else {
        return;
    };
    for statement in statements {
        page.line('>', statement);
    }
    if question.is_empty() {
        page.line('?', message);
        page.more(&format!("ends at {until} unless somebody lets it go on"));
        return;
    }
    let joined = if *joined { " (asked before)" } else { "" };
    page.line('?', &format!("question {question}{joined}: {message}"));
    page.more(&format!("waits until {until}"));
}

fn answer(page: &mut Page<'_>, event: &Event) {
    let Event::Answer {
        question,
        outcome,
        by,
        scope,
        break_glass,
        held_ms,
        ..
    } = event
    else {
        return;
    };
    let question = match question {
        None if outcome == "thawed" => "freeze",
        question => question.as_deref().unwrap_or("-"),
    };
    let alone = if *break_glass { ", BREAK GLASS" } else { "" };
    let scope = scope.as_ref().map_or(String::new(), |s| format!(" ({s})"));
    page.line(
        '?',
        &format!("question {question} {outcome}{scope}{alone} after {held_ms} ms"),
    );
    for person in by {
        let reason = match person.reason.is_empty() {
            true => String::new(),
            false => format!(": {}", person.reason),
        };
        page.more(&format!("by {}{reason}", person.who));
    }
}

fn host(page: &mut Page<'_>, event: &HostEvent) {
    match event {
        HostEvent::Output {
            stream,
            text,
            truncated,
            masked,
            ..
        } => {
            let mark = if *stream == "stderr" { '!' } else { '<' };
            lines(page, mark, text);
            if *truncated {
                page.more("… not all of it was kept");
            }
            if *masked > 0 {
                page.more(&format!("({masked} masked)"));
            }
        }
        HostEvent::Input {
            text, truncated, ..
        } => {
            lines(page, '>', text);
            if *truncated {
                page.more("… not all of it was kept");
            }
        }
        HostEvent::Resize { columns, rows } => {
            page.line('>', &format!("terminal of {columns} by {rows}"));
        }
        HostEvent::Signal { signal } => page.line('>', &format!("signal {signal}")),
        HostEvent::Exit { status, signal, .. } => {
            let how = match (status, signal) {
                (Some(status), _) => format!("exit status {status}"),
                (None, Some(signal)) => format!("ended by signal {signal}"),
                (None, None) => "ended".into(),
            };
            page.line('<', &how);
        }
        HostEvent::Response {
            status, headers, ..
        } => {
            page.line('<', &format!("HTTP status {status}"));
            for (name, value) in headers.iter().filter(|(name, _)| name == "warning") {
                page.more(&format!("{name}: {value}"));
            }
        }
        HostEvent::Forwarded {
            port,
            connection,
            flow,
            bytes,
            end,
            why,
            ..
        } => {
            let mark = if *flow == "in" { '>' } else { '<' };
            let end = if *end { ", its end" } else { "" };
            let what = format!("port {port}, connection {connection}: {bytes} bytes {flow}{end}");
            page.line(mark, &what);
            if !why.is_empty() {
                page.line(mark, why.trim_end());
            }
        }
        HostEvent::Transfer {
            path,
            read,
            written,
            ..
        } => {
            for (verb, flow) in [("read", read), ("written", written)] {
                flowed(page, path, verb, flow);
            }
        }
    }
}

fn flowed(page: &mut Page<'_>, path: &str, verb: &str, flow: &Flow) {
    if flow.bytes > 0 {
        page.line('=', &format!("{path}: {} bytes {verb}", flow.bytes));
        if let Some(digest) = &flow.sha256 {
            page.more(&format!("sha256 {digest}"));
        }
    }
}

fn lines(page: &mut Page<'_>, mark: char, text: &str) {
    let mut all = text.lines();
    for line in all.by_ref().take(LINES) {
        page.line(mark, line);
    }
    let rest = all.count();
    if rest > 0 {
        page.more(&format!("… and {rest} more lines"));
    }
}

fn refusal(page: &mut Page<'_>, refused: &Refused) {
    if let Some(text) = &refused.text {
        page.line('>', text);
    }
    page.line('x', &format!("refused: {}", refused.message));
    if let Some(rule) = &refused.rule {
        page.more(&format!("rule {rule}"));
    }
    page.more(&format!("hint: {}", refused.hint));
}

fn header(page: &mut Page<'_>, session: &serde_json::Value) {
    let text = |path: &str| match session.pointer(path) {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(serde_json::Value::Null) | None => "-".into(),
        Some(other) => other.to_string(),
    };
    let (id, started) = (text("/session"), text("/started"));
    page.bare(&format!("session  {id}  started {started}"));
    let who = match text("/identity/verified").as_str() {
        "true" => format!(
            "{} of {}",
            text("/identity/subject"),
            text("/identity/issuer")
        ),
        _ => format!("not verified: {}", text("/identity/why")),
    };
    page.bare(&format!("agent    {}  ({who})", text("/agent")));
    let argv = session.pointer("/process/argv").and_then(|a| a.as_array());
    let argv = argv.into_iter().flatten().filter_map(|a| a.as_str());
    let command = match argv.collect::<Vec<_>>() {
        none if none.is_empty() => text("/process/comm"),
        argv => argv.join(" "),
    };
    let (pid, uid) = (text("/process/pid"), text("/process/uid"));
    page.bare(&format!("process  {pid} (uid {uid}): {command}"));
    page.bare(&format!(
        "server   {} at {}, database {}, as {}",
        text("/resource"),
        text("/destination"),
        text("/database"),
        text("/login")
    ));
    if let Some(netns) = session
        .pointer("/netns")
        .and_then(serde_json::Value::as_u64)
    {
        page.bare(&format!(
            "network  net:[{netns}]: the server was dialled from the client's own"
        ));
    }
}

fn shown(statement: &Statement) -> String {
    let values = statement.parameters.iter().enumerate().map(|(i, value)| {
        let value = value.as_deref().map_or("NULL".into(), clip);
        format!("  ${}={value}", i + 1)
    });
    let values: String = values.collect();
    format!("{}{values}", statement.text)
}

fn report(page: &mut Page<'_>, report: &Report) {
    let Report {
        severity,
        sqlstate,
        message,
        ..
    } = report;
    page.line('<', &format!("{severity} {sqlstate}: {message}"));
}

fn table(page: &mut Page<'_>, columns: &[String], rows: &[Vec<Option<String>>]) {
    let value = |v: &Option<String>| v.as_deref().map_or(String::new(), clip);
    let shown = rows.iter().take(ROWS);
    let cells: Vec<Vec<String>> = shown.map(|row| row.iter().map(value).collect()).collect();
    let count = cells.iter().map(Vec::len).max().unwrap_or(0);
    let head = |i: usize| {
        columns
            .get(i)
            .map_or_else(|| (i + 1).to_string(), |c| clip(c))
    };
    let heads: Vec<String> = (0..count).map(head).collect();
    let width = |i: usize| {
        let column = cells.iter().filter_map(|r| r.get(i)).chain(heads.get(i));
        column.map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    for row in std::iter::once(&heads).chain(&cells) {
        let padded = row.iter().zip(&widths).map(|(c, w)| format!("{c:w$}"));
        page.more(&format!("| {}", padded.collect::<Vec<_>>().join(" | ")));
    }
}

/// The text without what a terminal would obey: control characters have their pictures (U+2400 and
/// on), so that a comment's end is seen, and what turns the direction of writing or shows nothing has
/// the replacement character.
fn one_line(text: &str) -> String {
    let shown = |c: char| match c {
        '\t' => ' ',
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        // An agent's own picture is none.
        '\u{2400}'..='\u{2426}' => '\u{fffd}',
        '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}'
        | '\u{feff}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}

fn clip(text: &str) -> String {
    let line = one_line(text);
    match line.chars().count() > WIDTH {
        true => line.chars().take(WIDTH).chain(['…']).collect(),
        false => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_as_a_command() {
        let line = Line {
            at: "2026-11-24T02:35:00.123456Z".into(),
            elapsed_us: 1,
            event: Event::Refusal {
                verdict: "refuse",
                refused: Refused {
                    exchange: 1,
                    unit: 0,
                    text: Some("DELETE\r\n\x1b[2K\u{9b}31m FROM t".into()),
                    message: "no\n02:35:00.123  = finished".into(),
                    rule: Some("a\u{202e}b".into()),
                    hint: "x\x07".into(),
                    detail: serde_json::Value::Null,
                },
            },
        };
        let text = Transcript::default().line(&line);
        assert_eq!(text.lines().count(), 4, "{text}");
        let bad = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!text.contains(bad), "{text:?}");
        // Nothing looks like a part of a comment that it ended.
        assert_eq!(
            one_line("SELECT 1 -- x\n; DROP\tTABLE t\r\u{240a}"),
            "SELECT 1 -- x\u{240a}; DROP TABLE t\u{240d}\u{fffd}"
        );
    }
}
