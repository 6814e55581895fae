//! Doors that are sockets of the agent's processes: families that no hook sees, and connections that
//! are older than governance or were handed over.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::super::finding::{Check, Finding, Remedy, advise, run};
use super::super::host::some;
use super::super::processes::{CAP_NET_RAW, Process};
use super::super::units::Unit;
use super::filters::{Filters, Refuses};
use super::hooked::mend;
use super::{BY_LSM, Seen, no_mode, no_process};
use crate::attribute::socket_inode;
use crate::capture::Capture;
use crate::capture::sockets::{TcpSocket, past_the_daemon};
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
const RESTRICT: &str = "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 and SystemCallArchitectures=native in the agent's unit, then restart it";
const NO_URING: &str = "SystemCallFilter=~io_uring_setup io_uring_enter io_uring_register in the agent's unit, then restart it";
const NOBODY_URING: &str =
    "or, for everybody on this host, kernel.io_uring_disabled=2 in a file of /etc/sysctl.d";
/// Since Linux 6.6.
const URING_DISABLED: &str = "/proc/sys/kernel/io_uring_disabled";
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
        return PACKET.fail(seen, advise(DROP_RAW));
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
        return PACKET.fail(seen, advise(DROP_RAW));
    }
    let could = with(&|process| process.could_gain(CAP_NET_RAW));
    match could.is_empty() {
        true => PACKET.ok("closed: no process of it has CAP_NET_RAW, or can gain it"),
        false => PACKET.warn(
            format!("process {} could gain CAP_NET_RAW by a program with file capabilities, such as ping", some(&could)),
            advise(DROP_RAW),
        ),
    }
}

fn vsock(seen: &Seen<'_>, held: &Descriptors) -> Finding {
    let open = held.of("AF_VSOCK");
    if !open.is_empty() {
        return VSOCK.fail(
            format!("open: process {} has one", some(&open)),
            advise(RESTRICT),
        );
    }
    if seen.lsm {
        return VSOCK.ok(BY_LSM);
    }
    if !kernel_has_vsock() {
        return VSOCK.ok("closed: this kernel has no such sockets");
    }
    let refuses = |unit: &Unit| match (unit.refuses_family("AF_VSOCK"), unit.is_native()) {
        (true, true) => Refuses::Yes,
        (true, false) => Refuses::Partly("to programs for 32-bit processors"),
        (false, _) => Refuses::No,
    };
    let open = |seen, remedy| VSOCK.fail(seen, remedy);
    seen.filters.judge(VSOCK, refuses, RESTRICT, open)
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
    let disabled = std::fs::read_to_string(URING_DISABLED);
    let disabled = disabled.ok().and_then(|text| text.trim().parse().ok());
    judge_uring(&using, disabled, &seen.filters)
}

/// `disabled` is the sysctl's value, if the kernel has it: 2 refuses everybody (sysctl/kernel.rst,
/// io_uring_disabled).
fn judge_uring(using: &[u32], disabled: Option<u8>, filters: &Filters) -> Finding {
    let in_unit = match disabled {
        Some(_) => format!("{NO_URING}; {NOBODY_URING}"),
        None => NO_URING.into(),
    };
    if !using.is_empty() {
        let seen = format!("open: process {} uses it", some(using));
        return URING.fail(seen, advise(in_unit));
    }
    if disabled == Some(2) {
        return URING.ok("closed: the kernel refuses it to everybody");
    }
    let refuses = |unit: &Unit| match unit.refuses_call("io_uring_setup") {
        true => Refuses::Yes,
        false => Refuses::No,
    };
    // Its connections meet the hooks like any other's: it is the filter that it goes round.
    let open = |seen, remedy| URING.warn(seen, remedy);
    filters.judge(URING, refuses, &in_unit, open)
}

fn connections(seen: &Seen<'_>, held: &Descriptors) -> Vec<Finding> {
    let Some(tcp) = seen.tcp.filter(|_| !held.unread) else {
        return vec![OLDER.needs_root(), PASSED.needs_root()];
    };
    let cgroups: BTreeSet<u64> = seen.host.cgroups_of(seen.agent).into_keys().collect();
    let capture = seen.host.capture();
    // As the kernel has them, whatever the file says by now.
    let ports = Capture::pinned_ports(&capture).unwrap_or_default();
    let resolvers = Capture::pinned_resolvers(&capture).unwrap_or_default();
    let older = tcp
        .each
        .iter()
        .flat_map(|all| past_the_daemon(all, &cgroups, &ports, &resolvers));
    let passed = tcp
        .each
        .iter()
        .flat_map(|all| elsewhere(all, &held.inodes, &cgroups));
    let judged =
        |check: Check, found: Vec<&TcpSocket>, closed: &str| match (found.first(), &tcp.unseen) {
            (Some(first), _) => {
                let shown = shown(&found, &held.inodes);
                let pid = held.inodes.get(&first.inode).copied();
                check.fail(
                    format!("open: {shown}"),
                    close(first.local, first.peer, pid),
                )
            }
            (None, Some(why)) => check.unknown(why.clone(), advise(RESTART)),
            (None, None) => check.ok(closed),
        };
    let closed = "closed: no connection of its own goes past hoop";
    let older = match (seen.mode, &seen.broken) {
        (None, _) => no_mode(seen, OLDER),
        (Some(Mode::Enforce), Some(opening)) => OLDER.warn(
            format!(
                "open: the glass is broken until {}; what it lets pass ends with it",
                opening.until
            ),
            opening.remedy(),
        ),
        (Some(Mode::Enforce), None) => {
            let older: Vec<&TcpSocket> = older.collect();
            match older.first() {
                // Made in its cgroup, as these are, it meets the hooks on packets.
                Some(first) => OLDER.warn(
                    format!(
                        "closed: nothing leaves by {}, from before it was enforced",
                        shown(&older, &held.inodes)
                    ),
                    close(
                        first.local,
                        first.peer,
                        held.inodes.get(&first.inode).copied(),
                    ),
                ),
                None => judged(OLDER, older, closed),
            }
        }
        (Some(mode @ (Mode::Observe | Mode::Discover)), _) => OLDER.warn(
            "open: connections from before pass in that mode",
            mend(mode),
        ),
    };
    let closed = "closed: every TCP socket of it was made in its own cgroup";
    vec![older, judged(PASSED, passed.collect(), closed)]
}

fn shown(sockets: &[&TcpSocket], inodes: &BTreeMap<u32, u32>) -> String {
    const SHOWN: usize = 4;
    let one = |socket: &&TcpSocket| {
        let (local, peer) = (socket.local, socket.peer);
        match inodes.get(&socket.inode) {
            Some(pid) => format!("{local} to {peer} (process {pid})"),
            None => format!("{local} to {peer}"),
        }
    };
    let shown: Vec<String> = sockets.iter().take(SHOWN).map(one).collect();
    match sockets.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Both ends with their ports: by the peer's address alone, everybody's connections to it would end.
fn close(local: SocketAddr, peer: SocketAddr, process: Option<u32>) -> Remedy {
    let entered = match process {
        Some(pid) => format!("nsenter -t {pid} -n "),
        None => String::new(),
    };
    run(format!("{entered}ss -K src {local} dst {peer}"))
        .and("that ends the first of them; restarting the agent's unit ends all")
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
        let process = Process {
            cgroup: "agents.slice/a.service".into(),
            seccomp: 2,
            ..Process::default()
        };
        let by = |filter: &str| {
            let unit =
                |name: &str| Some(Unit::parse(name, &format!("SystemCallFilter={filter}\n")));
            Filters::of(&[&process], unit)
        };
        let (refused, allowed) = (by("~io_uring_setup"), by(""));
        assert_eq!(judge_uring(&[], Some(2), &allowed).state, State::Ok);
        assert_eq!(judge_uring(&[], Some(0), &refused).state, State::Ok);
        assert_eq!(judge_uring(&[7], Some(2), &refused).state, State::Fail);
        let open = judge_uring(&[], Some(0), &allowed);
        assert!(open.state == State::Warn && open.advice.unwrap().contains("sysctl.d"));
        // A kernel without that switch is not told to turn it.
        let open = judge_uring(&[], None, &allowed);
        assert!(!open.advice.unwrap().contains("sysctl.d"));
    }

    #[test]
    fn one_connection_is_ended_and_no_other_to_its_server() {
        let (local, peer) = ("10.0.0.1:40000", "[2001:db8::1]:5432");
        let remedy = close(local.parse().unwrap(), peer.parse().unwrap(), Some(77));
        let found = PASSED.fail("x", remedy);
        let mend = "nsenter -t 77 -n ss -K src 10.0.0.1:40000 dst [2001:db8::1]:5432";
        assert_eq!(found.mend.as_deref(), Some(mend));
    }
}
