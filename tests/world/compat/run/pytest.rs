//! Suites of Python, whose plugin (tests/compat/outcomes.py) chooses tests and writes what became of them.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Outcome, Run, Told};

/// A suite that loses its interpreter is taken up again behind the test that did it.
const RESUMPTIONS: usize = 12;

pub fn run(run: &Run<'_>) -> Result<Told> {
    let python = run.folder.join("python/bin/python");
    let plugin = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat");
    let (lines, selection) = (run.file("outcomes"), run.file("selection"));
    let excluded: Vec<&str> = run.suite.excluded.iter().map(|row| &*row.test).collect();
    let mut told = Told::default();
    for _ in 0..RESUMPTIONS {
        let done: Vec<&String> = told.outcomes.keys().collect();
        let only = if run.only.is_empty() {
            Value::Null
        } else {
            json!(run.only)
        };
        let chosen = json!({
            "only": only, "without": done, "excluded": excluded, "strip": run.suite.strip
        });
        std::fs::write(&selection, chosen.to_string())?;
        std::fs::write(&lines, "")?;
        let mut command = run.command(&python)?;
        command.args(["-B", "-m", "pytest", "-q", "-p", "outcomes"]);
        command.args(["-p", "no:cacheprovider", "--timeout=60"]);
        command
            .args(run.arguments())
            .env("HOOP_OUTCOMES", &lines)
            .env("HOOP_SELECTION", &selection)
            .env("PYTHONPATH", &plugin);
        run.bounded(&mut command, "out", "err")?;
        let Some(begun) = take(&super::super::read(&lines)?, &mut told)? else {
            break;
        };
        let hung = Outcome::new("hung", "it took the interpreter with it");
        told.outcomes.insert(begun, hung);
    }
    Ok(told)
}

/// The plugin's lines. Returns the test that began and has no end.
pub fn take(lines: &str, told: &mut Told) -> Result<Option<String>> {
    let mut begun = None;
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let test = text(&line, "test");
        if line["begins"] == true {
            begun = Some(test);
            continue;
        }
        if line["excluded"].is_string() {
            told.excluded.insert(text(&line, "excluded"));
            continue;
        }
        begun = begun.filter(|other| *other != test);
        let mut outcome = Outcome::new(&text(&line, "outcome"), &text(&line, "why"));
        outcome.seen = text(&line, "seen");
        told.outcomes.insert(test, outcome);
    }
    Ok(begun)
}

fn text(line: &Value, key: &str) -> String {
    line[key].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_without_an_end_is_told() {
        let mut told = Told::default();
        let lines = "{\"test\":\"x\",\"excluded\":\"x*\"}\n{\"test\":\"a\",\"begins\":true}\n\
                     {\"test\":\"a\",\"outcome\":\"failed\",\"why\":\"no\"}\n{\"test\":\"b\",\"begins\":true}\n";
        assert_eq!(take(lines, &mut told).unwrap().as_deref(), Some("b"));
        assert_eq!(told.outcomes["a"].what, "failed");
        assert!(told.excluded.contains("x*"));
    }
}
