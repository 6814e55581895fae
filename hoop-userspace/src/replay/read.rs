//! From a file's bytes to events, as far as the chain holds.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use ring::signature::{ED25519, UnparsedPublicKey};
use serde::Deserialize;

use crate::ids::SessionId;
use crate::record::{Anchor, Broken, Frame, Kind, Link, PREAMBLE, Step, Times, Walk};
use crate::record::{AnsweredNote, AskedNote, BulkNote, EndNote, Header, PermittedNote, REDACTED};
use crate::record::{RefusalNote, RenewedNote, RepliesNote, SealNote, TransferNote};

/// Bytes read at once; a frame that is larger makes the buffer grow up to its own bound.
const CHUNK: usize = 256 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("cannot read {path}: {source}")]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path}, frame {frame} (byte {at}): {broken}")]
    Broken {
        path: PathBuf,
        /// Counted from 1.
        frame: u64,
        at: u64,
        broken: Broken,
    },
    #[error("{path}, frame {frame} (byte {at}): a {kind:?} frame holds something else")]
    Content {
        path: PathBuf,
        frame: u64,
        at: u64,
        kind: Kind,
    },
    #[error("{path}, frame {frame}: {why}")]
    Tampered {
        path: PathBuf,
        frame: u64,
        why: Tampered,
    },
    #[error("no session {0} is recorded here")]
    NoSession(String),
    #[error("{0:?} could be several sessions; give more of the id")]
    Several(String),
}

/// What is wrong with a file whose chain holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Tampered {
    #[error("the seal does not fit what stands before it")]
    Seal,
    #[error("something stands behind the seal")]
    BehindSeal,
    #[error("the file is named for another recording")]
    Name,
    #[error("the chain had another head here when it was anchored: the file was written anew")]
    Anchor,
    #[error("the chain was anchored further on: the file was cut off")]
    CutOff,
}

/// One event of a recording.
#[derive(Debug)]
pub enum Told {
    Header(Box<Header>),
    Permitted(PermittedNote<'static>),
    Refused(RefusalNote),
    Replies(RepliesNote<'static>),
    Bulk(BulkNote<'static>),
    Cancel(Option<u64>),
    Renewed(RenewedNote),
    Asked(AskedNote),
    Answered(AnsweredNote),
    Transfer(TransferNote),
    End(EndNote),
    Seal(SealNote, SealState),
    /// A ledger's entry, as JSON.
    Entry(serde_json::Value),
}

#[derive(Debug)]
pub struct Recorded {
    pub times: Times,
    pub told: Told,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealState {
    /// The signature is over what stands before it.
    Good,
    Bad,
}

/// Reads one file from its beginning, and on as it grows.
pub struct Reader {
    path: PathBuf,
    file: File,
    walk: Option<Walk>,
    chain: Option<[u8; 16]>,
    buffer: Vec<u8>,
    /// How much of the buffer was taken, and where in the file it begins.
    taken: usize,
    at: u64,
    frames: u64,
    redacted: bool,
}

impl Reader {
    pub fn open(path: &Path) -> Result<Self, ReplayError> {
        let file = File::open(path).map_err(|source| ReplayError::Io {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self::of(path, file))
    }

    /// Reads what somebody else opened; the path is for words alone.
    pub fn of(path: &Path, file: File) -> Self {
        Self {
            path: path.to_owned(),
            file,
            walk: None,
            chain: None,
            buffer: Vec::new(),
            taken: 0,
            at: 0,
            frames: 0,
            redacted: false,
        }
    }

    /// The next event; `None` at the end of what is there now.
    pub fn next_event(&mut self) -> Result<Option<Recorded>, ReplayError> {
        loop {
            if let Some(event) = self.step()? {
                return Ok(Some(event));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Bytes behind the last whole frame.
    pub fn rest(&self) -> u64 {
        (self.buffer.len() - self.taken) as u64
    }

    /// The name of the chain: a session's id.
    pub fn chain(&self) -> Option<[u8; 16]> {
        self.chain
    }

    /// Whether detectors masked so much of the last event that what was decided cannot be read back
    /// from it.
    pub fn is_redacted(&self) -> bool {
        self.redacted
    }

    /// How many were read.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    pub fn link(&self) -> Option<Link> {
        self.walk.as_ref().map(Walk::link)
    }

    fn step(&mut self) -> Result<Option<Recorded>, ReplayError> {
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        let at = self.at + self.taken as u64;
        let frame = self.frames + 1;
        let broken = |broken| ReplayError::Broken {
            path: self.path.clone(),
            frame,
            at,
            broken,
        };
        let Some(walk) = &mut self.walk else {
            let begun = Walk::begin(rest).map_err(broken)?;
            let Some((walk, chain)) = begun else {
                return Ok(None);
            };
            (self.walk, self.chain) = (Some(walk), Some(chain));
            self.taken += PREAMBLE;
            return self.step();
        };
        let before = walk.link();
        match walk.step(rest).map_err(broken)? {
            Step::Short => Ok(None),
            Step::Frame(read, length) => {
                let told = Told::of(&read, before);
                let kind = read.kind;
                let told = told.ok_or_else(|| ReplayError::Content {
                    path: self.path.clone(),
                    frame,
                    at,
                    kind,
                })?;
                let times = read.times;
                self.redacted = is_redacted(&read);
                self.taken += length;
                self.frames = frame;
                Ok(Some(Recorded { times, told }))
            }
        }
    }

    fn fill(&mut self) -> Result<bool, ReplayError> {
        self.buffer.drain(..self.taken);
        self.at += self.taken as u64;
        self.taken = 0;
        let from = self.at + self.buffer.len() as u64;
        let before = self.buffer.len();
        let read = self.file.seek(SeekFrom::Start(from)).and_then(|_| {
            (&mut self.file)
                .take(CHUNK as u64)
                .read_to_end(&mut self.buffer)
        });
        read.map_err(|source| ReplayError::Io {
            path: self.path.clone(),
            source,
        })?;
        Ok(self.buffer.len() > before)
    }
}

/// Whether the mark stands behind the note.
fn is_redacted(frame: &Frame<'_>) -> bool {
    fn behind<'b, T: Deserialize<'b>>(payload: &'b [u8]) -> Option<&'b [u8]> {
        let (_, rest) = postcard::take_from_bytes::<T>(payload).ok()?;
        Some(rest)
    }
    let behind = match frame.kind {
        Kind::Permitted => behind::<PermittedNote<'_>>(frame.payload),
        Kind::Refused => behind::<RefusalNote>(frame.payload),
        Kind::Asked => behind::<AskedNote>(frame.payload),
        _ => None,
    };
    behind == Some(&REDACTED)
}

impl Told {
    /// What a frame holds, given the link before it; `None` where it holds something else.
    pub fn of(frame: &Frame<'_>, before: Link) -> Option<Self> {
        fn note<'b, T: Deserialize<'b>>(payload: &'b [u8]) -> Option<T> {
            postcard::from_bytes(payload).ok()
        }
        let payload = frame.payload;
        Some(match frame.kind {
            Kind::Header => Told::Header(Box::new(Header::of(payload)?)),
            Kind::Permitted => Told::Permitted(note::<PermittedNote<'_>>(payload)?.into_owned()),
            Kind::Refused => Told::Refused(note(payload)?),
            Kind::Replies => Told::Replies(note::<RepliesNote<'_>>(payload)?.into_owned()),
            Kind::Bulk => Told::Bulk(note::<BulkNote<'_>>(payload)?.into_owned()),
            Kind::Cancel => Told::Cancel(note(payload)?),
            Kind::Identity => Told::Renewed(note(payload)?),
            Kind::Asked => Told::Asked(note(payload)?),
            Kind::Answered => Told::Answered(note(payload)?),
            Kind::Transfer => Told::Transfer(note(payload)?),
            Kind::End => Told::End(note(payload)?),
            Kind::Seal => {
                let seal: SealNote = note(payload)?;
                let key = UnparsedPublicKey::new(&ED25519, &seal.public_key);
                let state = match key.verify(&before.0, &seal.signature) {
                    Ok(()) => SealState::Good,
                    Err(_) => SealState::Bad,
                };
                Told::Seal(seal, state)
            }
            Kind::Entry => Told::Entry(serde_json::from_slice(payload).ok()?),
        })
    }
}

/// What [`verify`] found in a file whose chain holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub frames: u64,
    /// Requests that were forwarded.
    pub forwarded: u64,
    /// Bytes behind the last whole frame: the writer was ended in the middle of a write, or writes now.
    pub rest: u64,
    /// The key that sealed it; `None` while it is open, or if its writer was killed.
    pub sealed_by: Option<Vec<u8>>,
}

/// Checks a file's chain and seal, its name, and that it has come by each of these anchors.
///
/// A recording without a seal is no error: its session goes on, or its writer was killed.
pub fn verify(path: &Path, anchors: &[Anchor]) -> Result<Verified, ReplayError> {
    let mut reader = Reader::open(path)?;
    let mut found = Verified {
        frames: 0,
        forwarded: 0,
        rest: 0,
        sealed_by: None,
    };
    let tampered = |frame, why| ReplayError::Tampered {
        path: path.to_owned(),
        frame,
        why,
    };
    while let Some(event) = reader.next_event()? {
        found.frames += 1;
        let frame = found.frames;
        if found.sealed_by.is_some() {
            return Err(tampered(frame, Tampered::BehindSeal));
        }
        let mut here = anchors.iter().filter(|a| a.frames == frame);
        if here.any(|a| Some(a.link) != reader.link()) {
            return Err(tampered(frame, Tampered::Anchor));
        }
        match event.told {
            Told::Permitted(note) => found.forwarded += u64::from(!note.is_connection()),
            Told::Seal(_, SealState::Bad) => return Err(tampered(frame, Tampered::Seal)),
            Told::Seal(seal, SealState::Good) => found.sealed_by = Some(seal.public_key),
            _ => {}
        }
    }
    found.rest = reader.rest();
    let frames = found.frames;
    if found.sealed_by.is_some() && found.rest > 0 {
        return Err(tampered(frames, Tampered::BehindSeal));
    }
    if anchors.iter().any(|a| a.frames > frames) {
        return Err(tampered(frames, Tampered::CutOff));
    }
    if !is_named_for(path, reader.chain()) {
        return Err(tampered(0, Tampered::Name));
    }
    Ok(found)
}

/// A file is named for its chain: one that was renamed pretends to be another session.
fn is_named_for(path: &Path, chain: Option<[u8; 16]>) -> bool {
    let name = path.file_stem().and_then(|n| n.to_str());
    match (name, chain) {
        (Some(name), Some(chain)) => name.ends_with(&SessionId::from(chain).to_string()),
        // Killed before the preamble was whole.
        (_, None) => true,
        (None, _) => false,
    }
}
