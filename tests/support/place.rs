//! Where one world stands: its folder, its cgroups, its mount namespace and its address.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};

use crate::{enter, files, janitor};

/// Everything that a world leaves on the host is below one of these two folders.
///
/// The janitor, a process of its own, removes both when the pipe to it closes, so that a world goes
/// away however its owner ended.
pub struct Place {
    pub folder: PathBuf,
    pub cgroup: PathBuf,
    /// Below the cgroup2 mount, as a configuration names it.
    pub slice: String,
    pub mounts: PathBuf,
    /// The third number of every loopback address of this world.
    net: u8,
    _claim: TcpListener,
    janitor: Arc<Janitor>,
}

/// Our end of the janitor.
pub struct Janitor(Mutex<Child>);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Where a world's claim to its addresses listens; nothing ever connects to it.
const CLAIM_PORT: u16 = 5431;

impl Place {
    pub fn make() -> Result<Self> {
        janitor::sweep_leftovers()?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = match count {
            0 => format!("{}{}", janitor::PREFIX, std::process::id()),
            _ => format!("{}{}-{count}", janitor::PREFIX, std::process::id()),
        };
        let folder = std::env::temp_dir().join(&name);
        let cgroup = cgroup2_mount()?.join(&name);
        let (net, claim) = claim_net()?;
        files::write(&folder.join("hosts"), hosts(net))?;
        crate::sshd::write_account(&folder)?;
        files::write(
            &folder.join("cgroup"),
            cgroup.as_os_str().as_encoded_bytes(),
        )?;
        std::fs::create_dir_all(folder.join("bpf"))?;
        let janitor = start_janitor(&folder)?;
        let mounts = PathBuf::from(format!("/proc/{}/ns/mnt", janitor.id()));
        let janitor = Arc::new(Janitor(Mutex::new(janitor)));
        let slice = format!("{name}/agents.slice");
        let place = Self {
            folder,
            cgroup,
            slice,
            mounts,
            net,
            _claim: claim,
            janitor,
        };
        for below in ["services", "hoop", "outside", "agents.slice"] {
            place.make_cgroup(below)?;
        }
        Ok(place)
    }

    pub fn janitor(&self) -> Arc<Janitor> {
        Arc::clone(&self.janitor)
    }

    /// A loopback address that belongs to this world.
    pub fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 80, self.net, host)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn make_cgroup(&self, below: &str) -> Result<PathBuf> {
        let path = self.cgroup.join(below);
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// A command in a cgroup of this world, with its mounts.
    pub fn command(
        &self,
        cgroup: &str,
        user: Option<&str>,
        program: impl AsRef<OsStr>,
    ) -> Result<Command> {
        enter::command(
            Some(&self.cgroup.join(cgroup)),
            Some(&self.mounts),
            user,
            program.as_ref(),
        )
    }

    /// Rewrites the hosts file that everything in this world sees.
    pub fn set_hosts(&self, more: &str) -> Result<()> {
        // In place: the bind mount shows this inode.
        files::write(&self.path("hosts"), format!("{}{more}", hosts(self.net)))
    }
}

impl Janitor {
    /// Has the world removed and waits until it is; more than once does no harm.
    pub fn dismiss(&self) {
        let mut child = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        drop(child.stdin.take());
        if let Err(error) = child.wait() {
            eprintln!("world: the janitor could not be waited for: {error}");
        }
    }

    /// Ends it without a word, to see that the next world clears up.
    pub fn kill(&self) {
        let mut child = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        child.kill().and_then(|()| child.wait()).ok();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.janitor.dismiss();
    }
}

fn start_janitor(folder: &Path) -> Result<Child> {
    let mut child = Command::new(files::program("hoop-world")?)
        .arg("janitor")
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the janitor")?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut line)?;
    }
    if line.trim() != "ready" {
        let status = child.wait()?;
        bail!("the janitor could not make the world's mounts ({status}); is this root?");
    }
    Ok(child)
}

/// The names of this world, for the resolver of everything in it.
fn hosts(net: u8) -> String {
    format!(
        "127.0.0.1 localhost\n::1 localhost\n\
         127.80.{net}.10 db.prod.internal\n\
         127.80.{net}.20 idp.prod.internal\n\
         127.80.{net}.30 web1.prod.internal\n\
         127.80.{net}.40 kubernetes.prod.internal\n"
    )
}

/// A third number whose database address nobody listens on, and what keeps it ours: a listener
/// that no other world can have too. The database's own port is looked at as well, because the
/// server of a world whose owner has just died may still be there.
fn claim_net() -> Result<(u8, TcpListener)> {
    let first = std::process::id();
    for step in 0..250_u32 {
        let net = u8::try_from(first.wrapping_add(step) % 250 + 1)?;
        let Ok(claim) = TcpListener::bind((Ipv4Addr::new(127, 80, net, 1), CLAIM_PORT)) else {
            continue;
        };
        if TcpListener::bind((Ipv4Addr::new(127, 80, net, 10), 5432)).is_ok() {
            return Ok((net, claim));
        }
    }
    bail!(
        "port 5432 is taken on every address that a world could use: does a server listen on 0.0.0.0:5432?"
    )
}

/// Where cgroup2 is mounted, wherever that is on this host.
pub fn cgroup2_mount() -> Result<PathBuf> {
    let mounts = files::read(Path::new("/proc/self/mounts"))?;
    let find = |line: &str| {
        let mut words = line.split(' ');
        let (_, at, kind) = (words.next()?, words.next()?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(at))
    };
    mounts
        .lines()
        .find_map(find)
        .context("cgroup2 is not mounted: hoop governs cgroups of version 2")
}
