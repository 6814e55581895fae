//! The keeper's part: it follows the list, whoever changed it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::map::{Steps, steps};
use super::{Broken, Ended, Kept, end_connections};
use crate::attribute::cgroup2_mount;
use crate::capture::{Bypasses, CaptureError, boot_now};
use crate::identify::{agent_for, groups};
use crate::keeper::cgroups::{self, Found};
use crate::keeper::governing::Governor;
use crate::keeper::journal::Entry;
use crate::keeper::status::{BypassStatus, stamp};
use crate::keeper::{Parts, lock};

const EVERY: Duration = Duration::from_secs(1);
/// A ledger that took nothing is tried again after so long.
const AGAIN: Duration = Duration::from_secs(30);

pub struct Follower {
    parts: Arc<Parts>,
    governor: Arc<Governor>,
    kept: Kept,
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
    written: Written,
}

/// Whether the ledger has that it was opened.
#[derive(Clone, Copy)]
enum Written {
    Yes,
    NotYet,
    Failed(Instant),
}

impl Written {
    fn is_due(self) -> bool {
        match self {
            Self::Yes => false,
            Self::NotYet => true,
            Self::Failed(at) => at.elapsed() > AGAIN,
        }
    }
}

impl Follower {
    /// What holds, or ended while no keeper lived, is taken care of before this returns.
    pub fn start(parts: Arc<Parts>, governor: Arc<Governor>) -> Result<Arc<Self>, CaptureError> {
        let config = parts.config();
        let map = Bypasses::open(&config.capture)?;
        let follower = Arc::new(Self {
            kept: Kept::of(&config),
            parts,
            governor,
            map: Mutex::new(map),
            looking: Mutex::default(),
            known: Mutex::default(),
        });
        // Said by itself, and tried again every second.
        let _ = follower.look();
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

    /// Looks at the list now. On return what began or ended is written down, as well as the ledger
    /// takes it; an error says that the map may not have what the list says.
    pub async fn sync(self: &Arc<Self>) -> Result<(), String> {
        let follower = self.clone();
        // An upgrade in the middle would leave connections of a bypass that is off the list already.
        let _entered = self.parts.gate.enter();
        // It blocks for a moment: a lock that a command may hold, and the list of sockets.
        let looked = tokio::task::spawn_blocking(move || follower.look()).await;
        looked.map_err(|error| self.trouble(&error))?
    }

    /// Whether the ledger has this one.
    pub fn is_written(&self, number: u64) -> bool {
        let known = lock(&self.known);
        let found = known.get(&number);
        found.is_some_and(|known| matches!(known.written, Written::Yes))
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
            // Said by itself, and tried again at the next tick.
            let _ = self.sync().await;
        }
    }

    fn look(&self) -> Result<(), String> {
        let _alone = lock(&self.looking);
        let now = boot_now();
        let suspended = self.parts.suspended.subscribe().borrow().clone();
        let step = self.kept.change(|list| {
            let goes_on = |broken: &&mut Broken| broken.holds(now) || broken.is_announced(now);
            for broken in list.iter_mut().filter(goes_on) {
                if suspended.iter().any(|s| s.agent.as_str() == broken.agent) {
                    broken.ended = Some(Ended {
                        by: "hoop".into(),
                        reason: "the agent was suspended".into(),
                    });
                }
            }
            let all = list.clone();
            list.retain(|broken| broken.holds(now) || broken.is_announced(now));
            let holding: Vec<&Broken> = list.iter().filter(|broken| broken.holds(now)).collect();
            // Within the lock: what the list does not have, the map must not have afterwards.
            (all, self.write_map(&holding))
        });
        let (all, written) = step.map_err(|error| self.trouble(&error))?;
        let (covered, taken, result) = match written {
            Ok((covered, taken)) => (covered, taken, Ok(())),
            Err(error) => (BTreeMap::new(), BTreeMap::new(), Err(self.trouble(&error))),
        };
        if !taken.is_empty() {
            self.end(&taken);
        }
        for gone in self.note(&all, &taken, now) {
            self.ended(&gone, &covered, now);
        }
        result
    }

    /// Writes down what is new, and returns what is over.
    fn note(&self, all: &[Broken], taken: &BTreeMap<u64, String>, now: u64) -> Vec<Known> {
        let found = self.governor.found();
        let mut known = lock(&self.known);
        for broken in all {
            let agents = self.of_agent(&found, &broken.agent);
            let entry = known.entry(broken.number).or_insert_with(|| Known {
                broken: broken.clone(),
                cgroups: BTreeMap::new(),
                written: Written::NotYet,
            });
            entry.broken = broken.clone();
            if entry.written.is_due() {
                entry.written = match self.begun(broken, &agents) {
                    Ok(()) => Written::Yes,
                    Err(_) => Written::Failed(Instant::now()),
                };
            }
            if broken.begun {
                entry.cgroups.extend(agents);
            }
        }
        for known in known.values_mut() {
            known.cgroups.retain(|id, _| !taken.contains_key(id));
        }
        let over: Vec<u64> = known
            .values()
            .filter(|known| {
                let listed = all.iter().any(|b| b.number == known.broken.number);
                let goes_on = known.broken.holds(now) || known.broken.is_announced(now);
                !listed || !goes_on
            })
            .map(|known| known.broken.number)
            .collect();
        over.iter().filter_map(|n| known.remove(n)).collect()
    }

    /// Lets pass what the list says, cgroups that have come since too, and nothing else. Says which
    /// cgroups pass, and which did and are another agent's by now.
    fn write_map(&self, holding: &[&Broken]) -> Result<(Found, Found), CaptureError> {
        let mut map = lock(&self.map);
        let numbers: BTreeSet<u64> = holding.iter().map(|broken| broken.number).collect();
        map.retain(&numbers)?;
        if holding.is_empty() {
            return Ok((Found::new(), Found::new()));
        }
        let found = self.governor.found();
        let with_cgroups: Vec<(&Broken, BTreeMap<u64, String>)> = holding
            .iter()
            .map(|broken| (*broken, self.of_agent(&found, &broken.agent)))
            .collect();
        let there = map.entries().into_iter().collect();
        let Steps { set, taken } = steps(&with_cgroups, &found, &there);
        for (id, entry) in set {
            map.set(id, entry)?;
        }
        map.remove(&taken)?;
        let taken_with = |id: u64| Some((id, found.get(&id)?.clone()));
        let taken = taken.into_iter().filter_map(taken_with);
        let covered = with_cgroups.into_iter().flat_map(|(_, cgroups)| cgroups);
        Ok((covered.collect(), taken.collect()))
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

    fn begun(&self, broken: &Broken, cgroups: &BTreeMap<u64, String>) -> Result<(), String> {
        self.parts.journal.must(&Entry::BypassOpened {
            agent: broken.agent.clone(),
            by: broken.by.clone(),
            reason: broken.reason.clone(),
            since: stamp(broken.since),
            until: stamp(broken.until),
            cgroups: cgroups.values().cloned().collect(),
        })
    }

    /// `covered` passes by another bypass, which goes on.
    fn ended(&self, gone: &Known, covered: &BTreeMap<u64, String>, now: u64) {
        let broken = &gone.broken;
        let (by, reason) = match &broken.ended {
            Some(ended) => (ended.by.clone(), ended.reason.clone()),
            None if !broken.begun => (
                "hoop".into(),
                "it did not begin: whoever announced it let it be, or went away".into(),
            ),
            None if broken.entry().holds(now) => (
                "unknown".into(),
                "its entry in the list was taken away".into(),
            ),
            None => ("the kernel".into(), "its time was over".into()),
        };
        let mut cgroups = self.with_below(&gone.cgroups);
        for id in self.with_below(covered).keys() {
            cgroups.remove(id);
        }
        self.parts.journal.write(&Entry::BypassEnded {
            agent: broken.agent.clone(),
            by,
            reason,
            connections: self.end(&cgroups),
        });
    }

    /// What was made below meanwhile counts for it too.
    fn with_below(&self, of: &BTreeMap<u64, String>) -> BTreeMap<u64, String> {
        let mount = cgroup2_mount();
        let mut all = of.clone();
        for cgroup in of.values() {
            all.extend(cgroups::below(&mount, cgroup));
        }
        all
    }

    fn end(&self, cgroups: &BTreeMap<u64, String>) -> usize {
        let config = self.parts.config();
        let ports = self.governor.ports();
        let resolvers = &config.capture.resolvers;
        end_connections(&cgroup2_mount(), cgroups, &ports, resolvers)
    }

    fn trouble(&self, error: &dyn std::fmt::Display) -> String {
        // At every look: it must not be overlooked.
        tracing::error!(%error, "the list of bypasses and the kernel's map are not in step");
        error.to_string()
    }
}
