//! The programs in the kernel: attached to the slice as it is now, pinned, and not gone round.

use super::finding::{Check, Finding};
use super::host::Host;
use crate::capture::{Capture, HookHealth, Lsm, boot_now};
use crate::keeper::bypass::Kept;

const HOOKS: Check = Check::new(
    "hooks",
    "each program closes a way past hoop; a link to a cgroup that was removed closes none",
);
const BYPASS: Check = Check::new(
    "hooks.bypass",
    "while the glass is broken an agent's connections pass unseen and unrecorded",
);
const MEND: &str = "systemctl restart hoop.service; it attaches them anew";

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
                    .fail(problem, MEND)
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
        Err(error) => vec![HOOKS.fail(error.to_string(), MEND)],
    }
}

fn pinned(health: &[HookHealth]) -> Vec<Finding> {
    if health.iter().all(|hook| hook.program_id == 0) {
        return vec![HOOKS.fail("no program is pinned: nothing is governed", MEND)];
    }
    let lost: Vec<Finding> = health
        .iter()
        .filter(|hook| !hook.healthy)
        .map(|hook| {
            HOOKS
                .fail(problem(hook), MEND)
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

fn bypasses(host: &Host) -> Vec<Finding> {
    let warned = |agent: &str, until: String, by: &str, reason: &str| {
        BYPASS
            .warn(
                format!("the glass is broken until {until} by {by}: {reason}"),
                format!("hoop break-glass end --agent {agent}"),
            )
            .about(format!("agent {agent}"))
    };
    let stamp = crate::keeper::status::stamp;
    let found: Vec<Finding> = if let Ok(status) = &host.status {
        let all = status.bypasses.iter();
        all.map(|b| warned(&b.agent, stamp(b.until), &b.by, &b.reason))
            .collect()
    } else if let (true, Some(config)) = (host.root, &host.config) {
        match Kept::of(config).read() {
            Ok(all) => all
                .iter()
                .filter(|broken| broken.holds(boot_now()))
                .map(|b| warned(&b.agent, stamp(b.until), &b.by, &b.reason))
                .collect(),
            Err(error) => vec![BYPASS.fail(error.to_string(), "remove that file")],
        }
    } else {
        vec![BYPASS.needs_root()]
    };
    match found.is_empty() {
        true => vec![BYPASS.ok("the glass is whole for every agent")],
        false => found,
    }
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
