//! Stage 8: where a connection really goes, and how hoop gets there.
//!
//! [`route`] says what a destination is, by hoop's own resolution of the configured names
//! ([`resolve`]); [`relay`] passes allowed egress unterminated; [`postgres`] logs in to a resource
//! with hoop's own credential.

#[cfg(test)]
pub(crate) mod fixture;
pub mod postgres;
pub mod relay;
pub mod resolve;
pub mod route;

pub use postgres::{Connector, ForwardError, Startup};
pub use relay::{Counts, Relayed, relay};
pub use resolve::Resolver;
pub use route::{Pass, Route, Target, Unroutable, route};
