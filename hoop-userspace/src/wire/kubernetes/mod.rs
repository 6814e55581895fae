//! What Kubernetes' API carries, without I/O.

pub mod request;
