//! A cgroup of a test's own, the programs attached to it, a daemon in this process, and agents:
//! small Python programs that are moved into the cgroup before they start.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hoop::accept::{Accepted, Doors, Listeners, NotCaptured};
use hoop::capture::{Capture, Observed};
use hoop::config::{self, Mode};

pub use hoop_common::Origin;

const PREFIX: &str = "hoop-capture-";
const BPFFS: &str = "/sys/fs/bpf";
/// Longest that an agent may take.
const PATIENCE: &str = "60";
/// What every agent's program begins with.
const PRELUDE: &str = "
import errno, os, socket, struct, sys, threading, time
def tried(f):
    try:
        return f()
    except OSError as e:
        return errno.errorcode[e.errno]
def answer(s):
    s.settimeout(10)
    data = b''
    while True:
        more = s.recv(4096)
        if not more:
            return data.decode()
        data += more
";

/// A test's own cgroup and pins; dropping it removes both, and every process in the cgroup.
pub struct Ground {
    pub cgroup: PathBuf,
    pub config: config::Capture,
    runtime: Option<tokio::runtime::Runtime>,
}

/// A daemon in this process: it answers each connection with the destination it was meant for.
pub struct Daemon {
    pub capture: Arc<Capture>,
    pub seen: Arc<Mutex<Seen>>,
    pub ports: Vec<SocketAddr>,
    pub doors: Arc<Doors>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// What a daemon saw.
#[derive(Default)]
pub struct Seen {
    pub captured: Vec<(Origin, SocketAddr)>,
    pub refused: Vec<NotCaptured>,
    pub observed: Vec<Observed>,
}

impl Ground {
    pub fn new() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests make cgroups and load kernel programs: run them as root"
        );
        static COUNT: AtomicU32 = AtomicU32::new(0);
        sweep_leftovers();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let cgroup = mount().join(&name);
        std::fs::create_dir(&cgroup).unwrap();
        let config = config::Capture {
            attach: name.clone(),
            resolvers: vec!["127.0.0.153".parse().unwrap()],
            port: 0,
            pins: Path::new(BPFFS).join(name),
            // Most tests are about what every host has.
            lsm: config::LsmTier {
                wish: config::LsmWish::Off,
                ..config::LsmTier::default()
            },
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        Self {
            cgroup,
            config,
            runtime: Some(runtime),
        }
    }

    /// Loads the programs and starts a daemon, in the given mode for the whole cgroup.
    pub fn daemon(&self, mode: Mode) -> Daemon {
        let capture = Arc::new(Capture::load(&self.config).unwrap());
        capture.set_modes(&[(self.id(), mode)]).unwrap();
        self.serve(capture)
    }

    pub fn serve(&self, capture: Arc<Capture>) -> Daemon {
        let _inside = self.runtime().enter();
        let mut events = capture.events().unwrap();
        let mut listeners = Listeners::bind(&capture, &self.config).unwrap();
        let ports = listeners.addresses();
        let doors = listeners.doors();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (at_door, at_ring) = (seen.clone(), seen.clone());
        let (ask, mut asked) = tokio::sync::mpsc::channel::<Origin>(64);
        let door = tokio::spawn(async move {
            loop {
                tokio::select! {
                    accepted = listeners.accept() => greet(&at_door, accepted.unwrap()),
                    Some(origin) = asked.recv() => {
                        listeners.serve_namespace(&origin).await.map_err(|e| eprintln!("{e}")).ok();
                    }
                }
            }
        });
        let ring = tokio::spawn(async move {
            loop {
                let observed = events.next().await.unwrap();
                if let Observed::Namespace { origin } = &observed {
                    ask.send(*origin).await.ok();
                }
                at_ring.lock().unwrap().observed.push(observed);
            }
        });
        Daemon {
            capture,
            seen,
            ports,
            doors,
            tasks: vec![door, ring],
        }
    }

    pub fn runtime(&self) -> &tokio::runtime::Runtime {
        self.runtime.as_ref().unwrap()
    }

    /// The cgroup's id.
    pub fn id(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(&self.cgroup).unwrap().ino()
    }

    /// Runs Python in the cgroup and returns what it printed.
    pub fn agent(&self, script: &str) -> String {
        printed(self.start(script).wait_with_output().unwrap())
    }

    /// Starts Python in the cgroup.
    pub fn start(&self, script: &str) -> std::process::Child {
        self.enter(&[])
            .arg(format!("{PRELUDE}{script}"))
            .spawn()
            .unwrap()
    }

    /// A command that runs Python in the cgroup, through other commands.
    pub fn enter(&self, through: &[&str]) -> Command {
        let procs = self.cgroup.join("cgroup.procs");
        python(&format!("echo $$ > {}; ", procs.display()), through)
    }
}

/// Python outside of any test's cgroup.
pub fn outside(script: &str) -> String {
    let mut command = python("", &[]);
    printed(command.arg(format!("{PRELUDE}{script}")).output().unwrap())
}

pub fn prelude() -> &'static str {
    PRELUDE
}

fn python(before: &str, through: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        &format!("{before}exec \"$@\""),
        "sh",
        "timeout",
        "-k",
        "1",
        PATIENCE,
    ]);
    command.args(through).args(["/usr/bin/python3", "-c"]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub fn printed(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "the agent failed: {}\n{errors}",
        output.status
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn greet(seen: &Mutex<Seen>, accepted: Accepted) {
    match accepted {
        Accepted::Captured {
            stream,
            origin,
            destination,
            ..
        } => {
            seen.lock().unwrap().captured.push((origin, destination));
            let mut stream = tokio::net::TcpStream::from_std(stream).unwrap();
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                // The client may be gone already. What it sends is read: closing with something
                // unread would reset the connection under it.
                let answer = destination.to_string();
                stream.write_all(answer.as_bytes()).await.ok();
                stream.shutdown().await.ok();
                stream.read_to_end(&mut Vec::new()).await.ok();
            });
        }
        Accepted::Refused { reason, .. } => seen.lock().unwrap().refused.push(reason),
    }
}

impl Daemon {
    /// Ends as a killed daemon does: its sockets close, links and maps stay.
    pub fn die(self, ground: &Ground) {
        let tasks = self.tasks;
        ground.runtime().block_on(async {
            for task in tasks {
                task.abort();
                task.await.ok();
            }
        });
    }

    /// Waits until something was seen, or fails.
    pub fn until<T>(&self, mut found: impl FnMut(&Seen) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(found) = found(&self.seen.lock().unwrap()) {
                return found;
            }
            assert!(
                Instant::now() < deadline,
                "not seen: {:?}",
                self.seen.lock().unwrap().observed
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(2));
        }
        let unloaded = Capture::unload(&self.config.pins);
        remove(&self.cgroup);
        if !std::thread::panicking() {
            unloaded.unwrap();
            assert!(!self.cgroup.exists() && !self.config.pins.exists());
        }
    }
}

fn mount() -> PathBuf {
    hoop::attribute::cgroup2_mount()
}

/// Kills what is in a cgroup (all of it started by these tests) and removes it with its children.
fn remove(cgroup: &Path) {
    std::fs::write(cgroup.join("cgroup.kill"), "1").ok();
    let deadline = Instant::now() + Duration::from_secs(5);
    while cgroup.exists() && Instant::now() < deadline {
        for entry in std::fs::read_dir(cgroup).into_iter().flatten().flatten() {
            std::fs::remove_dir(entry.path()).ok();
        }
        std::fs::remove_dir(cgroup).ok();
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Removes what tests left that were killed.
fn sweep_leftovers() {
    for folder in [mount(), BPFFS.into()] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(owner) = name.strip_prefix(PREFIX).and_then(|n| n.split('-').next()) else {
                continue;
            };
            if Path::new("/proc").join(owner).exists() {
                continue;
            }
            if entry.path().starts_with(BPFFS) {
                Capture::unload(&entry.path()).ok();
            } else {
                remove(&entry.path());
            }
        }
    }
}
