//! Codecs without I/O: bytes in, messages out. No tokio, no unsafe, nothing panics on hostile bytes.

pub mod kubernetes;
pub mod postgres;
pub mod scram;
pub mod ssh;
pub mod tls;
