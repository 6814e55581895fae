//! Stage 8: where a connection really goes, and how hoop gets there.
//!
//! [`route`] says what a destination is, by hoop's own resolution of the configured names
//! ([`resolve`]); [`relay`] passes allowed egress unterminated; [`postgres`] logs in to a resource
//! with hoop's own credential, [`ssh`] does the same for a host and [`kubernetes`] for an API server.

#[cfg(test)]
pub(crate) mod fixture;
pub mod kubernetes;
pub mod postgres;
pub mod relay;
pub mod resolve;
pub mod route;
pub mod ssh;

pub use postgres::{Connector, ForwardError, Startup};
pub use relay::{Counts, Relayed, relay};
pub use resolve::Resolver;
pub use route::{Pass, Route, Target, Unroutable, reached, route};

use std::io;
use std::net::SocketAddr;

/// Where to dial for a target: its own addresses, or where the operator has it dialled.
async fn addresses(resolver: &Resolver, target: &Target<'_>) -> io::Result<Vec<SocketAddr>> {
    let Some((host, port)) = &target.resource.upstream else {
        return Ok(target.addresses.clone());
    };
    if let Ok(address) = host.parse() {
        return Ok(vec![SocketAddr::new(address, *port)]);
    }
    let found = resolver.resolve(host).await?;
    Ok(resolve::with_port(&found, *port))
}
