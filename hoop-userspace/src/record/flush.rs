//! Brings what was written to the disk: everything within 200 ms, and at once for those who wait.
//!
//! One thread for all files of a process: a sync blocks, and those that come together share one.
//! It sleeps while nothing is written. A writer touches it once per interval, not once per frame.
//! Every minute it says in the log how far each live chain has come, so that a collector elsewhere
//! can tell later whether a file was cut off or written anew.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use tokio::sync::watch;

use super::anchor::{self, Anchor};
use super::format::Link;

/// How long written bytes wait for a sync to begin; with the sync itself it is meant to stay
/// within 200 ms.
const INTERVAL: Duration = Duration::from_millis(150);

/// How often the heads of the chains go to the log.
const ANCHORS: Duration = Duration::from_secs(60);

/// With less room than this on the disk, every file sets some aside for its end. More than can be
/// written between two looks.
const PLENTY: u64 = 512 << 20;

/// Finished sessions of a minute whose heads are listed; of more only the number is said.
const MAX_FINISHED: usize = 4096;

/// One file's state between its writer and the flusher.
pub(super) struct Dirty {
    chain: [u8; 16],
    file: Arc<File>,
    /// Its directory, until the file's name there is on the disk too.
    directory: Mutex<Option<PathBuf>>,
    /// Counts appends.
    appended: AtomicU64,
    /// In the flusher's queue.
    queued: AtomicBool,
    /// Appends that are on the disk, or why no more will be.
    synced: watch::Sender<Result<u64, String>>,
    head: Mutex<Head>,
    shared: Arc<Shared>,
}

/// How far a chain has come.
struct Head {
    frames: u64,
    link: Link,
    /// As of the last anchor.
    anchored: u64,
}

struct Shared {
    state: Mutex<State>,
    condition: Condvar,
    /// What is flushed lies below.
    directory: PathBuf,
    /// The disk has less than [`PLENTY`] left.
    scarce: AtomicBool,
    /// Keeps a test's disk slow.
    #[cfg(test)]
    stalled: Mutex<()>,
}

#[derive(Default)]
struct State {
    queue: Vec<Arc<Dirty>>,
    /// Somebody waits.
    urgent: bool,
    stopping: bool,
    /// All files with a writer.
    live: HashMap<[u8; 16], Weak<Dirty>>,
    /// Heads of files that were finished since the last anchor, and how many are not listed.
    finished: Vec<Anchor>,
    unlisted: u64,
}

impl Dirty {
    /// Something was appended, and this is the chain's new head.
    pub(super) fn mark(self: &Arc<Self>, link: Link) {
        let mut head = lock(&self.head);
        head.frames += 1;
        head.link = link;
        drop(head);
        self.appended.fetch_add(1, Ordering::Release);
        self.enqueue(false);
    }

    fn enqueue(self: &Arc<Self>, urgent: bool) {
        let queued = self.queued.swap(true, Ordering::AcqRel);
        if queued && !urgent {
            return;
        }
        let mut state = lock(&self.shared.state);
        let idle = state.queue.is_empty();
        if !queued {
            state.queue.push(self.clone());
        }
        state.urgent |= urgent;
        if idle || urgent {
            self.shared.condition.notify_one();
        }
    }

    /// Whether to set room aside: the disk is nearly full, or that is not known.
    pub(super) fn is_scarce(&self) -> bool {
        self.shared.scarce.load(Ordering::Relaxed)
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.synced.borrow().as_ref().err().cloned()
    }

    #[cfg(test)]
    pub(super) fn synced_for_test(&self) -> u64 {
        self.synced.borrow().clone().unwrap_or_default()
    }

    /// Resolves when everything appended so far is on the disk.
    pub(super) fn durable(
        self: &Arc<Self>,
    ) -> impl Future<Output = Result<(), String>> + Send + 'static {
        let wanted = self.appended.load(Ordering::Acquire);
        let mut synced = self.synced.subscribe();
        let this = self.clone();
        async move {
            this.enqueue(true);
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
        let last = self.anchor();
        let mut state = lock(&self.shared.state);
        state.live.remove(&self.chain);
        match last {
            Some(last) if state.finished.len() < MAX_FINISHED => state.finished.push(last),
            Some(_) => state.unlisted += 1,
            None => {}
        }
    }

    /// Syncs the file's content; says how much of it.
    fn sync(&self) -> Result<u64, String> {
        // Before the sync: what is appended while it runs may not be part of it.
        let wanted = self.appended.load(Ordering::Acquire);
        match &*self.synced.borrow() {
            // After a failed sync the kernel may report the next one as a success.
            Err(error) => return Err(error.clone()),
            Ok(done) if *done >= wanted => return Ok(wanted),
            Ok(_) => {}
        }
        let result = self.file.sync_data();
        result.map(|()| wanted).map_err(|e| e.to_string())
    }

    fn publish(&self, result: Result<u64, String>) {
        let known = self.failure().is_some();
        if let (Err(error), false) = (&result, known) {
            tracing::error!(error, "a recording could not be synced; its session ends");
        }
        let _ = self.synced.send_replace(result);
    }

    /// The head, if it has moved since the last anchor.
    fn anchor(&self) -> Option<Anchor> {
        let mut head = lock(&self.head);
        if head.frames == head.anchored {
            return None;
        }
        head.anchored = head.frames;
        Some(Anchor {
            chain: self.chain,
            frames: head.frames,
            link: head.link,
        })
    }
}

/// Owns the thread; dropping it syncs once more and ends it.
pub(super) struct Flusher {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Flusher {
    pub(super) fn start(directory: &Path) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            condition: Condvar::new(),
            directory: directory.to_owned(),
            scarce: AtomicBool::new(true),
            #[cfg(test)]
            stalled: Mutex::default(),
        });
        let thread = std::thread::Builder::new()
            .name("hoop-flush".into())
            .spawn({
                let shared = shared.clone();
                move || {
                    // They are for threads that were made to hear them; see `keeper/signals.rs`.
                    let others = [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT];
                    let _ = SigSet::from_iter(others).thread_block();
                    shared.run();
                }
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// No sync begins while the guard lives; one that had begun is over by then.
    #[cfg(test)]
    pub(super) fn stalled(&self) -> impl Drop + '_ {
        lock(&self.shared.stalled)
    }

    pub(super) fn watch(
        &self,
        chain: [u8; 16],
        file: Arc<File>,
        directory: Option<&Path>,
    ) -> Arc<Dirty> {
        // Nobody looks while nothing is written.
        self.shared.look_for_room();
        let dirty = Arc::new(Dirty {
            chain,
            file,
            directory: Mutex::new(directory.map(Path::to_owned)),
            appended: AtomicU64::new(0),
            queued: AtomicBool::new(false),
            synced: watch::channel(Ok(0)).0,
            head: Mutex::new(Head {
                frames: 0,
                link: Link::first(&chain),
                anchored: 0,
            }),
            shared: self.shared.clone(),
        });
        let live = Arc::downgrade(&dirty);
        lock(&self.shared.state).live.insert(chain, live);
        dirty
    }
}

impl Shared {
    fn run(&self) {
        let mut anchored = Instant::now();
        loop {
            let stopping = self.wait(anchored + ANCHORS);
            self.look_for_room();
            self.sync_all();
            if stopping {
                return;
            }
            if anchored.elapsed() >= ANCHORS {
                anchored = Instant::now();
                self.anchor();
            }
        }
    }

    fn look_for_room(&self) {
        let left = nix::sys::statvfs::statvfs(&self.directory);
        // The types differ between platforms.
        #[expect(
            clippy::useless_conversion,
            reason = "the fields' types differ by platform"
        )]
        let left =
            left.map(|s| u64::from(s.blocks_available()).saturating_mul(s.fragment_size().into()));
        let scarce = left.is_ok_and(|left| left < PLENTY) || left.is_err();
        self.scarce.store(scarce, Ordering::Relaxed);
    }

    /// Waits until something is written and the interval is over, or somebody waits, or a minute
    /// has passed.
    fn wait(&self, until: Instant) -> bool {
        let state = lock(&self.state);
        let left = until.saturating_duration_since(Instant::now());
        let idle = |s: &mut State| s.queue.is_empty() && !s.stopping;
        let waited = self.condition.wait_timeout_while(state, left, idle);
        let state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let calm = |s: &mut State| !s.urgent && !s.stopping;
        let left = if state.queue.is_empty() {
            Duration::ZERO
        } else {
            INTERVAL
        };
        let waited = self.condition.wait_timeout_while(state, left, calm);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.urgent = false;
        state.stopping
    }

    /// Syncs what is queued, then the directories of what is new; only then says so.
    fn sync_all(&self) {
        #[cfg(test)]
        let _slow = lock(&self.stalled);
        let queue = std::mem::take(&mut lock(&self.state).queue);
        if queue.len() > 1 {
            // Begins to write all of them, so that they share the journal's commits: three times
            // as fast with ext4.
            use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
            for dirty in &queue {
                let _ = posix_fadvise(&*dirty.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
            }
        }
        let synced = queue.into_iter().map(|dirty| {
            // A swap, so that whoever saw it set before has its append counted by this sync.
            dirty.queued.swap(false, Ordering::AcqRel);
            let result = dirty.sync();
            (dirty, result)
        });
        let mut synced: Vec<_> = synced.collect();
        let new = synced
            .iter()
            .filter_map(|(d, _)| lock(&d.directory).clone());
        let directories: BTreeSet<PathBuf> = new.collect();
        for directory in directories {
            let result = File::open(&directory).and_then(|d| d.sync_all());
            for (dirty, outcome) in &mut synced {
                let mut of = lock(&dirty.directory);
                if of.as_ref() == Some(&directory) {
                    match &result {
                        Ok(()) => *of = None,
                        Err(error) => *outcome = Err(error.to_string()),
                    }
                }
            }
        }
        for (dirty, result) in synced {
            dirty.publish(result);
        }
    }

    fn anchor(&self) {
        let mut state = lock(&self.state);
        let live: Vec<_> = state.live.values().cloned().collect();
        let mut heads = std::mem::take(&mut state.finished);
        let unlisted = std::mem::take(&mut state.unlisted);
        drop(state);
        let live = live.iter().filter_map(Weak::upgrade);
        heads.extend(live.filter_map(|dirty| dirty.anchor()));
        anchor::log(&heads, unlisted);
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        lock(&self.shared.state).stopping = true;
        self.shared.condition.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.shared.sync_all();
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_that_failed_is_never_taken_back() {
        let flusher = Flusher::start(Path::new("/tmp")).unwrap();
        // What cannot be synced says so.
        let file = Arc::new(File::open("/dev/null").unwrap());
        let dirty = flusher.watch([1; 16], file, None);
        dirty.mark(Link::first(&[1; 16]));
        while dirty.failure().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        dirty.mark(Link::first(&[1; 16]));
        std::thread::sleep(2 * INTERVAL);
        assert!(dirty.failure().is_some());
    }

    #[test]
    fn a_file_that_says_no_more_is_anchored_once_more() {
        let flusher = Flusher::start(Path::new("/tmp")).unwrap();
        let file = Arc::new(tempfile::tempfile().unwrap());
        let dirty = flusher.watch([2; 16], file, None);
        dirty.mark(Link::first(&[2; 16]));
        assert_eq!(dirty.anchor().map(|a| a.frames), Some(1));
        assert_eq!(dirty.anchor(), None);
        dirty.mark(Link::first(&[2; 16]));
        dirty.close();
        let state = lock(&flusher.shared.state);
        assert!(state.live.is_empty());
        assert_eq!(state.finished.first().map(|a| a.frames), Some(2));
    }
}
