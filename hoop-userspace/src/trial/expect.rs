//! A site's own cases: what its policies are expected to say, compared with what they say.
//!
//! ```toml
//! agent = "billing-bot"                 # for every case that names none
//! resource = "orders"
//! database = "appdb"
//!
//! [[case]]
//! name = "reports may be read"          # optional, as all but statement and verdict
//! statement = "SELECT * FROM reports.revenue"
//! verdict = "allow"                     # allow, ask or refuse
//! rule = "reporting/reads"              # one of those that decided
//!
//! [[case]]
//! resource = "web"
//! host = "web1.prod.internal"
//! groups = ["deployers"]
//! statement = "systemctl restart nginx"
//! verdict = "ask"
//! ```

use std::collections::HashMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::policy::{Answer, ApiRequest, Found, Supposed, Tester, Verdict};
use super::{Unusable, unusable};
use crate::config::Config;
use crate::decide::{Decider, KubernetesAction, KubernetesFacts};

/// Cases of one file.
const MAX_CASES: usize = 100_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    agent: Option<String>,
    resource: Option<String>,
    database: Option<String>,
    host: Option<String>,
    groups: Option<Vec<String>>,
    executable: Option<PathBuf>,
    #[serde(default)]
    case: Vec<Spanned<Case>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: Option<String>,
    agent: Option<String>,
    resource: Option<String>,
    database: Option<String>,
    host: Option<String>,
    groups: Option<Vec<String>>,
    executable: Option<PathBuf>,
    statement: String,
    /// Of a request to a cluster, and its media type; without one that which kubectl gives.
    body: Option<String>,
    content_type: Option<String>,
    verdict: Verdict,
    rule: Option<String>,
    code: Option<String>,
}

/// One case and what became of it. The keys are kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    pub name: String,
    /// Of the file, from 1.
    pub line: usize,
    pub agent: String,
    pub resource: String,
    pub statement: String,
    pub ok: bool,
    pub expected: Expected,
    /// What the policies say; absent where the case makes no sense.
    pub got: Option<Got>,
    /// Why it makes none.
    pub error: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Expected {
    pub verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Got {
    pub verdict: Verdict,
    pub rules: Vec<String>,
    /// Of what is not allowed.
    pub code: Option<String>,
    pub message: Option<String>,
}

/// Decides every case of a file's text. Fails where that is no file of cases.
pub fn compare(config: &Config, text: &str) -> Result<Vec<Compared>, Unusable> {
    let file: File = toml::from_str(text).map_err(|e| Unusable(e.to_string()))?;
    if file.case.is_empty() {
        return super::unusable("it holds no [[case]], and so shows nothing");
    }
    if file.case.len() > MAX_CASES {
        return super::unusable(format!("it holds more than {MAX_CASES} cases"));
    }
    let decider = Arc::new(Decider::new(config)?);
    let mut testers: HashMap<Supposed, Result<Tester, Unusable>> = HashMap::new();
    let mut all = Vec::new();
    for case in &file.case {
        let before = text.get(..case.span().start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let case = case.get_ref();
        let supposed = file.supposed(case);
        let (agent, resource) = (supposed.agent.clone(), supposed.resource.clone());
        let tester = testers
            .entry(supposed)
            .or_insert_with_key(|who| Tester::with(decider.clone(), config, who.clone()));
        let answer = match tester {
            Ok(tester) => case.asked(tester),
            Err(why) => Err(why.clone()),
        };
        all.push(compared(case, line, agent, resource, answer));
    }
    Ok(all)
}

impl Case {
    fn asked(&self, tester: &Tester) -> Result<Answer, Unusable> {
        let kind = self.content_type.clone();
        let Some(body) = &self.body else {
            if kind.is_some() {
                return unusable("it has a content_type and no body");
            }
            let answer = tester.text(&self.statement)?;
            return match &answer.facts {
                Some(Found::Kubernetes(facts)) if needs_body(facts) => {
                    unusable("policies go by what the object holds: give its body")
                }
                _ => Ok(answer),
            };
        };
        if !tester.takes_requests() {
            return unusable("only a request to a cluster has a body");
        }
        let request = ApiRequest::of(&self.statement)?;
        tester.request(&request.with_body(kind, body.clone().into_bytes()))
    }
}

/// What without a body is refused whatever the policies say.
fn needs_body(facts: &KubernetesFacts) -> bool {
    use KubernetesAction as A;
    matches!(facts.action, A::Create | A::Update | A::Patch)
        || facts.action == A::Unknown
            && matches!(facts.verb.as_str(), "create" | "update" | "patch")
}

impl File {
    fn supposed(&self, case: &Case) -> Supposed {
        let text = |own: &Option<String>, all: &Option<String>| own.clone().or_else(|| all.clone());
        Supposed {
            agent: text(&case.agent, &self.agent).unwrap_or_default(),
            resource: text(&case.resource, &self.resource).unwrap_or_default(),
            database: text(&case.database, &self.database).unwrap_or_else(|| "postgres".to_owned()),
            host: text(&case.host, &self.host),
            groups: case
                .groups
                .clone()
                .or_else(|| self.groups.clone())
                .unwrap_or_default(),
            executable: case.executable.clone().or_else(|| self.executable.clone()),
        }
    }
}

fn compared(
    case: &Case,
    line: usize,
    agent: String,
    resource: String,
    answer: Result<Answer, Unusable>,
) -> Compared {
    let (got, error) = match answer {
        Ok(answer)
            if case.verdict == Verdict::Refuse && case.code.is_none() && !is_read(&answer) =>
        {
            let why = answer.message.unwrap_or_default();
            let error = format!(
                "hoop does not understand it, and so no rule was asked ({why}); if that is what is meant, give the code too"
            );
            (None, Some(error))
        }
        Ok(answer) => (Some(got(&answer)), None),
        Err(why) => (None, Some(why.to_string())),
    };
    let ok = got.as_ref().is_some_and(|got| {
        let rule = case.rule.as_ref();
        let code = case.code.as_ref();
        got.verdict == case.verdict
            && rule.is_none_or(|rule| got.rules.contains(rule))
            && code.is_none_or(|code| got.code.as_ref() == Some(code))
    });
    Compared {
        name: case
            .name
            .clone()
            .unwrap_or_else(|| shortened(&case.statement)),
        line,
        agent,
        resource,
        statement: case.statement.clone(),
        ok,
        expected: Expected {
            verdict: case.verdict,
            rule: case.rule.clone(),
            code: case.code.clone(),
        },
        got,
        error,
    }
}

/// Whether hoop made anything of the text: a misspelt one is refused whatever the policies say.
fn is_read(answer: &Answer) -> bool {
    match &answer.facts {
        None => false,
        Some(Found::Sql { facts, .. }) => facts.unparsable.is_none(),
        Some(Found::Exec(facts)) => facts.unparsable.is_none(),
        Some(Found::Kubernetes(_)) => true,
    }
}

fn got(answer: &Answer) -> Got {
    let code = answer
        .refusal
        .as_ref()
        .and_then(|r| r.get("code")?.as_str());
    Got {
        verdict: answer.verdict,
        rules: answer.rules.iter().map(|r| r.0.to_string()).collect(),
        code: code.map(str::to_owned),
        message: answer.message.clone(),
    }
}

fn shortened(statement: &str) -> String {
    const LONGEST: usize = 60;
    let line: String = statement.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

impl Compared {
    /// What was expected and what came, line by line; empty if they agree.
    pub fn difference(&self) -> String {
        let mut text = String::new();
        if self.ok {
            return text;
        }
        let by = |rules: &str| match rules {
            "" => String::new(),
            rules => format!(" by {rules}"),
        };
        let coded = |code: &Option<String>| match code {
            Some(code) => format!(" ({code})"),
            None => String::new(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  - expected {}{}{}",
            self.expected.verdict.name(),
            coded(&self.expected.code),
            by(self.expected.rule.as_deref().unwrap_or_default())
        );
        match (&self.got, &self.error) {
            (Some(got), _) => {
                let code = match self.expected.code.is_some() || got.verdict == Verdict::Refuse {
                    true => coded(&got.code),
                    false => String::new(),
                };
                let rules = match got.rules.is_empty() {
                    true => "no rule".to_owned(),
                    false => got.rules.join(", "),
                };
                let _ = writeln!(
                    text,
                    "  + got      {}{code}{}",
                    got.verdict.name(),
                    by(&rules)
                );
                if let Some(message) = &got.message {
                    let _ = writeln!(text, "             {message}");
                }
            }
            (None, why) => {
                let why = why.as_deref().unwrap_or("nothing");
                let _ = writeln!(text, "  + got      no answer: {why}");
            }
        }
        text
    }
}

/// The same as JUnit's XML, which CI systems read.
pub fn junit(file: &str, all: &[Compared]) -> String {
    let failures = all.iter().filter(|c| !c.ok && c.error.is_none()).count();
    let errors = all.iter().filter(|c| c.error.is_some()).count();
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  \
         <testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\">\n",
        escaped(file),
        all.len()
    );
    for case in all {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "    <testcase classname=\"{}.{}\" name=\"{}\" file=\"{}\" line=\"{}\"",
            escaped(&case.agent),
            escaped(&case.resource),
            escaped(&case.name),
            escaped(file),
            case.line
        );
        let kind = match (case.ok, &case.error) {
            (true, _) => {
                text.push_str("/>\n");
                continue;
            }
            (false, None) => "failure",
            (false, Some(_)) => "error",
        };
        let _ = writeln!(
            text,
            ">\n      <{kind} message=\"{}\">{}\n{}</{kind}>\n    </testcase>",
            escaped("the policies say something else"),
            escaped(&case.statement),
            escaped(&case.difference())
        );
    }
    text.push_str("  </testsuite>\n</testsuites>\n");
    text
}

/// As XML 1.0 takes it: of control characters it knows three, and these not in attributes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
