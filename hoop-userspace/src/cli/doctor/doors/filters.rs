//! What keeps an agent's processes from system calls: whether a process has a filter the kernel says,
//! and what a unit's filter refuses systemd does. Of any other filter nobody tells.

use std::collections::BTreeMap;

use super::super::finding::{Check, Finding, Remedy, advise};
use super::super::host::some;
use super::super::processes::Process;
use super::super::units::Unit;

const CONTAINER: &str = "in a container: neither --privileged nor --security-opt seccomp=unconfined, \
     a profile that refuses it (Docker's own does since version 25), and an account that is not root (--user)";

/// The processes by what filters their system calls.
#[derive(Default)]
pub struct Filters {
    /// Without any.
    none: Vec<u32>,
    units: Vec<Unit>,
    /// With one that something else than a service's unit set.
    opaque: Vec<u32>,
}

/// How a unit stands to something.
pub enum Refuses {
    Yes,
    No,
    /// But for programs of another kind, in words.
    Partly(&'static str),
}

impl Filters {
    pub fn of(processes: &[&Process], unit: impl Fn(&str) -> Option<Unit>) -> Self {
        let mut filters = Self::default();
        let mut units: BTreeMap<String, Option<Unit>> = BTreeMap::new();
        for process in processes {
            // A unit's filter binds what the unit started, and not what else was moved to its cgroup.
            if process.seccomp != 2 {
                filters.none.push(process.pid);
                continue;
            }
            let service = Unit::service_of(&process.cgroup);
            let known = service.and_then(|name| {
                let known = units.entry(name.to_owned()).or_insert_with(|| unit(name));
                known.as_ref()
            });
            if known.is_none() {
                filters.opaque.push(process.pid);
            }
        }
        filters.units = units.into_values().flatten().collect();
        filters
    }

    /// What they come to for one door. `open` makes the finding where it is open, with the remedy in
    /// a unit.
    pub fn judge(
        &self,
        check: Check,
        refuses: impl Fn(&Unit) -> Refuses,
        in_unit: &str,
        open: impl Fn(String, Remedy) -> Finding,
    ) -> Finding {
        if !self.none.is_empty() {
            let seen = format!(
                "open: process {} has no filter of system calls",
                some(&self.none)
            );
            return open(seen, advise(format!("{in_unit}; {CONTAINER}")));
        }
        for unit in &self.units {
            let name = &unit.name;
            match refuses(unit) {
                Refuses::Yes => {}
                Refuses::No => {
                    return open(format!("open: {name} allows it"), advise(in_unit));
                }
                Refuses::Partly(to) => {
                    let seen = format!("open {to}: {name} refuses it to others alone");
                    return open(seen, advise(in_unit));
                }
            }
        }
        if !self.opaque.is_empty() {
            let seen = format!(
                "process {} has a filter of system calls that no service's unit set: whether that refuses it cannot be read",
                some(&self.opaque)
            );
            return check.unknown(seen, advise(format!("{CONTAINER}; otherwise {in_unit}")));
        }
        let names: Vec<&str> = self.units.iter().map(|unit| unit.name.as_str()).collect();
        check.ok(format!("closed: {} refuses it", names.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::State;
    use super::*;

    const CHECK: Check = Check::new("door.x", "it matters");

    fn process(pid: u32, cgroup: &str, seccomp: u8) -> Process {
        Process {
            pid,
            cgroup: cgroup.into(),
            seccomp,
            ..Process::default()
        }
    }

    fn judged(processes: &[&Process]) -> Finding {
        let unit = |name: &str| {
            let refused = if name == "closed.service" {
                "~io_uring_setup"
            } else {
                ""
            };
            Some(Unit::parse(name, &format!("SystemCallFilter={refused}\n")))
        };
        let refuses = |unit: &Unit| match unit.refuses_call("io_uring_setup") {
            true => Refuses::Yes,
            false => Refuses::No,
        };
        let open = |seen, remedy| CHECK.fail(seen, remedy);
        Filters::of(processes, unit).judge(CHECK, refuses, "refuse it", open)
    }

    #[test]
    fn every_process_and_every_unit_counts() {
        let good = process(1, "agents.slice/closed.service", 2);
        assert_eq!(judged(&[&good]).state, State::Ok);
        // A unit says nothing of a process that something else put into its cgroup.
        let moved = judged(&[&good, &process(2, "agents.slice/closed.service", 0)]);
        assert!(
            moved.state == State::Fail && moved.seen.contains("process 2"),
            "{moved:?}"
        );
        let other = judged(&[&good, &process(3, "agents.slice/open.service", 2)]);
        assert!(
            other.state == State::Fail && other.seen.contains("open.service"),
            "{other:?}"
        );
    }

    #[test]
    fn of_a_containers_filter_nobody_tells() {
        for cgroup in ["agents.slice/docker-0a1b.scope", "agents.slice/pod/0a1b"] {
            let found = judged(&[&process(1, cgroup, 2)]);
            assert_eq!(found.state, State::Unknown, "{cgroup}");
            assert!(found.advice.unwrap().contains("seccomp"), "{cgroup}");
        }
        assert_eq!(
            judged(&[&process(1, "agents.slice/docker-0a1b.scope", 0)]).state,
            State::Fail
        );
    }
}
