//! Broken glass: who let an agent's connections past hoop, why, and until when.
//!
//! The kernel's map is what counts; this list, in the keeper's folder, says what the map cannot. The
//! command writes both, so that it needs no daemon, and the keeper follows: it lets cgroups that come
//! later pass too, writes down when a bypass begins and ends, and ends the connections it leaves.
//! An entry of the map that the list does not have is taken away.

mod ending;
mod follow;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::capture::boot_now;
use crate::whole;

pub use ending::end_connections;
pub use follow::Follower;

/// Below the keeper's folder.
const FILE: &str = "break-glass.json";
const LOCK: &str = "break-glass.lock";
/// Far more than the file ever holds.
const MAX_FILE: u64 = 1 << 20;
/// Another changes the list for some milliseconds at most.
const LOCKED_FOR: Duration = Duration::from_secs(5);
/// Changes with every start of the host (proc_sys_kernel(5)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The longest that the glass may stay broken.
pub const MOST: Duration = Duration::from_nanos(hoop_common::Bypass::MOST);

#[derive(Debug, thiserror::Error)]
pub enum BypassError {
    #[error("the list of bypasses at {path} cannot be read or written: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error(
        "the list of bypasses at {path} is damaged ({source}): all of them have ended; remove it"
    )]
    Damaged {
        path: PathBuf,
        source: serde_json::Error,
    },
}

/// One breaking of the glass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    pub agent: String,
    /// What the map's entries have.
    pub number: u64,
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// For people: the host's clock may be set meanwhile, and does not change when it ends.
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
    /// CLOCK_BOOTTIME, nanoseconds.
    pub until_boot: u64,
    pub by: String,
    pub reason: String,
    /// Before its time.
    pub ended: Option<Ended>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub by: String,
    pub reason: String,
}

impl Broken {
    /// From now on for so long, which must be between a second and [`MOST`].
    pub fn new(agent: &str, lasts: Duration, by: &str, reason: &str) -> Self {
        let now = boot_now();
        let since = SystemTime::now();
        let nanoseconds = u64::try_from(lasts.min(MOST).as_nanos()).unwrap_or_default();
        Self {
            agent: agent.to_owned(),
            number: now.max(1),
            since: since.into(),
            until: (since + lasts).into(),
            until_boot: now.saturating_add(nanoseconds),
            by: by.to_owned(),
            reason: reason.to_owned(),
            ended: None,
        }
    }

    /// Whether it lets anything pass at that moment of CLOCK_BOOTTIME.
    pub fn holds(&self, now: u64) -> bool {
        self.ended.is_none() && self.entry().holds(now)
    }

    /// As the kernel has it.
    pub fn entry(&self) -> hoop_common::Bypass {
        hoop_common::Bypass {
            until: self.until_boot,
            number: self.number,
        }
    }

    pub fn left(&self) -> Duration {
        Duration::from_nanos(self.until_boot.saturating_sub(boot_now()))
    }
}

#[derive(Default, Serialize, Deserialize)]
struct List {
    /// The start of the host that they belong to: none outlives it, because the map does not.
    boot: String,
    broken: Vec<Broken>,
}

/// The list as it is now; those that are over, but not yet written down, too.
pub fn read(folder: &Path) -> Result<Vec<Broken>, BypassError> {
    let path = folder.join(FILE);
    let failed = |source| BypassError::File {
        path: path.clone(),
        source,
    };
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
    let file = match options.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut text = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, MAX_FILE), &mut text).map_err(failed)?;
    let list: Result<List, _> = serde_json::from_slice(&text);
    let list = list.map_err(|source| BypassError::Damaged {
        path: path.clone(),
        source,
    })?;
    Ok(match list.boot == boot() {
        true => list.broken,
        false => Vec::new(),
    })
}

/// Changes the list while nobody else does. What is damaged is begun anew. Blocks.
pub fn change<T>(
    folder: &Path,
    change: impl FnOnce(&mut Vec<Broken>) -> T,
) -> Result<T, BypassError> {
    let failed = |source| BypassError::File {
        path: folder.join(FILE),
        source,
    };
    let _alone = alone(folder).map_err(failed)?;
    let before = match read(folder) {
        Err(BypassError::Damaged { .. }) => None,
        other => Some(other?),
    };
    let mut broken = before.clone().unwrap_or_default();
    let result = change(&mut broken);
    if before.as_ref() != Some(&broken) {
        let list = List {
            boot: boot(),
            broken,
        };
        let text = serde_json::to_vec_pretty(&list).map_err(|error| failed(error.into()))?;
        whole::write(&folder.join(FILE), &text, 0o600).map_err(failed)?;
    }
    Ok(result)
}

fn alone(folder: &Path) -> io::Result<Flock<File>> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(folder.join(LOCK))?;
    let started = std::time::Instant::now();
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((_, errno)) if started.elapsed() > LOCKED_FOR => return Err(errno.into()),
            Err((back, _)) => file = back,
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn boot() -> String {
    let text = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_kept_and_none_outlives_the_hosts_start() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), []);
        let broken = Broken::new("bot", Duration::from_secs(60), "root", "the issuer is down");
        change(folder.path(), |list| list.push(broken.clone())).unwrap();
        let kept = read(folder.path()).unwrap();
        assert_eq!(kept[0].number, broken.number);
        assert!(kept[0].holds(boot_now()) && kept[0].left() <= Duration::from_secs(60));
        let path = folder.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace(&boot(), "another-boot")).unwrap();
        assert_eq!(read(folder.path()).unwrap(), []);
    }

    #[test]
    fn a_damaged_list_lets_nobody_pass_and_can_be_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "{\"boot\":").unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("damaged"), "{error}");
        let broken = Broken::new("bot", Duration::from_secs(60), "root", "x");
        change(folder.path(), |list| list.push(broken)).unwrap();
        assert_eq!(read(folder.path()).unwrap().len(), 1);
    }

    #[test]
    fn it_lasts_no_longer_than_the_most() {
        let long = Broken::new("bot", MOST * 3, "root", "x");
        assert!(long.holds(boot_now()) && long.left() <= MOST);
        let mut ended = long.clone();
        ended.ended = Some(Ended {
            by: "root".into(),
            reason: String::new(),
        });
        assert!(!ended.holds(boot_now()));
        assert!(!long.holds(long.until_boot));
    }
}
