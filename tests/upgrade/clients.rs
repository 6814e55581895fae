//! Clients that stay while builds change, and those that come at that time.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Stdio};

use hoop_tests::{WRITER, Who, World};
use serde_json::Value;

/// A psql that stays, and is asked by its standard input.
pub struct Psql {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Psql {
    pub fn start(world: &World) -> Self {
        let mut psql = world.command(Who::Agent(WRITER), "psql").unwrap();
        psql.args(["-X", "-A", "-t", "-q", "-v", "VERBOSITY=verbose"]);
        psql.stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = psql.spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, answers }
    }

    pub fn say(&mut self, sql: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        writeln!(input, "{sql};").unwrap();
        input.flush().unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    pub fn ask(&mut self, sql: &str) -> String {
        self.say(sql);
        self.line()
    }

    /// What it wrote to standard error until its end.
    pub fn end(mut self) -> (Option<i32>, String) {
        drop(self.child.stdin.take());
        let mut said = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

impl Drop for Psql {
    fn drop(&mut self) {
        self.child
            .kill()
            .and_then(|()| self.child.wait().map(drop))
            .ok();
    }
}

pub struct Load {
    child: Child,
    stop: PathBuf,
}

impl Load {
    pub fn start(world: &World, rate: u32) -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("python/connects.py");
        let stop = world.place.path("stop-load");
        let mut python = world
            .command(Who::Agent(WRITER), "/usr/bin/python3")
            .unwrap();
        python
            .arg("-B")
            .arg(script)
            .args([&rate.to_string(), "120"])
            .arg(&stop);
        let child = python
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, stop }
    }

    pub fn end(mut self) -> Value {
        std::fs::write(&self.stop, "").unwrap();
        let mut out = String::new();
        self.child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut out)
            .unwrap();
        assert!(self.child.wait().unwrap().success(), "{out}");
        serde_json::from_str(&out).unwrap()
    }
}

/// Numbers of the load's statements in the server's log.
pub fn reached(world: &World) -> BTreeSet<u64> {
    let log = std::fs::read_to_string(world.postgres.log()).unwrap();
    for word in ["no password supplied", "authentication failed"] {
        assert!(!log.contains(word), "somebody came past hoop: {word}");
    }
    let numbers = log.lines().filter_map(|line| {
        let (_, rest) = line.split_once("SELECT 'load-")?;
        rest.split('\'').next()?.parse().ok()
    });
    numbers.collect()
}

/// Numbers of the load's sessions that were recorded.
pub fn recorded(world: &World) -> BTreeSet<u64> {
    let sessions = world.sessions().unwrap();
    let numbers = sessions.iter().filter_map(|session| {
        let name = session["application"].as_str()?;
        name.strip_prefix("load-")?.parse().ok()
    });
    numbers.collect()
}
