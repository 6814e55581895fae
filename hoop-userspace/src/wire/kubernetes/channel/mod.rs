//! What flows in exec, attach and port-forward, whichever protocol carries it: one model over
//! WebSocket channels, SPDY streams, and SPDY inside WebSocket messages.
//!
//! [`negotiate`] says which protocol two ends agree on. A [`Peer`] is one end of a session as hoop
//! speaks to it: towards the agent hoop is the server, towards the API server the client. What
//! happens on one is done on the other: `Opened` is followed by [`Peer::open`] there, `Accepted` by
//! [`Peer::accept`] here, messages go over as they come.

mod line;
pub mod negotiate;
mod socket;
pub mod status;
mod streams;
mod tunnel;

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::spdy::SpdyError;
use super::websocket::WebSocketError;
use negotiate::Protocol;
pub use socket::MAX_PORTS;
use socket::Socket;
use streams::Streams;
use tunnel::Tunnel;

/// Streams that one SPDY connection has open at a time; another one is refused by RST_STREAM. Each
/// forwarded connection takes two.
pub const MAX_STREAMS: usize = 1024;
/// A status and a terminal's size are one whole message on WebSocket, at most this long.
pub const MAX_WHOLE: usize = 64 << 10;

/// Why a session cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    #[error(transparent)]
    Spdy(#[from] SpdyError),
    #[error(transparent)]
    WebSocket(#[from] WebSocketError),
    #[error("the request did not ask for {0}")]
    NotAsked(Stream),
    #[error("{0} is opened a second time")]
    Twice(Stream),
    #[error("{0} was not opened")]
    NotOpen(Stream),
    #[error("{0} is used before the other end has accepted it")]
    NotAccepted(Stream),
    #[error("{0} does not flow in this direction")]
    Direction(Stream),
    #[error("{0} goes on after its end")]
    AfterEnd(Stream),
    #[error("there is no stream {0}")]
    UnknownStream(u32),
    #[error("there is no channel {0}")]
    UnknownChannel(u8),
    #[error("a stream's headers are malformed: {0}")]
    Headers(&'static str),
    #[error("{0}, which Kubernetes does not use")]
    Unexpected(&'static str),
    #[error("a message that ends a channel is not two bytes long")]
    CloseSignal,
    #[error("a channel is announced for another port than {0}")]
    Announcement(u16),
    #[error("a message is not valid base64")]
    Base64,
    #[error("a text message, where only binary ones carry SPDY")]
    Text,
    #[error("a message of {0} is longer than {MAX_WHOLE} bytes")]
    TooLarge(Stream),
    #[error("the error stream holds no Status: {0}")]
    Status(&'static str),
    #[error("the terminal's size is no JSON object of Width and Height")]
    Resize,
}

/// One of the streams of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    Stdin,
    Stdout,
    Stderr,
    /// How the command ended: see [`status`].
    Error,
    /// The terminal's size: see [`status::Resizes`].
    Resize,
    /// A forwarded connection's bytes, both ways.
    Data(Forward),
    /// Why a connection could not be forwarded, as text.
    PortError(Forward),
}

/// One forwarded connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Forward {
    /// Of the pod; never 0.
    pub port: u16,
    /// Which connection of this session; counted from 0.
    pub number: u32,
}

impl fmt::Display for Stream {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => out.write_str("stdin"),
            Self::Stdout => out.write_str("stdout"),
            Self::Stderr => out.write_str("stderr"),
            Self::Error => out.write_str("error"),
            Self::Resize => out.write_str("resize"),
            Self::Data(forward) => write!(out, "data of port {}", forward.port),
            Self::PortError(forward) => write!(out, "error of port {}", forward.port),
        }
    }
}

impl Stream {
    /// Whether `sender` may put bytes on it. Its end may come from both.
    fn flows_from(self, sender: Side) -> bool {
        match self {
            Self::Stdin | Self::Resize => sender == Side::Client,
            Self::Stdout | Self::Stderr | Self::Error | Self::PortError(_) => {
                sender == Side::Server
            }
            Self::Data(_) => true,
        }
    }
}

/// A piece of a stream, in its order. On WebSocket a message of [`Stream::Error`] or
/// [`Stream::Resize`] is whole, because clients parse each by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub stream: Stream,
    /// May be empty: the server says so on WebSocket that it is ready.
    pub bytes: Bytes,
    /// The sender sends nothing more on it.
    pub end: bool,
}

impl Message {
    pub fn new(stream: Stream, bytes: Bytes) -> Self {
        let end = false;
        Self { stream, bytes, end }
    }

    /// The stream's end, without bytes.
    pub fn end(stream: Stream) -> Self {
        let (bytes, end) = (Bytes::new(), true);
        Self { stream, bytes, end }
    }
}

/// What the request's query asks for; no other stream may be opened or used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// exec and attach.
    Command(Asked),
    /// The ports of the query, in its order, at most [`MAX_PORTS`]: only the channel protocols name
    /// them there. On SPDY every connection names its own.
    PortForward { ports: Vec<u16> },
}

/// Of exec and attach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// A terminal has no standard error, and a size.
    pub tty: bool,
}

impl Asked {
    /// In the order in which clients open them on SPDY: the server waits for all of them before it
    /// starts anything, and for nothing else.
    pub fn streams(self, protocol: Protocol) -> Vec<Stream> {
        let resize = self.tty && protocol != Protocol::SpdyV2;
        let all = [
            (Stream::Error, true),
            (Stream::Stdin, self.stdin),
            (Stream::Stdout, self.stdout),
            (Stream::Stderr, self.stderr && !self.tty),
            (Stream::Resize, resize),
        ];
        let wanted = all.into_iter().filter(|(_, asked)| *asked);
        wanted.map(|(stream, _)| stream).collect()
    }
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The agent; hoop is its server.
    Client,
    /// The API server; hoop is its client.
    Server,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The client wants this stream. On WebSocket, where all exist from the beginning, these come
    /// first.
    Opened(Stream),
    /// The server has taken a stream that was opened.
    Accepted(Stream),
    Message(Message),
    /// The stream is over in both directions.
    Reset(Stream),
    /// The other end is done; nothing follows.
    Closed,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Whole,
    /// All but the end: this protocol has no word for it. Only closing the connection says it.
    EndUnsaid,
    /// Nothing: the other end has reset the stream.
    Dropped,
}

/// A source of masks (RFC 6455, section 5.3): four bytes that nobody can foretell, each time others.
pub type Masks = fn() -> [u8; 4];

/// One end of a session.
pub struct Peer(Inner);

enum Inner {
    Socket(Box<Socket>),
    Streams(Box<Streams>),
    Tunnel(Box<Tunnel>),
}

impl Peer {
    /// After the upgrade. `masks` are for what is sent to a server by WebSocket.
    pub fn new(side: Side, protocol: Protocol, purpose: &Purpose, masks: Masks) -> Self {
        Self(match protocol {
            Protocol::V5
            | Protocol::V4
            | Protocol::V4Base64
            | Protocol::PortForwardV4
            | Protocol::PortForwardV4Base64 => {
                Inner::Socket(Box::new(Socket::new(side, protocol, purpose, masks)))
            }
            Protocol::SpdyV4 | Protocol::SpdyV3 | Protocol::SpdyV2 | Protocol::PortForwardSpdy => {
                Inner::Streams(Box::new(Streams::new(side, protocol, purpose)))
            }
            Protocol::PortForwardTunnel => {
                Inner::Tunnel(Box::new(Tunnel::new(side, purpose, masks)))
            }
        })
    }

    /// Takes the next event off `input`; `None` while there is none. What has to be answered (pings,
    /// a Close, surplus streams) is appended to `out`. After an error: [`Self::fail`].
    ///
    /// At most 64 KiB wait inside, for a frame's or a whole message's end.
    pub fn next(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<Option<Event>, ChannelError> {
        match &mut self.0 {
            Inner::Socket(socket) => socket.next(input, out),
            Inner::Streams(streams) => streams.next(input, out),
            Inner::Tunnel(tunnel) => tunnel.next(input, out),
        }
    }

    /// Opens a stream at the server; [`Event::Accepted`] follows. [`Self::next`] has to be called
    /// even if no bytes came: on WebSocket it follows at once.
    pub fn open(&mut self, stream: Stream, out: &mut BytesMut) -> Result<(), ChannelError> {
        match &mut self.0 {
            Inner::Socket(socket) => socket.open(stream),
            Inner::Streams(streams) => streams.open(stream, out),
            Inner::Tunnel(tunnel) => tunnel.act(out, |streams, out| streams.open(stream, out)),
        }
    }

    /// Takes a stream that the client has opened. Not before the server has: what a client sends on
    /// a stream that is not accepted is refused.
    pub fn accept(&mut self, stream: Stream, out: &mut BytesMut) -> Result<(), ChannelError> {
        match &mut self.0 {
            Inner::Socket(socket) => socket.accept(stream, out),
            Inner::Streams(streams) => streams.accept(stream, out),
            Inner::Tunnel(tunnel) => tunnel.act(out, |streams, out| streams.accept(stream, out)),
        }
    }

    /// Ends a stream in both directions; of one that was not accepted, refuses it. On WebSocket
    /// there is no such word, and nothing is sent.
    pub fn reset(&mut self, stream: Stream, out: &mut BytesMut) -> Result<(), ChannelError> {
        match &mut self.0 {
            Inner::Socket(_) => Ok(()),
            Inner::Streams(streams) => streams.reset(stream, out),
            Inner::Tunnel(tunnel) => tunnel.act(out, |streams, out| streams.reset(stream, out)),
        }
    }

    pub fn send(&mut self, message: &Message, out: &mut BytesMut) -> Result<Sent, ChannelError> {
        match &mut self.0 {
            Inner::Socket(socket) => socket.send(message, out),
            Inner::Streams(streams) => streams.send(message, out),
            Inner::Tunnel(tunnel) => tunnel.act(out, |streams, out| streams.send(message, out)),
        }
    }

    /// Whether the stream is open and accepted, and its end was not sent.
    pub fn can_send(&self, stream: Stream) -> bool {
        match &self.0 {
            Inner::Socket(socket) => socket.can_send(stream),
            Inner::Streams(streams) => streams.can_send(stream),
            Inner::Tunnel(tunnel) => tunnel.streams.can_send(stream),
        }
    }

    /// Says that all is over and well: RST_STREAM for what is open and GOAWAY, or Close with 1000.
    pub fn close(&mut self, out: &mut BytesMut) {
        match &mut self.0 {
            Inner::Socket(socket) => socket.line.close(out),
            Inner::Streams(streams) => streams.close(out),
            Inner::Tunnel(tunnel) => tunnel.close(out),
        }
    }

    /// Says that the session cannot go on, as far as the protocol has words for why.
    pub fn fail(&mut self, why: &ChannelError, out: &mut BytesMut) {
        match &mut self.0 {
            Inner::Socket(socket) => socket.line.fail(why, out),
            Inner::Streams(streams) => streams.fail(out),
            Inner::Tunnel(tunnel) => tunnel.line.fail(why, out),
        }
    }

    /// Whether a connection that ends here was not cut within a frame; `input` is what is left.
    pub fn is_between_frames(&self, input: &[u8]) -> bool {
        match &self.0 {
            Inner::Socket(socket) => socket.line.is_between_messages(input),
            Inner::Streams(streams) => streams.is_between_frames(input),
            Inner::Tunnel(tunnel) => tunnel.is_between_frames(input),
        }
    }

    /// Whether the other end has said that it is done.
    pub fn is_closed(&self) -> bool {
        match &self.0 {
            Inner::Socket(socket) => socket.line.is_closed(),
            Inner::Streams(streams) => streams.is_closed(),
            Inner::Tunnel(tunnel) => tunnel.line.is_closed() || tunnel.streams.is_closed(),
        }
    }
}

#[cfg(test)]
mod tests;
