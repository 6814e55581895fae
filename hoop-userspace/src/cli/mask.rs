//! `hoop mask test`: what the agent would see of a value or a result.
//!
//! Each line of standard input is a JSON object:
//!
//! - a value: `{"column": "public.users.ssn", "value": "123-45-6789", "type": "text"}`, or without
//!   `column` a value of no column's;
//! - a result: `{"sql": "SELECT …", "columns": […], "rows": [[…], …]}`, where a column is
//!   `{"table": "public.users", "column": "ssn", "type": "text"}`, or without `table` an expression.
//!   `relations` lists views and partitions: `{"name": "public.people", "kind": "view",
//!   "columns": […], "reads": ["public.users"], "parents": [], "definition": "SELECT …"}`; without its
//!   definition, a view of a masked table is masked whole.
//!
//! The answer to a value is `{"value": …, "masked": …}`, to a result `{"rows": …, "masked": n}`; either
//! names the detectors that found something: `"detected": ["card"]`.

use std::io::{BufRead, Read, Write};
use std::process::ExitCode;

use anyhow::{Result, anyhow};

use super::ConfigArg;
use crate::config::Bundle;
use crate::trial::mask::{Answer, Tester};

/// Of one line, in bytes.
const LONGEST_LINE: u64 = 16 << 20;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Mask values or results from standard input, one JSON object per line
    Test(Test),
}

#[derive(clap::Args)]
struct Test {
    #[command(flatten)]
    config: ConfigArg,
    /// The resource whose masks apply, as the configuration names it
    #[arg(long)]
    resource: String,
    /// Accepted everywhere; this subcommand always prints JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let Command::Test(test) = args.command;
    let config = Bundle::without_secrets(&test.config.config)?;
    let tester = Tester::new(&config, &test.resource).map_err(|why| anyhow!("{why}"))?;
    answer_all(&tester, std::io::stdin().lock(), std::io::stdout().lock())
}

/// Answers line by line, so that a program can talk with it. 1 if a line was no question.
fn answer_all(tester: &Tester, mut from: impl BufRead, mut to: impl Write) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    let mut line = Vec::new();
    loop {
        line.clear();
        if from
            .by_ref()
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)?
            == 0
        {
            return Ok(code);
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let answer = tester.answer(&line).unwrap_or_else(|error| {
            code = ExitCode::FAILURE;
            Answer::Error {
                error: error.to_string(),
            }
        });
        writeln!(to, "{}", serde_json::to_string(&answer)?)?;
        to.flush()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn answers(questions: &str) -> String {
        let text = "[[resource]]\nname = \"orders\"\nprotocol = \"postgres\"\nhosts = [\"db\"]\n\
             login = { user = \"hoop\" }\n[[mask]]\nresource = \"orders\"\n\
             columns = [\"public.users.ssn\"]\nhow = \"partial\"\n";
        answers_of(text, questions)
    }

    fn answers_of(text: &str, questions: &str) -> String {
        let bundle = Bundle::from_text(Path::new("hoop.toml"), text);
        let config = crate::config::Config::from_bundle(&bundle).unwrap();
        let tester = Tester::new(&config, "orders").unwrap();
        let mut out = Vec::new();
        answer_all(&tester, questions.as_bytes(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_and_results_as_the_agent_would_see_them() {
        let questions = [
            r#"{"column": "public.users.ssn", "value": "123-45-6789"}"#,
            r#"{"column": "public.users.ssn", "value": 7, "type": "int4"}"#,
            r#"{"column": "public.users.name", "value": "Ada"}"#,
            r#"{"sql": "SELECT id, ssn, lower(ssn) FROM users", "columns": [{"table": "public.users", "column": "id", "type": "int4"}, {"table": "public.users", "column": "ssn"}, {}], "rows": [[1, "123-45-6789", "123-45-6789"], [2, null, null]]}"#,
            r#"{"sql": "SELECT who FROM people", "columns": [{"table": "public.people", "column": "who"}], "rows": [["Ada"]], "relations": [{"name": "public.people", "kind": "view", "columns": ["who"], "reads": ["public.users"]}, {"name": "public.users", "columns": ["ssn"]}]}"#,
            r#"{"sql": "SELECT who, code FROM people", "columns": [{"table": "public.people", "column": "who"}, {"table": "public.people", "column": "code"}], "rows": [["Ada", "123-45-6789"]], "relations": [{"name": "public.people", "kind": "view", "columns": ["who", "code"], "reads": ["public.users"], "definition": "SELECT u.name AS who, u.ssn AS code FROM public.users u"}, {"name": "public.users", "columns": ["name", "ssn"]}]}"#,
            r#"{"column": "ssn", "value": 1}"#,
            "nonsense",
        ];
        insta::assert_snapshot!(answers(&questions.join("\n")), @r#"
        {"value":"*******6789","masked":true}
        {"value":null,"masked":true}
        {"value":"Ada","masked":false}
        {"rows":[[1,"*******6789","[masked]"],[2,null,null]],"masked":2}
        {"rows":[["[masked]"]],"masked":1}
        {"rows":[["Ada","*******6789"]],"masked":1}
        {"error":"a column is schema.table.column"}
        {"error":"not a value (column, value, type) nor a result (sql, columns, rows): expected ident at line 1 column 2"}
        "#);
    }

    #[test]
    fn detectors_are_named() {
        let text = "[[resource]]\nname = \"orders\"\nprotocol = \"postgres\"\nhosts = [\"db\"]\n\
             login = { user = \"hoop\" }\n[[mask]]\nresource = \"orders\"\n\
             detect = [\"pii\", \"financial\", \"secrets\"]\nhow = \"redact\"\n";
        let questions = [
            r#"{"value": "card 4111 1111 1111 1111, ada@example.com"}"#,
            r#"{"column": "public.users.password", "value": "letmein"}"#,
            r#"{"value": {"dob": "1980-02-29"}, "type": "jsonb"}"#,
            r#"{"value": "nothing"}"#,
            r#"{"columns": [{"column": "n", "type": "int8"}, {}], "rows": [[4111111111111111, "x"]]}"#,
        ];
        insta::assert_snapshot!(answers_of(text, &questions.join("\n")), @r#"
        {"value":"card [masked:card], [masked:email]","masked":true,"detected":["card","email"]}
        {"value":"[masked:password]","masked":true,"detected":["password"]}
        {"value":{"dob":"[masked:birth-date]"},"masked":true,"detected":["birth-date"]}
        {"value":"nothing","masked":false}
        {"rows":[[null,"x"]],"masked":1,"detected":["card"]}
        "#);
    }

    #[test]
    fn documents_lose_what_paths_name() {
        let text = "[[resource]]\nname = \"orders\"\nprotocol = \"postgres\"\nhosts = [\"db\"]\n\
             login = { user = \"hoop\" }\n[[mask]]\nresource = \"orders\"\n\
             columns = [\"public.payments.details\"]\nhow = \"partial\"\n\
             json = [\"$.card.number\", \"$..iban\"]\n";
        let details = r#""column": "public.payments.details""#;
        let questions = [
            format!(
                r#"{{{details}, "type": "jsonb", "value": {{"card": {{"number": "4111111111111111"}}, "shop": "x", "to": [{{"iban": 7}}]}}}}"#
            ),
            format!(r#"{{{details}, "type": "jsonb", "value": {{"shop": "x"}}}}"#),
            format!(r#"{{{details}, "type": "text", "value": "no document"}}"#),
            r#"{"sql": "SELECT details ->> 'shop' FROM payments", "columns": [{}], "rows": [["x"]], "relations": [{"name": "public.payments", "columns": ["details"]}]}"#.to_owned(),
        ];
        insta::assert_snapshot!(answers_of(text, &questions.join("\n")), @r#"
        {"value":{"card":{"number":"************1111"},"shop":"x","to":[{"iban":"*"}]},"masked":true}
        {"value":{"shop":"x"},"masked":true}
        {"value":"[masked]","masked":true}
        {"rows":[["[masked]"]],"masked":1}
        "#);
    }
}
