//! Other network namespaces: entered by a thread of its own, which ends there.
//!
//! A socket keeps the namespace it was made in, whatever thread uses it later: one short-lived
//! thread makes the listener, and the runtime's threads never leave home.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use nix::sched::{CloneFlags, setns};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use serde::{Deserialize, Serialize};

use super::AcceptError;
use crate::capture::sys;

/// The inode of the initial user namespace (`PROC_USER_INIT_INO`), the same on every kernel.
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// A network namespace that is not hoop's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Namespace {
    /// The kernel's own number, given once and never again.
    pub cookie: u64,
    /// As `lsns` and `/proc/PID/ns/net` show it; given again after its end.
    pub inode: u64,
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.inode)
    }
}

/// What was done there, and the namespace's inode.
pub struct Within<T> {
    pub result: Result<T, AcceptError>,
    pub inode: u64,
}

/// Runs `work` in the network namespace of a thread, if that belongs to the initial user
/// namespace.
pub async fn within<T: Send + 'static>(
    tgid: u32,
    tid: u32,
    work: impl FnOnce() -> Result<T, AcceptError> + Send + 'static,
) -> Result<Within<T>, AcceptError> {
    let failed = move |source| AcceptError::Enter { pid: tgid, source };
    // Namespaces belong to threads; the thread may have ended since.
    let namespace = File::open(format!("/proc/{tgid}/task/{tid}/ns/net"))
        .or_else(|_| File::open(format!("/proc/{tgid}/ns/net")))
        .map_err(failed)?;
    let inode = namespace.metadata().map_err(failed)?.ino();
    let owner = sys::owning_user_namespace(namespace.as_fd()).map_err(failed)?;
    if File::from(owner).metadata().map_err(failed)?.ino() != INITIAL_USER_NAMESPACE {
        return Err(AcceptError::Foreign { pid: tgid });
    }
    let result = enter(namespace, failed, work).await;
    Ok(Within { result, inode })
}

/// An unconnected TCP socket in that namespace, made by a thread of this process: its cgroup is
/// hoop's own, whoever lives in the namespace.
pub async fn socket(namespace: OwnedFd, v6: bool) -> Result<OwnedFd, AcceptError> {
    let family = match v6 {
        true => AddressFamily::INET6,
        false => AddressFamily::INET,
    };
    let make = move || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let made = socket_with(family, SocketType::STREAM, flags, None);
        made.map_err(|errno| AcceptError::Socket(errno.into()))
    };
    enter(namespace.into(), AcceptError::Socket, make).await
}

/// Runs `work` on a thread in that network namespace, which ends with it.
async fn enter<T: Send + 'static>(
    namespace: File,
    failed: impl Fn(std::io::Error) -> AcceptError + Copy + Send + 'static,
    work: impl FnOnce() -> Result<T, AcceptError> + Send + 'static,
) -> Result<T, AcceptError> {
    let (done, wait) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("hoop-netns".to_owned());
    let entering = move || {
        let entered = setns(&namespace, CloneFlags::CLONE_NEWNET);
        let entered = entered.map_err(|errno| failed(errno.into()));
        // Nobody waiting means that the daemon ends.
        let _ = done.send(entered.and_then(|()| work()));
    };
    thread.spawn(entering).map_err(failed)?;
    let gone = |_| failed(std::io::Error::other("its thread ended early"));
    wait.await.map_err(gone)?
}

/// The network namespaces that some process is in.
pub fn inhabited() -> HashSet<u64> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbered = processes.filter(|entry| {
        let name = entry.file_name();
        name.to_str()
            .is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()))
    });
    let namespaces = numbered.filter_map(|entry| {
        let metadata = std::fs::metadata(entry.path().join("ns/net")).ok()?;
        Some(metadata.ino())
    });
    namespaces.collect()
}
