//! The worker's own key for the `hash` mask: equal values stay equal, across restarts too, and
//! nobody without the key can tell which value a hash is of.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::mask::HashKey;
use crate::whole;

/// Below the state folder.
const FILE: &str = "mask.key";
const LENGTH: usize = 32;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the key of the masks at {path} cannot be read or made: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error(
        "the key of the masks at {0} is damaged: it must hold exactly {LENGTH} bytes; without the file a new one is made, and hashes change"
    )]
    Damaged(PathBuf),
}

/// The key, made at the first start.
pub fn hash_key(state: &Path) -> Result<HashKey, KeyError> {
    let path = state.join(FILE);
    let failed = |source| KeyError::File {
        path: path.clone(),
        source,
    };
    let mut key = Zeroizing::new(Vec::with_capacity(LENGTH));
    match open(&path).map_err(failed)? {
        Some(file) => {
            file.take(LENGTH as u64 + 1)
                .read_to_end(&mut key)
                .map_err(failed)?;
        }
        None => {
            key.resize(LENGTH, 0);
            let no_randomness = |_| failed(io::Error::other("the system has no randomness"));
            SystemRandom::new().fill(&mut key).map_err(no_randomness)?;
            whole::write(&path, &key, 0o600).map_err(failed)?;
        }
    }
    let key: &[u8; LENGTH] = key
        .as_slice()
        .try_into()
        .map_err(|_| KeyError::Damaged(path.clone()))?;
    Ok(HashKey::new(key))
}

fn open(path: &Path) -> io::Result<Option<std::fs::File>> {
    match OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
    {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_key_is_made_once_and_a_damaged_one_is_refused() {
        let state = tempfile::tempdir().unwrap();
        hash_key(state.path()).unwrap();
        let path = state.path().join(FILE);
        let first = std::fs::read(&path).unwrap();
        assert_eq!(
            (
                first.len(),
                std::fs::metadata(&path).unwrap().mode() & 0o777
            ),
            (LENGTH, 0o600)
        );
        hash_key(state.path()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first);
        std::fs::write(&path, b"short").unwrap();
        assert!(matches!(hash_key(state.path()), Err(KeyError::Damaged(_))));
    }
}
