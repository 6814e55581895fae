//! What Kubernetes' API carries, without I/O.

pub mod channel;
pub mod documents;
pub mod forwarded;
pub mod http;
pub mod json;
pub mod marker;
pub mod protobuf;
pub mod request;
pub mod spdy;
pub mod status;
pub mod websocket;
pub mod yaml;
