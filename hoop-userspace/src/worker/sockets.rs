//! Asking the keeper for sockets in other network namespaces: only the keeper may enter one.
//!
//! One is asked for when a server is about to be dialled, and not before: none lies idle, and a
//! namespace that has ended is noticed at once.

use std::collections::HashMap;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::accept::Namespace;
use crate::forward::network::{Making, Sockets};
use crate::handover::FromWorker;

/// The keeper needs a fraction of a millisecond; it may be reading a configuration just then.
const WITHIN: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 5 });
/// Questions at once; the others wait, within the same time.
const AT_ONCE: usize = 64;

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Requests(Arc<Inner>);

struct Inner {
    tell: mpsc::Sender<FromWorker>,
    count: AtomicU64,
    places: Semaphore,
    waiting: Mutex<HashMap<u64, oneshot::Sender<io::Result<TcpStream>>>>,
}

impl Requests {
    pub fn new(tell: mpsc::Sender<FromWorker>) -> Self {
        Self(Arc::new(Inner {
            tell,
            count: AtomicU64::default(),
            places: Semaphore::new(AT_ONCE),
            waiting: Mutex::default(),
        }))
    }

    /// The keeper's answer. A socket that nobody waits for any more is closed.
    pub fn answered(&self, request: u64, problem: Option<String>, socket: Option<OwnedFd>) {
        let Some(waiting) = self.0.waiting().remove(&request) else {
            return;
        };
        let answer = match (problem, socket) {
            (None, Some(socket)) => Ok(socket.into()),
            (problem, _) => Err(io::Error::other(
                problem.unwrap_or_else(|| "the keeper sent no socket".into()),
            )),
        };
        // Whoever asked may have stopped waiting.
        let _ = waiting.send(answer);
    }
}

impl Sockets for Requests {
    fn socket(&self, namespace: Namespace, v6: bool) -> Making {
        let inner = self.0.clone();
        Box::pin(async move {
            let request = inner.count.fetch_add(1, Ordering::Relaxed);
            // However the wait ends, nothing is left of it.
            let _entry = Entry(&inner, request);
            let answered = tokio::time::timeout(WITHIN, inner.ask(request, namespace, v6)).await;
            answered.unwrap_or_else(|_| {
                let why = format!("the keeper made no socket within {} s", WITHIN.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, why))
            })
        })
    }
}

impl Inner {
    async fn ask(&self, request: u64, namespace: Namespace, v6: bool) -> io::Result<TcpStream> {
        let gone = || io::Error::other("the keeper is gone");
        let _place = self.places.acquire().await.map_err(|_| gone())?;
        let (reply, answer) = oneshot::channel();
        self.waiting().insert(request, reply);
        let question = FromWorker::WantSocket {
            request,
            namespace: namespace.cookie,
            v6,
        };
        self.tell.send(question).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<io::Result<TcpStream>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Entry<'i>(&'i Inner, u64);

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.0.waiting().remove(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THERE: Namespace = Namespace {
        cookie: 7,
        inode: 4026,
    };

    fn socket() -> OwnedFd {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        TcpStream::connect(listener.local_addr().unwrap())
            .unwrap()
            .into()
    }

    #[tokio::test]
    async fn each_question_gets_its_own_socket_or_the_reason() {
        let (tell, mut heard) = mpsc::channel(8);
        let requests = Requests::new(tell);
        let keeper = async {
            let mut asked = Vec::new();
            for _ in 0..2 {
                match heard.recv().await {
                    Some(FromWorker::WantSocket {
                        request,
                        namespace: 7,
                        v6,
                    }) => asked.push((request, v6)),
                    other => panic!("{other:?}"),
                }
            }
            requests.answered(999, None, Some(socket()));
            for (request, v6) in asked.into_iter().rev() {
                match v6 {
                    true => requests.answered(request, Some("it has ended".into()), None),
                    false => requests.answered(request, None, Some(socket())),
                }
            }
        };
        let (made, ended, ()) = tokio::join!(
            requests.socket(THERE, false),
            requests.socket(THERE, true),
            keeper
        );
        made.unwrap();
        assert_eq!(ended.unwrap_err().to_string(), "it has ended");
        assert!(requests.0.waiting().is_empty());
    }

    #[tokio::test]
    async fn a_keeper_that_is_silent_or_gone_is_an_error_and_nothing_is_left() {
        let (tell, mut heard) = mpsc::channel(8);
        let requests = Requests::new(tell);
        let late = requests.socket(THERE, false).await.unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        assert!(requests.0.waiting().is_empty());
        // An answer to nobody.
        assert!(heard.recv().await.is_some());
        requests.answered(0, None, Some(socket()));
        drop(heard);
        let gone = requests.socket(THERE, false).await.unwrap_err();
        assert!(gone.to_string().contains("gone"), "{gone}");
    }
}
