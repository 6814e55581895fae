//! What a request to a Kubernetes API server asks for.

use std::sync::Arc;

use bytes::Bytes;

use crate::hex;
use crate::terminate::SqlText;
use crate::wire::kubernetes::request::{RequestInfo, RequestOptions};

/// Of a body that people are shown. What is longer, or is no text, they see by size and digest.
const SHOWN: usize = 16 << 10;

/// One request, whole.
#[derive(Debug)]
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
    /// The request as one text, which people are shown. Texts of different requests differ: where
    /// the body is not shown, its digest is.
    pub fn text(&self) -> Arc<SqlText> {
        let mut text = format!("{} {}", self.method, self.target);
        if self.upgrade {
            text.push_str("\nwith streams");
        }
        if !self.body.is_empty() {
            let kind = self.content_type.as_deref().unwrap_or("no content type");
            text.push_str(&format!("\n{kind}\n"));
            match std::str::from_utf8(&self.body) {
                Ok(body) if body.len() <= SHOWN && !self.is_secret() => text.push_str(body),
                _ => {
                    let digest = ring::digest::digest(&ring::digest::SHA256, &self.body);
                    let digest = hex::encode(digest);
                    let bytes = self.body.len();
                    text.push_str(&format!("{bytes} bytes, SHA-256 {digest}"));
                }
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
