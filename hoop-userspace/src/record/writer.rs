//! Appends frames to one file.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::flush::{Dirty, Flusher};
use super::format::{self, Kind, Link, MAGIC};

/// What could not be recorded, and so must not happen.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RecordError {
    #[error("cannot {what} {path}: {why}; free space or mend the directory, then connect again")]
    Io {
        what: &'static str,
        path: PathBuf,
        why: String,
    },
    #[error("{path} could not be written before; nothing more is written to it")]
    Failed { path: PathBuf },
    #[error("an event is larger than a frame may be ({} MiB)", format::MAX_PAYLOAD >> 20)]
    TooLarge,
    #[error("{path} is no usable sealing key: {why}; move it away and a new one is made")]
    Key { path: PathBuf, why: String },
}

impl RecordError {
    pub(super) fn io(what: &'static str, path: &Path, error: impl std::fmt::Display) -> Self {
        Self::Io {
            what,
            path: path.to_owned(),
            why: error.to_string(),
        }
    }
}

/// Room that is kept for refusals and the end of a session when the disk is full.
const RESERVE: u64 = 16 * 1024;

/// A buffer larger than this is not kept between frames.
const KEEP_BUFFER: usize = 32 * 1024;

pub(super) struct Writer {
    file: Arc<File>,
    path: PathBuf,
    link: Link,
    buffer: Vec<u8>,
    written: u64,
    failed: bool,
    dirty: Arc<Dirty>,
}

impl Writer {
    /// Makes a new file and writes its preamble.
    pub(super) fn create(
        path: PathBuf,
        chain: &[u8; 16],
        flusher: &Flusher,
    ) -> Result<Self, RecordError> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = File::options()
            .create_new(true)
            .append(true)
            .mode(0o640)
            .open(&path);
        let file = Arc::new(file.map_err(|e| RecordError::io("create", &path, e))?);
        let dirty = flusher.watch(file.clone());
        let mut writer = Self {
            file,
            path,
            link: Link::first(chain),
            buffer: Vec::new(),
            written: 0,
            failed: false,
            dirty,
        };
        writer.buffer.extend_from_slice(MAGIC);
        writer.buffer.extend_from_slice(chain);
        writer.write_out()?;
        Ok(writer)
    }

    pub(super) fn link(&self) -> Link {
        self.link
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn dirty(&self) -> &Arc<Dirty> {
        &self.dirty
    }

    #[cfg(test)]
    pub(super) fn break_for_test(&mut self) {
        self.failed = true;
    }

    /// Appends one frame with one write. After an error the file takes nothing any more.
    pub(super) fn append(
        &mut self,
        kind: Kind,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), RecordError> {
        if self.failed {
            return Err(RecordError::Failed {
                path: self.path.clone(),
            });
        }
        if let Some(why) = self.dirty.failure() {
            self.failed = true;
            return Err(RecordError::io("sync", &self.path, why));
        }
        if !format::put(&mut self.buffer, &mut self.link, kind, now(), fill) {
            return Err(RecordError::TooLarge);
        }
        self.write_out()
    }

    fn write_out(&mut self) -> Result<(), RecordError> {
        let wrote = (&*self.file).write_all(&self.buffer);
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(KEEP_BUFFER);
        if let Err(error) = wrote {
            self.failed = true;
            return Err(RecordError::io("write", &self.path, error));
        }
        self.dirty.mark();
        Ok(())
    }

    /// Sets blocks aside behind the end of the file, so that what ends a session can be written
    /// when the disk is full. Best effort: some file systems cannot.
    pub(super) fn reserve(&self) {
        use nix::fcntl::{FallocateFlags, fallocate};
        let offset = i64::try_from(self.written).unwrap_or(i64::MAX);
        let flags = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        if let Err(error) = fallocate(&*self.file, flags, offset, RESERVE as i64) {
            tracing::debug!(%error, path = %self.path.display(), "no room reserved");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.dirty.close();
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_micros() as u64)
}
