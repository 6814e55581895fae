//! Containers below the slice whose packets the kernel programs do not see, written down once each.
//!
//! A runtime moves its processes into a cgroup a moment after it has made it, so a new cgroup is looked
//! at for a while.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::cgroups::Found;
use super::journal::Entry;
use super::{Parts, lock};

/// How long a cgroup counts as new.
const YOUNG: Duration = Duration::from_secs(60);
/// Cgroups that are looked at at once; those beyond wait for the next look.
const AT_ONCE: usize = 256;

/// New cgroups that have shown nothing yet, and all that were seen.
#[derive(Default)]
pub struct Nursery(Mutex<BTreeMap<u64, Stage>>);

#[derive(Clone, Copy)]
enum Stage {
    Since(Instant),
    Done,
}

impl Nursery {
    /// Looks at what is new among all that there are now. Reads `/proc`.
    pub fn look(&self, parts: &Parts, found: &Found) {
        let now = Instant::now();
        let mut known = lock(&self.0);
        known.retain(|id, _| found.contains_key(id));
        let config = parts.config();
        let mut looked = 0;
        for (id, cgroup) in found {
            let stage = known.entry(*id).or_insert(Stage::Since(now));
            let Stage::Since(since) = *stage else {
                continue;
            };
            if looked >= AT_ONCE {
                break;
            }
            looked += 1;
            let isolated = parts.containers.isolated(&config.containers, cgroup, None);
            if let Some(isolated) = &isolated {
                parts.journal.write(&Entry::Isolated {
                    cgroup: cgroup.clone(),
                    by: isolated.by,
                    seen: isolated.seen.clone(),
                });
            }
            if isolated.is_some() || now.duration_since(since) > YOUNG {
                *stage = Stage::Done;
            }
        }
    }
}
