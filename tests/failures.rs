//! When parts of hoop die or clients send what they should not: nothing leaks, what was recorded
//! verifies, and the next client is served.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use hoop_tests::{PATIENCE, READER, Settings, WRITER, Who, World};
use nix::sys::signal::Signal;
use serde_json::Value;

/// A psql that is in the middle of a session: what it was told before, it has answered.
struct Session {
    child: Child,
}

impl Session {
    fn start(world: &World, marker: &str) -> Self {
        let out = world.place.path(marker);
        let mut psql = world.command(Who::Agent(WRITER), "psql").unwrap();
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c"]);
        psql.arg(format!("SELECT '{marker} first'"))
            .args(["-c", "SELECT pg_sleep(60)"]);
        psql.stdin(Stdio::null())
            .stdout(std::fs::File::create(&out).unwrap());
        psql.stderr(Stdio::null());
        let child = psql.spawn().unwrap();
        wait("the session's first answer", || {
            std::fs::read_to_string(&out).unwrap().contains("first")
        });
        wait("the session's second statement", || sleeping(world) == 1);
        Self { child }
    }

    fn ends(mut self) {
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(!status.success(), "the session went on without hoop");
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child.kill().unwrap();
        panic!("the client still waits for a daemon that is gone");
    }
}

fn sleeping(world: &World) -> usize {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' \
               AND state = 'active'";
    world.postgres.ask(sql).unwrap().parse().unwrap()
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < until, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Both statements are in a recording that verifies, though nobody could close it.
fn assert_recorded_up_to_the_last(world: &World, marker: &str) {
    let recording = world.recording_of(&format!("{marker} first")).unwrap();
    let texts: Vec<String> = recording.statements().into_iter().map(|s| s.text).collect();
    assert!(
        texts.iter().any(|text| text.contains("pg_sleep(60)")),
        "{texts:?}"
    );
    assert_eq!(
        recording.verified.code,
        Some(0),
        "{}",
        recording.verified.stdout
    );
}

fn refused_connection(world: &World) -> String {
    let ran = world
        .psql(Who::Agent(WRITER), &["-c", "SELECT 'leaked'"], "")
        .unwrap();
    assert_ne!(ran.code, Some(0), "{}", ran.stdout);
    assert!(!ran.stdout.contains("leaked"));
    ran.stderr
}

#[test]
fn a_killed_keeper_lets_nothing_out() {
    let mut world = World::start(Settings::default()).unwrap();
    let session = Session::start(&world, "keeper");
    world.daemon.kill_keeper().unwrap();
    session.ends();
    let error = refused_connection(&world);
    assert!(error.contains("Connection refused"), "{error}");
    assert_recorded_up_to_the_last(&world, "keeper");
    wait("the end of the worker", || {
        world.daemon_processes().is_empty()
    });
    world.start_daemon().unwrap();
    let ran = world
        .psql(Who::Agent(WRITER), &["-c", "SELECT 'back'"], "")
        .unwrap();
    assert_eq!(ran.stdout, "back\n", "{}", ran.stderr);
}

#[test]
fn a_killed_worker_is_replaced() {
    let world = World::start(Settings::default()).unwrap();
    let session = Session::start(&world, "worker");
    let worker = world.daemon.worker().unwrap();
    world.daemon.signal(worker, Signal::SIGKILL).unwrap();
    session.ends();
    assert_recorded_up_to_the_last(&world, "worker");
    wait("another worker", || {
        world.daemon.worker().is_ok_and(|pid| pid != worker)
    });
    wait("service by it", || {
        world
            .psql(Who::Agent(WRITER), &["-c", "SELECT 1"], "")
            .unwrap()
            .code
            == Some(0)
    });
    assert!(!world.daemon.log().unwrap().contains("panicked"));
}

#[test]
fn an_orderly_stop_leaves_a_closed_door() {
    let mut world = World::start(Settings::default()).unwrap();
    let ran = world
        .psql(Who::Agent(READER), &["-c", "SELECT 'before'"], "")
        .unwrap();
    assert_eq!(ran.stdout, "before\n", "{}", ran.stderr);
    assert_eq!(
        world.daemon.stop().unwrap(),
        Some(0),
        "{}",
        world.daemon.log().unwrap()
    );
    refused_connection(&world);
}

/// Garbage, cut and boundless messages, another protocol: closed or reset, recorded, no panic.
#[test]
fn hostile_clients_are_turned_away() {
    let world = World::start(Settings::default()).unwrap();
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("python/hostile.py");
    let mut python = world
        .command(Who::Agent(READER), "/usr/bin/python3")
        .unwrap();
    python.arg("-B").arg(script);
    let worker = world.daemon.worker().unwrap();
    let ran = hoop_tests::run(&mut python, "", 4 * PATIENCE)
        .unwrap()
        .ok()
        .unwrap();
    for case in ran.json_lines().unwrap() {
        let said = case["saw"]["said"].as_str().unwrap();
        // What is too large is refused; the client may then still send the rest, to be thrown away.
        assert!(case["saw"]["end"] != "open" || said == "E", "{case}");
        // An error or nothing, or an answer in the client's own protocol; a row of data never.
        assert!(["", "E", "R", "S", "N", "H"].contains(&said), "{case}");
    }
    assert!(
        !world.daemon.log().unwrap().contains("panicked"),
        "{}",
        world.daemon.log().unwrap()
    );
    assert_eq!(
        world.daemon.worker().unwrap(),
        worker,
        "the worker died of it"
    );
    let lines = [world.sessions().unwrap(), world.events().unwrap()].concat();
    assert!(
        lines.len() >= ran.stdout.lines().count(),
        "not all were recorded: {lines:#?}"
    );
    let ran = world
        .psql(Who::Agent(READER), &["-c", "SELECT 'served'"], "")
        .unwrap();
    assert_eq!(ran.stdout, "served\n", "{}", ran.stderr);
    assert!(
        memory_of(worker) < 512 << 20,
        "the worker kept {} bytes",
        memory_of(worker)
    );
}

#[test]
fn a_cgroup_that_no_agent_has_is_refused_with_a_record() {
    let world = World::shared();
    world
        .place
        .make_cgroup("agents.slice/stranger.service")
        .unwrap();
    let psql = world
        .place
        .command("agents.slice/stranger.service", None, "psql")
        .unwrap();
    let mut psql = psql;
    psql.envs(&world.state.environment)
        .args(["-X", "-c", "SELECT 'leaked'"]);
    let ran = hoop_tests::run(&mut psql, "", PATIENCE).unwrap();
    assert_ne!(ran.code, Some(0));
    assert!(!ran.stdout.contains("leaked"), "{}", ran.stdout);
    let lines = [world.sessions().unwrap(), world.events().unwrap()].concat();
    let named = |line: &Value| line.to_string().contains("stranger.service");
    assert!(lines.iter().any(named), "{lines:#?}");
}

#[test]
fn someone_outside_who_finds_the_port_is_reset_with_a_record() {
    let world = World::shared();
    let port = world.capture_port().unwrap();
    let mut psql = world.command(Who::Direct, "psql").unwrap();
    psql.env("PGHOST", "127.0.0.1")
        .env("PGPORT", port.to_string())
        .env("PGSSLMODE", "disable");
    let ran = hoop_tests::run(psql.args(["-X", "-c", "SELECT 1"]), "", PATIENCE).unwrap();
    assert_eq!(ran.code, Some(2), "{}", ran.stdout);
    let events = world.events().unwrap();
    assert!(
        events.iter().any(|e| e.to_string().contains("origin")),
        "{events:#?}"
    );
}

fn memory_of(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
