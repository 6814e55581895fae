//! The head of a request: what of it is understood, and so forwarded, and what is not taken.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;
use http::{Method, Version};

use crate::wire::kubernetes::channel::negotiate::Operation;
use crate::wire::kubernetes::http::RequestHead;
use crate::wire::kubernetes::request::{self, RequestError, RequestInfo, RequestOptions};

pub use crate::wire::kubernetes::channel::negotiate::Upgrade;

/// API servers take no larger body either (`MaxRequestBodyBytes`).
pub(super) const MAX_BODY: usize = 3 << 20;

/// What passes as it is. All else either ends here (who the client is, how it is connected) or is
/// left out because nothing is known that needs it.
const PASSES: [HeaderName; 6] = [
    header::CONTENT_TYPE,
    header::USER_AGENT,
    header::ACCEPT_LANGUAGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
];
/// The same, of Kubernetes' own.
const PASSES_TOO: [&str; 4] = [
    "audit-id",
    "kubectl-command",
    "kubectl-session",
    "traceparent",
];

/// What is sent of JSON where an answer must be read.
const JSON: &str = "application/json";

/// A request that is not served, whatever the policy says. Fit for the agent to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Objection {
    #[error("hoop serves no {0} requests")]
    Method(String),
    #[error("a request names a path alone, and not a whole address")]
    Target,
    #[error("the header {0} says for whom a request is made, which hoop says itself")]
    Header(String),
    #[error("its content is encoded as {0:?}, which hoop does not read")]
    Encoding(String),
    #[error("the answer would have to be {0:?}, and hoop reads and masks JSON alone")]
    Accept(String),
    #[error(
        "it would turn into another protocol, which hoop knows only of exec, attach and port-forward: {0}"
    )]
    Upgrade(String),
    #[error("its body has more than {MAX_BODY} bytes, which no API server takes")]
    TooLarge,
    #[error("its body did not come whole: {0}")]
    Body(String),
    #[error(transparent)]
    Line(#[from] RequestError),
}

/// How an answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// One JSON object, which is masked whole.
    Document,
    /// One after the other, as they come.
    Documents,
    /// Text as a program prints it.
    Text,
    /// What describes the server, and nothing in it.
    Description,
}

/// What is forwarded, and what it means.
#[derive(Debug)]
pub struct Head {
    pub forwarded: RequestHead,
    pub info: RequestInfo,
    pub options: RequestOptions,
    /// Streams that the client asks for.
    pub upgrade: Option<Upgrade>,
    pub(super) expected: Expected,
}

impl Head {
    pub(super) fn read(parts: &Parts) -> Result<Self, Objection> {
        let target = target(parts)?;
        served(&parts.method)?;
        trusted(&parts.headers)?;
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target.as_str(), None),
        };
        let request::Request { info, options } = request::read(parts.method.as_str(), path, query)?;
        let upgrade = upgrade(&parts.headers, &info)?;
        let expected = expected(&info);
        let mut headers = Vec::new();
        for (name, value) in &parts.headers {
            let passes = PASSES.contains(name) || PASSES_TOO.contains(&name.as_str());
            if passes && (headers.len() < 32) {
                headers.push((
                    name.as_str().to_owned(),
                    Bytes::copy_from_slice(value.as_bytes()),
                ));
            }
        }
        let accept = accepted(&parts.headers, expected)?;
        headers.push((header::ACCEPT.as_str().to_owned(), accept.into()));
        Ok(Self {
            forwarded: RequestHead {
                method: parts.method.as_str().to_owned(),
                target,
                headers,
            },
            info,
            options,
            upgrade,
            expected,
        })
    }
}

fn target(parts: &Parts) -> Result<String, Objection> {
    let uri = &parts.uri;
    // With HTTP/2, scheme and authority have fields of their own.
    let whole = uri.scheme().is_some() || uri.authority().is_some();
    if whole && parts.version != Version::HTTP_2 {
        return Err(Objection::Target);
    }
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    if !target.starts_with('/') {
        return Err(Objection::Target);
    }
    Ok(target.to_owned())
}

fn served(method: &Method) -> Result<(), Objection> {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    match known.contains(method) {
        true => Ok(()),
        false => Err(Objection::Method(method.as_str().to_owned())),
    }
}

/// Headers by which a client would be somebody else are refused by name; so is content that is read
/// otherwise than it was sent.
fn trusted(headers: &HeaderMap) -> Result<(), Objection> {
    for name in headers.keys() {
        let name = name.as_str();
        let speaks_for = name.starts_with("impersonate-")
            || name.starts_with("x-remote-")
            || name == "x-http-method-override";
        if speaks_for {
            return Err(Objection::Header(name.to_owned()));
        }
    }
    for value in headers.get_all(header::CONTENT_ENCODING) {
        if !value.as_bytes().eq_ignore_ascii_case(b"identity") {
            let shown = String::from_utf8_lossy(value.as_bytes());
            return Err(Objection::Encoding(shown.into_owned()));
        }
    }
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) if length > MAX_BODY as u64 => Err(Objection::TooLarge),
        _ => Ok(()),
    }
}

/// Which streams a request is about, if it is about any.
pub(super) fn operation(info: &RequestInfo) -> Option<Operation> {
    if !info.is_resource || info.resource != "pods" || !info.api_group.is_empty() {
        return None;
    }
    match info.subresource.as_str() {
        "exec" | "attach" => Some(Operation::Command),
        "portforward" => Some(Operation::PortForward),
        _ => None,
    }
}

fn upgrade(headers: &HeaderMap, info: &RequestInfo) -> Result<Option<Upgrade>, Objection> {
    let asks = headers.contains_key(header::UPGRADE);
    match operation(info) {
        Some(operation) => {
            Upgrade::read(headers, operation).map_err(|error| Objection::Upgrade(error.to_string()))
        }
        None if asks => {
            let value = headers.get(header::UPGRADE).map(|v| v.as_bytes());
            let shown = String::from_utf8_lossy(value.unwrap_or_default());
            Err(Objection::Upgrade(shown.into_owned()))
        }
        None => Ok(None),
    }
}

fn expected(info: &RequestInfo) -> Expected {
    if !info.is_resource {
        return match describes(&info.path) {
            true => Expected::Description,
            false => Expected::Text,
        };
    }
    match (info.subresource.as_str(), info.verb.as_str()) {
        ("log" | "proxy", _) | (_, "proxy") => Expected::Text,
        (_, "watch") => Expected::Documents,
        _ => Expected::Document,
    }
}

/// Paths whose answers hold nothing but what the server and its API are.
fn describes(path: &str) -> bool {
    let path = path.trim_end_matches('/');
    let first = path.split('/').nth(1).unwrap_or_default();
    matches!(
        first,
        "api"
            | "apis"
            | "openapi"
            | "version"
            | "healthz"
            | "livez"
            | "readyz"
            | ".well-known"
            | "openid"
    ) || path.is_empty()
}

/// What the client takes, without what hoop could not read: then the server answers in JSON.
fn accepted(headers: &HeaderMap, expected: Expected) -> Result<String, Objection> {
    let mut all = Vec::new();
    for value in headers.get_all(header::ACCEPT) {
        let text = value.to_str().map_err(|_| {
            Objection::Accept(String::from_utf8_lossy(value.as_bytes()).into_owned())
        })?;
        all.extend(text.split(',').map(str::trim).filter(|t| !t.is_empty()));
    }
    if matches!(expected, Expected::Text | Expected::Description) {
        return Ok(match all.is_empty() {
            true => "*/*".to_owned(),
            false => all.join(","),
        });
    }
    let mut kept: Vec<String> = Vec::new();
    for offered in &all {
        let kind = offered.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case(JSON) {
            kept.push((*offered).to_owned());
        } else if kind == "*/*" || kind.eq_ignore_ascii_case("application/*") {
            // Not left to the server's taste.
            kept.push(JSON.to_owned());
        }
    }
    if all.is_empty() {
        kept.push(JSON.to_owned());
    }
    if kept.is_empty() {
        return Err(Objection::Accept(all.join(",")));
    }
    Ok(kept.join(","))
}

/// Whether a header of an answer passes to the client.
pub(super) fn answers(name: &HeaderName) -> bool {
    const KNOWN: [HeaderName; 9] = [
        header::CONTENT_TYPE,
        header::CACHE_CONTROL,
        header::ETAG,
        header::LAST_MODIFIED,
        header::RETRY_AFTER,
        header::WARNING,
        header::LOCATION,
        header::ALLOW,
        header::VARY,
    ];
    KNOWN.contains(name)
        || name.as_str() == "audit-id"
        || name.as_str().starts_with("x-kubernetes-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn read(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<Head, Objection> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Head::read(&request.body(()).unwrap().into_parts().0)
    }

    const PODS: &str = "/api/v1/namespaces/shop/pods";

    #[test]
    fn who_the_client_says_it_is_never_passes() {
        let head = read(
            "GET",
            PODS,
            &[
                ("authorization", "Bearer x"),
                ("cookie", "a=b"),
                ("x-forwarded-for", "1.2.3.4"),
                ("user-agent", "kubectl/1.37"),
                ("accept-encoding", "gzip"),
            ],
        )
        .unwrap();
        let names: Vec<_> = head
            .forwarded
            .headers
            .iter()
            .map(|(n, _)| n.as_str())
            .collect();
        assert_eq!(names, ["user-agent", "accept"]);
        for name in [
            "impersonate-user",
            "Impersonate-Group",
            "impersonate-extra-a",
            "x-remote-user",
        ] {
            let refused = read("GET", PODS, &[(name, "admin")]);
            assert!(matches!(refused, Err(Objection::Header(_))), "{name}");
        }
    }

    #[test]
    fn answers_that_are_masked_come_as_json() {
        let accept = |target: &str, text: &str| {
            let headers: &[_] = if text.is_empty() {
                &[]
            } else {
                &[("accept", text)]
            };
            read("GET", target, headers).map(|h| h.forwarded.header("accept").unwrap().to_owned())
        };
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(accept(PODS, table).unwrap(), table);
        let both = "application/vnd.kubernetes.protobuf, application/json";
        assert_eq!(accept(PODS, both).unwrap(), JSON);
        assert_eq!(accept(PODS, "*/*").unwrap(), JSON);
        assert_eq!(accept(PODS, "").unwrap(), JSON);
        let refused = accept(PODS, "application/vnd.kubernetes.protobuf");
        assert!(matches!(refused, Err(Objection::Accept(_))));
        assert_eq!(
            accept("/api/v1/namespaces/a/pods/p/log", "text/plain").unwrap(),
            "text/plain"
        );
    }

    #[test]
    fn what_is_no_plain_request_is_refused() {
        for (method, target) in [("CONNECT", "a:443"), ("TRACE", "/"), ("PROPFIND", "/")] {
            assert!(read(method, target, &[]).is_err(), "{method}");
        }
        let whole = read("GET", "https://elsewhere/api", &[]);
        assert!(matches!(whole, Err(Objection::Target)));
        let h2c = read(
            "GET",
            PODS,
            &[("connection", "upgrade"), ("upgrade", "h2c")],
        );
        assert!(matches!(h2c, Err(Objection::Upgrade(_))));
        let large = read("POST", PODS, &[("content-length", "4000000")]);
        assert!(matches!(large, Err(Objection::TooLarge)));
        let zipped = read("POST", PODS, &[("content-encoding", "gzip")]);
        assert!(matches!(zipped, Err(Objection::Encoding(_))));
    }

    #[test]
    fn every_answer_is_read_as_what_it_is() {
        for (target, expected) in [
            (PODS, Expected::Document),
            ("/api/v1/namespaces/shop/pods?watch=1", Expected::Documents),
            (
                "/api/v1/namespaces/shop/pods/web/log?follow=true",
                Expected::Text,
            ),
            ("/openapi/v3/api/v1", Expected::Description),
            ("/apis/apps/v1", Expected::Description),
            ("/metrics", Expected::Text),
            ("/", Expected::Description),
        ] {
            assert_eq!(
                read("GET", target, &[]).unwrap().expected,
                expected,
                "{target}"
            );
        }
    }
}
