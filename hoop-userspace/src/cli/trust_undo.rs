//! `hoop trust undo`: takes back everything that `hoop trust` gave, wherever that was.
//!
//! Where root gave it is noted in the state folder, and that must succeed; accounts that helped
//! themselves are found among those of /etc/passwd, most of which never heard of hoop. Each file is
//! changed by a process of its own, which becomes the file's owner first and for good.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::unistd::geteuid;

use super::written::Written;
use super::{trust, trust_kube, trust_ssh};
use crate::keeper::folders;
use crate::terminate::authority::CERTIFICATE_FILE;

/// Below the keeper's folder: `WHAT<tab>PATH` lines.
const NOTES: &str = "trusted";
const MAX_NOTES: u64 = 4 << 20;
/// The system's file of SSH, always looked at.
/// For a file system to say whether a file is there.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// For one process to change one file.
const TAKEN_BACK_WITHIN: Duration = Duration::from_secs(30);
const LOOKED_EVERY: Duration = Duration::from_millis(5);

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
            Self::Postgres => trust::FILE.shown(place),
            Self::Ssh => trust_ssh::FILE.shown(place),
            Self::Kubeconfig => trust_kube::FILE.shown(place),
            Self::SshSystem | Self::CaFile => place.to_owned(),
        }
    }

    /// Whether it is told from what is not hoop's by the CA's certificate.
    fn is_of_the_ca(self) -> bool {
        matches!(self, Self::Postgres | Self::Kubeconfig | Self::CaFile)
    }
}

/// What is noted, open to be added to. An account that gives itself something notes nothing: it is found
/// by its home.
pub struct Notes {
    path: PathBuf,
    known: BTreeSet<(Given, PathBuf)>,
    /// Root's alone; it stays open where root becomes another account.
    file: Option<File>,
}

impl Notes {
    /// To be opened while this is root, and before anything is given.
    pub fn open(state: &Path) -> Result<Self> {
        if !geteuid().is_root() {
            return Ok(Self::none());
        }
        let folder = state.join(folders::KEEPER);
        let path = folder.join(NOTES);
        let opened = std::fs::create_dir_all(&folder).and_then(|()| {
            File::options()
                .append(true)
                .create(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&path)
        });
        let file = opened.with_context(|| format!("cannot note it in {}", path.display()))?;
        Ok(Self {
            known: read(&folder)?,
            file: Some(file),
            path,
        })
    }

    /// That take nothing.
    pub fn none() -> Self {
        Self {
            path: PathBuf::new(),
            known: BTreeSet::new(),
            file: None,
        }
    }

    /// Notes where something is about to be given.
    pub fn add(&mut self, given: Given, place: &Path) -> Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let place = std::path::absolute(place)?;
        if self.known.contains(&(given, place.clone())) {
            return Ok(());
        }
        let shown = place.to_str().filter(|place| !place.contains('\n'));
        let shown = shown.with_context(|| format!("{place:?} cannot be noted"))?;
        writeln!(file, "{}\t{shown}", given.name())
            .and_then(|()| file.sync_all())
            .with_context(|| format!("cannot note it in {}", self.path.display()))?;
        self.known.insert((given, place));
        Ok(())
    }
}

/// Notes one place where root is about to give something.
pub fn note(state: &Path, given: Given, place: &Path) -> Result<()> {
    Notes::open(state)?.add(given, place)
}

/// Fails where it cannot tell what was noted.
fn read(folder: &Path) -> Result<BTreeSet<(Given, PathBuf)>> {
    let path = folder.join(NOTES);
    let opened = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(&path);
    let mut text = String::new();
    let read = match opened {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
        opened => opened.and_then(|file| file.take(MAX_NOTES).read_to_string(&mut text)),
    };
    let read = read.with_context(|| format!("cannot read {}", path.display()))?;
    ensure!((read as u64) < MAX_NOTES, "{} is too long", path.display());
    let line = |line: &str| {
        let (name, place) = line.split_once('\t')?;
        let given = Given::ALL.into_iter().find(|g| g.name() == name)?;
        Some((given, PathBuf::from(place)))
    };
    Ok(text.lines().filter_map(line).collect())
}

/// Why a place is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whence {
    /// Root gave something there: it must be taken back.
    Noted,
    /// Its account may have helped itself. What lies there may have nothing to do with hoop, and is left
    /// as it is where hoop cannot change it.
    Guessed,
}

/// 1 if anything that was noted could not be taken back.
pub fn run(args: &Args) -> Result<ExitCode> {
    let within = |path: &Path| match &args.root {
        Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
        None => path.to_owned(),
    };
    let state = match &args.state {
        Some(state) => state.clone(),
        None => {
            let written = Written::read(&within(&args.config));
            within(
                &written
                    .context("which state directory it is is not known; give it with --state")?
                    .state,
            )
        }
    };
    let guessed = |given| move |place| ((given, place), Whence::Guessed);
    let mut all = BTreeMap::new();
    for home in homes(&within(Path::new("/etc/passwd")))? {
        for given in [Given::Postgres, Given::Kubeconfig, Given::Ssh] {
            all.extend([guessed(given)(within(&home))]);
        }
    }
    all.extend([guessed(Given::SshSystem)(within(Path::new(
        trust_ssh::SYSTEM,
    )))]);
    for (given, place) in read(&state.join(folders::KEEPER))? {
        all.insert((given, within(&place)), Whence::Noted);
    }
    let authority = state.join(CERTIFICATE_FILE);
    let known = is_there(&authority)?;
    let mut left = false;
    for ((given, place), whence) in all {
        let file = given.file(&place);
        let done = match is_there(&file) {
            Ok(false) => continue,
            Ok(true) if known || !given.is_of_the_ca() => take_back(given, &place, &state),
            // Nobody was given one, as far as one can tell.
            Ok(true) if whence == Whence::Guessed => continue,
            Ok(true) => Err(anyhow!(
                "{} is gone, so which certificate was hoop's cannot be told",
                authority.display()
            )),
            Err(error) => Err(error),
        };
        let Err(error) = done else { continue };
        let file = file.display();
        match whence {
            Whence::Noted => {
                left = true;
                eprintln!(
                    "hoop: {file}: {error:#}. If nothing of hoop's is left there, take its line out of {}",
                    state.join(folders::KEEPER).join(NOTES).display()
                );
            }
            Whence::Guessed => {
                eprintln!("hoop: {file} is left as it is; root gave nothing there: {error:#}");
            }
        }
    }
    Ok(match left {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// Whether there is anything of that name; fails where that cannot be told. What an account mounted in its
/// home may never answer.
fn is_there(path: &Path) -> Result<bool> {
    let (tell, told) = std::sync::mpsc::channel();
    let looked = path.to_owned();
    std::thread::spawn(move || tell.send(std::fs::symlink_metadata(looked).map(|_| ())));
    match told.recv_timeout(ANSWERED_WITHIN) {
        Ok(Ok(())) => Ok(true),
        Ok(Err(error))
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
        {
            Ok(false)
        }
        Ok(Err(error)) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
        Err(_) => bail!("{} did not answer", path.display()),
    }
}

/// By a process of its own, which says what it does.
fn take_back(given: Given, place: &Path, state: &Path) -> Result<()> {
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
    finished(command, TAKEN_BACK_WITHIN)
}

/// Fails if the program does, or does not come to an end: what it reads is an account's own.
fn finished(mut command: Command, within: Duration) -> Result<()> {
    let mut child = command.spawn().context("cannot start hoop itself")?;
    let until = Instant::now() + within;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for it")? {
            ensure!(status.success(), "it could not be taken back");
            return Ok(());
        }
        if Instant::now() >= until {
            // Not waited for: one that hangs in a file system ends when that answers.
            child.kill().context("cannot end what hangs")?;
            bail!("it did not come to an end within {} s", within.as_secs());
        }
        std::thread::sleep(LOOKED_EVERY);
    }
}

/// Folders that accounts live in.
fn homes(passwd: &Path) -> Result<BTreeSet<PathBuf>> {
    let bytes = match std::fs::read(passwd) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        bytes => bytes.with_context(|| format!("cannot read {}", passwd.display()))?,
    };
    let text = String::from_utf8_lossy(&bytes);
    let home = |line: &str| line.split(':').nth(5).map(PathBuf::from);
    let real = |home: &PathBuf| home.is_absolute() && home != Path::new("/");
    Ok(text.lines().filter_map(home).filter(real).collect())
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
        let noted = read(&state.path().join(folders::KEEPER)).unwrap();
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
        assert!(read(state.path()).is_err());
        std::fs::remove_file(state.path().join(NOTES)).unwrap();
        std::fs::write(state.path().join(NOTES), "ssh\t/home/a\nnonsense\nx\ty\n").unwrap();
        let noted: Vec<_> = read(state.path()).unwrap().into_iter().collect();
        assert_eq!(noted, [(Given::Ssh, PathBuf::from("/home/a"))]);
    }

    #[test]
    fn homes_are_those_of_accounts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passwd");
        let text = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/x\nodd\nbot:x:1:1::/home/bot:/x\n";
        std::fs::write(&path, text).unwrap();
        let found: Vec<_> = homes(&path).unwrap().into_iter().collect();
        assert_eq!(found, [Path::new("/home/bot"), Path::new("/root")]);
    }

    #[test]
    fn only_what_is_not_there_counts_as_gone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        assert!(!is_there(&file).unwrap());
        std::os::unix::fs::symlink("nowhere", &file).unwrap();
        assert!(is_there(&file).unwrap());
        std::fs::write(folder.path().join("plain"), "").unwrap();
        assert!(!is_there(&folder.path().join("plain/below")).unwrap());
        let long = folder.path().join("x".repeat(300));
        assert!(is_there(&long).is_err());
    }

    #[test]
    fn what_hangs_is_ended_and_what_fails_has_failed() {
        let sleep = || {
            let mut sleep = Command::new("sleep");
            sleep.arg("60");
            sleep
        };
        let started = Instant::now();
        assert!(finished(sleep(), Duration::from_millis(50)).is_err());
        assert!(started.elapsed() < Duration::from_secs(30));
        assert!(finished(Command::new("false"), Duration::from_secs(30)).is_err());
        finished(Command::new("true"), Duration::from_secs(30)).unwrap();
    }

    #[test]
    fn what_was_noted_and_cannot_be_taken_back_is_no_success() {
        let root = tempfile::tempdir().unwrap();
        let undo = || {
            let args = Args {
                config: "/etc/hoop/hoop.toml".into(),
                state: None,
                root: Some(root.path().to_owned()),
            };
            run(&args).map(|code| format!("{code:?}"))
        };
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let fine = format!("{:?}", ExitCode::SUCCESS);
        // A home that hoop never touched: without hoop's authority, nothing of hoop's is in it.
        put("etc/passwd", "bot:x:1:1::/home/bot:/x\n");
        put("home/bot/.postgresql/root.crt", "theirs\n");
        assert_eq!(undo().unwrap(), fine);
        // Noted, it is another matter; and places are those below the root.
        put("var/lib/hoop/keeper/trusted", "ca-file\t/srv/ca.crt\n");
        assert_eq!(undo().unwrap(), fine);
        put("srv/ca.crt", "ours\n");
        assert_ne!(undo().unwrap(), fine);
        // Elsewhere, as the configuration says, whatever else is wrong with it.
        put(
            "etc/hoop/hoop.toml",
            "odd = 1\n[worker]\nstate = \"/srv/hoop\"\n",
        );
        assert_eq!(undo().unwrap(), fine);
        put("etc/hoop/hoop.toml", "[worker\n");
        assert!(undo().is_err());
    }
}
