//! The end of connections that a bypass let pass.
//!
//! The kernel programs let no packet of theirs through any more; this tells both ends, so that
//! nobody waits for what will not come.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sched::{CloneFlags, setns};

use crate::capture::sockets::{self, past_the_daemon};

/// Ends what these cgroups' processes have open past the daemon, in whatever network namespace.
/// `ports` are the daemon's own. Returns how many were ended; where one cannot be, the programs
/// still drop its packets. Blocks.
pub fn end_connections(
    mount: &Path,
    cgroups: &BTreeMap<u64, String>,
    ports: &[u16],
    resolvers: &[IpAddr],
) -> usize {
    let ids: BTreeSet<u64> = cgroups.keys().copied().collect();
    let mut ended = 0;
    for namespace in namespaces(processes(mount, cgroups.values())) {
        ended += within(&namespace, || end_here(&ids, ports, resolvers)).unwrap_or(0);
    }
    ended
}

/// Does something in a network namespace; `None` where that cannot be entered.
pub fn within<T: Send>(namespace: &File, work: impl FnOnce() -> T + Send) -> Option<T> {
    // A thread of its own, which ends there: namespaces belong to threads.
    std::thread::scope(|scope| {
        let inside = scope.spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).ok()?;
            Some(work())
        });
        inside.join().ok().flatten()
    })
}

fn end_here(cgroups: &BTreeSet<u64>, ports: &[u16], resolvers: &[IpAddr]) -> usize {
    let sockets = match sockets::tcp() {
        Ok(sockets) => sockets.all,
        Err(error) => {
            tracing::warn!(%error, "connections past hoop cannot be listed; their packets are dropped");
            return 0;
        }
    };
    let mut ended = 0;
    for socket in past_the_daemon(&sockets, cgroups, ports, resolvers) {
        match sockets::destroy(socket) {
            Ok(()) => ended += 1,
            Err(error) => {
                let peer = socket.peer;
                tracing::warn!(%error, %peer, "a connection past hoop cannot be ended; its packets are dropped");
            }
        }
    }
    ended
}

fn processes<'c>(mount: &Path, cgroups: impl Iterator<Item = &'c String>) -> Vec<u32> {
    let of_cgroup = |cgroup: &'c String| {
        let procs = std::fs::read_to_string(mount.join(cgroup).join("cgroup.procs"));
        let procs = procs.unwrap_or_default();
        let pids: Vec<u32> = procs.lines().filter_map(|pid| pid.parse().ok()).collect();
        pids
    };
    cgroups.flat_map(of_cgroup).collect()
}

/// One open file for each network namespace that one of these processes is in.
pub fn namespaces(processes: impl IntoIterator<Item = u32>) -> Vec<File> {
    let mut found = BTreeMap::new();
    for pid in processes {
        let path = format!("/proc/{pid}/ns/net");
        // Looked at first: most are in one that is open already.
        let Some(inode) = std::fs::metadata(&path).ok().map(|about| about.ino()) else {
            continue;
        };
        if let Entry::Vacant(place) = found.entry(inode)
            && let Ok(file) = File::open(&path)
        {
            place.insert(file);
        }
    }
    found.into_values().collect()
}
