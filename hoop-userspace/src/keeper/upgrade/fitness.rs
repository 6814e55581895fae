//! Before another build takes over it is tried, as a child, while everything goes on: whether the file
//! may be run at all, whether it takes the configuration, and whether the two builds fit together.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::sync::OwnedSemaphorePermit;

use super::luggage::{self, FORMAT};
use super::rehearsal::Report;
use super::{LUGGAGE, REHEARSE};
use crate::config::Bundle;
use crate::keeper::journal::Entry;
use crate::keeper::people::{self, Peer};
use crate::keeper::reload::fixed;
use crate::keeper::{Parts, lock, retired};

/// For the other build to say whether it could: its worker alone may take 40 s.
const TRIED_WITHIN: Duration = Duration::from_secs(90);
/// Bytes of its report.
const MAX_REPORT: u64 = 64 << 10;

/// What came of trying a build.
pub enum Prepared {
    /// Nothing more was wanted.
    Checked(Value),
    Ready(Ready),
}

/// A build that can take over.
pub struct Ready {
    pub path: PathBuf,
    /// What was tried is what is run, whatever the path names by then.
    pub program: File,
    pub bundle: OwnedFd,
    pub report: Report,
    /// The configuration that was in force.
    pub epoch: u64,
    /// One upgrade at a time.
    _place: OwnedSemaphorePermit,
}

/// Tries a build. Everything goes on meanwhile.
pub async fn prepare(
    parts: &Arc<Parts>,
    to: Option<PathBuf>,
    check: bool,
    peer: Peer,
) -> Result<Prepared, String> {
    if peer.uid != 0 {
        return Err("only root may upgrade hoop".into());
    }
    people::ungoverned(&parts.config(), peer).map_err(|no| no.to_string())?;
    let place = parts.upgrading.clone().try_acquire_owned();
    let place = place.map_err(|_| "another upgrade is under way".to_owned())?;
    let path = to.unwrap_or_else(|| parts.start.program.clone());
    let tried = attempt(parts, &path).await;
    let (program, bundle, report, epoch) = match tried {
        Ok(tried) => tried,
        Err(why) => {
            parts.journal.write(&Entry::UpgradeRefused {
                program: path.display().to_string(),
                why: why.clone(),
            });
            return Err(format!("{why}; nothing has changed"));
        }
    };
    if check {
        return Ok(Prepared::Checked(json!({
            "from": env!("CARGO_PKG_VERSION"), "to": report.version, "program": path, "upgraded": false,
        })));
    }
    Ok(Prepared::Ready(Ready {
        path,
        program,
        bundle,
        report,
        epoch,
        _place: place,
    }))
}

async fn attempt(parts: &Arc<Parts>, path: &Path) -> Result<(File, OwnedFd, Report, u64), String> {
    if parts.worker.now().ready.is_none() {
        return Err("the worker is not ready: see `hoop status`".into());
    }
    let retiring = parts.worker.retired().all().len();
    if retiring >= retired::MOST {
        return Err(format!(
            "{retiring} workers of earlier upgrades still have sessions (`hoop status`): wait for them, or end some"
        ));
    }
    let (of, config) = (path.to_owned(), parts.start.config.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let program = open(&of).map_err(|why| format!("{} {why}", of.display()))?;
        let bundle = Bundle::gather(&config).map_err(|error| {
            format!("the configuration as it is now is none that this build takes, so it is not in force: {error}")
        })?;
        Ok::<_, String>((program, bundle))
    });
    let (program, bundle) = opened.await.map_err(|error| error.to_string())??;
    let pid = parts.worker.now().pid;
    if pid.is_some_and(|pid| !retired::children().contains(&pid)) {
        // Whoever takes over would not know its workers again, and end their sessions.
        return Err("the kernel does not tell of a process's children (CONFIG_PROC_CHILDREN): restart hoop instead".into());
    }
    let epoch = {
        let in_force = lock(&parts.bundle);
        if !bundle.is_as_configured(&in_force.1) {
            return Err(
                "the configuration, or a file that it names, has changed since it was loaded: reload first (`systemctl reload hoop`), then upgrade".into(),
            );
        }
        in_force.0
    };
    let (report, bundle) = tried(&program, path).await?;
    fits(&report, &fixed(&parts.config()))?;
    Ok((program, bundle, report, epoch))
}

/// A program of root's own, which nobody else may have written.
fn open(path: &Path) -> Result<File, String> {
    let mut options = File::options();
    // Nothing of ours waits for a pipe.
    options.read(true).custom_flags(libc::O_NONBLOCK);
    let file = options.open(path);
    let file = file.map_err(|error| format!("cannot be opened: {error}"))?;
    let about = file.metadata().map_err(|error| error.to_string())?;
    if !about.is_file() || about.mode() & 0o111 == 0 {
        return Err("is no program".into());
    }
    if about.uid() != 0 || about.mode() & 0o022 != 0 {
        return Err("can be written by others than root: it would be run as root".into());
    }
    Ok(file)
}

/// Has the build say whether it could take over.
async fn tried(program: &File, path: &Path) -> Result<(Report, OwnedFd), String> {
    let failed = |error: io::Error| format!("{} cannot be tried: {error}", path.display());
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let bundle = memfd_create("hoop-bundle", flags).map_err(|errno| failed(errno.into()))?;
    let stdin = bundle.try_clone().map_err(failed)?;
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command
        .arg0(path)
        .args(own_arguments())
        .arg(REHEARSE)
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    let out = child.stdout.take();
    let running = async {
        let mut text = Vec::new();
        if let Some(out) = out {
            out.take(MAX_REPORT).read_to_end(&mut text).await?;
        }
        Ok::<_, io::Error>((child.wait().await?, text))
    };
    let ran = tokio::time::timeout(TRIED_WITHIN, running).await;
    let (status, text) = ran
        .map_err(|_| format!("{} does not say whether it could take over", path.display()))?
        .map_err(failed)?;
    let report: Report = serde_json::from_slice(&text).map_err(|_| {
        format!(
            "{} does not say that it could take over ({status}): is it a hoop that can be upgraded to in place?",
            path.display()
        )
    })?;
    luggage::seal(&bundle).map_err(failed)?;
    Ok((report, bundle))
}

fn fits(report: &Report, here: &BTreeMap<String, String>) -> Result<(), String> {
    let Report {
        version, problem, ..
    } = report;
    if let Some(problem) = problem {
        return Err(format!("hoop {version} would not start: {problem}"));
    }
    if report.layout != hoop_common::LAYOUT {
        return Err(format!(
            "hoop {version} has kernel maps of layout {}, this build of {}: what the kernel knows of open connections cannot be kept, so restart hoop to get there (`systemctl restart hoop`)",
            report.layout,
            hoop_common::LAYOUT,
        ));
    }
    if !report.luggage.contains(&FORMAT) {
        return Err(format!(
            "hoop {version} cannot take over from this build: restart hoop to get there (`systemctl restart hoop`)"
        ));
    }
    let changed = here
        .iter()
        .find(|(what, now)| report.fixed.get(*what).is_some_and(|next| next != *now));
    match changed {
        Some((what, _)) => Err(format!("{what} cannot change in an upgrade: restart hoop")),
        None => Ok(()),
    }
}

/// What this process was started with, but for what belonged to that start alone.
pub fn own_arguments() -> Vec<OsString> {
    let arguments = std::env::args_os().skip(1);
    arguments.filter(|argument| argument != LUGGAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            version: "9.0.0".into(),
            luggage: vec![FORMAT],
            layout: hoop_common::LAYOUT,
            fixed: BTreeMap::from([("[capture] port".into(), "0".into())]),
            problem: None,
        }
    }

    #[test]
    fn a_build_that_does_not_fit_is_refused_with_its_words() {
        let here = BTreeMap::from([
            ("[capture] port".to_owned(), "0".to_owned()),
            ("[capture] pins".to_owned(), "/sys/fs/bpf/hoop".to_owned()),
        ]);
        assert_eq!(fits(&report(), &here), Ok(()));
        let refused = |change: fn(&mut Report)| {
            let mut report = report();
            change(&mut report);
            fits(&report, &here).unwrap_err()
        };
        assert!(
            refused(|r| r.problem = Some("no such account".into())).contains("no such account")
        );
        assert!(refused(|r| r.layout += 1).contains("restart hoop"));
        assert!(refused(|r| r.luggage = vec![FORMAT + 1]).contains("9.0.0 cannot take over"));
        assert!(refused(|r| r.luggage.clear()).contains("cannot take over"));
        let moved = refused(|r| {
            r.fixed.insert("[capture] port".into(), "7".into());
        });
        assert!(moved.contains("[capture] port cannot change"), "{moved}");
    }

    #[test]
    fn only_a_program_that_root_alone_may_write_is_run() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hoop");
        assert!(open(&path).unwrap_err().contains("cannot be opened"));
        std::fs::write(&path, "x").unwrap();
        let mode = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(0o644);
        assert!(open(&path).unwrap_err().contains("no program"));
        mode(0o775);
        assert!(open(&path).unwrap_err().contains("others than root"));
        assert!(open(folder.path()).is_err());
    }

    #[tokio::test]
    async fn what_is_no_hoop_is_told_from_one() {
        let program = File::open("/bin/true").unwrap();
        let why = tried(&program, Path::new("/bin/true")).await.unwrap_err();
        assert!(why.contains("is it a hoop"), "{why}");
    }
}
