//! From the kernel's cgroup ids to paths below the cgroup2 mount.
//!
//! The id is the inode number of the cgroup's directory. `open_by_handle_at` would resolve it in
//! one call, but safe Rust has no door to it, and the process's own `/proc` entry answers almost
//! always; a walk of the tree is left for processes that have gone, and its answers are kept.

use std::collections::VecDeque;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use lru::LruCache;

const CACHED: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
/// Directories that one walk looks at; the kernel's own default allows no more than INT_MAX,
/// real hosts have hundreds.
const MAX_WALK: usize = 65_536;

/// The cgroup2 tree, with the paths found so far. A cgroup cannot be renamed and its id is not
/// given again while the host runs, so what was found stays true, after its removal too.
pub struct Cgroups {
    mount: PathBuf,
    found: Mutex<LruCache<u64, String>>,
}

impl Cgroups {
    pub fn new(mount: PathBuf) -> Self {
        Self {
            mount,
            found: Mutex::new(LruCache::new(CACHED)),
        }
    }

    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// The path of a cgroup. `hint` is where the process says it is: believed if the id agrees.
    /// `None` if the cgroup was removed before anyone asked.
    pub fn path(&self, id: u64, hint: Option<&str>) -> Option<String> {
        if let Some(path) = self.cached(id) {
            return Some(path);
        }
        let path = hint
            .filter(|hint| self.id(hint) == Some(id))
            .map(str::to_owned)
            .or_else(|| self.walk(id))?;
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.put(id, path.clone());
        Some(path)
    }

    /// The id of the cgroup at a path.
    pub fn id(&self, path: &str) -> Option<u64> {
        let meta = fs::metadata(self.mount.join(path.trim_start_matches('/'))).ok()?;
        meta.is_dir().then(|| meta.ino())
    }

    fn cached(&self, id: u64) -> Option<String> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.get(&id).cloned()
    }

    /// Breadth first, because agents' cgroups lie near the top.
    fn walk(&self, id: u64) -> Option<String> {
        if self.id("") == Some(id) {
            return Some(String::new());
        }
        let mut open = VecDeque::from([String::new()]);
        let mut seen = 0;
        while let Some(parent) = open.pop_front() {
            let Ok(entries) = fs::read_dir(self.mount.join(&parent)) else {
                continue; // removed meanwhile
            };
            for entry in entries.flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                let Ok(name) = entry.file_name().into_string() else {
                    continue; // no pattern could name it
                };
                let path = if parent.is_empty() {
                    name
                } else {
                    format!("{parent}/{name}")
                };
                if entry.ino() == id {
                    return Some(path);
                }
                seen += 1;
                if seen > MAX_WALK {
                    return None;
                }
                open.push_back(path);
            }
        }
        None
    }
}

/// The path of a cgroup on this host, by a walk without a cache.
pub fn cgroup_path(id: u64) -> Option<String> {
    Cgroups::new(cgroup2_mount()).path(id, None)
}

/// Where cgroup2 is mounted: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` on hybrid hosts.
pub fn cgroup2_mount() -> PathBuf {
    fs::read_to_string("/proc/self/mountinfo")
        .ok()
        .and_then(|text| find_mount(&text))
        .unwrap_or_else(|| "/sys/fs/cgroup".into())
}

/// The first mount of the whole tree; a bind of a part of it would give other paths.
fn find_mount(mountinfo: &str) -> Option<PathBuf> {
    let mut part = None;
    for line in mountinfo.lines() {
        let Some((mount, kind)) = line.split_once(" - ") else {
            continue;
        };
        if kind.split(' ').next() != Some("cgroup2") {
            continue;
        }
        let mut fields = mount.split(' ').skip(3);
        let (Some(root), Some(point)) = (fields.next(), fields.next()) else {
            continue;
        };
        if root == "/" {
            return Some(unescape(point));
        }
        part.get_or_insert_with(|| unescape(point));
    }
    part
}

/// mountinfo writes space, tab, newline and backslash as `\` and three octal digits.
fn unescape(text: &str) -> PathBuf {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (code, c)| text.replace(code, c))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_on_unified_and_hybrid_hosts() {
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(find_mount(hybrid), Some("/sys/fs/cgroup/unified".into()));
        let bound =
            "40 1 0:38 /part /a rw - cgroup2 none rw\n41 1 0:38 / /b\\040c rw - cgroup2 none rw\n";
        assert_eq!(find_mount(bound), Some("/b c".into()));
        assert_eq!(
            find_mount("40 1 0:38 /part /a rw - cgroup2 none rw"),
            Some("/a".into())
        );
        assert_eq!(find_mount("x - y\n\n - cgroup2\n"), None);
    }

    #[test]
    fn ids_are_resolved_by_hint_and_by_walk() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a.slice/b.service/c");
        fs::create_dir_all(&deep).unwrap();
        fs::write(dir.path().join("a.slice/cgroup.procs"), "").unwrap();
        let cgroups = Cgroups::new(dir.path().to_owned());
        let id = fs::metadata(&deep).unwrap().ino();
        assert_eq!(cgroups.id("a.slice/b.service/c"), Some(id));
        // A hint that names another cgroup is not believed.
        assert_eq!(
            cgroups.path(id, Some("a.slice")).as_deref(),
            Some("a.slice/b.service/c")
        );
        fs::remove_dir(&deep).unwrap();
        assert!(cgroups.path(id, None).is_some(), "remembered after removal");
        assert_eq!(cgroups.path(1, None), None);
        let root = fs::metadata(dir.path()).unwrap().ino();
        assert_eq!(cgroups.path(root, None).as_deref(), Some(""));
    }
}
