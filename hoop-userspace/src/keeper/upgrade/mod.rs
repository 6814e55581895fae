//! `hoop upgrade`: another build takes over in place.
//!
//! The keeper tries the other build as a child, brings to rest what is under way, and becomes it by
//! exec, with its listeners, its workers' sockets and all that cannot be read again from a disk in
//! its [`luggage`]. The process, its children and what is pinned in the kernel stay. Until the exec
//! everything that was brought to rest goes on by itself when this is given up, so a failure changes
//! nothing. `docs/adr/an-upgrade-is-an-exec.md` says why it is done so.

pub mod arrival;
pub mod luggage;
pub mod rehearsal;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::approvals::ForDesk;
use super::control::{self, Answer};
use super::governing::Governor;
use super::journal::Entry;
use super::people::{self, Peer};
use super::signals::{Blocked, Signals};
use super::{Keeper, Parts, fixed, lock, retired};
use crate::config::Bundle;
use crate::handover;
use luggage::{FORMAT, Luggage, Packed, Since};
use rehearsal::Report;

/// For the other build to say whether it could: its worker alone may take 20 s.
const TRIED_WITHIN: Duration = Duration::from_secs(60);
/// Bytes of its report.
const MAX_REPORT: u64 = 64 << 10;
/// For what is under way to come to an end: longer than a request on the control socket may take.
/// Connections wait in the kernel meanwhile.
const SETTLED_WITHIN: Duration = Duration::from_secs(12);
const LOOK: Duration = Duration::from_millis(3);
/// For signals that arrived before they were blocked to be noticed.
const NOTICED_WITHIN: Duration = Duration::from_millis(20);
pub const LUGGAGE: &str = "--luggage";
pub const REHEARSE: &str = "--rehearse";

/// What came of trying a build.
pub enum Prepared {
    /// Nothing more was wanted.
    Checked(Value),
    Ready(Ready),
}

/// A build that can take over.
pub struct Ready {
    path: PathBuf,
    /// What was tried is what is run, whatever the path names by then.
    program: File,
    bundle: OwnedFd,
    report: Report,
    /// The configuration that was in force.
    epoch: u64,
    /// One upgrade at a time.
    _place: OwnedSemaphorePermit,
}

/// It is to take over; whoever wants it waits for the answer.
pub struct Wanted {
    pub ready: Ready,
    pub client: UnixStream,
}

/// Why a build did not take over.
struct Refused {
    why: String,
    /// The keeper was told to stop meanwhile.
    stop: bool,
}

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Self { why, stop: false }
    }
}

/// Tries a build. Everything goes on meanwhile.
pub async fn prepare(
    parts: &Arc<Parts>,
    to: Option<PathBuf>,
    check: bool,
    peer: Peer,
) -> Result<Prepared, String> {
    if peer.uid != 0 {
        return Err("only root may upgrade hoop".into());
    }
    people::ungoverned(&parts.config(), peer).map_err(|no| no.to_string())?;
    let place = parts.upgrading.clone().try_acquire_owned();
    let place = place.map_err(|_| "another upgrade is under way".to_owned())?;
    let path = to.unwrap_or_else(|| parts.start.program.clone());
    let tried = attempt(parts, &path).await;
    let (program, bundle, report, epoch) = match tried {
        Ok(tried) => tried,
        Err(why) => {
            parts.journal.write(&Entry::UpgradeRefused {
                program: path.display().to_string(),
                why: why.clone(),
            });
            return Err(format!("{why}; nothing has changed"));
        }
    };
    if check {
        return Ok(Prepared::Checked(json!({
            "from": env!("CARGO_PKG_VERSION"), "to": report.version, "program": path, "upgraded": false,
        })));
    }
    Ok(Prepared::Ready(Ready {
        path,
        program,
        bundle,
        report,
        epoch,
        _place: place,
    }))
}

async fn attempt(parts: &Arc<Parts>, path: &Path) -> Result<(File, OwnedFd, Report, u64), String> {
    if parts.worker.now().ready.is_none() {
        return Err("the worker is not ready: see `hoop status`".into());
    }
    let retiring = parts.worker.retired().all().len();
    if retiring >= retired::MOST {
        return Err(format!(
            "{retiring} workers of earlier upgrades still have sessions (`hoop status`): wait for them, or end some"
        ));
    }
    let (of, config) = (path.to_owned(), parts.start.config.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let program = open(&of).map_err(|why| format!("{} {why}", of.display()))?;
        let bundle = Bundle::gather(&config).map_err(|error| {
            format!("the configuration as it is now is none that this build takes, so it is not in force: {error}")
        })?;
        Ok::<_, String>((program, bundle.to_wire()))
    });
    let (program, wire) = opened.await.map_err(|error| error.to_string())??;
    let epoch = {
        let in_force = lock(&parts.bundle);
        if *in_force.1 != *wire {
            return Err(
                "the configuration, or a file that it names, has changed since it was loaded: reload first (`systemctl reload hoop`), then upgrade".into(),
            );
        }
        in_force.0
    };
    let (report, bundle) = tried(&program, path).await?;
    fits(&report, &fixed(&parts.config()))?;
    Ok((program, bundle, report, epoch))
}

/// A program of root's own, which nobody else may have written.
fn open(path: &Path) -> Result<File, String> {
    let mut options = File::options();
    // Nothing of ours waits for a pipe.
    options.read(true).custom_flags(libc::O_NONBLOCK);
    let file = options.open(path);
    let file = file.map_err(|error| format!("cannot be opened: {error}"))?;
    let about = file.metadata().map_err(|error| error.to_string())?;
    if !about.is_file() || about.mode() & 0o111 == 0 {
        return Err("is no program".into());
    }
    if about.uid() != 0 || about.mode() & 0o022 != 0 {
        return Err("can be written by others than root: it would be run as root".into());
    }
    Ok(file)
}

/// Has the build say whether it could take over.
async fn tried(program: &File, path: &Path) -> Result<(Report, OwnedFd), String> {
    let failed = |error: io::Error| format!("{} cannot be tried: {error}", path.display());
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let bundle = memfd_create("hoop-bundle", flags).map_err(|errno| failed(errno.into()))?;
    let stdin = bundle.try_clone().map_err(failed)?;
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command
        .arg0(path)
        .args(own_arguments())
        .arg(REHEARSE)
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    let out = child.stdout.take();
    let running = async {
        let mut text = Vec::new();
        if let Some(out) = out {
            out.take(MAX_REPORT).read_to_end(&mut text).await?;
        }
        Ok::<_, io::Error>((child.wait().await?, text))
    };
    let ran = tokio::time::timeout(TRIED_WITHIN, running).await;
    let (status, text) = ran
        .map_err(|_| format!("{} does not say whether it could take over", path.display()))?
        .map_err(failed)?;
    let report: Report = serde_json::from_slice(&text).map_err(|_| {
        format!(
            "{} does not say that it could take over ({status}): is it a hoop that can be upgraded to in place?",
            path.display()
        )
    })?;
    luggage::seal(&bundle).map_err(failed)?;
    Ok((report, bundle))
}

fn fits(report: &Report, here: &BTreeMap<String, String>) -> Result<(), String> {
    let Report {
        version, problem, ..
    } = report;
    if let Some(problem) = problem {
        return Err(format!("hoop {version} would not start: {problem}"));
    }
    if report.layout != hoop_common::LAYOUT {
        return Err(format!(
            "hoop {version} has kernel maps of layout {}, this build of {}: what the kernel knows of open connections cannot be kept, so restart hoop to get there (`systemctl restart hoop`)",
            report.layout,
            hoop_common::LAYOUT,
        ));
    }
    if !report.luggage.contains(&FORMAT) {
        return Err(format!(
            "hoop {version} cannot take over from this build: restart hoop to get there (`systemctl restart hoop`)"
        ));
    }
    let changed = here
        .iter()
        .find(|(what, now)| report.fixed.get(*what).is_some_and(|next| next != *now));
    match changed {
        Some((what, _)) => Err(format!("{what} cannot change in an upgrade: restart hoop")),
        None => Ok(()),
    }
}

/// What this process was started with, but for what belonged to that start alone.
fn own_arguments() -> Vec<OsString> {
    let arguments = std::env::args_os().skip(1);
    arguments.filter(|argument| argument != LUGGAGE).collect()
}

/// The doors, shut for as long as this lives.
struct ShutDoors<'a>(&'a Governor);

impl<'a> ShutDoors<'a> {
    fn new(governor: &'a Governor) -> Self {
        governor.set_shut(true);
        Self(governor)
    }
}

impl Drop for ShutDoors<'_> {
    fn drop(&mut self) {
        self.0.set_shut(false);
    }
}

impl Keeper {
    /// Returns only if it came to nothing; says then whether the keeper was told to stop.
    pub(super) async fn upgrade(&mut self, wanted: Wanted, signals: &mut Signals) -> bool {
        let Wanted { ready, client } = wanted;
        let program = ready.path.display().to_string();
        self.parts.journal.write(&Entry::UpgradeBegun {
            from: env!("CARGO_PKG_VERSION"),
            to: ready.report.version.clone(),
            program: program.clone(),
        });
        let Refused { why, stop } = match self.hand_over(&ready, &client, signals).await {
            Err(refused) => refused,
            Ok(never) => match never {},
        };
        self.parts.journal.write(&Entry::UpgradeRefused {
            program,
            why: why.clone(),
        });
        let answer = Answer::Error(format!("{why}; nothing has changed"));
        tokio::spawn(async move { control::answer(client, &answer).await });
        stop
    }

    async fn hand_over(
        &self,
        ready: &Ready,
        client: &UnixStream,
        signals: &mut Signals,
    ) -> Result<Infallible, Refused> {
        let parts = &self.parts;
        if self.epoch != ready.epoch {
            return Err("a reload came in between: try again".to_owned().into());
        }
        self.notify.alive();
        let by = Instant::now() + SETTLED_WITHIN;
        // Each of these goes on by itself when it is dropped.
        let _shut = parts.gate.close();
        let _doors = ShutDoors::new(&self.governor);
        self.settle(by).await?;
        let left = by.saturating_duration_since(Instant::now());
        let workers = parts.worker.pause(left).await?;
        // They may have asked for tokens until just now.
        self.settle(by).await?;
        let (told, desk) = oneshot::channel();
        let (_go_on, resumed) = oneshot::channel();
        let pause = ForDesk::Pause(told, resumed);
        let desk = async { parts.desk.send(pause).await.ok().and(desk.await.ok()) };
        let left = by.saturating_duration_since(Instant::now());
        let desk = tokio::time::timeout(left, desk).await.ok().flatten();
        let desk = desk.ok_or_else(|| "what people are asked did not come to rest".to_owned())?;
        self.notify.alive();
        let _blocked =
            Blocked::new().map_err(|errno| format!("signals cannot be held back: {errno}"))?;
        tokio::time::sleep(NOTICED_WITHIN).await;
        if signals.was_told_to_stop().await {
            return Err(Refused {
                why: "hoop was told to stop".into(),
                stop: true,
            });
        }
        // From here on nothing waits.
        let doors = self.governor.doors().map(|doors| doors.carried());
        let doors = doors.unwrap_or_default();
        let mut packed = Packed::default();
        let current = luggage::Worker {
            descriptor: packed.put(workers.current.channel.as_fd()),
            pid: workers.current.pid,
            version: env!("CARGO_PKG_VERSION").into(),
            retired: None,
        };
        let earlier = workers
            .retired
            .iter()
            .map(|(retiree, carried)| luggage::Worker {
                descriptor: packed.put(carried.channel.as_fd()),
                pid: carried.pid,
                version: retiree.version.clone(),
                retired: Some(Since {
                    since: retiree.since,
                    until: retiree.until,
                }),
            });
        // Oldest first.
        let workers = earlier.chain([current]).collect();
        let listeners = doors.iter().map(|door| luggage::Listener {
            descriptor: packed.put(door.listener.as_fd()),
            inode: door.inode,
        });
        let listeners = listeners.collect();
        let console = self.console.as_ref();
        let luggage = Luggage {
            format: FORMAT,
            from: env!("CARGO_PKG_VERSION").into(),
            since: parts.since,
            epoch: self.epoch,
            nonce: self.governor.nonce(),
            connections: self.governor.connections(),
            restarts: parts.worker.now().restarts,
            counters: parts.counters.status(),
            bundle: packed.put(ready.bundle.as_fd()),
            client: packed.put(client.as_fd()),
            control: packed.put(self.control.as_fd()),
            console: console.map(|console| packed.put(console.listener().as_fd())),
            listeners,
            workers,
            desk,
            courier: parts.courier.carry(),
            names: lock(&parts.names).carry(Instant::now()),
            signed_in: lock(&parts.signed_in).carry(Instant::now()),
        };
        Err(become_it(ready, &luggage, &packed).into())
    }

    /// Waits until nothing is under way that would be lost.
    async fn settle(&self, by: Instant) -> Result<(), String> {
        loop {
            let within = self.parts.gate.within();
            if within == 0 && self.governor.is_idle() {
                return Ok(());
            }
            if Instant::now() >= by {
                return Err(format!(
                    "what is under way did not come to an end within {} s ({within} left)",
                    SETTLED_WITHIN.as_secs()
                ));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Becomes the other build; returns why that failed.
fn become_it(ready: &Ready, luggage: &Luggage, packed: &Packed<'_>) -> String {
    let failed = |error: &dyn std::fmt::Display| {
        format!("{} cannot be started: {error}", ready.path.display())
    };
    let path = [ready.path.clone().into_os_string()];
    let arguments = path
        .into_iter()
        .chain(own_arguments())
        .chain([LUGGAGE.into()]);
    let arguments: Result<Vec<CString>, _> =
        arguments.map(|a| CString::new(a.into_vec())).collect();
    let environment = std::env::vars_os().map(|(name, value)| {
        let line = [name.as_bytes(), b"=", value.as_bytes()].concat();
        CString::new(line)
    });
    let environment: Result<Vec<CString>, _> = environment.collect();
    let (Ok(arguments), Ok(environment)) = (arguments, environment) else {
        return failed(&"its arguments cannot be passed on");
    };
    let (ours, theirs) = match handover::pair() {
        Ok(pair) => pair,
        Err(error) => return failed(&error),
    };
    if let Err(error) = luggage::send(ours.as_fd(), luggage, packed) {
        return failed(&error);
    }
    let before = match io::stdin().as_fd().try_clone_to_owned() {
        Ok(before) => before,
        Err(error) => return failed(&error),
    };
    if let Err(errno) = nix::unistd::dup2_stdin(&theirs) {
        return failed(&errno);
    }
    let errno = match nix::unistd::fexecve(&ready.program, &arguments, &environment) {
        Err(errno) => errno,
        Ok(never) => match never {},
    };
    if let Err(errno) = nix::unistd::dup2_stdin(&before) {
        tracing::warn!(%errno, "standard input is lost");
    }
    failed(&errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            version: "9.0.0".into(),
            luggage: vec![FORMAT],
            layout: hoop_common::LAYOUT,
            fixed: BTreeMap::from([("[capture] port".into(), "0".into())]),
            problem: None,
        }
    }

    #[test]
    fn a_build_that_does_not_fit_is_refused_with_its_words() {
        let here = BTreeMap::from([
            ("[capture] port".to_owned(), "0".to_owned()),
            ("[capture] pins".to_owned(), "/sys/fs/bpf/hoop".to_owned()),
        ]);
        assert_eq!(fits(&report(), &here), Ok(()));
        let refused = |change: fn(&mut Report)| {
            let mut report = report();
            change(&mut report);
            fits(&report, &here).unwrap_err()
        };
        assert!(
            refused(|r| r.problem = Some("no such account".into())).contains("no such account")
        );
        assert!(refused(|r| r.layout += 1).contains("restart hoop"));
        assert!(refused(|r| r.luggage = vec![FORMAT + 1]).contains("9.0.0 cannot take over"));
        assert!(refused(|r| r.luggage.clear()).contains("cannot take over"));
        let moved = refused(|r| {
            r.fixed.insert("[capture] port".into(), "7".into());
        });
        assert!(moved.contains("[capture] port cannot change"), "{moved}");
    }

    #[test]
    fn only_a_program_that_root_alone_may_write_is_run() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hoop");
        assert!(open(&path).unwrap_err().contains("cannot be opened"));
        std::fs::write(&path, "x").unwrap();
        let mode = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(0o644);
        assert!(open(&path).unwrap_err().contains("no program"));
        mode(0o775);
        assert!(open(&path).unwrap_err().contains("others than root"));
        assert!(open(folder.path()).is_err());
    }

    #[tokio::test]
    async fn what_is_no_hoop_is_told_from_one() {
        let program = File::open("/bin/true").unwrap();
        let why = tried(&program, Path::new("/bin/true")).await.unwrap_err();
        assert!(why.contains("is it a hoop"), "{why}");
    }
}
