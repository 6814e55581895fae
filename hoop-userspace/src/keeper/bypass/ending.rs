//! The end of connections that a bypass let pass.
//!
//! The kernel programs let no packet of theirs through any more; this tells both ends, so that
//! nobody waits for what will not come.

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
    for namespace in namespaces(mount, cgroups.values()) {
        let (ids, ports, resolvers) = (&ids, ports, resolvers);
        // A thread of its own, which ends there: namespaces belong to threads.
        ended += std::thread::scope(|scope| {
            let work = scope.spawn(move || {
                setns(&namespace, CloneFlags::CLONE_NEWNET).ok()?;
                Some(end_here(ids, ports, resolvers))
            });
            work.join().ok().flatten().unwrap_or(0)
        });
    }
    ended
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

/// One open file for each network namespace that a process of these cgroups is in.
fn namespaces<'c>(mount: &Path, cgroups: impl Iterator<Item = &'c String>) -> Vec<File> {
    let mut found = BTreeMap::new();
    for cgroup in cgroups {
        let procs = std::fs::read_to_string(mount.join(cgroup).join("cgroup.procs"));
        for pid in procs.unwrap_or_default().lines() {
            let opened = File::open(format!("/proc/{pid}/ns/net"));
            let inode = opened
                .as_ref()
                .ok()
                .and_then(|file| Some(file.metadata().ok()?.ino()));
            if let (Ok(file), Some(inode)) = (opened, inode) {
                found.entry(inode).or_insert(file);
            }
        }
    }
    found.into_values().collect()
}
