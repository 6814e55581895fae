//! Sockets in other network namespaces, for workers that reach a server from where its client is.
//!
//! A worker may enter no namespace, so it asks for each socket when it needs one, and gets it
//! unconnected. Only namespaces that are listened in are asked for with success: those of the initial
//! user namespace that an agent has come from. A socket is this process's by cgroup, whoever lives in
//! the namespace, so what governs agents does not hold for it.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::gate::Entered;
use crate::accept::Doors;
use crate::handover::{Channel, ToWorker};

/// Each takes a thread of its own for a moment.
const AT_ONCE: usize = 32;
/// For a worker to take its answer.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// A worker wants a socket; the answer goes to this channel.
pub struct WantSocket {
    pub request: u64,
    /// The cookie of its namespace.
    pub namespace: u64,
    pub v6: bool,
    pub channel: Arc<Channel>,
    /// Until it is answered.
    pub entered: Entered,
}

/// Answers for as long as anybody may ask.
pub async fn serve(doors: Arc<Doors>, mut wanted: mpsc::Receiver<WantSocket>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(want) = wanted.recv().await {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let doors = doors.clone();
        tokio::spawn(answer(doors, want, place));
    }
}

async fn answer(doors: Arc<Doors>, want: WantSocket, place: OwnedSemaphorePermit) {
    let WantSocket {
        request,
        namespace,
        v6,
        channel,
        entered: _entered,
    } = want;
    let made = doors.socket(namespace, v6).await;
    // A worker that does not read keeps no other from its socket.
    drop(place);
    let (socket, problem) = match made {
        Ok(socket) => (Some(socket), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let message = ToWorker::Socket { request, problem };
    let sending = channel.send(&message, socket.as_ref().map(AsFd::as_fd));
    if !matches!(tokio::time::timeout(TOLD_WITHIN, sending).await, Ok(Ok(()))) {
        tracing::debug!("a worker went away before it had its socket");
    }
}
