//! Stage 3: which process is this?
//!
//! The kernel's facts (who connected, from which cgroup) are the ground; `/proc` adds what helps
//! a reader of the recording. What `/proc` says is believed only while it describes the same
//! process in the same cgroup: a pid may have passed to another process in between.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

mod cgroups;
pub mod containers;
mod names;
mod proc;

pub use cgroups::{Cgroups, cgroup_path, cgroup2_mount};
pub use containers::{Container, Containers, Engine, Isolated, Looked, Pod, Texts, Unreadable};
pub(crate) use names::unit;
pub(crate) use proc::{Proc, socket_inode};

/// What the kernel recorded at connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Thread group id.
    pub pid: u32,
    pub tid: u32,
    pub uid: u32,
    /// As the kernel keeps it, padded with zeros.
    pub comm: [u8; 16],
    pub cgroup_id: u64,
}

/// Reads what is known of the process. Never fails: what cannot be read is absent, and a cgroup
/// that cannot be found is the empty path, which no agent's pattern covers.
pub fn read(seen: &Seen, cgroups: &Cgroups) -> Process {
    read_from(Path::new("/proc"), seen, cgroups)
}

fn read_from(root: &Path, seen: &Seen, cgroups: &Cgroups) -> Process {
    let proc = Proc::of(root, seen.pid);
    let cgroup = cgroups.path(seen.cgroup_id, proc.cgroup().as_deref());
    let cgroup = cgroup.unwrap_or_default();
    let mut process = Process {
        pid: seen.pid,
        tid: seen.tid,
        uid: seen.uid,
        comm: comm(&seen.comm),
        cgroup_id: seen.cgroup_id,
        unit: names::unit(&cgroup),
        container: names::container(&cgroup),
        cgroup,
        gone: true,
        ..Process::default()
    };
    if let Ok(details) = proc.details(&process.cgroup) {
        process.executable = details.executable;
        process.executable_inode = details.executable_inode;
        process.argv = details.argv;
        process.cwd = details.cwd;
        process.parents = proc::parents(root, details.parent, names::edge(&process.cgroup));
        process.gone = false;
    }
    process
}

fn comm(padded: &[u8; 16]) -> String {
    let text = padded.split(|b| *b == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// The process that opened a connection: first what the kernel recorded at connect, then what
/// `/proc` said when the socket was accepted (absent where the process had already ended).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Thread group id (what user space calls the pid) and thread id, in the initial pid namespace.
    pub pid: u32,
    pub tid: u32,
    pub uid: u32,
    /// At most 15 bytes, as the kernel keeps it. Of the thread, not of the executable.
    pub comm: String,
    pub cgroup_id: u64,
    /// Below the cgroup2 mount, without a leading slash.
    pub cgroup: String,
    pub executable: Option<PathBuf>,
    pub executable_inode: Option<u64>,
    pub argv: Vec<String>,
    pub cwd: Option<PathBuf>,
    /// From the parent upwards, up to the cgroup's edge.
    pub parents: Vec<Parent>,
    /// The systemd unit that the cgroup path names.
    pub unit: Option<String>,
    /// The container id that the cgroup path names.
    pub container: Option<String>,
    /// The process had ended before it could be read; only what the kernel recorded is known.
    pub gone: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    pub pid: u32,
    pub comm: String,
    pub executable: Option<PathBuf>,
}

#[cfg(test)]
mod tests;
