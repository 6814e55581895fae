//! Files as an agent's processes see them: below each one's root, with its account's rights.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::processes::Process;
use super::reach::{Reach, readable};
use crate::cli::home::read_regular;

/// Kinds of view; an agent has one or two.
const MOST: usize = 32;

/// What came of reading a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// It is there, and has what was looked for.
    Good,
    Bad,
    /// It is there, and the account may not read it.
    Closed,
    Absent,
    /// We may not look at it.
    Unknown,
}

/// One process for each way to see the files. Without any, the host's own view.
pub struct Views<'p>(Vec<&'p Process>);

impl<'p> Views<'p> {
    pub fn of(processes: &[&'p Process]) -> Self {
        let mut each = BTreeMap::new();
        for process in processes {
            let place = |name: &str| fs::read_link(process.path(name)).ok();
            let Process {
                uids,
                gids,
                groups,
                effective,
                ..
            } = process;
            let key = (
                place("ns/mnt"),
                place("root"),
                uids,
                gids,
                groups,
                effective,
            );
            each.entry(key).or_insert(*process);
        }
        Self(each.into_values().take(MOST).collect())
    }

    /// The worst of what they see.
    pub fn read(&self, path: &Path, wanted: &dyn Fn(&str) -> bool) -> Read {
        let judged = |text: String| match wanted(&text) {
            true => Read::Good,
            false => Read::Bad,
        };
        if self.0.is_empty() {
            return read_regular(path).map_or(Read::Absent, judged);
        }
        let of = |process: &&Process| match place(process, path) {
            Ok(at) => read_regular(&at).map_or(Read::Closed, judged),
            Err(why) => why,
        };
        let mut seen = self.0.iter().map(of);
        seen.find(|one| *one != Read::Good).unwrap_or(Read::Good)
    }

    /// What the first of them reads there that can.
    pub fn text(&self, path: &Path) -> Option<String> {
        if self.0.is_empty() {
            return read_regular(path);
        }
        let mut seen = self
            .0
            .iter()
            .filter_map(|process| place(process, path).ok());
        seen.find_map(|at| read_regular(&at))
    }
}

fn place(process: &Process, path: &Path) -> Result<PathBuf, Read> {
    if fs::metadata(process.path("root")).is_err() {
        return Err(Read::Unknown);
    }
    readable(process, path).map_err(|reach| match reach {
        Reach::Absent => Read::Absent,
        Reach::Closed | Reach::Open => Read::Closed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_that_the_account_may_not_read_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        set(folder.path(), 0o755);
        let file = folder.path().join("root.crt");
        fs::write(&file, "ours").unwrap();
        let agent = Process {
            pid: std::process::id(),
            uids: [1001; 4],
            gids: [1001; 4],
            ..Process::default()
        };
        let views = Views::of(&[&agent]);
        let is_ours = |text: &str| text == "ours";
        set(&file, 0o644);
        assert_eq!(views.read(&file, &is_ours), Read::Good);
        assert_eq!(views.read(&file, &|_| false), Read::Bad);
        set(&file, 0o600);
        assert_eq!(views.read(&file, &is_ours), Read::Closed);
        set(&file, 0o644);
        set(folder.path(), 0o700);
        assert_eq!(views.read(&file, &is_ours), Read::Closed);
        set(folder.path(), 0o755);
        assert_eq!(
            views.read(&folder.path().join("none"), &is_ours),
            Read::Absent
        );
        assert!(views.text(&file).is_some());
    }
}
