//! The list on disk, which the command and the keeper change in turn.
//!
//! Where its disk takes nothing any more, full or read-only, the list goes to the runtime folder, which
//! is in memory: an emergency may well be that. It counts there for as long as it is there, and goes
//! back with the first change that the disk takes. A stop of the service takes it away, and with it
//! every bypass.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::{Broken, BypassError};
use crate::config::Config;
use crate::keeper::folders::KEEPER;
use crate::whole;

const FILE: &str = "break-glass.json";
const LOCK: &str = "break-glass.lock";
/// Far more than the file ever holds.
const MAX_FILE: u64 = 1 << 20;
/// Another changes the list for some milliseconds at most.
const LOCKED_FOR: Duration = Duration::from_secs(5);
/// Changes with every start of the host (proc_sys_kernel(5)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Where the list is.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The keeper's own.
    folder: PathBuf,
    /// In memory: the runtime folder.
    spare: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct List {
    /// The start of the host that they belong to: none outlives it, because the map does not.
    boot: String,
    broken: Vec<Broken>,
}

impl Kept {
    pub fn new(folder: &Path, spare: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            spare: spare.to_owned(),
        }
    }

    pub fn of(config: &Config) -> Self {
        Self::new(&config.worker.state.join(KEEPER), &config.worker.runtime)
    }

    /// The list as it is now; those that are over, but not yet written down, too.
    pub fn read(&self) -> Result<Vec<Broken>, BypassError> {
        match read(&self.spare.join(FILE))? {
            Some(list) => Ok(list),
            None => Ok(read(&self.folder.join(FILE))?.unwrap_or_default()),
        }
    }

    /// Changes the list while nobody else does. What is damaged is begun anew. Blocks.
    pub fn change<T>(&self, change: impl FnOnce(&mut Vec<Broken>) -> T) -> Result<T, BypassError> {
        let failed = |source| BypassError::File {
            path: self.folder.join(FILE),
            source,
        };
        let _alone = self.alone().map_err(failed)?;
        let before = match self.read() {
            Err(BypassError::Damaged { .. }) => None,
            other => Some(other?),
        };
        let mut broken = before.clone().unwrap_or_default();
        let result = change(&mut broken);
        let changed = before.as_ref() != Some(&broken);
        if changed || self.spare.join(FILE).exists() {
            let boot = boot();
            let list = List { boot, broken };
            let text = serde_json::to_vec_pretty(&list).map_err(|error| failed(error.into()))?;
            self.write(&text, changed).map_err(failed)?;
        }
        Ok(result)
    }

    /// Every second while it is in memory, for the disk may take it again; that is said of changes.
    fn write(&self, text: &[u8], changed: bool) -> io::Result<()> {
        let (path, spare) = (self.folder.join(FILE), self.spare.join(FILE));
        let Err(error) = whole::write(&path, text, 0o600) else {
            return gone(&spare);
        };
        let kept = made(&self.spare).and_then(|()| whole::write(&spare, text, 0o600));
        if kept.is_err() {
            return Err(error);
        }
        if changed {
            tracing::error!(%error, path = %path.display(), "the list of bypasses is kept in memory");
        }
        // What it said is not to hold again if the spare one goes first. A full disk lets it go; a
        // read-only one does not, and starts no daemon either.
        let _ = gone(&path);
        Ok(())
    }

    fn alone(&self) -> io::Result<Flock<File>> {
        let locked = lock_file(&self.folder.join(LOCK)).or_else(|error| {
            made(&self.spare).map_err(|_| error)?;
            lock_file(&self.spare.join(LOCK))
        });
        let mut file = locked?;
        let started = Instant::now();
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(lock),
                Err((_, errno)) if started.elapsed() > LOCKED_FOR => return Err(errno.into()),
                Err((back, _)) => file = back,
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// `None` where there is none.
fn read(path: &Path) -> Result<Option<Vec<Broken>>, BypassError> {
    let failed = |source| BypassError::File {
        path: path.to_owned(),
        source,
    };
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut text = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, MAX_FILE), &mut text).map_err(failed)?;
    let list: Result<List, _> = serde_json::from_slice(&text);
    let list = list.map_err(|source| BypassError::Damaged {
        path: path.to_owned(),
        source,
    })?;
    Ok(Some(match list.boot == boot() {
        true => list.broken,
        false => Vec::new(),
    }))
}

fn gone(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A stopped service has none.
fn made(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(folder)
}

/// Opened for reading where it is there: so much a read-only disk allows.
fn lock_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            options.write(true).create(true).truncate(false).mode(0o600);
            options.open(path)
        }
        other => other,
    }
}

fn boot() -> String {
    let text = fs::read_to_string(BOOT_ID).unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::boot_now;

    fn broken() -> Broken {
        let mut broken = Broken::new("bot", Duration::from_secs(60), "root", "the issuer is down");
        broken.begun = true;
        broken
    }

    /// A list, and the folder that it is kept in.
    fn kept() -> (tempfile::TempDir, Kept) {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("keeper");
        fs::create_dir(&folder).unwrap();
        let kept = Kept::new(&folder, &base.path().join("run"));
        (base, kept)
    }

    #[test]
    fn the_list_is_kept_and_none_outlives_the_hosts_start() {
        let (_base, kept) = kept();
        assert_eq!(kept.read().unwrap(), []);
        let broken = broken();
        kept.change(|list| list.push(broken.clone())).unwrap();
        let found = kept.read().unwrap();
        assert_eq!(found[0].number, broken.number);
        assert!(found[0].holds(boot_now()) && found[0].left() <= Duration::from_secs(60));
        let path = kept.folder.join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(&boot(), "another-boot")).unwrap();
        assert_eq!(kept.read().unwrap(), []);
    }

    #[test]
    fn a_damaged_list_lets_nobody_pass_and_can_be_begun_anew() {
        let (_base, kept) = kept();
        fs::write(kept.folder.join(FILE), "{\"boot\":").unwrap();
        let error = kept.read().unwrap_err().to_string();
        assert!(error.contains("damaged"), "{error}");
        kept.change(|list| list.push(broken())).unwrap();
        assert_eq!(kept.read().unwrap().len(), 1);
    }

    #[test]
    fn a_disk_that_takes_nothing_keeps_nobody_from_breaking_or_ending() {
        let (_base, kept) = kept();
        kept.change(|list| list.push(broken())).unwrap();
        // Root writes in spite of any mode: a folder in the file's way does what a full disk does.
        let beside = kept.folder.join(format!("{FILE}.new"));
        fs::create_dir(&beside).unwrap();
        kept.change(|list| list.push(broken())).unwrap();
        assert_eq!(kept.read().unwrap().len(), 2);
        kept.change(Vec::clear).unwrap();
        assert_eq!(kept.read().unwrap(), [], "what was ended holds again");
        // Nor if a stop of the service takes the spare one away.
        fs::remove_dir_all(&kept.spare).unwrap();
        assert_eq!(kept.read().unwrap(), []);
        // And back, once the disk takes it.
        kept.change(|list| list.push(broken())).unwrap();
        assert!(kept.spare.join(FILE).exists());
        fs::remove_dir(&beside).unwrap();
        kept.change(|_| ()).unwrap();
        assert!(!kept.spare.join(FILE).exists());
        assert_eq!(kept.read().unwrap().len(), 1);
    }
}
