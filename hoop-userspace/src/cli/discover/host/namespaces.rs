//! The network namespaces of the host: the kernel lists the sockets of each by itself.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use nix::sched::{CloneFlags, setns};

use super::super::merge::Namespace;
use crate::capture::sockets::Watch;

/// Namespaces that are watched, the own one counted.
pub const MOST: usize = 64;
const OWN: &str = "/proc/self/ns/net";

/// A namespace that is watched.
pub struct Watched {
    pub inode: Namespace,
    /// `None` of the own one, which nobody has to enter.
    pub door: Option<Arc<File>>,
    pub watch: Watch,
}

#[derive(Default)]
pub struct Namespaces {
    pub all: Vec<Watched>,
    /// Those that are not watched, and why.
    pub left_out: BTreeMap<Namespace, String>,
}

impl Namespaces {
    /// The own one; without it there is nothing to see.
    pub fn own() -> io::Result<Self> {
        let own = Watched {
            inode: fs::metadata(OWN)?.ino(),
            door: None,
            watch: Watch::open()?,
        };
        Ok(Self {
            all: vec![own],
            ..Self::default()
        })
    }

    /// Takes in those that have come, and lets go of those that no process is in: to keep one open
    /// would keep it from being removed.
    pub fn look_again(&mut self) {
        let mut inhabited = HashSet::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.parse::<u32>().ok());
            if number.is_none() {
                continue;
            }
            let path = entry.path().join("ns/net");
            let Ok(metadata) = fs::metadata(&path) else {
                continue; // it has ended, or this is not root
            };
            if !inhabited.insert(metadata.ino()) || self.knows(metadata.ino()) {
                continue;
            }
            self.take_in(metadata.ino(), &path);
        }
        self.all
            .retain(|one| one.door.is_none() || inhabited.contains(&one.inode));
    }

    fn knows(&self, inode: Namespace) -> bool {
        self.left_out.contains_key(&inode) || self.all.iter().any(|one| one.inode == inode)
    }

    fn take_in(&mut self, inode: Namespace, path: &std::path::Path) {
        if self.all.len() >= MOST {
            let why = format!("{MOST} are watched already");
            self.left_out.insert(inode, why);
            return;
        }
        let opened = File::open(path).and_then(|door| {
            let door = Arc::new(door);
            // Opened by a path whose process may have ended since.
            match door.metadata()?.ino() == inode {
                true => Ok((within(&door, Watch::open)??, door)),
                false => Err(io::Error::other("its process has ended")),
            }
        });
        match opened {
            Ok((watch, door)) => {
                self.all.push(Watched {
                    inode,
                    door: Some(door),
                    watch,
                });
            }
            Err(error) => drop(self.left_out.insert(inode, error.to_string())),
        }
    }

    /// Keeps the doors open that `wanted` names, for whoever asks something in them, and stops watching.
    pub fn into_doors(self, wanted: &HashSet<Namespace>) -> BTreeMap<Namespace, Option<Arc<File>>> {
        let all = self.all.into_iter();
        let wanted = all.filter(|one| wanted.contains(&one.inode));
        wanted.map(|one| (one.inode, one.door)).collect()
    }
}

/// Runs `work` in a namespace, by a thread of its own, which ends there: this one never leaves home.
pub fn within<T: Send>(door: &File, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(door, CloneFlags::CLONE_NEWNET)?;
            io::Result::Ok(work())
        });
        let gone = |_| io::Error::other("its thread ended early");
        thread.join().map_err(gone)?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::process::{Command, Stdio};

    /// Root and `unshare` of util-linux, as the scenario tests need them.
    #[test]
    fn another_namespace_is_found_entered_and_let_go() {
        let mut namespaces = Namespaces::own().unwrap();
        let mut other = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready; exec sleep 60"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(&mut other.stdout.take().unwrap(), &mut ready).unwrap();
        let inode = fs::metadata(format!("/proc/{}/ns/net", other.id()))
            .unwrap()
            .ino();
        namespaces.look_again();
        assert!(namespaces.knows(inode), "{:?}", namespaces.left_out);
        let found = namespaces
            .all
            .iter()
            .find(|one| one.inode == inode)
            .unwrap();
        let door = found.door.clone().unwrap();
        let listener = within(&door, || TcpListener::bind("0.0.0.0:0"))
            .unwrap()
            .unwrap();
        let here = listener.local_addr().unwrap();
        let listens = |one: &Watched| {
            let living = one.watch.living().unwrap();
            living
                .iter()
                .any(|w| w.socket.listening && w.socket.local == here)
        };
        assert!(listens(found) && !listens(&namespaces.all[0]));
        other.kill().and_then(|()| other.wait()).unwrap();
        namespaces.look_again();
        assert!(!namespaces.all.iter().any(|one| one.inode == inode));
    }
}
