//! Containers below the slice: whether the kernel programs see what they send, and whether it can be
//! told which agent each of them is.

use super::finding::{Check, Finding, advise};
use super::host::{Host, of_agent};
use crate::config::Config;
use crate::identify::{Choice, agent_for, covers};

const ISOLATED: Check = Check::new(
    "container.isolated",
    "a virtual machine or gVisor writes packets to a device by itself: the kernel programs, which are called where a process uses a socket, see none of them",
);
const KNOWN: Check = Check::new(
    "container.known",
    "a container whose runtime's word on it cannot be had is nobody's, and refused",
);
const PICKED: Check = Check::new(
    "container.picked",
    "an agent that picks containers is none where nothing fits, and its connections are another's or refused",
);
const ANOTHER_RUNTIME: &str = "run it with the host's kernel (docker run --runtime runc, a pod without such a runtimeClassName), or move it out of the slice and let the network hold it back; map it to no agent";
const FOLDERS: &str =
    "`hoop whoami --cgroup PATH` for each; [containers] says where the runtimes keep their state";
/// Findings of one kind.
const SHOWN: usize = 16;

pub fn check(host: &Host) -> Vec<Finding> {
    if !host.root {
        return vec![ISOLATED.needs_root()];
    }
    let mut found = isolated(host);
    if let Some(config) = &host.config
        && config.agents.iter().any(|agent| agent.pick.is_some())
    {
        found.push(known(host, config));
        found.extend(picked(host, config));
    }
    found
}

fn isolated(host: &Host) -> Vec<Finding> {
    let mut found = Vec::new();
    for cgroup in host.cgroups.values() {
        let Some(isolated) = host.isolated(cgroup) else {
            continue;
        };
        let seen = format!(
            "isolated by {}, because {}: hoop cannot govern it",
            isolated.by.text(),
            isolated.seen
        );
        found.push(
            ISOLATED
                .fail(seen, advise(ANOTHER_RUNTIME))
                .about(cgroup.clone()),
        );
        if found.len() >= SHOWN {
            return found;
        }
    }
    if found.is_empty() {
        let seen = format!(
            "none of {} cgroups is seen to be a virtual machine's or gVisor's",
            host.cgroups.len()
        );
        found.push(ISOLATED.ok(seen));
    }
    found
}

fn known(host: &Host, config: &Config) -> Finding {
    let look = |cgroup: &str| host.container(cgroup);
    let mut unknown = Vec::new();
    for cgroup in host.cgroups.values() {
        if let Choice::Unknown { perhaps, why } = agent_for(config, cgroup, &look) {
            unknown.push(format!("{cgroup} may be agent {}: {why}", perhaps.name));
        }
    }
    match unknown.len() {
        0 => KNOWN.ok("each container that an agent may be can be told"),
        more if more > SHOWN => {
            unknown.truncate(SHOWN);
            KNOWN.fail(
                format!("{} … {more} in all", unknown.join("; ")),
                advise(FOLDERS),
            )
        }
        _ => KNOWN.fail(unknown.join("; "), advise(FOLDERS)),
    }
}

fn picked(host: &Host, config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    for agent in &config.agents {
        let Some(pick) = &agent.pick else {
            continue;
        };
        let its = host.cgroups_of(agent).len();
        let finding = match its {
            0 => {
                let covered = host.cgroups.values().filter(|c| covers(&agent.cgroup, c));
                let seen = format!(
                    "none of the {} cgroups that {} covers is {pick}",
                    covered.count(),
                    agent.cgroup
                );
                PICKED.warn(seen, advise("start it, or correct its `container` or `pod`; `hoop whoami --cgroup PATH` says what a container is taken for"))
            }
            its => PICKED.ok(format!("{its} cgroups are {pick}")),
        };
        found.push(finding.about(of_agent(agent)));
    }
    found
}
