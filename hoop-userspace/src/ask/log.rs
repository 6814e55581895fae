//! The log of questions: a ledger of its own, chained like every other, from which the desk is built
//! again when the keeper starts.
//!
//! Each start begins a new file with what goes on, and says when all of that is written; so only
//! the newest file that says so is read. A file whose chain is broken is believed in nothing: what
//! it approved must be approved again.

use std::path::{Path, PathBuf};

use super::case::Entry;
use super::desk::Desk;
use crate::record::{Ledger, RecordError};
use crate::replay::{Reader, ReplayError, Told};

/// Files are called `approvals-ID.ledger`.
const NAME: &str = "approvals";

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("an earlier log of approvals cannot be believed, so what it approved is void: {0}")]
    Replay(#[from] ReplayError),
}

pub struct ApprovalLog {
    ledger: Ledger,
}

impl ApprovalLog {
    /// Fills the desk with what goes on, and begins a new file. Also says what was wrong with the
    /// earlier one, if something was.
    pub fn open(
        folder: &Path,
        earlier: &[PathBuf],
        desk: &mut Desk,
    ) -> Result<(Self, Option<LogError>), RecordError> {
        let (previous, problem) = match restore(earlier, desk) {
            Ok(previous) => (previous, None),
            Err(error) => (None, Some(error.into())),
        };
        let mut log = Self {
            ledger: Ledger::open(folder, NAME)?,
        };
        let carried = desk.carried();
        for entry in &carried {
            log.append(entry)?;
        }
        log.append(&Entry::ApprovalsReady {
            carried: carried.len(),
            previous,
        })?;
        Ok((log, problem))
    }

    pub fn append(&mut self, entry: &Entry) -> Result<(), RecordError> {
        self.ledger.append(entry)
    }

    /// Resolves when everything appended so far is on the disk.
    pub fn durable(&self) -> impl Future<Output = Result<(), RecordError>> + Send + 'static {
        self.ledger.durable()
    }
}

/// Reads the newest file that is whole at its beginning; says where its chain ends.
fn restore(earlier: &[PathBuf], desk: &mut Desk) -> Result<Option<String>, ReplayError> {
    let mut files: Vec<_> = earlier.iter().filter(|path| is_ours(path)).collect();
    files.sort();
    for path in files.into_iter().rev() {
        // Twice, because nothing of it counts before its whole chain is seen to hold, and it may be
        // long.
        let mut whole = false;
        let link = each(path, |entry| {
            whole |= matches!(entry, Entry::ApprovalsReady { .. });
        })?;
        if whole {
            each(path, |entry| desk.restore([entry]))?;
            return Ok(link);
        }
    }
    Ok(None)
}

/// Reads every entry; says where the chain ends.
fn each(path: &Path, mut entry: impl FnMut(Entry)) -> Result<Option<String>, ReplayError> {
    let mut reader = Reader::open(path)?;
    while let Some(event) = reader.next_event()? {
        if let Told::Entry(told) = event.told {
            // Entries of a later version are none of ours.
            serde_json::from_value(told)
                .ok()
                .into_iter()
                .for_each(&mut entry);
        }
    }
    Ok(reader.link().map(|link| crate::hex::encode(link.0)))
}

fn is_ours(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with(&format!("{NAME}-")))
}
