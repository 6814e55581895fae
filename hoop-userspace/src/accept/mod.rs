//! Stage 2: sockets in, original destination looked up.
//!
//! The listeners sit on 127.0.0.1 and ::1, in the daemon's network namespace and in each other
//! one that agents were seen in. A connection whose origin the kernel did not publish was not
//! redirected: somebody dialled the port directly. It is reset and reported.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hoop_common::{FlowKey, Origin};
use nix::sys::socket::{Backlog, setsockopt, sockopt};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::capture::{self, Capture, CaptureError, kernel_address, sys};
use crate::config;

mod netns;

/// Connections that wait in the kernel for an accept.
const BACKLOG: i32 = 4096;
/// Accepted connections that wait for the keeper.
const QUEUE: usize = 256;
/// Namespaces that are served at once.
const MAX_NAMESPACES: usize = 256;
/// After an accept that failed, for want of descriptors for instance.
const BREATH: Duration = Duration::from_millis(50);

/// Why listeners cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    #[error("cannot listen on {address}: {source}; is another hoop running?")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("cannot make a listener known to the kernel programs: {0}")]
    Mark(#[from] CaptureError),
    #[error("cannot enter the network namespace of process {pid}: {source}")]
    Enter { pid: u32, source: io::Error },
    #[error(
        "the network namespace of process {pid} belongs to a user namespace of its own; \
         connections from it stay refused"
    )]
    Foreign { pid: u32 },
    #[error("process {pid} is not in the network namespace that was reported any more")]
    Moved { pid: u32 },
    #[error(
        "{MAX_NAMESPACES} network namespaces are served already; connections from others stay refused"
    )]
    TooMany,
    #[error("all listeners are gone")]
    Closed,
}

/// A connection at the door.
#[derive(Debug)]
pub enum Accepted {
    Captured {
        /// Non-blocking.
        stream: TcpStream,
        origin: Origin,
        /// Where the client believes it is connected to.
        destination: SocketAddr,
    },
    /// Reset already.
    Refused {
        peer: SocketAddr,
        reason: NotCaptured,
    },
}

/// Why a connection was reset at accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCaptured {
    #[error("no origin was recorded: the port was dialled directly, or the kernel's table is full")]
    NoOrigin,
    #[error("the connection ended before its address could be read")]
    Ended,
}

/// All listeners; dropping it closes them.
pub struct Listeners {
    capture: Arc<Capture>,
    port: u16,
    accepted: mpsc::Receiver<Accepted>,
    queue: mpsc::Sender<Accepted>,
    namespaces: Mutex<HashMap<u64, Namespace>>,
}

/// What is kept of one namespace that is served.
struct Namespace {
    tasks: Vec<AbortHandle>,
    /// The inode of the namespace; `None` for the daemon's own, which is served for ever.
    inode: Option<u64>,
    ports: Vec<SocketAddr>,
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.namespaces().clear();
    }
}

impl Listeners {
    /// Listens in the daemon's own namespace, and forgets the listeners of earlier daemons. Must
    /// be called within a tokio runtime.
    pub fn bind(capture: &Arc<Capture>, config: &config::Capture) -> Result<Self, AcceptError> {
        let (queue, accepted) = mpsc::channel(QUEUE);
        let listeners = Self {
            capture: capture.clone(),
            port: config.port,
            accepted,
            queue,
            namespaces: Mutex::default(),
        };
        listeners.serve(open(config.port)?, None)?;
        capture.forget_namespace(None)?;
        Ok(listeners)
    }

    /// The next connection. Cancel-safe.
    pub async fn accept(&mut self) -> Result<Accepted, AcceptError> {
        self.accepted.recv().await.ok_or(AcceptError::Closed)
    }

    /// Listens in the network namespace that a connection came from, as reported by the kernel.
    /// Returns false if it is served already. Only namespaces of the initial user namespace: in
    /// one of its own an agent could be root, and take the listener's place.
    pub async fn serve_namespace(&self, origin: &Origin) -> Result<bool, AcceptError> {
        {
            let namespaces = self.namespaces();
            if namespaces.contains_key(&origin.netns_cookie) {
                return Ok(false);
            }
            if namespaces.len() >= MAX_NAMESPACES {
                return Err(AcceptError::TooMany);
            }
        }
        let port = self.port;
        let opened = netns::within(origin.tgid, origin.pid, move || open(port)).await?;
        let listeners = opened.result?;
        let cookies: Result<Vec<_>, _> = listeners
            .iter()
            .map(|l| sys::netns_cookie(l.as_fd()))
            .collect();
        // The number may have passed to another process before its namespace was opened.
        if !cookies.is_ok_and(|all| all.iter().all(|cookie| *cookie == origin.netns_cookie)) {
            return Err(AcceptError::Moved { pid: origin.tgid });
        }
        self.serve(listeners, Some(opened.inode))?;
        Ok(true)
    }

    /// Stops listening in namespaces that no process is in any more: a listener would keep the
    /// namespace itself alive. Reads all of `/proc`; returns how many were left.
    pub fn retire_namespaces(&self) -> usize {
        let alive = netns::inhabited();
        let mut namespaces = self.namespaces();
        let gone: Vec<u64> = namespaces
            .iter()
            .filter(|(_, namespace)| namespace.inode.is_some_and(|inode| !alive.contains(&inode)))
            .map(|(cookie, _)| *cookie)
            .collect();
        for cookie in &gone {
            if let Err(error) = self.capture.forget_namespace(Some(*cookie)) {
                tracing::warn!(%error, "a namespace that ended cannot be forgotten");
            }
            namespaces.remove(cookie);
        }
        gone.len()
    }

    /// The addresses that connections are redirected to, of all namespaces.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.namespaces()
            .values()
            .flat_map(|namespace| namespace.ports.clone())
            .collect()
    }

    fn serve(&self, listeners: Vec<TcpListener>, inode: Option<u64>) -> Result<(), AcceptError> {
        let mut namespace = Namespace {
            tasks: Vec::new(),
            inode,
            ports: Vec::new(),
        };
        let mut cookie = 0;
        for listener in listeners {
            let address = listener.local_addr().map_err(CaptureError::Listener)?;
            cookie = sys::netns_cookie(listener.as_fd()).map_err(CaptureError::Listener)?;
            self.capture.listen_marked(&listener)?;
            let listener = tokio::net::TcpListener::from_std(listener)
                .map_err(|source| AcceptError::Listen { address, source })?;
            let door = door(self.capture.clone(), listener, cookie, self.queue.clone());
            namespace.tasks.push(tokio::spawn(door).abort_handle());
            namespace.ports.push(address);
        }
        self.namespaces().insert(cookie, namespace);
        Ok(())
    }

    fn namespaces(&self) -> MutexGuard<'_, HashMap<u64, Namespace>> {
        self.namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listeners on both loopback addresses of the thread's namespace. One without IPv6 has none on
/// ::1; the kernel refuses connections to IPv6 destinations then.
fn open(port: u16) -> Result<Vec<TcpListener>, AcceptError> {
    let mut listeners = vec![listen(Ipv4Addr::LOCALHOST.into(), port)?];
    match listen(Ipv6Addr::LOCALHOST.into(), port) {
        Ok(listener) => listeners.push(listener),
        Err(AcceptError::Listen { source, .. }) if without_ipv6(&source) => {
            tracing::warn!("no IPv6 loopback here: connections to IPv6 destinations are refused");
        }
        Err(error) => return Err(error),
    }
    Ok(listeners)
}

fn without_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT)
    )
}

fn listen(address: IpAddr, port: u16) -> Result<TcpListener, AcceptError> {
    let address = SocketAddr::new(address, port);
    let failed = |source| AcceptError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    // The standard library's own backlog is short for a burst of connections.
    let backlog = Backlog::new(BACKLOG).map_err(|errno| failed(errno.into()))?;
    nix::sys::socket::listen(&listener, backlog).map_err(|errno| failed(errno.into()))?;
    Ok(listener)
}

/// Accepts for as long as the keeper wants connections.
async fn door(
    capture: Arc<Capture>,
    listener: tokio::net::TcpListener,
    netns_cookie: u64,
    queue: mpsc::Sender<Accepted>,
) {
    loop {
        // The place in the queue first: what cannot be handed on stays in the backlog.
        let Ok(place) = queue.reserve().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, peer)) => place.send(identify(&capture, stream, peer, netns_cookie)),
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

fn identify(
    capture: &Capture,
    stream: tokio::net::TcpStream,
    peer: SocketAddr,
    netns_cookie: u64,
) -> Accepted {
    let Ok((stream, local)) = stream
        .into_std()
        .and_then(|s| s.local_addr().map(|l| (s, l)))
    else {
        return Accepted::Refused {
            peer,
            reason: NotCaptured::Ended,
        };
    };
    let key = FlowKey {
        netns_cookie,
        src: kernel_address(peer.ip()),
        dst: kernel_address(local.ip()),
        sport: peer.port(),
        dport: local.port(),
        reserved: 0,
    };
    match capture.take_origin(&key) {
        Some(origin) => {
            let destination = capture::destination(&origin);
            Accepted::Captured {
                stream,
                origin,
                destination,
            }
        }
        None => {
            reset(stream);
            Accepted::Refused {
                peer,
                reason: NotCaptured::NoOrigin,
            }
        }
    }
}

/// Closes with RST, so that the peer sees a failure and no orderly end.
fn reset(stream: TcpStream) {
    let now = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    if let Err(errno) = setsockopt(&stream, sockopt::Linger, &now) {
        tracing::debug!(%errno, "a refused connection is closed without a reset");
    }
}
