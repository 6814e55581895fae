//! The threads that connections run on: each has a runtime of its own, and a connection stays on
//! the one that it was given to.
//!
//! A work-stealing runtime wakes a second thread for nearly every statement, to look for work that
//! is not there. `docs/adr/a-runtime-per-thread.md` has what that costs, and what this costs.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};

/// Look-ups that hang in the C library must not keep the process.
const LEFT_BEHIND: Duration = Duration::from_millis(500);

/// One thread for each processor that this process may use.
pub struct Threads(Vec<Thread>);

struct Thread {
    runtime: Handle,
    /// Connections that live here.
    connections: Arc<AtomicUsize>,
    /// Dropped to end it.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// One connection among those of its thread.
struct Counted(Arc<AtomicUsize>);

impl Threads {
    pub fn start() -> io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        (0..count)
            .map(Thread::start)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Runs a connection on the thread that has the fewest.
    pub fn spawn(
        &self,
        connection: impl Future<Output = ()> + Send + 'static,
        among: &mut JoinSet<()>,
    ) -> AbortHandle {
        let fewest = self
            .0
            .iter()
            .min_by_key(|thread| thread.connections.load(Ordering::Relaxed));
        // `available_parallelism` is at least one.
        let Some(thread) = fewest else {
            return among.spawn(connection);
        };
        let counted = Counted::new(&thread.connections);
        let connection = async move {
            let _counted = counted;
            connection.await;
        };
        among.spawn_on(connection, &thread.runtime)
    }
}

impl Thread {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name(format!("hoop-{number}"))
            .spawn(move || {
                // An error is the sender's end, which is all that is waited for.
                let _ = runtime.block_on(stopped);
                runtime.shutdown_timeout(LEFT_BEHIND);
            })?;
        Ok(Self {
            runtime: handle,
            connections: Arc::default(),
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Counted {
    fn new(connections: &Arc<AtomicUsize>) -> Self {
        connections.fetch_add(1, Ordering::Relaxed);
        Self(connections.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Threads {
    /// Ends what still runs on them.
    fn drop(&mut self) {
        for thread in &mut self.0 {
            drop(thread.stop.take());
        }
        for thread in &mut self.0 {
            if let Some(thread) = thread.thread.take() {
                // One that panicked has said so.
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::sync::Mutex;
    use std::thread::ThreadId;
    use tokio::sync::watch;

    #[tokio::test]
    async fn connections_are_spread_evenly_stay_where_they_are_and_end_with_the_threads() {
        let threads = Threads::start().unwrap();
        let mut among = JoinSet::new();
        let (go, gone) = watch::channel(false);
        let seen = Arc::new(Mutex::new(HashMap::<ThreadId, usize>::new()));
        for _ in 0..threads.0.len() * 3 {
            let (mut gone, seen) = (gone.clone(), seen.clone());
            let connection = async move {
                let before = std::thread::current().id();
                gone.wait_for(|gone| *gone).await.unwrap();
                assert_eq!(std::thread::current().id(), before);
                *seen.lock().unwrap().entry(before).or_default() += 1;
            };
            threads.spawn(connection, &mut among);
        }
        go.send_replace(true);
        while let Some(ended) = among.join_next().await {
            ended.unwrap();
        }
        let counts: Vec<usize> = seen.lock().unwrap().values().copied().collect();
        assert_eq!(counts, vec![3; threads.0.len()]);

        threads.spawn(std::future::pending(), &mut among);
        tokio::task::spawn_blocking(move || drop(threads))
            .await
            .unwrap();
        assert!(among.join_next().await.unwrap().unwrap_err().is_cancelled());
    }
}
