//! Watching a whole host with nothing but what its kernel tells anyway: no program is attached, no
//! connection is opened, nothing is changed.
//!
//! Lists are taken as often as a tenth of one processor allows, a quarter while connections come and
//! go between two of them: those the kernel reports, but not whose they were.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Uid;
use time::OffsetDateTime;

use super::merge::{Key, Merge, Namespace, Owner, Tally, UNSEEN, Unowned};
use crate::capture::sockets::TcpSocket;
use namespaces::Namespaces;
use owners::Owners;

mod namespaces;
mod owners;

pub use namespaces::within;

/// Between two lists: so many times what one costs, within these bounds.
const PAUSE: u32 = 10;
const PAUSE_AFTER_UNSEEN: u32 = 3;
const SOONEST: Duration = Duration::from_millis(20);
const LATEST: Duration = Duration::from_secs(2);
/// Between looks for namespaces that have come or gone.
const NAMESPACES: Duration = Duration::from_secs(5);
/// How often whoever has a socket open is looked for.
const TRIES: u8 = 5;

/// What was seen.
pub struct Watching {
    pub tallies: Vec<Tally>,
    pub lasted: Duration,
    /// Which program listens where, of those that something here connected to.
    pub servers: HashMap<(Namespace, SocketAddr), String>,
    /// Of the namespaces that tallies are of; `None` for the own one.
    pub doors: BTreeMap<Namespace, Option<Arc<File>>>,
    /// What this does not show, in words for people.
    pub limits: Vec<String>,
}

/// Watches until the time is over or somebody interrupts, which in the calling thread does not end the
/// process until this returns. What comes after `began` is counted.
pub fn watch(lasting: Duration, began: impl FnOnce()) -> Result<Watching> {
    let interrupted = Interrupted::prepare().context("signals cannot be waited for")?;
    let mut state = State::new()?;
    let start = Instant::now();
    began();
    while start.elapsed() < lasting {
        let before = used();
        let unseen = std::mem::take(&mut state.unseen);
        state.look()?;
        let pause = if unseen { PAUSE_AFTER_UNSEEN } else { PAUSE };
        let pause = (used().saturating_sub(before) * pause).clamp(SOONEST, LATEST);
        let left = lasting.saturating_sub(start.elapsed());
        if state.wait(Instant::now() + pause.min(left), &interrupted)? {
            break;
        }
    }
    // What lives now, and what ended since.
    state.look()?;
    Ok(state.finish(start.elapsed()))
}

/// Of a processor, by this thread: on a busy host a list takes longer than it costs.
fn used() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

struct Interrupted(SignalFd);

impl Interrupted {
    fn signals() -> SigSet {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        signals
    }

    fn prepare() -> nix::Result<Self> {
        Self::signals().thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        SignalFd::with_flags(&Self::signals(), flags).map(Self)
    }
}

impl Drop for Interrupted {
    /// Names and probes may take a while; a second interrupt ends the process. The first was read.
    fn drop(&mut self) {
        let _ = self.0.read_signal();
        let _ = Self::signals().thread_unblock();
    }
}

struct State {
    namespaces: Namespaces,
    looked: Instant,
    owners: Owners,
    merge: Merge,
    /// How often each was asked for in vain, and the cgroup that is known of it.
    tries: HashMap<Key, (u8, Owner)>,
    listeners: HashMap<Namespace, Vec<TcpSocket>>,
    /// Something ended of which nobody knows whose it was.
    unseen: bool,
    lost: bool,
    unlisted: Option<String>,
}

impl State {
    fn new() -> Result<Self> {
        let mut namespaces =
            Namespaces::own().context("the kernel does not let its sockets be watched")?;
        namespaces.look_again();
        Ok(Self {
            namespaces,
            looked: Instant::now(),
            owners: Owners::new(),
            merge: Merge::default(),
            tries: HashMap::new(),
            listeners: HashMap::new(),
            unseen: false,
            lost: false,
            unlisted: None,
        })
    }

    fn look(&mut self) -> Result<()> {
        if self.looked.elapsed() >= NAMESPACES {
            self.ends()?;
            self.namespaces.look_again();
            self.looked = Instant::now();
        }
        let mut unowned = Vec::new();
        for namespace in &self.namespaces.all {
            let living = match namespace.watch.living() {
                Ok(living) => living,
                Err(error) => {
                    self.unlisted.get_or_insert(error.to_string());
                    continue;
                }
            };
            let at = OffsetDateTime::now_utc();
            unowned.extend(self.merge.living(namespace.inode, &living, at));
            let listening = living.into_iter().filter(|one| one.socket.listening);
            let listening = listening.map(|one| one.socket).collect();
            self.listeners.insert(namespace.inode, listening);
        }
        // Before their ends: what has ended meanwhile can still be told by its cgroup.
        self.find_owners(&unowned);
        self.ends()
    }

    fn find_owners(&mut self, unowned: &[Unowned]) {
        for (one, owner) in self.owners.of(unowned) {
            if owner.executable != UNSEEN {
                self.merge.own(one.key, owner);
                self.tries.remove(&one.key);
                continue;
            }
            let tried = self.tries.get(&one.key).map_or(0, |(tries, _)| *tries) + 1;
            if tried >= TRIES || one.inode == 0 {
                // No process of this host has it: the kernel's own, or one that has just ended.
                self.merge.own(one.key, owner);
                self.tries.remove(&one.key);
            } else {
                self.tries.insert(one.key, (tried, owner));
            }
        }
    }

    fn ends(&mut self) -> Result<()> {
        for namespace in &self.namespaces.all {
            let ended = namespace
                .watch
                .ended()
                .context("the kernel's reports of ends")?;
            self.lost |= ended.lost;
            for one in &ended.sockets {
                let key = (namespace.inode, one.cookie);
                // Its cgroup was seen, if not its process.
                if let Some((_, owner)) = self.tries.remove(&key) {
                    self.merge.own(key, owner);
                }
            }
            let at = OffsetDateTime::now_utc();
            self.unseen |= self.merge.ended(namespace.inode, &ended.sockets, at);
        }
        Ok(())
    }

    /// Takes reports until then; says whether somebody interrupted.
    fn wait(&mut self, until: Instant, interrupted: &Interrupted) -> Result<bool> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut waiting = vec![PollFd::new(interrupted.0.as_fd(), PollFlags::POLLIN)];
            let watches = self.namespaces.all.iter();
            waiting.extend(watches.map(|one| PollFd::new(one.watch.as_fd(), PollFlags::POLLIN)));
            match poll(&mut waiting, timeout) {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno).context("waiting for the kernel's reports"),
            }
            let signalled = waiting.first().and_then(PollFd::any);
            if signalled == Some(true) {
                return Ok(true);
            }
            self.ends()?;
            if left.is_zero() {
                return Ok(false);
            }
        }
    }

    fn finish(mut self, lasted: Duration) -> Watching {
        for (key, (_, owner)) in std::mem::take(&mut self.tries) {
            self.merge.own(key, owner);
        }
        let (tallies, left_out) = self.merge.finish();
        let servers = servers(&mut self.owners, &self.listeners, &tallies);
        let mut limits = Vec::new();
        if !Uid::effective().is_root() || self.owners.unread {
            limits.push("without root other accounts' programs and namespaces are not seen".into());
        }
        let unwatched = self.namespaces.left_out.len();
        if let Some(why) = self.namespaces.left_out.values().next() {
            limits.push(format!(
                "{unwatched} network namespaces are left out: {why}"
            ));
        }
        if self.lost {
            limits.push(
                "connections ended faster than could be noted: short ones are missing".into(),
            );
        }
        if left_out > 0 {
            limits.push(format!("there was no room for {left_out} connections"));
        }
        if let Some(why) = self.unlisted {
            limits.push(format!("a list of sockets could not be had: {why}"));
        }
        let wanted: HashSet<Namespace> = tallies.iter().map(|tally| tally.namespace).collect();
        Watching {
            servers,
            lasted,
            doors: self.namespaces.into_doors(&wanted),
            limits,
            tallies,
        }
    }
}

/// The programs behind destinations that are on this host: at an address that some namespace listens
/// on by itself, or on the loopback of the same one.
fn servers(
    owners: &mut Owners,
    listeners: &HashMap<Namespace, Vec<TcpSocket>>,
    tallies: &[Tally],
) -> HashMap<(Namespace, SocketAddr), String> {
    let mut exact = HashMap::new();
    let mut on_all = HashMap::new();
    for (namespace, all) in listeners {
        for socket in all {
            match socket.local.ip().is_unspecified() {
                true => on_all.insert((*namespace, socket.local.port()), socket),
                false if socket.local.ip().is_loopback() => {
                    exact.insert((Some(*namespace), socket.local), socket)
                }
                false => exact.insert((None, socket.local), socket),
            };
        }
    }
    let mut wanted = Vec::new();
    let mut places = Vec::new();
    let distinct: HashSet<_> = tallies
        .iter()
        .filter(|tally| !tally.udp)
        .map(|tally| (tally.namespace, tally.destination))
        .collect();
    for (namespace, destination) in distinct {
        let loopback = destination.ip().is_loopback();
        let at = exact
            .get(&(loopback.then_some(namespace), destination))
            .or_else(|| {
                on_all
                    .get(&(namespace, destination.port()))
                    .filter(|_| loopback)
            });
        if let Some(socket) = at {
            wanted.push(Unowned {
                key: (namespace, wanted.len() as u64),
                cgroup_id: socket.cgroup_id,
                inode: socket.inode,
            });
            places.push((namespace, destination));
        }
    }
    let found = owners.of(&wanted).into_iter();
    let found = found.filter(|(_, owner)| owner.executable != UNSEEN);
    found
        .filter_map(|(one, owner)| {
            let index = usize::try_from(one.key.1).ok()?;
            Some((*places.get(index)?, owner.executable))
        })
        .collect()
}
