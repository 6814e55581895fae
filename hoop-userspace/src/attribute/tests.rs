//! Attribution against made-up `/proc` trees, and against this very process.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use super::*;

struct Host {
    dir: tempfile::TempDir,
    cgroups: Cgroups,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("cgroup")).unwrap();
        let cgroups = Cgroups::new(dir.path().join("cgroup"));
        Self { dir, cgroups }
    }

    fn cgroup(&self, path: &str) -> u64 {
        let path = self.dir.path().join("cgroup").join(path);
        fs::create_dir_all(&path).unwrap();
        fs::metadata(path).unwrap().ino()
    }

    fn process(&self, pid: u32, parent: u32, cgroup: &str) {
        let proc = self.dir.path().join("proc").join(pid.to_string());
        fs::create_dir_all(&proc).unwrap();
        let stat = format!("{pid} (p{pid}) S {parent} 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 99 0");
        fs::write(proc.join("stat"), stat).unwrap();
        fs::write(proc.join("cgroup"), format!("4:memory:/x\n0::/{cgroup}\n")).unwrap();
        fs::write(proc.join("cmdline"), "psql\0-c\0select 1\0").unwrap();
        symlink("/usr/bin/psql (deleted)", proc.join("exe")).unwrap();
        symlink("/srv", proc.join("cwd")).unwrap();
    }

    fn read(&self, pid: u32, cgroup_id: u64) -> Process {
        let seen = Seen {
            pid,
            tid: pid + 1,
            uid: 7,
            comm: *b"worker\0\0\0\0\0\0\0\0\0\0",
            cgroup_id,
        };
        read_from(&self.dir.path().join("proc"), &seen, &self.cgroups)
    }
}

const BOT: &str = "agents.slice/bot.service/tool";

#[test]
fn all_that_is_known() {
    let host = Host::new();
    let id = host.cgroup(BOT);
    host.process(30, 20, BOT);
    host.process(20, 10, "agents.slice/bot.service");
    host.process(10, 1, "agents.slice");
    let process = host.read(30, id);
    assert!(!process.gone);
    assert_eq!(
        (process.comm.as_str(), process.uid, process.tid),
        ("worker", 7, 31)
    );
    assert_eq!(process.cgroup, BOT);
    assert_eq!(process.unit.as_deref(), Some("bot.service"));
    assert_eq!(process.argv, ["psql", "-c", "select 1"]);
    assert_eq!(process.executable, Some("/usr/bin/psql".into()));
    assert_eq!(process.cwd, Some("/srv".into()));
    // The parent in the unit is told, the one outside is not.
    let parents: Vec<_> = process.parents.iter().map(|p| p.pid).collect();
    assert_eq!(parents, [20]);
}

#[test]
fn a_process_that_has_gone_is_still_attributed() {
    let host = Host::new();
    let id = host.cgroup(BOT);
    let process = host.read(30, id);
    assert!(process.gone && process.argv.is_empty());
    assert_eq!((process.cgroup.as_str(), process.pid), (BOT, 30));
}

#[test]
fn a_reused_pid_lends_nothing() {
    let host = Host::new();
    let id = host.cgroup(BOT);
    host.cgroup("system.slice/other.service");
    host.process(30, 1, "system.slice/other.service");
    let process = host.read(30, id);
    assert!(process.gone, "{process:?}");
    assert_eq!((process.cgroup.as_str(), process.executable), (BOT, None));
}

#[test]
fn a_cgroup_that_nobody_knows_is_no_agents() {
    let host = Host::new();
    host.process(30, 1, BOT);
    let process = host.read(30, 1);
    assert!(process.gone && process.cgroup.is_empty());
}

#[test]
fn parents_that_circle_end() {
    let host = Host::new();
    let id = host.cgroup(BOT);
    host.process(30, 31, BOT);
    host.process(31, 30, BOT);
    assert_eq!(host.read(30, id).parents.len(), 2);
}

#[test]
fn this_process() {
    let cgroups = Cgroups::new(cgroup2_mount());
    let pid = std::process::id();
    let Some(path) = Proc::of(Path::new("/proc"), pid).cgroup() else {
        panic!("this host has no cgroup2");
    };
    let Some(cgroup_id) = cgroups.id(&path) else {
        panic!("{path:?} is not below {:?}", cgroups.mount());
    };
    let seen = Seen {
        pid,
        tid: pid,
        uid: 0,
        comm: [b'x'; 16],
        cgroup_id,
    };
    let process = read(&seen, &cgroups);
    assert!(!process.gone);
    assert_eq!(process.executable, std::env::current_exe().ok());
    assert_eq!(process.cwd, std::env::current_dir().ok());
    assert!(process.executable_inode.is_some() && !process.argv.is_empty());
    assert_eq!(cgroup_path(cgroup_id), Some(path));
}
