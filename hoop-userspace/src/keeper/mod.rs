//! The privileged process: captures, accepts, attributes, reads what only root may read, and hands
//! each socket to the worker. It parses nothing that an agent sends.
//!
//! This file puts the keeper together and lives its life: start, reload, stop. On exit the pinned
//! programs stay, so what was governed is refused until a keeper is back.

pub mod accounts;
mod approvals;
pub mod bypass;
pub mod cgroups;
mod child;
mod console;
pub mod control;
pub mod courier;
pub mod folders;
mod governing;
mod handing;
pub mod journal;
pub mod names;
pub mod notify;
pub mod people;
mod questions;
mod recent;
pub mod seen;
pub mod status;
pub mod supervise;
pub mod suspended;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Uid, User};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::accept::AcceptError;
use crate::attribute::{Cgroups, cgroup2_mount};
use crate::capture::CaptureError;
use crate::config::{Bundle, Config, ConfigError};
use crate::identify::token::Tokens;
use crate::record::{Ledger, RecordError};
use crate::replay::ledgers;
use crate::worker::privileges::{self, PrivilegeError};
use approvals::Clerk;
use console::Console;
use courier::Courier;
use governing::Governor;
use journal::{Entry, Journal};
use notify::Notify;
use status::Reload;
use supervise::{Candidate, Recipe, Worker};
use suspended::Suspended;

/// How the keeper was started.
#[derive(Clone, Debug)]
pub struct Start {
    pub config: PathBuf,
    /// Passed on to each worker.
    pub worker_arguments: Vec<String>,
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
    #[error("the keeper cannot start: {0}")]
    Io(#[from] std::io::Error),
}

/// What the keeper's tasks share.
pub struct Parts {
    start: Start,
    since: SystemTime,
    cgroups: Cgroups,
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

impl Parts {
    fn config(&self) -> Arc<Config> {
        lock(&self.config).clone()
    }

    fn names_of(&self, address: IpAddr) -> Vec<String> {
        lock(&self.names).of(address, Instant::now())
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
    own_limits()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(live(start.clone()));
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

async fn live(start: Start) -> Result<(), KeeperError> {
    // Before anything else, so that no signal ends a half-started keeper.
    let mut signals = Signals::new()?;
    let notify = Notify::from_environment();
    let bundle = Bundle::gather(&start.config)?;
    let config = Config::from_bundle(&bundle)?;
    let account = privileges::account(&config.worker.user)?;
    folders::prepare(&config, &account)?;
    let mut keeper = Keeper::open(start, config, &bundle, &account, notify).await?;
    keeper.started();
    keeper.until_told(&mut signals).await;
    keeper.stop(&mut signals).await;
    Ok(())
}

struct Keeper {
    console: Option<Console>,
    parts: Arc<Parts>,
    governor: Arc<Governor>,
    notify: Notify,
    epoch: u64,
}

impl Keeper {
    /// The worker comes first: what it does not take is not put into the kernel either.
    async fn open(
        start: Start,
        config: Config,
        bundle: &Bundle,
        account: &User,
        notify: Notify,
    ) -> Result<Self, KeeperError> {
        let folder = config.worker.state.join(folders::KEEPER);
        let earlier = ledgers(&folder);
        let ledger = Ledger::open(&folder, "keeper")?;
        let journal = Arc::new(Journal::new(ledger));
        let recipe = Recipe {
            user: config.worker.user.clone(),
            arguments: start.worker_arguments.clone(),
        };
        let suspended = Arc::new(Suspended::open(&folder, journal.clone())?);
        let (wants, wanted) = mpsc::channel(64);
        let (desk, asked) = mpsc::channel(256);
        let (deliveries, delivered) = mpsc::channel(256);
        let ears = supervise::Ears {
            wants,
            desk,
            deliveries,
        };
        let worker = supervise::start(recipe, journal.clone(), suspended.clone(), ears);
        let config = Arc::new(config);
        // Before the first client can ask.
        let courier = Courier::new(config.clone(), worker.clone(), journal.clone());
        let courier = Arc::new(courier);
        tokio::spawn(courier.clone().serve(delivered));
        let (told, books) = (worker.clone(), journal.clone());
        let (clerk, outbox) = Clerk::open(&folder, config.clone(), told, books, courier.clone())?;
        let clerk = Arc::new(clerk);
        tokio::spawn(clerk.clone().serve(asked, outbox));
        let epoch = 1;
        worker
            .configure(candidate(epoch, bundle))
            .await
            .map_err(KeeperError::Worker)?;
        let reload = Reload {
            epoch,
            at: time::OffsetDateTime::now_utc(),
            error: None,
        };
        let parts = Arc::new(Parts {
            start,
            since: SystemTime::now(),
            cgroups: Cgroups::new(cgroup2_mount()),
            worker,
            journal,
            suspended,
            tokens: Arc::default(),
            clerk,
            courier,
            counters: Counters::default(),
            config: Mutex::new(config.clone()),
            reload: Mutex::new(reload),
            names: Mutex::default(),
            seen: Mutex::default(),
            signed_in: Mutex::default(),
        });
        tokio::spawn(handing::answer_for_tokens(parts.clone(), wanted));
        let mut hoops = vec![account.uid];
        let page = match &config.console {
            None => None,
            Some(console) => {
                // Now, because a process that cannot become it would die again and again.
                let own = privileges::account(&console.user)?;
                if own.uid == account.uid {
                    return Err(KeeperError::SameAccount(console.user.clone()));
                }
                if people::is_in(&own, account.gid) {
                    return Err(KeeperError::WorkersGroup(console.user.clone()));
                }
                hoops.push(own.uid);
                let bound = console::bind(console.listen);
                Some(bound.map_err(|source| KeeperError::Console {
                    listen: console.listen,
                    source,
                })?)
            }
        };
        let listener = control::listen(&config.worker.runtime, account)?;
        let governor = Governor::start(parts.clone())?;
        let bypasses = bypass::Follower::start(parts.clone(), governor.clone())?;
        let answers = Arc::new(questions::Questions {
            parts: parts.clone(),
            bypasses,
            governor: governor.clone(),
        });
        tokio::spawn(control::serve(listener, hoops, answers.clone()));
        if page.is_some() {
            let recent = parts.journal.recent().clone();
            // Dropped: it is over when it is, and what it found is asked for.
            drop(tokio::task::spawn_blocking(move || {
                recent.read_back(&earlier)
            }));
        }
        let console = page.map(|page| Console::start(parts.clone(), answers, page, bundle));
        Ok(Self {
            console,
            parts,
            governor,
            notify,
            epoch,
        })
    }

    fn started(&self) {
        self.parts.journal.write(&Entry::Started {
            version: env!("CARGO_PKG_VERSION"),
            config: self.parts.start.config.display().to_string(),
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
                _ = signals.terminate.recv() => return,
                _ = signals.interrupt.recv() => return,
            }
        }
    }

    /// A file that is not taken, by us or by the worker, changes nothing but what is said of it.
    async fn reload(&mut self) {
        self.notify.reloading();
        let epoch = self.epoch + 1;
        let taken = self.try_reload(epoch).await;
        let error = taken.err();
        self.parts.journal.write(&Entry::Reload {
            epoch,
            error: error.clone(),
        });
        {
            let mut reload = lock(&self.parts.reload);
            if error.is_none() {
                reload.epoch = epoch;
                reload.at = time::OffsetDateTime::now_utc();
                self.epoch = epoch;
            }
            reload.error = error;
        }
        self.notify.ready(&self.line());
    }

    async fn try_reload(&self, epoch: u64) -> Result<(), String> {
        let path = self.parts.start.config.clone();
        let gathered = tokio::task::spawn_blocking(move || {
            let bundle = Bundle::gather(&path)?;
            let config = Config::from_bundle(&bundle)?;
            Ok((bundle, config))
        });
        let gathered: Result<_, ConfigError> = gathered.await.map_err(|e| e.to_string())?;
        let (bundle, config) = gathered.map_err(|e| e.to_string())?;
        fixed(&self.parts.config(), &config)?;
        self.parts
            .worker
            .configure(candidate(epoch, &bundle))
            .await?;
        let config = Arc::new(config);
        self.parts.clerk.set_config(config.clone());
        self.parts.courier.set_config(config.clone());
        if let Some(console) = &self.console {
            console.set_bundle(&bundle);
        }
        *lock(&self.parts.config) = config;
        self.governor.apply();
        Ok(())
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

fn candidate(epoch: u64, bundle: &Bundle) -> Arc<Candidate> {
    Arc::new(Candidate {
        epoch,
        bundle: bundle.to_wire(),
    })
}

/// What the kernel programs and the sockets were made with.
fn fixed(now: &Config, next: &Config) -> Result<(), String> {
    let fixed = [
        (
            "[capture] attach",
            now.capture.attach == next.capture.attach,
        ),
        ("[capture] pins", now.capture.pins == next.capture.pins),
        ("[capture] port", now.capture.port == next.capture.port),
        (
            "[console] listen",
            now.console.as_ref().map(|c| c.listen) == next.console.as_ref().map(|c| c.listen),
        ),
        (
            "[console] user",
            now.console.as_ref().map(|c| &c.user) == next.console.as_ref().map(|c| &c.user),
        ),
        (
            "[worker] runtime",
            now.worker.runtime == next.worker.runtime,
        ),
    ];
    match fixed.into_iter().find(|(_, same)| !same) {
        Some((what, _)) => Err(format!("{what} cannot change in a reload: restart hoop")),
        None => Ok(()),
    }
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}
