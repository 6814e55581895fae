//! A client that runs beside the test, so that somebody can answer what it waits for.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::agent::Who;
use crate::files::target;
use crate::ran::Ran;
use crate::settings::WRITER;
use crate::world::{PATIENCE, World};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// A client that runs, and what it has said so far.
pub struct Client {
    pub child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Client {
    pub fn start(world: &World, mut command: Command) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let out = world.place.path(&format!("client-{count}.out"));
        let err = world.place.path(&format!("client-{count}.err"));
        command.stdin(Stdio::null());
        command.stdout(File::create(&out).unwrap());
        command.stderr(File::create(&err).unwrap());
        let child = command.spawn().unwrap();
        Self { child, out, err }
    }

    pub fn psql(world: &World, statements: &[&str]) -> Self {
        let mut psql = world.command(Who::Agent(WRITER), "psql").unwrap();
        psql.args(["-X", "-A", "-t", "-v", "VERBOSITY=verbose"]);
        for statement in statements {
            psql.args(["-c", statement]);
        }
        Self::start(world, psql)
    }

    /// In the extended protocol.
    pub fn driver(world: &World, arguments: &[&str]) -> Self {
        let python = target().unwrap().join("python/bin/python");
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("python/held.py");
        let python = python.display().to_string();
        let mut python = world.command(Who::Agent(WRITER), &python).unwrap();
        python.arg("-B").arg(script).args(arguments);
        Self::start(world, python)
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.err).unwrap()
    }

    pub fn interrupt(&self) {
        let pid = Pid::from_raw(self.child.id() as i32);
        kill(pid, Signal::SIGINT).unwrap();
    }

    pub fn end(self) -> Ran {
        self.end_within(PATIENCE)
    }

    pub fn end_within(mut self, patience: Duration) -> Ran {
        let until = Instant::now() + patience;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < until,
                "the client still waits: {}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(10));
        };
        Ran {
            code: status.code(),
            stdout: std::fs::read_to_string(&self.out).unwrap(),
            stderr: self.said(),
        }
    }

    /// What the driver said of its last statement.
    pub fn last(self) -> Value {
        let ran = self.end();
        let lines = ran.json_lines().unwrap();
        lines.last().unwrap_or_else(|| panic!("{ran:?}")).clone()
    }
}
