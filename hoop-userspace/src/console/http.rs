//! The connections of browsers: TLS, HTTP/1.1, and bounds on how long and how many.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use super::guard::{Places, neighbour};
use super::link::Link;
use super::recordings;
use super::serve::{Server, serve};
use super::site::Site;

/// Connections at once; what is above is closed.
const AT_ONCE: usize = 256;
/// A connection's whole life: whoever follows something live comes again.
const LIFE: Duration = Duration::from_secs(15 * 60);
const TLS_WITHIN: Duration = Duration::from_secs(5);
/// Between two requests as well.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);
/// For the first: whoever connects has something to say.
const FIRST_WITHIN: Duration = Duration::from_secs(5);
/// Connections of one address.
const OF_ONE: u32 = 32;
/// The same on loopback, where a reverse proxy may stand for everybody.
const OF_LOOPBACK: u32 = 192;

/// Serves connections by the configuration that holds when they come.
pub struct Listener {
    places: Arc<Semaphore>,
    of_one: Places<IpAddr>,
    site: Mutex<Arc<Site>>,
    server: Arc<Server>,
}

impl Listener {
    pub fn new(site: Site, link: Arc<Link>, changes: watch::Receiver<u64>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(AT_ONCE)),
            of_one: Places::default(),
            site: Mutex::new(Arc::new(site)),
            server: Arc::new(Server::new(link, changes)),
        }
    }

    /// What was recorded, as pages search it.
    pub fn index(&self) -> recordings::Shared {
        self.server.index.clone()
    }

    pub fn set_site(&self, site: Site) {
        *self.site.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(site);
    }

    /// Serves one connection in a task of its own.
    pub fn serve(&self, stream: std::net::TcpStream) {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return;
        };
        let Ok(peer) = stream.peer_addr().map(|peer| peer.ip()) else {
            return;
        };
        let most = match peer.to_canonical().is_loopback() {
            true => OF_LOOPBACK,
            false => OF_ONE,
        };
        let Some(own) = self.of_one.take(neighbour(peer), most) else {
            return;
        };
        let site = self
            .site
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let server = self.server.clone();
        tokio::spawn(async move {
            let served = tokio::time::timeout(LIFE, one(server, site, peer, stream)).await;
            if let Ok(Err(error)) = served {
                tracing::debug!(error, "a connection to the console failed");
            }
            drop((place, own));
        });
    }
}

async fn one(
    server: Arc<Server>,
    site: Arc<Site>,
    peer: IpAddr,
    stream: std::net::TcpStream,
) -> Result<(), String> {
    let stream = stream
        .set_nonblocking(true)
        .and_then(|()| TcpStream::from_std(stream))
        .map_err(|error| error.to_string())?;
    match site.tls.clone() {
        None => http(server, site, peer, stream).await,
        Some(tls) => {
            let shaken = tokio::time::timeout(TLS_WITHIN, tls.accept(stream)).await;
            let stream = shaken.map_err(|_| "no TLS in time")?;
            let stream = stream.map_err(|error| error.to_string())?;
            http(server, site, peer, stream).await
        }
    }
}

async fn http<S>(
    server: Arc<Server>,
    site: Arc<Site>,
    peer: IpAddr,
    stream: S,
) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked = Arc::new(AtomicBool::new(false));
    let heard = asked.clone();
    let service = service_fn(move |request| {
        heard.store(true, Ordering::Relaxed);
        let (server, site) = (server.clone(), site.clone());
        async move { Ok::<_, Infallible>(serve(&server, &site, peer, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_headers(100)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        served = &mut connection => return served.map_err(|error| error.to_string()),
        () = tokio::time::sleep(FIRST_WITHIN) => {}
    }
    if !asked.load(Ordering::Relaxed) {
        return Err("no request in time".into());
    }
    connection.await.map_err(|error| error.to_string())
}
