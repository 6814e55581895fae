//! Broken glass: which cgroups' connections go their own way, and until when.
//!
//! The map is pinned and opened by its own, so that this needs no daemon; the programs read it and
//! end every bypass by the kernel's clock.

use std::collections::BTreeSet;

use aya::maps::{HashMap, Map, MapData};
use hoop_common::Bypass;

use super::{CaptureError, pins, rules, sys};
use crate::config;

const NAME: &str = "BYPASS";

/// CLOCK_BOOTTIME in nanoseconds: what [`Bypass::until`] is compared with. Where it cannot be read,
/// everything has ended.
pub fn boot_now() -> u64 {
    sys::boot_now()
}

/// The kernel's map.
pub struct Bypasses(HashMap<MapData, u64, Bypass>);

impl Bypasses {
    /// Opens what is pinned. Only root can.
    pub fn open(config: &config::Capture) -> Result<Self, CaptureError> {
        let path = pins::Pins::at(&config.pins).maps().join(NAME);
        let data =
            MapData::from_pin(&path).map_err(|_| CaptureError::NoBypass(config.pins.clone()))?;
        let map = HashMap::try_from(Map::HashMap(data)).map_err(failed)?;
        Ok(Self(map))
    }

    /// All entries, by cgroup id; those that have ended too.
    pub fn entries(&self) -> Vec<(u64, Bypass)> {
        self.0.iter().filter_map(Result::ok).collect()
    }

    /// Lets a cgroup's connections pass. `until` too far ahead counts for nothing in the kernel.
    pub fn set(&mut self, cgroup: u64, bypass: Bypass) -> Result<(), CaptureError> {
        self.0.insert(cgroup, bypass, 0).map_err(failed)
    }

    /// The same, unless what is there lasts as long.
    pub fn extend(&mut self, cgroup: u64, bypass: Bypass) -> Result<(), CaptureError> {
        let now = boot_now();
        match self.0.get(&cgroup, 0) {
            Ok(there) if there.holds(now) && there.until >= bypass.until => Ok(()),
            _ => self.set(cgroup, bypass),
        }
    }

    /// Governs these cgroups again.
    pub fn remove(&mut self, cgroups: &BTreeSet<u64>) -> Result<(), CaptureError> {
        let mut each = cgroups.iter();
        each.try_for_each(|cgroup| rules::removed(NAME, self.0.remove(cgroup)))
    }

    /// Governs again what was let pass under this number.
    pub fn forget(&mut self, number: u64) -> Result<(), CaptureError> {
        let its = |(cgroup, bypass): (u64, Bypass)| (bypass.number == number).then_some(cgroup);
        let its = self.entries().into_iter().filter_map(its).collect();
        self.remove(&its)
    }

    /// Governs again what was let pass under any other number than these; says which cgroups.
    pub fn retain(&mut self, numbers: &BTreeSet<u64>) -> Result<BTreeSet<u64>, CaptureError> {
        let over =
            |(cgroup, bypass): (u64, Bypass)| (!numbers.contains(&bypass.number)).then_some(cgroup);
        let over: BTreeSet<u64> = self.entries().into_iter().filter_map(over).collect();
        self.remove(&over)?;
        Ok(over)
    }
}

fn failed(source: aya::maps::MapError) -> CaptureError {
    CaptureError::Map { map: NAME, source }
}
