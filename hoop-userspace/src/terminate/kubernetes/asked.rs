//! What a request to a Kubernetes API server asks for.

use std::sync::Arc;

use bytes::Bytes;

use crate::hex;
use crate::terminate::SqlText;
use crate::wire::kubernetes::request::{RequestInfo, RequestOptions};

/// Of a body that people are shown. What is longer, or is no text, they see by size and digest.
pub(super) const SHOWN: usize = 16 << 10;
/// Lines of a request's text.
pub(super) const WITH_STREAMS: &str = "with streams";
pub(super) const NO_CONTENT_TYPE: &str = "no content type";

/// One request, whole.
#[derive(Clone, Debug)]
pub struct KubernetesAsked {
    pub method: Arc<str>,
    /// Path and query exactly as they were sent, and as they are forwarded.
    pub target: Arc<str>,
    /// What that means, as the API server itself reads it.
    pub info: RequestInfo,
    /// What its query asks for beyond.
    pub options: RequestOptions,
    /// Of the body: in lower case, with its parameters.
    pub content_type: Option<Arc<str>>,
    /// At most 3 MiB, as API servers take; empty where there is none.
    pub body: Bytes,
    /// Streams are asked for: WebSocket or SPDY.
    pub upgrade: bool,
}

impl KubernetesAsked {
    /// The request as one text, which people are shown. Texts of different requests differ: the
    /// body's length and digest stand in front of it, whether or not it is shown itself, so that
    /// no body reads like one that is not shown.
    pub fn text(&self) -> Arc<SqlText> {
        let mut text = format!("{} {}", self.method, self.target);
        if self.upgrade {
            text.push('\n');
            text.push_str(WITH_STREAMS);
        }
        if !self.body.is_empty() {
            let kind = self.content_type.as_deref().unwrap_or(NO_CONTENT_TYPE);
            let digest = digest(&self.body);
            let bytes = self.body.len();
            text.push_str(&format!("\n{kind}\n{bytes} bytes, SHA-256 {digest}"));
            match std::str::from_utf8(&self.body) {
                Ok(body) if bytes <= SHOWN && !self.is_secret() => {
                    text.push('\n');
                    text.push_str(body);
                }
                _ => {}
            }
        }
        SqlText::hashed(text)
    }

    /// Whether the body is one that nobody should read.
    fn is_secret(&self) -> bool {
        let info = &self.info;
        info.resource == "secrets" || info.subresource == "token"
    }
}

pub(super) fn digest(body: &[u8]) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::kubernetes::request;

    fn text(resource: &str, body: &[u8]) -> String {
        let path = format!("/api/v1/namespaces/n/{resource}");
        let read = request::read("POST", &path, None).unwrap();
        let asked = KubernetesAsked {
            method: "POST".into(),
            target: path.as_str().into(),
            info: read.info,
            options: read.options,
            content_type: Some("application/json".into()),
            body: Bytes::copy_from_slice(body),
            upgrade: false,
        };
        asked.text().text.to_string()
    }

    #[test]
    fn no_body_reads_like_one_that_is_not_shown() {
        let hidden = text("configmaps", &[b'x'; SHOWN + 1]);
        let told = hidden.rsplit_once('\n').unwrap().1;
        assert!(told.starts_with("16385 bytes, SHA-256 "), "{told}");
        let literal = text("configmaps", told.as_bytes());
        assert_ne!(literal, hidden);
        assert!(literal.ends_with(told));
        let digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        let head = "POST /api/v1/namespaces/n/configmaps\napplication/json\n";
        assert_eq!(
            text("configmaps", b"{}"),
            format!("{head}2 bytes, SHA-256 {digest}\n{{}}")
        );
        assert!(text("secrets", b"{}").ends_with(digest));
    }
}
