//! The daemon's two processes: whether they live, what they say of themselves, and what they may do.

use std::path::Path;

use super::finding::{Check, Finding, as_root, quoted, run};
use super::host::{Host, InForce};
use super::processes::{self, CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_SYS_PTRACE, Process};
use crate::keeper::control::AskError;
use crate::keeper::status::Status;

const ANSWERS: Check = Check::new(
    "daemon",
    "without the daemon every governed connection is refused",
);
const RELOAD: Check = Check::new(
    "daemon.config",
    "a file that was not taken is not in force: the one before is",
);
const WORKER: Check = Check::new(
    "daemon.worker",
    "the worker does all that is between an agent and a server",
);
const KEEPER_CAPABILITIES: Check = Check::new(
    "daemon.capabilities",
    "the keeper needs these to hold agents back, and anything more is a gift to whoever takes it over",
);
const WORKER_PRIVILEGES: Check = Check::new(
    "daemon.worker_privileges",
    "the worker reads what agents and servers send: it must have nothing to give away",
);
const RESTART: &str = "systemctl restart hoop.service";
const SHIPPED: &str = "start it by the unit that hoop ships: drop-ins of it (`systemctl cat hoop`) may take away, or add";

/// What the unit gives the keeper; docs/adr/keeper-capabilities.md justifies each.
const KEPT: [u32; 14] = [
    0,
    1,
    2,
    3,
    5,
    6,
    7,
    8,
    CAP_NET_ADMIN,
    CAP_SYS_PTRACE,
    CAP_SYS_ADMIN,
    24,
    38,
    CAP_BPF,
];
const NEEDED: [(u32, &str); 4] = [
    (CAP_BPF, "CAP_BPF"),
    (CAP_NET_ADMIN, "CAP_NET_ADMIN"),
    (CAP_SYS_ADMIN, "CAP_SYS_ADMIN"),
    (CAP_SYS_PTRACE, "CAP_SYS_PTRACE"),
];

pub fn check(host: &Host) -> Vec<Finding> {
    let status = match &host.status {
        Ok(status) => status,
        Err(error) => return vec![silent(error)],
    };
    let mut found = vec![
        ANSWERS.ok(format!(
            "hoop {} answers, keeper {}",
            status.version, status.pid
        )),
        reload(host, status),
        worker(status),
    ];
    let of = |pid| processes::one(Path::new("/proc"), pid);
    found.push(match of(status.pid) {
        Some(keeper) => capabilities(&keeper),
        None => KEEPER_CAPABILITIES.unknown("the keeper's process cannot be read", as_root()),
    });
    found.push(match status.worker.pid.and_then(of) {
        Some(worker) => privileges(&worker),
        None => WORKER_PRIVILEGES.unknown("there is no worker to look at", run(RESTART)),
    });
    found
}

fn silent(error: &AskError) -> Finding {
    match error {
        AskError::Connect { source, .. }
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            ANSWERS.unknown("you may not ask the daemon", as_root())
        }
        // A restart would end every session; an upgrade in place ends none.
        AskError::Malformed(_) => ANSWERS.fail(
            "a daemon of another version answers",
            run("hoop upgrade").and("if that refuses, its words say whether a restart is needed"),
        ),
        other => ANSWERS.fail(
            other.to_string(),
            run("systemctl start hoop.service").and(
                "`journalctl -u hoop` says why it ended; `hoop break-glass` lets one agent pass meanwhile",
            ),
        ),
    }
}

fn reload(host: &Host, status: &Status) -> Finding {
    let path = quoted(&status.config.display().to_string());
    let again = || {
        run(format!(
            "hoop check --config {path} && systemctl reload hoop.service"
        ))
    };
    let epoch = status.reload.epoch;
    if let Some(error) = &status.reload.error {
        return RELOAD.fail(format!("the file was not taken: {error}"), again());
    }
    match &host.in_force {
        InForce::AsTheFile => RELOAD.ok(format!("epoch {epoch} is the file as it is")),
        InForce::Changed(why) => RELOAD.warn(format!("epoch {epoch} is in force: {why}"), again()),
        InForce::Another(own) => RELOAD.warn(
            format!(
                "the daemon was started with {}, not with this file",
                own.display()
            ),
            run(format!("hoop doctor --config {path}")),
        ),
        InForce::Unknown(why) => RELOAD.unknown(
            format!("whether epoch {epoch} is the file as it is cannot be told: {why}"),
            run("hoop upgrade"),
        ),
    }
}

fn worker(status: &Status) -> Finding {
    match (status.worker.ready, status.worker.restarts) {
        (false, _) => WORKER.fail(
            "it is not ready",
            run("journalctl -u hoop.service").and("its last lines say why"),
        ),
        (true, 0) => WORKER.ok("ready"),
        (true, n) => WORKER.warn(
            format!("ready, after {n} restarts"),
            run("hoop events").and("that says why each ended"),
        ),
    }
}

fn capabilities(keeper: &Process) -> Finding {
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(number, _)| keeper.effective >> number & 1 == 0)
        .map(|(_, name)| *name)
        .collect();
    let kept = KEPT.iter().fold(0_u64, |set, number| set | 1 << number);
    let more = (keeper.permitted | keeper.bounding) & !kept;
    if !missing.is_empty() {
        let seen = format!("it lacks {}", missing.join(", "));
        return KEEPER_CAPABILITIES.fail(seen, run(RESTART).and(SHIPPED));
    }
    match more {
        0 => KEEPER_CAPABILITIES.ok("what the unit gives, and no more"),
        more => KEEPER_CAPABILITIES.warn(
            format!(
                "{} more than the unit gives (set {more:#x})",
                more.count_ones()
            ),
            run(RESTART).and(SHIPPED),
        ),
    }
}

fn privileges(worker: &Process) -> Finding {
    let sets =
        worker.effective | worker.permitted | worker.bounding | worker.ambient | worker.inheritable;
    let mut wrong = Vec::new();
    if sets != 0 {
        wrong.push(format!("it has capabilities (set {sets:#x})"));
    }
    if worker.runs_as(0) {
        wrong.push("it is root".into());
    }
    if !worker.no_new_privileges {
        wrong.push("it can gain privileges".into());
    }
    if worker.seccomp != 2 {
        wrong.push("it has no seccomp filter".into());
    }
    match wrong.is_empty() {
        true => WORKER_PRIVILEGES.ok("no capability, no new privileges, a seccomp filter"),
        false => WORKER_PRIVILEGES.fail(wrong.join(", "), run(RESTART)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn a_keeper_with_less_fails_and_one_with_more_is_warned_of() {
        let kept = KEPT.iter().fold(0_u64, |set, number| set | 1 << number);
        let keeper = |set| Process {
            effective: set,
            permitted: set,
            bounding: set,
            ..Process::default()
        };
        assert_eq!(capabilities(&keeper(kept)).state, State::Ok);
        assert_eq!(capabilities(&keeper(u64::MAX)).state, State::Warn);
        let less = capabilities(&keeper(kept & !(1 << CAP_BPF)));
        assert!(less.state == State::Fail && less.seen.contains("CAP_BPF"));
    }

    #[test]
    fn a_worker_must_have_nothing() {
        let good = Process {
            uids: [7; 4],
            no_new_privileges: true,
            seccomp: 2,
            ..Process::default()
        };
        assert_eq!(privileges(&good).state, State::Ok);
        for bad in [
            Process {
                seccomp: 0,
                ..good.clone()
            },
            Process {
                bounding: 1,
                ..good.clone()
            },
            Process {
                uids: [0; 4],
                ..good.clone()
            },
            Process {
                no_new_privileges: false,
                ..good.clone()
            },
        ] {
            assert_eq!(privileges(&bad).state, State::Fail);
        }
    }
}
