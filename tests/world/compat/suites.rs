//! How each suite is started, and how its outcomes are read.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use hoop_tests::{Who, World};
use serde_json::Value;

/// What became of each test, by its name.
pub type Outcomes = BTreeMap<String, Outcome>;

#[derive(Clone, Debug)]
pub struct Outcome {
    /// `passed`, `failed`, `skipped`, `hung`, …
    pub what: String,
    /// What was raised.
    pub why: String,
}

pub struct Suite {
    pub name: &'static str,
    /// More of the environment: names and values, where DATABASE and PASSWORD stand for themselves.
    environment: &'static [(&'static str, &'static str)],
    arguments: &'static [&'static str],
}

/// No suite takes longer, however slow the machine.
const LIMIT: Duration = Duration::from_secs(900);

/// A suite that loses its interpreter is taken up again behind the test that did it.
const RESUMPTIONS: usize = 12;

const SUITES: &[Suite] = &[
    Suite {
        name: "psycopg2",
        environment: &[
            ("PSYCOPG2_TESTDB", "DATABASE"),
            // It writes a connection string of these, without quotes.
            ("PSYCOPG2_TESTDB_PASSWORD", "'PASSWORD'"),
            ("PSYCOPG2_TEST_FAST", "1"),
        ],
        arguments: &["tests"],
    },
    Suite {
        name: "asyncpg",
        environment: &[],
        // Its checks of its own source need the source.
        arguments: &["tests", "--ignore=tests/test__sourcecode.py"],
    },
    Suite {
        name: "pg8000",
        environment: &[],
        // Benchmarks measure; the rest of `auth` needs a server set up for each.
        arguments: &[
            "test",
            "--ignore-glob=*/test_benchmarks.py",
            "--ignore=test/test_readme.py",
        ],
    },
];

pub fn find(name: &str) -> Result<&'static Suite> {
    SUITES
        .iter()
        .find(|suite| suite.name == name)
        .with_context(|| format!("no suite {name:?}"))
}

/// Runs the suite as that one; only some tests, if any are named.
pub fn run(
    suite: &Suite,
    world: &World,
    folder: &Path,
    who: Who<'_>,
    database: &str,
    only: &[String],
) -> Result<Outcomes> {
    let start = |program: &str| -> Result<Command> {
        let mut command = world.command(who, program)?;
        command.current_dir(folder.join(suite.name));
        // An agent has no password that the server takes; drivers want one all the same.
        let password = match who {
            Who::Direct => world.state.password.as_str(),
            Who::Agent(_) => "whatever",
        };
        command.env("PGPASSWORD", password);
        command.env("PGDATABASE", database);
        for (name, value) in suite.environment {
            let value = value.replace("DATABASE", database);
            command.env(name, value.replace("PASSWORD", password));
        }
        Ok(command)
    };
    pytest(suite, folder, only, start)
}

fn pytest(
    suite: &Suite,
    folder: &Path,
    only: &[String],
    start: impl Fn(&str) -> Result<Command>,
) -> Result<Outcomes> {
    let python = folder.join("python/bin/python").display().to_string();
    let plugin = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat");
    let lines = folder.join(format!("{}.outcomes", suite.name));
    let mut outcomes = Outcomes::new();
    for _ in 0..RESUMPTIONS {
        std::fs::write(&lines, "")?;
        let mut command = start(&python)?;
        command.args(["-B", "-m", "pytest", "-q", "-p", "outcomes"]);
        command.args(["-p", "no:cacheprovider", "--timeout=60"]);
        command
            .env("HOOP_OUTCOMES", &lines)
            .env("PYTHONPATH", &plugin);
        match only {
            [] => command.args(suite.arguments),
            only => command.args(only),
        };
        for done in outcomes.keys() {
            command.arg(format!("--deselect={done}"));
        }
        let ran = hoop_tests::run(&mut command, "", LIMIT);
        let begun = take(&super::read(&lines)?, &mut outcomes)?;
        let Some(test) = begun else {
            if outcomes.is_empty() {
                eprintln!("{ran:?}");
            }
            break;
        };
        let what = "hung".to_owned();
        let why = "it took the interpreter with it".to_owned();
        outcomes.insert(test, Outcome { what, why });
    }
    Ok(outcomes)
}

/// The plugin's lines. Returns the test that began and has no end.
fn take(lines: &str, outcomes: &mut Outcomes) -> Result<Option<String>> {
    let mut begun = None;
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let test = text(&line, "test");
        if line["begins"] == true {
            begun = Some(test);
            continue;
        }
        begun = begun.filter(|other| *other != test);
        let outcome = Outcome {
            what: text(&line, "outcome"),
            why: text(&line, "why"),
        };
        outcomes.insert(test, outcome);
    }
    Ok(begun)
}

fn text(line: &Value, key: &str) -> String {
    line[key].as_str().unwrap_or_default().to_owned()
}
