//! `hoop trust undo`: takes back everything that `hoop trust` gave, wherever that was.
//!
//! Where root gave it is noted in the state folder; accounts that helped themselves are found among
//! those of /etc/passwd. Each file is changed by a process of its own, which becomes the file's owner
//! first and for good.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use nix::unistd::geteuid;

use crate::config::Bundle;
use crate::keeper::folders;
use crate::terminate::authority::CERTIFICATE_FILE;

/// Below the keeper's folder: `WHAT<tab>PATH` lines.
const NOTES: &str = "trusted";
const MAX_NOTES: u64 = 4 << 20;
const STATE: &str = "/var/lib/hoop";
/// The system's file of SSH, always looked at.
const SYSTEM: &str = "/etc/ssh/ssh_known_hosts";

#[derive(clap::Args)]
pub struct Args {
    /// The configuration file, which names the state directory
    #[arg(long, value_name = "FILE", env = "HOOP_CONFIG", default_value = super::DEFAULT_CONFIG)]
    config: PathBuf,
    /// The state directory, where the configuration cannot be read
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Another root of the whole file system, as dpkg's --root
    #[arg(long, value_name = "DIR", hide = true)]
    root: Option<PathBuf>,
}

/// What was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Given {
    /// In a home.
    Postgres,
    /// In a home.
    Ssh,
    /// A file of the whole system.
    SshSystem,
    /// In a home.
    Kubeconfig,
    /// A bundle of certificates.
    CaFile,
}

impl Given {
    const ALL: [Self; 5] = [
        Self::Postgres,
        Self::Ssh,
        Self::SshSystem,
        Self::Kubeconfig,
        Self::CaFile,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Ssh => "ssh",
            Self::SshSystem => "ssh-system",
            Self::Kubeconfig => "kubeconfig",
            Self::CaFile => "ca-file",
        }
    }

    /// The file that is changed there.
    fn file(self, place: &Path) -> PathBuf {
        match self {
            Self::Postgres => place.join(".postgresql/root.crt"),
            Self::Ssh => place.join(".ssh/known_hosts"),
            Self::Kubeconfig => place.join(".kube/config"),
            Self::SshSystem | Self::CaFile => place.to_owned(),
        }
    }

    /// Whether it is told from what is not hoop's by the CA's certificate.
    fn is_of_the_ca(self) -> bool {
        matches!(self, Self::Postgres | Self::Kubeconfig | Self::CaFile)
    }
}

/// Notes where root is about to give something. An account that gives itself something notes nothing:
/// it is found by its home.
pub fn note(state: &Path, given: Given, place: &Path) -> Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let folder = state.join(folders::KEEPER);
    let place = std::path::absolute(place)?;
    if read(&folder).contains(&(given, place.clone())) {
        return Ok(());
    }
    let path = folder.join(NOTES);
    let noted = std::fs::create_dir_all(&folder).and_then(|()| {
        let mut file = std::fs::File::options()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)?;
        writeln!(file, "{}\t{}", given.name(), place.display())?;
        file.sync_all()
    });
    noted.with_context(|| format!("cannot note it in {}", path.display()))
}

fn read(folder: &Path) -> BTreeSet<(Given, PathBuf)> {
    let file = std::fs::File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(folder.join(NOTES));
    let mut text = String::new();
    // What cannot be read names nothing; the accounts' homes are looked at all the same.
    let _ = file.and_then(|file| file.take(MAX_NOTES).read_to_string(&mut text));
    let line = |line: &str| {
        let (name, place) = line.split_once('\t')?;
        let given = Given::ALL.into_iter().find(|g| g.name() == name)?;
        Some((given, PathBuf::from(place)))
    };
    text.lines().filter_map(line).collect()
}

/// 1 if anything could not be taken back.
pub fn run(args: &Args) -> Result<ExitCode> {
    let within = |path: &Path| match &args.root {
        Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
        None => path.to_owned(),
    };
    let config = within(&args.config);
    let state = match &args.state {
        Some(state) => state.clone(),
        None => within(&match Bundle::without_secrets(&config) {
            Ok(config) => config.worker.state,
            Err(_) => PathBuf::from(STATE),
        }),
    };
    let mut all = read(&state.join(folders::KEEPER));
    for home in homes(&within(Path::new("/etc/passwd"))) {
        let home = within(&home);
        all.insert((Given::Postgres, home.clone()));
        all.insert((Given::Kubeconfig, home.clone()));
        all.insert((Given::Ssh, home));
    }
    all.insert((Given::SshSystem, within(Path::new(SYSTEM))));
    // Without the CA's certificate nobody was given one, or nobody can tell which it was.
    let known = state.join(CERTIFICATE_FILE).exists();
    let mut failed = false;
    for (given, place) in all {
        let there = std::fs::symlink_metadata(given.file(&place)).is_ok();
        if !there || given.is_of_the_ca() && !known {
            continue;
        }
        failed |= !take_back(given, &place, &state)?;
    }
    Ok(match failed {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// Whether it was; the process says what it does.
fn take_back(given: Given, place: &Path, state: &Path) -> Result<bool> {
    let program = std::env::current_exe().context("cannot tell which program this is")?;
    let mut command = Command::new(program);
    command.arg("trust");
    match given {
        Given::Postgres => command.args(["postgres", "--remove", "--home"]),
        Given::Ssh => command.args(["ssh", "--remove", "--home"]),
        Given::SshSystem => command.args(["ssh", "--remove", "--system"]),
        Given::Kubeconfig => command.args(["kubeconfig", "--remove", "--home"]),
        Given::CaFile => command.args(["kubeconfig", "--remove", "--ca-file"]),
    };
    command.arg(place);
    if given.is_of_the_ca() {
        command.arg("--state").arg(state);
    }
    let status = command.status().context("cannot start hoop itself")?;
    Ok(status.success())
}

/// Folders that accounts live in.
fn homes(passwd: &Path) -> BTreeSet<PathBuf> {
    let text = std::fs::read_to_string(passwd).unwrap_or_default();
    let home = |line: &str| line.split(':').nth(5).map(PathBuf::from);
    let real = |home: &PathBuf| home.is_absolute() && home != Path::new("/");
    text.lines().filter_map(home).filter(real).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_read_back_once() {
        let state = tempfile::tempdir().unwrap();
        let home = Path::new("/home/bot");
        for _ in 0..2 {
            note(state.path(), Given::Postgres, home).unwrap();
        }
        note(state.path(), Given::SshSystem, Path::new("/etc/x")).unwrap();
        let noted = read(&state.path().join(folders::KEEPER));
        let expected = match geteuid().is_root() {
            true => vec![
                (Given::Postgres, home.to_owned()),
                (Given::SshSystem, "/etc/x".into()),
            ],
            false => Vec::new(),
        };
        assert_eq!(noted.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn notes_are_read_through_no_link_and_odd_lines_are_passed_over() {
        let state = tempfile::tempdir().unwrap();
        let elsewhere = state.path().join("elsewhere");
        std::fs::write(&elsewhere, "ssh\t/home/a\n").unwrap();
        std::os::unix::fs::symlink(&elsewhere, state.path().join(NOTES)).unwrap();
        assert!(read(state.path()).is_empty());
        std::fs::remove_file(state.path().join(NOTES)).unwrap();
        std::fs::write(state.path().join(NOTES), "ssh\t/home/a\nnonsense\nx\ty\n").unwrap();
        let noted: Vec<_> = read(state.path()).into_iter().collect();
        assert_eq!(noted, [(Given::Ssh, PathBuf::from("/home/a"))]);
    }

    #[test]
    fn homes_are_those_of_accounts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passwd");
        let text = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/x\nodd\nbot:x:1:1::/home/bot:/x\n";
        std::fs::write(&path, text).unwrap();
        let found: Vec<_> = homes(&path).into_iter().collect();
        assert_eq!(found, [Path::new("/home/bot"), Path::new("/root")]);
    }
}
