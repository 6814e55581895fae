//! The programs in the kernel: attached to the slice as it is now, pinned, and not gone round.

use std::path::{Path, PathBuf};

use super::finding::{Check, Finding, Remedy, advise, quoted, run};
use super::host::{Host, RUNTIME, STATE};
use crate::capture::{Capture, HookHealth, Lsm, boot_now};
use crate::keeper::bypass::Kept;
use crate::keeper::folders::KEEPER;
use crate::keeper::status::stamp;

const HOOKS: Check = Check::new(
    "hooks",
    "each program closes a way past hoop; a link to a cgroup that was removed closes none",
);
const BYPASS: Check = Check::new(
    "hooks.bypass",
    "while the glass is broken an agent's connections pass unseen and unrecorded",
);
const RESTART: &str = "systemctl restart hoop.service";

pub fn check(host: &Host) -> Vec<Finding> {
    let mut found = hooks(host);
    found.extend(bypasses(host));
    found
}

/// Whether every program is where it should be; `None` if that cannot be told.
pub fn all_attached(host: &Host) -> Option<bool> {
    if let Ok(status) = &host.status {
        return Some(!status.hooks.is_empty() && status.hooks.iter().all(|hook| hook.attached));
    }
    if !host.root {
        return None;
    }
    let health = Capture::pinned_health(&host.capture()).ok()?;
    Some(health.iter().all(|hook| hook.healthy))
}

/// Whether the LSM tier is on; not where that cannot be told.
pub fn lsm_on(host: &Host) -> bool {
    match &host.status {
        Ok(status) => status.lsm.on,
        Err(_) => matches!(Capture::pinned_lsm(&host.capture()), Ok(Lsm::On(_))),
    }
}

fn hooks(host: &Host) -> Vec<Finding> {
    if let Ok(status) = &host.status {
        let lost = status.hooks.iter().filter(|hook| !hook.attached);
        let mut found: Vec<Finding> = lost
            .map(|hook| {
                let problem = hook
                    .problem
                    .clone()
                    .unwrap_or_else(|| "not attached".into());
                HOOKS
                    .fail(problem, run(RESTART).and("it attaches them anew"))
                    .about(format!("hook {}", hook.name))
            })
            .collect();
        if found.is_empty() {
            let (count, slice) = (status.hooks.len(), &status.attached_to);
            found.push(HOOKS.ok(format!(
                "all {count} are attached to {slice}, as the daemon says"
            )));
        }
        return found;
    }
    if !host.root {
        return vec![HOOKS.needs_root()];
    }
    match Capture::pinned_health(&host.capture()) {
        Ok(health) => pinned(&health),
        Err(error) => {
            vec![HOOKS.fail(error.to_string(), run(RESTART).and("it attaches them anew"))]
        }
    }
}

fn pinned(health: &[HookHealth]) -> Vec<Finding> {
    if health.iter().all(|hook| hook.program_id == 0) {
        return vec![HOOKS.fail(
            "no program is pinned: nothing is governed",
            run(RESTART).and("it attaches them anew"),
        )];
    }
    let lost: Vec<Finding> = health
        .iter()
        .filter(|hook| !hook.healthy)
        .map(|hook| {
            HOOKS
                .fail(problem(hook), run(RESTART).and("it attaches them anew"))
                .about(format!("hook {}", hook.hook))
        })
        .collect();
    match lost.is_empty() {
        true => vec![HOOKS.ok(format!(
            "all {} are attached, as their pins say",
            health.len()
        ))],
        false => lost,
    }
}

fn problem(hook: &HookHealth) -> String {
    match hook {
        HookHealth { program_id: 0, .. } => "it is not attached".into(),
        HookHealth { expected: 0, .. } => "the slice does not exist".into(),
        HookHealth { attached_to: 0, .. } => {
            "its link is defunct: the cgroup that it was attached to was removed".into()
        }
        HookHealth { pinned: false, .. } => "its pin is gone: it ends with the daemon".into(),
        _ => format!(
            "it is attached to cgroup {} instead of {}",
            hook.attached_to, hook.expected
        ),
    }
}

/// For whom the glass is broken.
pub enum Glass {
    Broken(Vec<Opening>),
    NeedsRoot,
    Unreadable(String),
}

/// One breaking of it.
#[derive(Clone, Debug)]
pub struct Opening {
    pub agent: String,
    pub until: String,
    by: String,
    reason: String,
}

impl Opening {
    /// What governs the agent again.
    pub fn remedy(&self) -> Remedy {
        run(format!(
            "hoop break-glass end --agent {}",
            quoted(&self.agent)
        ))
    }
}

/// By the daemon's word or, without one, by the list.
pub fn glass(host: &Host) -> Glass {
    let opening = |agent: &str, until, by: &str, reason: &str| Opening {
        agent: agent.to_owned(),
        until: stamp(until),
        by: by.to_owned(),
        reason: reason.to_owned(),
    };
    if let Ok(status) = &host.status {
        let all = status.bypasses.iter();
        return Glass::Broken(
            all.map(|b| opening(&b.agent, b.until, &b.by, &b.reason))
                .collect(),
        );
    }
    if !host.root {
        return Glass::NeedsRoot;
    }
    // Without a configuration by the usual paths, as `hoop break-glass list` goes.
    let worker = host.config.as_ref().map(|config| &config.worker);
    let usual = || (Path::new(STATE).join(KEEPER), PathBuf::from(RUNTIME));
    let (keeper, runtime) = worker.map_or_else(usual, |worker| {
        (worker.state.join(KEEPER), worker.runtime.clone())
    });
    match Kept::new(&keeper, &runtime).read() {
        Ok(all) => {
            let holding = all.iter().filter(|broken| broken.holds(boot_now()));
            Glass::Broken(
                holding
                    .map(|b| opening(&b.agent, b.until, &b.by, &b.reason))
                    .collect(),
            )
        }
        Err(error) => Glass::Unreadable(error.to_string()),
    }
}

fn bypasses(host: &Host) -> Vec<Finding> {
    let openings = match glass(host) {
        Glass::Broken(openings) => openings,
        Glass::NeedsRoot => return vec![BYPASS.needs_root()],
        Glass::Unreadable(why) => {
            return vec![BYPASS.fail(
                why,
                advise("remove that file, once you know what became of it"),
            )];
        }
    };
    if openings.is_empty() {
        return vec![BYPASS.ok("the glass is whole for every agent")];
    }
    let warned = |opening: &Opening| {
        let Opening {
            until, by, reason, ..
        } = opening;
        let seen = format!("the glass is broken until {until} by {by}: {reason}");
        let about = format!("agent {}", opening.agent);
        BYPASS.warn(seen, opening.remedy()).about(about)
    };
    openings.iter().map(warned).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    fn health(healthy: bool, attached_to: u64, pinned: bool, program_id: u32) -> HookHealth {
        HookHealth {
            hook: "hoop_egress",
            healthy,
            attached_to,
            expected: 7,
            pinned,
            program_id,
        }
    }

    #[test]
    fn a_defunct_link_is_told_from_one_that_is_not_there() {
        let all = [health(true, 7, true, 3), health(false, 0, true, 4)];
        let found = pinned(&all);
        assert_eq!(found.len(), 1);
        assert!(found[0].seen.contains("defunct"), "{found:?}");
        assert!(
            pinned(&[health(false, 0, false, 0)])[0]
                .seen
                .contains("nothing is governed")
        );
        assert_eq!(pinned(&[health(true, 7, true, 3)])[0].state, State::Ok);
    }
}
