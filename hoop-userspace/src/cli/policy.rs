//! `hoop policy test`: what the policies say of a request, and why, without touching any server.
//!
//! Other tools rely on its output: exit codes 0 allowed, 1 failed, 2 wrong usage, 3 refused,
//! 4 would ask; `--batch` answers each line of JSON with one, and a bad line with an error.

use std::io::{BufRead, Write};
use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::ConfigArg;
use crate::config::{Bundle, Config};
use crate::trial::policy::{Answer, Supposed, Tester, Verdict, undecided};

const REFUSED: u8 = 3;
const ASKS: u8 = 4;
/// Of one line of a batch, in bytes.
const LONGEST_LINE: u64 = 16 << 20;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Decide a request, and say which rules decided
    Test(Box<Test>),
    /// Print the schema that policies are validated against, or a ready-made pack
    Show(Show),
}

#[derive(clap::Args)]
struct Show {
    /// A pack's name, or `schema`
    name: String,
}

#[derive(clap::Args)]
struct Test {
    #[command(flatten)]
    config: ConfigArg,
    /// The agent that asks, as the configuration names it
    #[arg(long)]
    agent: String,
    /// The resource that is asked, as the configuration names it
    #[arg(long)]
    resource: String,
    /// The database that the session is in
    #[arg(long, default_value = "postgres")]
    database: String,
    /// A group that the agent's token would list; may be repeated
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// The executable that would connect
    #[arg(long, value_name = "PATH")]
    executable: Option<std::path::PathBuf>,
    /// Print one JSON object per answer
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    what: What,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// A text of SQL
    #[arg(long, value_name = "TEXT")]
    sql: Option<String>,
    /// A shell command
    #[arg(long, value_name = "TEXT")]
    exec: Option<String>,
    /// An API request, as in 'GET /api/v1/pods'
    #[arg(long, value_name = "METHOD PATH")]
    request: Option<String>,
    /// Read requests from standard input, one JSON object per line, and answer each
    #[arg(long)]
    batch: bool,
}

/// One line of a batch: exactly one of these.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Line {
    Sql(String),
    Exec(IgnoredAny),
    Request(IgnoredAny),
}

#[derive(Serialize)]
struct Failure {
    error: String,
}

pub fn run(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Test(test) => test.run(),
        Command::Show(show) => show.run(),
    }
}

impl Show {
    fn run(self) -> Result<ExitCode> {
        use crate::decide::{PACKS, SCHEMA};
        let pack = PACKS.iter().find(|(name, _)| *name == self.name);
        match pack {
            Some((_, text)) => print!("{text}"),
            None if self.name == "schema" => print!("{SCHEMA}"),
            None => {
                let names: Vec<_> = PACKS.iter().map(|(name, _)| *name).collect();
                bail!(
                    "there is no pack {:?}: there are {}",
                    self.name,
                    names.join(", ")
                );
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Test {
    fn run(self) -> Result<ExitCode> {
        let config = Bundle::without_secrets(&self.config.config)?;
        let tester = self.tester(&config)?;
        let line = match self.what {
            What { batch: true, .. } => {
                return batch(&tester, std::io::stdin().lock(), std::io::stdout().lock());
            }
            What {
                sql: Some(text), ..
            } => Line::Sql(text),
            What { exec: Some(_), .. } => Line::Exec(IgnoredAny),
            What { .. } => Line::Request(IgnoredAny),
        };
        let answer = answer(&tester, &line);
        match self.json {
            true => println!("{}", serde_json::to_string(&answer)?),
            false => print!("{}", for_people(&answer)),
        }
        Ok(exit_code(answer.verdict))
    }

    fn tester(&self, config: &Config) -> Result<Tester> {
        let supposed = Supposed {
            agent: self.agent.clone(),
            resource: self.resource.clone(),
            database: self.database.clone(),
            groups: self.groups.clone(),
            executable: self.executable.clone(),
        };
        Tester::new(config, supposed).map_err(|why| anyhow!("{why}"))
    }
}

fn answer(tester: &Tester, line: &Line) -> Answer {
    match line {
        Line::Sql(text) => tester.sql(text),
        Line::Exec(_) => undecided("shell commands are not decided by this version of hoop"),
        Line::Request(_) => undecided("API requests are not decided by this version of hoop"),
    }
}

/// Answers line by line, so that a program can talk with it. Exits 0 whatever the verdicts are.
fn batch(tester: &Tester, mut from: impl BufRead, mut to: impl Write) -> Result<ExitCode> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = std::io::Read::take(&mut from, LONGEST_LINE);
        if limited.read_until(b'\n', &mut line)? == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        if line.len() as u64 == LONGEST_LINE && line.last() != Some(&b'\n') {
            bail!("a line is longer than {LONGEST_LINE} bytes");
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice::<Line>(&line) {
            Ok(line) => serde_json::to_writer(&mut to, &answer(tester, &line))?,
            Err(error) => serde_json::to_writer(
                &mut to,
                &Failure {
                    error: format!(
                        "not one of {{\"sql\": …}}, {{\"exec\": …}}, {{\"request\": …}}: {error}"
                    ),
                },
            )?,
        }
        to.write_all(b"\n")?;
        to.flush()?;
    }
}

fn exit_code(verdict: Verdict) -> ExitCode {
    match verdict {
        Verdict::Allow => ExitCode::SUCCESS,
        Verdict::Refuse => ExitCode::from(REFUSED),
        Verdict::Ask => ExitCode::from(ASKS),
    }
}

fn for_people(answer: &Answer) -> String {
    use std::fmt::Write;
    let mut text = String::from(match answer.verdict {
        Verdict::Allow => "allowed",
        Verdict::Refuse => "refused",
        Verdict::Ask => "a human would be asked",
    });
    // Writing to a String cannot fail.
    if let Some(message) = &answer.message {
        let _ = write!(text, ": {message}");
    }
    text.push('\n');
    let rules: Vec<_> = answer.rules.iter().map(|rule| &*rule.0).collect();
    if !rules.is_empty() {
        let _ = writeln!(text, "  by       {}", rules.join(", "));
    }
    let hint = answer
        .refusal
        .as_ref()
        .and_then(|r| r.get("hint")?.as_str());
    if let Some(hint) = hint {
        let _ = writeln!(text, "  hint     {hint}");
    }
    for statement in answer
        .facts
        .iter()
        .flat_map(|found| &found.facts.statements)
    {
        for access in &statement.accesses {
            let _ = writeln!(
                text,
                "  {:<8} {} on {}",
                access.action.as_str().trim_start_matches("sql:"),
                access.verb,
                access.object
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tester() -> Tester {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hoop.toml");
        let text = "[issuer.okta]\nurl = \"https://x.example\"\naudience = \"a\"\n\
            [[agent]]\nname = \"bot\"\ncgroup = \"agents.slice/bot.service\"\nissuer = \"okta\"\nclient_id = \"c\"\n\
            token = { file = \"/run/token\" }\n\
            [[resource]]\nname = \"orders\"\nprotocol = \"postgres\"\nhosts = [\"db\"]\n\
            login = { user = \"u\", password = { credential = \"not-there\" } }\n\
            [policy]\nuse = [\"ask-before-write\"]\n";
        std::fs::write(&path, text).unwrap();
        let config = Bundle::without_secrets(&path).unwrap();
        let test = Test {
            config: ConfigArg { config: path },
            agent: "bot".into(),
            resource: "orders".into(),
            database: "app".into(),
            groups: Vec::new(),
            executable: None,
            json: true,
            what: What {
                sql: None,
                exec: None,
                request: None,
                batch: true,
            },
        };
        test.tester(&config).unwrap()
    }

    #[test]
    fn a_batch_answers_every_line() {
        let input = concat!(
            "{\"sql\": \"SELECT 1\"}\n\n",
            "{\"sql\": \"DELETE FROM users WHERE id = 1\"}\n",
            "{\"sql\": \"SELECT pay_out()\"}\n",
            "{\"exec\": \"ls\"}\n{\"request\": \"GET /\"}\n",
            "garbage\n{\"sql\": 1}\n{\"sql\": \"a\", \"exec\": \"b\"}\n{}\n",
            "{\"sql\": \"SELECT 'last, without a newline'\"}",
        );
        let mut output = Vec::new();
        batch(&tester(), input.as_bytes(), &mut output).unwrap();
        let output = String::from_utf8(output).unwrap();
        let answers: Vec<serde_json::Value> = output
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let verdicts: Vec<_> = answers
            .iter()
            .map(|a| a["verdict"].as_str().unwrap_or("error"))
            .collect();
        let refused = ["refuse"; 3];
        assert_eq!(verdicts[..2], ["allow", "ask"]);
        assert_eq!(verdicts[2..5], refused);
        assert_eq!(verdicts[5..9], ["error"; 4]);
        assert_eq!(verdicts[9], "allow");
        assert!(answers[5]["error"].as_str().unwrap().contains("sql"));
        assert_eq!(answers[1]["rules"], serde_json::json!(["ask-before-write"]));
        assert_eq!(answers[1]["refusal"]["code"], "approval_unavailable");
        assert_eq!(answers[1]["facts"]["writes"][0]["name"], "users");
        assert_eq!(answers[3]["facts"], serde_json::Value::Null);
    }

    #[test]
    fn people_read_what_was_decided() {
        let tester = tester();
        let text = for_people(&tester.sql("UPDATE public.users SET a = 1 WHERE b = 2"));
        insta::assert_snapshot!(text, @r#"
        a human would be asked: bot needs the approval of hoop-approvers to run UPDATE on table public.users by rule "ask-before-write"
          by       ask-before-write
          hint     wait for the answer, or do without it
          write    UPDATE on table public.users
        "#);
    }

    #[test]
    fn exit_codes() {
        let code = |v: Verdict| format!("{:?}", exit_code(v));
        assert_eq!(code(Verdict::Allow), format!("{:?}", ExitCode::from(0)));
        assert_eq!(code(Verdict::Refuse), format!("{:?}", ExitCode::from(3)));
        assert_eq!(code(Verdict::Ask), format!("{:?}", ExitCode::from(4)));
    }
}
