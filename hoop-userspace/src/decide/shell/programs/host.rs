//! Programs that administer the host, and run code where their arguments lead to some.

use crate::decide::shell::facts::ShellFlag;
use crate::decide::shell::field::Field;
use crate::decide::shell::walk::{Dark, Run, Walk};

use super::options::Taken;

/// Those whose operands are names, of packages or modules: a path or an address brings code along.
const NAMED: &[&str] = &[
    "apt", "apt-get", "aptitude", "dnf", "yum", "apk", "snap", "modprobe",
];
const FILES: &[&str] = &[".deb", ".dsc", ".changes", ".rpm", ".apk", ".snap", ".ko"];

impl Walk<'_> {
    /// `key` is the table's name of what runs.
    pub(super) fn packages(&self, key: &str, taken: &Taken, run: &mut Run) {
        let program = key.split(' ').next().unwrap_or(key);
        if !NAMED.contains(&program) || !run.flags.contains(&ShellFlag::Administers) {
            return;
        }
        for field in &taken.operands {
            match field.known() {
                None => run.flag(ShellFlag::Unresolved, "what is installed is not known"),
                Some(text) if text.contains('/') || FILES.iter().any(|end| text.ends_with(end)) => {
                    run.flag(
                        ShellFlag::Unfamiliar,
                        "what is in the file that it installs is not seen",
                    );
                }
                Some(_) => {}
            }
        }
    }

    /// A file system in user space is a program that runs.
    pub(super) fn mount(&mut self, mut run: Run) -> Result<(), Dark> {
        let fuse = |field: &Field| field.known().is_none_or(|text| text.contains("fuse"));
        if run.argv.iter().skip(1).any(fuse) {
            run.flag(ShellFlag::Unfamiliar, "what it mounts may be a program");
        }
        self.listed("mount", "mount", run, 1)
    }
}
