//! The cgroups below the governed slice, as they come and go.
//!
//! inotify says that something changed; what there is now is always read afresh, so that a missed
//! or overflowing notice costs time and not correctness. A cgroup that is not known yet counts as
//! its parent does, and without one as enforced: the gap between creation and notice is closed.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;

/// Read again this often even if nothing was noticed.
const RESCAN: Duration = Duration::from_secs(5);
/// Changes that follow each other within this time are read together.
const SETTLE: Duration = Duration::from_millis(5);
/// Cgroups that are followed; those beyond count as their parents do.
const MAX_CGROUPS: usize = 16_384;
const MAX_DEPTH: usize = 32;
/// Of one cgroup below the slice: whoever may make cgroups in a container makes no more of them known.
const MAX_CHILDREN: usize = 1024;

/// What a cgroup that `hoop exec` makes is called, before the number of its process.
pub const BY_HAND: &str = "hoop-exec-";

/// Path below the mount, by cgroup id.
pub type Found = BTreeMap<u64, String>;

pub struct Watcher {
    mount: PathBuf,
    slice: String,
    /// No pipe, but read like one.
    inotify: Receiver,
}

impl Watcher {
    pub fn new(mount: &Path, slice: &str) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let slice = slice.trim_matches('/').to_owned();
        Ok(Self {
            mount: mount.to_owned(),
            slice,
            inotify: Receiver::from_owned_fd_unchecked(inotify)?,
        })
    }

    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// Waits until something may have changed.
    pub async fn changed(&mut self) {
        if tokio::time::timeout(RESCAN, self.inotify.readable())
            .await
            .is_ok()
        {
            tokio::time::sleep(SETTLE).await;
        }
        // Which cgroup it was does not matter; the queue's end shows as an error.
        let mut buffer = [0; 4096];
        while self
            .inotify
            .try_read(&mut buffer)
            .is_ok_and(|read| read > 0)
        {}
    }

    /// All cgroups that there are now, those of fewer levels first. Each is watched from before its
    /// children are read.
    pub fn scan(&self) -> Found {
        let mut found = Found::new();
        // A slice that is removed and made again is seen from above alone. Where that cannot be
        // watched, it is rescanned.
        if let Some(above) = self.mount.join(&self.slice).parent() {
            let flags = WatchFlags::CREATE | WatchFlags::MOVE | WatchFlags::ONLYDIR;
            let _ = inotify::add_watch(&self.inotify, above, flags);
        }
        let mut open = VecDeque::from([(self.slice.clone(), 0)]);
        while let Some((below, depth)) = open.pop_front() {
            let path = self.mount.join(&below);
            let flags =
                WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE | WatchFlags::ONLYDIR;
            // A cgroup that has just gone is no error; the watch goes with it.
            let watched = inotify::add_watch(&self.inotify, &path, flags);
            let Ok(metadata) = std::fs::metadata(&path) else {
                continue;
            };
            if let Err(errno) = watched {
                tracing::debug!(%errno, cgroup = below, "a cgroup cannot be watched; it is rescanned");
            }
            let room = MAX_CGROUPS.saturating_sub(found.len() + open.len() + 1);
            let most = match depth {
                0 => room,
                _ => room.min(MAX_CHILDREN),
            };
            if !put(&mut open, &path, &below, depth, most) {
                tracing::warn!(
                    cgroup = below,
                    "too many cgroups; the rest count as their parents do"
                );
            }
            found.insert(metadata.ino(), below);
        }
        found
    }
}

/// Puts a cgroup's children behind those that are open; says whether all of them.
fn put(
    open: &mut VecDeque<(String, usize)>,
    path: &Path,
    below: &str,
    depth: usize,
    most: usize,
) -> bool {
    if depth >= MAX_DEPTH {
        return true;
    }
    let mut children = children(path).map(|name| (format!("{below}/{name}"), depth + 1));
    open.extend(children.by_ref().take(most));
    children.next().is_none()
}

/// The cgroup and all below it, once and without watching them. One that is not there has none.
pub fn below(mount: &Path, cgroup: &str) -> Found {
    let mut found = Found::new();
    let mut open = VecDeque::from([(cgroup.trim_matches('/').to_owned(), 0)]);
    while let Some((below, depth)) = open.pop_front() {
        let path = mount.join(&below);
        let Ok(metadata) = std::fs::metadata(&path) else {
            continue;
        };
        let room = MAX_CGROUPS.saturating_sub(found.len() + open.len() + 1);
        // Here none of one agent's own may be missed for being many.
        if !put(&mut open, &path, &below, depth, room) {
            tracing::warn!(
                cgroup = below,
                "too many cgroups; not all are looked through"
            );
        }
        found.insert(metadata.ino(), below);
    }
    found
}

fn children(path: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_and_goes_is_noticed_at_any_depth() {
        let mount = tempfile::tempdir().unwrap();
        let slice = mount.path().join("agents.slice");
        std::fs::create_dir_all(slice.join("a/b")).unwrap();
        let mut watcher = Watcher::new(mount.path(), "/agents.slice").unwrap();
        let paths = |found: Found| {
            let mut paths: Vec<_> = found.into_values().collect();
            paths.sort();
            paths
        };
        assert_eq!(
            paths(watcher.scan()),
            ["agents.slice", "agents.slice/a", "agents.slice/a/b"]
        );
        assert_eq!(below(mount.path(), "/agents.slice/a"), {
            let mut a = watcher.scan();
            a.retain(|_, path| path.starts_with("agents.slice/a"));
            a
        });
        std::fs::create_dir(slice.join("a/b/c")).unwrap();
        let noticed = tokio::time::timeout(Duration::from_secs(2), watcher.changed());
        noticed.await.unwrap();
        assert!(paths(watcher.scan()).contains(&"agents.slice/a/b/c".to_owned()));
        std::fs::remove_dir(slice.join("a/b/c")).unwrap();
        watcher.changed().await;
        assert_eq!(watcher.scan().len(), 3);
        // The slice itself, removed and made again.
        std::fs::remove_dir_all(&slice).unwrap();
        watcher.changed().await;
        assert_eq!(watcher.scan().len(), 0);
        std::fs::create_dir(&slice).unwrap();
        let noticed = tokio::time::timeout(Duration::from_secs(2), watcher.changed());
        noticed.await.unwrap();
        assert_eq!(paths(watcher.scan()), ["agents.slice"]);
    }

    #[tokio::test]
    async fn one_containers_cgroups_push_no_others_out() {
        let mount = tempfile::tempdir().unwrap();
        let slice = mount.path().join("agents.slice");
        for n in 0..MAX_CHILDREN + 50 {
            std::fs::create_dir_all(slice.join(format!("greedy/{n}"))).unwrap();
        }
        std::fs::create_dir_all(slice.join("other/below")).unwrap();
        let watcher = Watcher::new(mount.path(), "agents.slice").unwrap();
        let found = watcher.scan();
        assert_eq!(found.len(), 1 + 2 + MAX_CHILDREN + 1);
        assert!(
            found
                .values()
                .any(|path| path == "agents.slice/other/below")
        );
        // What is to be ended with all that is below it is looked through to its end.
        let all = below(mount.path(), "agents.slice/greedy");
        assert_eq!(all.len(), 1 + MAX_CHILDREN + 50);
        // With room for little the first levels are what is known.
        let mut open = VecDeque::new();
        assert!(!put(&mut open, &slice, "agents.slice", 0, 1));
        assert_eq!(open.len(), 1);
        assert!(put(
            &mut open,
            &slice.join("other"),
            "agents.slice/other",
            1,
            1
        ));
    }
}
