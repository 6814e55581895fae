//! What holds for whom: the maps that the daemon writes and the programs read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use aya::maps::{HashMap, MapData, MapError};
use hoop_common::{ListenKey, mode};

use super::{Capture, CaptureError, kernel_address, lsm};
use crate::config::{self, Mode};

impl Capture {
    /// The modes by cgroup that are pinned, whether or not a daemon runs. A number that stands for no
    /// mode is enforced, as the programs have it.
    pub fn pinned_modes(config: &config::Capture) -> Result<BTreeMap<u64, Mode>, CaptureError> {
        let modes: HashMap<MapData, u64, u32> = super::pinned(config, "MODES")?;
        let found = modes.iter().filter_map(Result::ok);
        Ok(found.map(|(cgroup, code)| (cgroup, named(code))).collect())
    }

    /// Replaces the modes by cgroup. A cgroup without an entry counts as its nearest ancestor
    /// with one does, and without any as enforced.
    pub fn set_modes(&self, modes: &[(u64, Mode)]) -> Result<(), CaptureError> {
        let wanted = modes
            .iter()
            .map(|(cgroup, mode)| (*cgroup, code(*mode)))
            .collect();
        replace(
            "MODES",
            hoop_common::size::MODES,
            &mut self.inner().modes,
            &wanted,
        )
    }

    /// Replaces the resolvers whose port 53 agents may reach.
    pub fn set_resolvers(&self, resolvers: &[IpAddr]) -> Result<(), CaptureError> {
        let wanted = resolvers
            .iter()
            .map(|ip| (kernel_address(*ip), 1))
            .collect();
        replace(
            "RESOLVERS",
            hoop_common::size::RESOLVERS,
            &mut self.inner().resolvers,
            &wanted,
        )
    }

    /// Replaces the names of Unix sockets that agents are kept from.
    pub fn set_socket_names(&self, tier: &config::LsmTier) -> Result<(), CaptureError> {
        lsm::names::set(&mut self.inner().socket_names, tier)
    }

    /// Replaces the ports on which a cgroup, and all below it, may accept connections.
    pub fn set_listen_ports(&self, cgroup_id: u64, ports: &[u16]) -> Result<(), CaptureError> {
        let mut inner = self.inner();
        let others = inner.listen.keys().filter_map(Result::ok);
        let mut wanted: BTreeMap<_, _> = others
            .filter(|key| key.cgroup_id != cgroup_id)
            .map(|key| ((key.cgroup_id, key.port), 1))
            .collect();
        wanted.extend(ports.iter().map(|port| ((cgroup_id, *port), 1)));
        let wanted: Vec<_> = wanted.into_keys().collect();
        set_listen(&mut inner.listen, &wanted)
    }

    /// Forgets the listening ports of all cgroups but these.
    pub fn retain_listen_ports(&self, cgroups: &BTreeSet<u64>) -> Result<(), CaptureError> {
        let mut inner = self.inner();
        let keys = inner.listen.keys().filter_map(Result::ok);
        let kept: Vec<_> = keys
            .filter(|key| cgroups.contains(&key.cgroup_id))
            .map(|key| (key.cgroup_id, key.port))
            .collect();
        set_listen(&mut inner.listen, &kept)
    }
}

fn code(mode: Mode) -> u32 {
    match mode {
        Mode::Discover => mode::DISCOVER,
        Mode::Observe => mode::OBSERVE,
        Mode::Enforce => mode::ENFORCE,
    }
}

fn named(code: u32) -> Mode {
    match code {
        mode::DISCOVER => Mode::Discover,
        mode::OBSERVE => Mode::Observe,
        _ => Mode::Enforce,
    }
}

fn set_listen(
    map: &mut HashMap<MapData, ListenKey, u32>,
    wanted: &[(u64, u16)],
) -> Result<(), CaptureError> {
    let key = |&(cgroup_id, port): &(u64, u16)| ListenKey {
        cgroup_id,
        port,
        reserved: [0; 3],
    };
    let keys: std::collections::HashSet<ListenKey> = wanted.iter().map(key).collect();
    let unwanted: Vec<_> = map
        .keys()
        .filter_map(Result::ok)
        .filter(|k| !keys.contains(k))
        .collect();
    for key in unwanted {
        removed("LISTEN", map.remove(&key))?;
    }
    if keys.len() > hoop_common::size::LISTEN {
        return Err(CaptureError::TooMany {
            map: "LISTEN",
            most: hoop_common::size::LISTEN,
        });
    }
    let failed = |source| CaptureError::Map {
        map: "LISTEN",
        source,
    };
    keys.iter()
        .try_for_each(|key| map.insert(key, 1, 0).map_err(failed))
}

/// Makes the map hold exactly `wanted`. What goes is removed first, to make room.
fn replace<K: aya::Pod + Ord>(
    name: &'static str,
    most: usize,
    map: &mut HashMap<MapData, K, u32>,
    wanted: &BTreeMap<K, u32>,
) -> Result<(), CaptureError> {
    if wanted.len() > most {
        return Err(CaptureError::TooMany { map: name, most });
    }
    let held: BTreeMap<K, u32> = map.iter().filter_map(Result::ok).collect();
    for key in held.keys().filter(|key| !wanted.contains_key(key)) {
        removed(name, map.remove(key))?;
    }
    for (key, value) in wanted {
        if held.get(key) != Some(value) {
            let stored = map.insert(key, value, 0);
            stored.map_err(|source| CaptureError::Map { map: name, source })?;
        }
    }
    Ok(())
}

/// An entry that was gone already is as good as removed.
pub(super) fn removed(map: &'static str, result: Result<(), MapError>) -> Result<(), CaptureError> {
    match result {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(source) => Err(CaptureError::Map { map, source }),
    }
}
