//! What Kubernetes' API carries, without I/O.

pub mod channel;
pub mod request;
pub mod spdy;
pub mod websocket;
