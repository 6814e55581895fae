//! The ways round the kernel hooks, one by one for each agent: closed, open, or not to be told.

mod filters;
mod hooked;
mod namespaces;
mod outside;
mod privileges;
mod sockets;

use super::finding::{Check, Finding, advise, run};
use super::hooks::{Glass, Opening};
use super::host::{Host, InForce, of_agent};
use super::processes::Process;
use super::units::Unit;
use super::{hooks, reach};
use crate::config::{Agent, Mode};
use filters::Filters;
use namespaces::Sockets;

/// One agent, and what is known of it.
pub struct Seen<'h> {
    pub host: &'h Host,
    pub agent: &'h Agent,
    pub processes: Vec<&'h Process>,
    /// What holds now; the file may say another one by then.
    pub mode: Option<Mode>,
    /// Whether the rest of what the file says of it holds now.
    pub as_the_file: bool,
    /// That the glass is broken for it.
    pub broken: Option<Opening>,
    /// What keeps each of its processes from system calls.
    pub filters: Filters,
    /// Whether every hook is attached, if that can be told.
    pub attached: Option<bool>,
    /// The LSM tier is on, and the agent's mode has it refuse.
    pub lsm: bool,
    /// TCP sockets of the host, where root asks.
    pub tcp: Option<&'h Sockets>,
    /// Sockets of the host that matter.
    pub sockets: &'h std::collections::BTreeSet<(reach::Behind, std::path::PathBuf)>,
}

pub fn check(host: &Host) -> Vec<Finding> {
    let attached = hooks::all_attached(host);
    let lsm = hooks::lsm_on(host);
    let openings = match hooks::glass(host) {
        Glass::Broken(openings) => openings,
        // A finding of its own says so.
        Glass::NeedsRoot | Glass::Unreadable(_) => Vec::new(),
    };
    let as_the_file = match &host.in_force {
        InForce::AsTheFile => true,
        InForce::Changed(_) | InForce::Another(_) => false,
        // Where no daemon lives the next one takes the file as it is.
        InForce::Unknown(_) => host.status.is_err(),
    };
    let sockets = reach::sockets(&host.processes);
    let tcp = host.root.then(|| namespaces::sockets(&host.processes));
    let mut found = Vec::new();
    for agent in host.agents() {
        let processes = host.processes_of(agent);
        let mode = host.mode_in_force(agent);
        let broken = openings.iter().find(|o| o.agent == agent.name.as_str());
        let seen = Seen {
            host,
            agent,
            filters: Filters::of(&processes, Unit::of),
            processes,
            mode,
            as_the_file,
            broken: broken.cloned(),
            attached,
            lsm: lsm && mode == Some(Mode::Enforce),
            tcp: tcp.as_ref(),
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

/// Where the mode that holds is not known.
pub fn no_mode(seen: &Seen<'_>, check: Check) -> Finding {
    match &seen.host.status {
        Ok(_) => check.unknown(
            "the daemon knows no such agent",
            run("systemctl reload hoop.service"),
        ),
        Err(_) if seen.host.root => check.unknown(
            "no daemon lives, and the kernel has no mode for it",
            run("systemctl start hoop.service"),
        ),
        Err(_) => check.needs_root(),
    }
}

/// What the LSM tier closes.
pub const BY_LSM: &str = "closed: the LSM tier refuses them";

/// Where only a process could tell.
pub fn no_process(check: Check) -> Finding {
    check.unknown(
        "no process of it runs",
        advise("start the agent, and look again"),
    )
}
