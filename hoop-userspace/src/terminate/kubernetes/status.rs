//! Answers of hoop's own, as the objects that Kubernetes' clients read errors from.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::decide::{Refusal, Retry};
use crate::wire::kubernetes::request::RequestInfo;
use crate::wire::kubernetes::status::{Reason, Status};

/// A refusal: what people read is the message, and programs find the JSON line among the causes.
pub(super) fn refusal(refusal: &Refusal, info: &RequestInfo) -> (StatusCode, HeaderMap, Bytes) {
    let status = refusal.status(info);
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::FORBIDDEN);
    let mut headers = headers();
    if refusal.retry == Retry::Again && code == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    (code, headers, status.to_json().into())
}

/// Any other end.
pub(super) fn failure(code: StatusCode, why: &str) -> (HeaderMap, Bytes) {
    let code = code.as_u16();
    let mut status = Status::failure(Reason::of(code), format!("hoop: {why}"));
    status.code = code;
    (headers(), status.to_json().into())
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    let never = HeaderValue::from_static("no-cache, private");
    headers.insert(header::CACHE_CONTROL, never);
    headers
}
