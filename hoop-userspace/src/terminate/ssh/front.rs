//! hoop as the server that the agent's client sees.
//!
//! Whoever connects was captured in an agent's cgroup, and the agent's token is its login: what
//! the client offers beside proves nothing and is not asked for (but of clients that mind: `greeting`),
//! and what it offers all the same is accepted and not looked at. No session is served before the
//! identity is verified.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use russh::keys::{Certificate, PrivateKey};
use russh::server::{self, Auth, ChannelOpenHandle, Msg, Response, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelStream, MethodKind, MethodSet, Sig, SshId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::backlog::{Backlog, Hold, Throttled};
use super::greeting::{Greeted, Greeting};
use super::pipe::{Inlet, Outlet, pipe};
use super::session::{ToClient, signal_name};
use crate::ids::ResourceName;
use crate::wire::ssh::channel::{Message, Pty, Size};

/// Key exchange and the client's greetings together.
pub(super) const MEETING: Duration = Duration::from_secs(30);
/// A client that is not heard of for three of these is gone.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Channels that one connection may have open, with those of the connections within it.
const MAX_CHANNELS: usize = 128;
/// Connections within each other: host behind host behind host.
const MAX_DEPTH: usize = 3;
/// The client is on this host, so a small window costs no speed; what is granted may wait in memory.
const WINDOW: u32 = 256 << 10;

/// What hoop shows to the client.
pub struct Faces {
    pub key: PrivateKey,
    pub certificate: Option<Certificate>,
}

/// What a server is asked to connect to, as far as hoop governs it.
pub enum Reached {
    /// Nothing that is configured.
    Nothing,
    /// A host that is a resource itself, by this name or address.
    Host(String),
    /// A resource of another protocol.
    Other(ResourceName),
}

/// Says it of a host and a port.
pub type Reach = dyn Fn(&str, u32) -> Reached + Send + Sync;

/// A connection to another governed host, within this one: hoop meets its client there as well.
pub struct Jump {
    pub host: String,
    pub port: u32,
    pub stream: ChannelStream<Msg>,
    /// What it shares with the one that it is in.
    pub room: Room,
}

/// What one connection, and those within it, may have open together.
#[derive(Clone, Debug)]
pub struct Room {
    free: Arc<Semaphore>,
    depth: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            free: Arc::new(Semaphore::new(MAX_CHANNELS)),
            depth: 0,
        }
    }
}

impl Room {
    /// For one more channel, for as long as it is kept.
    fn take(&self) -> Option<OwnedSemaphorePermit> {
        self.free.clone().try_acquire_owned().ok()
    }

    /// For a connection within this one.
    fn within(&self) -> Option<Self> {
        (self.depth < MAX_DEPTH).then(|| Self {
            free: self.free.clone(),
            depth: self.depth + 1,
        })
    }
}

/// A client that has met hoop and has not been let in yet.
pub struct Met {
    /// The account that it asks for.
    pub user: String,
    /// How the client calls itself: `SSH-2.0-OpenSSH_9.2p1`.
    pub client: String,
    pub(super) handle: server::Handle,
    pub(super) openings: mpsc::UnboundedReceiver<Opening>,
    pub(super) jumps: mpsc::UnboundedReceiver<Jump>,
    pub(super) server_backlog: Arc<Backlog>,
    pub(super) hold: Hold,
}

/// Why a client did not get so far.
#[derive(Debug, thiserror::Error)]
pub enum MeetError {
    #[error("the client did not finish its greetings within {0} s")]
    Timeout(u64),
    #[error("the client left before it asked for anything")]
    Left,
    #[error("SSH with the client failed: {0}")]
    Protocol(#[from] russh::Error),
}

/// A channel that the client wants.
pub(super) enum Opening {
    /// Accepted already: what it is for comes as requests.
    Session { client: ToClient, heard: Outlet },
    /// To be accepted or rejected.
    Connect {
        host: String,
        port: u32,
        governed: Option<ResourceName>,
        client: ToClient,
        heard: Outlet,
        reply: ChannelOpenHandle,
    },
}

impl Met {
    /// Speaks SSH with the client until it is content.
    pub async fn accept<S>(
        stream: S,
        faces: Faces,
        reached: Arc<Reach>,
        room: Room,
    ) -> Result<Self, MeetError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        tokio::time::timeout(MEETING, Self::meet(stream, faces, reached, room))
            .await
            .map_err(|_| MeetError::Timeout(MEETING.as_secs()))?
    }

    async fn meet<S>(
        stream: S,
        faces: Faces,
        reached: Arc<Reach>,
        room: Room,
    ) -> Result<Self, MeetError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (client_backlog, server_backlog) = Backlog::pair();
        let (open, openings) = mpsc::unbounded_channel();
        let (jump, jumps) = mpsc::unbounded_channel();
        let (tell, told) = oneshot::channel();
        let greeting = Greeting::default();
        let front = Front {
            user: String::new(),
            greeting: greeting.clone(),
            let_in: Some(tell),
            open,
            channels: HashMap::new(),
            reached,
            jump,
            jumps: HashMap::new(),
            room,
            backlog: client_backlog.clone(),
        };
        let hold = Hold(client_backlog.clone());
        let socket = Greeted::new(Throttled::new(stream, client_backlog), greeting);
        let running = server::run_stream(config(faces), socket, front).await?;
        let handle = running.handle();
        // russh drives the connection in a task of its own, which ends with the socket.
        let (user, client) = tokio::select! {
            told = told => told.map_err(|_| MeetError::Left)?,
            ended = running => {
                ended?;
                return Err(MeetError::Left);
            }
        };
        Ok(Self {
            user,
            client,
            handle,
            openings,
            jumps,
            server_backlog,
            hold,
        })
    }
}

fn config(faces: Faces) -> Arc<server::Config> {
    let methods = [
        MethodKind::None,
        MethodKind::PublicKey,
        MethodKind::Password,
        MethodKind::KeyboardInteractive,
    ];
    Arc::new(server::Config {
        server_id: SshId::Standard(Cow::Borrowed("SSH-2.0-hoop")),
        methods: MethodSet::from(&methods[..]),
        auth_rejection_time: Duration::ZERO,
        keys: vec![faces.key],
        certificates: faces.certificate.into_iter().collect(),
        window_size: WINDOW,
        inactivity_timeout: None,
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: 3,
        nodelay: true,
        ..server::Config::default()
    })
}

struct Front {
    user: String,
    greeting: Greeting,
    let_in: Option<oneshot::Sender<(String, String)>>,
    open: mpsc::UnboundedSender<Opening>,
    channels: HashMap<ChannelId, Inlet>,
    reached: Arc<Reach>,
    jump: mpsc::UnboundedSender<Jump>,
    jumps: HashMap<ChannelId, OwnedSemaphorePermit>,
    room: Room,
    backlog: Arc<Backlog>,
}

impl Front {
    fn accept(&mut self, user: &str) -> Result<Auth, russh::Error> {
        user.clone_into(&mut self.user);
        Ok(Auth::Accept)
    }

    fn put(&self, channel: ChannelId, message: Message) {
        if let Some(inlet) = self.channels.get(&channel) {
            inlet.put(message);
        }
    }

    /// What is asked for is answered at once: what becomes of it is said on the channel itself.
    fn take(
        &self,
        channel: ChannelId,
        message: Message,
        session: &mut server::Session,
    ) -> Result<(), russh::Error> {
        self.put(channel, message);
        session.channel_success(channel)
    }

    fn register(
        &mut self,
        channel: Channel<Msg>,
        handle: server::Handle,
        place: OwnedSemaphorePermit,
    ) -> (ToClient, Outlet) {
        // What is read comes by these callbacks; the other half would only collect a copy.
        let (_, write) = channel.split();
        let (inlet, heard) = pipe(&self.backlog);
        self.channels.insert(write.id(), inlet);
        let client = ToClient {
            write,
            handle,
            _place: place,
        };
        (client, heard)
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

impl server::Handler for Front {
    type Error = russh::Error;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Self::Error> {
        match self.greeting.wants_to_be_asked() {
            true => Ok(Auth::reject()),
            false => self.accept(user),
        }
    }

    async fn auth_password(&mut self, user: &str, _password: &str) -> Result<Auth, Self::Error> {
        self.accept(user)
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        _key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        self.accept(user)
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        _certificate: &Certificate,
    ) -> Result<Auth, Self::Error> {
        self.accept(user)
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        _response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        self.accept(user)
    }

    async fn auth_succeeded(&mut self, session: &mut server::Session) -> Result<(), Self::Error> {
        let client = String::from_utf8_lossy(session.remote_sshid()).into_owned();
        if let Some(tell) = self.let_in.take() {
            // Nobody listens any more if hoop is stopping.
            let _ = tell.send((self.user.clone(), client));
        }
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        // A handle that is dropped rejects.
        if let Some(place) = self.room.take() {
            let (client, heard) = self.register(channel, session.handle(), place);
            reply.accept().await;
            let _ = self.open.send(Opening::Session { client, heard });
        }
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        let governed = match (self.reached)(host, port) {
            Reached::Host(host) => {
                // A handle that is dropped rejects.
                if let Some(room) = self.room.within()
                    && let Some(place) = self.room.take()
                {
                    self.jumps.insert(channel.id(), place);
                    reply.accept().await;
                    // Nobody listens any more if the connection is being closed.
                    let _ = self.jump.send(Jump {
                        host,
                        port,
                        stream: channel.into_stream(),
                        room,
                    });
                }
                return Ok(());
            }
            Reached::Other(resource) => Some(resource),
            Reached::Nothing => None,
        };
        if let Some(place) = self.room.take() {
            let (client, heard) = self.register(channel, session.handle(), place);
            let _ = self.open.send(Opening::Connect {
                host: host.to_owned(),
                port,
                governed,
                client,
                heard,
                reply,
            });
        }
        Ok(())
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        self.put(channel, Message::Input(Bytes::copy_from_slice(data)));
        Ok(())
    }

    async fn channel_eof(
        &mut self,
        channel: ChannelId,
        _session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        self.put(channel, Message::InputEnd);
        Ok(())
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        self.jumps.remove(&channel);
        if let Some(inlet) = self.channels.remove(&channel) {
            inlet.put(Message::Closed);
        }
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        modes: &[(russh::Pty, u32)],
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        let pty = Pty {
            term: bytes(term),
            size: Size {
                columns,
                rows,
                width,
                height,
            },
            modes: modes
                .iter()
                .map(|(code, value)| (*code as u8, *value))
                .collect(),
        };
        self.take(channel, Message::Pty(pty), session)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        if !is_passed_on(name, value) {
            return session.channel_failure(channel);
        }
        let (name, value) = (bytes(name), bytes(value));
        self.take(channel, Message::Env { name, value }, session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        let command = Bytes::copy_from_slice(command);
        self.take(channel, Message::Exec(command), session)
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        self.take(channel, Message::Shell, session)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        self.take(channel, Message::Subsystem(bytes(name)), session)
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        let size = Size {
            columns,
            rows,
            width,
            height,
        };
        self.take(channel, Message::Resize(size), session)
    }

    async fn signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        _session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        self.put(channel, Message::Signal(signal_name(&signal)));
        Ok(())
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single_connection: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }
}

/// The variables that servers take by default, and some that only say how output should look. Any
/// other could change what a command does, which nobody has decided.
///
/// A language changes how a shell reads bytes: in GBK or Shift-JIS a letter's second byte may be a
/// backslash, and a quote ends elsewhere than where hoop saw it end. Only those are passed on in
/// which every byte below 128 is what it is in ASCII.
fn is_passed_on(name: &str, value: &str) -> bool {
    match name {
        name if name == "LANG" || name.starts_with("LC_") => is_plain_locale(value),
        name => matches!(name, "COLORTERM" | "NO_COLOR" | "GIT_PROTOCOL"),
    }
}

fn is_plain_locale(value: &str) -> bool {
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let lower = value.to_ascii_lowercase();
    let unicode = lower.ends_with(".utf-8") || lower.ends_with(".utf8");
    matches!(value, "C" | "POSIX") || unicode && value.chars().all(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_within_each_other_share_their_channels() {
        let outer = Room::default();
        let inner = outer.within().unwrap();
        let taken: Vec<_> = (0..MAX_CHANNELS - 1)
            .map(|_| outer.take().unwrap())
            .collect();
        let last = inner.take().unwrap();
        assert!(outer.take().is_none() && inner.take().is_none());
        drop(last);
        assert!(outer.take().is_some());
        drop(taken);
        let third = inner.within().unwrap().within().unwrap();
        assert!(third.within().is_none());
    }

    #[test]
    fn only_languages_that_keep_ascii_are_passed_on() {
        for value in [
            "C",
            "POSIX",
            "C.UTF-8",
            "en_US.UTF-8",
            "de_DE.utf8",
            "ja_JP.Utf-8",
        ] {
            assert!(
                is_passed_on("LANG", value) && is_passed_on("LC_ALL", value),
                "{value}"
            );
        }
        for value in [
            "",
            "zh_CN.GBK",
            "ja_JP.SJIS",
            "en_US",
            "../x/.UTF-8",
            "zh_CN.UTF-8@gbk",
        ] {
            assert!(
                !is_passed_on("LANG", value) && !is_passed_on("LC_CTYPE", value),
                "{value}"
            );
        }
        assert!(is_passed_on("NO_COLOR", "1") && !is_passed_on("PATH", "/tmp"));
    }
}
