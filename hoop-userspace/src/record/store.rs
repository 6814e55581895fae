//! Where recordings are: one directory a day, one file a session.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use time::OffsetDateTime;

use super::event::Header;
use super::flush::Flusher;
use super::session::SessionRecorder;
use super::writer::{RecordError, Writer};
use crate::config;

/// Files of recorded sessions end so.
pub const EXTENSION: &str = "hoop";

/// Where sessions are recorded.
pub struct Store {
    settings: config::Record,
    key: Arc<SealingKey>,
    flusher: Flusher,
}

impl Store {
    /// Opens the directory of the settings, making it if need be.
    pub fn open(settings: &config::Record, key: Arc<SealingKey>) -> Result<Arc<Self>, RecordError> {
        let directory = &settings.directory;
        make(directory)?;
        let flusher = Flusher::start(directory)
            .map_err(|e| RecordError::io("start flushing to", directory, e))?;
        Ok(Arc::new(Self {
            settings: settings.clone(),
            key,
            flusher,
        }))
    }

    /// Begins to record a session.
    pub fn session(&self, header: Header) -> Result<SessionRecorder, RecordError> {
        let day = OffsetDateTime::from(header.started).date();
        let mut path = self.settings.directory.clone();
        path.push(format!("{:04}", day.year()));
        path.push(format!("{:02}", u8::from(day.month())));
        path.push(format!("{:02}", day.day()));
        path.push(format!("{}.{EXTENSION}", header.session));
        if let Some(directory) = path.parent().filter(|d| !d.exists()) {
            make(directory)?;
        }
        let writer = Writer::create(path, header.session.as_bytes(), &self.flusher)?;
        SessionRecorder::begin(writer, self.key.clone(), &self.settings, &header)
    }

    /// While the guard lives, nothing reaches the disk.
    #[cfg(test)]
    pub(crate) fn slow_disk(&self) -> impl Drop + '_ {
        self.flusher.stalled()
    }

    /// All recordings below a directory, oldest first. What cannot be read is left out.
    pub fn files(directory: &Path) -> Vec<PathBuf> {
        Self::files_and(directory, |_, _| {})
    }

    /// The same, and tells of each directory that cannot be read.
    pub fn files_and(
        directory: &Path,
        mut unreadable: impl FnMut(&Path, std::io::Error),
    ) -> Vec<PathBuf> {
        let mut open = vec![(directory.to_owned(), 0)];
        let mut found = Vec::new();
        while let Some((directory, depth)) = open.pop() {
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error) => {
                    unreadable(&directory, error);
                    continue;
                }
            };
            for entry in entries {
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(error) => {
                        unreadable(&directory, error);
                        continue;
                    }
                };
                let path = entry.path();
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() && depth < 3 => open.push((path, depth + 1)),
                    Ok(kind)
                        if kind.is_file() && path.extension().is_some_and(|e| e == EXTENSION) =>
                    {
                        found.push(path);
                    }
                    _ => {}
                }
            }
        }
        found.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
        found
    }
}

pub(super) fn make(directory: &Path) -> Result<(), RecordError> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(directory);
    made.map_err(|e| RecordError::io("create", directory, e))
}

/// The host's Ed25519 key: who signed a recording's end. Made once; never leaves its file.
pub struct SealingKey(Ed25519KeyPair);

impl SealingKey {
    /// Its file, below the state folder.
    pub const FILE: &str = "seal.key";

    /// The public keys beside it: this one, and those before it.
    const PUBLISHED: &str = "seal.pub";

    /// The public keys, in hexadecimal, that this host has sealed with. None where they may not be
    /// read, or there are none.
    pub fn published(state: &Path) -> Vec<String> {
        let keys = fs::read_to_string(state.join(Self::PUBLISHED)).unwrap_or_default();
        keys.lines().map(str::to_owned).collect()
    }

    /// Notes the public key where it can be read by whoever verifies.
    fn publish(&self, path: &Path) -> std::io::Result<()> {
        let public = crate::hex::encode(self.public());
        let state = path.parent().unwrap_or(path);
        if Self::published(state).contains(&public) {
            return Ok(());
        }
        let mut file = fs::File::options()
            .append(true)
            .create(true)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW)
            .open(state.join(Self::PUBLISHED))?;
        writeln!(file, "{public}")?;
        file.sync_all()
    }

    /// The key in `path` (PKCS #8), made if there is none.
    pub fn open(path: &Path) -> Result<Arc<Self>, RecordError> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::make(path)?,
            read => read.map_err(|e| RecordError::io("read", path, e))?,
        };
        let pair = Ed25519KeyPair::from_pkcs8(&bytes);
        let pair = pair.map_err(|e| RecordError::Key {
            path: path.to_owned(),
            why: e.to_string(),
        })?;
        let key = Self(pair);
        key.publish(path)
            .map_err(|e| RecordError::io("publish the key of", path, e))?;
        Ok(Arc::new(key))
    }

    fn make(path: &Path) -> Result<Vec<u8>, RecordError> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        let pkcs8 = pkcs8.map_err(|e| RecordError::io("make a key for", path, e))?;
        let file = fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        let written =
            file.and_then(|mut f| f.write_all(pkcs8.as_ref()).and_then(|()| f.sync_all()));
        written.map_err(|e| RecordError::io("write", path, e))?;
        Ok(pkcs8.as_ref().to_vec())
    }

    pub fn public(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    pub(super) fn sign(&self, link: &[u8]) -> Vec<u8> {
        self.0.sign(link).as_ref().to_vec()
    }
}
