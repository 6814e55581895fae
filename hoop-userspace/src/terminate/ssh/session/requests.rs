//! What a client asks for on a channel, and what becomes of it.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use super::paths::{place, unclear};
use super::scp::Scp;
use super::sftp::Sftp;
use super::{REFUSED, Said, Session, State, broken_client};
use crate::decide::Refusal;
use crate::ids::ResourceName;
use crate::terminate::{
    Asked, Event, FileAction, FilesAsked, Printed, Request, SessionError, SqlText, SshAsked,
    Undecidable, Unit,
};
use crate::wire::ssh::channel::Message;
use crate::wire::ssh::scp::{self, Command};

/// Variables and the terminal together; a client sends a few hundred bytes.
const MAX_PREPARED: usize = 64 << 10;

impl Session {
    /// Before anything runs: preparations are collected, and go with the request that they are for.
    pub(super) fn prepare(&mut self, message: Message) -> Result<(), SessionError> {
        let asked = match &message {
            Message::Pty(_) | Message::Env { .. } | Message::Resize(_) => {
                self.terminal |= matches!(message, Message::Pty(_));
                message.put(&mut self.prepared);
                if self.prepared.len() > MAX_PREPARED {
                    let what = "more is set than any command needs";
                    return Err(SessionError::ClientProtocol(what.into()));
                }
                return Ok(());
            }
            Message::Exec(command) => {
                self.printed = match self.terminal {
                    true => Printed::Terminal,
                    false => printed(command),
                };
                exec(command, self.terminal)
            }
            Message::Shell => {
                if self.terminal {
                    self.printed = Printed::Terminal;
                }
                Asked::Ssh(SshAsked::Shell)
            }
            Message::Subsystem(name) if &**name == b"sftp" && self.terminal => {
                Asked::Undecidable(on_terminal("SFTP"))
            }
            // Its requests are decided; that it starts is no question.
            Message::Subsystem(name) if &**name == b"sftp" => Asked::Control,
            Message::Subsystem(name) => match std::str::from_utf8(name) {
                Ok(name) => {
                    self.printed = Printed::Framed;
                    Asked::Ssh(SshAsked::Subsystem(name.into()))
                }
                Err(_) => Asked::Undecidable(Undecidable::NotUtf8),
            },
            // Input for nothing, or a signal to nothing.
            _ => return Ok(()),
        };
        let mut wire = std::mem::take(&mut self.prepared);
        message.put(&mut wire);
        let request = self.request(wire.freeze(), asked);
        self.events.push_back(Event::Request(request));
        self.state = State::Deciding;
        Ok(())
    }

    pub(super) fn connect_request(
        &mut self,
        host: &str,
        port: u32,
        governed: Option<ResourceName>,
    ) -> Request {
        let message = Message::Connect {
            host: Bytes::copy_from_slice(host.as_bytes()),
            port,
        };
        let asked = match u16::try_from(port) {
            Ok(port) => Asked::Ssh(SshAsked::Connect {
                host: host.into(),
                port,
                governed,
            }),
            Err(_) => {
                let what = format!("a connection to port {port}");
                Asked::Undecidable(Undecidable::UnknownOperation(what))
            }
        };
        self.request(message.to_bytes(), asked)
    }

    fn request(&mut self, wire: Bytes, asked: Asked) -> Request {
        let end = wire.len();
        Request {
            exchange: self.next_exchange(),
            wire,
            units: smallvec![Unit { end, asked }],
        }
    }

    /// Starts what was permitted, or passes on one more request of SFTP.
    pub(super) fn run(&mut self, mut wire: Bytes) -> Result<(), SessionError> {
        self.granted = self.last;
        while let Some(message) = Message::take(&mut wire).map_err(broken_client)? {
            match (&mut self.state, &message) {
                (State::Sftp(sftp), Message::SftpRequest(packet)) => {
                    sftp.forwarded(packet, self.last);
                    sftp.decided();
                }
                (_, Message::Connect { host, port }) => {
                    self.connect(host, *port);
                    continue;
                }
                (_, Message::Subsystem(name)) if &**name == b"sftp" => {
                    self.start();
                    self.state = State::Sftp(Box::new(Sftp::begun_by(self.last)));
                }
                (State::Scp(Scp::Sink(scp)), Message::Input(_)) => scp.permitted(self.last),
                (_, Message::Exec(command)) => {
                    self.start();
                    let text = std::str::from_utf8(command).ok();
                    self.state = match text.and_then(scp::command) {
                        Some(command) => State::Scp(Scp::of(&command, self.last)),
                        None => State::Running,
                    };
                }
                (_, Message::Shell | Message::Subsystem(_)) => {
                    self.start();
                    self.state = State::Running;
                }
                _ => {}
            }
            self.server.push(message);
        }
        Ok(())
    }

    fn start(&mut self) {
        let upstream = self.upstream.clone();
        self.said = Said::Opening(Box::pin(async move { upstream.open_session().await }));
    }

    fn connect(&mut self, host: &Bytes, port: u32) {
        let upstream = self.upstream.clone();
        let host = String::from_utf8_lossy(host).into_owned();
        let reply = self.closing.take();
        self.state = State::Running;
        self.said = Said::Opening(Box::pin(async move {
            let opened = upstream.connect(host, port).await;
            match (reply, &opened) {
                (Some(reply), Ok(_)) => reply.accept().await,
                (Some(reply), Err(_)) => {
                    reply.reject(russh::ChannelOpenFailure::ConnectFailed).await;
                }
                (None, _) => {}
            }
            opened
        }));
    }

    /// Says a refusal where the client will show it.
    pub(super) fn say_refusal(&mut self, refusal: &Refusal) {
        let text = words(refusal, self.terminal);
        if let State::Sftp(sftp) = &mut self.state {
            let status = sftp.refused(refusal);
            self.client.push(Message::ErrorOutput(text));
            self.client.push(Message::SftpReply(status));
            return;
        }
        if let State::Scp(Scp::Sink(scp)) = &mut self.state {
            let answer = scp.refused(refusal);
            self.client.push(Message::ErrorOutput(text));
            self.client.push(Message::Output(answer));
            return;
        }
        self.events
            .retain(|event| !matches!(event, Event::Bulk(..)));
        self.state = State::Refused;
        // A connection that was not accepted has no channel: dropping the handle says no.
        if self.closing.take().is_some() {
            return;
        }
        self.client.push(Message::ErrorOutput(text));
        self.client.push(Message::OutputEnd);
        self.client.push(Message::Exit(REFUSED));
        self.client.push(Message::Closed);
    }
}

/// A refusal for people and for programs.
pub(super) fn words(refusal: &Refusal, terminal: bool) -> Bytes {
    // A terminal in raw mode does not go back to the first column by itself.
    let end = if terminal { "\r\n" } else { "\n" };
    let (message, hint, line) = (&refusal.message, &refusal.hint, refusal.json_line());
    Bytes::from(format!("hoop: {message}{end}hoop: {hint}{end}{line}{end}"))
}

/// A terminal edits its lines: the server's program would read other bytes than were decided.
fn on_terminal(what: &str) -> Undecidable {
    Undecidable::UnknownOperation(format!("{what} on a terminal"))
}

/// Programs whose output is a protocol: another length would break it.
fn printed(command: &[u8]) -> Printed {
    let first = command.split(|b| b.is_ascii_whitespace()).next();
    let name = first.and_then(|word| word.rsplit(|b| *b == b'/').next());
    match name.unwrap_or_default() {
        b"scp"
        | b"rsync"
        | b"sftp-server"
        | b"git-upload-pack"
        | b"git-receive-pack"
        | b"git-upload-archive"
        | b"git" => Printed::Framed,
        _ => Printed::Text,
    }
}

/// What a command asks for: scp's is about files.
pub(in crate::terminate::ssh) fn exec(command: &Bytes, terminal: bool) -> Asked {
    let Ok(text) = std::str::from_utf8(command) else {
        return Asked::Undecidable(Undecidable::NotUtf8);
    };
    let (action, paths) = match scp::command(text) {
        Some(_) if terminal => return Asked::Undecidable(on_terminal("scp")),
        Some(Command::Source(paths)) => (FileAction::Read, paths),
        Some(Command::Sink { path, .. }) => (FileAction::Write, vec![path]),
        None => {
            let text = SqlText::hashed(text);
            return Asked::Ssh(SshAsked::Exec { text, terminal });
        }
    };
    let mut placed: SmallVec<[Arc<str>; 2]> = SmallVec::new();
    for path in paths {
        let whole = place(None, path);
        if let Some(why) = unclear(path, &whole) {
            return Asked::Undecidable(why);
        }
        placed.push(whole.into());
    }
    let paths = placed;
    Asked::Ssh(SshAsked::Files(FilesAsked { action, paths }))
}
