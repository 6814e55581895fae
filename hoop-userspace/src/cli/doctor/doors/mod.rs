//! The ways round the kernel hooks, one by one for each agent: closed, open, or not to be told.

mod hooked;
mod outside;
mod privileges;
mod sockets;

use super::finding::{Check, Finding};
use super::host::{Host, of_agent};
use super::processes::Process;
use super::units::Unit;
use super::{hooks, reach};
use crate::config::{Agent, Mode};

/// One agent, and what is known of it.
pub struct Seen<'h> {
    pub host: &'h Host,
    pub agent: &'h Agent,
    pub processes: Vec<&'h Process>,
    /// The unit of its first process.
    pub unit: Option<Unit>,
    /// Whether every hook is attached, if that can be told.
    pub attached: Option<bool>,
    /// The LSM tier is on, and the agent's mode has it refuse.
    pub lsm: bool,
    /// Sockets of the host that matter.
    pub sockets: &'h std::collections::BTreeSet<(reach::Behind, std::path::PathBuf)>,
}

pub fn check(host: &Host) -> Vec<Finding> {
    let attached = hooks::all_attached(host);
    let lsm = hooks::lsm_on(host);
    let sockets = reach::sockets();
    let mut found = Vec::new();
    for agent in host.agents() {
        let processes = host.processes_of(agent);
        let unit = processes.first().and_then(|p| Unit::of(&p.cgroup));
        let seen = Seen {
            host,
            agent,
            processes,
            unit,
            attached,
            lsm: lsm && agent.mode == Mode::Enforce,
            sockets: &sockets,
        };
        let doors = hooked::check(&seen)
            .into_iter()
            .chain(sockets::check(&seen))
            .chain(privileges::check(&seen))
            .chain(outside::check(&seen));
        found.extend(doors.map(|finding| finding.about(of_agent(agent))));
    }
    found
}

/// What the LSM tier closes.
pub const BY_LSM: &str = "closed: the LSM tier refuses them";

/// Where only a process could tell.
pub fn no_process(check: Check) -> Finding {
    check.unknown("no process of it runs", "start the agent, and look again")
}
