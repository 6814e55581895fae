//! Where cgroup2 is, and whether anybody but root may move processes about in the governed tree.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::finding::{Check, Finding, Remedy, advise, quoted, run};
use super::host::{Host, of_agent};

const MOUNT: Check = Check::new(
    "cgroup.mount",
    "hoop governs cgroups of version 2; on hosts with both versions a socket could lose its cgroup in old kernels",
);
const SLICE: Check = Check::new(
    "cgroup.slice",
    "the programs are attached to this slice: without it nothing is governed, and whoever may write in it can make another agent's cgroup and move there",
);
const AGENT: Check = Check::new(
    "cgroup.delegation",
    "an agent that may write to cgroups above its own can leave its mapping, or the slice",
);

/// Which versions are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Unified,
    /// Both; whether net_cls or net_prio is among those of version 1.
    Hybrid {
        net: bool,
    },
    Absent,
}

/// A folder or file of a cgroup, by who may write to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Access {
    uid: u32,
    gid: u32,
    mode: u32,
}

pub fn check(host: &Host) -> Vec<Finding> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found = vec![mount(host, layout(&mountinfo)), slice(host)];
    found.extend(agents(host));
    found
}

fn layout(mountinfo: &str) -> Layout {
    let mut unified = false;
    let mut first = None;
    for line in mountinfo.lines() {
        let Some((_, after)) = line.split_once(" - ") else {
            continue;
        };
        let mut words = after.split(' ');
        match words.next() {
            Some("cgroup2") => unified = true,
            Some("cgroup") => {
                let options = words.nth(1).unwrap_or_default();
                let net = options
                    .split(',')
                    .any(|o| matches!(o, "net_cls" | "net_prio"));
                first = Some(first.unwrap_or(false) || net);
            }
            _ => {}
        }
    }
    match (unified, first) {
        (false, _) => Layout::Absent,
        (true, None) => Layout::Unified,
        (true, Some(net)) => Layout::Hybrid { net },
    }
}

fn mount(host: &Host, layout: Layout) -> Finding {
    let at = host.mount.display();
    match layout {
        Layout::Unified => MOUNT.ok(format!("cgroup2 at {at}, and no version 1 beside it")),
        Layout::Hybrid { net: false } => MOUNT.ok(format!(
            "cgroup2 at {at}; version 1 beside it, without net_cls and net_prio"
        )),
        // Since 5.15 the two are kept apart; kernels before lack what hoop needs anyway.
        Layout::Hybrid { net: true } => MOUNT.warn(
            format!("cgroup2 at {at}; net_cls or net_prio of version 1 beside it"),
            advise("boot with systemd.unified_cgroup_hierarchy=1, unless something here needs version 1"),
        ),
        Layout::Absent => MOUNT.fail(
            "cgroup2 is not mounted",
            advise("boot with systemd.unified_cgroup_hierarchy=1 on the kernel's command line"),
        ),
    }
}

fn slice(host: &Host) -> Finding {
    let attach = host.capture().attach;
    let path = host.mount.join(&attach);
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let problems = match writers(&path) {
        Ok(problems) => problems,
        Err(error) => {
            let seen = format!("{}: {error}", path.display());
            return SLICE.fail(
                seen,
                run(format!("systemctl enable --now {}", quoted(&name))),
            );
        }
    };
    match problems.first() {
        None => SLICE.ok(format!("{} is root's alone", path.display())),
        Some(first) => SLICE.fail(
            format!("{} is delegated: {first}", path.display()),
            taken_back(&path),
        ),
    }
}

/// The slice goes on as it is: restarting it would end every agent. Folders below keep their owners.
fn taken_back(path: &Path) -> Remedy {
    let files = [
        "",
        "/cgroup.procs",
        "/cgroup.threads",
        "/cgroup.subtree_control",
    ];
    let files = files.map(|file| quoted(&format!("{}{file}", path.display())));
    let files = files.join(" ");
    run(format!("chown root:root {files} && chmod go-w {files}"))
        .and("and find out who gave it away: systemd itself delegates no slice")
}

/// What lets others than root write to this cgroup.
fn writers(path: &Path) -> std::io::Result<Vec<String>> {
    let mut problems = Vec::new();
    problems.extend(access(path)?.problem("the folder"));
    for file in ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
        if let Ok(access) = access(&path.join(file)) {
            problems.extend(access.problem(file));
        }
    }
    Ok(problems)
}

fn access(path: &Path) -> std::io::Result<Access> {
    let facts = fs::metadata(path)?;
    Ok(Access {
        uid: facts.uid(),
        gid: facts.gid(),
        mode: facts.mode() & 0o7777,
    })
}

impl Access {
    fn problem(self, what: &str) -> Option<String> {
        let Self { uid, gid, mode } = self;
        if uid != 0 {
            return Some(format!("{what} belongs to uid {uid}"));
        }
        if mode & 0o002 != 0 {
            return Some(format!("everybody may write to {what}"));
        }
        (mode & 0o020 != 0 && gid != 0).then(|| format!("gid {gid} may write to {what}"))
    }
}

/// Each agent's own cgroups: one below its own may be the agent's, one above may not.
fn agents(host: &Host) -> Vec<Finding> {
    let mut found = Vec::new();
    for agent in host.agents() {
        let about = of_agent(agent);
        let cgroups = host.cgroups_of(agent);
        if cgroups.is_empty() {
            let seen = format!("no cgroup matches {} now", agent.cgroup);
            found.push(
                AGENT
                    .unknown(seen, advise("start the agent, and look again"))
                    .about(about),
            );
            continue;
        }
        let mut delegated: Vec<String> = Vec::new();
        for cgroup in cgroups.values() {
            let problems = writers(&host.mount.join(cgroup)).unwrap_or_default();
            delegated.extend(problems.first().map(|first| format!("{cgroup}: {first}")));
        }
        found.push(match delegated.first() {
            None => AGENT.ok("its cgroups are root's alone").about(about),
            // It can move only below itself, where it stays governed as itself.
            Some(first) => AGENT
                .warn(
                    first.clone(),
                    advise("set Delegate=no in its unit, and restart that"),
                )
                .about(about),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_told_apart() {
        let two = "41 1 0:38 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n";
        let cpu = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let net = "33 31 0:29 / /sys/fs/cgroup/net rw - cgroup cgroup rw,net_cls,net_prio\n";
        assert_eq!(layout(two), Layout::Unified);
        assert_eq!(
            layout(&format!("{two}{cpu}")),
            Layout::Hybrid { net: false }
        );
        assert_eq!(
            layout(&format!("{net}{two}{cpu}")),
            Layout::Hybrid { net: true }
        );
        assert_eq!(layout(cpu), Layout::Absent);
        assert_eq!(layout(""), Layout::Absent);
    }

    #[test]
    fn whoever_may_write_is_named() {
        let access = |uid, gid, mode| Access { uid, gid, mode };
        assert_eq!(access(0, 0, 0o755).problem("x"), None);
        assert_eq!(access(0, 0, 0o775).problem("x"), None);
        assert!(
            access(1001, 0, 0o755)
                .problem("x")
                .unwrap()
                .contains("uid 1001")
        );
        assert!(access(0, 7, 0o775).problem("x").unwrap().contains("gid 7"));
        assert!(
            access(0, 0, 0o757)
                .problem("x")
                .unwrap()
                .contains("everybody")
        );
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        assert!(writers(Path::new("/nonexistent")).is_err());
    }
}
