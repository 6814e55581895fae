//! `hoop policy test`: what the policies say of a request, and why, without touching any server.
//!
//! Other tools rely on its output: exit codes 0 allowed, 1 failed, 2 wrong usage, 3 refused,
//! 4 would ask; `--batch` answers each line of JSON with one, and a bad line with an error.

use std::io::{BufRead, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ConfigArg;
use crate::config::{Bundle, Config};
use crate::decide::{KubernetesFacts, ShellFacts};
use crate::trial::Unusable;
use crate::trial::policy::{Answer, ApiRequest, Found, Supposed, Tester, Verdict};

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
    /// Decide what was recorded again under other policies, and show each verdict that changes
    Replay(Box<super::policy_replay::Args>),
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
    #[arg(long, required_unless_present = "expect")]
    agent: Option<String>,
    /// The resource that is asked, as the configuration names it
    #[arg(long, required_unless_present = "expect")]
    resource: Option<String>,
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
    /// The body of the request, as it is sent; `-` reads standard input
    #[arg(long, value_name = "FILE", requires = "request")]
    body: Option<std::path::PathBuf>,
    /// What the body is; JSON by default, of PATCH a merge patch
    #[arg(long, value_name = "TYPE", requires = "body")]
    content_type: Option<String>,
    /// Print one JSON object per answer
    #[arg(long)]
    json: bool,
    /// With --expect: write the outcome as JUnit's XML too
    #[arg(long, value_name = "FILE", requires = "expect")]
    junit: Option<std::path::PathBuf>,
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
    /// Compare with a file of cases, each with the verdict that is expected; 1 if one differs
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["agent", "resource", "database", "host", "groups", "executable"]
    )]
    expect: Option<std::path::PathBuf>,
}

/// One line of a batch: exactly one of these.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Line {
    Sql(String),
    Exec(String),
    Request(Asked),
}

/// A request to an API server: a line, or a line with a body.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Asked {
    Line(String),
    Whole(Whole),
    #[serde(skip)]
    Read(ApiRequest),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    method: String,
    path: String,
    content_type: Option<String>,
    /// Text as it is sent; anything else is sent as JSON.
    #[serde(default)]
    body: Value,
}

#[derive(Serialize)]
struct Failure {
    error: String,
}

pub fn run(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Test(test) => test.run(),
        Command::Replay(args) => Ok(super::policy_replay::run(*args)),
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
        let config = Bundle::without_secrets(&self.config.config);
        if let Some(file) = &self.what.expect {
            let (xml, config) = (self.junit.as_deref(), config.map_err(Into::into));
            return Ok(super::policy_expect::run(config, file, xml, self.json));
        }
        let config = config?;
        let tester = self.tester(&config)?;
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
            What { request, .. } => {
                let request = request.unwrap_or_default();
                let asked = ApiRequest::of(&request).map_err(|why| anyhow!("{why}"))?;
                Line::Request(Asked::Read(match &self.body {
                    Some(path) => asked.with_body(self.content_type.clone(), body(path)?),
                    None => asked,
                }))
            }
        };
        let answer = answer(&tester, &line).map_err(|why| anyhow!("{why}"))?;
        match self.json {
            true => println!("{}", serde_json::to_string(&answer)?),
            false => print!("{}", for_people(&answer)),
        }
        Ok(exit_code(answer.verdict))
    }

    fn tester(&self, config: &Config) -> Result<Tester> {
        let supposed = Supposed {
            agent: self.agent.clone().unwrap_or_default(),
            resource: self.resource.clone().unwrap_or_default(),
            database: self.database.clone(),
            host: self.host.clone(),
            groups: self.groups.clone(),
            executable: self.executable.clone(),
        };
        Tester::new(config, supposed).map_err(|why| anyhow!("{why}"))
    }
}

fn answer(tester: &Tester, line: &Line) -> Result<Answer, Unusable> {
    match line {
        Line::Sql(text) => tester.sql(text),
        Line::Exec(text) => tester.exec(text),
        Line::Request(Asked::Read(asked)) => tester.request(asked),
        Line::Request(Asked::Line(line)) => tester.request(&ApiRequest::of(line)?),
        Line::Request(Asked::Whole(whole)) => {
            let asked = ApiRequest {
                method: whole.method.clone(),
                target: whole.path.clone(),
                ..ApiRequest::default()
            };
            tester.request(&match &whole.body {
                Value::Null => asked,
                Value::String(text) => {
                    asked.with_body(whole.content_type.clone(), text.clone().into_bytes())
                }
                value => {
                    asked.with_body(whole.content_type.clone(), value.to_string().into_bytes())
                }
            })
        }
    }
}

/// What a file holds, which is no longer than an API server takes.
fn body(path: &std::path::Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(std::io::stdin().lock()),
        false => Box::new(
            std::fs::File::open(path)
                .with_context(|| format!("cannot read the body {}", path.display()))?,
        ),
    };
    file.take(LONGEST_LINE).read_to_end(&mut bytes)?;
    Ok(bytes)
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
            Ok(line) => answer(tester, &line).map_err(|why| why.to_string()),
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
    match &answer.facts {
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
        Some(Found::Kubernetes(facts)) => objects(facts, &mut text),
        None => {}
    }
    text
}

/// What is done to which object, and what stands out in it.
fn objects(facts: &KubernetesFacts, text: &mut String) {
    use std::fmt::Write;
    let group = match facts.group.as_str() {
        "" => String::new(),
        group => format!(".{group}"),
    };
    let of = |name: &str, value: &str| match value {
        "" => String::new(),
        value => format!("{name}{value}"),
    };
    let action = facts.action.as_str().trim_start_matches("k8s:");
    let object = match facts.kind.as_str() {
        "" => facts.path.clone(),
        kind => format!(
            "{kind}{group}{}{}{}",
            of("/", &facts.subresource),
            of(" ", &facts.name),
            of(" in ", &facts.namespace)
        ),
    };
    let flags: Vec<_> = facts.flags.iter().map(|flag| flag.as_str()).collect();
    let flags = match flags.is_empty() {
        true => String::new(),
        false => format!("  [{}]", flags.join(", ")),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  {action:<8} {object}{flags}");
    let lists = [
        ("images", &facts.images),
        ("secrets", &facts.secrets),
        ("roles", &facts.roles),
        ("subjects", &facts.subjects),
    ];
    for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        let _ = writeln!(text, "  {name:<8} {}", list.join(", "));
    }
    if let Some(command) = &facts.command {
        commands(command, text);
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
            [[resource]]\nname = \"web\"\nprotocol = \"ssh\"\nhosts = [\"web1\"]\ntrust_on_first_use = true\n\
            login = { user = \"deploy\", password = { credential = \"not-there\" } }\n\
            [[resource]]\nname = \"prod\"\nprotocol = \"kubernetes\"\nhosts = [\"api\"]\n\
            login = { token = { file = \"/run/kube\" } }\n\
            [policy]\nuse = [\"ask-before-write\"]\n";
        std::fs::write(&path, text).unwrap();
        let config = Bundle::without_secrets(&path).unwrap();
        let test = Test {
            config: ConfigArg { config: path },
            agent: Some("bot".into()),
            resource: Some(resource.into()),
            database: "app".into(),
            host: None,
            groups: Vec::new(),
            executable: None,
            body: None,
            content_type: None,
            json: true,
            junit: None,
            what: What {
                sql: None,
                exec: None,
                request: None,
                batch: true,
                expect: None,
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
        assert_eq!(verdicts[..5], ["allow", "ask", "refuse", "error", "error"]);
        assert_eq!(verdicts[5..9], ["error"; 4]);
        assert_eq!(verdicts[9], "allow");
        assert!(answers[5]["error"].as_str().unwrap().contains("sql"));
        assert_eq!(answers[1]["rules"], serde_json::json!(["ask-before-write"]));
        assert_eq!(answers[1]["refusal"]["code"], "approval_unavailable");
        assert_eq!(answers[1]["facts"]["writes"][0]["name"], "users");
        assert!(answers[3]["error"].as_str().unwrap().contains("database"));
        assert!(answers[4]["error"].as_str().unwrap().contains("no cluster"));
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
        let text = for_people(&of("web").exec("sudo -u app rm -f /srv/x").unwrap());
        insta::assert_snapshot!(text, @r#"
        a human would be asked: bot needs the approval of hoop-approvers to run `rm -f /srv/x` as app (privileged, writes_files, deletes) by rule "ask-before-write/other-commands"
          by       ask-before-write/other-commands
          hint     wait for the answer, or do without it
          run      rm -f /srv/x as app through sudo  [privileged, writes_files, deletes]
          delete   /srv/x
        "#);
    }

    #[test]
    fn requests_are_decided() {
        let input = concat!(
            "{\"request\": \"GET /api/v1/pods?watch=1\"}\n{\"request\": \"DELETE /api/v1/namespaces/n/pods/p\"}\n",
            "{\"request\": \"GET /api/v1/nodes/n/proxy/\"}\n{\"sql\": \"SELECT 1\"}\n{\"request\": \"GET\"}\n",
            "{\"request\": {\"method\": \"POST\", \"path\": \"/api/v1/namespaces/n/pods\", \"body\": {\"spec\": {\"hostNetwork\": true}}}}\n",
            "{\"request\": {\"method\": \"PATCH\", \"path\": \"/api/v1/namespaces/n/pods/p\", \"body\": \"[]\", \"content_type\": \"application/json-patch+json\"}}\n",
            "{\"request\": \"GET /api/v1/%zz\"}\n{\"request\": {\"method\": \"GET\"}}\n",
        );
        let mut output = Vec::new();
        batch(&of("prod"), input.as_bytes(), &mut output).unwrap();
        let answers: Vec<serde_json::Value> = output
            .split(|b| *b == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        let verdicts: Vec<_> = answers
            .iter()
            .map(|a| a["verdict"].as_str().unwrap_or("error"))
            .collect();
        assert_eq!(
            verdicts,
            [
                "allow", "ask", "refuse", "error", "error", "ask", "ask", "refuse", "error"
            ]
        );
        assert_eq!(answers[0]["facts"]["action"], "k8s:watch");
        assert_eq!(answers[5]["facts"]["flags"][0], "host_network");
        assert_eq!(answers[6]["facts"]["patch"], "json");
        let text = for_people(
            &of("prod")
                .text("DELETE /apis/apps/v1/namespaces/n/deployments/web")
                .unwrap(),
        );
        insta::assert_snapshot!(text, @r#"
        a human would be asked: bot needs the approval of hoop-approvers to delete deployments.apps web in n by rule "ask-before-write/other-objects"
          by       ask-before-write/other-objects
          hint     wait for the answer, or do without it
          delete   deployments.apps web in n  [deletes]
        "#);
    }

    #[test]
    fn people_read_what_was_decided() {
        let tester = tester();
        let answer = tester.sql("UPDATE public.users SET a = 1 WHERE b = 2");
        let text = for_people(&answer.unwrap());
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
