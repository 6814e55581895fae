//! Whose a socket is: its cgroup by the kernel's word, its executable by whoever has it open.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::super::merge::{Owner, UNSEEN, Unowned};
use crate::attribute::{Cgroups, Proc, cgroup2_mount, socket_inode};

/// Descriptors of one process, and processes, that are looked at.
const MOST_DESCRIPTORS: usize = 65_536;
const MOST_PROCESSES: usize = 100_000;
/// Between looks at all processes of the host, which are needed only where a process left the cgroup
/// that its socket was made in.
const EVERYWHERE: Duration = Duration::from_secs(2);
/// Cgroups whose path is kept; those that were removed are asked for once.
const MOST_PATHS: usize = 65_536;
/// What the root of the cgroup2 tree is called.
const ROOT: &str = "/";

pub struct Owners {
    proc: PathBuf,
    cgroups: Cgroups,
    paths: HashMap<u64, Option<String>>,
    everywhere: Option<Instant>,
    /// A process's descriptors could not be read: this is not root.
    pub unread: bool,
}

impl Owners {
    pub fn new() -> Self {
        Self {
            proc: "/proc".into(),
            cgroups: Cgroups::new(cgroup2_mount()),
            paths: HashMap::new(),
            everywhere: None,
            unread: false,
        }
    }

    /// An owner for each of which something is known. One whose executable was not found has
    /// [`UNSEEN`] for it; asking again may find it.
    pub fn of(&mut self, unowned: &[Unowned]) -> Vec<(Unowned, Owner)> {
        let mut by_cgroup: BTreeMap<u64, HashSet<u32>> = BTreeMap::new();
        for one in unowned {
            let inodes = by_cgroup.entry(one.cgroup_id).or_default();
            if one.inode != 0 {
                inodes.insert(one.inode);
            }
        }
        let mut found = HashMap::new();
        let mut missing = HashSet::new();
        for (id, mut wanted) in by_cgroup {
            if let Some(path) = self.path(id) {
                let processes = processes_of(&self.cgroups, &path);
                self.look(processes, &mut wanted, &mut found);
            }
            missing.extend(wanted);
        }
        let due = self
            .everywhere
            .is_none_or(|last| last.elapsed() >= EVERYWHERE);
        if !missing.is_empty() && due {
            self.everywhere = Some(Instant::now());
            self.look(self.processes(), &mut missing, &mut found);
        }
        let mut owner = |one: &Unowned| {
            let by_process = found.get(&one.inode);
            let cgroup = match self.path(one.cgroup_id) {
                Some(path) => path,
                // A kernel that does not tell a socket's cgroup, or a cgroup that is gone.
                None => Proc::of(&self.proc, by_process?.0).cgroup()?,
            };
            let executable = by_process.map(|(_, executable)| executable.clone());
            Some(Owner {
                cgroup: named(cgroup),
                executable: executable.unwrap_or_else(|| UNSEEN.to_owned()),
            })
        };
        unowned
            .iter()
            .filter_map(|one| Some((one.clone(), owner(one)?)))
            .collect()
    }

    /// The path of a cgroup, remembered; `None` if it was gone before anyone asked.
    fn path(&mut self, id: u64) -> Option<String> {
        if id == 0 {
            return None;
        }
        if let Some(known) = self.paths.get(&id) {
            return known.clone();
        }
        if self.paths.len() >= MOST_PATHS {
            self.paths.clear();
        }
        let path = self.cgroups.path(id, None);
        self.paths.insert(id, path.clone());
        path
    }

    fn processes(&self) -> Vec<u32> {
        let entries = fs::read_dir(&self.proc).into_iter().flatten().flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        numbers.take(MOST_PROCESSES).collect()
    }

    /// Takes what it finds out of `wanted`.
    fn look(
        &mut self,
        processes: Vec<u32>,
        wanted: &mut HashSet<u32>,
        found: &mut HashMap<u32, (u32, String)>,
    ) {
        for pid in processes {
            if wanted.is_empty() {
                return;
            }
            let folder = self.proc.join(pid.to_string()).join("fd");
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) => {
                    self.unread |= error.kind() == std::io::ErrorKind::PermissionDenied;
                    continue;
                }
            };
            for entry in entries.flatten().take(MOST_DESCRIPTORS) {
                let Some(inode) = inode_at(&entry.path()) else {
                    continue;
                };
                if !wanted.contains(&inode) {
                    continue;
                }
                let executable = Proc::of(&self.proc, pid).executable();
                // The number may have passed to another process meanwhile.
                let Some(executable) =
                    executable.filter(|_| inode_at(&entry.path()) == Some(inode))
                else {
                    continue;
                };
                wanted.remove(&inode);
                found.insert(inode, (pid, executable.to_string_lossy().into_owned()));
            }
        }
    }
}

fn inode_at(link: &Path) -> Option<u32> {
    socket_inode(fs::read_link(link).ok()?.to_str()?)
}

fn processes_of(cgroups: &Cgroups, path: &str) -> Vec<u32> {
    let file = cgroups.mount().join(path).join("cgroup.procs");
    let text = fs::read_to_string(file).unwrap_or_default();
    let numbers = text.lines().filter_map(|line| line.parse().ok());
    numbers.take(MOST_PROCESSES).collect()
}

fn named(path: String) -> String {
    match path.is_empty() {
        true => ROOT.to_owned(),
        false => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    #[test]
    fn an_open_socket_has_this_program_and_another_has_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let link = PathBuf::from(format!("/proc/self/fd/{}", client.as_raw_fd()));
        let inode = inode_at(&link).unwrap();
        let unowned = |inode: u32| Unowned {
            key: (0, inode.into()),
            cgroup_id: 0,
            inode,
        };
        let mut owners = Owners::new();
        let found = owners.of(&[unowned(inode), unowned(0)]);
        assert_eq!(found.len(), 1);
        let own = std::env::current_exe().unwrap();
        assert_eq!(found[0].1.executable, own.to_string_lossy());
        assert!(!found[0].1.cgroup.is_empty());
    }
}
