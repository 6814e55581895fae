//! What belongs to no session: one hash-chained file per process and start, JSON entries.

use std::path::Path;
use std::time::SystemTime;

use ring::rand::{SecureRandom, SystemRandom};
use serde::Serialize;

use super::flush::Flusher;
use super::format::Kind;
use super::store;
use super::writer::{RecordError, Writer};
use crate::ids::SessionId;

/// Files of ledgers end so.
pub const EXTENSION: &str = "ledger";

pub struct Ledger {
    writer: Writer,
    /// Keeps the flusher's thread.
    _flusher: Flusher,
}

impl Ledger {
    /// Begins a new ledger `NAME-ID.ledger` in the directory.
    pub fn open(directory: &Path, name: &str) -> Result<Self, RecordError> {
        store::make(directory)?;
        let mut random = [0; 10];
        let filled = SystemRandom::new().fill(&mut random);
        filled.map_err(|e| RecordError::io("name a ledger in", directory, e))?;
        let id = SessionId::new(SystemTime::now(), random);
        let flusher = Flusher::start(directory)
            .map_err(|e| RecordError::io("start flushing to", directory, e))?;
        let path = directory.join(format!("{name}-{id}.{EXTENSION}"));
        let writer = Writer::create(path, id.as_bytes(), &flusher)?;
        Ok(Self {
            writer,
            _flusher: flusher,
        })
    }

    /// Appends one entry, as JSON.
    pub fn append(&mut self, entry: &impl Serialize) -> Result<(), RecordError> {
        let json = serde_json::to_vec(entry).map_err(|_| RecordError::TooLarge)?;
        self.writer.append(Kind::Entry, &[&json], |_| {})
    }

    /// Resolves when everything appended so far is on the disk.
    pub fn durable(&self) -> impl Future<Output = Result<(), RecordError>> + Send + 'static {
        self.writer.durable()
    }
}
