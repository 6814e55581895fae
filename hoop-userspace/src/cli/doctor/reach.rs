//! Which Unix sockets an agent's account may connect to: by the modes of every folder on the way,
//! as its own process sees them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::processes::{CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, Process};
use crate::cli::home::{MAX_LINKS, names};

const MAX_LIST: usize = 16_384;
const MAX_NAMESPACES: usize = 512;
const READ: u32 = 0o4;
const WRITE: u32 = 0o2;
const PASS: u32 = 0o1;

/// What is behind a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Behind {
    Database,
    /// Whoever reaches it can have processes started outside of the agent's cgroup.
    Starter,
}

/// Whether the account may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Open,
    Closed,
    /// It is not there for the process, or may not be looked at.
    Absent,
}

/// Sockets of the host that matter: those that somebody listens on, and those with a known place.
pub fn sockets(processes: &[Process]) -> BTreeSet<(Behind, PathBuf)> {
    let listed = listed(processes);
    let known = [
        "/run/docker.sock",
        "/run/containerd/containerd.sock",
        "/run/podman/podman.sock",
        "/run/crio/crio.sock",
        "/run/dbus/system_bus_socket",
        "/run/systemd/private",
    ];
    let listening = listed.iter().flat_map(|text| listening(text));
    listening
        .chain(known.map(str::to_owned))
        .filter_map(|path| Some((behind(&path)?, PathBuf::from(path))))
        .collect()
}

/// `/proc/net/unix` of each network namespace: a path leads from one into another.
fn listed(processes: &[Process]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let own = fs::metadata("/proc/self/ns/net")
        .ok()
        .map(|about| about.ino());
    seen.extend(own);
    let mut paths = vec![PathBuf::from("/proc/self/net/unix")];
    for process in processes {
        let Ok(about) = fs::metadata(process.path("ns/net")) else {
            continue;
        };
        if seen.len() < MAX_NAMESPACES && seen.insert(about.ino()) {
            paths.push(process.path("net/unix"));
        }
    }
    let read = |path: &PathBuf| fs::read_to_string(path).ok();
    paths.iter().filter_map(read).collect()
}

/// Paths of unix(7) sockets that accept connections, by `/proc/net/unix`.
fn listening(text: &str) -> Vec<String> {
    const ACCEPTS: u32 = 0x10000;
    let path = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let flags = u32::from_str_radix(fields.get(3)?, 16).ok()?;
        let path = (*fields.get(7)?).to_owned();
        (flags & ACCEPTS != 0 && path.starts_with('/')).then_some(path)
    };
    text.lines().take(MAX_LIST).filter_map(path).collect()
}

fn behind(path: &str) -> Option<Behind> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let database = name.starts_with(".s.PGSQL.")
        || name.starts_with("mongodb-")
        || name.contains("mysql")
        || name.contains("mariadb")
        || name.contains("redis")
        || name.contains("valkey");
    if database {
        return Some(Behind::Database);
    }
    let starter = [
        "docker.sock",
        "podman.sock",
        "containerd.sock",
        "crio.sock",
        "system_bus_socket",
    ];
    let manager =
        path.ends_with("systemd/private") || name == "bus" && path.starts_with("/run/user/");
    (starter.contains(&name) || manager).then_some(Behind::Starter)
}

/// Whether this process may connect to the socket at that path, in its own view of the files.
pub fn reach(process: &Process, path: &Path) -> Reach {
    reach_below(process, &process.path("root"), path)
}

fn reach_below(process: &Process, root: &Path, path: &Path) -> Reach {
    match found_below(process, root, path, WRITE) {
        Ok((_, facts)) if facts.file_type().is_socket() => Reach::Open,
        Ok(_) => Reach::Absent,
        Err(reach) => reach,
    }
}

/// Where a file is that this process may read, as we reach it.
pub fn readable(process: &Process, path: &Path) -> Result<PathBuf, Reach> {
    found_below(process, &process.path("root"), path, READ).map(|(at, _)| at)
}

/// What is at a path, if the process may do so much with it. The kernel would follow an absolute link
/// from our own root, not from the process's: each is followed here, below `root`.
fn found_below(
    process: &Process,
    root: &Path,
    path: &Path,
    wanted: u32,
) -> Result<(PathBuf, fs::Metadata), Reach> {
    let mut ahead: Vec<OsString> = names(path);
    let mut behind: Vec<OsString> = Vec::new();
    let mut links = 0;
    while let Some(name) = ahead.pop() {
        if name == ".." {
            behind.pop();
            continue;
        }
        let seen = root.join(behind.iter().collect::<PathBuf>()).join(&name);
        let Ok(facts) = fs::symlink_metadata(&seen) else {
            return Err(Reach::Absent);
        };
        if facts.is_symlink() {
            links += 1;
            let Some(to) = fs::read_link(&seen).ok().filter(|_| links <= MAX_LINKS) else {
                return Err(Reach::Absent);
            };
            if to.is_absolute() {
                behind.clear();
            }
            ahead.extend(names(&to));
            continue;
        }
        let last = ahead.is_empty();
        let want = if last { wanted } else { PASS };
        if !may(process, facts.uid(), facts.gid(), facts.mode(), want) {
            return Err(Reach::Closed);
        }
        if last {
            return Ok((seen, facts));
        }
        behind.push(name);
    }
    Err(Reach::Absent)
}

/// What the kernel's check of modes says (path_resolution(7)); root's own way round it included.
pub fn may(process: &Process, uid: u32, gid: u32, mode: u32, want: u32) -> bool {
    let only_reads = want & !(READ | PASS) == 0;
    if process.has(CAP_DAC_OVERRIDE) || process.has(CAP_DAC_READ_SEARCH) && only_reads {
        return true;
    }
    let in_group = process.gids.contains(&gid) || process.groups.contains(&gid);
    let bits = if process.runs_as(uid) {
        mode >> 6
    } else if in_group {
        mode >> 3
    } else {
        mode
    };
    bits & want == want
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> Process {
        Process {
            pid: std::process::id(),
            uids: [1001; 4],
            gids: [1001; 4],
            groups: vec![27],
            ..Process::default()
        }
    }

    #[test]
    fn modes_are_read_as_the_kernel_does() {
        let agent = process();
        assert!(may(&agent, 0, 0, 0o777, WRITE));
        assert!(!may(&agent, 0, 0, 0o770, WRITE));
        assert!(may(&agent, 0, 27, 0o660, WRITE));
        // The owner's bits count for the owner, even where others may more.
        assert!(!may(&agent, 1001, 0, 0o077, WRITE));
        let mut root = process();
        root.effective = 1 << 1;
        assert!(may(&root, 0, 0, 0o000, WRITE));
    }

    #[test]
    fn sockets_are_known_by_their_names() {
        assert_eq!(
            behind("/run/postgresql/.s.PGSQL.5432"),
            Some(Behind::Database)
        );
        assert_eq!(behind("/run/mysqld/mysqld.sock"), Some(Behind::Database));
        assert_eq!(behind("/var/run/docker.sock"), Some(Behind::Starter));
        assert_eq!(
            behind("/run/user/1001/systemd/private"),
            Some(Behind::Starter)
        );
        assert_eq!(behind("/run/hoop/control.sock"), None);
        let text = "Num RefCount Protocol Flags Type St Inode Path\n\
            0: 00000002 00000000 00010000 0001 01 5 /run/postgresql/.s.PGSQL.5432\n\
            0: 00000003 00000000 00000000 0001 03 6 /run/x\n0: 1 0 00010000 0001 01 7 @abstract\n";
        assert_eq!(listening(text), ["/run/postgresql/.s.PGSQL.5432"]);
    }

    #[test]
    fn a_folder_on_the_way_closes_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        set(folder.path(), 0o755);
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let path = inner.join(".s.PGSQL.1");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        set(&path, 0o777);
        set(&inner, 0o755);
        let agent = process();
        assert_eq!(reach(&agent, &path), Reach::Open);
        set(&inner, 0o700);
        assert_eq!(reach(&agent, &path), Reach::Closed);
        set(&inner, 0o755);
        set(&path, 0o700);
        assert_eq!(reach(&agent, &path), Reach::Closed);
        assert_eq!(reach(&agent, &inner.join("none")), Reach::Absent);
    }

    #[test]
    fn an_absolute_link_stays_below_the_processs_root() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let root = tempfile::tempdir().unwrap();
        let hidden = root.path().join("run/hidden");
        fs::create_dir_all(&hidden).unwrap();
        fs::create_dir(root.path().join("var")).unwrap();
        symlink("/run", root.path().join("var/run")).unwrap();
        symlink("loop", root.path().join("run/loop")).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(hidden.join("s")).unwrap();
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        set(&hidden.join("s"), 0o777);
        let agent = process();
        let of = |path: &str| reach_below(&agent, root.path(), Path::new(path));
        assert_eq!(of("/var/run/hidden/s"), Reach::Open);
        assert_eq!(of("/var/run/../run/hidden/s"), Reach::Open);
        set(&hidden, 0o000);
        assert_eq!(of("/var/run/hidden/s"), Reach::Closed);
        assert_eq!(of("/run/loop/s"), Reach::Absent);
    }
}
