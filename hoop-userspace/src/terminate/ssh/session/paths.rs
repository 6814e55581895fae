//! Files by their paths from the top: what a request of SFTP or scp does to which of them.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use crate::terminate::{Asked, FileAction, FilesAsked, SshAsked, Undecidable};
use crate::wire::ssh::sftp::{self, OpenMode};

/// What a request does to which paths; `None` where it names none.
pub(in crate::terminate::ssh) fn named(
    request: &sftp::Request,
) -> Option<(FileAction, SmallVec<[&Bytes; 2]>)> {
    use sftp::Request as R;
    Some(match request {
        R::Open { path, mode } => (open_action(*mode), smallvec![path]),
        R::OpenDir { path } => (FileAction::List, smallvec![path]),
        R::Stat { path } | R::RealPath { path } => (FileAction::Stat, smallvec![path]),
        R::SetStat { path } => (FileAction::SetStat, smallvec![path]),
        R::Remove { path } => (FileAction::Remove, smallvec![path]),
        R::MakeDir { path } => (FileAction::MakeFolder, smallvec![path]),
        R::RemoveDir { path } => (FileAction::RemoveFolder, smallvec![path]),
        R::Rename { from, to } => (FileAction::Rename, smallvec![from, to]),
        R::Link { one, other } => (FileAction::Link, smallvec![one, other]),
        R::Init { .. }
        | R::Question
        | R::Close { .. }
        | R::Read { .. }
        | R::Write { .. }
        | R::ReadDir { .. }
        | R::Handle { .. }
        | R::SetHandle { .. }
        | R::CopyData { .. }
        | R::Unknown { .. } => return None,
    })
}

/// What is asked of files by these paths, where relative ones begin at `home`.
pub(in crate::terminate::ssh) fn placed(
    home: Option<&str>,
    action: FileAction,
    paths: &[&Bytes],
) -> Asked {
    let mut found: SmallVec<[Arc<str>; 2]> = SmallVec::new();
    for path in paths {
        match std::str::from_utf8(path) {
            Ok(path) => {
                let placed = place(home, path);
                // What is told of a path is no content, and clients ask that way where `..` is.
                if action != FileAction::Stat
                    && let Some(why) = unclear(path, &placed)
                {
                    return Asked::Undecidable(why);
                }
                found.push(placed.into());
            }
            Err(_) => return Asked::Undecidable(Undecidable::NotUtf8),
        }
    }
    Asked::Ssh(SshAsked::Files(FilesAsked {
        action,
        paths: found,
    }))
}

fn open_action(mode: OpenMode) -> FileAction {
    match (mode.reads(), mode.writes()) {
        (true, true) => FileAction::ReadWrite,
        (_, true) => FileAction::Write,
        (_, false) => FileAction::Read,
    }
}

/// Why only the server knows what a path is of: `..` behind a folder leads up from where that one
/// really is, if it is a link, and some folders of the kernel's lead anywhere.
pub(super) fn unclear(path: &str, placed: &str) -> Option<Undecidable> {
    let mut named = false;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if named => {
                let what =
                    format!("a path that goes up from a folder ({path}): name it from the top");
                return Some(Undecidable::UnknownOperation(what));
            }
            ".." => {}
            _ => named = true,
        }
    }
    let mut parts = placed.split('/').filter(|part| !part.is_empty());
    let leads = match parts.next() {
        Some("proc") => parts.any(|part| matches!(part, "root" | "cwd" | "fd" | "map_files")),
        Some("dev") => parts.next() == Some("fd"),
        _ => false,
    };
    leads.then(|| {
        let what = format!("a path that leads to what a process has open ({path})");
        Undecidable::UnknownOperation(what)
    })
}

/// A path from the top, without `.`, `..` and doubled slashes. Where the home is not known, `~`
/// stands for it.
pub(super) fn place(home: Option<&str>, path: &str) -> String {
    let whole = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{}/{path}", home.unwrap_or("~")),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            // Above an unknown home is nowhere that could be named.
            ".." if parts.last().is_none_or(|last| matches!(*last, "~" | "..")) => {
                if !whole.starts_with('/') {
                    parts.push("..");
                }
            }
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match whole.starts_with('/') {
        true => format!("/{joined}"),
        false => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_from_the_top() {
        let home = Some("/home/deploy");
        for (path, placed) in [
            ("notes", "/home/deploy/notes"),
            (".", "/home/deploy"),
            ("../../etc/passwd", "/etc/passwd"),
            ("../../../../etc", "/etc"),
            ("/a//b/./c/../d", "/a/b/d"),
            ("/", "/"),
            ("~/x", "/home/deploy/~/x"),
        ] {
            assert_eq!(place(home, path), placed, "{path}");
        }
        for (path, placed) in [
            ("notes", "~/notes"),
            ("", "~"),
            ("a/../b", "~/b"),
            ("../etc", "~/../etc"),
            ("../../etc", "~/../../etc"),
            ("/etc/../x", "/x"),
        ] {
            assert_eq!(place(None, path), placed, "{path}");
        }
    }
    #[test]
    fn paths_that_only_the_server_can_follow_are_not_decided() {
        let home = Some("/home/deploy");
        for path in [
            "/srv/app/../x",
            "link/../.ssh/x",
            concat!("/proc/self/root", "/etc/shadow"),
            "/proc/1/task/1/cwd/x",
            "/proc/self/fd/3",
            "/dev/fd/3",
        ] {
            assert!(unclear(path, &place(home, path)).is_some(), "{path}");
        }
        for path in [
            "../x",
            "./../../etc/x",
            "/../etc/x",
            "a/./b",
            concat!("/srv/root", "/x"),
            "/proc/cpuinfo",
        ] {
            assert!(unclear(path, &place(home, path)).is_none(), "{path}");
        }
    }
}
