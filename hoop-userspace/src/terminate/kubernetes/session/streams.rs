//! The streams of exec, attach and port-forward, taken apart on one side and put together on the
//! other. hoop speaks with both sides what the server has chosen of what the client offered.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::upgrade::OnUpgrade;

use super::WAITING;
use super::forwards::{Forwards, Typed};
use super::half::{Half, Io};
use super::pieces::{Telling, forwarded_piece, piece, put_forwarded, put_pieces};
use crate::terminate::kubernetes::asked::KubernetesAsked;
use crate::terminate::kubernetes::head::operation;
use crate::terminate::{Bulk, End, HttpPart, PartKind, Printed, Replies, SessionError, Stopped};
use crate::wire::kubernetes::channel::negotiate::{Operation, Protocol, Transport};
use crate::wire::kubernetes::channel::{
    self, Asked, ChannelError, Event, Forward, Purpose, Side, Stream, status,
};
use crate::wire::kubernetes::forwarded::Spoken;
use crate::wire::ssh::channel::{Flow, Message, Size};

/// For the last bytes to go, and the server to close.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Which sides are listened to.
#[derive(Clone, Copy)]
pub(super) struct Listen {
    pub client: bool,
    pub server: bool,
}

/// What happened.
pub(super) enum Moved {
    Nothing,
    /// From the client.
    Typed(Bulk),
    /// From the server.
    Printed(Replies),
    ClientGone,
    /// Everything has been said to both.
    Over,
}

pub(super) struct Streams {
    protocol: Protocol,
    /// `None` for a forward.
    printed: Option<Printed>,
    client: Half,
    server: Half,
    /// What the server says of how the command ended.
    error: status::Collected,
    said: bool,
    sizes: status::Resizes,
    forwards: Forwards,
    /// What hoop says of its own to the client.
    untold: Telling,
    /// The server has ended, which the loop was told.
    finished: bool,
    /// The client was told, too: what is left is on its way.
    ending: bool,
}

impl Streams {
    pub fn new(
        protocol: Protocol,
        asked: &KubernetesAsked,
        client: OnUpgrade,
        server: OnUpgrade,
    ) -> Result<Self, String> {
        let options = &asked.options;
        let (purpose, printed) = match operation(&asked.info) {
            Some(Operation::Command) => {
                let asked = Asked {
                    stdin: options.stdin,
                    stdout: options.stdout,
                    stderr: options.stderr,
                    tty: options.tty,
                };
                let printed = match options.tty {
                    true => Printed::Terminal,
                    false if is_framed(&options.command) => Printed::Framed,
                    false => Printed::Text,
                };
                (Purpose::Command(asked), Some(printed))
            }
            Some(Operation::PortForward) => {
                let ports = options.ports.clone();
                (Purpose::PortForward { ports }, None)
            }
            None => return Err("the request asked for no streams".into()),
        };
        Ok(Self {
            protocol,
            printed,
            client: Half::new(Side::Client, client, protocol, &purpose),
            server: Half::new(Side::Server, server, protocol, &purpose),
            error: status::Collected::default(),
            said: false,
            sizes: status::Resizes::default(),
            forwards: Forwards::default(),
            untold: Telling::default(),
            finished: false,
            ending: false,
        })
    }

    /// Drives both sides until something is to be told. Cancel-safe.
    pub async fn next(&mut self, listen: Listen) -> Result<Moved, SessionError> {
        if self.ending && self.client.is_quiet() {
            return Ok(Moved::Over);
        }
        let hears = listen.client && !self.finished;
        loop {
            if listen.server && !self.untold.is_empty() {
                return Ok(Moved::Printed(std::mem::take(&mut self.untold).replies()));
            }
            let moved = if hears && std::mem::take(&mut self.client.stirred) {
                self.heard_client()?
            } else if listen.server && std::mem::take(&mut self.server.stirred) {
                self.heard_server()?
            } else {
                break;
            };
            if !matches!(moved, Moved::Nothing) {
                return Ok(moved);
            }
        }
        let hear_client = hears && self.server.out.len() < WAITING;
        let hear_server = listen.server && self.client.out.len() < WAITING && !self.finished;
        let (from_client, io) = tokio::select! {
            io = self.client.drive(hear_client) => (true, io),
            io = self.server.drive(hear_server) => (false, io),
        };
        match (from_client, io) {
            (true, Io::Lost) => Ok(Moved::ClientGone),
            // What it still said is there to be read.
            (false, Io::Lost) => {
                self.server.deaf = true;
                self.server.out.clear();
                Ok(Moved::Nothing)
            }
            (_, Io::Wrote) => Ok(Moved::Nothing),
            (true, Io::Read) => {
                self.client.stirred = true;
                Ok(Moved::Nothing)
            }
            (false, Io::Read) => {
                self.server.stirred = true;
                Ok(Moved::Nothing)
            }
        }
    }

    fn heard_client(&mut self) -> Result<Moved, SessionError> {
        let mut typed = BytesMut::new();
        let mut end = false;
        let mut gone = self.client.ended;
        loop {
            let next = self
                .client
                .peer
                .next(&mut self.client.input, &mut self.client.out);
            let event = match next {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) => {
                    self.client.peer.fail(&error, &mut self.client.out);
                    return Err(SessionError::ClientProtocol(error.to_string()));
                }
            };
            match event {
                Event::Opened(stream) => self.open(stream)?,
                Event::Accepted(_) => {}
                Event::Reset(stream) => {
                    if let Stream::Data(to) = stream {
                        self.forwards.over(to);
                    }
                    let out = &mut self.server.out;
                    self.server.peer.reset(stream, out).map_err(upstream)?;
                }
                Event::Closed => gone = true,
                Event::Message(message) => end |= self.typed(message, &mut typed)?,
            }
        }
        if gone {
            self.client.ended = true;
        }
        // What it typed before it went comes first.
        self.client.stirred |= gone && !typed.is_empty();
        match typed.is_empty() {
            true if gone => Ok(Moved::ClientGone),
            true => Ok(Moved::Nothing),
            false => Ok(Moved::Typed(Bulk {
                wire: typed.freeze(),
                end,
            })),
        }
    }

    /// A stream that the client opens is opened at the server; that it is there the client hears
    /// when the server has agreed.
    fn open(&mut self, stream: Stream) -> Result<(), SessionError> {
        let out = &mut self.server.out;
        self.server.stirred = true;
        self.server.peer.open(stream, out).map_err(upstream)
    }

    /// Returns whether nothing more is typed.
    fn typed(
        &mut self,
        message: channel::Message,
        typed: &mut BytesMut,
    ) -> Result<bool, SessionError> {
        let channel::Message { stream, bytes, end } = message;
        match stream {
            Stream::Stdin => {
                put_pieces(&bytes, Message::Input, typed);
                if end {
                    Message::InputEnd.put(typed);
                }
                return Ok(end);
            }
            Stream::Resize => {
                let sizes = self.sizes.push(&bytes).map_err(client)?;
                for size in sizes {
                    let size = Size {
                        columns: size.width.into(),
                        rows: size.height.into(),
                        ..Size::default()
                    };
                    Message::Resize(size).put(typed);
                }
            }
            Stream::Data(to) => match self.forwards.typed(to, &bytes, end)? {
                Typed::Nothing => {}
                Typed::Passes(bytes) => put_forwarded(Flow::In, to, &bytes, end, typed),
                Typed::Governed(spoken) => self.refuse(to, spoken)?,
            },
            Stream::PortError(to) => put_forwarded(Flow::ErrorIn, to, &bytes, end, typed),
            // It says nothing there but that it has no more to say.
            Stream::Stdout | Stream::Stderr | Stream::Error => {
                if end && bytes.is_empty() && self.server.peer.can_send(stream) {
                    let out = &mut self.server.out;
                    let message = channel::Message { stream, bytes, end };
                    self.server.peer.send(&message, out).map_err(upstream)?;
                }
            }
        }
        Ok(false)
    }

    /// What a resource governs does not go through a forwarded port, where nobody would see it. The
    /// server hears of that connection no more than that it is over.
    fn refuse(&mut self, to: Forward, spoken: Spoken) -> Result<(), SessionError> {
        for stream in [Stream::Data(to), Stream::PortError(to)] {
            let out = &mut self.server.out;
            self.server.peer.reset(stream, out).map_err(upstream)?;
        }
        let spoken = spoken.as_str();
        let why = format!(
            "hoop: no {spoken} through a forwarded port, where its commands could not be decided: \
             have the operator make the server a resource, and connect to it by its own name\n"
        );
        self.untold.forwarded(Flow::Error, to, &why.into(), true);
        self.untold.forwarded(Flow::Out, to, &Bytes::new(), true);
        Ok(())
    }

    fn heard_server(&mut self) -> Result<Moved, SessionError> {
        let mut told = Telling::default();
        let mut over = self.server.ended;
        loop {
            let next = self
                .server
                .peer
                .next(&mut self.server.input, &mut self.server.out);
            let event = match next {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) => {
                    self.server.peer.fail(&error, &mut self.server.out);
                    return Err(upstream(error));
                }
            };
            match event {
                Event::Opened(_) => {}
                Event::Accepted(stream) => {
                    let out = &mut self.client.out;
                    self.client.peer.accept(stream, out).map_err(client)?;
                }
                Event::Reset(stream) => self.cut_off(stream, &mut told)?,
                Event::Closed => over = true,
                Event::Message(message) => self.printed(message, &mut told)?,
            }
        }
        if over && !std::mem::replace(&mut self.finished, true) {
            self.server.ended = true;
            told.put(&Message::Closed, PartKind::Done);
        }
        match told.is_empty() {
            true => Ok(Moved::Nothing),
            false => Ok(Moved::Printed(told.replies())),
        }
    }

    /// The server lets go of a stream, as API servers do of all when they are done. What it said on
    /// it before may still be on its way to the client: to that it is an end like any other.
    fn cut_off(&mut self, stream: Stream, told: &mut Telling) -> Result<(), SessionError> {
        match stream {
            // Nothing more is taken there, which is seen when something is sent.
            Stream::Stdin | Stream::Resize => Ok(()),
            stream => self.printed(channel::Message::end(stream), told),
        }
    }

    fn printed(
        &mut self,
        message: channel::Message,
        told: &mut Telling,
    ) -> Result<(), SessionError> {
        let channel::Message { stream, bytes, end } = message;
        let printed = self.printed.unwrap_or(Printed::Framed);
        match stream {
            Stream::Stdout => {
                told.pieces(&bytes, Message::Output, printed);
                if end {
                    told.put(&Message::OutputEnd, PartKind::Control);
                }
            }
            Stream::Stderr => {
                // What is said there has no frames, whatever the program.
                let printed = match printed {
                    Printed::Framed => Printed::Text,
                    other => other,
                };
                told.pieces(&bytes, Message::ErrorOutput, printed);
                if end {
                    told.put(&Message::ErrorOutputEnd, PartKind::Control);
                }
            }
            Stream::Error => {
                self.error.push(&bytes).map_err(upstream)?;
                let whole = end || self.protocol.transport() == Transport::WebSocket;
                if whole && !std::mem::replace(&mut self.said, true) {
                    self.outcome(told)?;
                }
            }
            // The client has heard its end from hoop.
            Stream::Data(to) | Stream::PortError(to) if self.forwards.is_refused(to) => {}
            Stream::Data(to) => told.forwarded(Flow::Out, to, &bytes, end),
            Stream::PortError(to) => told.forwarded(Flow::Error, to, &bytes, end),
            // From a server they mean nothing but an end.
            Stream::Stdin | Stream::Resize => {}
        }
        Ok(())
    }

    /// How the command ended, as the server says it and in the way of a shell.
    fn outcome(&mut self, told: &mut Telling) -> Result<(), SessionError> {
        let said = Bytes::copy_from_slice(self.error.bytes());
        match status::outcome(self.protocol, &said).map_err(upstream)? {
            status::Outcome::Success => told.put(&Message::Exit(0), PartKind::Control),
            status::Outcome::Exit(code) => {
                told.put(&Message::Exit(code.into()), PartKind::Control);
            }
            status::Outcome::Failure { .. } | status::Outcome::Unsaid => {}
        }
        let document = Message::Document(said);
        told.put(&document, PartKind::Http(HttpPart::Document));
        Ok(())
    }

    /// Passes on what the client typed.
    pub fn tell_server(&mut self, message: Message) -> Result<(), SessionError> {
        if self.server.deaf {
            return Ok(());
        }
        let message = match message {
            Message::Input(bytes) => piece(Stream::Stdin, bytes, false),
            Message::InputEnd => piece(Stream::Stdin, Bytes::new(), true),
            Message::Resize(size) => {
                let side = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
                let size = status::Size {
                    width: side(size.columns),
                    height: side(size.rows),
                };
                piece(Stream::Resize, size.to_json(), false)
            }
            Message::Forwarded(forwarded) => forwarded_piece(forwarded),
            _ => return Ok(()),
        };
        if !self.server.peer.can_send(message.stream) {
            return Ok(());
        }
        let sent = self.server.peer.send(&message, &mut self.server.out);
        sent.map(drop).map_err(upstream)
    }

    /// Passes on what the server said, as it was let through.
    pub fn tell_client(&mut self, message: Message) -> Result<(), SessionError> {
        let message = match message {
            Message::Output(bytes) => piece(Stream::Stdout, bytes, false),
            Message::ErrorOutput(bytes) => piece(Stream::Stderr, bytes, false),
            Message::OutputEnd => piece(Stream::Stdout, Bytes::new(), true),
            Message::ErrorOutputEnd => piece(Stream::Stderr, Bytes::new(), true),
            Message::Document(said) => piece(Stream::Error, said, true),
            Message::Forwarded(forwarded) => forwarded_piece(forwarded),
            Message::Closed => {
                self.client.peer.close(&mut self.client.out);
                self.ending = true;
                return Ok(());
            }
            _ => return Ok(()),
        };
        // It may have let go of the stream, or heard its end.
        if !self.client.peer.can_send(message.stream) {
            return Ok(());
        }
        let sent = self.client.peer.send(&message, &mut self.client.out);
        sent.map(drop).map_err(client)
    }

    /// Ends both sides. The client hears why where it is no ordinary end.
    pub async fn stop(mut self: Box<Self>, why: &End) -> Stopped {
        let was_over = self.finished;
        if *why != End::Finished && !self.ending {
            self.say(why);
        }
        if !self.ending {
            self.client.peer.close(&mut self.client.out);
        }
        self.server.peer.close(&mut self.server.out);
        let (client, server) = (&mut self.client, &mut self.server);
        let told = tokio::time::timeout(LAST_WORDS, client.leave());
        let ended = tokio::time::timeout(LAST_WORDS, server.leave());
        let (_, ended) = tokio::join!(told, ended);
        match (was_over, ended) {
            (true, _) => Stopped::Idle,
            (false, Ok(())) => Stopped::Cancelled,
            (false, Err(_)) => Stopped::Unknown,
        }
    }

    fn say(&mut self, why: &End) {
        let (code, words) = super::last_words(why);
        if self.printed.is_none() || self.said {
            return;
        }
        let words = format!("hoop: {words}");
        let status = status::failed(code.as_u16(), "Forbidden", &words, &[]);
        let message = piece(Stream::Error, status, true);
        // A stream that the client never opened has no place for it.
        let _ = self.client.peer.send(&message, &mut self.client.out);
    }
}

/// Whether a command prints something whose lengths count: `kubectl cp` runs tar.
fn is_framed(command: &[String]) -> bool {
    const FRAMED: [&str; 6] = [
        "tar",
        "rsync",
        "git-upload-pack",
        "git-receive-pack",
        "sftp-server",
        "scp",
    ];
    let program = command.first().and_then(|path| path.rsplit('/').next());
    program.is_some_and(|program| FRAMED.contains(&program))
}

fn client(error: ChannelError) -> SessionError {
    SessionError::ClientProtocol(error.to_string())
}

fn upstream(error: ChannelError) -> SessionError {
    SessionError::UpstreamProtocol(error.to_string())
}
