//! `hoop approvals`: what agents may do only with somebody's approval, and the answers to it.
//!
//! Who answers is whom the kernel says: the account that runs this command.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use serde_json::Value;

use super::control::DaemonArg;
use crate::ask::Verdict;
use crate::keeper::control::Ask;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What waits for an answer, and which approvals may be used
    List {
        /// What is over, too
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Everything about one question: statements, process, who was asked and who answered
    Show {
        /// The question, as the client was told and `list` prints it
        question: String,
        #[command(flatten)]
        common: Common,
    },
    /// Let it run
    Approve {
        question: String,
        /// Why; some rules insist
        #[arg(long, default_value = "")]
        reason: String,
        /// Alone and at once, where a rule provides for emergencies; raises an alert
        #[arg(long, requires = "reason")]
        break_glass: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Do not let it run
    Refuse {
        question: String,
        /// Why; the agent reads it
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        common: Common,
    },
    /// Take an approval back; what runs under it is ended
    Revoke {
        question: String,
        /// Why; the agent reads it
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(clap::Args)]
struct Common {
    #[command(flatten)]
    daemon: DaemonArg,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let vote = |question, verdict, reason, break_glass| Ask::Vote {
        question,
        verdict,
        reason,
        break_glass,
    };
    let (common, ask, show): (Common, Ask, fn(&Value) -> String) = match args.command {
        Command::List { all, common } => (common, Ask::Approvals { all }, list),
        Command::Show { question, common } => (common, Ask::Approval { question }, whole),
        Command::Approve {
            question,
            reason,
            break_glass,
            common,
        } => {
            let ask = vote(question, Verdict::Approve, reason, break_glass);
            (common, ask, stands)
        }
        Command::Refuse {
            question,
            reason,
            common,
        } => (
            common,
            vote(question, Verdict::Refuse, reason, false),
            stands,
        ),
        Command::Revoke {
            question,
            reason,
            common,
        } => (common, Ask::Revoke { question, reason }, stands),
    };
    let answer = common.daemon.ask(&ask)?;
    match (common.json, &answer) {
        (true, Value::Array(questions)) => questions.iter().for_each(|q| println!("{q}")),
        (true, one) => println!("{one}"),
        (false, _) => print!("{}", show(&answer)),
    }
    Ok(ExitCode::SUCCESS)
}

fn list(answer: &Value) -> String {
    let questions = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    if questions.is_empty() {
        return "nothing waits for an answer\n".into();
    }
    questions.iter().map(line).collect()
}

fn line(question: &Value) -> String {
    let mut text = format!(
        "{}  {:<9} until {}  {}\n{:12}{}\n",
        word(question, "/question"),
        word(question, "/state"),
        word(question, "/until"),
        word(question, "/message"),
        "",
        word(question, "/statement"),
    );
    let needs = words(question, "/needs");
    if !needs.is_empty() {
        text += &format!("{:12}needs {}\n", "", needs.join("; "));
    }
    text
}

/// Where a question stands after an answer.
fn stands(answer: &Value) -> String {
    let (question, state) = (word(answer, "/question"), word(answer, "/state"));
    match words(answer, "/needs").as_slice() {
        [] => format!("{question} is {state}\n"),
        needs => format!(
            "{question} is {state}: it still needs {}\n",
            needs.join("; ")
        ),
    }
}

fn whole(answer: &Value) -> String {
    let mut lines = vec![
        format!(
            "question   {}, {} until {}",
            word(answer, "/question"),
            word(answer, "/state"),
            word(answer, "/until")
        ),
        format!("           {}", word(answer, "/message")),
        format!(
            "agent      {} ({})",
            word(answer, "/asking/agent"),
            word(answer, "/asking/subject")
        ),
        format!(
            "on         {}, database {}, as {}, session {}",
            word(answer, "/asking/resource"),
            word(answer, "/asking/database"),
            word(answer, "/asking/login"),
            word(answer, "/asking/session")
        ),
        format!(
            "process    {} (uid {}): {}",
            word(answer, "/asking/caller/pid"),
            word(answer, "/asking/caller/uid"),
            word(answer, "/asking/caller/command")
        ),
        format!("           in {}", word(answer, "/asking/caller/cgroup")),
    ];
    let parents = words(answer, "/asking/caller/parents");
    if !parents.is_empty() {
        lines.push(format!("           started by {}", parents.join(", by ")));
    }
    for demand in each(answer, "/asking/demands") {
        let groups: Vec<String> = each(demand, "/groups")
            .map(|clause| texts(clause).join(" or "))
            .collect();
        lines.push(format!(
            "rule       {}: {} of {}, for this {}",
            word(demand, "/rule"),
            word(demand, "/approvals"),
            groups.join(", and "),
            word(demand, "/scope"),
        ));
    }
    if answer.pointer("/in_transaction") == Some(&Value::Bool(true)) {
        lines.push("           its transaction is open and may hold locks".into());
    }
    for statement in each(answer, "/asking/statements") {
        lines.push(format!(
            "statement  {}",
            multiline(&word_raw(statement, "/text"))
        ));
        for (i, value) in each(statement, "/parameters").enumerate() {
            let value = value.as_str().map_or("NULL".into(), shown);
            lines.push(format!("           ${} = {value}", i + 1));
        }
    }
    if let Some(rows) = answer.pointer("/estimate").and_then(Value::as_u64) {
        lines.push(format!(
            "           about {rows} rows, as the server's planner expects"
        ));
    }
    lines.extend(change(answer));
    for vote in each(answer, "/votes") {
        let verdict = match word(vote, "/verdict").as_str() {
            "approve" => "approved",
            _ => "refused",
        };
        let loud = match vote.pointer("/break_glass") == Some(&Value::Bool(true)) {
            true => " BREAK GLASS",
            false => "",
        };
        lines.push(format!(
            "{verdict:<10} by {} at {}{loud} {}",
            word(vote, "/who"),
            word(vote, "/at"),
            word(vote, "/reason")
        ));
    }
    let reason = word(answer, "/standing/reason");
    if !reason.is_empty() {
        lines.push(format!("because    {reason}"));
    }
    let needs = words(answer, "/needs");
    if !needs.is_empty() {
        lines.push(format!("needs      {}", needs.join("; ")));
    }
    lines.join("\n") + "\n"
}

fn each<'v>(value: &'v Value, path: &str) -> impl Iterator<Item = &'v Value> {
    let list = value.pointer(path).and_then(Value::as_array);
    list.into_iter().flatten()
}

fn texts(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(|v| v.as_str().map(shown)).collect()
}

fn words(value: &Value, path: &str) -> Vec<String> {
    value.pointer(path).map(texts).unwrap_or_default()
}

fn word(value: &Value, path: &str) -> String {
    shown(&word_raw(value, path))
}

fn word_raw(value: &Value, path: &str) -> String {
    match value.pointer(path) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    }
}

/// What a held request would change.
fn change(answer: &Value) -> Vec<String> {
    let note = word(answer, "/change/note");
    if note.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![format!("change     {note}")];
    let diff = word_raw(answer, "/change/diff");
    lines.extend(
        diff.lines()
            .map(|line| format!("           {}", shown(line))),
    );
    lines
}

/// A statement's lines, below each other.
fn multiline(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(shown).collect();
    lines.join("\n           ")
}

/// What an agent wrote, without what a terminal would obey or what would not be seen.
fn shown(text: &str) -> String {
    let visible = |c: char| match c {
        '\t' => " ".to_owned(),
        '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}'
        | '\u{feff}' => c.escape_unicode().to_string(),
        c if c.is_control() => c.escape_unicode().to_string(),
        c => c.to_string(),
    };
    text.chars().map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_an_agent_wrote_cannot_hide() {
        let answer = json!({
            "question": "k3v9t0m2qf", "state": "pending", "until": "2026-11-26T22:00:00Z",
            "message": "bot needs \u{1b}[2K", "needs": ["dba"], "in_transaction": true,
            "asking": {
                "agent": "bot", "caller": { "pid": 7, "uid": 1000, "command": "psql\n-c" },
                "demands": [{ "rule": "r", "approvals": 1, "groups": [["dba", "oncall"]], "scope": "statement" }],
                "statements": [{ "text": "DELETE FROM t\n-- \u{202e}harmless", "parameters": [null, "a\u{9b}b"] }],
            },
            "change": { "note": "It would change this.", "diff": "@@ -1,1 +1,1 @@\n-a: 1\n+a: \u{202e}2\n" },
            "votes": [], "standing": { "reason": "" },
        });
        let text = whole(&answer);
        assert!(
            !text.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'),
            "{text}"
        );
        assert!(
            text.contains("1 of dba or oncall, for this statement"),
            "{text}"
        );
        assert!(text.contains("$1 = NULL"), "{text}");
        assert!(text.contains("needs      dba"), "{text}");
        let change = "change     It would change this.\n           @@ -1,1 +1,1 @@\n           -a: 1\n           +a: \\u{202e}2\n";
        assert!(text.contains(change), "{text}");
        assert_eq!(
            stands(&answer),
            "k3v9t0m2qf is pending: it still needs dba\n"
        );
    }
}
