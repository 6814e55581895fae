//! A command that ran to its end: what it printed and how it ended, within a bound of time.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

#[derive(Debug)]
pub struct Ran {
    /// The exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn ok(self) -> Result<Self> {
        if self.code == Some(0) {
            return Ok(self);
        }
        bail!(
            "ended with {:?}\n--- stdout\n{}--- stderr\n{}",
            self.code,
            self.stdout,
            self.stderr
        )
    }

    /// Standard output line by line as JSON.
    pub fn json_lines(&self) -> Result<Vec<serde_json::Value>> {
        let parse = |line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}"));
        self.stdout
            .lines()
            .filter(|line| !line.is_empty())
            .map(parse)
            .collect()
    }
}

/// [`wait_within`] 30 s.
pub fn wait<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    wait_within(Duration::from_secs(30), what, look)
}

/// Looks again and again until something is there; panics with its name if it does not come in time.
pub fn wait_within<T>(limit: Duration, what: &str, look: impl Fn() -> Option<T>) -> T {
    let until = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "{what} did not come");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Runs the command with that standard input; it is killed when the time is over.
pub fn run(command: &mut Command, input: &str, limit: Duration) -> Result<Ran> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {shown}"))?;
    let mut stdin = child.stdin.take();
    let text = input.to_owned();
    let writer = thread::spawn(move || {
        // A program that ends without reading its input is its own affair.
        stdin.as_mut().map(|pipe| pipe.write_all(text.as_bytes()));
    });
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let until = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() > until {
            child.kill()?;
            child.wait()?;
            break None;
        }
        thread::sleep(Duration::from_millis(3));
    };
    writer.join().ok();
    let ran = Ran {
        code: status.and_then(|status| status.code()),
        stdout: stdout.join().unwrap_or_default(),
        stderr: stderr.join().unwrap_or_default(),
    };
    match status {
        Some(_) => Ok(ran),
        None => bail!(
            "{shown} did not end within {limit:?}\n{}{}",
            ran.stdout,
            ran.stderr
        ),
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
