//! Egress that an agent's mapping allows: passed unterminated, counted and recorded.
//!
//! By name means the name in the TLS ClientHello, relayed to hoop's own resolution of it: rotating
//! addresses cause no false refusal, and a name that lies leads to where the name leads.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::network::Network;
use super::resolve::{Resolver, with_port};
use super::route::{Pass, covers, is_resource};
use crate::config::Config;
use crate::wire::tls::{ClientHello, HelloError, MAX_HELLO, client_hello};

/// A client that says nothing for this long has not said whom it asks for.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Seconds without a byte before a server is asked whether it is there.
const KEEP_IDLE: u32 = 60;
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_DIALED: usize = 8;

/// Buffers grow from the first to the last while reads fill them.
const SMALL_BUFFER: usize = 8 * 1024;
const LARGE_BUFFER: usize = 256 * 1024;

/// Bytes that passed; readable while the relay runs, and after it was dropped.
#[derive(Debug, Default)]
pub struct Counts {
    pub from_client: AtomicU64,
    pub from_upstream: AtomicU64,
}

/// What became of a relayed connection.
#[derive(Debug)]
pub struct Relayed {
    /// The name in the ClientHello, where one was read.
    pub name: Option<String>,
    /// The ClientHello offered Encrypted ClientHello: `name` may be a cover name.
    pub encrypted_hello: bool,
    /// Where it went, if it got that far.
    pub upstream: Option<SocketAddr>,
    pub outcome: Result<(), RelayError>,
}

/// Why a relay did not happen, or ended before both sides had closed in the ordinary way.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error("egress by name needs TLS with a server name: {0}")]
    Hello(#[from] HelloError),
    #[error("egress by name needs TLS with a server name, and the client sent none")]
    NoName,
    #[error("the client closed, or fell silent, before it said whom it asks for")]
    Silent,
    #[error("egress_allow does not list {name}:{port}")]
    Unlisted { name: String, port: u16 },
    #[error("{name} leads to {address}, which is a configured resource and is reached as such")]
    Resource { name: String, address: SocketAddr },
    #[error("{name} resolves to nothing that egress may reach")]
    NoAddress { name: String },
    #[error("cannot resolve {name}: {source}")]
    Resolve { name: String, source: io::Error },
    #[error("cannot connect to {address}: {source}")]
    Dial {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("the client's connection failed: {0}")]
    Client(io::Error),
    #[error("the destination's connection failed: {0}")]
    Upstream(io::Error),
}

/// Relays `client` as `pass` says, going on from `network`. A connection that is refused or breaks is reset, so that no
/// client mistakes it for an orderly end.
pub async fn relay(
    mut client: TcpStream,
    pass: &Pass,
    network: &Network,
    config: &Config,
    resolver: &Resolver,
    counts: &Counts,
) -> Relayed {
    let mut relayed = Relayed {
        name: None,
        encrypted_hello: false,
        upstream: None,
        outcome: Ok(()),
    };
    let opened = open(&mut client, pass, network, config, resolver, &mut relayed).await;
    relayed.outcome = match opened {
        Ok((upstream, hello)) => both_ways(client, upstream, &hello, counts).await,
        Err(error) => {
            reset(&client);
            Err(error)
        }
    };
    relayed
}

/// Connects to where the client may go; returns that and the bytes that were read to know it.
async fn open(
    client: &mut TcpStream,
    pass: &Pass,
    network: &Network,
    config: &Config,
    resolver: &Resolver,
    relayed: &mut Relayed,
) -> Result<(TcpStream, Vec<u8>), RelayError> {
    let (addresses, hello) = match pass {
        Pass::Destination(destination) => (vec![*destination], Vec::new()),
        Pass::Names { names, destination } => {
            let (hello, bytes) = read_hello(client).await?;
            relayed.encrypted_hello = hello.encrypted_hello;
            relayed.name.clone_from(&hello.server_name);
            let name = hello.server_name.ok_or(RelayError::NoName)?;
            (
                allowed(&name, names, *destination, config, resolver).await?,
                bytes,
            )
        }
    };
    let upstream = dial(network, &addresses).await?;
    relayed.upstream = upstream.peer_addr().ok();
    Ok((upstream, hello))
}

async fn read_hello(client: &mut TcpStream) -> Result<(ClientHello, Vec<u8>), RelayError> {
    let mut bytes = Vec::with_capacity(SMALL_BUFFER);
    let read = async {
        loop {
            if client
                .read_buf(&mut bytes)
                .await
                .map_err(RelayError::Client)?
                == 0
            {
                return Err(RelayError::Silent);
            }
            if let Some(hello) = client_hello(&bytes)? {
                return Ok(hello);
            }
            bytes.reserve(MAX_HELLO.saturating_sub(bytes.len()).min(SMALL_BUFFER));
        }
    };
    let hello = tokio::time::timeout(HELLO_TIMEOUT, read).await;
    let hello = hello.unwrap_or(Err(RelayError::Silent))?;
    Ok((hello, bytes))
}

/// Where the name leads, if the agent may go there.
async fn allowed(
    name: &str,
    rules: &[String],
    destination: SocketAddr,
    config: &Config,
    resolver: &Resolver,
) -> Result<Vec<SocketAddr>, RelayError> {
    let port = destination.port();
    let Some(rule) = rules.iter().find(|rule| covers(rule, name)) else {
        return Err(RelayError::Unlisted {
            name: name.into(),
            port,
        });
    };
    let unresolved = |source| RelayError::Resolve {
        name: name.into(),
        source,
    };
    let mut found = resolver.resolve(name).await.map_err(unresolved)?;
    // Only a local destination must itself be the name's, so only for one it matters when the
    // name moved.
    if is_local(destination) && !with_port(&found, port).contains(&destination) {
        found = resolver.resolve_again(name).await.map_err(unresolved)?;
    }
    // Whoever owns a name below a wildcard could point it at this host or its metadata service;
    // a name that the operator wrote out may lead there, where the client itself was going.
    let written_out = !rule.starts_with("*.");
    let mut addresses = with_port(&found, port);
    addresses.retain(|a| !is_local(*a) || (written_out && *a == destination));
    // Where the client was going, if that is among them: what it measured and pinned stays true.
    addresses.sort_by_key(|a| *a != destination);
    addresses.truncate(MAX_DIALED);
    if let Some(address) = addresses
        .iter()
        .find(|a| is_resource(resolver, config, **a))
    {
        return Err(RelayError::Resource {
            name: name.into(),
            address: *address,
        });
    }
    if addresses.is_empty() {
        return Err(RelayError::NoAddress { name: name.into() });
    }
    Ok(addresses)
}

/// Addresses that mean this host or this link.
fn is_local(address: SocketAddr) -> bool {
    match address.ip().to_canonical() {
        std::net::IpAddr::V4(ip) => {
            ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_broadcast()
                || ip.is_multicast()
        }
        std::net::IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_unicast_link_local()
        }
    }
}

/// Connects to the first address that answers.
pub(super) async fn dial(
    network: &Network,
    addresses: &[SocketAddr],
) -> Result<TcpStream, RelayError> {
    let mut last = None;
    for address in addresses {
        let failed = |source| RelayError::Dial {
            address: *address,
            source,
        };
        match tokio::time::timeout(DIAL_TIMEOUT, network.connect(*address)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                let _ = setsockopt(&stream.as_fd(), sockopt::KeepAlive, &true);
                // A statement may wait for people as long as what stands between forgets connections.
                let _ = setsockopt(&stream.as_fd(), sockopt::TcpKeepIdle, &KEEP_IDLE);
                return Ok(stream);
            }
            Ok(Err(error)) => last = Some(failed(error)),
            Err(_) => last = Some(failed(io::ErrorKind::TimedOut.into())),
        }
    }
    Err(last.unwrap_or(RelayError::NoAddress {
        name: "the destination".into(),
    }))
}

async fn both_ways(
    client: TcpStream,
    upstream: TcpStream,
    hello: &[u8],
    counts: &Counts,
) -> Result<(), RelayError> {
    let _ = client.set_nodelay(true);
    let _ = setsockopt(&client.as_fd(), sockopt::KeepAlive, &true);
    let (mut client_read, mut client_write) = client.into_split();
    let (mut upstream_read, mut upstream_write) = upstream.into_split();
    let outbound = async {
        upstream_write
            .write_all(hello)
            .await
            .map_err(RelayError::Upstream)?;
        counts
            .from_client
            .fetch_add(hello.len() as u64, Ordering::Relaxed);
        let lost = (
            RelayError::Client as fn(_) -> _,
            RelayError::Upstream as fn(_) -> _,
        );
        pump(
            &mut client_read,
            &mut upstream_write,
            &counts.from_client,
            lost,
        )
        .await
    };
    let lost = (
        RelayError::Upstream as fn(_) -> _,
        RelayError::Client as fn(_) -> _,
    );
    let inbound = pump(
        &mut upstream_read,
        &mut client_write,
        &counts.from_upstream,
        lost,
    );
    let outcome = tokio::try_join!(outbound, inbound);
    if outcome.is_err() {
        // The other side must learn that this was no orderly end.
        reset(client_write.as_ref());
        reset(upstream_write.as_ref());
    }
    outcome.map(|_| ())
}

type Lost = fn(io::Error) -> RelayError;

/// Copies until the reader ends, then closes the writer's direction and nothing else.
async fn pump(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    count: &AtomicU64,
    (read_lost, write_lost): (Lost, Lost),
) -> Result<(), RelayError> {
    let mut buffer = vec![0; SMALL_BUFFER];
    loop {
        let read = from.read(&mut buffer).await.map_err(read_lost)?;
        let Some(bytes) = buffer.get(..read).filter(|b| !b.is_empty()) else {
            return to.shutdown().await.map_err(write_lost);
        };
        to.write_all(bytes).await.map_err(write_lost)?;
        count.fetch_add(read as u64, Ordering::Relaxed);
        if read == buffer.len() && read < LARGE_BUFFER {
            buffer.resize(read * 2, 0);
        }
    }
}

/// Makes the close that follows a reset.
pub fn reset(stream: &TcpStream) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // Where it fails the peer sees an orderly close: no worse than not having tried.
    let _ = setsockopt(&stream.as_fd(), sockopt::Linger, &linger);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::net::TcpListener;

    use super::*;
    use crate::config::Egress;
    use crate::forward::fixture::{agent, config, resource};
    use crate::forward::resolve::tests::over;

    /// What one relayed connection did: the client's view, the server's view, the outcome.
    struct Ran {
        client: io::Result<Vec<u8>>,
        server: Option<Vec<u8>>,
        relayed: Relayed,
        counts: Counts,
    }

    fn hello(name: &str) -> Vec<u8> {
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = name.to_string().try_into().unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(tls), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The server listens on 127.0.0.1; `api.example` resolves to it, and so does a resource on
    /// `resource_port`.
    async fn run(sent: &[u8], by_name: bool, resource_port: u16) -> Ran {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let destination = server.local_addr().unwrap();
        let mut world = config(vec![resource("orders", &["db.internal"])]);
        world.resources[0].port = match resource_port {
            0 => destination.port(),
            other => other,
        };
        let names = vec!["api.example".to_string(), "*.wild.example".into()];
        let rule = |name: &String| Egress::Name {
            name: name.clone(),
            port: destination.port(),
        };
        world.agents = vec![agent(names.iter().map(rule).collect())];
        let db = if resource_port == 0 {
            "127.0.0.1"
        } else {
            "10.0.0.1"
        };
        let table = [
            ("api.example", "127.0.0.1"),
            ("x.wild.example", "127.0.0.1"),
            ("db.internal", db),
        ];
        let (resolver, _, _) = over(&world, &table);
        resolver.refresh().await;
        let pass = match by_name {
            true => Pass::Names { names, destination },
            false => Pass::Destination(destination),
        };
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(front.local_addr().unwrap())
            .await
            .unwrap();
        let (accepted, _) = front.accept().await.unwrap();
        let counts = Counts::default();
        let served = tokio::spawn(async move {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut received = Vec::new();
            // The client's half-close arrives, and the other half still carries an answer.
            stream.read_to_end(&mut received).await.unwrap();
            stream.write_all(&vec![7; 1_000_000]).await.unwrap();
            received
        });
        client.write_all(sent).await.unwrap();
        client.shutdown().await.unwrap();
        let read = async {
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.map(|_| answer)
        };
        let relaying = relay(accepted, &pass, &Network::Host, &world, &resolver, &counts);
        let (relayed, client) = tokio::join!(relaying, read);
        let server = match relayed.upstream {
            Some(_) => Some(served.await.unwrap()),
            None => None,
        };
        Ran {
            client,
            server,
            relayed,
            counts,
        }
    }

    #[tokio::test]
    async fn by_name_everything_passes_both_ways_with_half_close() {
        let sent = [hello("api.example"), vec![9; 300_000]].concat();
        let ran = run(&sent, true, 1).await;
        ran.relayed.outcome.unwrap();
        assert_eq!(ran.relayed.name.as_deref(), Some("api.example"));
        assert_eq!(ran.server.unwrap(), sent);
        assert_eq!(ran.client.unwrap().len(), 1_000_000);
        assert_eq!(
            ran.counts.from_client.load(Ordering::Relaxed),
            sent.len() as u64
        );
        assert_eq!(ran.counts.from_upstream.load(Ordering::Relaxed), 1_000_000);
    }

    #[tokio::test]
    async fn by_network_nothing_is_read_first() {
        let ran = run(b"plain", false, 1).await;
        ran.relayed.outcome.unwrap();
        assert_eq!(ran.server.unwrap(), b"plain");
        assert_eq!(ran.relayed.name, None);
    }

    async fn refused(sent: &[u8], resource_port: u16) -> String {
        let ran = run(sent, true, resource_port).await;
        let reset = ran.client.unwrap_err();
        assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
        assert!(ran.server.is_none());
        ran.relayed.outcome.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn what_is_not_listed_is_reset_with_a_reason() {
        assert!(
            refused(&hello("other.example"), 1)
                .await
                .contains("does not list other.example")
        );
        assert!(
            refused(b"GET / HTTP/1.1\r\n\r\n", 1)
                .await
                .contains("does not speak TLS")
        );
        assert!(
            refused(&hello("api.example")[..40], 1)
                .await
                .contains("before it said")
        );
    }

    #[tokio::test]
    async fn a_wildcard_leads_to_no_address_of_this_host() {
        assert!(
            refused(&hello("x.wild.example"), 1)
                .await
                .contains("resolves to nothing")
        );
    }

    #[tokio::test]
    async fn egress_reaches_no_resource() {
        assert!(
            refused(&hello("api.example"), 0)
                .await
                .contains("a configured resource")
        );
    }
}
