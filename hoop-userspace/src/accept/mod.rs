//! Stage 2: sockets in, original destination looked up.
//!
//! The listeners sit on 127.0.0.1 and ::1, in the daemon's network namespace and in each other
//! one that agents were seen in. A connection whose origin the kernel did not publish was not
//! redirected: somebody dialled the port directly. It is reset and reported.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hoop_common::{FlowKey, Origin};
use nix::sys::socket::{Backlog, setsockopt, sockopt};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::capture::{self, Capture, CaptureError, kernel_address, sys};
use crate::config;

mod netns;

pub use netns::Namespace;

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
    #[error("a socket cannot be made in that network namespace: {0}")]
    Socket(io::Error),
    #[error("nobody is in that network namespace any more")]
    Gone,
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
        /// The network namespace that it comes from; `None`: the daemon's own.
        namespace: Option<Namespace>,
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

/// All listeners, and what they accept; dropping it closes them.
pub struct Listeners {
    doors: Arc<Doors>,
    accepted: mpsc::Receiver<Accepted>,
}

/// The listeners, for whoever opens and shuts them.
pub struct Doors {
    capture: Arc<Capture>,
    port: u16,
    queue: mpsc::Sender<Accepted>,
    namespaces: Mutex<HashMap<u64, Served>>,
    shut: watch::Sender<bool>,
}

/// A listener as another build takes it over: with its mark, and with who waits to be accepted.
pub struct Adopted {
    pub listener: TcpListener,
    /// See [`Carried::inode`].
    pub inode: Option<u64>,
}

/// A listener that is to be taken over.
pub struct Carried {
    pub listener: Arc<tokio::net::TcpListener>,
    /// The inode of its namespace; `None` for the daemon's own.
    pub inode: Option<u64>,
}

/// What is kept of one namespace that is served.
struct Served {
    tasks: Vec<AbortHandle>,
    /// The inode of the namespace; `None` for the daemon's own, which is served for ever.
    inode: Option<u64>,
    listeners: Vec<Arc<tokio::net::TcpListener>>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.doors.namespaces().clear();
    }
}

impl std::ops::Deref for Listeners {
    type Target = Doors;

    fn deref(&self) -> &Doors {
        &self.doors
    }
}

impl Listeners {
    /// Listens in the daemon's own namespace, and forgets the listeners of earlier daemons. Must
    /// be called within a tokio runtime.
    pub fn bind(capture: &Arc<Capture>, config: &config::Capture) -> Result<Self, AcceptError> {
        Self::adopt(capture, config, Vec::new())
    }

    /// The same with listeners that another build has handed on. They go on as they are: the kernel
    /// programs know them by the nonce that this [`Capture`] has taken over, so there is no moment
    /// without one. What is no listener on loopback is left out.
    pub fn adopt(
        capture: &Arc<Capture>,
        config: &config::Capture,
        adopted: Vec<Adopted>,
    ) -> Result<Self, AcceptError> {
        let (queue, accepted) = mpsc::channel(QUEUE);
        let doors = Arc::new(Doors {
            capture: capture.clone(),
            port: config.port,
            queue,
            namespaces: Mutex::default(),
            shut: watch::Sender::new(false),
        });
        let mut namespaces: HashMap<u64, (Option<u64>, Vec<TcpListener>)> = HashMap::new();
        for Adopted { listener, inode } in adopted {
            match listens(&listener) {
                Ok(cookie) => {
                    let namespace = namespaces.entry(cookie).or_insert((inode, Vec::new()));
                    namespace.1.push(listener);
                }
                Err(error) => tracing::error!(%error, "a listener cannot be taken over"),
            }
        }
        let own = namespaces.values().any(|(inode, _)| inode.is_none());
        for (inode, listeners) in namespaces.into_values() {
            doors.serve(listeners, inode)?;
        }
        if !own {
            doors.serve(open(config.port)?, None)?;
        }
        capture.forget_namespace(None)?;
        Ok(Self { doors, accepted })
    }

    pub fn doors(&self) -> Arc<Doors> {
        self.doors.clone()
    }

    /// The next connection. Cancel-safe.
    pub async fn accept(&mut self) -> Result<Accepted, AcceptError> {
        self.accepted.recv().await.ok_or(AcceptError::Closed)
    }
}

impl Doors {
    /// Whether connections are accepted; those that are not wait in the kernel.
    pub fn set_shut(&self, shut: bool) {
        self.shut.send_replace(shut);
    }

    /// Whether every door is shut, and what was accepted has been taken.
    pub fn is_idle(&self) -> bool {
        *self.shut.borrow() && self.queue.capacity() == self.queue.max_capacity()
    }

    /// What another build is to take over.
    pub fn carried(&self) -> Vec<Carried> {
        let namespaces = self.namespaces();
        let carried = namespaces.values().flat_map(|namespace| {
            let listeners = namespace.listeners.iter();
            listeners.map(|listener| Carried {
                listener: listener.clone(),
                inode: namespace.inode,
            })
        });
        carried.collect()
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

    /// An unconnected TCP socket in a namespace that is served, for a server that is to be reached
    /// from there. Never one in the daemon's own.
    pub async fn socket(&self, cookie: u64, v6: bool) -> Result<OwnedFd, AcceptError> {
        let served = {
            let namespaces = self.namespaces();
            let served = namespaces.get(&cookie);
            let served = served.filter(|served| served.inode.is_some());
            served.and_then(|served| served.listeners.first().cloned())
        };
        let listener = served.ok_or(AcceptError::Gone)?;
        let namespace = sys::network_namespace(listener.as_fd()).map_err(AcceptError::Socket)?;
        let socket = netns::socket(namespace, v6).await?;
        // By its listener it can be no other: whoever reads this need not believe that.
        match sys::netns_cookie(socket.as_fd()) {
            Ok(own) if own == cookie => Ok(socket),
            Ok(_) => Err(AcceptError::Gone),
            Err(error) => Err(AcceptError::Socket(error)),
        }
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
            .flat_map(|namespace| &namespace.listeners)
            .filter_map(|listener| listener.local_addr().ok())
            .collect()
    }

    fn serve(&self, listeners: Vec<TcpListener>, inode: Option<u64>) -> Result<(), AcceptError> {
        let mut namespace = Served {
            tasks: Vec::new(),
            inode,
            listeners: Vec::new(),
        };
        let mut cookie = 0;
        for listener in listeners {
            let address = listener.local_addr().map_err(CaptureError::Listener)?;
            cookie = sys::netns_cookie(listener.as_fd()).map_err(CaptureError::Listener)?;
            self.capture.listen_marked(&listener)?;
            let listener = tokio::net::TcpListener::from_std(listener)
                .map_err(|source| AcceptError::Listen { address, source })?;
            let listener = Arc::new(listener);
            let door = Door {
                capture: self.capture.clone(),
                listener: listener.clone(),
                netns_cookie: cookie,
                inode,
                queue: self.queue.clone(),
                shut: self.shut.subscribe(),
            };
            namespace
                .tasks
                .push(tokio::spawn(door.serve()).abort_handle());
            namespace.listeners.push(listener);
        }
        self.namespaces().insert(cookie, namespace);
        Ok(())
    }

    fn namespaces(&self) -> MutexGuard<'_, HashMap<u64, Served>> {
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

/// The namespace of a listener on loopback; an error if it is none.
fn listens(listener: &TcpListener) -> io::Result<u64> {
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() || !rustix::net::sockopt::socket_acceptconn(listener)? {
        return Err(io::Error::other(format!(
            "{address} does not listen on loopback"
        )));
    }
    listener.set_nonblocking(true)?;
    sys::netns_cookie(listener.as_fd())
}

struct Door {
    capture: Arc<Capture>,
    listener: Arc<tokio::net::TcpListener>,
    netns_cookie: u64,
    /// Of its namespace; `None` for the daemon's own.
    inode: Option<u64>,
    queue: mpsc::Sender<Accepted>,
    shut: watch::Receiver<bool>,
}

impl Door {
    /// Accepts for as long as the keeper wants connections.
    async fn serve(mut self) {
        loop {
            if self.shut.wait_for(|shut| !*shut).await.is_err() {
                return;
            }
            // The place in the queue first: what cannot be handed on stays in the backlog.
            let place = tokio::select! {
                place = self.queue.reserve() => match place {
                    Ok(place) => place,
                    Err(_) => return,
                },
                _ = self.shut.wait_for(|shut| *shut) => continue,
            };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                // Whoever shut it sees by the place that nothing is accepted any more.
                _ = self.shut.wait_for(|shut| *shut) => continue,
            };
            match accepted {
                Ok((stream, peer)) => {
                    place.send(self.identify(stream, peer));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    }

    fn identify(&self, stream: tokio::net::TcpStream, peer: SocketAddr) -> Accepted {
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
            netns_cookie: self.netns_cookie,
            src: kernel_address(peer.ip()),
            dst: kernel_address(local.ip()),
            sport: peer.port(),
            dport: local.port(),
            reserved: 0,
        };
        match self.capture.take_origin(&key) {
            Some(origin) => {
                let destination = capture::destination(&origin);
                Accepted::Captured {
                    stream,
                    origin,
                    destination,
                    namespace: self.inode.map(|inode| Namespace {
                        cookie: self.netns_cookie,
                        inode,
                    }),
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
