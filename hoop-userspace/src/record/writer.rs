//! Appends frames to one file.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use smallvec::SmallVec;

use super::flush::{Dirty, Flusher};
use super::format::{self, HEAD, Kind, Link, MAGIC, Times};

/// What could not be recorded, and so must not happen.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RecordError {
    #[error("cannot {what} {path}: {why}; free space or mend the directory, then connect again")]
    Io {
        what: &'static str,
        path: PathBuf,
        why: String,
    },
    #[error("there is no room for more of {path}; free space, then connect again")]
    Full { path: PathBuf },
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

/// Room is set aside in pieces of this size, so that few frames pay for it.
const STEP: u64 = 128 * 1024;

/// A buffer larger than this is not kept between frames.
const KEEP_BUFFER: usize = 4 * 1024;

/// Up to this much a payload is copied into one buffer: cheaper than a list for the kernel to walk.
const COPIED: usize = 2 * 1024;

/// Pieces of a payload that are written from where they lie; with more, all are copied.
const PIECES: usize = 32;

pub(super) struct Writer {
    file: Arc<File>,
    path: PathBuf,
    link: Link,
    begun: Instant,
    buffer: Vec<u8>,
    written: u64,
    room: Room,
    /// Bytes of the buffer that stand before the first frame.
    preamble: usize,
    failed: bool,
    dirty: Arc<Dirty>,
}

/// What is known of the disk's room for this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// Blocks are set aside up to here, behind the end of the file.
    Until(u64),
    /// The same, and there are no more to be had.
    Full(u64),
    /// This file system sets nothing aside.
    Unknown,
}

impl Writer {
    /// Makes a new file. Its preamble is written with the first frame.
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
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path);
        let file = Arc::new(file.map_err(|e| RecordError::io("create", &path, e))?);
        let dirty = flusher.watch(*chain, file.clone(), path.parent());
        let buffer = [&MAGIC[..], chain].concat();
        Ok(Self {
            file,
            path,
            link: Link::first(chain),
            begun: Instant::now(),
            preamble: buffer.len(),
            buffer,
            written: 0,
            room: Room::Until(0),
            failed: false,
            dirty,
        })
    }

    pub(super) fn link(&self) -> Link {
        self.link
    }

    #[cfg(test)]
    pub(super) fn dirty(&self) -> &Arc<Dirty> {
        &self.dirty
    }

    /// Resolves when everything appended so far is on the disk.
    pub(super) fn durable(&self) -> impl Future<Output = Result<(), RecordError>> + Send + 'static {
        let durable = self.dirty.durable();
        let path = self.path.clone();
        async move {
            durable
                .await
                .map_err(|why| RecordError::io("sync", &path, why))
        }
    }

    #[cfg(test)]
    pub(super) fn break_for_test(&mut self) {
        self.failed = true;
    }

    /// Appends one frame with one write: what `fill` appends, then `rest`. After an error of the
    /// disk the file takes nothing any more; without room it takes what ends a session.
    pub(super) fn append(
        &mut self,
        kind: Kind,
        rest: &[&[u8]],
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), RecordError> {
        self.check()?;
        let start = self.preamble;
        self.buffer.truncate(start);
        self.buffer.extend_from_slice(&[0; HEAD]);
        fill(&mut self.buffer);
        let rest_length: usize = rest.iter().map(|r| r.len()).sum();
        let length = self.buffer.len() - start - HEAD + rest_length;
        let head = format::head(kind, self.now(), length).ok_or(RecordError::TooLarge)?;
        self.make_room((start + HEAD + length + format::HASH) as u64, kind)?;
        if let Some(slot) = self.buffer.get_mut(start..start + HEAD) {
            slot.copy_from_slice(&head);
        }
        let copied = rest_length <= COPIED || rest.len() > PIECES;
        if copied {
            rest.iter().for_each(|r| self.buffer.extend_from_slice(r));
        }
        let rest = if copied { &[] } else { rest };
        let frame = self.buffer.get(start..).unwrap_or_default();
        self.link = self.link.after(frame, rest);
        let hash = self.link.0;
        if copied {
            self.buffer.extend_from_slice(&hash);
            return self.write_out(&[]);
        }
        let mut pieces: SmallVec<[&[u8]; 8]> = SmallVec::from_slice(rest);
        pieces.push(&hash);
        self.write_out(&pieces)
    }

    fn check(&mut self) -> Result<(), RecordError> {
        if self.failed {
            return Err(RecordError::Failed {
                path: self.path.clone(),
            });
        }
        if let Some(why) = self.dirty.failure() {
            self.failed = true;
            return Err(RecordError::io("sync", &self.path, why));
        }
        Ok(())
    }

    /// Writes the buffer and these pieces.
    fn write_out(&mut self, rest: &[&[u8]]) -> Result<(), RecordError> {
        let wrote = write_all(&self.file, &self.buffer, rest);
        if let Err(error) = wrote {
            self.failed = true;
            // Half a frame says nothing; what stands before it is left to be read.
            let _ = self.file.set_len(self.written);
            return Err(RecordError::io("write", &self.path, error));
        }
        let length = self.buffer.len() + rest.iter().map(|r| r.len()).sum::<usize>();
        self.written += length as u64;
        self.buffer.clear();
        self.buffer.shrink_to(KEEP_BUFFER);
        self.preamble = 0;
        self.dirty.mark(self.link);
        Ok(())
    }

    /// Sees to it that a frame of this length leaves room for what ends a session, where room is
    /// scarce: on a disk with plenty it would double what a short session costs. What ends a
    /// session takes that room.
    fn make_room(&mut self, length: u64, kind: Kind) -> Result<(), RecordError> {
        if self.room == Room::Until(0) && !self.dirty.is_scarce() {
            return Ok(());
        }
        let last_words = matches!(
            kind,
            Kind::Refused | Kind::Cancel | Kind::Answered | Kind::End | Kind::Seal
        );
        let end = self.written + length;
        match self.room {
            Room::Unknown => Ok(()),
            Room::Until(there) if end + RESERVE <= there => Ok(()),
            Room::Full(there) if last_words && end <= there => Ok(()),
            Room::Full(_) => Err(self.full()),
            Room::Until(there) => match self.set_aside(self.written, length + STEP) {
                Err(RecordError::Full { .. }) if last_words && end <= there => Ok(()),
                other => other,
            },
        }
    }

    /// Sets blocks aside behind the end of the file, so that what ends a session can be written
    /// when the disk is full.
    fn set_aside(&mut self, from: u64, length: u64) -> Result<(), RecordError> {
        let there = match self.room {
            Room::Until(there) | Room::Full(there) => there,
            Room::Unknown => return Ok(()),
        };
        let offset = i64::try_from(from).unwrap_or(i64::MAX);
        let flags = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        match fallocate(&*self.file, flags, offset, length as i64) {
            Ok(()) => self.room = Room::Until(from + length),
            Err(Errno::ENOSPC | Errno::EDQUOT) => {
                self.room = Room::Full(there);
                return Err(self.full());
            }
            Err(error) => {
                tracing::debug!(%error, path = %self.path.display(), "no room can be set aside");
                self.room = Room::Unknown;
            }
        }
        Ok(())
    }

    fn full(&self) -> RecordError {
        RecordError::Full {
            path: self.path.clone(),
        }
    }

    fn now(&self) -> Times {
        Times {
            at: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |d| d.as_micros() as u64),
            since: self.begun.elapsed().as_micros() as u64,
        }
    }
}

/// One write, unless the kernel takes less at once.
fn write_all(mut file: &File, first: &[u8], rest: &[&[u8]]) -> std::io::Result<()> {
    if rest.is_empty() {
        return file.write_all(first);
    }
    let pieces = std::iter::once(&first).chain(rest);
    let mut slices: SmallVec<[IoSlice<'_>; 8]> = pieces.map(|p| IoSlice::new(p)).collect();
    let mut left: &mut [IoSlice<'_>] = &mut slices;
    while !left.is_empty() {
        match file.write_vectored(left) {
            Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
            Ok(wrote) => IoSlice::advance_slices(&mut left, wrote),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Drop for Writer {
    fn drop(&mut self) {
        if matches!(self.room, Room::Until(there) | Room::Full(there) if there > self.written) {
            // Gives back what was set aside and not needed.
            let _ = self.file.set_len(self.written);
        }
        self.dirty.close();
    }
}
