//! The folders that the two processes share, each made by the keeper with the owner it must have.
//!
//! The worker's account may write beside some of them, so nothing here follows a symbolic link in
//! the last step, and a folder that somebody else owns is refused rather than taken over.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Uid, User, fchown};

use crate::config::Config;

/// Where the keeper's own ledger is, below the state folder.
pub const KEEPER: &str = "keeper";

#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("cannot make the folder {path}: {source}")]
    Make { path: PathBuf, source: io::Error },
    #[error(
        "{path} belongs to user {uid}, who is neither root nor the worker: move it away, or correct its owner"
    )]
    Foreign { path: PathBuf, uid: u32 },
}

/// Makes what is missing, and corrects owners and modes.
pub fn prepare(config: &Config, worker: &User) -> Result<(), FolderError> {
    let root = Uid::from_raw(0);
    let state = &config.worker.state;
    // Sticky: the worker makes its keys and recordings here, and cannot rename what is the keeper's.
    folder(state, root, worker.gid, 0o1770, worker.uid)?;
    folder(
        &state.join(KEEPER),
        root,
        Gid::from_raw(0),
        0o700,
        worker.uid,
    )?;
    folder(
        &config.record.directory,
        worker.uid,
        worker.gid,
        0o700,
        worker.uid,
    )?;
    folder(
        &config.worker.runtime,
        root,
        Gid::from_raw(0),
        0o755,
        worker.uid,
    )
}

fn folder(path: &Path, owner: Uid, group: Gid, mode: u32, worker: Uid) -> Result<(), FolderError> {
    let failed = |source: io::Error| FolderError::Make {
        path: path.to_owned(),
        source,
    };
    if let Some(parent) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)
            .map_err(failed)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
    let opened = open(path, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
    let metadata = std::fs::File::from(opened.try_clone().map_err(failed)?)
        .metadata()
        .map_err(failed)?;
    let uid = Uid::from_raw(metadata.uid());
    if !uid.is_root() && uid != worker {
        return Err(FolderError::Foreign {
            path: path.to_owned(),
            uid: uid.as_raw(),
        });
    }
    fchown(opened.as_fd(), Some(owner), Some(group)).map_err(|e| failed(e.into()))?;
    let mode = Mode::from_bits_truncate(mode);
    fchmod(opened.as_fd(), mode).map_err(|e| failed(e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_and_mode_are_made_right_and_no_link_is_followed() {
        if !Uid::effective().is_root() {
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("state/recordings");
        let worker = Uid::from_raw(65_534);
        folder(&path, worker, Gid::from_raw(65_534), 0o700, worker).unwrap();
        folder(&path, worker, Gid::from_raw(65_534), 0o700, worker).unwrap();
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (65_534, 0o700));

        let link = base.path().join("state/link");
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        assert!(folder(&link, worker, Gid::from_raw(0), 0o700, worker).is_err());
        assert_eq!(std::fs::metadata("/etc").unwrap().uid(), 0);

        nix::unistd::chown(&path, Some(Uid::from_raw(12_345)), None).unwrap();
        let foreign = folder(&path, worker, Gid::from_raw(0), 0o700, worker);
        assert!(matches!(
            foreign,
            Err(FolderError::Foreign { uid: 12_345, .. })
        ));
    }
}
