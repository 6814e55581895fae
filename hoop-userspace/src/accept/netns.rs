//! Other network namespaces: entered by a thread of its own, which ends there.
//!
//! A socket keeps the namespace it was made in, whatever thread uses it later: one short-lived
//! thread makes the listener, and the runtime's threads never leave home.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use nix::sched::{CloneFlags, setns};

use super::AcceptError;
use crate::capture::sys;

/// The inode of the initial user namespace (`PROC_USER_INIT_INO`), the same on every kernel.
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

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
    let (done, wait) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("hoop-netns".to_owned());
    let enter = move || {
        let entered = setns(&namespace, CloneFlags::CLONE_NEWNET);
        let entered = entered.map_err(|errno| failed(errno.into()));
        // Nobody waiting means that the daemon ends.
        let _ = done.send(entered.and_then(|()| work()));
    };
    thread.spawn(enter).map_err(failed)?;
    let gone = |_| failed(std::io::Error::other("its thread ended early"));
    let result = wait.await.map_err(gone)?;
    Ok(Within { result, inode })
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
