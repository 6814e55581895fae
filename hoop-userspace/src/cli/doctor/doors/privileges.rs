//! Doors that are privileges: what the agent's processes may do to the kernel, to the daemon, and to
//! the tree of cgroups.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::super::finding::{Check, Finding, advise, as_root, run};
use super::super::host::some;
use super::super::processes::{
    self, CAP_BPF, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_NET_ADMIN, CAP_NET_BIND_SERVICE,
    CAP_SYS_ADMIN, CAP_SYS_PTRACE, Process,
};
use super::super::reach::may;
use super::{Seen, no_process};

const ROOT: Check = Check::new(
    "door.root",
    "root can unload the programs: hoop detects that and cannot prevent it",
);
const CGROUP: Check = Check::new(
    "door.cgroup",
    "a process that moves to another cgroup is no longer held, or held as somebody else",
);
const DAEMON: Check = Check::new(
    "door.daemon",
    "who runs as hoop's own account can end it, and read what it holds",
);
const GUESTS: Check = Check::new(
    "door.guests",
    "sockets of a virtual machine or of gVisor are not the host's: no hook sees them",
);
/// Those by which a process becomes root, or changes what holds it (capabilities(7)).
const POWERS: [(u32, &str); 16] = [
    (0, "CAP_CHOWN"),
    (CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE"),
    (CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH"),
    (3, "CAP_FOWNER"),
    (6, "CAP_SETGID"),
    (7, "CAP_SETUID"),
    (CAP_NET_ADMIN, "CAP_NET_ADMIN"),
    (16, "CAP_SYS_MODULE"),
    (17, "CAP_SYS_RAWIO"),
    (CAP_SYS_PTRACE, "CAP_SYS_PTRACE"),
    (CAP_SYS_ADMIN, "CAP_SYS_ADMIN"),
    (22, "CAP_SYS_BOOT"),
    (27, "CAP_MKNOD"),
    (31, "CAP_SETFCAP"),
    (33, "CAP_MAC_ADMIN"),
    (CAP_BPF, "CAP_BPF"),
];
/// What an agent may hold: a low port is no power over anybody.
const HARMLESS: u64 = 1 << CAP_NET_BIND_SERVICE;
/// Programs that run guests, as `/proc/PID/comm` cuts them off.
const GUEST_PROGRAMS: [&str; 8] = [
    "runsc",
    "qemu-system",
    "firecracker",
    "cloud-hypervis",
    "kata-",
    "containerd-shim-kata",
    "crosvm",
    "vmx",
];
const UNPRIVILEGED: &str = "User= or DynamicUser=yes, CapabilityBoundingSet= and NoNewPrivileges=yes in the agent's unit, then restart it";
const WRITE: u32 = 0o2;

pub fn check(seen: &Seen<'_>) -> Vec<Finding> {
    if seen.processes.is_empty() {
        return [ROOT, CGROUP, DAEMON, GUESTS].map(no_process).into();
    }
    vec![
        root(&seen.processes),
        cgroup(seen),
        daemon(seen),
        guests(seen),
    ]
}

fn root(processes: &[&Process]) -> Finding {
    let as_root: Vec<u32> = processes
        .iter()
        .filter(|p| p.runs_as(0))
        .map(|p| p.pid)
        .collect();
    if !as_root.is_empty() {
        return ROOT.fail(
            format!("open: process {} is root", some(&as_root)),
            advise(UNPRIVILEGED),
        );
    }
    for (number, name) in POWERS {
        let with: Vec<u32> = processes
            .iter()
            .filter(|p| p.has(number))
            .map(|p| p.pid)
            .collect();
        if !with.is_empty() {
            return ROOT.fail(
                format!("open: process {} holds {name}", some(&with)),
                advise(UNPRIVILEGED),
            );
        }
    }
    let held =
        |process: &Process| (process.effective | process.permitted | process.ambient) & !HARMLESS;
    let with: Vec<&&Process> = processes.iter().filter(|p| held(p) != 0).collect();
    if let Some(first) = with.first() {
        let pids: Vec<u32> = with.iter().map(|p| p.pid).collect();
        let set = held(first);
        return ROOT.warn(
            format!("process {} holds capabilities (set {set:#x})", some(&pids)),
            run(format!("capsh --decode={set:x}")).and(UNPRIVILEGED),
        );
    }
    ROOT.ok("closed: no process of it is root, or holds any power but that of low ports")
}

/// To move, a process must write to the `cgroup.procs` of where it goes and of an ancestor that both
/// have (cgroups(7)); one that it may write to nowhere above its own cannot.
fn cgroup(seen: &Seen<'_>) -> Finding {
    for process in &seen.processes {
        let mut above = Path::new(&process.cgroup).parent();
        while let Some(path) = above {
            let procs = seen.host.mount.join(path).join("cgroup.procs");
            if let Ok(facts) = fs::metadata(&procs)
                && may(process, facts.uid(), facts.gid(), facts.mode(), WRITE)
            {
                return CGROUP.fail(
                    format!(
                        "open: process {} may write to {}",
                        process.pid,
                        procs.display()
                    ),
                    advise("Delegate=no in the units above it, and no root for the agent"),
                );
            }
            above = path.parent();
        }
    }
    CGROUP.ok("closed: it may write to no cgroup above its own")
}

fn daemon(seen: &Seen<'_>) -> Finding {
    let Ok(status) = &seen.host.status else {
        return DAEMON.unknown("no daemon lives", run("systemctl start hoop.service"));
    };
    let own = [Some(status.pid), status.worker.pid].into_iter().flatten();
    let own: Vec<Process> = own
        .filter_map(|pid| processes::one(Path::new("/proc"), pid))
        .collect();
    if own.is_empty() {
        return DAEMON.unknown("the daemon's processes cannot be read", as_root());
    }
    let same: Vec<u32> = seen
        .processes
        .iter()
        .filter(|process| {
            own.iter()
                .any(|hoop| process.uids.iter().any(|uid| hoop.runs_as(*uid)))
        })
        .map(|process| process.pid)
        .collect();
    match same.is_empty() {
        true => DAEMON.ok("closed: hoop runs as accounts of its own"),
        false => DAEMON.fail(
            format!("open: process {} runs as an account of hoop's", some(&same)),
            advise(UNPRIVILEGED),
        ),
    }
}

fn guests(seen: &Seen<'_>) -> Finding {
    let is_guest = |process: &&&Process| {
        let named = GUEST_PROGRAMS
            .iter()
            .any(|name| process.comm.starts_with(name));
        named
            || process
                .descriptors()
                .is_some_and(|all| all.iter().any(|(_, to)| to == "/dev/kvm"))
    };
    let guests: Vec<u32> = seen
        .processes
        .iter()
        .filter(is_guest)
        .map(|p| p.pid)
        .collect();
    match guests.is_empty() {
        true => GUESTS.ok("closed: it runs no guest"),
        false => GUESTS.fail(
            format!("open: process {} runs a guest", some(&guests)),
            advise("run the agent as an ordinary process or container (runtime runc or crun)"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::State;
    use super::*;

    #[test]
    fn root_and_its_powers_are_told() {
        let process = |uid, set| Process {
            pid: 7,
            uids: [uid; 4],
            effective: set,
            ..Process::default()
        };
        assert_eq!(root(&[&process(1001, 0)]).state, State::Ok);
        assert!(root(&[&process(0, 0)]).seen.contains("is root"));
        let setuid = root(&[&process(1001, 1 << 7)]);
        assert!(setuid.state == State::Fail && setuid.seen.contains("CAP_SETUID"));
        assert_eq!(
            root(&[&process(1001, 1 << CAP_NET_BIND_SERVICE)]).state,
            State::Ok
        );
        // What nobody thought of is told, too.
        for number in (0..41).filter(|number| *number != CAP_NET_BIND_SERVICE) {
            let found = root(&[&process(1001, 1 << number)]);
            assert_ne!(found.state, State::Ok, "{number}");
        }
        let admin = root(&[&process(1001, 1 << CAP_NET_ADMIN)]);
        assert!(admin.state == State::Fail && admin.seen.contains("CAP_NET_ADMIN"));
    }
}
