//! The clients' own test suites, each run past hoop and through it, and compared test by test.
//!
//! A test that differs runs once more on both sides, alone: what only one run in two shows is the
//! suite's affair. What differs twice must be explained in docs/COMPATIBILITY.md, and what is
//! explained there must differ, or the command fails.

mod explained;
mod suites;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use hoop_tests::{AgentSettings, Place, Settings, Who, World};

use explained::Explained;
use suites::{Outcome, Outcomes, Suite};

const AGENT: &str = "compat-bot";

/// Everything, what hoop cannot read included: what a policy would refuse is no difference here.
const POLICY: &str = r#"
@id("everything")
permit (principal, action, resource);
@id("and-what-cannot-be-read")
permit (principal, action == Action::"sql:unknown", resource);
"#;

#[derive(clap::Args)]
pub struct Arguments {
    /// Where the suites are, each in a folder of its name
    #[arg(long)]
    folder: PathBuf,
    /// NAME=VERSION; several
    #[arg(long = "suite", required = true)]
    suites: Vec<String>,
}

/// One suite, run on both sides.
struct Compared {
    name: String,
    version: String,
    seconds: f64,
    direct: Outcomes,
    through: Outcomes,
    /// Differed at first, and not when it was run again.
    unsteady: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let folder = std::fs::canonicalize(&arguments.folder)?;
    let explained = Explained::read()?;
    let world = World::start_in(Place::make()?, settings())?;
    prepare(&world)?;
    let mut ground = Ground {
        world,
        folder: folder.clone(),
        databases: 0,
    };
    let mut all = Vec::new();
    for named in &arguments.suites {
        let (name, version) = named.split_once('=').unwrap_or((named, ""));
        let compared = ground.compare(suites::find(name)?, version)?;
        eprintln!("{}", compared.summary());
        all.push(compared);
    }
    let (report, complaints) = report(&all, &explained);
    std::fs::write(folder.join("../compat.md"), &report)?;
    print!("{report}");
    ensure!(
        complaints.is_empty(),
        "{} complaints:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
    Ok(())
}

fn settings() -> Settings {
    Settings {
        agents: vec![AgentSettings::new(AGENT)],
        masks: Vec::new(),
        packs: Vec::new(),
        policies: vec![("everything.cedar", POLICY.to_owned())],
        log: "warn",
        ..Settings::default()
    }
}

/// The roles and settings that the suites expect of a server that is theirs.
fn prepare(world: &World) -> Result<()> {
    world
        .postgres
        .ask("ALTER ROLE orders_app SUPERUSER; CREATE ROLE postgres SUPERUSER LOGIN")?;
    world
        .postgres
        .admit("host all postgres 127.0.0.0/8 trust\n")
}

/// Where suites run.
struct Ground {
    world: World,
    folder: PathBuf,
    databases: u32,
}

impl Ground {
    fn compare(&mut self, suite: &Suite, version: &str) -> Result<Compared> {
        let began = Instant::now();
        let mut direct = self.side(suite, Who::Direct, &[])?;
        let mut through = self.side(suite, Who::Agent(AGENT), &[])?;
        let differing: Vec<String> = different(&direct, &through)
            .map(|(test, ..)| test.clone())
            .collect();
        if !differing.is_empty() {
            direct.extend(self.side(suite, Who::Direct, &differing)?);
            through.extend(self.side(suite, Who::Agent(AGENT), &differing)?);
        }
        let still = |test: &String| different(&direct, &through).any(|(other, ..)| other == test);
        let unsteady = differing.into_iter().filter(|test| !still(test)).collect();
        Ok(Compared {
            name: suite.name.to_owned(),
            version: version.to_owned(),
            seconds: began.elapsed().as_secs_f64(),
            direct,
            through,
            unsteady,
        })
    }

    /// Runs the suite, or only some tests of it, in a database that nobody has used.
    fn side(&mut self, suite: &Suite, who: Who<'_>, only: &[String]) -> Result<Outcomes> {
        self.databases += 1;
        let database = format!("compat_{}", self.databases);
        let postgres = &self.world.postgres;
        postgres.ask(&format!("CREATE DATABASE {database} OWNER orders_app"))?;
        let extensions = "CREATE EXTENSION hstore; CREATE EXTENSION ltree;";
        postgres.ask_in(&database, extensions)?;
        let outcomes = suites::run(suite, &self.world, &self.folder, who, &database, only)?;
        ensure!(
            !outcomes.is_empty(),
            "{} ran no test as {who:?}",
            suite.name
        );
        postgres.ask(&format!("DROP DATABASE {database} WITH (FORCE)"))?;
        Ok(outcomes)
    }
}

/// Tests with two outcomes; one that was not run on a side is `absent` there.
fn different<'a>(
    direct: &'a Outcomes,
    through: &'a Outcomes,
) -> impl Iterator<Item = (&'a String, &'a str, &'a str)> {
    let mut all: BTreeMap<&String, [&str; 2]> = BTreeMap::new();
    for (at, side) in [direct, through].into_iter().enumerate() {
        for (test, outcome) in side {
            all.entry(test).or_insert(["absent"; 2])[at] = &outcome.what;
        }
    }
    all.into_iter()
        .filter(|(_, [direct, through])| direct != through)
        .map(|(test, [direct, through])| (test, direct, through))
}

impl Compared {
    fn count(&self, wanted: impl Fn(&Outcome) -> bool) -> usize {
        let same = |(test, outcome): &(&String, &Outcome)| {
            self.through
                .get(*test)
                .is_some_and(|t| t.what == outcome.what)
        };
        self.direct
            .iter()
            .filter(same)
            .filter(|(_, o)| wanted(o))
            .count()
    }

    fn summary(&self) -> String {
        let passed = self.count(|o| o.what == "passed");
        let skipped = self.count(|o| o.what == "skipped");
        let other = self.count(|o| o.what != "passed" && o.what != "skipped");
        let differs = different(&self.direct, &self.through).count();
        format!(
            "| {} | {} | {passed} | {skipped} | {other} | {differs} | {} | {:.0} s |",
            self.name,
            self.version,
            self.unsteady.len(),
            self.seconds
        )
    }
}

/// The tables, and what makes the command fail.
fn report(all: &[Compared], explained: &Explained) -> (String, Vec<String>) {
    let mut text = String::from(
        "| suite | version | pass on both | skipped on both | fail on both | differ | unsteady | time |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for compared in all {
        let _ = writeln!(text, "{}", compared.summary());
    }
    text += "\n| suite | test | direct | through hoop | why |\n|---|---|---|---|---|\n";
    let mut complaints = Vec::new();
    for compared in all {
        let mut seen = Vec::new();
        for (test, direct, through) in different(&compared.direct, &compared.through) {
            let why = explained.of(&compared.name, test);
            seen.extend(why.map(|row| row.number));
            let said = compared.through.get(test).map_or("", |o| &o.why);
            let shown = why.map_or_else(|| format!("UNEXPLAINED: {said}"), |row| row.why.clone());
            let _ = writeln!(
                text,
                "| {} | `{test}` | {direct} | {through} | {shown} |",
                compared.name
            );
            if why.is_none() {
                complaints.push(format!("{}: {test}: {direct} direct, {through} through hoop, and not explained: {said}", compared.name));
            }
        }
        complaints.extend(explained.unseen(&compared.name, &seen));
    }
    text += "\nFailing on both sides, for want of what the suite expects of the server:\n\n";
    for compared in all {
        for (test, outcome) in &compared.direct {
            let failing = !matches!(&*outcome.what, "passed" | "skipped" | "xfailed");
            if failing
                && compared
                    .through
                    .get(test)
                    .is_some_and(|t| t.what == outcome.what)
            {
                let _ = writeln!(text, "- {} `{test}`: {}", compared.name, outcome.why);
            }
        }
        for test in &compared.unsteady {
            let _ = writeln!(text, "- {} `{test}`: unsteady", compared.name);
        }
    }
    (text, complaints)
}

fn read(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) => bail!("cannot read {}: {error}", path.display()),
    }
}
