//! SPDY streams as Kubernetes opens and closes them.
//!
//! The client opens each stream by SYN_STREAM, whose headers say what it is, and waits for SYN_REPLY
//! before it opens the next; the real server drops what comes before its reply. FIN ends one
//! direction, RST_STREAM both; who closes the connection resets what is open and says GOAWAY.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};

use super::super::spdy::{self, Decoder, Encoder, Frame, Headers, StreamId, SynStream, status};
use super::negotiate::Protocol;
use super::{ChannelError, Event, Forward, MAX_STREAMS, Message, Purpose, Sent, Side, Stream};

/// In lower case, as SPDY wants names; Kubernetes writes `streamType` and `requestID`.
const STREAM_TYPE: &str = "streamtype";
const PORT: &str = "port";
const REQUEST_ID: &str = "requestid";
/// client-go counts; this is room for other clients' ways.
const MAX_REQUEST_ID: usize = 64;

pub(super) struct Streams {
    side: Side,
    decoder: Decoder,
    encoder: Encoder,
    /// What exec or attach may open; `None` for port-forward.
    asked: Option<BTreeSet<Stream>>,
    open: BTreeMap<u32, Entry>,
    numbers: BTreeMap<Stream, u32>,
    /// The last stream that the client opened.
    last: u32,
    /// Connections of which one of two streams has been opened.
    halves: BTreeMap<Bytes, Half>,
    /// Connections so far.
    forwards: u32,
    events: VecDeque<Event>,
    closed: bool,
    said_goodbye: bool,
}

struct Entry {
    stream: Stream,
    accepted: bool,
    /// The other end sends nothing more.
    ended: bool,
    /// Nothing more is sent to it.
    we_ended: bool,
}

struct Half {
    forward: Forward,
    is_data: bool,
}

impl Streams {
    pub(super) fn new(side: Side, protocol: Protocol, purpose: &Purpose) -> Self {
        let asked = match purpose {
            Purpose::Command(asked) => Some(asked.streams(protocol).into_iter().collect()),
            Purpose::PortForward { .. } => None,
        };
        Self {
            side,
            decoder: Decoder::default(),
            encoder: Encoder::default(),
            asked,
            open: BTreeMap::new(),
            numbers: BTreeMap::new(),
            last: 0,
            halves: BTreeMap::new(),
            forwards: 0,
            events: VecDeque::new(),
            closed: false,
            said_goodbye: false,
        }
    }

    pub(super) fn next(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<Option<Event>, ChannelError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if self.closed {
                input.clear();
                return Ok(None);
            }
            let Some(frame) = self.decoder.next(input)? else {
                return Ok(None);
            };
            self.take(frame, out)?;
        }
    }

    fn take(&mut self, frame: Frame, out: &mut BytesMut) -> Result<(), ChannelError> {
        match frame {
            Frame::SynStream(syn) => self.opened(syn, out)?,
            Frame::SynReply { id, fin, .. } => self.replied(id, fin)?,
            Frame::Data { id, fin, bytes } => self.data(id, fin, bytes)?,
            Frame::RstStream { id, .. } => match self.remove(id.get()) {
                Some(entry) => self.events.push_back(Event::Reset(entry.stream)),
                None => self.was_open(id)?,
            },
            // An answer to a ping of hoop's own cannot be: it sends none.
            Frame::Ping(number) if (number % 2 == 1) == (self.side == Side::Client) => {
                self.encoder.put(&Frame::Ping(number), out)?;
            }
            Frame::Ping(_) | Frame::Settings { .. } | Frame::WindowUpdate { .. } => {}
            Frame::Headers { .. } => {
                return Err(ChannelError::Unexpected("headers after a stream has begun"));
            }
            Frame::GoAway { .. } => {
                self.closed = true;
                self.events.push_back(Event::Closed);
            }
        }
        Ok(())
    }

    fn opened(&mut self, syn: SynStream, out: &mut BytesMut) -> Result<(), ChannelError> {
        if self.side == Side::Server {
            return Err(ChannelError::Unexpected("a stream that the server opens"));
        }
        if syn.unidirectional || syn.associated != 0 {
            let what = "a stream that goes one way or belongs to another";
            return Err(ChannelError::Unexpected(what));
        }
        // Section 2.3.2: odd, and always larger than the last.
        let number = syn.id.get();
        if !syn.id.is_clients() || number <= self.last {
            return Err(ChannelError::UnknownStream(number));
        }
        self.last = number;
        if self.open.len() >= MAX_STREAMS || self.halves.len() >= MAX_STREAMS {
            let (id, status) = (syn.id, status::REFUSED_STREAM);
            self.encoder.put(&Frame::RstStream { id, status }, out)?;
            return Ok(());
        }
        let stream = self.identify(&syn)?;
        self.insert(number, stream, syn.fin);
        self.events.push_back(Event::Opened(stream));
        if syn.fin {
            self.events.push_back(Event::Message(Message::end(stream)));
        }
        Ok(())
    }

    fn insert(&mut self, number: u32, stream: Stream, ended: bool) {
        let entry = Entry {
            stream,
            accepted: false,
            ended,
            we_ended: false,
        };
        self.open.insert(number, entry);
        self.numbers.insert(stream, number);
    }

    /// What the stream is for, by its headers, and whether it may be.
    fn identify(&mut self, syn: &SynStream) -> Result<Stream, ChannelError> {
        let kind = value(&syn.headers, STREAM_TYPE)?;
        let kind = kind.ok_or(ChannelError::Headers("there is no stream type"))?;
        let Some(asked) = &mut self.asked else {
            return self.identify_forward(syn, &kind);
        };
        let stream = match kind.as_ref() {
            b"error" => Stream::Error,
            b"stdin" => Stream::Stdin,
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            b"resize" => Stream::Resize,
            _ => return Err(ChannelError::Headers("the stream type is unknown")),
        };
        // Each once in the life of a session: the server would use the last one.
        match (asked.remove(&stream), self.numbers.contains_key(&stream)) {
            (true, _) => Ok(stream),
            (false, true) => Err(ChannelError::Twice(stream)),
            (false, false) => Err(ChannelError::NotAsked(stream)),
        }
    }

    fn identify_forward(&mut self, syn: &SynStream, kind: &Bytes) -> Result<Stream, ChannelError> {
        let is_data = match kind.as_ref() {
            b"data" => true,
            b"error" => false,
            _ => return Err(ChannelError::Headers("the stream type is unknown")),
        };
        let port = value(&syn.headers, PORT)?.and_then(|port| number(&port));
        let port = port.ok_or(ChannelError::Headers(
            "the port is no number from 1 to 65535",
        ))?;
        let request = match value(&syn.headers, REQUEST_ID)? {
            Some(request) if request.len() <= MAX_REQUEST_ID => request,
            Some(_) => return Err(ChannelError::Headers("the request's id is too long")),
            // As the server does it for clients that name none: two streams in a row, the error
            // first.
            None => {
                let back = if is_data { 2 } else { 0 };
                syn.id.get().saturating_sub(back).to_string().into()
            }
        };
        let forward = match self.halves.remove(&request) {
            None => {
                let number = self.forwards;
                self.forwards = number.wrapping_add(1);
                let forward = Forward { port, number };
                self.halves.insert(request, Half { forward, is_data });
                forward
            }
            Some(half) if half.is_data == is_data => {
                return Err(ChannelError::Twice(of(half.forward, is_data)));
            }
            Some(half) if half.forward.port != port => {
                let what = "the two streams of a connection name different ports";
                return Err(ChannelError::Headers(what));
            }
            Some(half) => half.forward,
        };
        Ok(of(forward, is_data))
    }

    fn replied(&mut self, id: StreamId, fin: bool) -> Result<(), ChannelError> {
        if self.side == Side::Client {
            return Err(ChannelError::Unexpected("a reply from the client"));
        }
        let Some(entry) = self.open.get_mut(&id.get()) else {
            return self.was_open(id);
        };
        if entry.accepted {
            return Err(ChannelError::Unexpected("a second reply for one stream"));
        }
        entry.accepted = true;
        let stream = entry.stream;
        self.events.push_back(Event::Accepted(stream));
        if fin {
            self.events.push_back(Event::Message(Message::end(stream)));
            self.peer_ended(id.get());
        }
        Ok(())
    }

    fn data(&mut self, id: StreamId, fin: bool, bytes: Bytes) -> Result<(), ChannelError> {
        let Some(entry) = self.open.get(&id.get()) else {
            // On its way when the stream was reset.
            return self.was_open(id);
        };
        let stream = entry.stream;
        if !entry.accepted {
            return Err(ChannelError::NotAccepted(stream));
        }
        if entry.ended {
            return Err(ChannelError::AfterEnd(stream));
        }
        if !bytes.is_empty() && !stream.flows_from(self.side) {
            return Err(ChannelError::Direction(stream));
        }
        if !bytes.is_empty() || fin {
            let end = fin;
            let message = Message { stream, bytes, end };
            self.events.push_back(Event::Message(message));
        }
        if fin {
            self.peer_ended(id.get());
        }
        Ok(())
    }

    fn peer_ended(&mut self, number: u32) {
        if let Some(entry) = self.open.get_mut(&number) {
            entry.ended = true;
            if entry.we_ended {
                self.remove(number);
            }
        }
    }

    fn remove(&mut self, number: u32) -> Option<Entry> {
        let entry = self.open.remove(&number)?;
        // Of exec the number stays known, so that the stream is not opened again.
        if self.asked.is_none() {
            self.numbers.remove(&entry.stream);
        }
        Some(entry)
    }

    /// What comes for a stream that is over is of no interest; one that never was is an error.
    fn was_open(&self, id: StreamId) -> Result<(), ChannelError> {
        match id.is_clients() && id.get() <= self.last {
            true => Ok(()),
            false => Err(ChannelError::UnknownStream(id.get())),
        }
    }

    pub(super) fn open(&mut self, stream: Stream, out: &mut BytesMut) -> Result<(), ChannelError> {
        if self.side == Side::Client {
            return Err(ChannelError::Unexpected("a stream that the server opens"));
        }
        if self.numbers.contains_key(&stream) {
            return Err(ChannelError::Twice(stream));
        }
        let of_command = !matches!(stream, Stream::Data(_) | Stream::PortError(_));
        let may = match &mut self.asked {
            Some(asked) => asked.remove(&stream),
            None => !of_command,
        };
        if !may {
            return Err(ChannelError::NotAsked(stream));
        }
        // 1, 3, 5 and so on; after 2^31 there is no further one.
        let next = if self.last == 0 { 1 } else { self.last + 2 };
        let id = StreamId::new(next)?;
        let syn = SynStream {
            id,
            fin: false,
            unidirectional: false,
            associated: 0,
            priority: 0,
            headers: headers(stream)?,
        };
        self.encoder.put(&Frame::SynStream(syn), out)?;
        self.last = next;
        self.insert(next, stream, false);
        Ok(())
    }

    pub(super) fn accept(
        &mut self,
        stream: Stream,
        out: &mut BytesMut,
    ) -> Result<(), ChannelError> {
        if self.side == Side::Server {
            return Err(ChannelError::Unexpected("a reply from the client"));
        }
        let Some((number, entry)) = self.entry(stream) else {
            // Reset in the meantime.
            return Ok(());
        };
        if entry.accepted {
            return Err(ChannelError::Twice(stream));
        }
        entry.accepted = true;
        let (id, fin, headers) = (StreamId::new(number)?, false, Headers::default());
        let reply = Frame::SynReply { id, fin, headers };
        Ok(self.encoder.put(&reply, out)?)
    }

    pub(super) fn reset(&mut self, stream: Stream, out: &mut BytesMut) -> Result<(), ChannelError> {
        let Some((number, entry)) = self.entry(stream) else {
            return Ok(());
        };
        let status = match entry.accepted || self.side == Side::Server {
            true => status::CANCEL,
            false => status::REFUSED_STREAM,
        };
        let id = StreamId::new(number)?;
        self.remove(number);
        Ok(self.encoder.put(&Frame::RstStream { id, status }, out)?)
    }

    pub(super) fn send(
        &mut self,
        message: &Message,
        out: &mut BytesMut,
    ) -> Result<Sent, ChannelError> {
        let (stream, to) = (message.stream, self.side);
        if !message.bytes.is_empty() && !stream.flows_from(to.other()) {
            return Err(ChannelError::Direction(stream));
        }
        let known = self.numbers.contains_key(&stream) || self.asked.is_none();
        let Some((number, entry)) = self.entry(stream) else {
            return match known {
                true => Ok(Sent::Dropped),
                false => Err(ChannelError::NotOpen(stream)),
            };
        };
        if !entry.accepted {
            return Err(ChannelError::NotAccepted(stream));
        }
        if entry.we_ended {
            return Err(ChannelError::AfterEnd(stream));
        }
        if message.bytes.is_empty() && !message.end {
            return Ok(Sent::Whole);
        }
        entry.we_ended = message.end;
        let over = entry.we_ended && entry.ended;
        let data = Frame::Data {
            id: StreamId::new(number)?,
            fin: message.end,
            bytes: message.bytes.clone(),
        };
        if over {
            self.remove(number);
        }
        self.encoder.put(&data, out)?;
        Ok(Sent::Whole)
    }

    fn entry(&mut self, stream: Stream) -> Option<(u32, &mut Entry)> {
        let number = *self.numbers.get(&stream)?;
        Some((number, self.open.get_mut(&number)?))
    }

    pub(super) fn can_send(&self, stream: Stream) -> bool {
        let number = self.numbers.get(&stream);
        let entry = number.and_then(|number| self.open.get(number));
        entry.is_some_and(|entry| entry.accepted && !entry.we_ended)
    }

    pub(super) fn close(&mut self, out: &mut BytesMut) {
        let open: Vec<Stream> = self.open.values().map(|entry| entry.stream).collect();
        for stream in open {
            // Without headers there is nothing that can fail.
            let _ = self.reset(stream, out);
        }
        self.goodbye(spdy::goaway::OK, out);
    }

    pub(super) fn fail(&mut self, out: &mut BytesMut) {
        self.goodbye(spdy::goaway::PROTOCOL_ERROR, out);
    }

    fn goodbye(&mut self, status: u32, out: &mut BytesMut) {
        if !self.said_goodbye {
            self.said_goodbye = true;
            // The last stream of the other's that was taken; a server opens none.
            let last = if self.side == Side::Client {
                self.last
            } else {
                0
            };
            let _ = self.encoder.put(&Frame::GoAway { last, status }, out);
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn is_between_frames(&self, input: &[u8]) -> bool {
        self.closed || self.decoder.is_between_frames(input)
    }
}

fn of(forward: Forward, is_data: bool) -> Stream {
    match is_data {
        true => Stream::Data(forward),
        false => Stream::PortError(forward),
    }
}

/// A header that may be there once. Several values in one are refused: two readers could choose
/// differently.
fn value(headers: &Headers, name: &str) -> Result<Option<Bytes>, ChannelError> {
    match headers.get(name) {
        Some(value) if value.contains(&0) => {
            Err(ChannelError::Headers("a header has several values"))
        }
        Some(value) if value.is_empty() => Ok(None),
        value => Ok(value.cloned()),
    }
}

fn number(text: &[u8]) -> Option<u16> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok().filter(|_| digits)?;
    text.parse().ok().filter(|port| *port != 0)
}

fn headers(stream: Stream) -> Result<Headers, ChannelError> {
    let (kind, forward) = match stream {
        Stream::Stdin => ("stdin", None),
        Stream::Stdout => ("stdout", None),
        Stream::Stderr => ("stderr", None),
        Stream::Error => ("error", None),
        Stream::Resize => ("resize", None),
        Stream::Data(forward) => ("data", Some(forward)),
        Stream::PortError(forward) => ("error", Some(forward)),
    };
    let name = |name: &'static str| Bytes::from_static(name.as_bytes());
    let mut pairs = vec![(name(STREAM_TYPE), name(kind))];
    if let Some(forward) = forward {
        pairs.push((name(PORT), forward.port.to_string().into()));
        pairs.push((name(REQUEST_ID), forward.number.to_string().into()));
    }
    Ok(Headers::new(pairs)?)
}
