//! Brings what was written to the disk: everything within 200 ms, and at once for those who wait.
//!
//! One thread for all files of a process: a sync blocks, and those that come together share one.

use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// How long written bytes may be in the kernel's hands alone.
const INTERVAL: Duration = Duration::from_millis(200);

/// One file's state between its writer and the flusher.
pub(super) struct Dirty {
    file: Arc<File>,
    /// Counts appends.
    appended: AtomicU64,
    /// Appends that are on the disk, or why no more will be.
    synced: watch::Sender<Result<u64, String>>,
    /// Its writer is gone; forgotten after one more sync.
    closed: AtomicBool,
    wake: Arc<Wake>,
}

#[derive(Default)]
struct Wake {
    urgent: Mutex<bool>,
    condition: Condvar,
    stopping: AtomicBool,
}

impl Dirty {
    pub(super) fn mark(&self) {
        self.appended.fetch_add(1, Ordering::Release);
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.synced.borrow().as_ref().err().cloned()
    }

    /// Resolves when everything appended so far is on the disk.
    pub(super) fn durable(
        self: &Arc<Self>,
    ) -> impl Future<Output = Result<(), String>> + Send + 'static {
        let wanted = self.appended.load(Ordering::Acquire);
        let mut synced = self.synced.subscribe();
        let this = self.clone();
        async move {
            this.wake.now();
            let reached = synced
                .wait_for(|s| s.as_ref().map_or(true, |n| *n >= wanted))
                .await;
            match reached {
                Ok(state) => state.clone().map(|_| ()),
                Err(_) => Err("the flusher has stopped".into()),
            }
        }
    }

    /// No more is appended. The sync that is still due happens on the flusher's thread.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    fn sync(&self) {
        let wanted = self.appended.load(Ordering::Acquire);
        let behind = matches!(&*self.synced.borrow(), Ok(n) if *n < wanted);
        if !behind {
            return;
        }
        let result = self
            .file
            .sync_data()
            .map(|()| wanted)
            .map_err(|e| e.to_string());
        if let Err(error) = &result {
            tracing::error!(error, "a recording could not be synced; its session ends");
        }
        let _ = self.synced.send_replace(result);
    }
}

impl Wake {
    fn now(&self) {
        *self.urgent.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.condition.notify_one();
    }

    fn wait(&self) {
        let urgent = self.urgent.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .condition
            .wait_timeout_while(urgent, INTERVAL, |urgent| !*urgent);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

type Files = Arc<Mutex<HashMap<usize, Arc<Dirty>>>>;

/// Owns the thread; dropping it syncs once more and ends it.
pub(super) struct Flusher {
    files: Files,
    wake: Arc<Wake>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Flusher {
    pub(super) fn start() -> std::io::Result<Self> {
        let files = Files::default();
        let wake = Arc::new(Wake::default());
        let thread = std::thread::Builder::new()
            .name("hoop-flush".into())
            .spawn({
                let (files, wake) = (files.clone(), wake.clone());
                move || {
                    while !wake.stopping.load(Ordering::Acquire) {
                        wake.wait();
                        sync_all(&files);
                    }
                }
            })?;
        Ok(Self {
            files,
            wake,
            thread: Some(thread),
        })
    }

    /// No sync begins while the guard lives; one that had begun is over by then.
    #[cfg(test)]
    pub(super) fn stalled(&self) -> impl Drop + '_ {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        std::thread::sleep(INTERVAL / 4);
        files
    }

    pub(super) fn watch(&self, file: Arc<File>) -> Arc<Dirty> {
        let dirty = Arc::new(Dirty {
            file,
            appended: AtomicU64::new(0),
            synced: watch::channel(Ok(0)).0,
            closed: AtomicBool::new(false),
            wake: self.wake.clone(),
        });
        let key = Arc::as_ptr(&dirty) as usize;
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.insert(key, dirty.clone());
        dirty
    }
}

/// Syncs without holding the lock; forgets files whose writers are gone and whose bytes are safe.
fn sync_all(files: &Files) {
    let all: Vec<_> = {
        let files = files.lock().unwrap_or_else(PoisonError::into_inner);
        files
            .iter()
            .map(|(key, dirty)| (*key, dirty.clone()))
            .collect()
    };
    for (key, dirty) in all {
        let closed = dirty.closed.load(Ordering::Acquire);
        dirty.sync();
        if closed {
            files
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&key);
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.wake.stopping.store(true, Ordering::Release);
        self.wake.now();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        sync_all(&self.files);
    }
}
