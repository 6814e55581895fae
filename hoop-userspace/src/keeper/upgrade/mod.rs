//! `hoop upgrade`: another build takes over in place.
//!
//! The keeper tries the other build as a child, brings to rest what is under way, and becomes it by
//! exec, with its listeners, its workers' sockets and all that cannot be read again from a disk in
//! its [`luggage`]. The process, its children and what is pinned in the kernel stay. Until the exec
//! everything that was brought to rest goes on by itself when this is given up, so a failure changes
//! nothing. `docs/adr/an-upgrade-is-an-exec.md` says why it is done so.

pub mod arrival;
mod fitness;
pub mod luggage;
pub mod rehearsal;

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::approvals::ForDesk;
use super::control::{self, Answer};
use super::governing::Governor;
use super::journal::Entry;
use super::signals::{Blocked, Signals};
use super::{Keeper, lock};
use crate::handover;
use fitness::own_arguments;
use luggage::{FORMAT, Luggage, Packed, Since};

pub use fitness::{Prepared, Ready, prepare};

/// For what is under way to come to an end: longer than a request on the control socket may take.
/// Connections wait in the kernel meanwhile.
const SETTLED_WITHIN: Duration = Duration::from_secs(12);
const LOOK: Duration = Duration::from_millis(3);
/// For signals that arrived before they were blocked to be noticed.
const NOTICED_WITHIN: Duration = Duration::from_millis(20);
/// Options of `hoop run`; their names are kept, because one build gives them to another.
const LUGGAGE: &str = "--luggage";
const REHEARSE: &str = "--rehearse";

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
            names_by_cgroup: lock(&parts.names).carry(Instant::now()),
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
