//! `hoop discover --host`: what everything on a host reaches, by a real kernel's word, without a daemon;
//! and configurations that are written from what was seen.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hoop_tests::certificates::Authority;
use hoop_tests::{
    AgentSettings, PASSWORD, PATIENCE, Place, Postgres, READER, Ran, Settings, Who, World,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const HOST: &str = "db.prod.internal";
const AGENT: &str = "agents.slice/billing-bot.service";
/// Characters that mean something in patterns and in TOML.
const ODD: &str = "agents.slice/we\"ird*'#=[x].service";

/// Whoever watches the whole host sees the other tests of this file as well: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A server and agents' cgroups, and neither daemon nor configuration.
struct Bare {
    postgres: Postgres,
    place: Place,
    // Last, so that the place has gone before the next test begins.
    _alone: MutexGuard<'static, ()>,
}

impl Bare {
    fn start() -> Self {
        let alone = alone();
        let place = Place::make().unwrap();
        let authority = Authority::make(&place.path("servers")).unwrap();
        let postgres = Postgres::start(&place, &authority.sign(HOST).unwrap()).unwrap();
        place.make_cgroup(AGENT).unwrap();
        place.make_cgroup(ODD).unwrap();
        Self {
            postgres,
            place,
            _alone: alone,
        }
    }

    fn destination(&self) -> String {
        format!("{}:5432", self.place.address(10))
    }

    /// A client of the server's own, in that cgroup.
    fn client(&self, cgroup: &str, program: &str) -> Command {
        let tool = self.postgres.tool(program);
        let mut command = self.place.command(cgroup, None, tool).unwrap();
        command.env("PGHOST", HOST).env("PGDATABASE", "shop");
        command
            .env("PGUSER", "orders_app")
            .env("PGPASSWORD", PASSWORD);
        command.env("PGSSLMODE", "require");
        command
    }

    fn watch(&self, arguments: &[&str]) -> Watching {
        Watching::start(&self.place, arguments)
    }

    fn check(&self, text: &str) -> Value {
        let path = self.place.path("written.toml");
        std::fs::write(&path, text).unwrap();
        let mut hoop = hoop(&self.place);
        hoop.args(["check", "--json", "--config"]).arg(&path);
        let ran = hoop_tests::run(&mut hoop, "", PATIENCE).unwrap();
        assert_eq!(ran.code, Some(0), "{}{}\n{text}", ran.stdout, ran.stderr);
        ran.json_lines().unwrap().pop().unwrap()
    }
}

fn hoop(place: &Place) -> Command {
    let program = hoop_tests::program("hoop").unwrap();
    let mut command = place.command("outside", None, program).unwrap();
    command.env("HOOP_CONFIG", "/nonexistent/hoop.toml");
    command
}

/// `hoop discover --host` that watches.
struct Watching(Child, BufReader<std::process::ChildStderr>);

impl Watching {
    fn start(place: &Place, arguments: &[&str]) -> Self {
        let mut command = hoop(place);
        command.args(["discover", "--host", "--for", "10m", "--no-names"]);
        command
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.starts_with("watching this host"), "{line}");
        Self(child, said)
    }

    /// Ctrl-C, and what it prints then.
    fn interrupt(mut self) -> Ran {
        kill(
            Pid::from_raw(self.0.id().try_into().unwrap()),
            Signal::SIGINT,
        )
        .unwrap();
        let mut stderr = String::new();
        std::io::Read::read_to_string(&mut self.1, &mut stderr).unwrap();
        let out = self.0.wait_with_output().unwrap();
        Ran {
            code: out.status.code(),
            stdout: String::from_utf8(out.stdout).unwrap(),
            stderr,
        }
    }
}

fn to<'v>(rows: &'v [Value], destination: &str) -> Vec<&'v Value> {
    rows.iter()
        .filter(|row| row["destination"] == destination)
        .collect()
}

fn sum(rows: &[&Value], key: &str) -> u64 {
    rows.iter().map(|row| row[key].as_u64().unwrap()).sum()
}

#[test]
fn short_connections_are_all_counted_with_cgroup_executable_and_bytes() {
    let bare = Bare::start();
    let script = bare.place.path("script.sql");
    std::fs::write(&script, "SELECT repeat('x', 5000);\n").unwrap();
    let watching = bare.watch(&["--json"]);
    let mut pgbench = bare.client(AGENT, "pgbench");
    pgbench
        .args(["-n", "-C", "-c", "1", "-t", "300", "-f"])
        .arg(&script);
    hoop_tests::run(&mut pgbench, "", PATIENCE)
        .unwrap()
        .ok()
        .unwrap();
    // The kernel tells of an end when the last packet is through.
    std::thread::sleep(Duration::from_millis(300));
    let ran = watching.interrupt().ok().unwrap();
    let rows = ran.json_lines().unwrap();
    let found = to(&rows, &bare.destination());
    let agents = format!("{}/billing-bot.service", bare.place.slice);
    let row = found.iter().find(|row| row["cgroup"] == agents);
    let row = *row.unwrap_or_else(|| panic!("{found:#?}\n{}", ran.stderr));
    // On a busy machine some may end before anybody has looked whose they are.
    assert!(found.len() <= 2, "{found:#?}\n{}", ran.stderr);
    // pgbench connects once more, to look at the database.
    let connections = sum(&found, "connections");
    assert!((300..=302).contains(&connections), "{found:#?}");
    assert!(row["inferred"].as_u64().unwrap() < connections, "{row:#}");
    assert_eq!(
        (row["open"].as_u64(), row["unanswered"].as_u64()),
        (Some(0), Some(0)),
        "{row:#}"
    );
    assert_eq!(
        row["unit"],
        Value::Null,
        "the world's own folder is no slice: {row:#}"
    );
    assert!(
        row["executable"].as_str().unwrap().ends_with("/pgbench"),
        "{row:#}"
    );
    assert_eq!(row["names"], serde_json::json!([HOST]));
    assert_eq!(
        (&row["protocol"], &row["protocol_by"]),
        (&"postgres".into(), &"server".into())
    );
    let (sent, received) = (sum(&found, "sent"), sum(&found, "received"));
    assert!((300 * 5000..300 * 20_000).contains(&received), "{row:#}");
    assert!((300 * 500..300 * 10_000).contains(&sent), "{row:#}");
    assert_eq!(
        (&row["how"], &row["own_namespace"]),
        (&"tcp".into(), &true.into())
    );
    // The other ends of the same connections are the server's, and no destinations.
    let accepted = rows.iter().filter(|row| {
        let executable = row["executable"].as_str().unwrap();
        let peer = row["destination"].as_str().unwrap();
        executable.ends_with("/postgres") && !peer.ends_with(":5432")
    });
    assert_eq!(accepted.count(), 0, "{rows:#?}");
}

#[test]
fn what_is_written_passes_the_check_whatever_cgroups_are_called() {
    let bare = Bare::start();
    let watching = bare.watch(&["--toml", "--slice", &bare.place.slice]);
    for cgroup in [AGENT, ODD] {
        let mut psql = bare.client(cgroup, "psql");
        psql.args(["-X", "-c", "SELECT pg_sleep(1)"]);
        hoop_tests::run(&mut psql, "", PATIENCE)
            .unwrap()
            .ok()
            .unwrap();
    }
    let text = watching.interrupt().ok().unwrap().stdout;
    let summary = bare.check(&text);
    assert_eq!(summary["ok"], true, "{text}");
    // The agent and whoever else; the odd one can be no pattern.
    assert_eq!(
        (summary["agents"].as_u64(), summary["resources"].as_u64()),
        (Some(2), Some(1)),
        "{text}"
    );
    for part in [
        "name = \"billing-bot\"",
        &format!("hosts = [\"{HOST}\", \"{}\"]", bare.place.address(10)),
        &format!("attach = \"{}\"", bare.place.slice),
        "cannot be written as a pattern",
        "bin/psql",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    // Nothing in it does more than watch.
    let modes = text.lines().filter(|line| line.starts_with("mode = "));
    assert!(modes.eq(["mode = \"discover\""; 2]), "{text}");
}

#[test]
fn a_destination_that_is_asked_says_what_it_speaks() {
    let bare = Bare::start();
    let watching = bare.watch(&["--json", "--probe"]);
    let mut psql = bare.client(AGENT, "psql");
    psql.args(["-X", "-c", "SELECT pg_sleep(60)"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut held = psql.spawn().unwrap();
    let until = Instant::now() + PATIENCE;
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'";
    while bare.postgres.ask(sleeps).unwrap() != "1" {
        assert!(Instant::now() < until, "psql does not connect");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_millis(500));
    let ran = watching.interrupt().ok().unwrap();
    held.kill().and_then(|()| held.wait()).unwrap();
    let rows = ran.json_lines().unwrap();
    let found = to(&rows, &bare.destination());
    assert_eq!(
        (sum(&found, "connections"), sum(&found, "open")),
        (1, 1),
        "{found:#?}"
    );
    assert_eq!(
        (sum(&found, "inferred"), sum(&found, "unanswered")),
        (0, 0),
        "{found:#?}"
    );
    assert_eq!(found[0]["protocol_by"], "probe", "{found:#?}");
    assert_eq!(found[0]["protocol"], "postgres");
}

#[test]
fn what_the_daemon_saw_makes_a_configuration_too() {
    let _alone = alone();
    let mut reader = AgentSettings::new(READER);
    reader.mode = "discover";
    let world = World::start(Settings {
        agents: vec![reader],
        ..Settings::default()
    })
    .unwrap();
    let mut psql = world.command(Who::Agent(READER), "psql").unwrap();
    psql.args(["-X", "-c", "SELECT 1"])
        .env("PGPASSWORD", &world.state.password);
    psql.env("PGSSLROOTCERT", world.authority.pem());
    hoop_tests::run(&mut psql, "", PATIENCE)
        .unwrap()
        .ok()
        .unwrap();
    let address = world.place.address(10).to_string();
    let until = Instant::now() + PATIENCE;
    let text = loop {
        let text = world
            .hoop(&["discover", "--toml"])
            .unwrap()
            .ok()
            .unwrap()
            .stdout;
        if text.contains(&address) {
            break text;
        }
        assert!(Instant::now() < until, "{text}");
        std::thread::sleep(Duration::from_millis(100));
    };
    let path = world.place.path("written.toml");
    std::fs::write(&path, &text).unwrap();
    let check = world
        .hoop(&["check", "--json", "--config", shown(&path)])
        .unwrap();
    let summary = check.ok().unwrap().json_lines().unwrap().pop().unwrap();
    assert_eq!(
        (summary["agents"].as_u64(), summary["resources"].as_u64()),
        (Some(2), Some(1)),
        "{text}"
    );
    assert!(text.contains(&format!("name = \"{READER}\"")), "{text}");
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}
