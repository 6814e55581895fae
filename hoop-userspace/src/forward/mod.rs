//! Stage 8: where a connection really goes, and how hoop gets there.
//!
//! [`route`] says what a destination is, by hoop's own resolution of the configured names
//! ([`resolve`]), and [`network`] from where it is dialled; [`relay`] passes allowed egress unterminated; [`postgres`] logs in to a resource
//! with hoop's own credential, [`ssh`] does the same for a host and [`kubernetes`] for an API server.

#[cfg(test)]
pub(crate) mod fixture;
pub mod kubernetes;
pub mod network;
pub mod postgres;
pub mod relay;
pub mod resolve;
pub mod route;
pub mod ssh;

pub use network::Network;
pub use postgres::{Connector, ForwardError, Startup};
pub use relay::{Counts, Relayed, relay};
pub use resolve::Resolver;
pub use route::{Pass, Route, Target, Unroutable, reached, route};

use std::io;
use std::net::SocketAddr;

use relay::{RelayError, dial};
use tokio::net::TcpStream;

/// Why a target's server has no connection.
enum Unreached {
    /// Where it is dialled from it could not prove what it is.
    Unproven(String),
    Resolve(io::Error),
    Dial {
        address: SocketAddr,
        source: io::Error,
    },
}

/// Connects to a target: at its own addresses, or where the operator has it dialled.
async fn reach(resolver: &Resolver, target: &Target<'_>) -> Result<TcpStream, Unreached> {
    if let Some(why) = network::unproven(target.resource, &target.network) {
        return Err(Unreached::Unproven(why));
    }
    let addresses = addresses(resolver, target).await;
    let dialled = dial(&target.network, &addresses.map_err(Unreached::Resolve)?).await;
    dialled.map_err(|error| match error {
        RelayError::Dial { address, source } => Unreached::Dial { address, source },
        other => Unreached::Resolve(io::Error::other(other)),
    })
}

async fn addresses(resolver: &Resolver, target: &Target<'_>) -> io::Result<Vec<SocketAddr>> {
    let pinned = target.resource.upstream.as_ref();
    let Some((host, port)) = pinned.filter(|_| !target.network.is_client()) else {
        return Ok(target.addresses.clone());
    };
    if let Ok(address) = host.parse() {
        return Ok(vec![SocketAddr::new(address, *port)]);
    }
    let found = resolver.resolve(host).await?;
    Ok(resolve::with_port(&found, *port))
}
