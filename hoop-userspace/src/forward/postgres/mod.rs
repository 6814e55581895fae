//! Logging in to PostgreSQL with hoop's own credential.

pub mod catalog;
mod estimate;
mod login;
mod objects;
pub mod startup;
pub(super) mod tls;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::Unreached;
use super::resolve::Resolver;
use super::route::Target;
use crate::terminate::postgres::{CancelTarget, Upstream};

pub use catalog::{Catalogs, SessionCatalog};
use login::{Channel, Greeting, KeyCache};
pub use startup::Startup;
use tls::ServerTls;
pub use tls::end_point;

/// Dialling, TLS and login together.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Why an upstream connection could not be had. No variant carries a credential, and every text is
/// fit to be shown to the agent.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    #[error("cannot connect to {address}: {source}")]
    Dial {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("cannot resolve {name}: {source}")]
    Resolve { name: String, source: io::Error },
    /// Before it was dialled.
    #[error("{0}")]
    Unproven(String),
    #[error("the server did not finish the login within {0} s")]
    Timeout(u64),
    #[error("the server does not offer TLS, and the resource requires it")]
    NoTls,
    #[error("TLS with the server failed: {0}")]
    Tls(String),
    #[error("the resource's TLS settings are unusable: {0}")]
    TlsSettings(String),
    /// The server refused in its own words.
    #[error("the server refused the login of hoop: {message} (SQLSTATE {code})")]
    Server { code: String, message: String },
    #[error("login upstream failed: {0}")]
    Login(String),
    #[error(
        "the start-up parameter {0} cannot be passed on; use SET after connecting, or have it made a default of the server's login (ALTER ROLE … SET)"
    )]
    Parameter(String),
    #[error("the server broke the protocol during login: {0}")]
    Protocol(String),
    #[error("the connection was lost during login: {0}")]
    Io(#[from] io::Error),
}

/// What is known of a connection once it is logged in.
struct Opened {
    greeting: Greeting,
    address: SocketAddr,
    tls: Option<ServerTls>,
}

/// Opens server connections. Shared by all sessions of a worker.
pub struct Connector {
    resolver: Resolver,
    keys: KeyCache,
    tls: tls::KnownTls,
}

impl Connector {
    pub fn new(resolver: Resolver) -> Self {
        Self {
            resolver,
            keys: KeyCache::new(),
            tls: tls::KnownTls::default(),
        }
    }

    /// Dials the target, proves the server, logs in with the resource's login, and waits until the
    /// server is ready.
    pub async fn connect(
        &self,
        target: &Target<'_>,
        startup: &Startup,
    ) -> Result<Upstream, ForwardError> {
        let passed = startup.passed()?;
        let (channel, opened) = self.log_in(target, &startup.database, &passed).await?;
        // The client hears them as the session's first messages, masked and recorded as any other.
        let mut leftover = opened.greeting.noticed;
        leftover.extend_from_slice(&channel.input);
        Ok(Upstream {
            stream: channel.stream,
            parameters: opened.greeting.parameters,
            cancel: CancelTarget {
                dial: target.network.dial(),
                address: opened.address,
                tls: opened.tls.map(|tls| (tls.config, tls.name)),
                pid: opened.greeting.pid,
                key: opened.greeting.key,
            },
            leftover,
        })
    }

    async fn log_in(
        &self,
        target: &Target<'_>,
        database: &str,
        parameters: &[(&str, &str)],
    ) -> Result<(Channel, Opened), ForwardError> {
        tokio::time::timeout(LOGIN_TIMEOUT, self.open(target, database, parameters))
            .await
            .map_err(|_| ForwardError::Timeout(LOGIN_TIMEOUT.as_secs()))?
    }

    async fn open(
        &self,
        target: &Target<'_>,
        database: &str,
        parameters: &[(&str, &str)],
    ) -> Result<(Channel, Opened), ForwardError> {
        let login = &target.resource.login;
        let database = login.database.as_deref().unwrap_or(database);
        let mut startup = vec![("user", login.user.as_str()), ("database", database)];
        startup.extend(parameters);
        let (mut channel, address, tls) = self.reach(target).await?;
        let greeting = channel.log_in(login, &startup, &self.keys).await?;
        Ok((
            channel,
            Opened {
                greeting,
                address,
                tls,
            },
        ))
    }

    /// Dials the target and proves the server, and does not log in. Says whether it was proved: not
    /// where the resource does without TLS.
    pub async fn prove(&self, target: &Target<'_>) -> Result<bool, ForwardError> {
        let reached = tokio::time::timeout(LOGIN_TIMEOUT, self.reach(target)).await;
        let (_, _, tls) = reached.map_err(|_| ForwardError::Timeout(LOGIN_TIMEOUT.as_secs()))??;
        Ok(tls.is_some())
    }

    async fn reach(
        &self,
        target: &Target<'_>,
    ) -> Result<(Channel, SocketAddr, Option<ServerTls>), ForwardError> {
        let reached = super::reach(&self.resolver, target).await;
        let stream = reached.map_err(|error| match error {
            Unreached::Unproven(why) => ForwardError::Unproven(why),
            Unreached::Resolve(source) => ForwardError::Resolve {
                name: upstream_name(target),
                source,
            },
            Unreached::Dial { address, source } => ForwardError::Dial { address, source },
        })?;
        let address = stream.peer_addr()?;
        // The name that must be proven is the destination's, wherever the operator has it dialled.
        let claimed = target
            .addresses
            .first()
            .map_or(address.ip(), SocketAddr::ip);
        let tls = ServerTls::of(target.resource, target.name.as_deref(), claimed, &self.tls)?;
        let channel = Channel::open(stream, tls.as_ref()).await?;
        Ok((channel, address, tls))
    }
}

fn upstream_name(target: &Target<'_>) -> String {
    let upstream = target.resource.upstream.as_ref();
    let own = || target.name.clone().unwrap_or_default();
    upstream.map_or_else(own, |(host, _)| host.clone())
}
