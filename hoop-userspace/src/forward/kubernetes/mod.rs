//! Reaching a Kubernetes API server with hoop's own credential, over TLS that is verified.
//!
//! Requests of one client's connection share HTTP/2 to the server where it speaks that, and a few
//! connections of HTTP/1.1 where not. What turns into streams has a connection by itself.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, HeaderValue};
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use super::Unreached;
use super::network::{self, Network};
use super::postgres::ForwardError;
use super::postgres::tls::{KnownTls, ServerTls};
use super::resolve::Resolver;
use super::route::Target;
use crate::config::Resource;
use crate::terminate::kubernetes::{Answering, Server, ServerError};

/// Dialling, TLS and the first words of HTTP together.
const CONNECT: Duration = Duration::from_secs(15);
/// HTTP/2 that is not heard of within these is gone.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(30);
const MAX_HEAD: usize = 256 << 10;
/// Idle connections of HTTP/1.1 that are kept.
const IDLE: usize = 4;

/// What a token source holds now.
pub type Found = Pin<Box<dyn Future<Output = Result<Zeroizing<String>, String>> + Send>>;

/// Where hoop's bearer token for an API server comes from.
pub trait Bearer: Send + Sync {
    /// The token for the next request; an error in words that are fit for the agent.
    fn token(&self) -> Found;
}

type Http1 = http1::SendRequest<Full<Bytes>>;
type Http2 = http2::SendRequest<Full<Bytes>>;

/// Makes ways to API servers. Shared by all connections of a worker.
pub struct Connector {
    resolver: Resolver,
    tls: KnownTls,
}

impl Connector {
    pub fn new(resolver: Resolver) -> Self {
        Self {
            resolver,
            tls: KnownTls::default(),
        }
    }

    /// A way to the target's API server, which is dialled with the first request. Without `bearer`
    /// the certificate of the resource's login proves hoop.
    pub fn server(
        &self,
        target: &Target<'_>,
        bearer: Option<Arc<dyn Bearer>>,
    ) -> Result<ApiServer, ForwardError> {
        let address = target.addresses.first().map(SocketAddr::ip);
        let Some(address) = address else {
            return Err(ForwardError::TlsSettings(
                "the destination has no address".into(),
            ));
        };
        if let Some(why) = network::unproven(target.resource, &target.network) {
            return Err(ForwardError::Unproven(why));
        }
        let name = target.name.as_deref();
        let tls = ServerTls::of(target.resource, name, address, &self.tls)?;
        let tls = tls.ok_or(ForwardError::NoTls)?;
        let spoken = |protocols: &[&[u8]]| {
            let mut config = ClientConfig::clone(&tls.config);
            config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
            ServerTls {
                config: Arc::new(config),
                name: tls.name.clone(),
            }
        };
        let host = name.map_or_else(|| of_address(address), str::to_owned);
        let authority = match target.resource.port {
            443 => host,
            port => format!("{host}:{port}"),
        };
        Ok(ApiServer(Arc::new(Inner {
            resolver: self.resolver.clone(),
            resource: target.resource.clone(),
            name: target.name.clone(),
            addresses: target.addresses.clone(),
            network: target.network.clone(),
            any: spoken(&[&b"h2"[..], &b"http/1.1"[..]]),
            first: spoken(&[&b"http/1.1"[..]]),
            authority,
            bearer,
            shared: tokio::sync::Mutex::new(None),
            idle: Mutex::default(),
        })))
    }
}

fn of_address(address: std::net::IpAddr) -> String {
    match address.to_canonical() {
        std::net::IpAddr::V4(address) => address.to_string(),
        std::net::IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// One client's way to an API server.
#[derive(Clone)]
pub struct ApiServer(Arc<Inner>);

struct Inner {
    resolver: Resolver,
    resource: Resource,
    name: Option<String>,
    addresses: Vec<SocketAddr>,
    network: Network,
    /// Offers HTTP/2 as well.
    any: ServerTls,
    first: ServerTls,
    authority: String,
    bearer: Option<Arc<dyn Bearer>>,
    /// HTTP/2, once the server was found to speak it.
    shared: tokio::sync::Mutex<Option<Http2>>,
    idle: Mutex<Vec<Http1>>,
}

/// A connection that requests can be sent on.
enum Way {
    One(Http1),
    Shared(Http2),
}

/// A request that did not leave hoop comes back with the error.
struct Unsent {
    why: String,
    request: Option<Request<Full<Bytes>>>,
}

impl ApiServer {
    /// Reaches the server and verifies that it is the one that is meant; nobody is named to it.
    pub async fn prove(&self) -> Result<(), ProofError> {
        let opened = tokio::time::timeout(CONNECT, self.0.dial(&self.0.any)).await;
        opened.unwrap_or_else(|_| Err(ProofError::Unreachable(late())))?;
        Ok(())
    }
}

/// Why an API server is not there, or is not the one that is meant.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    #[error("{0}")]
    Unreachable(String),
    #[error("TLS with the API server failed: {0}")]
    NotVerified(String),
}

fn late() -> String {
    format!(
        "the API server does not answer within {} s",
        CONNECT.as_secs()
    )
}

impl Server for ApiServer {
    fn send(&self, request: Request<Full<Bytes>>, alone: bool) -> Answering {
        let inner = self.0.clone();
        Box::pin(async move { inner.send(request, alone).await.map_err(ServerError) })
    }
}

impl Inner {
    async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        alone: bool,
    ) -> Result<Response<Incoming>, String> {
        if let Some(bearer) = &self.bearer {
            let token = bearer
                .token()
                .await
                .map_err(|why| format!("hoop has no credential for the API server: {why}"))?;
            let value = Zeroizing::new(format!("Bearer {}", token.as_str()));
            let value = HeaderValue::from_str(&value);
            let mut value = value.map_err(|_| "hoop's token is no usable header".to_owned())?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        if alone {
            let Way::One(mut way) = self.connect(&self.first).await? else {
                return Err("the API server speaks HTTP/2 where it was not asked to".into());
            };
            let request = self.for_http1(request)?;
            return way.send_request(request).await.map_err(|e| chain(&e));
        }
        let way = match self.known().await {
            Some(way) => way,
            None => self.new_way().await?,
        };
        match self.over(way, request).await {
            Ok(response) => Ok(response),
            // The server had closed a connection that nothing was sent on for a while.
            Err(Unsent {
                request: Some(request),
                ..
            }) => {
                let way = self.new_way().await?;
                let sent = self.over(way, request).await;
                sent.map_err(|unsent| unsent.why)
            }
            Err(Unsent { why, .. }) => Err(why),
        }
    }

    /// A connection of before that can take a request.
    async fn known(&self) -> Option<Way> {
        let mut shared = self.shared.lock().await;
        if let Some(way) = shared.as_ref() {
            if !way.is_closed() {
                return Some(Way::Shared(way.clone()));
            }
            *shared = None;
        }
        drop(shared);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|way| !way.is_closed());
        let ready = idle.iter().position(http1::SendRequest::is_ready)?;
        Some(Way::One(idle.swap_remove(ready)))
    }

    async fn new_way(&self) -> Result<Way, String> {
        let mut shared = self.shared.lock().await;
        if let Some(way) = shared.as_ref().filter(|way| !way.is_closed()) {
            // Another request has just made it.
            return Ok(Way::Shared(way.clone()));
        }
        let way = self.connect(&self.any).await?;
        *shared = match &way {
            Way::Shared(way) => Some(way.clone()),
            Way::One(_) => None,
        };
        Ok(way)
    }

    async fn over(
        &self,
        way: Way,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Unsent> {
        let unusable = |why| Unsent { why, request: None };
        match way {
            Way::Shared(mut way) => {
                *request.uri_mut() = self.whole(request.uri()).map_err(unusable)?;
                way.ready().await.map_err(|e| unusable(chain(&e)))?;
                let sent = way.try_send_request(request).await;
                sent.map_err(|mut error| Unsent {
                    request: error.take_message(),
                    why: chain(error.error()),
                })
            }
            Way::One(mut way) => {
                let request = self.for_http1(request).map_err(unusable)?;
                let sent = way.try_send_request(request).await;
                let response = sent.map_err(|mut error| Unsent {
                    request: error.take_message(),
                    why: chain(error.error()),
                })?;
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                if idle.len() < IDLE {
                    idle.push(way);
                }
                Ok(response)
            }
        }
    }

    /// HTTP/2 names scheme and server with each request (RFC 9113, 8.3.1).
    fn whole(&self, uri: &Uri) -> Result<Uri, String> {
        let mut parts = uri.clone().into_parts();
        let path = parts.path_and_query.take();
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTPS);
        let authority = self.authority.parse();
        parts.authority = Some(authority.map_err(|_| "the API server's name is not usable")?);
        parts.path_and_query = Some(path.unwrap_or(PathAndQuery::from_static("/")));
        Uri::from_parts(parts).map_err(|error| error.to_string())
    }

    fn for_http1(&self, mut request: Request<Full<Bytes>>) -> Result<Request<Full<Bytes>>, String> {
        // One that HTTP/2 gave back names the server.
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.unwrap_or(PathAndQuery::from_static("/")).into();
        let host = HeaderValue::from_str(&self.authority);
        let host = host.map_err(|_| "the API server's name is not usable".to_owned())?;
        request.headers_mut().insert(HOST, host);
        Ok(request)
    }

    async fn connect(&self, tls: &ServerTls) -> Result<Way, String> {
        tokio::time::timeout(CONNECT, self.open(tls))
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    async fn dial(&self, tls: &ServerTls) -> Result<TlsStream<TcpStream>, ProofError> {
        let unreachable = ProofError::Unreachable;
        let target = Target {
            resource: &self.resource,
            name: self.name.clone(),
            addresses: self.addresses.clone(),
            network: self.network.clone(),
        };
        let reached = super::reach(&self.resolver, &target).await;
        let stream = reached.map_err(|error| {
            unreachable(match error {
                Unreached::Unproven(why) => why,
                Unreached::Resolve(error) => {
                    format!("the API server's name cannot be resolved: {error}")
                }
                Unreached::Dial { address, source } => {
                    format!("the API server at {address} cannot be reached: {source}")
                }
            })
        })?;
        let connecting = TlsConnector::from(tls.config.clone()).connect(tls.name.clone(), stream);
        connecting
            .await
            .map_err(|error| ProofError::NotVerified(error.to_string()))
    }

    async fn open(&self, tls: &ServerTls) -> Result<Way, String> {
        let stream = self.dial(tls).await.map_err(|error| error.to_string())?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(&b"h2"[..]);
        let io = TokioIo::new(stream);
        if h2 {
            let made = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(PING)
                .keep_alive_timeout(PONG)
                .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
                .initial_stream_window_size(1 << 20)
                .initial_connection_window_size(4 << 20)
                .handshake(io);
            let (way, connection) = made.await.map_err(|e| chain(&e))?;
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection to an API server ended");
                }
            });
            return Ok(Way::Shared(way));
        }
        let made = http1::Builder::new().max_buf_size(MAX_HEAD).handshake(io);
        let (way, connection) = made.await.map_err(|e| chain(&e))?;
        let connection = connection.with_upgrades();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to an API server ended");
            }
        });
        Ok(Way::One(way))
    }
}

/// An error and what it is due to.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
