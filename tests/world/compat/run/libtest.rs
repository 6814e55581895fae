//! Suites of Rust: the test program that `cargo xtask compat` built, and what it prints.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{Outcome, Outcomes, Run, Told};

pub fn run(run: &Run<'_>) -> Result<Told> {
    // Which file that is, cargo knows when it has built it.
    let program = super::super::read(&run.place().join("program"))?;
    let program = PathBuf::from(program.trim());
    let mut told = Told::default();
    let mut chosen = Vec::new();
    for test in list(run, &program)? {
        match run.suite.excluding(&test) {
            Some(row) => {
                told.excluded.insert(row.test.clone());
            }
            None if run.wanted(&test) => chosen.push(test),
            None => {}
        }
    }
    let mut command = run.command(&program)?;
    command.arg("--exact").args(&chosen);
    command.args(["--test-threads", "4"]).args(run.arguments());
    let out = run.bounded(&mut command, "out", "err")?;
    let mut outcomes = printed(&super::super::read(&out)?);
    for test in chosen {
        let outcome = outcomes.remove(&test);
        let hung = || Outcome::new("hung", "the program did not say what became of it");
        told.outcomes.insert(test, outcome.unwrap_or_else(hung));
    }
    Ok(told)
}

fn list(run: &Run<'_>, program: &std::path::Path) -> Result<Vec<String>> {
    let mut command = run.command(program)?;
    let out = run.bounded(command.arg("--list"), "list", "err")?;
    let text = super::super::read(&out)?;
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    let names: Vec<String> = names.map(str::to_owned).collect();
    let first = names.first().context("the program lists no test")?;
    anyhow::ensure!(!first.is_empty(), "a test without a name");
    Ok(names)
}

/// `test NAME ... ok`, and below them what the failed ones printed.
fn printed(text: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for line in text.lines() {
        let named = line
            .strip_prefix("test ")
            .and_then(|l| l.split_once(" ... "));
        let Some((test, said)) = named else { continue };
        let what = match said {
            "ok" => "passed",
            "FAILED" => "failed",
            said if said.starts_with("ignored") => "skipped",
            _ => continue,
        };
        outcomes.insert(
            test.trim_end_matches(" - should panic").to_owned(),
            Outcome::new(what, ""),
        );
    }
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let test = line
            .strip_prefix("---- ")
            .and_then(|l| l.strip_suffix(" stdout ----"));
        let Some(outcome) = test.and_then(|test| outcomes.get_mut(test)) else {
            continue;
        };
        let mut said = lines.by_ref().skip_while(|l| !l.contains("panicked at"));
        said.next();
        outcome.why = said.next().unwrap_or_default().to_owned();
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_prints_is_read() {
        let text = "running 3 tests\ntest a::b ... ok\ntest c ... FAILED\ntest d ... ignored\n\nfailures:\n\n\
                    ---- c stdout ----\n\nthread 'c' (12) panicked at tests/test/main.rs:9:1:\nnot equal\n\n";
        let outcomes = printed(text);
        let what = |test: &str| outcomes[test].what.as_str();
        assert_eq!(
            (what("a::b"), what("c"), what("d")),
            ("passed", "failed", "skipped")
        );
        assert_eq!(outcomes["c"].why, "not equal");
    }
}
