//! The clients' own test suites, each run past hoop and through it, and compared test by test.
//!
//! A test that differs and is not explained runs again on both sides, alone: what only one run shows is
//! the suite's affair.
//! What differs every time must be explained in docs/COMPATIBILITY.md, and what is explained there
//! must differ, or the command fails.

mod explained;
mod report;
mod run;
mod ssh;
mod suites;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use hoop_tests::{AgentSettings, Place, Settings, Who, World};

use explained::Explained;
use report::different;
use run::{Outcomes, Run, Told};
use ssh::Hosts;
use suites::{Server, Suite};

const AGENT: &str = "compat-bot";

/// Everything, what hoop cannot read included: what a policy would refuse is no difference here.
const POLICY: &str = r#"
@id("everything")
permit (principal, action, resource);
@id("and-what-cannot-be-read")
permit (principal, action == Action::"sql:unknown", resource);
@id("and-commands-that-cannot")
permit (principal, action == Action::"ssh:unknown", resource);
"#;

/// The login to the host of the suites of SSH.
const LOGIN: &str = r#"{ user = "deploy", key = { file = "FOLDER/sshd/login" } }"#;

/// How often what differs is run again.
const REPETITIONS: usize = 2;

#[derive(clap::Args)]
pub struct Arguments {
    /// Where the suites are, each in a folder of its name
    #[arg(long)]
    folder: PathBuf,
    /// Several
    #[arg(long = "suite", value_name = "NAME", required = true)]
    suites: Vec<String>,
    /// Sizes that not every machine has time and room for
    #[arg(long)]
    long: bool,
}

/// One suite, run on both sides.
struct Compared {
    suite: Suite,
    seconds: f64,
    direct: Outcomes,
    through: Outcomes,
    /// The rows of the table that excluded something.
    excluded: BTreeSet<String>,
    /// Differed at first, and not when it was run again.
    unsteady: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let folder = std::fs::canonicalize(&arguments.folder)?;
    std::fs::create_dir_all(folder.join("runs"))?;
    // Now, so that a table that cannot be read is told before the suites run, and not an hour later.
    let explained = Explained::read()?;
    let suites = suites::read()?;
    let mut ground = Ground::make(arguments, &suites, &folder)?;
    let mut all = Vec::new();
    let mut broken = Vec::new();
    for name in &arguments.suites {
        eprintln!("compat: {name}, direct and through hoop");
        match ground.compare(suites::find(&suites, name)?, &explained) {
            Ok(compared) => {
                eprintln!("{}", compared.summary());
                all.push(compared);
            }
            // The others are worth running all the same.
            Err(error) => broken.push(format!("{name}: {error:#}")),
        }
    }
    // Again: whoever explains what has been printed so far need not run it once more.
    let (text, mut complaints) = report::report(&all, &Explained::read()?);
    complaints.extend(broken);
    std::fs::write(folder.join("../compat.md"), &text)?;
    print!("{text}");
    ensure!(
        complaints.is_empty(),
        "{} complaints:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
    Ok(())
}

fn settings() -> Settings {
    let mut agent = AgentSettings::new(AGENT);
    // OpenSSH's scripts forward ports of the host that they run on.
    agent.listen = ssh::forwarded().collect();
    let own = agent.listen.iter().copied().chain([ssh::REGRESS_PORT]);
    agent.egress = own.map(|port| format!("127.0.0.1:{port}")).collect();
    Settings {
        agents: vec![agent],
        masks: Vec::new(),
        packs: Vec::new(),
        policies: vec![("everything.cedar", POLICY.to_owned())],
        log: "warn",
        ..Settings::default()
    }
}

/// The roles and extensions that the suites expect of a server that is theirs. Most roles are let in
/// without a password, as hoop lets its clients in; those of tests about passwords are not.
fn prepare(world: &World) -> Result<()> {
    let postgres = &world.postgres;
    postgres.ask(
        "ALTER ROLE orders_app SUPERUSER; CREATE ROLE postgres SUPERUSER LOGIN; \
         CREATE ROLE pass_user LOGIN PASSWORD 'password'; CREATE ROLE scram_user LOGIN PASSWORD 'password'; \
         SET password_encryption = md5; CREATE ROLE md5_user LOGIN PASSWORD 'password'",
    )?;
    postgres.ask_in("postgres", EXTENSIONS)?;
    // The suite of tokio-postgres connects to this database whatever PGDATABASE says.
    postgres.ask_in("postgres", "CREATE EXTENSION citext")?;
    postgres.admit(
        "host all pass_user 127.0.0.0/8 password\nhost all md5_user 127.0.0.0/8 md5\n\
         host all scram_user 127.0.0.0/8 scram-sha-256\nhost all all 127.0.0.0/8 trust\n",
    )
}

const EXTENSIONS: &str = "CREATE EXTENSION hstore; CREATE EXTENSION ltree;";

/// Where suites run.
struct Ground {
    world: World,
    /// If a suite of SSH is among them.
    hosts: Option<Hosts>,
    folder: PathBuf,
    databases: u32,
}

impl Ground {
    fn make(arguments: &Arguments, suites: &[Suite], folder: &Path) -> Result<Self> {
        let mut ssh = false;
        for name in &arguments.suites {
            ssh |= suites::find(suites, name)?.server == Server::Ssh;
        }
        let place = Place::make()?;
        let mut settings = settings();
        if ssh {
            settings.ssh = Some(LOGIN);
            settings.more = Hosts::configured(&place)?;
        }
        let world = World::start_in(place, settings)?;
        prepare(&world)?;
        let hosts = ssh.then(|| Hosts::start(&world, arguments.long));
        Ok(Self {
            hosts: hosts.transpose()?,
            world,
            folder: folder.to_owned(),
            databases: 0,
        })
    }

    fn compare(&mut self, suite: &Suite, explained: &Explained) -> Result<Compared> {
        let began = Instant::now();
        let sides = [Who::Direct, Who::Agent(AGENT)];
        let [mut direct, mut through] = [Told::default(), Told::default()];
        for (who, told) in sides.into_iter().zip([&mut direct, &mut through]) {
            *told = self.side(suite, who, &[])?;
        }
        let names = |direct: &Told, through: &Told| {
            let mut names = names(direct, through);
            names.retain(|test| explained.of(&suite.name, test).is_none());
            names
        };
        let mut differing = names(&direct, &through);
        let mut unsteady = Vec::new();
        for _ in 0..REPETITIONS {
            if differing.is_empty() {
                break;
            }
            for (who, told) in sides.into_iter().zip([&mut direct, &mut through]) {
                let again = self.side(suite, who, &differing)?;
                // A file that did not end the first time has no such outcome the second.
                told.outcomes.retain(|test, _| !differing.contains(test));
                told.outcomes.extend(again.outcomes);
            }
            let still = names(&direct, &through);
            unsteady.extend(differing.into_iter().filter(|test| !still.contains(test)));
            differing = still;
        }
        Ok(Compared {
            suite: suite.clone(),
            seconds: began.elapsed().as_secs_f64(),
            excluded: &direct.excluded | &through.excluded,
            direct: direct.outcomes,
            through: through.outcomes,
            unsteady,
        })
    }

    /// Runs the suite, or only some tests of it, in a database or in folders that nobody has
    /// used.
    fn side(&mut self, suite: &Suite, who: Who<'_>, only: &[String]) -> Result<Told> {
        let database = match &self.hosts {
            Some(hosts) if suite.server == Server::Ssh => {
                hosts.fresh(&suite.name)?;
                String::new()
            }
            _ => self.database(suite)?,
        };
        let run = Run {
            suite,
            world: &self.world,
            folder: &self.folder,
            who,
            database: &database,
            hosts: self.hosts.as_ref(),
            only,
        };
        let told = run.run()?;
        ensure!(
            !told.outcomes.is_empty() || !only.is_empty(),
            "{} ran no test as {who:?}: see {}",
            suite.name,
            self.folder.join("runs").display()
        );
        if !database.is_empty() {
            let drop = format!("DROP DATABASE {database} WITH (FORCE)");
            self.world.postgres.ask(&drop)?;
        }
        Ok(told)
    }

    fn database(&mut self, suite: &Suite) -> Result<String> {
        self.databases += 1;
        let database = format!("compat_{}", self.databases);
        let postgres = &self.world.postgres;
        postgres.ask(&format!("CREATE DATABASE {database} OWNER orders_app"))?;
        postgres.ask_in(&database, EXTENSIONS)?;
        for sql in &suite.prepare {
            postgres.ask_in(&database, sql)?;
        }
        Ok(database)
    }
}

fn names(direct: &Told, through: &Told) -> Vec<String> {
    let differing = different(&direct.outcomes, &through.outcomes);
    differing.map(|(test, ..)| test.clone()).collect()
}

fn read(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) => bail!("cannot read {}: {error}", path.display()),
    }
}
