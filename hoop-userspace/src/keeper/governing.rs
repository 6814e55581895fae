//! The keeper's hand on the kernel: programs loaded and kept attached, maps kept in step with the
//! cgroups that there are, what the kernel reports written down, connections accepted.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use hoop_common::{Origin, family};
use tokio::sync::{Notify, mpsc, watch};

use super::cgroups::{BY_HAND, Found, Watcher};
use super::handing::{Handing, Taken};
use super::isolated::Nursery;
use super::journal::Entry;
use super::seen::{Key, Row, Verdict};
use super::status::{Hook, LsmStatus};
use super::{KeeperError, Parts, lock};
use crate::accept::{Accepted, Adopted, Doors, Listeners};
use crate::attribute::cgroup2_mount;
use crate::capture::{self, Capture, Events, Lsm, Observed};
use crate::config::Mode;
use crate::identify::{Choice, agent_for, mode_for};

const HEALTH: Duration = Duration::from_secs(2);
/// Origins that nobody took by then belong to connections that nobody will accept.
const UNTAKEN: Duration = Duration::from_secs(60);
/// How often observations that were counted further are written.
const SETTLING: Duration = Duration::from_secs(10);
/// How often listeners in namespaces that nobody is in any more are closed.
const RETIRING: Duration = Duration::from_secs(60);
const NAMESPACES_WAITING: usize = 16;

pub struct Governor {
    parts: Arc<Parts>,
    capture: Arc<Capture>,
    /// The cgroups below the slice at the last look.
    found: Mutex<Found>,
    /// Whose each of them is, by its id.
    agents: Mutex<HashMap<u64, Option<String>>>,
    /// Those that came lately.
    nursery: Nursery,
    /// Held while modes are set: whoever comes second goes by the newer configuration.
    setting: Mutex<()>,
    /// A reload: modes must be set anew.
    changed: Notify,
    /// The slice is another cgroup than before: the hooks are looked at without waiting.
    moved: Notify,
    /// Connections from network namespaces that nobody listens in yet.
    foreign: mpsc::Sender<Origin>,
    stopping: watch::Sender<bool>,
    doors: OnceLock<Arc<Doors>>,
    handing: Arc<Handing>,
}

/// What the keeper before hands on: its listeners, and what they carry.
pub struct Handed {
    pub nonce: u64,
    pub listeners: Vec<Adopted>,
    /// Connections that it counted.
    pub connections: u64,
}

impl Governor {
    /// On return every hook is attached and the listeners are there.
    pub fn start(parts: Arc<Parts>, handed: Option<Handed>) -> Result<Arc<Self>, KeeperError> {
        let config = parts.config();
        let capture = Arc::new(match &handed {
            None => Capture::load(&config.capture)?,
            Some(handed) => Capture::take_over(&config.capture, handed.nonce)?,
        });
        let connections = handed.as_ref().map_or(0, |handed| handed.connections);
        let watcher = Watcher::new(&cgroup2_mount(), &config.capture.attach)?;
        let (foreign, foreigners) = mpsc::channel(NAMESPACES_WAITING);
        let governor = Arc::new(Self {
            foreign,
            handing: Arc::new(Handing::new(parts.clone(), connections)),
            parts,
            capture: capture.clone(),
            found: Mutex::default(),
            agents: Mutex::default(),
            nursery: Nursery::default(),
            setting: Mutex::default(),
            changed: Notify::new(),
            moved: Notify::new(),
            stopping: watch::Sender::new(false),
            doors: OnceLock::new(),
        });
        if capture.lsm_lost() {
            governor.trouble("LSM tier", capture.lsm().text());
        }
        // Before the first connection can come: an agent to be observed is not enforced for a moment.
        governor.look(watcher.mount(), watcher.scan());
        let events = capture.events()?;
        let adopted = handed.map(|handed| handed.listeners).unwrap_or_default();
        let listeners = Listeners::adopt(&capture, &config.capture, adopted)?;
        // It was empty until now.
        let _ = governor.doors.set(listeners.doors());
        tokio::spawn(governor.clone().follow(watcher));
        tokio::spawn(governor.clone().listen(events));
        tokio::spawn(governor.clone().keep_attached());
        tokio::spawn(governor.clone().accept(listeners, foreigners));
        Ok(governor)
    }

    /// A new configuration is in force.
    pub async fn apply(self: &Arc<Self>) {
        let config = self.parts.config();
        if let Err(error) = self.capture.set_resolvers(&config.capture.resolvers) {
            self.trouble("resolvers", error.to_string());
        }
        if let Err(error) = self.capture.set_socket_names(&config.capture.lsm) {
            self.trouble("refused sockets", error.to_string());
        }
        // Files of containers' runtimes are read, and may lie where reading takes its time.
        let this = self.clone();
        let set = tokio::task::spawn_blocking(move || this.set_modes());
        if let Err(error) = set.await {
            self.trouble("modes", error.to_string());
        }
        self.changed.notify_one();
    }

    /// Leaves what comes now in the kernel, to wait there, or takes it again.
    pub fn set_shut(&self, shut: bool) {
        if let Some(doors) = self.doors.get() {
            doors.set_shut(shut);
        }
    }

    /// Whether all that was accepted was taken, where the doors are shut.
    pub fn is_idle(&self) -> bool {
        self.doors.get().is_none_or(|doors| doors.is_idle())
    }

    pub fn doors(&self) -> Option<&Arc<Doors>> {
        self.doors.get()
    }

    pub fn nonce(&self) -> u64 {
        self.capture.nonce()
    }

    /// Connections that were counted.
    pub fn connections(&self) -> u64 {
        self.handing.connections()
    }

    /// Closes the listeners: what comes now is refused in the kernel.
    pub fn accept_no_more(&self) {
        self.stopping.send_replace(true);
    }

    pub fn hooks(&self) -> Vec<Hook> {
        let health = self.capture.health().into_iter();
        health
            .map(|hook| Hook {
                name: hook.hook.into(),
                attached: hook.healthy,
                problem: (!hook.healthy).then(|| problem(&hook)),
            })
            .collect()
    }

    pub fn lsm(&self) -> LsmStatus {
        let lsm = self.capture.lsm();
        let why = match &lsm {
            Lsm::On(_) => None,
            Lsm::Off(why) => Some(why),
        };
        LsmStatus {
            on: why.is_none(),
            text: lsm.text(),
            mend: why.map(capture::LsmOff::mend),
        }
    }

    /// Paths of the cgroups below the slice.
    pub fn cgroups(&self) -> Vec<String> {
        lock(&self.found).values().cloned().collect()
    }

    /// The cgroups below the slice, by id.
    pub fn found(&self) -> Found {
        lock(&self.found).clone()
    }

    /// The capture listeners' ports, in whatever namespace.
    pub fn ports(&self) -> Vec<u16> {
        self.capture.ports()
    }

    async fn follow(self: Arc<Self>, mut watcher: Watcher) {
        loop {
            tokio::select! {
                () = watcher.changed() => {}
                () = self.changed.notified() => {}
            }
            // Files of containers' runtimes are read, and may lie where reading takes its time.
            let (this, mount, found) = (self.clone(), watcher.mount().to_owned(), watcher.scan());
            let looked = tokio::task::spawn_blocking(move || {
                this.look(&mount, found);
                this.nursery.look(&this.parts, &this.found());
            });
            if let Err(error) = looked.await {
                self.trouble("cgroups", error.to_string());
            }
        }
    }

    fn look(&self, mount: &Path, found: Found) {
        found
            .values()
            .for_each(|cgroup| remove_if_left(mount, cgroup));
        let config = self.parts.config();
        let before = std::mem::replace(&mut *lock(&self.found), found.clone());
        let slice = |found: &Found| {
            let mut slices = found.iter().filter(|(_, c)| **c == config.capture.attach);
            slices.next().map(|(id, _)| *id)
        };
        if slice(&before) != slice(&found) {
            self.moved.notify_one();
        }
        if before == found {
            // What is written down of a container may have changed, or be readable by now.
            if config.agents.iter().any(|agent| agent.pick.is_some()) {
                self.set_modes();
            }
            return;
        }
        let look = self.parts.look(&config);
        for (_, cgroup) in found.iter().filter(|(id, _)| !before.contains_key(id)) {
            // The slice itself, and what only groups agents, hold no agent's processes.
            let grouping = found.values().any(|other| is_below(other, cgroup));
            let cgroup = cgroup.clone();
            let entry = match agent_for(&config, &cgroup, &look) {
                Choice::Of(_) => continue,
                Choice::Unknown { perhaps, why } => Entry::UnknownContainer {
                    agent: perhaps.name.to_string(),
                    cgroup,
                    why,
                },
                Choice::Nobody if grouping || cgroup == config.capture.attach => continue,
                Choice::Nobody => Entry::UnknownCgroup { cgroup },
            };
            self.parts.journal.write(&entry);
        }
        self.set_modes();
    }

    fn set_modes(&self) {
        let _one = lock(&self.setting);
        let config = self.parts.config();
        let mut modes: Vec<(u64, Mode)> = Vec::new();
        let mut listening = BTreeSet::new();
        let mut agents = HashMap::new();
        for (id, cgroup) in self.found() {
            // Looked up once, and not for each question about it.
            let looked = OnceCell::new();
            let look = |cgroup: &str| {
                let look = || self.parts.look(&config)(cgroup);
                looked.get_or_init(look).clone()
            };
            if let Some(mode) = mode_for(&config, &cgroup, &look) {
                modes.push((id, mode));
            }
            let agent = agent_for(&config, &cgroup, &look).known();
            agents.insert(id, agent.map(|agent| agent.name.to_string()));
            let Some(agent) = agent else {
                continue;
            };
            if agent.listen.is_empty() {
                continue;
            }
            listening.insert(id);
            if let Err(error) = self.capture.set_listen_ports(id, &agent.listen) {
                self.trouble("listen ports", error.to_string());
            }
        }
        *lock(&self.agents) = agents;
        if let Err(error) = self.capture.retain_listen_ports(&listening) {
            self.trouble("listen ports", error.to_string());
        }
        if let Err(error) = self.capture.set_modes(&modes) {
            self.trouble("modes", error.to_string());
        }
    }

    async fn listen(self: Arc<Self>, mut events: Events) {
        let mut settling = tokio::time::interval(SETTLING);
        loop {
            tokio::select! {
                observed = events.next() => match observed {
                    Ok(observed) => self.observed(observed),
                    Err(error) => {
                        self.trouble("events", error.to_string());
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                },
                _ = settling.tick() => {
                    for row in lock(&self.parts.seen).settled(SystemTime::now()) {
                        self.parts.journal.write(&Entry::Seen(row));
                    }
                }
            }
        }
    }

    fn observed(&self, observed: Observed) {
        match observed {
            Observed::Dns {
                cgroup_id,
                names,
                addresses,
                ..
            } => {
                lock(&self.parts.names).answered(cgroup_id, &names, &addresses, Instant::now());
            }
            Observed::Connect { origin, verdict } => {
                let why = match verdict {
                    capture::Verdict::Bypassed => {
                        Some("the glass is broken: `hoop break-glass`".to_owned())
                    }
                    capture::Verdict::WouldBeRefused(reason) => {
                        Some(format!("enforced, it is refused: {}", reason.of(&origin)))
                    }
                    _ => None,
                };
                self.seen(&origin, Verdict::Passed, why.as_deref());
            }
            Observed::Denied { origin, reason } => {
                self.parts
                    .counters
                    .kernel_refused
                    .fetch_add(1, Ordering::Relaxed);
                self.seen(&origin, Verdict::Refused, Some(&reason.of(&origin)));
            }
            Observed::Namespace { origin } => {
                // Where too many wait, the next connection from there reports it again.
                let _ = self.foreign.try_send(origin);
                self.seen(
                    &origin,
                    Verdict::Refused,
                    Some(capture::Reason::Namespace.text()),
                );
            }
        }
    }

    fn seen(&self, origin: &Origin, verdict: Verdict, why: Option<&str>) {
        let destination = capture::destination(origin);
        let names = match capture::unix_name(origin) {
            Some(name) => vec![name],
            None => self.parts.names_of(origin.cgroup_id, destination.ip()),
        };
        let key = self.key(origin, destination, verdict, why);
        let first = lock(&self.parts.seen).note(key, names, SystemTime::now());
        if let Some(row) = first {
            self.write_seen(row);
        }
    }

    fn write_seen(&self, row: Row) {
        self.parts.journal.write(&Entry::Seen(row));
    }

    fn key(
        &self,
        origin: &Origin,
        destination: SocketAddr,
        verdict: Verdict,
        why: Option<&str>,
    ) -> Key {
        let known = lock(&self.found).get(&origin.cgroup_id).cloned();
        let cgroup = known.or_else(|| self.parts.cgroups.path(origin.cgroup_id, None));
        let cgroup = cgroup.unwrap_or_else(|| format!("cgroup {}", origin.cgroup_id));
        let agent = lock(&self.agents).get(&origin.cgroup_id).cloned();
        let agent = agent.unwrap_or_else(|| {
            // One that is new: no file is read of it here, where each connection passes.
            let config = self.parts.config();
            let picks = config.agents.iter().any(|agent| agent.pick.is_some());
            let known = agent_for(&config, &cgroup, &|_| Ok(None)).known();
            known.filter(|_| !picks).map(|agent| agent.name.to_string())
        });
        let executable = std::fs::read_link(format!("/proc/{}/exe", origin.tgid));
        let comm = || {
            String::from_utf8_lossy(&origin.comm)
                .trim_end_matches('\0')
                .to_owned()
        };
        Key {
            verdict,
            agent,
            executable: executable.map_or_else(|_| comm(), |path| path.display().to_string()),
            cgroup,
            destination,
            how: how(origin),
            why: why.map(str::to_owned),
        }
    }

    /// A hook that was lost (its slice was removed and made again, its pin taken away) is put back.
    async fn keep_attached(self: Arc<Self>) {
        let mut tick = tokio::time::interval(HEALTH);
        let mut lost: BTreeSet<&'static str> = BTreeSet::new();
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.moved.notified() => {}
            }
            let unwell: Vec<_> = self
                .capture
                .health()
                .into_iter()
                .filter(|hook| !hook.healthy)
                .collect();
            for hook in unwell.iter().filter(|hook| !lost.contains(hook.hook)) {
                self.trouble(hook.hook, problem(hook));
            }
            lost.extend(unwell.iter().map(|hook| hook.hook));
            if !lost.is_empty() {
                match self.capture.repair() {
                    Ok(_) => {
                        for hook in std::mem::take(&mut lost) {
                            let hook = hook.to_owned();
                            self.parts.journal.write(&Entry::Capture {
                                hook,
                                problem: None,
                            });
                        }
                    }
                    Err(error) => tracing::error!(%error, "capture cannot be repaired"),
                }
            }
            let swept = self.capture.sweep(UNTAKEN);
            if swept > 0 {
                tracing::debug!(swept, "origins that nobody took");
            }
        }
    }

    fn trouble(&self, hook: &str, problem: String) {
        let entry = Entry::Capture {
            hook: hook.to_owned(),
            problem: Some(problem),
        };
        self.parts.journal.write(&entry);
    }

    async fn accept(
        self: Arc<Self>,
        mut listeners: Listeners,
        mut foreigners: mpsc::Receiver<Origin>,
    ) {
        let mut stopping = self.stopping.subscribe();
        let mut retiring = tokio::time::interval(RETIRING);
        loop {
            let accepted = tokio::select! {
                accepted = listeners.accept() => accepted,
                Some(origin) = foreigners.recv() => {
                    self.serve_namespace(&listeners, &origin).await;
                    continue;
                }
                _ = retiring.tick() => {
                    listeners.retire_namespaces();
                    continue;
                }
                () = told(&mut stopping) => return,
            };
            match accepted {
                Ok(Accepted::Captured {
                    stream,
                    origin,
                    destination,
                    namespace,
                }) => {
                    self.handing.take(Taken {
                        stream,
                        origin,
                        destination,
                        namespace,
                    });
                }
                Ok(Accepted::Refused { peer, reason }) => {
                    self.parts
                        .counters
                        .no_origin
                        .fetch_add(1, Ordering::Relaxed);
                    let (peer, reason) = (Some(peer), reason.to_string());
                    self.parts.journal.write(&Entry::NoOrigin {
                        peer,
                        reason,
                        unwritten: 0,
                    });
                }
                // The doors themselves are gone, which ends only with the process.
                Err(error) => return self.trouble("listeners", error.to_string()),
            }
        }
    }

    async fn serve_namespace(&self, listeners: &Listeners, origin: &Origin) {
        let _entered = self.parts.gate.enter();
        match listeners.serve_namespace(origin).await {
            Ok(new) => tracing::info!(new, netns = origin.netns_cookie, "listening in a namespace"),
            Err(error) => tracing::warn!(%error, "connections from a namespace stay refused"),
        }
    }
}

async fn told(stopping: &mut watch::Receiver<bool>) {
    // The sender is the governor's own, which this task holds.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Removes a cgroup that `hoop exec` made, once its program and all of that program's are gone.
fn remove_if_left(mount: &Path, cgroup: &str) {
    let made_by = cgroup
        .rsplit('/')
        .next()
        .and_then(|name| name.split_once(BY_HAND));
    let Some((_, rest)) = made_by else { return };
    let pid: String = rest.chars().take_while(char::is_ascii_digit).collect();
    if !pid.is_empty() && !Path::new("/proc").join(pid).exists() {
        // While a process is left in it the kernel refuses.
        let _ = std::fs::remove_dir(mount.join(cgroup));
    }
}

fn is_below(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent)
        .is_some_and(|rest| rest.starts_with('/'))
}

fn problem(hook: &capture::HookHealth) -> String {
    if !hook.pinned {
        return "its pin is gone".into();
    }
    format!(
        "attached to cgroup {} instead of {}",
        hook.attached_to, hook.expected
    )
}

fn how(origin: &Origin) -> String {
    match origin.family {
        family::UNIX => "unix".into(),
        family::OTHER => "socket".into(),
        _ => protocol(origin.protocol),
    }
}

fn protocol(number: u8) -> String {
    match i32::from(number) {
        libc::IPPROTO_TCP => "tcp".into(),
        libc::IPPROTO_UDP => "udp".into(),
        libc::IPPROTO_ICMP => "icmp".into(),
        libc::IPPROTO_ICMPV6 => "icmpv6".into(),
        other => format!("protocol {other}"),
    }
}
