//! `hoop policy test`: what the policies say of a request, and why, without touching any server.
//!
//! Other tools rely on its output: exit codes 0 allowed, 1 failed, 2 wrong usage, 3 refused,
//! 4 would ask; `--batch` answers each line of JSON with one, and a bad line with an error.

use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::ConfigArg;
use crate::attribute::Process;
use crate::config::{Agent, Bundle, Config, Host, Mode, ProtocolKind, Resource};
use crate::decide::{Decider, Facts, Refusal, Rule, ShellFacts, Subject};
use crate::identify::Identity;
use crate::ids::{Epochs, SessionId};
use crate::terminate::SqlText;

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
    /// The host that is asked, as the client calls it; the resource's first name by default
    #[arg(long)]
    host: Option<String>,
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
    Exec(String),
    Request(IgnoredAny),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Allow,
    Refuse,
    Ask,
}

#[derive(Debug, Serialize)]
struct Answer {
    verdict: Verdict,
    rules: Vec<Rule>,
    /// Why not, for people; absent if allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// What the agent's client would be told beside: `code`, `rule`, `retry`, `approval`, `hint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<serde_json::Value>,
    facts: Option<Found>,
}

/// What the parser of the request's language found.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Found {
    Sql {
        #[serde(flatten)]
        facts: Arc<Facts>,
        /// By the resource's masks.
        reads_masked_in_predicate: bool,
    },
    Exec(Arc<ShellFacts>),
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
        let decider = Decider::new(&config)?;
        let (protocol, subject) = self.subject(&config)?;
        let tester = Tester {
            protocol,
            subject,
            decider,
            hasher: RandomState::new(),
        };
        let line = match self.what {
            What { batch: true, .. } => {
                return batch(&tester, std::io::stdin().lock(), std::io::stdout().lock());
            }
            What {
                sql: Some(text), ..
            } => Line::Sql(text),
            What {
                exec: Some(text), ..
            } => Line::Exec(text),
            What { .. } => Line::Request(IgnoredAny),
        };
        let answer = tester.answer(&line)?;
        match self.json {
            true => println!("{}", serde_json::to_string(&answer)?),
            false => print!("{}", answer.for_people()),
        }
        Ok(answer.verdict.exit_code())
    }

    fn subject(&self, config: &Config) -> Result<(ProtocolKind, Subject)> {
        let agent = named(
            &self.agent,
            &config.agents,
            |a: &Agent| a.name.as_str(),
            "agent",
        )?;
        let resource = named(
            &self.resource,
            &config.resources,
            |r: &Resource| r.name.as_str(),
            "resource",
        )?;
        let database = match resource.protocol {
            ProtocolKind::Postgres => resource.login.database.clone(),
            ProtocolKind::Ssh => self.host.clone().or_else(|| first_name(resource)),
        };
        let subject = Subject {
            session: SessionId::from([0; 16]),
            identity: Arc::new(Identity::supposed(agent, self.groups.clone())),
            process: Arc::new(Process {
                executable: self.executable.clone(),
                ..Process::default()
            }),
            resource: resource.name.clone(),
            database: database.unwrap_or_else(|| self.database.clone()),
            login: resource.login.user.clone(),
            epochs: Epochs::default(),
            // What enforce mode says is what is asked, whatever mode the agent is in now.
            mode: Mode::Enforce,
            // Known to the server alone.
            derived: Arc::default(),
            // As if nothing had happened yet.
            activity: Default::default(),
            objects: Arc::default(),
        };
        Ok((resource.protocol, subject))
    }
}

/// A resource's first host by name, or else its first network.
fn first_name(resource: &Resource) -> Option<String> {
    let named = resource.hosts.iter().find_map(|host| match host {
        Host::Name(name) => Some(name.clone()),
        Host::Net(_) => None,
    });
    named.or_else(|| match resource.hosts.first() {
        Some(Host::Net(net)) => Some(net.addr().to_string()),
        _ => None,
    })
}

fn named<'c, T>(
    wanted: &str,
    all: &'c [T],
    name: impl Fn(&T) -> &str,
    kind: &str,
) -> Result<&'c T> {
    all.iter().find(|one| name(one) == wanted).with_context(|| {
        let names: Vec<_> = all.iter().map(&name).collect();
        match names.is_empty() {
            true => format!("the configuration has no {kind}"),
            false => format!(
                "there is no {kind} {wanted:?}: there are {}",
                names.join(", ")
            ),
        }
    })
}

struct Tester {
    protocol: ProtocolKind,
    decider: Decider,
    subject: Subject,
    hasher: RandomState,
}

impl Tester {
    fn answer(&self, line: &Line) -> Result<Answer> {
        match (line, self.protocol) {
            (Line::Sql(text), ProtocolKind::Postgres) => Ok(self.sql(text)),
            (Line::Exec(text), ProtocolKind::Ssh) => Ok(self.exec(text)),
            (Line::Sql(_), ProtocolKind::Ssh) => {
                bail!(
                    "{} is reached by SSH: it takes no SQL",
                    self.subject.resource
                )
            }
            (Line::Exec(_), ProtocolKind::Postgres) => {
                bail!(
                    "{} is a database: it runs no shell commands",
                    self.subject.resource
                )
            }
            (Line::Request(_), _) => Ok(undecided(
                "API requests are not decided by this version of hoop",
            )),
        }
    }

    fn sql(&self, text: &str) -> Answer {
        let text = Arc::new(SqlText {
            hash: self.hasher.hash_one(text),
            text: text.into(),
        });
        let explained = self.decider.explain(&self.subject, text);
        let found = Found::Sql {
            facts: explained.facts,
            reads_masked_in_predicate: explained.picks,
        };
        answer(explained.rules, explained.refusal, explained.asks, found)
    }

    fn exec(&self, text: &str) -> Answer {
        let explained = self.decider.explain_exec(&self.subject, text);
        let found = Found::Exec(explained.facts);
        answer(explained.rules, explained.refusal, explained.asks, found)
    }
}

fn answer(rules: Vec<Rule>, refusal: Option<Refusal>, asks: bool, found: Found) -> Answer {
    Answer {
        verdict: match (&refusal, asks) {
            (None, _) => Verdict::Allow,
            (Some(_), true) => Verdict::Ask,
            (Some(_), false) => Verdict::Refuse,
        },
        rules,
        message: refusal.as_ref().map(|r| r.message.clone()),
        refusal: refusal.and_then(|r| serde_json::from_str(&r.json_line()).ok()),
        facts: Some(found),
    }
}

/// What is not decided is refused, never allowed.
fn undecided(why: &str) -> Answer {
    Answer {
        verdict: Verdict::Refuse,
        rules: Vec::new(),
        message: Some(why.to_owned()),
        refusal: None,
        facts: None,
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
        let answer = match serde_json::from_slice::<Line>(&line) {
            Ok(line) => tester.answer(&line).map_err(|error| error.to_string()),
            Err(error) => Err(format!(
                "not one of {{\"sql\": …}}, {{\"exec\": …}}, {{\"request\": …}}: {error}"
            )),
        };
        match answer {
            Ok(answer) => serde_json::to_writer(&mut to, &answer)?,
            Err(error) => serde_json::to_writer(&mut to, &Failure { error })?,
        }
        to.write_all(b"\n")?;
        to.flush()?;
    }
}

impl Verdict {
    fn exit_code(self) -> ExitCode {
        match self {
            Self::Allow => ExitCode::SUCCESS,
            Self::Refuse => ExitCode::from(REFUSED),
            Self::Ask => ExitCode::from(ASKS),
        }
    }
}

impl Answer {
    fn for_people(&self) -> String {
        use std::fmt::Write;
        let mut text = String::from(match self.verdict {
            Verdict::Allow => "allowed",
            Verdict::Refuse => "refused",
            Verdict::Ask => "a human would be asked",
        });
        // Writing to a String cannot fail.
        if let Some(message) = &self.message {
            let _ = write!(text, ": {message}");
        }
        text.push('\n');
        let rules: Vec<_> = self.rules.iter().map(|rule| &*rule.0).collect();
        if !rules.is_empty() {
            let _ = writeln!(text, "  by       {}", rules.join(", "));
        }
        let hint = self.refusal.as_ref().and_then(|r| r.get("hint")?.as_str());
        if let Some(hint) = hint {
            let _ = writeln!(text, "  hint     {hint}");
        }
        match &self.facts {
            Some(Found::Sql { facts, .. }) => {
                for access in facts.statements.iter().flat_map(|s| &s.accesses) {
                    let _ = writeln!(
                        text,
                        "  {:<8} {} on {}",
                        access.action.as_str().trim_start_matches("sql:"),
                        access.verb,
                        access.object
                    );
                }
            }
            Some(Found::Exec(facts)) => commands(facts, &mut text),
            None => {}
        }
        text
    }
}

/// Each command with what stands out in it, and its files below it.
fn commands(facts: &ShellFacts, text: &mut String) {
    use std::fmt::Write;
    for command in &facts.commands {
        let user = command.user.iter().map(|user| format!(" as {user}"));
        let through = match command.through.is_empty() {
            true => String::new(),
            false => format!(" through {}", command.through.join(", ")),
        };
        let flags: Vec<_> = command.flags.iter().map(|flag| flag.as_str()).collect();
        let flags = match flags.is_empty() {
            true => String::new(),
            false => format!("  [{}]", flags.join(", ")),
        };
        let user: String = user.collect();
        // Writing to a String cannot fail.
        if command.program.is_some() || command.files.is_empty() {
            let _ = writeln!(
                text,
                "  {:<8} {}{user}{through}{flags}",
                "run", command.line
            );
        }
        for file in &command.files {
            let _ = writeln!(text, "  {:<8} {}", file.verb.as_str(), file.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tester() -> Tester {
        of("orders")
    }

    fn of(resource: &str) -> Tester {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hoop.toml");
        let text = "[issuer.okta]\nurl = \"https://x.example\"\naudience = \"a\"\n\
            [[agent]]\nname = \"bot\"\ncgroup = \"agents.slice/bot.service\"\nissuer = \"okta\"\nclient_id = \"c\"\n\
            token = { file = \"/run/token\" }\n\
            [[resource]]\nname = \"orders\"\nprotocol = \"postgres\"\nhosts = [\"db\"]\n\
            login = { user = \"u\", password = { credential = \"not-there\" } }\n\
            [[resource]]\nname = \"web\"\nprotocol = \"ssh\"\nhosts = [\"web1\"]\n\
            login = { user = \"deploy\" }\n\
            [policy]\nuse = [\"ask-before-write\"]\n";
        std::fs::write(&path, text).unwrap();
        let config = Bundle::without_secrets(&path).unwrap();
        let test = Test {
            config: ConfigArg { config: path },
            agent: "bot".into(),
            resource: resource.into(),
            database: "app".into(),
            host: None,
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
        let (protocol, subject) = test.subject(&config).unwrap();
        Tester {
            protocol,
            decider: Decider::new(&config).unwrap(),
            subject,
            hasher: RandomState::new(),
        }
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
        assert_eq!(verdicts[..5], ["allow", "ask", "refuse", "error", "refuse"]);
        assert_eq!(verdicts[5..9], ["error"; 4]);
        assert_eq!(verdicts[9], "allow");
        assert!(answers[5]["error"].as_str().unwrap().contains("sql"));
        assert_eq!(answers[1]["rules"], serde_json::json!(["ask-before-write"]));
        assert_eq!(answers[1]["refusal"]["code"], "approval_unavailable");
        assert_eq!(answers[1]["facts"]["writes"][0]["name"], "users");
        assert!(answers[3]["error"].as_str().unwrap().contains("database"));
        assert_eq!(answers[4]["facts"], serde_json::Value::Null);
    }

    #[test]
    fn commands_are_decided() {
        let input = "{\"exec\": \"ls -l /srv\"}\n{\"exec\": \"rm /srv/x\"}\n{\"exec\": \"sh\"}\n{\"sql\": \"SELECT 1\"}\n";
        let mut output = Vec::new();
        batch(&of("web"), input.as_bytes(), &mut output).unwrap();
        let answers: Vec<serde_json::Value> = output
            .split(|b| *b == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        assert_eq!(answers[0]["verdict"], "allow");
        assert_eq!(answers[0]["facts"]["commands"][0]["argv"][1], "-l");
        assert_eq!(answers[1]["verdict"], "ask");
        assert_eq!(answers[1]["facts"]["deletes"][0], "/srv/x");
        assert_eq!(answers[2]["verdict"], "refuse");
        assert_eq!(answers[2]["facts"]["opaque"], true);
        assert!(answers[3]["error"].as_str().unwrap().contains("SSH"));
        let text = of("web")
            .answer(&Line::Exec("sudo -u app rm -f /srv/x".into()))
            .unwrap()
            .for_people();
        insta::assert_snapshot!(text, @r#"
        a human would be asked: bot needs the approval of hoop-approvers to run `rm -f /srv/x` as app (privileged, writes_files, deletes) by rule "ask-before-write/other-commands"
          by       ask-before-write/other-commands
          hint     wait for the answer, or do without it
          run      rm -f /srv/x as app through sudo  [privileged, writes_files, deletes]
          delete   /srv/x
        "#);
    }

    #[test]
    fn people_read_what_was_decided() {
        let tester = tester();
        let text = tester
            .answer(&Line::Sql(
                "UPDATE public.users SET a = 1 WHERE b = 2".into(),
            ))
            .unwrap()
            .for_people();
        insta::assert_snapshot!(text, @r#"
        a human would be asked: bot needs the approval of hoop-approvers to run UPDATE on table public.users by rule "ask-before-write"
          by       ask-before-write
          hint     wait for the answer, or do without it
          write    UPDATE on table public.users
        "#);
    }

    #[test]
    fn exit_codes() {
        let code = |v: Verdict| format!("{:?}", v.exit_code());
        assert_eq!(code(Verdict::Allow), format!("{:?}", ExitCode::from(0)));
        assert_eq!(code(Verdict::Refuse), format!("{:?}", ExitCode::from(3)));
        assert_eq!(code(Verdict::Ask), format!("{:?}", ExitCode::from(4)));
    }
}
