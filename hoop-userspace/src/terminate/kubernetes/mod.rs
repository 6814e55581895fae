//! Kubernetes toward the client: hoop is the API server that the client reaches.
//!
//! A connection is TLS with HTTP/1.1 or HTTP/2 in it ([`Front`]); each request is a session with a
//! recording of its own ([`Session`]), so that one that waits for people holds no other. A request
//! is read whole before it is decided; an answer passes as it comes, in whole JSON objects where it
//! consists of them. `exec`, `attach` and `port-forward` turn a request into streams, which are
//! taken apart here and put together again for the server.

pub(in crate::terminate) mod again;
mod answer;
mod asked;
mod front;
mod head;
mod session;
mod status;

pub use answer::{AnswerBody, Broken};
pub use asked::KubernetesAsked;
pub use front::{Front, Opening};
pub use head::{Head, Objection, Upgrade};
pub use session::{Reach, Session};

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;

/// Headers that hoop adds for the server, such as whom it speaks for.
pub type Added = Vec<(HeaderName, HeaderValue)>;

/// An API server that was not reached, or did not answer as one. The text is fit to be shown to the
/// agent.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ServerError(pub String);

pub type Answering = Pin<Box<dyn Future<Output = Result<Response<Incoming>, ServerError>> + Send>>;

/// The API server, as a session reaches it: with hoop's own credential, over verified TLS.
pub trait Server: Send + Sync {
    /// Sends one request; its target is path and query alone. `alone` for one that turns into
    /// streams: it has a connection by itself, over HTTP/1.1.
    fn send(&self, request: Request<Full<Bytes>>, alone: bool) -> Answering;
}
