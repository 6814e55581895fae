//! One channel of a connection: a command, a shell, SFTP or a forwarded connection.
//!
//! A command is one exchange: what is typed is [`Bulk`] of it, what it prints are its replies. With
//! SFTP every request that names a file is an exchange of its own ([`sftp`]).

mod flow;
mod out;
mod paths;
mod requests;
mod scp;
mod sftp;
mod stop;
#[cfg(test)]
mod tests;

pub(super) use paths::{named, placed};
pub(super) use requests::exec;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use russh::server::ChannelOpenHandle;
use tokio::time::Sleep;

use super::front::Opening;
use super::pipe::Outlet;
use super::upstream::Upstream;
use crate::decide::{Permitted, Refusal};
use crate::ids::ExchangeId;
use crate::mask::Masked;
use crate::record::Recorded;
use crate::terminate::{
    Bulk, ClientGate, End, Event, Gate, Grant, Part, PartKind, Printed, Protocol, Replies,
    SessionError, Side, Stopped,
};
use crate::wire::ssh::Malformed;
use crate::wire::ssh::channel::Message;

use out::Out;
pub(super) use out::signal_name;
pub use out::{Lost, ToClient, ToServer};
use scp::Scp;
use sftp::Sftp;

/// Messages that are taken at once.
const BATCH: usize = 64;
/// While more than this waits to be sent to one side, nothing is taken from the other.
const WAITING: usize = 1 << 20;
/// What a command has to end once its client has closed the channel, after both have said all.
const ENDING: Duration = Duration::from_secs(10);
/// How long the client may not know that the output has ended while it may still send input: it could
/// wait for that before it ends its own.
const HALF_OPEN: Duration = Duration::from_secs(1);
/// How a command that was refused ends: as a shell ends that may not run it.
const REFUSED: u32 = 126;
/// As OpenSSH's client ends for reasons of its own.
const ENDED: u32 = 255;

/// A channel that the client has opened.
pub struct Session {
    upstream: Arc<Upstream>,
    client: Out<ToClient>,
    heard: Outlet,
    server: Out<ToServer>,
    said: Said,
    state: State,
    /// Requests that only prepare: the terminal, variables.
    prepared: BytesMut,
    terminal: bool,
    /// What its output is.
    printed: Printed,
    /// The last request, and the last of those that were permitted.
    last: ExchangeId,
    granted: ExchangeId,
    /// For the events that follow from what was taken already.
    events: std::collections::VecDeque<Event>,
    /// Of a forwarded connection that was not accepted yet.
    closing: Option<ChannelOpenHandle>,
    /// It has neither standard error nor an exit status.
    forwards: bool,
    client_gone: bool,
    /// What came in one piece with the request that is being decided.
    early: Vec<Message>,
    input_ended: bool,
    output_ended: bool,
    /// The output has ended, and the client is not told before it is told how the command ended: some
    /// close the channel then, and on a closed channel russh says nothing more.
    end_held: Option<Pin<Box<Sleep>>>,
    /// The client was told how the command ended.
    told: bool,
    /// The client has closed the channel, and waits only to hear how it ended.
    leaving: Option<Pin<Box<Sleep>>>,
}

enum State {
    /// The client has yet to say what the channel is for.
    AwaitingRequest,
    /// It said so, and the loop decides.
    Deciding,
    Running,
    Sftp(Box<Sftp>),
    Scp(Scp),
    /// Answered by hoop: what the client still sends means nothing.
    Refused,
    /// The server has closed the channel; what it said is on its way to the client.
    Over,
}

/// The server's side of the channel.
enum Said {
    NotOpen,
    Opening(Opened),
    Open(Outlet),
    Gone,
}

type Opened = Pin<Box<dyn Future<Output = Result<(ToServer, Outlet), russh::Error>> + Send>>;

impl Session {
    pub(super) fn new(opening: Opening, upstream: Arc<Upstream>) -> Self {
        let (client, heard, connect) = match opening {
            Opening::Session { client, heard } => (client, heard, None),
            Opening::Connect {
                host,
                port,
                governed,
                client,
                heard,
                reply,
            } => (client, heard, Some((host, port, governed, reply))),
        };
        let input = heard.share();
        let mut session = Self {
            upstream,
            client: Out::new(Some(Arc::new(client)), None),
            heard,
            server: Out::new(None, Some(input)),
            said: Said::NotOpen,
            state: State::AwaitingRequest,
            prepared: BytesMut::new(),
            terminal: false,
            printed: Printed::Text,
            last: ExchangeId(0),
            granted: ExchangeId(0),
            events: std::collections::VecDeque::new(),
            closing: None,
            forwards: false,
            client_gone: false,
            early: Vec::new(),
            input_ended: false,
            output_ended: false,
            end_held: None,
            told: false,
            leaving: None,
        };
        if let Some((host, port, governed, reply)) = connect {
            session.closing = Some(reply);
            session.forwards = true;
            session.printed = Printed::Framed;
            let request = session.connect_request(&host, port, governed);
            session.events.push_back(Event::Request(request));
            session.state = State::Deciding;
        }
        session
    }

    fn next_exchange(&mut self) -> ExchangeId {
        self.last = ExchangeId(self.last.0 + 1);
        self.last
    }

    /// From the client: what it means depends on what runs.
    fn take_from_client(&mut self, messages: Vec<Message>) -> Result<(), SessionError> {
        if messages.is_empty() {
            // The connection is gone.
            self.client_gone = true;
            self.events.push_back(Event::HalfClosed(Side::Client));
        }
        let mut bulk = BytesMut::new();
        let end = messages.contains(&Message::InputEnd);
        self.input_ended |= end;
        for message in messages {
            match (&mut self.state, message) {
                (_, Message::Closed) => {
                    self.flush_bulk(&mut bulk, end);
                    self.closed();
                }
                (State::AwaitingRequest, message) => self.prepare(message)?,
                // What it belongs to, and so what it means, is not known before the decision.
                (State::Deciding, message) => self.early.push(message),
                (State::Refused | State::Over, _) => {}
                (State::Sftp(sftp), Message::Input(bytes)) => {
                    sftp.take_from_client(&bytes).map_err(broken_client)?;
                }
                (State::Sftp(sftp), Message::InputEnd) => sftp.end_of_input(),
                (State::Scp(Scp::Sink(scp)), Message::Input(bytes)) => scp.take_from_client(&bytes),
                (State::Scp(Scp::Sink(scp)), Message::InputEnd) => scp.end_of_input(),
                (State::Sftp(_) | State::Scp(Scp::Sink(_)), _) => {}
                // A second request on the channel would be one that nobody decided.
                (State::Running | State::Scp(Scp::Source(_)), message) => {
                    if belongs(&message) {
                        message.put(&mut bulk);
                    }
                }
            }
        }
        self.flush_bulk(&mut bulk, end);
        self.file_events()
    }

    /// The client closes the channel. Once both sides have said all, it does so before it has heard
    /// how the command ended, which it still waits for: from the server, or in what is on its way.
    fn closed(&mut self) {
        let ends = self.runs() || matches!(self.state, State::Over);
        if self.input_ended && self.output_ended && ends {
            self.leaving = Some(Box::pin(tokio::time::sleep(ENDING)));
        } else {
            self.client_gone = true;
            self.events.push_back(Event::HalfClosed(Side::Client));
        }
    }

    /// What came with a request that is decided by now.
    fn take_early(&mut self) -> Result<(), SessionError> {
        match self.early.is_empty() || matches!(self.state, State::Deciding) {
            true => Ok(()),
            false => {
                let early = std::mem::take(&mut self.early);
                self.take_from_client(early)
            }
        }
    }

    fn flush_bulk(&mut self, bulk: &mut BytesMut, end: bool) {
        if !bulk.is_empty() {
            let wire = bulk.split().freeze();
            self.events
                .push_back(Event::Bulk(self.last, Bulk { wire, end }));
        }
    }

    /// From the server: a batch of replies.
    fn take_from_server(&mut self, messages: Vec<Message>) -> Result<(), SessionError> {
        if messages.is_empty() {
            self.said = Said::Gone;
            self.events.push_back(Event::HalfClosed(Side::Upstream));
            return Ok(());
        }
        let mut wire = BytesMut::new();
        let mut parts = Vec::new();
        let mut told = std::collections::VecDeque::new();
        for message in messages {
            let over = message == Message::Closed;
            if let State::Sftp(sftp) = &mut self.state {
                if let Message::Output(bytes) = &message {
                    sftp.take_from_server(bytes);
                    continue;
                }
                // Packets before what follows them.
                sftp.replies(&mut self.events).map_err(broken_server)?;
                if over {
                    sftp.end(&mut self.events);
                }
            }
            match (&mut self.state, &message) {
                (State::Scp(Scp::Source(scp)), Message::Output(bytes)) => {
                    scp.take_from_server(bytes, &mut told);
                }
                (State::Scp(Scp::Source(scp)), Message::Closed) => scp.end(false, &mut told),
                (State::Scp(Scp::Sink(scp)), Message::Output(bytes)) => {
                    scp.take_from_server(bytes).map_err(broken_server)?;
                }
                (State::Scp(Scp::Sink(scp)), Message::Closed) => scp.complete(false, &mut told),
                _ => {}
            }
            if over {
                self.state = State::Over;
                self.said = Said::Gone;
            }
            let kind = match &message {
                Message::Output(_) => PartKind::Output(self.printed),
                Message::ErrorOutput(_) if self.printed == Printed::Framed => {
                    PartKind::Output(Printed::Text)
                }
                Message::ErrorOutput(_) => PartKind::Output(self.printed),
                _ if over => PartKind::Done,
                _ => PartKind::Control,
            };
            message.put(&mut wire);
            push(&mut parts, self.last, wire.len(), kind);
        }
        if let State::Scp(Scp::Sink(scp)) = &self.state {
            parts.push(Part {
                exchange: scp.over(),
                unit: 0,
                end: wire.len(),
                kind: PartKind::Done,
            });
        }
        if !parts.is_empty() {
            let wire = wire.freeze();
            self.events
                .push_back(Event::Replies(Replies { wire, parts }));
        }
        self.events.append(&mut told);
        self.file_events()
    }

    /// What SFTP's packets, or scp's records, have come to, in their order.
    fn file_events(&mut self) -> Result<(), SessionError> {
        if let State::Scp(Scp::Sink(scp)) = &mut self.state {
            let requests = scp.requests(&mut self.last, &mut self.events);
            return requests.map_err(broken_client);
        }
        let State::Sftp(sftp) = &mut self.state else {
            return Ok(());
        };
        sftp.replies(&mut self.events).map_err(broken_server)?;
        sftp.requests(&mut self.last, &mut self.events)
            .map_err(broken_client)
    }

    /// The server has opened the channel.
    fn opened(&mut self, opened: Result<(ToServer, Outlet), russh::Error>) {
        match opened {
            Ok((server, said)) => {
                self.client.count_with(said.share());
                self.server.open(Arc::new(server));
                self.said = Said::Open(said);
            }
            Err(error) => self.not_opened(&error),
        }
    }

    fn not_opened(&mut self, error: &russh::Error) {
        self.said = Said::Gone;
        self.server.clear();
        // A connection that the server cannot make was not accepted: nobody is there to be told.
        if !self.forwards {
            self.tell_end(&format!("the server does not open a channel: {error}"));
        }
        self.state = State::Over;
    }

    /// The last that the client hears on this channel.
    fn tell_end(&mut self, words: &str) {
        if !self.forwards {
            let text = format!("hoop: {words}\r\n");
            self.client.push(Message::ErrorOutput(Bytes::from(text)));
            self.client.push(Message::Exit(ENDED));
        }
        self.client.push(Message::Closed);
    }

    fn send_to_client(&mut self, mut wire: Bytes) -> Result<(), SessionError> {
        while let Some(message) = Message::take(&mut wire).map_err(broken_server)? {
            match message {
                Message::Failed => {
                    self.tell_end("the server does not run this");
                    self.server.push(Message::Closed);
                }
                Message::OutputEnd if !self.told && !self.forwards => {
                    let most = if self.input_ended { ENDING } else { HALF_OPEN };
                    self.end_held = Some(Box::pin(tokio::time::sleep(most)));
                }
                Message::OutputEnd => self.end_output(),
                Message::Exit(_) | Message::ExitSignal { .. } => {
                    self.client.push(message);
                    self.told = true;
                    self.release_end();
                }
                message => {
                    if message == Message::Closed {
                        self.release_end();
                    }
                    self.client.push(message);
                }
            }
        }
        Ok(())
    }

    fn release_end(&mut self) {
        if self.end_held.take().is_some() {
            self.end_output();
        }
    }

    fn end_output(&mut self) {
        self.output_ended = true;
        self.client.push(Message::OutputEnd);
    }
}

/// What goes with a command that runs, and asks for nothing by itself.
fn belongs(message: &Message) -> bool {
    matches!(
        message,
        Message::Input(_) | Message::InputEnd | Message::Signal(_) | Message::Resize(_)
    )
}

fn push(parts: &mut Vec<Part>, exchange: ExchangeId, end: usize, kind: PartKind) {
    if let (Some(last), PartKind::Output(printed)) = (parts.last_mut(), &kind)
        && matches!(&last.kind, PartKind::Output(before) if before == printed)
    {
        last.end = end;
        return;
    }
    parts.push(Part {
        exchange,
        unit: 0,
        end,
        kind,
    });
}

fn broken_client(error: Malformed) -> SessionError {
    SessionError::ClientProtocol(error.to_string())
}

fn broken_server(error: Malformed) -> SessionError {
    SessionError::UpstreamProtocol(error.to_string())
}

impl Protocol for Session {
    async fn next(&mut self, gate: Gate) -> Result<Event, SessionError> {
        loop {
            self.take_early()?;
            if let Some(event) = self.next_event(gate) {
                return Ok(event);
            }
            // What a decision had held back.
            self.file_events()?;
            if let Some(event) = self.next_event(gate) {
                return Ok(event);
            }
            let done = matches!(self.state, State::Over | State::Refused);
            let listen = self.listen(gate);
            // What a terminal shows is kept whole, and a frame of the recording has a bound.
            let batch = if self.terminal { 1 } else { BATCH };
            let listens = gate.upstream && self.client.queued() < WAITING;
            let step = tokio::select! {
                sent = self.client.drive(WAITING), if !(done && self.client.is_idle()) => {
                    sent.map_err(client_lost)?;
                    continue;
                }
                // All that there was to say has been said.
                () = std::future::ready(()), if done && self.client.is_idle() => {
                    return Ok(Event::Closed);
                }
                sent = self.server.drive(WAITING), if self.server.is_open() => match sent {
                    Ok(()) => continue,
                    Err(_) => Step::ServerLost,
                },
                () = left(&mut self.leaving) => Step::Left,
                () = left(&mut self.end_held) => Step::NoStatus,
                step = saying(&mut self.said, listens, batch) => step,
                heard = hearing(&mut self.heard, listen) => Step::Heard(heard),
            };
            match step {
                // What the server still said is there to be read.
                Step::ServerLost => self.server.close(),
                Step::Opened(opened) => self.opened(opened),
                Step::NoStatus => self.release_end(),
                Step::Left => {
                    self.leaving = None;
                    self.client_gone = true;
                    return Ok(Event::HalfClosed(Side::Client));
                }
                Step::Said(said) => self.take_from_server(said)?,
                Step::Heard(heard) => self.take_from_client(heard)?,
            }
        }
    }

    fn forward(&mut self, request: Recorded<Permitted>) -> Result<Grant, SessionError> {
        let permitted = request.into_inner();
        let exchange = permitted.exchange();
        self.run(permitted.wire().clone())?;
        Ok(Grant::new(exchange))
    }

    fn more(&mut self, _grant: &mut Grant, bulk: Bulk) -> Result<(), SessionError> {
        let mut wire = bulk.wire;
        while let Some(message) = Message::take(&mut wire).map_err(broken_client)? {
            if let (State::Sftp(sftp), Message::SftpRequest(packet)) = (&mut self.state, &message) {
                sftp.forwarded(packet, self.granted);
            }
            if belongs(&message) || matches!(message, Message::SftpRequest(_)) {
                self.server.push(message);
            }
        }
        Ok(())
    }

    fn reply(&mut self, reply: Recorded<Masked>) -> Result<(), SessionError> {
        self.send_to_client(reply.into_inner().wire().clone())
    }

    fn refuse(&mut self, refusal: Recorded<Refusal>) -> Result<(), SessionError> {
        self.say_refusal(refusal.get());
        Ok(())
    }

    fn notify(&mut self, _exchange: ExchangeId, notice: &str) -> bool {
        // SFTP has no place for what is no answer; its clients show standard error, though. A
        // connection that is not accepted yet has no channel to say it on.
        if !self.forwards {
            let end = if self.terminal { "\r\n" } else { "\n" };
            let text = format!("hoop: {notice}{end}");
            self.client.push(Message::ErrorOutput(Bytes::from(text)));
        }
        true
    }

    fn in_transaction(&self) -> bool {
        false
    }

    fn cancel(&mut self) {
        self.server
            .push(Message::Signal(Bytes::from_static(b"TERM")));
    }

    async fn stop(self, why: &End) -> Stopped {
        self.end(why).await
    }
}

enum Step {
    ServerLost,
    /// What the client waits for may be that the output has ended.
    NoStatus,
    Left,
    Opened(Result<(ToServer, Outlet), russh::Error>),
    Said(Vec<Message>),
    Heard(Vec<Message>),
}

impl Session {
    fn next_event(&mut self, gate: Gate) -> Option<Event> {
        let open = gate.client == ClientGate::Open;
        let passes = |event: &Event| match event {
            Event::Request(_) | Event::Bulk(..) => open,
            Event::Replies(_) => gate.upstream,
            _ => true,
        };
        let at = self.events.iter().position(passes)?;
        self.events.remove(at)
    }

    /// What is taken from the client: nothing while what came waits for the loop or the server.
    fn listen(&self, gate: Gate) -> Listen {
        let busy = match &self.state {
            State::Sftp(sftp) => sftp.is_busy(),
            State::Scp(Scp::Sink(scp)) => scp.is_busy(),
            State::Deciding => true,
            _ => false,
        };
        match gate.client {
            _ if self.leaving.is_some() => Listen::Nothing,
            ClientGate::ControlOnly => Listen::HangUp,
            ClientGate::Open if busy || self.server.queued() >= WAITING => Listen::Nothing,
            ClientGate::Open => Listen::All,
        }
    }
}

#[derive(Clone, Copy)]
enum Listen {
    All,
    HangUp,
    Nothing,
}

async fn hearing(heard: &mut Outlet, listen: Listen) -> Vec<Message> {
    match listen {
        Listen::All => heard.take(BATCH).await,
        Listen::HangUp => {
            heard.gone().await;
            Vec::new()
        }
        Listen::Nothing => std::future::pending().await,
    }
}

fn client_lost(_: Lost) -> SessionError {
    SessionError::ClientIo(std::io::ErrorKind::ConnectionReset.into())
}

async fn left(leaving: &mut Option<Pin<Box<Sleep>>>) {
    match leaving {
        Some(leaving) => leaving.as_mut().await,
        None => std::future::pending().await,
    }
}

/// What the server does next: opens the channel, or says something if it is listened to.
async fn saying(said: &mut Said, listen: bool, batch: usize) -> Step {
    match said {
        Said::Opening(opened) => Step::Opened(opened.as_mut().await),
        Said::Open(outlet) if listen => Step::Said(outlet.take(batch).await),
        _ => std::future::pending().await,
    }
}
