//! The process that holds a world's mounts and removes the world when its owner is gone.
//!
//! It reads a pipe that only the owner holds, so it learns of every kind of end: return, panic,
//! Ctrl-C, `kill -9`. If the janitor itself was killed, the next world sweeps what it left.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use crate::files;

/// Every world's folder and cgroup begin with this.
pub const PREFIX: &str = "hoop-demo-";

/// `hoop-world janitor FOLDER`: ready when it says so, until standard input ends.
pub fn run(folder: &Path) -> Result<()> {
    outlive_the_terminal()?;
    let _lock = take_lock(folder)?;
    private_mounts(folder)?;
    let mut out = std::io::stdout();
    out.write_all(b"ready\n")?;
    out.flush()?;
    let mut end = Vec::new();
    std::io::stdin().read_to_end(&mut end)?;
    umount(&folder.join("bpf")).ok();
    sweep(folder)
}

/// Removes what worlds left whose janitor was killed.
pub fn sweep_leftovers() -> Result<()> {
    let entries = std::fs::read_dir(std::env::temp_dir()).context("cannot list leftover worlds")?;
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        // A janitor that lives holds the lock; a world that is just being made has none yet.
        let folder = entry.path();
        if let Some(_lock) = left_lock(&folder) {
            eprintln!("world: removing what {} left", folder.display());
            sweep(&folder)?;
        }
    }
    Ok(())
}

/// Waits until worlds whose owners ended are gone, and removes what a killed janitor left.
pub fn settle() -> Result<()> {
    wait(Duration::from_secs(30), || ownerless().is_empty());
    sweep_leftovers()?;
    let left = ownerless();
    anyhow::ensure!(left.is_empty(), "worlds are left behind: {left:?}");
    Ok(())
}

/// Folders of worlds whose owner no longer lives.
fn ownerless() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(std::env::temp_dir())
        .into_iter()
        .flatten()
        .flatten();
    let owner = |name: &str| {
        let digits = name.strip_prefix(PREFIX)?.split('-').next()?;
        digits.parse::<u32>().ok()
    };
    let mut left = Vec::new();
    for entry in entries {
        let Some(pid) = owner(&entry.file_name().to_string_lossy()) else {
            continue;
        };
        if !Path::new(&format!("/proc/{pid}")).exists() {
            left.push(entry.path());
        }
    }
    left
}

fn outlive_the_terminal() -> Result<()> {
    nix::unistd::setsid().ok();
    let mut signals = SigSet::empty();
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGPIPE,
    ] {
        signals.add(signal);
    }
    signals.thread_block().context("cannot block signals")
}

/// Taken before it gets its name, so that nobody finds a lock that is not held yet.
fn take_lock(folder: &Path) -> Result<Flock<std::fs::File>> {
    let unnamed = folder.join("lock.new");
    let file = std::fs::File::create(&unnamed)
        .with_context(|| format!("cannot make {}", unnamed.display()))?;
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, error)| error)
        .context("another janitor already looks after this world")?;
    std::fs::rename(&unnamed, folder.join("lock"))?;
    Ok(lock)
}

/// The lock of a world whose janitor is gone.
fn left_lock(folder: &Path) -> Option<Flock<std::fs::File>> {
    let file = std::fs::File::open(folder.join("lock")).ok()?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()
}

/// Our own view of the file system: the original hostnames, and a bpffs that ends with us.
fn private_mounts(folder: &Path) -> Result<()> {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace: is this root?")?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
        .context("cannot detach from the host's mounts")?;
    for (name, over) in [
        ("hosts", "/etc/hosts"),
        ("passwd", "/etc/passwd"),
        ("shadow", "/etc/shadow"),
    ] {
        let ours = folder.join(name);
        mount(Some(&ours), over, none, MsFlags::MS_BIND, none)
            .with_context(|| format!("cannot lay the world's {name} over {over}"))?;
    }
    mount(
        Some("bpf"),
        &folder.join("bpf"),
        Some("bpf"),
        MsFlags::empty(),
        none,
    )
    .context("cannot mount a bpffs: does this kernel have BPF?")
}

/// Ends every process of the world and removes its cgroups and its folder.
fn sweep(folder: &Path) -> Result<()> {
    let cgroup = files::read(&folder.join("cgroup")).map(PathBuf::from)?;
    stop_postgres(folder, &cgroup);
    if cgroup.exists() {
        // Every process in it was started by this world; no other can be hit.
        std::fs::write(cgroup.join("cgroup.kill"), "1").ok();
        wait(Duration::from_secs(10), || empty(&cgroup));
        remove_cgroups(&cgroup).with_context(|| format!("cannot remove {}", cgroup.display()))?;
    }
    std::fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))
}

/// PostgreSQL leaves shared memory behind when it is killed, none when it is told to quit.
fn stop_postgres(folder: &Path, cgroup: &Path) {
    let Ok(text) = std::fs::read_to_string(folder.join("postgres/data/postmaster.pid")) else {
        return;
    };
    let Some(pid) = text
        .lines()
        .next()
        .and_then(|line| line.trim().parse::<i32>().ok())
    else {
        return;
    };
    let ours = std::fs::read_to_string(cgroup.join("services/cgroup.procs")).unwrap_or_default();
    if ours.lines().any(|line| line == pid.to_string()) {
        kill(Pid::from_raw(pid), Signal::SIGQUIT).ok();
        wait(Duration::from_secs(5), || {
            !Path::new(&format!("/proc/{pid}")).exists()
        });
    }
}

fn empty(cgroup: &Path) -> bool {
    let events = std::fs::read_to_string(cgroup.join("cgroup.events")).unwrap_or_default();
    !events.contains("populated 1")
}

fn remove_cgroups(cgroup: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(cgroup)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_cgroups(&entry.path())?;
        }
    }
    std::fs::remove_dir(cgroup)
}

fn wait(limit: Duration, done: impl Fn() -> bool) {
    let until = Instant::now() + limit;
    while !done() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
}
