//! Doors that are sockets of the agent's processes: families that no hook sees, and connections that
//! are older than governance or were handed over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::super::finding::{Check, Finding};
use super::super::host::some;
use super::super::processes::{CAP_NET_RAW, Process};
use super::{BY_LSM, Seen, no_process};
use crate::attribute::socket_inode;
use crate::capture::Capture;
use crate::capture::sockets::{TcpSocket, past_the_daemon, tcp};
use crate::config::Mode;

const PACKET: Check = Check::new(
    "door.packet",
    "frames of a packet socket meet no hook: they leave the host as they are",
);
const VSOCK: Check = Check::new(
    "door.vsock",
    "virtual machine sockets meet no hook, and the host may answer there",
);
const URING: Check = Check::new(
    "door.io_uring",
    "io_uring makes sockets past the unit's filter of system calls",
);
const OLDER: Check = Check::new(
    "door.older_connections",
    "a connection from before the agent was governed goes on past hoop",
);
const PASSED: Check = Check::new(
    "door.passed_descriptors",
    "hooks follow the cgroup that made a socket: one from elsewhere is not seen in the agent's hands",
);
const DROP_RAW: &str = "CapabilityBoundingSet= and NoNewPrivileges=yes in the agent's unit (see agent.service.d-hoop.conf), then restart it";
const RESTRICT: &str =
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 in the agent's unit, then restart it";
const NO_URING: &str = "sysctl kernel.io_uring_disabled=2, or SystemCallFilter=~io_uring_setup io_uring_enter io_uring_register in the agent's unit";
const RESTART: &str = "restart the agent's unit: what it opens then is governed";

/// What the descriptors of the agent's processes are.
#[derive(Default)]
struct Descriptors {
    /// Processes by the name of a socket's protocol, as the kernel has it: TCP, PACKET, AF_VSOCK.
    protocols: BTreeMap<String, BTreeSet<u32>>,
    uring: BTreeSet<u32>,
    /// Inodes of sockets, and a process that has each.
    inodes: BTreeMap<u32, u32>,
    /// Some process's could not be read.
    unread: bool,
}

pub fn check(seen: &Seen<'_>) -> Vec<Finding> {
    let checks = [PACKET, VSOCK, URING, OLDER, PASSED];
    if seen.processes.is_empty() {
        return checks.map(no_process).into();
    }
    let held = descriptors(&seen.processes);
    let mut found = vec![packet(seen, &held), vsock(seen, &held), uring(seen, &held)];
    found.extend(connections(seen, &held));
    found
}

fn descriptors(processes: &[&Process]) -> Descriptors {
    let mut held = Descriptors::default();
    for process in processes {
        let Some(all) = process.descriptors() else {
            held.unread = true;
            continue;
        };
        for (path, target) in all {
            if target == "anon_inode:[io_uring]" {
                held.uring.insert(process.pid);
            }
            let Some(inode) = socket_inode(&target) else {
                continue;
            };
            held.inodes.insert(inode, process.pid);
            if let Some(name) = protocol(&path) {
                held.protocols.entry(name).or_default().insert(process.pid);
            }
        }
    }
    held
}

/// The kernel tells of any socket what it is, by an attribute of its file.
fn protocol(path: &Path) -> Option<String> {
    let mut name = [0_u8; 64];
    let length = rustix::fs::getxattr(path, "system.sockprotoname", &mut name[..]).ok()?;
    let text = std::str::from_utf8(name.get(..length)?).ok()?;
    Some(text.trim_end_matches('\0').to_owned())
}

impl Descriptors {
    fn of(&self, protocol: &str) -> Vec<u32> {
        let found = self.protocols.get(protocol);
        found.into_iter().flatten().copied().collect()
    }
}

fn packet(seen: &Seen<'_>, held: &Descriptors) -> Finding {
    let open = held.of("PACKET");
    if !open.is_empty() {
        let seen = format!("open: process {} has a packet socket", some(&open));
        return PACKET.fail(seen, DROP_RAW);
    }
    if seen.lsm {
        return PACKET.ok(BY_LSM);
    }
    let with = |wanted: &dyn Fn(&&&Process) -> bool| -> Vec<u32> {
        seen.processes
            .iter()
            .filter(wanted)
            .map(|p| p.pid)
            .collect()
    };
    let capable = with(&|process| process.has(CAP_NET_RAW));
    if !capable.is_empty() {
        let seen = format!("open: process {} holds CAP_NET_RAW", some(&capable));
        return PACKET.fail(seen, DROP_RAW);
    }
    let could = with(&|process| process.could_gain(CAP_NET_RAW));
    match could.is_empty() {
        true => PACKET.ok("closed: no process of it has CAP_NET_RAW, or can gain it"),
        false => PACKET.warn(
            format!("process {} could gain CAP_NET_RAW by a program with file capabilities, such as ping", some(&could)),
            DROP_RAW,
        ),
    }
}

fn vsock(seen: &Seen<'_>, held: &Descriptors) -> Finding {
    let open = held.of("AF_VSOCK");
    if !open.is_empty() {
        return VSOCK.fail(format!("open: process {} has one", some(&open)), RESTRICT);
    }
    if seen.lsm {
        return VSOCK.ok(BY_LSM);
    }
    if !kernel_has_vsock() {
        return VSOCK.ok("closed: this kernel has no such sockets");
    }
    let filtered = seen.processes.iter().all(|process| process.seccomp == 2);
    match &seen.unit {
        Some(unit) if unit.refuses_family("AF_VSOCK") => {
            VSOCK.ok(format!("closed: {} refuses them", unit.name))
        }
        Some(unit) => VSOCK.fail(format!("open: {} allows them", unit.name), RESTRICT),
        None if filtered => VSOCK.unknown(
            "its processes have a filter of system calls, and whether that refuses them cannot be read",
            RESTRICT,
        ),
        None => VSOCK.fail("open: no filter of system calls refuses them", RESTRICT),
    }
}

/// Asked for by making one, which is thrown away.
fn kernel_has_vsock() -> bool {
    let made = socket(
        AddressFamily::Vsock,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    );
    !matches!(made, Err(Errno::EAFNOSUPPORT))
}

fn uring(seen: &Seen<'_>, held: &Descriptors) -> Finding {
    let using: Vec<u32> = held.uring.iter().copied().collect();
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let disabled = disabled.ok().and_then(|text| text.trim().parse().ok());
    let filtered = seen.processes.iter().all(|process| process.seccomp == 2);
    let refused = seen
        .unit
        .as_ref()
        .map(|unit| unit.refuses_call("io_uring_setup"));
    judge_uring(&using, disabled, refused, filtered)
}

/// `disabled` is the sysctl's value: 2 refuses everybody (sysctl/kernel.rst, io_uring_disabled).
fn judge_uring(
    using: &[u32],
    disabled: Option<u8>,
    refused: Option<bool>,
    filtered: bool,
) -> Finding {
    match (disabled, refused) {
        _ if !using.is_empty() => {
            URING.fail(format!("open: process {} uses it", some(using)), NO_URING)
        }
        (Some(2), _) => URING.ok("closed: the kernel refuses it to everybody"),
        (_, Some(true)) => URING.ok("closed: the unit refuses it"),
        (_, None) if filtered => URING.unknown(
            "its processes have a filter of system calls, and whether that refuses it cannot be read",
            NO_URING,
        ),
        // Its connections meet the hooks like any other's: it is the filter that it goes round.
        _ => URING.warn("open: nothing refuses it", NO_URING),
    }
}

fn connections(seen: &Seen<'_>, held: &Descriptors) -> Vec<Finding> {
    if !seen.host.root || held.unread {
        return vec![OLDER.needs_root(), PASSED.needs_root()];
    }
    let all = match tcp() {
        Ok(all) => all.all,
        Err(error) => {
            let unknown = |check: Check| {
                check.unknown(
                    format!("the kernel does not list its sockets: {error}"),
                    RESTART,
                )
            };
            return vec![unknown(OLDER), unknown(PASSED)];
        }
    };
    let capture = seen.host.capture();
    let ports = Capture::pinned_ports(&capture).unwrap_or_default();
    let cgroups: BTreeSet<u64> = seen.host.cgroups_of(seen.agent).into_keys().collect();
    let elsewhere = elsewhere(&all, &held.inodes, &cgroups);
    let older = match seen.agent.mode {
        Mode::Enforce => past_the_daemon(&all, &cgroups, &ports, &capture.resolvers),
        // There they are let pass.
        Mode::Observe | Mode::Discover => Vec::new(),
    };
    let shown = |sockets: &[&TcpSocket]| -> String {
        let peers: Vec<String> = sockets
            .iter()
            .take(4)
            .map(|socket| match held.inodes.get(&socket.inode) {
                Some(pid) => format!("{} (process {pid})", socket.peer),
                None => socket.peer.to_string(),
            })
            .collect();
        peers.join(", ")
    };
    let close = "ss -K dst ADDRESS ends one; restarting the agent's unit ends all";
    vec![
        match older.is_empty() {
            true => OLDER.ok("closed: no connection of its own goes past hoop"),
            false => OLDER.fail(format!("open: {}", shown(&older)), close),
        },
        match elsewhere.is_empty() {
            true => PASSED.ok("closed: every TCP socket of it was made in its own cgroup"),
            false => PASSED.fail(format!("open: to {}", shown(&elsewhere)), close),
        },
    ]
}

/// Sockets in the agent's hands that were made in another cgroup.
fn elsewhere<'s>(
    all: &'s [TcpSocket],
    inodes: &BTreeMap<u32, u32>,
    cgroups: &BTreeSet<u64>,
) -> Vec<&'s TcpSocket> {
    let is_it = |socket: &&TcpSocket| {
        socket.cgroup_id != 0
            && inodes.contains_key(&socket.inode)
            && !cgroups.contains(&socket.cgroup_id)
            && !socket.listening
    };
    all.iter().filter(is_it).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::State;
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_socket_tells_what_it_is() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
        assert_eq!(protocol(Path::new(&path)).as_deref(), Some("UDP"));
        assert_eq!(socket_inode("socket:[42]"), Some(42));
        assert_eq!(socket_inode("/dev/null"), None);
    }

    #[test]
    fn io_uring_is_closed_by_kernel_or_unit() {
        assert_eq!(judge_uring(&[], Some(2), None, false).state, State::Ok);
        assert_eq!(judge_uring(&[], Some(0), Some(true), true).state, State::Ok);
        assert_eq!(judge_uring(&[], None, None, true).state, State::Unknown);
        assert_eq!(
            judge_uring(&[], Some(0), Some(false), true).state,
            State::Warn
        );
        assert_eq!(
            judge_uring(&[7], Some(2), Some(true), true).state,
            State::Fail
        );
    }
}
