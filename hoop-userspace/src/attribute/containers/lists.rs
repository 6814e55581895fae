//! The lists of containers-storage, each read once for as long as it stays as it is: all containers
//! are in one file, and each of them is looked up.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::Unreadable;
use super::read::{Folder, Stamp};
use super::shapes::{self, Stored};

/// Bytes of one list.
const MAX_LIST: u64 = 8 << 20;
/// Lists that are kept: two of each driver's, under a root and the one before it.
const KEPT: usize = 16;

/// One list's containers by their ids, and which file that was.
pub(super) struct List {
    pub stamp: Stamp,
    pub entries: HashMap<String, Stored>,
}

#[derive(Default)]
pub(super) struct Lists(Mutex<HashMap<PathBuf, Arc<List>>>);

impl Lists {
    /// The list of that name in a folder; `None` if there is none.
    pub fn read(&self, folder: &Folder, name: &str) -> Result<Option<Arc<List>>, Unreadable> {
        let path = folder.path_of(name);
        let kept = self.lock().get(&path).cloned();
        // The folder was opened anew and is root's, so a stamp that holds is of a file that was checked.
        if let Some(list) = kept
            && list.stamp.holds()
        {
            return Ok(Some(list));
        }
        let Some(content) = folder.read(name, MAX_LIST)? else {
            return Ok(None);
        };
        let entries = shapes::stored(&content.bytes);
        let entries = entries.map_err(|why| Unreadable::shape(&path, why))?;
        let list = Arc::new(List {
            stamp: content.stamp,
            entries,
        });
        let mut all = self.lock();
        if all.len() >= KEPT {
            all.clear();
        }
        all.insert(path, list.clone());
        Ok(Some(list))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, Arc<List>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
