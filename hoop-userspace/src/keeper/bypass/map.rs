//! What the kernel's map should have, from the list and the cgroups that there are.

use std::collections::{BTreeMap, BTreeSet};

use hoop_common::Bypass;

use super::Broken;
use crate::keeper::cgroups::Found;

/// What is to be changed in the map.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Steps {
    pub set: BTreeMap<u64, Bypass>,
    /// Cgroups that are another agent's by now, or nobody's.
    pub taken: BTreeSet<u64>,
}

/// `holding` are the bypasses that hold, each with its agent's cgroups; `there` is what the map has of
/// these bypasses' numbers. Where an agent has several, the last to end counts for each cgroup.
pub fn steps(
    holding: &[(&Broken, BTreeMap<u64, String>)],
    found: &Found,
    there: &BTreeMap<u64, Bypass>,
) -> Steps {
    let mut wanted: BTreeMap<u64, Bypass> = BTreeMap::new();
    for (broken, cgroups) in holding {
        for id in cgroups.keys() {
            let entry = wanted.entry(*id).or_insert_with(|| broken.entry());
            if entry.until < broken.until_boot {
                *entry = broken.entry();
            }
        }
    }
    // One that is not found yet may have been set by the command a moment ago, for it is the agent's.
    let taken = there
        .keys()
        .filter(|id| found.contains_key(id) && !wanted.contains_key(id));
    let taken = taken.copied().collect();
    wanted.retain(|id, entry| there.get(id) != Some(entry));
    Steps { set: wanted, taken }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn broken(agent: &str, seconds: u64) -> Broken {
        let mut broken = Broken::new(agent, Duration::from_secs(seconds), "root", "x");
        broken.begun = true;
        broken.number += seconds;
        broken
    }

    fn its(ids: &[u64]) -> BTreeMap<u64, String> {
        ids.iter().map(|id| (*id, format!("c{id}"))).collect()
    }

    #[test]
    fn the_last_to_end_counts_whichever_was_said_first() {
        let (short, long) = (broken("bot", 60), broken("bot", 600));
        let found = its(&[1, 2]);
        for holding in [
            [(&short, its(&[1, 2])), (&long, its(&[1, 2]))],
            [(&long, its(&[1, 2])), (&short, its(&[1, 2]))],
        ] {
            let steps = |there: &BTreeMap<u64, Bypass>| steps(&holding, &found, there);
            let first = steps(&BTreeMap::new()).set;
            assert_eq!(
                first,
                BTreeMap::from([(1, long.entry()), (2, long.entry())])
            );
            // And then it stays: nothing goes back and forth.
            assert_eq!(steps(&first), Steps::default());
        }
    }

    #[test]
    fn a_cgroup_that_is_anothers_by_now_is_governed_again() {
        let broken = broken("bot", 60);
        let entry = broken.entry();
        let there = BTreeMap::from([(1, entry), (2, entry), (3, entry)]);
        let found = its(&[1, 2]);
        let steps = steps(&[(&broken, its(&[1]))], &found, &there);
        assert_eq!(steps.taken, BTreeSet::from([2]));
        assert!(steps.set.is_empty());
    }
}
