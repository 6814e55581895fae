//! Stage 3: which process is this?

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
