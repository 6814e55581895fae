//! Doors that are other programs: what the agent can have do for it what it may not do itself.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::super::finding::{Check, Finding, advise};
use super::super::processes::Process;
use super::super::reach::{Behind, Reach, reach};
use super::{Seen, no_process};
use crate::config::SocketPattern;

const DATABASE: Check = Check::new(
    "door.local_database",
    "a database on this host that is reached by its Unix socket is not governed",
);
const STARTERS: Check = Check::new(
    "door.starters",
    "who can have a process started elsewhere (a container engine, systemd-run, D-Bus) has one that nobody governs",
);
const TIMERS: Check = Check::new(
    "door.cron",
    "cron and at start processes outside of the agent's cgroup",
);
const HIDE: &str =
    "InaccessiblePaths= in the agent's unit (see agent.service.d-hoop.conf), then restart it";
/// Set-group-ID programs that put a job into somebody's table.
const TIMER_PROGRAMS: [&str; 2] = ["/usr/bin/crontab", "/usr/bin/at"];

pub fn check(seen: &Seen<'_>) -> Vec<Finding> {
    if seen.processes.is_empty() {
        return [DATABASE, STARTERS, TIMERS].map(no_process).into();
    }
    vec![
        sockets(
            seen,
            DATABASE,
            Behind::Database,
            "chmod or move the socket so that the agent's account may not use it, or hide it",
        ),
        sockets(seen, STARTERS, Behind::Starter, HIDE),
        timers(&seen.processes),
    ]
}

fn sockets(seen: &Seen<'_>, check: Check, wanted: Behind, mend: &str) -> Finding {
    let mut paths: Vec<PathBuf> = seen
        .sockets
        .iter()
        .filter(|(behind, _)| *behind == wanted)
        .map(|(_, path)| path.clone())
        .collect();
    if wanted == Behind::Starter {
        // The account's own service manager.
        let own = |process: &&Process| format!("/run/user/{}/systemd/private", process.uids[1]);
        paths.extend(seen.processes.iter().map(own).map(PathBuf::from));
    }
    paths.sort();
    paths.dedup();
    let count = paths.len();
    // What the file has refused may not be what the kernel has.
    let by_tier = seen.lsm && seen.as_the_file;
    if by_tier {
        let refused = seen.host.capture().lsm.refused;
        paths.retain(|path| !refused.iter().any(|pattern| is_refused(pattern, path)));
    }
    let mut unseen = false;
    let mut open: Vec<String> = Vec::new();
    for path in &paths {
        for process in &seen.processes {
            // Its own view of the files is behind a link that only root and its owner may follow.
            unseen |= std::fs::metadata(process.path("root")).is_err();
            if reach(process, path) == Reach::Open {
                open.push(format!("{} (process {})", path.display(), process.pid));
                break;
            }
        }
    }
    match (open.is_empty(), unseen) {
        (false, _) => check.fail(format!("open: {}", open.join(", ")), advise(mend)),
        (true, true) => check.needs_root(),
        (true, false) => check.ok(format!(
            "closed: none of {count} such sockets may be used{}",
            if by_tier {
                ", by the LSM tier for those of [capture] refused_sockets"
            } else {
                ""
            }
        )),
    }
}

fn is_refused(pattern: &SocketPattern, path: &Path) -> bool {
    let file = path.file_name().map(|name| name.as_bytes());
    pattern.fits(path.as_os_str().as_bytes(), file)
}

fn timers(processes: &[&Process]) -> Finding {
    let there = TIMER_PROGRAMS.iter().find(|path| Path::new(path).exists());
    let Some(program) = there else {
        return TIMERS.ok("closed: neither crontab nor at is installed");
    };
    match processes.iter().find(|process| !process.no_new_privileges) {
        None => TIMERS.ok("closed: its processes gain no privileges, so neither crontab nor at works"),
        Some(process) => TIMERS.warn(
            format!("open: process {} may run {program}", process.pid),
            advise("NoNewPrivileges=yes in the agent's unit, or its account in /etc/cron.deny and /etc/at.deny"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::State;
    use super::*;

    #[test]
    fn cron_is_closed_where_no_privileges_are_gained() {
        let process = |no_new_privileges| Process {
            no_new_privileges,
            ..Process::default()
        };
        assert_eq!(timers(&[&process(true)]).state, State::Ok);
        let open = timers(&[&process(true), &process(false)]);
        let installed = TIMER_PROGRAMS.iter().any(|path| Path::new(path).exists());
        assert_eq!(open.state == State::Warn, installed);
    }
}
