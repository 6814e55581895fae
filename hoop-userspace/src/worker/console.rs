//! What issuers report by themselves, over HTTP.
//!
//! The console's process has taken TLS off and passes on requests below `/events/`, each over a
//! connection of its own. Every connection is bounded in time, number and size, and an answer tells
//! a stranger nothing but that it was not proved.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use super::report;
use super::rules::Shared;
use crate::config::Agent;
use crate::handover::{FromWorker, Reported};
use crate::identify::By;
use crate::identify::events::{self, Report};
use crate::ids::IssuerName;

/// Connections at once; what is above is closed.
const AT_ONCE: usize = 32;
/// A connection's whole life.
const LIFE: Duration = Duration::from_secs(15);
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
/// Of a request's body.
const MAX_BODY: usize = 256 << 10;
/// What Okta sends to learn whether the address is ours.
const CHALLENGE: &str = "x-okta-verification-challenge";

/// Entries that strangers can cause, in a minute; what is above is counted.
const REFUSED: u32 = 6;
const MINUTE: Duration = Duration::from_secs(60);

/// One for the worker.
pub struct Listener {
    places: Arc<Semaphore>,
    refused: Arc<Mutex<Refused>>,
}

/// What was refused, so that a stranger's flood does not become the ledger's.
#[derive(Default)]
struct Refused {
    since: Option<Instant>,
    written: u32,
    unwritten: u64,
}

impl Refused {
    /// Whether one more is written, and then how many were not before it.
    fn one(&mut self, now: Instant) -> Option<u64> {
        let over = |since: Instant| now.duration_since(since) >= MINUTE;
        if self.since.is_none_or(over) {
            self.since = Some(now);
            self.written = 0;
        }
        if self.written >= REFUSED {
            self.unwritten += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.unwritten))
    }
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(AT_ONCE)),
            refused: Arc::default(),
        }
    }
}

impl Listener {
    /// Serves one connection in a task of its own.
    pub fn serve(&self, shared: Arc<Shared>, stream: std::os::unix::net::UnixStream) {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return;
        };
        let refused = self.refused.clone();
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                served = tokio::time::timeout(LIFE, one(shared.clone(), refused, stream)) => {
                    if let Ok(Err(error)) = served {
                        tracing::debug!(error, "a connection of the console failed");
                    }
                }
                () = shared.stopped() => {}
            }
        });
    }
}

async fn one(
    shared: Arc<Shared>,
    refused: Arc<Mutex<Refused>>,
    stream: std::os::unix::net::UnixStream,
) -> Result<(), String> {
    let stream = stream
        .set_nonblocking(true)
        .and_then(|()| UnixStream::from_std(stream))
        .map_err(|error| error.to_string())?;
    http(shared, refused, stream).await
}

async fn http<S>(shared: Arc<Shared>, refused: Arc<Mutex<Refused>>, stream: S) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let (shared, refused) = (shared.clone(), refused.clone());
        async move { Ok::<_, Infallible>(answer(&shared, &refused, request).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_headers(64)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(|error| error.to_string())
}

type Answer = Response<Full<Bytes>>;

async fn answer(shared: &Shared, refused: &Mutex<Refused>, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let mut path = head.uri.path().split('/').skip(1);
    let (Some("events"), Some(issuer), Some(kind), None) =
        (path.next(), path.next(), path.next(), path.next())
    else {
        return plain(StatusCode::NOT_FOUND);
    };
    let issuer = IssuerName::from(issuer);
    match (&head.method, kind) {
        (&Method::GET, "hook") => challenge(shared, &issuer, &head.headers),
        (&Method::POST, "hook") => hook(shared, refused, &issuer, &head.headers, body).await,
        (&Method::POST, "set") => set(shared, refused, &issuer, body).await,
        _ => plain(StatusCode::NOT_FOUND),
    }
}

/// Okta asks once whether whoever registered the hook owns the address.
fn challenge(shared: &Shared, issuer: &IssuerName, headers: &HeaderMap) -> Answer {
    let rules = shared.rules();
    if rules.verifier.hook(issuer).is_none() {
        return plain(StatusCode::NOT_FOUND);
    }
    match headers.get(CHALLENGE).and_then(|value| value.to_str().ok()) {
        Some(value) => json_of(StatusCode::OK, &json!({ "verification": value })),
        None => plain(StatusCode::BAD_REQUEST),
    }
}

async fn hook(
    shared: &Shared,
    refused: &Mutex<Refused>,
    issuer: &IssuerName,
    headers: &HeaderMap,
    body: Incoming,
) -> Answer {
    let rules = shared.rules();
    let Some(secret) = rules.verifier.hook(issuer) else {
        return plain(StatusCode::NOT_FOUND);
    };
    let sent = headers.get(http::header::AUTHORIZATION);
    if !secret.is(sent.map(http::HeaderValue::as_bytes)) {
        let why = format!("{issuer}: a hook with a wrong secret");
        note_refused(shared, refused, why);
        return plain(StatusCode::UNAUTHORIZED);
    }
    let Some(body) = whole(body).await else {
        return plain(StatusCode::PAYLOAD_TOO_LARGE);
    };
    match events::read_hook(&body) {
        Some(report) => {
            reported(shared, issuer, report);
            plain(StatusCode::NO_CONTENT)
        }
        None => plain(StatusCode::BAD_REQUEST),
    }
}

/// RFC 8935 §2.
async fn set(
    shared: &Shared,
    refused: &Mutex<Refused>,
    issuer: &IssuerName,
    body: Incoming,
) -> Answer {
    let Some(body) = whole(body).await else {
        return plain(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let token = String::from_utf8_lossy(&body);
    let verifier = shared.rules().verifier.clone();
    match verifier.take_event(issuer, token.trim()).await {
        None => plain(StatusCode::NOT_FOUND),
        Some(Ok(report)) => {
            reported(shared, issuer, report);
            plain(StatusCode::ACCEPTED)
        }
        Some(Err(error)) => {
            note_refused(shared, refused, format!("{issuer}: {error}"));
            let status = if error.passing {
                StatusCode::SERVICE_UNAVAILABLE
            } else {
                StatusCode::BAD_REQUEST
            };
            // What exactly is wrong with it is in the ledger, not for whoever sent it.
            json_of(
                status,
                &json!({ "err": error.code, "description": "not taken" }),
            )
        }
    }
}

/// Acts on it, here and where a worker that retires has sessions of whom it names.
fn reported(shared: &Shared, issuer: &IssuerName, report: Report) {
    act(shared, issuer, &report);
    let detail = format!(
        "{issuer}: {} revoked, {} changed",
        report.revoked.len(),
        report.changed.len()
    );
    note(shared, "event", detail);
    let Report { revoked, changed } = report;
    let reported = Reported {
        issuer: issuer.clone(),
        revoked,
        changed,
    };
    let tell = shared.tell.clone();
    tokio::spawn(async move {
        // Where the keeper is gone, so is whoever retires.
        let _ = tell.send(FromWorker::Reported(reported)).await;
    });
}

/// Takes away what the report takes away, and looks at everything else again.
pub(super) fn act(shared: &Shared, issuer: &IssuerName, report: &Report) {
    let rules = shared.rules();
    let standings = shared.identities.list();
    for agent in rules
        .config
        .agents
        .iter()
        .filter(|a| a.issuer.as_ref() == Some(issuer))
    {
        let names = |whom: &std::collections::BTreeSet<String>| {
            let own = agent.client_id.as_ref().is_some_and(|id| whom.contains(id));
            let mut seen = standings.iter().filter(|s| s.agent == agent.name);
            own || seen.any(|s| {
                let known = [&s.subject, &s.client_id];
                known.into_iter().flatten().any(|name| whom.contains(name))
            })
        };
        if names(&report.revoked) {
            suspend(shared, agent);
        } else if names(&report.changed) {
            rules.verifier.renew(&agent.name);
        }
    }
    shared.identities.alarm();
}

fn suspend(shared: &Shared, agent: &Agent) {
    let why = "its issuer reports that it may go on no more".to_owned();
    // Of all instances: a report names a client or a user, who may be behind several.
    shared.suspend_all(agent, By::Event, why);
}

fn note(shared: &Shared, kind: &str, detail: String) {
    report(&shared.tell, kind, detail, None);
}

fn note_refused(shared: &Shared, refused: &Mutex<Refused>, why: String) {
    let due = {
        let mut refused = refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.one(Instant::now())
    };
    match due {
        None => tracing::debug!(why, "a report was refused"),
        Some(0) => note(shared, "event_refused", why),
        Some(more) => {
            let why = format!("{why}; and {more} before it that are not written");
            note(shared, "event_refused", why);
        }
    }
}

async fn whole(body: Incoming) -> Option<Bytes> {
    let body = Limited::new(body, MAX_BODY).collect().await;
    body.ok().map(http_body_util::Collected::to_bytes)
}

fn plain(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

fn json_of(status: StatusCode, value: &serde_json::Value) -> Answer {
    let mut answer = Response::new(Full::from(value.to_string()));
    *answer.status_mut() = status;
    let kind = http::HeaderValue::from_static("application/json");
    answer
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, kind);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_strangers_is_counted_and_not_written() {
        let mut refused = Refused::default();
        let start = Instant::now();
        for _ in 0..REFUSED {
            assert_eq!(refused.one(start), Some(0));
        }
        for _ in 0..100 {
            assert_eq!(refused.one(start + MINUTE / 2), None);
        }
        assert_eq!(refused.one(start + MINUTE), Some(100));
        assert_eq!(refused.one(start + MINUTE), Some(0));
    }
}
