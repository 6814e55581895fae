//! The processes of this host as `/proc/PID/status` shows them, every read bounded.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::attribute::Proc;

const MAX_FILE: u64 = 64 << 10;
const MAX_PROCESSES: usize = 131_072;
const MAX_DESCRIPTORS: usize = 65_536;

/// Numbers of capabilities (capabilities(7)).
pub const CAP_DAC_OVERRIDE: u32 = 1;
pub const CAP_DAC_READ_SEARCH: u32 = 2;
pub const CAP_NET_BIND_SERVICE: u32 = 10;
pub const CAP_NET_ADMIN: u32 = 12;
pub const CAP_NET_RAW: u32 = 13;
pub const CAP_SYS_PTRACE: u32 = 19;
pub const CAP_SYS_ADMIN: u32 = 21;
pub const CAP_BPF: u32 = 39;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub comm: String,
    /// Below the cgroup2 mount.
    pub cgroup: String,
    /// Real, effective, saved and file system's.
    pub uids: [u32; 4],
    pub gids: [u32; 4],
    pub groups: Vec<u32>,
    pub effective: u64,
    pub permitted: u64,
    pub bounding: u64,
    pub ambient: u64,
    pub inheritable: u64,
    pub no_new_privileges: bool,
    /// 0: none, 1: strict, 2: a filter.
    pub seccomp: u8,
}

impl Process {
    pub fn runs_as(&self, uid: u32) -> bool {
        self.uids.contains(&uid)
    }

    /// Whether it has the capability, or could take it without running anything else.
    pub fn has(&self, capability: u32) -> bool {
        (self.effective | self.permitted | self.ambient) >> capability & 1 == 1
    }

    /// Whether a program with set-user-ID or file capabilities could give it to the process.
    pub fn could_gain(&self, capability: u32) -> bool {
        !self.no_new_privileges && self.bounding >> capability & 1 == 1
    }

    pub fn path(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.pid.to_string()).join(name)
    }

    /// What its descriptors lead to: `socket:[1234]`, `anon_inode:[io_uring]`, a path. `None` where
    /// that may not be read.
    pub fn descriptors(&self) -> Option<Vec<(PathBuf, String)>> {
        let entries = fs::read_dir(self.path("fd")).ok()?;
        let read = |entry: fs::DirEntry| {
            let target = fs::read_link(entry.path()).ok()?;
            Some((entry.path(), target.to_string_lossy().into_owned()))
        };
        let entries = entries.flatten().take(MAX_DESCRIPTORS);
        Some(entries.filter_map(read).collect())
    }

    /// Whether its environment may be read.
    pub fn is_readable(&self) -> bool {
        fs::File::open(self.path("environ")).is_ok()
    }

    /// One variable of its environment; `None` where there is none, or it may not be read.
    pub fn variable(&self, name: &str) -> Option<String> {
        let bytes = Proc::of(Path::new("/proc"), self.pid).bytes("environ", MAX_FILE)?;
        bytes.split(|byte| *byte == 0).find_map(|entry| {
            let text = std::str::from_utf8(entry).ok()?;
            let (key, value) = text.split_once('=')?;
            (key == name).then(|| value.to_owned())
        })
    }
}

/// All of them but the kernel's own threads.
pub fn all(root: &Path) -> Vec<Process> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.take(MAX_PROCESSES)
        .filter_map(|pid| one(root, pid))
        .collect()
}

pub fn one(root: &Path, pid: u32) -> Option<Process> {
    let proc = Proc::of(root, pid);
    let text = proc.bytes("status", MAX_FILE)?;
    let mut process = parse(pid, &String::from_utf8_lossy(&text))?;
    process.cgroup = proc.cgroup().unwrap_or_default();
    Some(process)
}

/// `None` for what is no process of user space: it has no memory of its own.
fn parse(pid: u32, text: &str) -> Option<Process> {
    let lines: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key, value.trim()))
        .collect();
    if !lines.contains_key("VmSize") {
        return None;
    }
    let numbers = |key: &str| -> Vec<u32> {
        let value = lines.get(key).copied().unwrap_or_default();
        value
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect()
    };
    let set = |key: &str| u64::from_str_radix(lines.get(key).copied().unwrap_or("0"), 16).ok();
    Some(Process {
        pid,
        comm: lines.get("Name").copied().unwrap_or_default().to_owned(),
        cgroup: String::new(),
        uids: numbers("Uid").try_into().ok()?,
        gids: numbers("Gid").try_into().ok()?,
        groups: numbers("Groups"),
        effective: set("CapEff")?,
        permitted: set("CapPrm")?,
        bounding: set("CapBnd")?,
        ambient: set("CapAmb")?,
        inheritable: set("CapInh")?,
        no_new_privileges: lines.get("NoNewPrivs").is_some_and(|value| *value == "1"),
        seccomp: lines
            .get("Seccomp")
            .and_then(|s| s.parse().ok())
            .unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tagent (x)\nUid:\t1001\t1001\t1001\t1001\n\
        Gid:\t1002\t1002\t1002\t1002\nGroups:\t27 1002 \nVmSize:\t  10 kB\n\
        CapInh:\t0000000000000000\nCapPrm:\t0000000000002000\nCapEff:\t0000000000002000\n\
        CapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t2\n";

    #[test]
    fn a_status_is_read() {
        let process = parse(7, STATUS).unwrap();
        assert_eq!(process.uids, [1001; 4]);
        assert_eq!(process.groups, [27, 1002]);
        assert_eq!(process.comm, "agent (x)");
        assert!(process.has(CAP_NET_RAW) && !process.has(CAP_BPF));
        assert!(process.could_gain(CAP_BPF) && process.seccomp == 2);
        let bound = parse(7, &STATUS.replace("NoNewPrivs:\t0", "NoNewPrivs:\t1")).unwrap();
        assert!(!bound.could_gain(CAP_BPF));
    }

    #[test]
    fn what_is_no_process_or_cut_off_is_none() {
        assert!(parse(2, &STATUS.replace("VmSize", "x")).is_none());
        for end in 0..STATUS.len() {
            parse(7, STATUS.get(..end).unwrap_or_default());
        }
        let own = one(Path::new("/proc"), std::process::id()).unwrap();
        assert!(own.descriptors().is_some_and(|all| !all.is_empty()));
    }
}
