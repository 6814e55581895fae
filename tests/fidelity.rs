//! What works against PostgreSQL directly works through hoop, in the corners that drivers seldom
//! reach: tests/compat/*.sql by psql, tests/python/through_wire.py message by message, and
//! replication where the resource allows it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use hoop_tests::{PATIENCE, Ran, Settings, TRUSTED, WRITER, Who, World};
use serde_json::Value;

/// Nothing is refused and nothing masked: what differs is a fault of hoop's.
fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let unreadable = "permit (principal, action == Action::\"sql:unknown\", resource);\n\
                          permit (principal, action, resource);\n";
        let settings = Settings {
            masks: Vec::new(),
            policies: vec![("everything.cedar", unreadable.to_owned())],
            resource: "allow_replication = true\nmax_message = \"1GiB\"\n".to_owned(),
            ..Settings::default()
        };
        let world = World::start(settings).expect("a world that permits everything");
        world.postgres.ask("ALTER ROLE orders_app REPLICATION").unwrap();
        world
            .postgres
            .admit(&format!(
                "host replication all {}/32 trust\nhost replication all 127.0.0.0/8 scram-sha-256\n",
                world.place.address(TRUSTED)
            ))
            .unwrap();
        world
    })
}

fn both(program: &Path, arguments: &[&str], input: &str) -> (Ran, Ran) {
    let world = world();
    let run = |who| {
        let mut command = world.command(who, &program.display().to_string()).unwrap();
        command.args(arguments).env("PGAPPNAME", "fidelity");
        if who == Who::Direct {
            command.env("WIRE_SOURCE", world.place.address(TRUSTED).to_string());
        }
        hoop_tests::run(&mut command, input, limit()).unwrap()
    };
    let direct = run(Who::Direct);
    (run(Who::Agent(WRITER)), direct)
}

/// The bound for one program, with room for what the environment asks to take long.
fn limit() -> Duration {
    let asked = |name| {
        let value: Option<u64> = std::env::var(name).ok().and_then(|v| v.parse().ok());
        Duration::from_secs(value.unwrap_or(0))
    };
    PATIENCE + asked("HOOP_IDLE_SECONDS") + asked("HOOP_VOLUME_MB")
}

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// One script by psql; what it prints and how it ends is the same.
fn script(name: &str) -> String {
    let text = std::fs::read_to_string(here("compat").join(name)).unwrap();
    let (through, direct) = both(Path::new("psql"), &["-X", "-v", "VERBOSITY=verbose"], &text);
    assert_eq!(
        unplaced(&through.stdout),
        unplaced(&direct.stdout),
        "{name}"
    );
    assert_eq!(
        unplaced(&through.stderr),
        unplaced(&direct.stderr),
        "{name}"
    );
    assert_eq!(through.code, direct.code, "{name}");
    through.stdout
}

/// Without lines that differ by run: they name processes and schemas of sessions.
fn unplaced(text: &str) -> String {
    let stays =
        |line: &&str| !line.contains("server process with PID") && !line.contains("pg_temp_");
    text.lines().filter(stays).collect::<Vec<_>>().join("\n")
}

/// The cases of a Python program, through and direct.
fn cases(python: &Path, name: &str) -> Vec<(Value, Value)> {
    let script = here("python").join(name).display().to_string();
    let (through, direct) = both(python, &["-B", &script], "");
    let lines = |ran: Ran| ran.ok().unwrap().json_lines().unwrap();
    let (through, direct) = (lines(through), lines(direct));
    assert_eq!(through.len(), direct.len());
    through.into_iter().zip(direct).collect()
}

#[test]
fn message_by_message() {
    // HOOP_IDLE_SECONDS makes the quiet session quiet for longer.
    let cases = cases(Path::new("/usr/bin/python3"), "through_wire.py");
    assert!(cases.len() > 30, "{}", cases.len());
    let mut differing = Vec::new();
    for (through, direct) in cases {
        if through != direct {
            differing.push(format!("through {through}\ndirect  {direct}\n"));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// 64 MB, or what HOOP_VOLUME_MB says.
#[test]
fn results_and_parameters_of_any_size() {
    let python = hoop_tests::target().unwrap().join("python/bin/python");
    for (through, direct) in cases(&python, "through_volume.py") {
        assert_eq!(through, direct);
    }
}

#[test]
fn copy_in_every_format() {
    assert!(script("copy.sql").contains("COPY 3"));
}

#[test]
fn large_objects() {
    script("large_objects.sql");
}

#[test]
fn cursors_and_savepoints() {
    script("cursors.sql");
}

#[test]
fn notices_and_notifications() {
    script("notices.sql");
}

#[test]
fn types_in_and_out() {
    script("types.sql");
}

#[test]
fn replication_streams() {
    let world = world();
    let tool = world.postgres.tool("psql");
    let identify = ["-X", "-A", "-t", "-d", "dbname=shop replication=database"];
    let (through, direct) = both(
        &tool,
        &[&identify[..], &["-c", "IDENTIFY_SYSTEM"]].concat(),
        "",
    );
    let place = |ran: &Ran| ran.stdout.split('|').next().unwrap_or_default().to_owned();
    assert_eq!(through.code, Some(0), "{}", through.stderr);
    assert_eq!(place(&through), place(&direct));
    // A base backup by COPY, and the end of its stream.
    let folder = world.place.path("backup");
    let backup = |who, below: &str| {
        let target = folder.join(below).display().to_string();
        let tool = world.postgres.tool("pg_basebackup").display().to_string();
        let mut command = world.command(who, &tool).unwrap();
        command.args(["-X", "fetch", "-c", "fast", "-D", &target]);
        hoop_tests::run(&mut command, "", PATIENCE).unwrap()
    };
    let through = backup(Who::Agent(WRITER), "through");
    assert_eq!(through.code, Some(0), "{}", through.stderr);
    assert!(folder.join("through/PG_VERSION").exists());
}
