//! The real daemon: `hoop run`, told ready by its own notification, stopped by signals.

use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::files;
use crate::place::Place;

pub struct Daemon {
    keeper: Child,
    log: PathBuf,
    notify: UnixDatagram,
}

impl Daemon {
    /// Starts `hoop run` and waits until it says that it is ready.
    pub fn start(place: &Place, config: &Path, log_level: &str) -> Result<Self> {
        let socket = place.path("notify");
        std::fs::remove_file(&socket).ok();
        let notify = UnixDatagram::bind(&socket).context("cannot listen for the daemon's word")?;
        notify.set_read_timeout(Some(Duration::from_millis(200)))?;
        let log = place.path("hoop.log");
        let out = File::options().create(true).append(true).open(&log)?;
        let mut command = place.command("hoop", None, files::program("hoop")?)?;
        command.arg("run").arg("--config").arg(config);
        command
            .env("NOTIFY_SOCKET", &socket)
            .env("HOOP_LOG", log_level);
        command
            .env("RUST_BACKTRACE", "1")
            .stdout(out.try_clone()?)
            .stderr(out);
        command.stdin(std::process::Stdio::null());
        let keeper = command.spawn().context("cannot start the daemon")?;
        let mut daemon = Self {
            keeper,
            log,
            notify,
        };
        daemon.wait_for("READY=1", Duration::from_secs(30))?;
        Ok(daemon)
    }

    pub fn keeper(&self) -> u32 {
        self.keeper.id()
    }

    /// The unprivileged process: the keeper's child.
    pub fn worker(&self) -> Result<u32> {
        self.child(b"worker")
    }

    /// The process that serves the console, where there is one.
    pub fn console(&self) -> Result<u32> {
        self.child(b"serve-console")
    }

    fn child(&self, subcommand: &[u8]) -> Result<u32> {
        let path = format!("/proc/{0}/task/{0}/children", self.keeper.id());
        let children = files::read(Path::new(&path))?;
        let is_it = |pid: &&str| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command.split(|byte| *byte == 0).nth(1) == Some(subcommand)
        };
        let child = children.split_whitespace().find(is_it);
        Ok(child.context("the keeper has no such child")?.parse()?)
    }

    pub fn signal(&self, pid: u32, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(pid)?), signal).context("cannot signal the daemon")
    }

    /// Reads the configuration again, as `systemctl reload` would make it; waits until it is done.
    pub fn reload(&mut self) -> Result<()> {
        self.signal(self.keeper(), Signal::SIGHUP)?;
        self.wait_for("READY=1", Duration::from_secs(10))
    }

    /// Asks it to stop and waits until it did; the exit status.
    pub fn stop(&mut self) -> Result<Option<i32>> {
        if let Some(status) = self.keeper.try_wait()? {
            return Ok(status.code());
        }
        self.signal(self.keeper(), Signal::SIGTERM)?;
        self.ended(Duration::from_secs(45))
    }

    /// Ends the keeper without a word; what it pinned stays.
    pub fn kill_keeper(&mut self) -> Result<()> {
        self.keeper.kill()?;
        self.keeper.wait()?;
        Ok(())
    }

    /// What the daemon wrote about itself.
    pub fn log(&self) -> Result<String> {
        files::read(&self.log)
    }

    fn ended(&mut self, limit: Duration) -> Result<Option<i32>> {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            if let Some(status) = self.keeper.try_wait()? {
                return Ok(status.code());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("the daemon did not stop within {limit:?}:\n{}", self.log()?)
    }

    fn wait_for(&mut self, word: &str, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        let mut buffer = [0_u8; 4096];
        while Instant::now() < until {
            if let Ok(length) = self.notify.recv(&mut buffer) {
                let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
                if text.lines().any(|line| line == word) {
                    return Ok(());
                }
            }
            if let Some(status) = self.keeper.try_wait()? {
                bail!(
                    "the daemon ended ({status}) instead of saying {word}:\n{}",
                    self.log()?
                );
            }
        }
        bail!(
            "the daemon did not say {word} within {limit:?}:\n{}",
            self.log()?
        )
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("world: {error:#}");
            self.kill_keeper().ok();
        }
    }
}

/// `hoop` with arguments, for people's and programs' questions.
pub fn hoop(place_mounts: &Path, config: &Path, arguments: &[&str]) -> Result<Command> {
    let hoop = files::program("hoop")?;
    let mut command = crate::enter::command(None, Some(place_mounts), None, hoop.as_os_str())?;
    command.args(arguments).env("HOOP_CONFIG", config);
    Ok(command)
}
