//! Containers whose network is not the host's kernel's: gVisor, and virtual machines such as Kata's.
//!
//! What runs in them opens no socket that the hooks of a cgroup could see: gVisor's own network stack
//! and a guest's kernel write packets to a device. They are told by what the runtime wrote down, by the
//! cgroup's name and by what runs there; none of these is a proof that a container is *not* isolated.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::{Process, proc::Proc};

/// What stands between a container and the host's kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    Gvisor,
    VirtualMachine,
}

/// An isolation, and what showed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolated {
    pub by: Isolation,
    pub seen: String,
}

impl Isolation {
    pub fn text(self) -> &'static str {
        match self {
            Self::Gvisor => "gVisor",
            Self::VirtualMachine => "a virtual machine",
        }
    }
}

/// Parts of the names under which runtimes are configured and shims are called.
const RUNTIMES: [(&str, Isolation); 7] = [
    ("runsc", Isolation::Gvisor),
    ("gvisor", Isolation::Gvisor),
    ("kata", Isolation::VirtualMachine),
    ("firecracker", Isolation::VirtualMachine),
    ("cloud-hypervisor", Isolation::VirtualMachine),
    ("krun", Isolation::VirtualMachine),
    ("urunc", Isolation::VirtualMachine),
];

/// Programs that are a sandbox or a virtual machine, by the beginning of their file's name.
const PROGRAMS: [(&str, Isolation); 9] = [
    ("runsc", Isolation::Gvisor),
    ("containerd-shim-runsc", Isolation::Gvisor),
    ("containerd-shim-kata", Isolation::VirtualMachine),
    ("kata-runtime", Isolation::VirtualMachine),
    ("qemu-system-", Isolation::VirtualMachine),
    ("cloud-hypervisor", Isolation::VirtualMachine),
    ("firecracker", Isolation::VirtualMachine),
    ("stratovirt", Isolation::VirtualMachine),
    ("virtiofsd", Isolation::VirtualMachine),
];

/// Processes of a cgroup that are looked at.
const MAX_PROCESSES: usize = 64;

/// By the name of a runtime (`io.containerd.kata.v2`, `runsc`, a shim's path), or of a class of them.
pub(super) fn of_runtime(name: &str) -> Option<Isolated> {
    let last = name.trim().rsplit('/').next()?.to_ascii_lowercase();
    let known = RUNTIMES.iter().find(|(part, _)| last.contains(part));
    known.map(|(_, by)| Isolated {
        by: *by,
        seen: format!("its runtime is {last}"),
    })
}

/// By the process that opened a connection.
pub(super) fn of_process(process: &Process) -> Option<Isolated> {
    let executable = process.executable.as_deref();
    of_program(executable, process.argv.first().map(String::as_str))
}

/// By a cgroup's name.
pub(super) fn of_name(cgroup: &str) -> Option<Isolated> {
    let level = cgroup.split('/').find(|level| is_katas(level))?;
    Some(Isolated {
        by: Isolation::VirtualMachine,
        seen: format!("Kata Containers calls its cgroups like {level}"),
    })
}

/// By what runs in a cgroup now.
pub(super) fn of_cgroup(mount: &Path, cgroup: &str) -> Option<Isolated> {
    let procs = std::fs::read_to_string(mount.join(cgroup).join("cgroup.procs")).ok()?;
    let pids = procs.lines().filter_map(|pid| pid.parse().ok());
    pids.take(MAX_PROCESSES).find_map(|pid| {
        let proc = Proc::of(Path::new("/proc"), pid);
        let first = proc.first_argument();
        of_program(proc.executable().as_deref(), first.as_deref())
    })
}

/// `kata_overhead`, `kata_ID` and, of the systemd driver, `cri-containerd:kata_overhead:ID` and its like.
fn is_katas(level: &str) -> bool {
    level
        .split([':', '-'])
        .any(|part| part.starts_with("kata_"))
}

/// gVisor runs itself again from a descriptor, under another name in its arguments.
fn of_program(executable: Option<&Path>, first: Option<&str>) -> Option<Isolated> {
    let name = executable
        .and_then(Path::file_name)
        .and_then(|n| n.to_str());
    let first = first.and_then(|first| first.rsplit('/').next());
    let by_file = |name: &str| {
        let known = PROGRAMS.iter().find(|(start, _)| is_program(name, start));
        known.map(|(_, by)| *by)
    };
    // An agent chooses its arguments: they count only for the names that gVisor gives itself.
    let by_argument = |first: &str| {
        let own = ["runsc-sandbox", "runsc-gofer"].contains(&first);
        own.then_some(Isolation::Gvisor)
    };
    let of_file = name.and_then(|name| Some((by_file(name)?, name)));
    let of_argument = || first.and_then(|first| Some((by_argument(first)?, first)));
    let (by, name) = of_file.or_else(of_argument)?;
    Some(Isolated {
        by,
        seen: format!("{name} runs in it"),
    })
}

/// The name itself, or with something behind a dash or dot: `runsc` is no `runscript`.
fn is_program(name: &str, start: &str) -> bool {
    name.strip_prefix(start)
        .is_some_and(|rest| rest.is_empty() || start.ends_with('-') || rest.starts_with(['-', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_by_their_names() {
        for (name, by) in [
            ("io.containerd.kata.v2", Isolation::VirtualMachine),
            ("io.containerd.kata-qemu.v2", Isolation::VirtualMachine),
            ("kata-runtime", Isolation::VirtualMachine),
            ("runsc", Isolation::Gvisor),
            ("io.containerd.runsc.v1", Isolation::Gvisor),
            (
                "/usr/local/bin/containerd-shim-runsc-v1\n",
                Isolation::Gvisor,
            ),
            (
                "/opt/kata/bin/containerd-shim-kata-v2",
                Isolation::VirtualMachine,
            ),
        ] {
            assert_eq!(of_runtime(name).map(|i| i.by), Some(by), "{name}");
        }
        for name in ["runc", "crun", "io.containerd.runc.v2", "/opt/kata/x/runc"] {
            assert_eq!(of_runtime(name), None, "{name}");
        }
    }

    #[test]
    fn programs_by_their_files_and_gvisor_by_what_it_calls_itself() {
        let of = |file: &str, first: &str| {
            of_program(Some(Path::new(file)), Some(first)).map(|isolated| isolated.by)
        };
        let (vm, gvisor) = (Isolation::VirtualMachine, Isolation::Gvisor);
        assert_eq!(of("/usr/bin/qemu-system-x86_64", "qemu"), Some(vm));
        assert_eq!(of("/opt/kata/bin/cloud-hypervisor", ""), Some(vm));
        assert_eq!(of("/usr/local/bin/runsc", "runsc-sandbox"), Some(gvisor));
        assert_eq!(of("/memfd:exe", "/proc/self/runsc-sandbox"), Some(gvisor));
        for (file, first) in [
            ("/usr/bin/psql", "psql"),
            ("/usr/bin/runscript", "runsc"),
            ("/usr/bin/psql", "qemu-system-x86_64"),
            ("/usr/bin/qemu-img", "x"),
        ] {
            assert_eq!(of(file, first), None, "{file} {first}");
        }
        assert_eq!(of_program(None, None), None);
    }

    #[test]
    fn katas_cgroups_by_their_names() {
        for cgroup in [
            "kubepods/pod1/kata_0123",
            "kata_overhead/0123",
            "kubepods.slice/kubepods-pod1.slice/cri-containerd-kata_overhead.scope",
        ] {
            assert!(of_name(cgroup).is_some(), "{cgroup}");
        }
        for cgroup in ["agents.slice/katarina.service", "agents.slice/bot.service"] {
            assert_eq!(of_name(cgroup), None, "{cgroup}");
        }
    }
}
