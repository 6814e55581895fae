//! Room for recordings, and who may read them.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use nix::unistd::User;

use super::finding::{Check, Finding, advise, as_root, quoted, run};
use super::host::Host;

const FOLDER: Check = Check::new(
    "recordings.folder",
    "recordings hold what agents saw: only hoop may read them, and the worker must be able to write them",
);
const ROOM: Check = Check::new(
    "recordings.room",
    "what cannot be recorded does not run: a full disk stops every agent",
);
/// Below it sessions will soon stop.
const LITTLE: u64 = 1 << 30;
const NONE: u64 = 100 << 20;
/// In hundredths of the disk.
const SHARE: u64 = 5;

pub fn check(host: &Host) -> Vec<Finding> {
    let Some(config) = &host.config else {
        return Vec::new();
    };
    let folder = &config.record.directory;
    vec![
        self::folder(folder, &config.worker.user, host.root),
        room(folder),
    ]
}

fn folder(path: &Path, worker: &str, root: bool) -> Finding {
    let shown = path.display();
    let facts = match std::fs::metadata(path) {
        Ok(facts) => facts,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied && !root => {
            return FOLDER.needs_root();
        }
        Err(error) => {
            let mend = run("systemctl start hoop.service").and("it makes the folder");
            return FOLDER.fail(format!("{shown}: {error}"), mend);
        }
    };
    let owner = User::from_name(worker)
        .ok()
        .flatten()
        .map(|user| user.uid.as_raw());
    judge(
        &shown.to_string(),
        facts.uid(),
        facts.mode() & 0o7777,
        worker,
        owner,
    )
}

fn judge(shown: &str, uid: u32, mode: u32, worker: &str, owner: Option<u32>) -> Finding {
    let (user, path) = (quoted(worker), quoted(shown));
    let mend = run(format!("chown {user} {path} && chmod 0700 {path}"));
    if owner.is_none() {
        let mend = run("systemd-sysusers hoop.conf").and("or make that account by other means");
        return FOLDER.fail(format!("there is no account {worker}"), mend);
    }
    if owner != Some(uid) {
        return FOLDER.fail(
            format!("{shown} belongs to uid {uid}, not to {worker}"),
            mend,
        );
    }
    if mode & 0o077 != 0 {
        return FOLDER.fail(
            format!("others may look into {shown} (mode {mode:04o})"),
            mend,
        );
    }
    FOLDER.ok(format!("{shown} is {worker}'s alone"))
}

fn room(path: &Path) -> Finding {
    // Of the nearest folder that there is: it is the same disk.
    let Some(there) = path.ancestors().find(|p| statvfs(*p).is_ok()) else {
        return ROOM.unknown("the disk cannot be looked at", as_root());
    };
    let Ok(disk) = statvfs(there) else {
        return ROOM.unknown("the disk cannot be looked at", as_root());
    };
    let unit = disk.fragment_size();
    judge_room(disk.blocks_available() * unit, disk.blocks() * unit)
}

fn judge_room(free: u64, all: u64) -> Finding {
    let mend = advise("free space there, or move [record] directory to a larger disk");
    let seen = format!("{} MiB of {} MiB are free", free >> 20, all >> 20);
    let share = free.saturating_mul(100) / all.max(1);
    match free {
        ..NONE => ROOM.fail(seen, mend),
        _ if free < LITTLE || share < SHARE => ROOM.warn(seen, mend),
        _ => ROOM.ok(seen),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn the_folder_must_be_the_workers_alone() {
        let state = |uid, mode, owner| judge("/r", uid, mode, "hoop", owner).state;
        assert_eq!(state(7, 0o700, Some(7)), State::Ok);
        assert_eq!(state(0, 0o700, Some(7)), State::Fail);
        assert_eq!(state(7, 0o750, Some(7)), State::Fail);
        assert_eq!(state(7, 0o700, None), State::Fail);
    }

    #[test]
    fn little_room_is_warned_of_and_none_fails() {
        let state = |free, all| judge_room(free, all).state;
        assert_eq!(state(50 << 30, 100 << 30), State::Ok);
        assert_eq!(state(2 << 30, 100 << 30), State::Warn);
        assert_eq!(state(500 << 20, 1 << 30), State::Warn);
        assert_eq!(state(10 << 20, 1 << 30), State::Fail);
        assert_eq!(state(0, 0), State::Fail);
    }
}
