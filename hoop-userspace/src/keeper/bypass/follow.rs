//! The keeper's part: it follows the list, whoever changed it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Broken, Ended, change, end_connections};
use crate::attribute::cgroup2_mount;
use crate::capture::{Bypasses, CaptureError, boot_now};
use crate::identify::{agent_for, groups};
use crate::keeper::cgroups::{self, Found};
use crate::keeper::governing::Governor;
use crate::keeper::journal::Entry;
use crate::keeper::status::{BypassStatus, stamp};
use crate::keeper::{Parts, folders, lock};

const EVERY: Duration = Duration::from_secs(1);

pub struct Follower {
    parts: Arc<Parts>,
    governor: Arc<Governor>,
    folder: PathBuf,
    map: Mutex<Bypasses>,
    /// One looks at a time, in the order in which the list changes.
    looking: Mutex<()>,
    /// Those whose beginning this keeper has written down, and what it last let pass for each.
    known: Mutex<BTreeMap<u64, Known>>,
}

#[derive(Clone)]
struct Known {
    broken: Broken,
    cgroups: BTreeMap<u64, String>,
}

impl Follower {
    /// What holds, or ended while no keeper lived, is taken care of before this returns.
    pub fn start(parts: Arc<Parts>, governor: Arc<Governor>) -> Result<Arc<Self>, CaptureError> {
        let config = parts.config();
        let map = Bypasses::open(&config.capture)?;
        let follower = Arc::new(Self {
            folder: config.worker.state.join(folders::KEEPER),
            parts,
            governor,
            map: Mutex::new(map),
            looking: Mutex::default(),
            known: Mutex::default(),
        });
        follower.look();
        tokio::spawn(follower.clone().follow());
        Ok(follower)
    }

    /// What holds now, for those who look.
    pub fn status(&self) -> Vec<BypassStatus> {
        let now = boot_now();
        let known = lock(&self.known);
        let holding = known.values().filter(|known| known.broken.holds(now));
        let status = |known: &Known| BypassStatus {
            agent: known.broken.agent.clone(),
            since: known.broken.since,
            until: known.broken.until,
            left_s: known.broken.left().as_secs(),
            by: known.broken.by.clone(),
            reason: known.broken.reason.clone(),
            cgroups: known.cgroups.values().cloned().collect(),
        };
        holding.map(status).collect()
    }

    /// Looks at the list now; on return what began or ended is written down.
    pub async fn sync(self: &Arc<Self>) {
        let follower = self.clone();
        // An upgrade in the middle would leave connections of a bypass that is off the list already.
        let _entered = self.parts.gate.enter();
        // It blocks for a moment: a lock that a command may hold, and the list of sockets.
        if let Err(error) = tokio::task::spawn_blocking(move || follower.look()).await {
            tracing::error!(%error, "the list of bypasses was not looked at");
        }
    }

    async fn follow(self: Arc<Self>) {
        let mut suspended = self.parts.suspended.subscribe();
        let mut tick = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                Ok(()) = suspended.changed() => {}
            }
            // A build that takes over looks first of all.
            self.parts.gate.open().await;
            self.sync().await;
        }
    }

    fn look(&self) {
        let _alone = lock(&self.looking);
        let now = boot_now();
        let suspended = self.parts.suspended.subscribe().borrow().clone();
        let step = change(&self.folder, |list| {
            for broken in list.iter_mut().filter(|broken| broken.holds(now)) {
                if suspended.iter().any(|s| s.agent.as_str() == broken.agent) {
                    broken.ended = Some(Ended {
                        by: "hoop".into(),
                        reason: "the agent was suspended".into(),
                    });
                }
            }
            let all = list.clone();
            list.retain(|broken| broken.holds(now));
            // Within the lock: what the list does not have, the map must not have afterwards.
            (all, self.write_map(list))
        });
        let all = match step {
            Ok((all, Ok(()))) => all,
            Ok((all, Err(error))) => {
                self.trouble(&error);
                all
            }
            Err(error) => {
                self.trouble(&error);
                return;
            }
        };
        let found = self.governor.found();
        let mut known = lock(&self.known);
        for broken in &all {
            let agents = self.of_agent(&found, &broken.agent);
            let first = !known.contains_key(&broken.number);
            if first {
                self.begun(broken, &agents);
            }
            let entry = known.entry(broken.number).or_insert_with(|| Known {
                broken: broken.clone(),
                cgroups: BTreeMap::new(),
            });
            entry.broken = broken.clone();
            entry.cgroups.extend(agents);
        }
        let over: Vec<u64> = known
            .values()
            .filter(|known| {
                let listed = all.iter().any(|b| b.number == known.broken.number);
                !listed || !known.broken.holds(now)
            })
            .map(|known| known.broken.number)
            .collect();
        let gone: Vec<Known> = over.iter().filter_map(|n| known.remove(n)).collect();
        drop(known);
        for gone in &gone {
            self.ended(gone, now);
        }
    }

    /// Lets pass what the list says, cgroups that have come since too, and nothing else.
    fn write_map(&self, holding: &[Broken]) -> Result<(), CaptureError> {
        let mut map = lock(&self.map);
        let numbers: BTreeSet<u64> = holding.iter().map(|broken| broken.number).collect();
        map.retain(&numbers)?;
        if holding.is_empty() {
            return Ok(());
        }
        let there: BTreeMap<u64, hoop_common::Bypass> = map.entries().into_iter().collect();
        let found = self.governor.found();
        for broken in holding {
            for id in self.of_agent(&found, &broken.agent).keys() {
                if there.get(id) != Some(&broken.entry()) {
                    map.set(*id, broken.entry())?;
                }
            }
        }
        Ok(())
    }

    fn of_agent(&self, found: &Found, agent: &str) -> BTreeMap<u64, String> {
        let config = self.parts.config();
        let look = self.parts.look(&config);
        let is_its = |(_, cgroup): &(&u64, &String)| {
            let its = agent_for(&config, cgroup, &look).known();
            // What is made below what passes, passes: not where that may be another agent's.
            its.is_some_and(|found| found.name.as_str() == agent)
                && !groups(&config.agents, cgroup, &look)
        };
        let its = found.iter().filter(is_its);
        its.map(|(id, cgroup)| (*id, cgroup.clone())).collect()
    }

    fn begun(&self, broken: &Broken, cgroups: &BTreeMap<u64, String>) {
        self.parts.journal.write(&Entry::BypassOpened {
            agent: broken.agent.clone(),
            by: broken.by.clone(),
            reason: broken.reason.clone(),
            since: stamp(broken.since),
            until: stamp(broken.until),
            cgroups: cgroups.values().cloned().collect(),
        });
    }

    fn ended(&self, gone: &Known, now: u64) {
        let broken = &gone.broken;
        let (by, reason) = match &broken.ended {
            Some(ended) => (ended.by.clone(), ended.reason.clone()),
            None if broken.entry().holds(now) => (
                "unknown".into(),
                "its entry in the list was taken away".into(),
            ),
            None => ("the kernel".into(), "its time was over".into()),
        };
        // What was made below meanwhile counts for it too.
        let mount = cgroup2_mount();
        let mut cgroups = gone.cgroups.clone();
        for cgroup in gone.cgroups.values() {
            cgroups.extend(cgroups::below(&mount, cgroup));
        }
        let config = self.parts.config();
        let ports = self.governor.ports();
        let resolvers = &config.capture.resolvers;
        let connections = end_connections(&mount, &cgroups, &ports, resolvers);
        self.parts.journal.write(&Entry::BypassEnded {
            agent: broken.agent.clone(),
            by,
            reason,
            connections,
        });
    }

    fn trouble(&self, error: &dyn std::fmt::Display) {
        // At every look: it must not be overlooked.
        tracing::error!(%error, "the list of bypasses and the kernel's map are not in step");
    }
}
