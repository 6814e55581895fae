//! The two processes of the daemon: what the unprivileged one has left, and how they are watched,
//! asked and told.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use hoop_tests::{PATIENCE, READER, Settings, Who, World};
use nix::sys::signal::Signal;
use serde_json::Value;

fn status(world: &World) -> Value {
    let ran = world.hoop(&["status", "--json"]).unwrap();
    ran.json_lines().unwrap().remove(0)
}

fn wait(what: &str, done: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    while !done() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{what} did not come"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    start.elapsed()
}

#[test]
fn the_worker_has_nothing_left() {
    let world = World::shared();
    let worker = world.daemon.worker().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
    let line = |key: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap();
        line.trim_start_matches(':')
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(line(set), "0000000000000000", "{set}");
    }
    assert_eq!(line("NoNewPrivs"), "1");
    assert_eq!(line("Seccomp"), "2");
    assert_eq!(line("Groups"), "");
    let recordings = std::fs::metadata(world.place.path("state/recordings")).unwrap();
    let [uid, gid] = [recordings.uid(), recordings.gid()];
    assert_ne!(uid, 0);
    assert_eq!(line("Uid"), format!("{uid} {uid} {uid} {uid}"));
    assert_eq!(line("Gid"), format!("{gid} {gid} {gid} {gid}"));
    // Not dumpable: its memory below /proc belongs to root.
    assert_eq!(
        std::fs::metadata(format!("/proc/{worker}/mem"))
            .unwrap()
            .uid(),
        0
    );
    let limits = std::fs::read_to_string(format!("/proc/{worker}/limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    let environment = std::fs::read(format!("/proc/{worker}/environ")).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains("NOTIFY_SOCKET"));
    // Every thread has the filter.
    for task in std::fs::read_dir(format!("/proc/{worker}/task")).unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        assert!(status.contains("Seccomp:\t2"), "{status}");
    }
}

#[test]
fn a_killed_worker_is_back_within_a_second() {
    let world = World::start(Settings::default()).unwrap();
    let worker = world.daemon.worker().unwrap();
    world.daemon.signal(worker, Signal::SIGKILL).unwrap();
    let took = wait("another worker", || {
        let status = status(&world);
        status["worker"]["pid"] != worker && status["worker"]["ready"] == true
    });
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(status(&world)["worker"]["restarts"], 1);
    let events = world.events().unwrap();
    let died = |event: &Value| event.to_string().contains("worker_died");
    assert!(events.iter().any(died), "{events:#?}");
    // A client that comes in the gap waits and is served.
    let worker = world.daemon.worker().unwrap();
    world.daemon.signal(worker, Signal::SIGKILL).unwrap();
    let ran = world
        .psql(Who::Agent(READER), &["-c", "SELECT 'served'"], "")
        .unwrap();
    assert_eq!(ran.stdout, "served\n", "{}", ran.stderr);
}

/// A psql that stays, and is asked by its standard input.
struct Held {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Held {
    fn start(world: &World) -> Self {
        let mut psql = world.command(Who::Agent(READER), "psql").unwrap();
        psql.args(["-X", "-A", "-t", "-q"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = psql.stderr(Stdio::piped()).spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut held = Self { child, answers };
        assert_eq!(held.ask("SELECT 'here'"), "here");
        held
    }

    fn ask(&mut self, sql: &str) -> String {
        let input = self.child.stdin.as_mut().unwrap();
        writeln!(input, "{sql};").unwrap();
        input.flush().unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.child
            .kill()
            .and_then(|()| self.child.wait().map(drop))
            .ok();
    }
}

#[test]
fn status_shows_a_session_that_can_be_killed() {
    let world = World::start(Settings::default()).unwrap();
    let ran = world.hoop(&["status"]).unwrap();
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains(READER), "{}", ran.stdout);
    let mut held = Held::start(&world);
    let status = status(&world);
    assert_eq!(status["well"], true, "{status:#}");
    assert!(
        status["hooks"]
            .as_array()
            .is_some_and(|hooks| !hooks.is_empty())
    );
    let session = &status["sessions"][0];
    assert_eq!(session["agent"], READER, "{status:#}");
    assert_eq!(session["resource"], "orders");
    let id = session["session"].as_str().unwrap();
    let killed = world
        .hoop(&["sessions", "kill", id, "--reason", "maintenance"])
        .unwrap();
    assert_eq!(killed.code, Some(0), "{}", killed.stderr);
    assert_eq!(held.ask("SELECT 'still here'"), "");
    let mut said = String::new();
    let mut stderr = held.child.stderr.take().unwrap();
    held.child.wait().unwrap();
    std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
    assert!(said.contains("maintenance"), "{said}");
    assert_ne!(world.hoop(&["sessions", "kill", id]).unwrap().code, Some(0));
}

#[test]
fn a_program_started_by_hand_inherits_no_descriptor() {
    let world = World::shared();
    let hoop = hoop_tests::program("hoop").unwrap();
    let mounts = Some(world.place.mounts.as_path());
    let mut shell = hoop_tests::enter::command(None, mounts, None, "sh".as_ref()).unwrap();
    shell.arg("-c").arg(format!(
        "exec 9</etc/passwd; {} exec --config {} --agent {READER} -- ls /proc/self/fd; cat /dev/null",
        hoop.display(),
        world.state.config.display(),
    ));
    let ran = hoop_tests::run(&mut shell, "", PATIENCE)
        .unwrap()
        .ok()
        .unwrap();
    let descriptors: Vec<&str> = ran.stdout.split_whitespace().collect();
    // The fourth is the folder that ls reads.
    assert_eq!(descriptors, ["0", "1", "2", "3"]);
}
