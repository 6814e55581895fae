//! How a suite is started, and how what became of its tests is read.

mod libtest;
mod mocha;
mod pytest;
mod regress;
mod script;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hoop_tests::{Who, World};

use super::ssh::Hosts;
use super::suites::{Runner, Server, Suite};

/// What became of each test, by its name.
pub type Outcomes = BTreeMap<String, Outcome>;

#[derive(Clone, Debug)]
pub struct Outcome {
    /// `passed`, `failed`, `skipped`, `hung`, …
    pub what: String,
    /// What was raised.
    pub why: String,
    /// What the user of a client saw, where the suite tells it: it must be equal too.
    pub seen: String,
}

impl Outcome {
    fn new(what: &str, why: &str) -> Self {
        Self {
            what: what.to_owned(),
            why: why.to_owned(),
            seen: String::new(),
        }
    }
}

/// One run of a suite on one side.
pub struct Run<'a> {
    pub suite: &'a Suite,
    pub world: &'a World,
    /// Where the suites and what they need are.
    pub folder: &'a Path,
    pub who: Who<'a>,
    pub database: &'a str,
    /// Where suites of SSH run.
    pub hosts: Option<&'a Hosts>,
    /// Only these tests; all if there are none.
    pub only: &'a [String],
}

/// What a run told.
#[derive(Default)]
pub struct Told {
    pub outcomes: Outcomes,
    /// The rows of the table that excluded something.
    pub excluded: BTreeSet<String>,
}

/// No run takes longer, however slow the machine; of full sizes, the second.
const LIMITS: [Duration; 2] = [Duration::from_secs(1200), Duration::from_secs(7200)];

/// Neither side asks for a password: both answer AuthenticationOk. Drivers want one all the same.
const PASSWORD: &str = "whatever";

impl Run<'_> {
    pub fn run(&self) -> Result<Told> {
        match self.suite.runner {
            Runner::Pytest => pytest::run(self),
            Runner::Libtest => libtest::run(self),
            Runner::Mocha => mocha::run(self),
            Runner::Regress => regress::run(self),
            Runner::Script => script::run(self),
        }
    }

    /// A program as that side starts it, in the suite's folder.
    fn command(&self, program: &Path) -> Result<Command> {
        let mut command = self.world.state.command(self.who, program)?;
        command.current_dir(self.place());
        match self.suite.server {
            Server::Postgres => command
                .env("PGPASSWORD", PASSWORD)
                .env("PGDATABASE", self.database),
            Server::Ssh => command.envs(self.hosts()?.environment(self.who, &self.suite.name)?),
        };
        for (name, value) in &self.suite.environment {
            command.env(name, self.filled(value));
        }
        Ok(command)
    }

    fn hosts(&self) -> Result<&Hosts> {
        self.hosts.context("this run has no host of SSH")
    }

    fn arguments(&self) -> impl Iterator<Item = String> {
        self.suite.arguments.iter().map(|text| self.filled(text))
    }

    fn filled(&self, text: &str) -> String {
        let text = text.replace("DATABASE", self.database);
        match self.hosts {
            Some(hosts) => text.replace("THERE", &hosts.there(&self.suite.name)),
            None => text,
        }
    }

    fn place(&self) -> PathBuf {
        self.folder.join(&self.suite.name)
    }

    /// A file of this run's: what is left of it serves who looks for the reason of a failure.
    fn file(&self, what: &str) -> PathBuf {
        let side = match self.who {
            Who::Direct => "direct",
            Who::Agent(_) => "through",
        };
        let again = if self.only.is_empty() { "" } else { ".again" };
        let name = format!("{}.{side}{again}.{what}", self.suite.name);
        self.folder.join("runs").join(name)
    }

    /// Runs the command to its end or to the limit, with its two outputs in files of these names; returns
    /// where the first is.
    fn bounded(&self, command: &mut Command, out: &str, err: &str) -> Result<PathBuf> {
        let create = |path: &Path| {
            File::create(path).with_context(|| format!("cannot create {}", path.display()))
        };
        let (out, err) = (self.file(out), self.file(err));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(create(&out)?)
            .stderr(create(&err)?)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let [usual, long] = LIMITS;
        let limit = match self.hosts.is_some_and(Hosts::is_long) {
            true => long,
            false => usual,
        };
        let until = Instant::now() + limit;
        while child.try_wait()?.is_none() {
            if Instant::now() > until {
                child.kill()?;
                child.wait()?;
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(out)
    }

    /// Whether the test is one that this run is for.
    fn wanted(&self, test: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == test)
    }
}
