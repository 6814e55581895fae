//! PostgreSQL (under construction)

pub mod upstream;

pub use upstream::{CancelTarget, Upstream, UpstreamStream};
