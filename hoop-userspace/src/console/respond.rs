//! Answers: their bodies, and the headers that every one of them carries.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use ::http::header::{self, HeaderName, HeaderValue};
use ::http::{Response, StatusCode};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use serde_json::Value;
use tokio::sync::mpsc;

pub type Answer = Response<Body>;

/// What is sent: at once, or as it comes.
pub enum Body {
    Whole(Option<Bytes>),
    Stream(mpsc::Receiver<Bytes>),
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => stream
                .poll_recv(context)
                .map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// No script, style or frame but the console's own; no other site may embed it or be sent to.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// On every answer.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // With `no-referrer`, browsers send `Origin: null` with the console's own forms.
    (header::REFERRER_POLICY, "same-origin"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
];

/// Adds what every answer carries.
pub fn harden(answer: &mut Answer, secure: bool) {
    let headers = answer.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if secure {
        let year = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
}

fn whole(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Body::Whole(Some(body.into())));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

pub fn html(status: StatusCode, page: maud::Markup) -> Answer {
    whole(status, "text/html; charset=utf-8", page.into_string())
}

pub fn json(status: StatusCode, value: &Value) -> Answer {
    whole(status, "application/json", value.to_string())
}

pub fn plain(status: StatusCode, text: &'static str) -> Answer {
    whole(status, "text/plain; charset=utf-8", text)
}

/// A file of the binary, which changes with the version that its address carries.
pub fn asset(kind: &'static str, text: &'static str) -> Answer {
    let mut answer = whole(StatusCode::OK, kind, text);
    let year = HeaderValue::from_static("public, max-age=31536000, immutable");
    answer.headers_mut().insert(header::CACHE_CONTROL, year);
    answer
}

/// Events as they come (HTML §9.2).
pub fn events(stream: mpsc::Receiver<Bytes>) -> Answer {
    let mut answer = Response::new(Body::Stream(stream));
    let headers = answer.headers_mut();
    let kind = HeaderValue::from_static("text/event-stream");
    headers.insert(header::CONTENT_TYPE, kind);
    // A reverse proxy must not wait for more.
    let at_once = HeaderValue::from_static("no");
    headers.insert(HeaderName::from_static("x-accel-buffering"), at_once);
    answer
}

/// To a page of the console, by GET. A place that is none of its own leads to the first page.
pub fn redirect(place: &str) -> Answer {
    leave(if is_own(place) { place } else { "/" })
}

/// Browsers leave tabs and line ends out of an address, and take `\` for `/`.
fn is_own(place: &str) -> bool {
    let plain = !place.contains(|c: char| c == '\\' || c.is_control());
    plain && place.starts_with('/') && !place.contains("//")
}

/// To any place.
pub fn leave(place: &str) -> Answer {
    let mut answer = Response::new(Body::Whole(None));
    *answer.status_mut() = StatusCode::SEE_OTHER;
    let place = HeaderValue::from_str(place).unwrap_or(HeaderValue::from_static("/"));
    answer.headers_mut().insert(header::LOCATION, place);
    answer
}

/// Sets a cookie besides.
pub fn with_cookie(mut answer: Answer, cookie: &str) -> Answer {
    if let Ok(mut value) = HeaderValue::from_str(cookie) {
        value.set_sensitive(true);
        answer.headers_mut().append(header::SET_COOKIE, value);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_consoles_own_or_none() {
        for own in ["/", "/approvals/q1", "/approvals?all=1&from=200"] {
            assert!(is_own(own), "{own}");
        }
        for other in [
            "",
            "approvals",
            "//evil.example",
            "/\\evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "/x//evil.example",
            "https://evil.example",
        ] {
            assert!(!is_own(other), "{other:?}");
        }
    }
}
