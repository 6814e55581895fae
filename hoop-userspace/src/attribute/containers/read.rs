//! Files of the runtimes' state, read so that nobody but root can have written them.
//!
//! Every folder on the way and the file itself must be root's and writable by nobody else, no link
//! is followed below the root that the configuration names, and no more is read than was asked for.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::Unreadable;

/// A folder that is root's alone.
pub(super) struct Folder {
    file: File,
    path: PathBuf,
}

/// What a file was when it was read: another one, or one that was written since, has another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
    written: (i64, i64),
}

/// A file's bytes, and which file that was.
pub(super) struct Content {
    pub bytes: Vec<u8>,
    pub stamp: Stamp,
}

impl Folder {
    /// A folder by the configuration's own word: links on the way there are the operator's. `None` if
    /// there is none.
    pub fn root(path: &Path) -> Result<Option<Self>, Unreadable> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Self::of(openat(CWD, path, flags, Mode::empty()), path.to_owned())
    }

    /// A folder in this one; `None` if there is none.
    pub fn enter(&self, name: &str) -> Result<Option<Self>, Unreadable> {
        let path = self.path.join(name);
        if !is_plain(name) {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Self::of(openat(&self.file, name, flags, Mode::empty()), path)
    }

    /// The path of what has that name in it.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Names of what is in it, at most so many.
    pub fn names(&self, most: usize) -> Vec<String> {
        let entries = std::fs::read_dir(&self.path).into_iter().flatten();
        let names = entries.flatten().take(most);
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// A regular file of at most `most` bytes; `None` if there is none.
    pub fn read(&self, name: &str, most: u64) -> Result<Option<Content>, Unreadable> {
        let path = self.path.join(name);
        // A pipe in its place must not be waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = openat(&self.file, name, flags, Mode::empty());
        let Some((file, metadata)) = checked(opened, &path)? else {
            return Ok(None);
        };
        if !metadata.is_file() {
            return Err(Unreadable::File {
                path,
                why: "it is no regular file".into(),
            });
        }
        let mut bytes = Vec::new();
        let read = file.take(most.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| Unreadable::file(&path, &error))?;
        if bytes.len() as u64 > most {
            return Err(Unreadable::Large { path, most });
        }
        let stamp = Stamp::new(path, &metadata);
        Ok(Some(Content { bytes, stamp }))
    }

    fn of(opened: rustix::io::Result<OwnedFd>, path: PathBuf) -> Result<Option<Self>, Unreadable> {
        let checked = checked(opened, &path)?;
        Ok(checked.map(|(file, _)| Self { file, path }))
    }
}

impl Stamp {
    fn new(path: PathBuf, metadata: &Metadata) -> Self {
        Self {
            path,
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            written: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    /// Whether the file is there as it was.
    pub fn holds(&self) -> bool {
        let now = std::fs::symlink_metadata(&self.path);
        now.is_ok_and(|now| Self::new(self.path.clone(), &now) == *self)
    }
}

/// Whether nobody but root, or whoever asks, can have written it.
pub(super) fn is_roots(metadata: &Metadata) -> bool {
    let mine = nix::unistd::Uid::effective().as_raw();
    (metadata.uid() == 0 || metadata.uid() == mine) && metadata.mode() & 0o022 == 0
}

fn checked(
    opened: rustix::io::Result<OwnedFd>,
    path: &Path,
) -> Result<Option<(File, Metadata)>, Unreadable> {
    let file = match opened {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(Unreadable::file(path, &io::Error::from(errno))),
    };
    let metadata = file.metadata();
    let metadata = metadata.map_err(|error| Unreadable::file(path, &error))?;
    if !is_roots(&metadata) {
        return Err(Unreadable::Shared { path: path.into() });
    }
    Ok(Some((file, metadata)))
}

/// Whether a name is one level of a path.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}
