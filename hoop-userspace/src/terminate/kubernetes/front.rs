//! A client's connection: TLS, and HTTP/1.1 or HTTP/2 within it.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::answer::AnswerBody;
use super::head::{Head, Objection};
use crate::terminate::SessionError;

/// For the TLS handshake.
const MEETING: Duration = Duration::from_secs(10);
/// For the head of a request; over HTTP/1.1 also for the next one to begin.
const HEAD: Duration = Duration::from_secs(120);
/// `kubectl exec` has its whole command in the query.
const MAX_HEAD: u32 = 256 << 10;
const MAX_HEADERS: usize = 100;
/// Requests at once on one connection; kubectl and client-go use a few dozen.
const MAX_STREAMS: u32 = 250;
/// HTTP/2 that is not heard of within these is gone.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(30);
/// What a client has to take its last answers.
const GOODBYE: Duration = Duration::from_secs(1);

/// A request that has arrived: its head, and what its content and its answer go by.
pub struct Opening {
    /// As it was sent, for people.
    pub line: String,
    pub client: Option<String>,
    pub head: Result<Box<Head>, Objection>,
    pub(super) body: Incoming,
    pub(super) answer: oneshot::Sender<Response<AnswerBody>>,
    pub(super) upgrade: OnUpgrade,
}

/// A client's connection. Dropped, it is closed.
pub struct Front {
    openings: mpsc::Receiver<Opening>,
    serving: JoinHandle<()>,
    close: watch::Sender<bool>,
}

impl Front {
    /// Meets the client. Its requests come one by one from [`Front::open`].
    pub async fn accept<S>(stream: S, config: &ServerConfig) -> Result<Self, SessionError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut config = config.clone();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let accepting = TlsAcceptor::from(Arc::new(config)).accept(stream);
        let late = || std::io::Error::from(std::io::ErrorKind::TimedOut);
        let accepted = tokio::time::timeout(MEETING, accepting).await;
        let stream = accepted
            .unwrap_or_else(|_| Err(late()))
            .map_err(SessionError::ClientIo)?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(&b"h2"[..]);
        // As many as there may be at once; a client that sends more waits.
        let (opened, openings) = mpsc::channel(MAX_STREAMS as usize);
        let service = service_fn(move |request| {
            let opened = opened.clone();
            async move { answered(request, opened).await }
        });
        let io = TokioIo::new(stream);
        let (close, closing) = watch::channel(false);
        let serving = match h2 {
            true => {
                let connection = http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .max_header_list_size(MAX_HEAD)
                    .max_concurrent_streams(MAX_STREAMS)
                    .keep_alive_interval(PING)
                    .keep_alive_timeout(PONG)
                    .serve_connection(io, service);
                tokio::spawn(async move {
                    let mut connection = pin!(connection);
                    let served = tokio::select! {
                        served = connection.as_mut() => served,
                        () = told(closing) => {
                            connection.as_mut().graceful_shutdown();
                            connection.await
                        }
                    };
                    over(served);
                })
            }
            false => {
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD)
                    .max_headers(MAX_HEADERS)
                    .max_buf_size(MAX_HEAD as usize)
                    .serve_connection(io, service)
                    .with_upgrades();
                tokio::spawn(async move {
                    let mut connection = pin!(connection);
                    let served = tokio::select! {
                        served = connection.as_mut() => served,
                        () = told(closing) => {
                            connection.as_mut().graceful_shutdown();
                            connection.await
                        }
                    };
                    over(served);
                })
            }
        };
        Ok(Self {
            openings,
            serving,
            close,
        })
    }

    /// Takes no more requests, and lets the answers that were given reach the client.
    pub async fn close(mut self) {
        self.openings.close();
        self.close.send_replace(true);
        // A client that takes nothing is left to itself.
        let _ = tokio::time::timeout(GOODBYE, &mut self.serving).await;
    }

    /// The next request; `None` once the client has gone.
    pub async fn open(&mut self) -> Option<Opening> {
        self.openings.recv().await
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn told(mut closing: watch::Receiver<bool>) {
    if closing.wait_for(|closing| *closing).await.is_err() {
        // Dropped without a word: the task is ended from outside.
        std::future::pending().await
    }
}

fn over(served: Result<(), hyper::Error>) {
    if let Err(error) = served {
        tracing::debug!(%error, "a client's connection ended");
    }
}

/// The answer is made elsewhere. Where nobody makes one, hoop is stopping.
async fn answered(
    request: Request<Incoming>,
    opened: mpsc::Sender<Opening>,
) -> Result<Response<AnswerBody>, Infallible> {
    let (answer, answered) = oneshot::channel();
    let mut request = request;
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let client = parts.headers.get(http::header::USER_AGENT);
    let opening = Opening {
        line: format!(
            "{} {}",
            parts.method,
            parts.uri.path_and_query().map_or("", |p| p.as_str())
        ),
        client: client.and_then(|value| Some(value.to_str().ok()?.chars().take(256).collect())),
        head: Head::read(&parts).map(Box::new),
        body,
        answer,
        upgrade,
    };
    let unavailable = || {
        let mut response = Response::new(AnswerBody::Whole(None));
        *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        response
    };
    if opened.send(opening).await.is_err() {
        return Ok(unavailable());
    }
    Ok(answered.await.unwrap_or_else(|_| unavailable()))
}
