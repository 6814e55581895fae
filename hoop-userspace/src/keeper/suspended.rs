//! Who is suspended: kept on disk, so that no restart lets anybody go on, and told to every worker.
//!
//! The worker may add to the list and never take away: it reads what agents send, and must not be
//! able to let one go on.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::journal::{Entry, Journal};
use crate::identify::{Suspension, Suspensions};
use crate::whole;

/// Below the keeper's folder.
const FILE: &str = "suspended.json";
/// Far more than the file ever holds.
const MAX_FILE: u64 = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum SuspendedError {
    #[error("the list of suspended agents at {path} cannot be read or written: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error(
        "the list of suspended agents at {path} is damaged ({source}): mend it, or remove it and suspend again whom you must"
    )]
    Damaged {
        path: PathBuf,
        source: serde_json::Error,
    },
}

/// The list as it is now.
pub struct Suspended {
    path: PathBuf,
    journal: Arc<Journal>,
    list: watch::Sender<Suspensions>,
    /// Held while the file and the list are changed together.
    changing: Mutex<()>,
}

impl Suspended {
    pub fn open(folder: &Path, journal: Arc<Journal>) -> Result<Self, SuspendedError> {
        let path = folder.join(FILE);
        let list = read(&path)?;
        Ok(Self {
            path,
            journal,
            list: watch::Sender::new(list),
            changing: Mutex::new(()),
        })
    }

    /// The list, now and at every change.
    pub fn subscribe(&self) -> watch::Receiver<Suspensions> {
        self.list.subscribe()
    }

    /// Suspends, on disk before it is said. Says whether that changed anything. Where the disk
    /// fails it holds until the keeper ends, and the error says so.
    pub fn suspend(&self, suspension: Suspension) -> Result<bool, SuspendedError> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = self.list.borrow().clone();
        if !list.add(suspension.clone()) {
            return Ok(false);
        }
        let written = write(&self.path, &list);
        self.list.send_replace(list);
        self.journal.write(&Entry::Suspended {
            agent: suspension.agent.to_string(),
            instance: suspension.instance,
            by: suspension.by,
            why: suspension.why,
        });
        written.map(|()| true)
    }

    /// Lets an agent, or one instance, go on; says how many entries that took away. Nothing changes
    /// where the disk fails.
    pub fn resume(
        &self,
        agent: &str,
        instance: Option<&str>,
        reason: &str,
    ) -> Result<usize, SuspendedError> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = self.list.borrow().clone();
        let found = list.remove(agent, instance);
        if found > 0 {
            write(&self.path, &list)?;
            self.list.send_replace(list);
            self.journal.write(&Entry::Resumed {
                agent: agent.to_owned(),
                instance: instance.map(str::to_owned),
                reason: reason.to_owned(),
            });
        }
        Ok(found)
    }
}

/// The list in the keeper's folder, for tools that ask no daemon.
pub fn read_list(folder: &Path) -> Result<Suspensions, SuspendedError> {
    read(&folder.join(FILE))
}

fn read(path: &Path) -> Result<Suspensions, SuspendedError> {
    let failed = |source| SuspendedError::File {
        path: path.to_owned(),
        source,
    };
    let mut options = OpenOptions::new();
    let opened = options
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Suspensions::default()),
        Err(error) => return Err(failed(error)),
    };
    let mut text = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, MAX_FILE), &mut text).map_err(failed)?;
    serde_json::from_slice(&text).map_err(|source| SuspendedError::Damaged {
        path: path.to_owned(),
        source,
    })
}

/// Complete or not at all: a crash must not lose who was suspended.
fn write(path: &Path, list: &Suspensions) -> Result<(), SuspendedError> {
    let failed = |source| SuspendedError::File {
        path: path.to_owned(),
        source,
    };
    let text = serde_json::to_vec_pretty(list).map_err(|error| failed(error.into()))?;
    whole::write(path, &text, 0o600).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identify::By;
    use crate::keeper::journal::Book;
    use std::time::SystemTime;

    struct Kept(Arc<Mutex<Vec<String>>>);

    impl Book for Kept {
        fn append(&mut self, entry: &Entry) -> Result<(), String> {
            let line = serde_json::to_string(entry).unwrap();
            self.0.lock().unwrap().push(line);
            Ok(())
        }
    }

    fn suspension(agent: &str) -> Suspension {
        Suspension {
            agent: agent.into(),
            instance: None,
            since: SystemTime::now(),
            by: By::Operator,
            why: "test".into(),
        }
    }

    #[test]
    fn it_outlives_the_keeper_and_is_journalled() {
        let folder = tempfile::tempdir().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let open = || {
            let journal = Arc::new(Journal::new(Kept(lines.clone())));
            Suspended::open(folder.path(), journal).unwrap()
        };
        let first = open();
        assert!(first.suspend(suspension("bot")).unwrap());
        assert!(!first.suspend(suspension("bot")).unwrap());
        drop(first);
        let second = open();
        let list = second.subscribe().borrow().clone();
        assert!(list.find(&"bot".into(), None).is_some());
        assert_eq!(second.resume("other", None, "x").unwrap(), 0);
        assert_eq!(second.resume("bot", None, "looked at").unwrap(), 1);
        assert_eq!(read_list(folder.path()).unwrap(), Suspensions::default());
        let lines = lines.lock().unwrap();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[1].contains("looked at"), "{lines:?}");
    }

    #[test]
    fn a_damaged_list_is_not_taken_for_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "[{\"agent\":").unwrap();
        let error = read_list(folder.path()).unwrap_err().to_string();
        assert!(error.contains("damaged"), "{error}");
    }
}
