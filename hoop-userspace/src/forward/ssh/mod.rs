//! Logging in to an SSH server with hoop's own credential.

mod host;
mod known;
mod login;

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client;
use russh::{Preferred, SshId};

use super::Unreached;
use super::resolve::Resolver;
use super::route::Target;
use crate::config::{Ssh, SshClientUser};
use crate::terminate::ssh::{Back, Backlog, KeyError, Keys, Throttled, Upstream};

use host::Expected;
use known::FirstUse;

/// Dialling, key exchange and login together.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(20);
/// A server that is not heard of for three of these is gone.
const KEEPALIVE: Duration = Duration::from_secs(30);
const WINDOW: u32 = 2 << 20;

/// Why a server could not be logged in to. No variant carries a credential, and every text is fit
/// to be shown to the agent.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    #[error("cannot connect to {address}: {source}")]
    Dial {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("cannot resolve the server's address: {0}")]
    Resolve(io::Error),
    /// Before it was dialled.
    #[error("{0}")]
    Unproven(String),
    #[error("the server did not finish the login within {0} s")]
    Timeout(u64),
    #[error("the server cannot be believed: {0}")]
    Host(String),
    #[error("the server refused the login of hoop as {user}: it wants one of {wants}")]
    Refused { user: String, wants: String },
    #[error("the SSH agent at {} cannot be used: {why}", .socket.display())]
    Agent { socket: PathBuf, why: String },
    #[error("the server asks {0:?}, and the resource has no answer to that")]
    Question(String),
    #[error("the resource has no SSH settings")]
    NotSsh,
    #[error("the client names no account to log in to")]
    NoUser,
    #[error(
        "the account that the client names has characters that servers do not take for a name's: letters, digits and `_.-$@` are"
    )]
    OddUser,
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error("SSH with the server failed: {0}")]
    Protocol(#[from] russh::Error),
}

impl From<Unreached> for SshError {
    fn from(error: Unreached) -> Self {
        match error {
            Unreached::Unproven(why) => Self::Unproven(why),
            Unreached::Resolve(source) => Self::Resolve(source),
            Unreached::Dial { address, source } => Self::Dial { address, source },
        }
    }
}

/// A server that took the login.
pub struct LoggedIn {
    pub upstream: Upstream,
    pub user: String,
    /// A key that was seen for the first time and is trusted from now on, as the resource says.
    pub learned: Option<String>,
}

/// Opens server connections. Shared by all connections of a worker.
pub struct Connector {
    resolver: Resolver,
    keys: Arc<Keys>,
    first_use: Arc<FirstUse>,
}

impl Connector {
    pub fn new(resolver: Resolver, keys: Arc<Keys>, state: &Path) -> Self {
        Self {
            resolver,
            keys,
            first_use: Arc::new(FirstUse::new(state)),
        }
    }

    /// Dials the target, proves the server by its host key, and logs in. `key_id` is what a minted
    /// certificate names: the identity and the session.
    pub async fn connect(
        &self,
        target: &Target<'_>,
        client_user: &str,
        key_id: &str,
        backlog: Arc<Backlog>,
    ) -> Result<LoggedIn, SshError> {
        tokio::time::timeout(
            LOGIN_TIMEOUT,
            self.open(target, client_user, key_id, backlog),
        )
        .await
        .map_err(|_| SshError::Timeout(LOGIN_TIMEOUT.as_secs()))?
    }

    async fn open(
        &self,
        target: &Target<'_>,
        client_user: &str,
        key_id: &str,
        backlog: Arc<Backlog>,
    ) -> Result<LoggedIn, SshError> {
        let ssh = target.resource.ssh.as_ref().ok_or(SshError::NotSsh)?;
        let user = account(ssh, client_user)?;
        let stream = super::reach(&self.resolver, target).await?;
        let expected = Arc::new(Expected::of(ssh, target, self.first_use.clone()));
        let config = Arc::new(settings(&expected));
        let (back, upstream) = Back::new(expected.clone(), backlog.clone());
        let connected = client::connect_stream(config, Throttled::new(stream, backlog), back).await;
        let mut handle = connected.map_err(|error| match expected.objection() {
            Some(why) => SshError::Host(why),
            None => error.into(),
        })?;
        login::log_in(&mut handle, ssh, &user, key_id, &self.keys).await?;
        Ok(LoggedIn {
            upstream: upstream(handle),
            user,
            learned: expected.learned(),
        })
    }
}

/// Dials the target and proves the server by its host key, and does not log in. What would be trusted
/// on first use passes, and is not kept.
pub async fn prove(resolver: &Resolver, target: &Target<'_>, state: &Path) -> Result<(), SshError> {
    let proved = async {
        let ssh = target.resource.ssh.as_ref().ok_or(SshError::NotSsh)?;
        let stream = super::reach(resolver, target).await?;
        let first_use = Arc::new(FirstUse::that_learns_nothing(state));
        let expected = Arc::new(Expected::of(ssh, target, first_use));
        let config = Arc::new(settings(&expected));
        let (backlog, _) = Backlog::pair();
        let (back, _) = Back::new(expected.clone(), backlog.clone());
        let connected = client::connect_stream(config, Throttled::new(stream, backlog), back).await;
        let handle = connected.map_err(|error| match expected.objection() {
            Some(why) => SshError::Host(why),
            None => error.into(),
        })?;
        // The server would wait for a login that does not come.
        let _ = handle
            .disconnect(russh::Disconnect::ByApplication, "", "")
            .await;
        Ok(())
    };
    tokio::time::timeout(LOGIN_TIMEOUT, proved)
        .await
        .map_err(|_| SshError::Timeout(LOGIN_TIMEOUT.as_secs()))?
}

fn account(ssh: &Ssh, client_user: &str) -> Result<String, SshError> {
    match &ssh.user {
        SshClientUser::Fixed(user) => Ok(user.clone()),
        SshClientUser::AsClient if client_user.is_empty() => Err(SshError::NoUser),
        SshClientUser::AsClient if !is_plain(client_user) => Err(SshError::OddUser),
        SshClientUser::AsClient => Ok(client_user.to_owned()),
    }
}

/// Whether a server takes the name for the account of that name and no other: OpenSSH cuts a login style
/// behind `:` off, and Debian's a role behind `/`.
fn is_plain(user: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '$' | '@');
    user.len() <= 256 && !user.starts_with('-') && user.chars().all(plain)
}

fn settings(expected: &Expected) -> client::Config {
    let mut preferred = Preferred::default();
    if let Some(keys) = expected.algorithms() {
        preferred.key = Cow::Owned(keys);
    }
    preferred.host_key_certificates = Cow::Owned(expected.certificate_algorithms());
    client::Config {
        client_id: SshId::Standard(Cow::Borrowed("SSH-2.0-hoop")),
        window_size: WINDOW,
        preferred,
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: 3,
        nodelay: true,
        ..client::Config::default()
    }
}

/// What a callback found, for whoever waits for the handshake.
#[derive(Debug, Default)]
struct Noted(Mutex<Option<String>>);

impl Noted {
    fn set(&self, text: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
