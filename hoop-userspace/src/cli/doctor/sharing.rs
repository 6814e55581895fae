//! Whether an agent's account is its own: who shares it can read its files, use its sockets and act
//! for it, from outside of every hook.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::{Check, Finding, advise};
use super::host::{Host, of_agent, some};
use super::processes::Process;

const SHARED: Check = Check::new(
    "agent.account",
    "a process of the same account outside the agent's cgroup is not governed, and can be used by the agent through files, sockets and signals",
);
const MEND: &str = "give the agent an account of its own: User= or DynamicUser=yes in its unit";

pub fn check(host: &Host) -> Vec<Finding> {
    let one = |agent| {
        let own = host.processes_of(agent);
        judge(&own, &host.processes).about(of_agent(agent))
    };
    host.agents().iter().map(one).collect()
}

fn judge(own: &[&Process], all: &[Process]) -> Finding {
    if own.is_empty() {
        return SHARED.unknown(
            "no process of it runs",
            advise("start the agent, and look again"),
        );
    }
    let pids: BTreeSet<u32> = own.iter().map(|process| process.pid).collect();
    let uids: BTreeSet<u32> = own.iter().flat_map(|process| process.uids).collect();
    if uids.contains(&0) {
        return SHARED.fail("it runs as root", advise(MEND));
    }
    let mut others: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for process in all.iter().filter(|process| !pids.contains(&process.pid)) {
        let shared: BTreeSet<u32> = process
            .uids
            .iter()
            .filter(|u| uids.contains(u))
            .copied()
            .collect();
        for uid in shared {
            others.entry(uid).or_default().push(process.pid);
        }
    }
    let shown: Vec<String> = others
        .iter()
        .map(|(uid, pids)| format!("uid {uid} also runs process {}", some(pids)))
        .collect();
    match shown.is_empty() {
        true => {
            let uids: Vec<String> = uids.iter().map(u32::to_string).collect();
            SHARED.ok(format!("uid {} runs nothing else", uids.join(", ")))
        }
        false => SHARED.fail(shown.join("; "), advise(MEND)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    fn process(pid: u32, uid: u32) -> Process {
        Process {
            pid,
            uids: [uid; 4],
            ..Process::default()
        }
    }

    #[test]
    fn who_shares_the_account_is_named() {
        let own = process(1, 1001);
        let judged = |others: &[Process]| judge(&[&own], others);
        assert_eq!(judged(&[own.clone(), process(2, 1002)]).state, State::Ok);
        let shared = judged(&[process(2, 1001), process(3, 1001), process(4, 5)]);
        assert!(
            shared.state == State::Fail && shared.seen.contains("process 2, 3"),
            "{shared:?}"
        );
        // One that has only saved the account's number can become it again.
        let mut saved = process(5, 1002);
        saved.uids[2] = 1001;
        assert_eq!(judged(&[saved]).state, State::Fail);
        assert_eq!(judge(&[&process(1, 0)], &[]).state, State::Fail);
        assert_eq!(judge(&[], &[own]).state, State::Unknown);
    }
}
