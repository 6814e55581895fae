//! The privileged process: captures, accepts, attributes, reads what only root may read, and hands
//! each socket to the worker. It parses nothing that an agent sends.
//!
//! This file puts the keeper together and lives its life: start, reload, stop. On exit the pinned
//! programs stay, so what was governed is refused until a keeper is back.

pub mod accounts;
mod approvals;
mod askers;
pub mod bypass;
pub mod cgroups;
mod child;
mod console;
pub mod control;
pub mod courier;
pub mod folders;
mod gate;
mod governing;
mod handing;
mod isolated;
pub mod journal;
pub mod names;
pub mod notify;
pub mod people;
mod questions;
mod recent;
mod reload;
mod retired;
pub mod seen;
mod signals;
mod sockets;
pub mod status;
pub mod supervise;
pub mod suspended;
mod talk;
pub mod upgrade;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Uid, User};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc};
use zeroize::Zeroizing;

use crate::accept::AcceptError;
use crate::attribute::{Cgroups, Containers, Looked, cgroup2_mount};
use crate::capture::{Capture, CaptureError};
use crate::config::{BadBundle, Bundle, Config, ConfigError};
use crate::identify::token::Tokens;
use crate::record::{Ledger, RecordError};
use crate::replay::ledgers;
use crate::worker::privileges::{self, PrivilegeError};
use approvals::{Clerk, ForDesk};
use console::Console;
use control::Answer;
use courier::Courier;
use gate::Gate;
use governing::Governor;
use journal::{Entry, Journal};
use notify::Notify;
use reload::candidate;
use retired::Retired;
use signals::Signals;
use status::{CountersStatus, Reload, UpgradeStatus};
use supervise::{Recipe, Worker};
use suspended::Suspended;
use talk::Ears;
use upgrade::arrival::{self, Given, Taken};
use upgrade::luggage::{Bag, Luggage, LuggageError};

/// How the keeper was started.
#[derive(Clone, Debug)]
pub struct Start {
    pub config: PathBuf,
    /// Passed on to each worker.
    pub worker_arguments: Vec<String>,
    /// The file that this process was started from.
    pub program: PathBuf,
    /// Another build has become this one: what it hands over is on standard input.
    pub takes_over: bool,
}

/// Why the keeper cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    #[error("hoop run must be started as root: it loads kernel programs")]
    NotRoot,
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Account(#[from] PrivilegeError),
    #[error(transparent)]
    Folders(#[from] folders::FolderError),
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error(transparent)]
    Accept(#[from] AcceptError),
    #[error("the keeper's ledger cannot be opened: {0}")]
    Ledger(#[from] RecordError),
    #[error("the worker does not take the configuration: {0}")]
    Worker(String),
    #[error("[console] cannot listen on {listen}: {source}")]
    Console {
        listen: std::net::SocketAddr,
        source: std::io::Error,
    },
    #[error("[console] user is {0}, which is the worker's account: name another")]
    SameAccount(String),
    #[error(
        "[console] user is {0}, which is in the worker's group and could speak on the control socket: take it out of the group"
    )]
    WorkersGroup(String),
    #[error(transparent)]
    Suspended(#[from] suspended::SuspendedError),
    #[error(transparent)]
    Luggage(#[from] LuggageError),
    #[error(transparent)]
    Bundle(#[from] BadBundle),
    #[error("the keeper cannot start: {0}")]
    Io(#[from] std::io::Error),
}

/// What the keeper's tasks share.
pub struct Parts {
    start: Start,
    since: SystemTime,
    cgroups: Cgroups,
    containers: Containers,
    worker: Worker,
    journal: Arc<Journal>,
    suspended: Arc<Suspended>,
    tokens: Arc<Tokens>,
    clerk: Arc<Clerk>,
    courier: Arc<Courier>,
    counters: Counters,
    config: Mutex<Arc<Config>>,
    reload: Mutex<Reload>,
    names: Mutex<names::Names>,
    seen: Mutex<seen::Seen>,
    /// At the console.
    signed_in: Mutex<console::sessions::Sessions>,
    gate: Gate,
    desk: mpsc::Sender<ForDesk>,
    /// The configuration in force, in its wire form, and its epoch.
    bundle: Mutex<(u64, Zeroizing<Vec<u8>>)>,
    /// One at a time.
    upgrading: Arc<Semaphore>,
    upgraded: Option<UpgradeStatus>,
}

/// Since the start; see [`status::CountersStatus`].
#[derive(Default)]
pub struct Counters {
    accepted: AtomicU64,
    handed_over: AtomicU64,
    no_origin: AtomicU64,
    busy: AtomicU64,
    kernel_refused: AtomicU64,
}

impl Counters {
    fn new(from: CountersStatus) -> Self {
        Self {
            accepted: from.accepted.into(),
            handed_over: from.handed_over.into(),
            no_origin: from.no_origin.into(),
            busy: from.busy.into(),
            kernel_refused: from.kernel_refused.into(),
        }
    }

    fn status(&self) -> CountersStatus {
        CountersStatus {
            accepted: self.accepted.load(Ordering::Relaxed),
            handed_over: self.handed_over.load(Ordering::Relaxed),
            no_origin: self.no_origin.load(Ordering::Relaxed),
            busy: self.busy.load(Ordering::Relaxed),
            kernel_refused: self.kernel_refused.load(Ordering::Relaxed),
        }
    }
}

impl Parts {
    fn config(&self) -> Arc<Config> {
        lock(&self.config).clone()
    }

    /// Looks up the containers of cgroups, for mappings that pick some.
    fn look<'p>(&'p self, config: &'p Config) -> impl Fn(&str) -> Looked + 'p {
        |cgroup| self.containers.of(&config.containers, cgroup)
    }

    fn names_of(&self, cgroup: u64, address: IpAddr) -> Vec<String> {
        lock(&self.names).of(cgroup, address, Instant::now())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the daemon until it is told to stop.
///
/// On one thread: the keeper waits far more than it works, what may block has threads of its own,
/// and the worker is then the child of the process's first thread, where tools look for it.
pub fn run(start: &Start) -> Result<(), KeeperError> {
    if !Uid::effective().is_root() {
        return Err(KeeperError::NotRoot);
    }
    // An older kernel lacks calls of its own that come before the programs: it is told by name.
    Capture::kernel()?;
    own_limits()?;
    let received = match start.takes_over {
        true => Some(arrival::received()?),
        false => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_start(signals::not_here)
        .build()?;
    let ended = runtime.block_on(live(start.clone(), received));
    // Reads of /proc that hang must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(500));
    ended
}

/// Tokens and credentials pass through this memory: no core holds it, nobody attaches. What the
/// keeper opens is closed by exec anyway; its children, the worker and token commands, do not get
/// what it was started with either.
fn own_limits() -> std::io::Result<()> {
    crate::capture::close_inherited_on_exec()?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(nix::sys::prctl::set_dumpable(false)?)
}

async fn live(start: Start, received: Option<(Luggage, Bag)>) -> Result<(), KeeperError> {
    // Before anything else, so that no signal ends a half-started keeper.
    let mut signals = Signals::new()?;
    let notify = Notify::from_environment();
    let mut taken = match received {
        Some((luggage, bag)) => Some(Taken::of(luggage, bag)?),
        None => None,
    };
    let bundle = match taken
        .as_mut()
        .map(|taken| std::mem::take(&mut taken.bundle))
    {
        // As it was tried. A file that has changed since is for the next reload.
        Some(wire) => Bundle::from_wire(&wire)?,
        None => Bundle::gather(&start.config)?,
    };
    let config = Config::from_bundle(&bundle)?;
    let account = privileges::account(&config.worker.user)?;
    folders::prepare(&config, &account)?;
    let opened = Keeper::open(start, config, &bundle, &account, notify, taken);
    let (mut keeper, client) = opened.await?;
    keeper.started(client);
    keeper.until_told(&mut signals).await;
    keeper.stop(&mut signals).await;
    Ok(())
}

struct Keeper {
    console: Option<Console>,
    control: Arc<tokio::net::UnixListener>,
    parts: Arc<Parts>,
    governor: Arc<Governor>,
    notify: Notify,
    epoch: u64,
    upgrades: mpsc::Receiver<upgrade::Wanted>,
}

impl Keeper {
    /// The worker comes first: what it does not take is not put into the kernel either. Returns also
    /// whoever waits for an upgrade, which this is then.
    async fn open(
        start: Start,
        config: Config,
        bundle: &Bundle,
        account: &User,
        notify: Notify,
        taken: Option<Taken>,
    ) -> Result<(Self, Option<UnixStream>), KeeperError> {
        let folder = config.worker.state.join(folders::KEEPER);
        let earlier = ledgers(&folder);
        let ledger = Ledger::open(&folder, "keeper")?;
        let journal = Arc::new(Journal::new(ledger));
        let recipe = Recipe {
            user: config.worker.user.clone(),
            arguments: start.worker_arguments.clone(),
            restarts: taken.as_ref().map_or(0, |taken| taken.luggage.restarts),
        };
        let suspended = Arc::new(Suspended::open(&folder, journal.clone())?);
        let (wants, wanted) = mpsc::channel(64);
        let (sockets, sockets_wanted) = mpsc::channel(256);
        let (desk, asked) = mpsc::channel(256);
        let (deliveries, delivered) = mpsc::channel(256);
        let gate = Gate::default();
        let ears = Ears {
            wants,
            sockets,
            desk: desk.clone(),
            deliveries,
            journal: journal.clone(),
            suspended: suspended.clone(),
            gate: gate.clone(),
            retired: Retired::default(),
        };
        let config = Arc::new(config);
        let mut handed = Given::of(taken, &config, &ears);
        let worker = supervise::start(recipe, ears);
        // Before the first client can ask.
        let sent = std::mem::take(&mut handed.courier);
        let courier = Courier::new(config.clone(), worker.clone(), journal.clone(), sent);
        let courier = Arc::new(courier);
        tokio::spawn(courier.clone().serve(delivered));
        let (told, books) = (worker.clone(), journal.clone());
        let open = Clerk::open(
            &folder,
            config.clone(),
            told,
            books,
            courier.clone(),
            &handed.desk,
        );
        let (clerk, outbox) = open?;
        let clerk = Arc::new(clerk);
        tokio::spawn(clerk.clone().serve(asked, outbox));
        for (pid, said) in std::mem::take(&mut handed.desk.asked) {
            // Gone only when the keeper is.
            let _ = desk.send(ForDesk::Said(pid, said)).await;
        }
        let epoch = handed.epoch;
        // After an upgrade the service manager goes on counting from before it.
        notify
            .alive_until(worker.configure(candidate(epoch, bundle)))
            .await
            .map_err(KeeperError::Worker)?;
        notify.alive();
        let reload = Reload {
            epoch,
            at: time::OffsetDateTime::now_utc(),
            error: None,
        };
        let parts = Arc::new(Parts {
            start,
            since: handed.since,
            cgroups: Cgroups::new(cgroup2_mount()),
            containers: Containers::new(cgroup2_mount()),
            worker,
            journal,
            suspended,
            tokens: Arc::default(),
            clerk,
            courier,
            counters: Counters::new(handed.counters),
            config: Mutex::new(config.clone()),
            reload: Mutex::new(reload),
            names: Mutex::new(std::mem::take(&mut handed.names)),
            seen: Mutex::default(),
            signed_in: Mutex::new(std::mem::take(&mut handed.signed_in)),
            gate: gate.clone(),
            desk,
            bundle: Mutex::new((epoch, bundle.to_wire())),
            upgrading: Arc::new(Semaphore::new(1)),
            upgraded: handed.upgraded.take(),
        });
        tokio::spawn(handing::answer_for_tokens(parts.clone(), wanted));
        let mut hoops = vec![account.uid];
        let page = match &config.console {
            None => None,
            Some(console) => {
                hoops.push(of_console(console, account)?);
                let bound = match handed.console.take() {
                    Some(listener) => console::take_over(listener),
                    None => console::bind(console.listen),
                };
                Some(bound.map_err(|source| KeeperError::Console {
                    listen: console.listen,
                    source,
                })?)
            }
        };
        let control = Arc::new(match handed.control.take() {
            Some(listener) => control::take_over(listener)?,
            None => control::listen(&config.worker.runtime, account)?,
        });
        let governor = Governor::start(parts.clone(), handed.governor.take())?;
        if let Some(doors) = governor.doors() {
            tokio::spawn(sockets::serve(doors.clone(), sockets_wanted));
        }
        notify.alive();
        let (upgrade, upgrades) = mpsc::channel(1);
        let bypasses = bypass::Follower::start(parts.clone(), governor.clone())?;
        let answers = Arc::new(questions::Questions {
            parts: parts.clone(),
            bypasses,
            governor: governor.clone(),
            upgrades: upgrade,
        });
        tokio::spawn(control::serve(
            control.clone(),
            hoops,
            answers.clone(),
            gate,
        ));
        if page.is_some() {
            let recent = parts.journal.recent().clone();
            // Dropped: it is over when it is, and what it found is asked for.
            drop(tokio::task::spawn_blocking(move || {
                recent.read_back(&earlier)
            }));
        }
        let console = page.map(|page| Console::start(parts.clone(), answers, page, bundle));
        let keeper = Self {
            console,
            control,
            parts,
            governor,
            notify,
            epoch,
            upgrades,
        };
        Ok((keeper, handed.client.take()))
    }

    fn started(&self, client: Option<UnixStream>) {
        let version = env!("CARGO_PKG_VERSION");
        let (Some(client), Some(upgraded)) = (client, &self.parts.upgraded) else {
            self.parts.journal.write(&Entry::Started {
                version,
                config: self.parts.start.config.display().to_string(),
            });
            return self.notify.ready(&self.line());
        };
        let program = self.parts.start.program.display().to_string();
        let retired = self.parts.worker.retired().all();
        let retired: Vec<u32> = retired.iter().map(|worker| worker.pid).collect();
        let answer = Answer::Ok(serde_json::json!({
            "from": upgraded.from, "to": version, "program": program, "upgraded": true,
            "keeper": std::process::id(), "worker": self.parts.worker.now().pid, "retiring": retired,
        }));
        tokio::spawn(async move { control::answer(client, &answer).await });
        self.parts.journal.write(&Entry::Upgraded {
            from: upgraded.from.clone(),
            to: version,
            program,
            retired,
        });
        self.notify.ready(&self.line());
    }

    /// One line for the service manager.
    fn line(&self) -> String {
        let config = self.parts.config();
        let reload = lock(&self.parts.reload);
        let problem = match &reload.error {
            Some(_) => ", the last reload was not taken",
            None => "",
        };
        let (agents, resources) = (config.agents.len(), config.resources.len());
        format!(
            "governs {agents} agents, {resources} resources (epoch {}){problem}",
            reload.epoch
        )
    }

    async fn until_told(&mut self, signals: &mut Signals) {
        let interval = self
            .notify
            .watchdog_interval()
            .unwrap_or(Duration::from_secs(3600));
        let mut watchdog = tokio::time::interval(interval);
        loop {
            tokio::select! {
                _ = watchdog.tick() => self.notify.alive(),
                _ = signals.hangup.recv() => self.reload().await,
                Some(wanted) = self.upgrades.recv() => {
                    if self.upgrade(wanted, signals).await {
                        return;
                    }
                }
                _ = signals.terminate.recv() => return,
                _ = signals.interrupt.recv() => return,
            }
        }
    }

    async fn stop(self, signals: &mut Signals) {
        self.notify.stopping();
        self.parts.journal.write(&Entry::Stopping);
        self.governor.accept_no_more();
        let within = self.parts.config().worker.drain;
        tokio::select! {
            () = self.parts.worker.drain(within) => {}
            // Asked twice: now.
            _ = signals.terminate.recv() => {}
            _ = signals.interrupt.recv() => {}
        }
        self.parts.journal.write(&Entry::Stopped);
    }
}

/// The console's account; now, because a process that cannot become it would die again and again.
fn of_console(console: &crate::config::Console, worker: &User) -> Result<Uid, KeeperError> {
    let own = privileges::account(&console.user)?;
    if own.uid == worker.uid {
        return Err(KeeperError::SameAccount(console.user.clone()));
    }
    if people::is_in(&own, worker.gid) {
        return Err(KeeperError::WorkersGroup(console.user.clone()));
    }
    Ok(own.uid)
}
