//! One process as `/proc` shows it, every read bounded: its owner may fill these files with
//! whatever they like.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Parent;

const MAX_FILE: u64 = 64 << 10;
const MAX_ARGUMENTS: usize = 64;
const MAX_ARGUMENT: usize = 1024;
const MAX_PARENTS: usize = 16;

/// The process ended, or its pid has passed to another.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ProcGone;

pub(crate) struct Proc {
    directory: PathBuf,
}

pub(super) struct Details {
    pub executable: Option<PathBuf>,
    pub executable_inode: Option<u64>,
    pub argv: Vec<String>,
    pub cwd: Option<PathBuf>,
    pub parent: u32,
}

/// What `stat` says of a process: enough to know it again.
struct Stat {
    comm: String,
    parent: u32,
    /// In clock ticks since boot; together with the pid it names one process for good.
    start: u64,
}

impl Proc {
    pub(crate) fn of(root: &Path, pid: u32) -> Self {
        Self {
            directory: root.join(pid.to_string()),
        }
    }

    /// Below the cgroup2 mount, without a leading slash.
    pub(crate) fn cgroup(&self) -> Option<String> {
        let text = self.text("cgroup")?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
        // The kernel marks a cgroup that was removed while processes still end in it.
        Some(path.strip_suffix(" (deleted)").unwrap_or(path).to_owned())
    }

    /// Runs `read` and keeps its answer only if it was about one process that stayed in `cgroup`.
    pub(crate) fn steady<T>(
        &self,
        cgroup: &str,
        read: impl FnOnce(&Self) -> T,
    ) -> Result<T, ProcGone> {
        let before = self.stat().ok_or(ProcGone)?.start;
        let answer = read(self);
        let same = self.stat().is_some_and(|after| after.start == before);
        // Asked last: a pid that was reused before the first look belongs to another cgroup, or
        // to the same agent.
        (same && self.cgroup().as_deref() == Some(cgroup))
            .then_some(answer)
            .ok_or(ProcGone)
    }

    pub(super) fn details(&self, cgroup: &str) -> Result<Details, ProcGone> {
        self.steady(cgroup, |proc| Details {
            executable: proc.executable(),
            executable_inode: fs::metadata(proc.directory.join("exe"))
                .ok()
                .map(|m| m.ino()),
            argv: arguments(&proc.bytes("cmdline", MAX_FILE).unwrap_or_default()),
            cwd: fs::read_link(proc.directory.join("cwd")).ok(),
            parent: proc.stat().map_or(0, |stat| stat.parent),
        })
    }

    /// At most `limit` bytes of one of the process's files.
    pub(crate) fn bytes(&self, name: &str, limit: u64) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = File::open(self.directory.join(name)).ok()?;
        file.take(limit).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// What the process calls itself.
    pub(super) fn first_argument(&self) -> Option<String> {
        let cmdline = self.bytes("cmdline", MAX_FILE)?;
        arguments(&cmdline).into_iter().next()
    }

    pub(crate) fn executable(&self) -> Option<PathBuf> {
        let path = fs::read_link(self.directory.join("exe")).ok()?;
        // Replaced on disk since it started; the inode still tells which file runs.
        let replaced = path.to_str().and_then(|p| p.strip_suffix(" (deleted)"));
        Some(replaced.map(PathBuf::from).unwrap_or(path))
    }

    fn stat(&self) -> Option<Stat> {
        parse_stat(&self.text("stat")?)
    }

    fn text(&self, name: &str) -> Option<String> {
        let bytes = self.bytes(name, MAX_FILE)?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The inode of a descriptor's link below `fd` that is a socket: `socket:[4242]`.
pub(crate) fn socket_inode(link: &str) -> Option<u32> {
    link.strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

/// `pid (comm) state ppid … starttime …`: comm may hold spaces and parentheses, so the last one ends it.
fn parse_stat(text: &str) -> Option<Stat> {
    let (head, tail) = text.rsplit_once(')')?;
    let comm = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = tail.split_whitespace().collect();
    Some(Stat {
        comm,
        parent: fields.get(1)?.parse().ok()?,
        start: fields.get(19)?.parse().ok()?,
    })
}

fn arguments(cmdline: &[u8]) -> Vec<String> {
    let cmdline = cmdline.strip_suffix(b"\0").unwrap_or(cmdline);
    if cmdline.is_empty() {
        return Vec::new();
    }
    cmdline
        .split(|b| *b == 0)
        .take(MAX_ARGUMENTS)
        .map(|argument| {
            let bounded = argument.get(..MAX_ARGUMENT).unwrap_or(argument);
            String::from_utf8_lossy(bounded).into_owned()
        })
        .collect()
}

/// From `first` upwards while they run within `edge` (a cgroup path).
pub(super) fn parents(root: &Path, first: u32, edge: &str) -> Vec<Parent> {
    let mut found: Vec<Parent> = Vec::new();
    let mut pid = first;
    while pid != 0 && found.len() < MAX_PARENTS && found.iter().all(|p| p.pid != pid) {
        let proc = Proc::of(root, pid);
        let within = proc.cgroup().is_some_and(|cgroup| {
            let below = cgroup.strip_prefix(edge);
            below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        let Some(stat) = proc.stat().filter(|_| within) else {
            break;
        };
        found.push(Parent {
            pid,
            comm: stat.comm,
            executable: proc.executable(),
        });
        pid = stat.parent;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comm_with_parentheses() {
        let stat =
            parse_stat("7 (a) b (c)) S 3 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0").unwrap();
        assert_eq!(
            (stat.comm.as_str(), stat.parent, stat.start),
            ("a) b (c)", 3, 4242)
        );
        for bad in ["", "7 (a", "7 (a) S", "7 (a) S x"] {
            assert!(parse_stat(bad).is_none());
        }
    }

    #[test]
    fn arguments_are_bounded() {
        assert_eq!(arguments(b"psql\0-c\0\0"), ["psql", "-c", ""]);
        assert!(arguments(b"").is_empty());
        let long = vec![b'a'; 5000];
        assert_eq!(arguments(&long)[0].len(), MAX_ARGUMENT);
        let many = vec![0; 5000];
        assert_eq!(arguments(&many).len(), MAX_ARGUMENTS);
    }

    proptest::proptest! {
        #[test]
        fn no_stat_panics(text in ".{0,120}") {
            parse_stat(&text);
        }
    }
}
