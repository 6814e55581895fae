//! The channel protocols on WebSocket: the first byte of a message says which channel it belongs to.
//!
//! exec and attach have the channels 0 to 4 (stdin, stdout, stderr, error, resize); port-forward two
//! for each port of the query, data and error, whose first two bytes from the server are the port,
//! low byte first. Only v5 can end a channel alone: the message 255, channel.

use std::collections::VecDeque;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use bytes::{Bytes, BytesMut};

use super::super::websocket::{Opcode, Piece};
use super::line::{Line, Said};
use super::negotiate::Protocol;
use super::{ChannelError, Event, Forward, MAX_WHOLE, Masks, Message, Purpose, Sent, Side, Stream};

/// A longer piece is sent in several messages: the API server's reader takes 32 MiB at most, and
/// whole messages are held by others too.
pub(super) const FRAME: usize = 1 << 20;
/// Ports that a request may name: two channels each, and 255 is none. Further ones have no channel.
pub const MAX_PORTS: usize = 127;
/// v5: what follows is the channel that ends.
const CLOSE: u8 = 255;
/// Base64 as Go reads it: what is left over of the last character's bits is not looked at.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

pub(super) struct Socket {
    side: Side,
    pub(super) line: Line,
    base64: bool,
    can_end: bool,
    channels: Vec<Channel>,
    reading: Reading,
    events: VecDeque<Event>,
}

struct Channel {
    stream: Stream,
    asked: bool,
    /// Bytes of the port that are to come from the server.
    unannounced: usize,
    /// The other end sends nothing more on it.
    ended: bool,
    we_ended: bool,
}

/// Where in a message the next piece begins.
enum Reading {
    /// Before the channel.
    Channel,
    /// After a 255.
    Ending(Option<u8>),
    Stream {
        channel: usize,
        decoder: Base64Decoder,
        /// Something of the message was given out.
        given: bool,
    },
    /// What is given out as a whole.
    Whole {
        channel: usize,
        decoder: Base64Decoder,
        bytes: Vec<u8>,
    },
}

impl Socket {
    pub(super) fn new(side: Side, protocol: Protocol, purpose: &Purpose, masks: Masks) -> Self {
        let channels = channels(purpose);
        let opened = match (side, purpose) {
            (Side::Server, _) => Vec::new(),
            (Side::Client, Purpose::Command(asked)) => asked.streams(protocol),
            (Side::Client, Purpose::PortForward { .. }) => {
                channels.iter().map(|channel| channel.stream).collect()
            }
        };
        Self {
            side,
            line: Line::new(side, masks),
            base64: matches!(protocol, Protocol::V4Base64 | Protocol::PortForwardV4Base64),
            can_end: protocol == Protocol::V5,
            channels,
            reading: Reading::Channel,
            events: opened.into_iter().map(Event::Opened).collect(),
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
            match self.line.next(input, out)? {
                None => return Ok(None),
                Some(Said::Closed) => return Ok(Some(Event::Closed)),
                // Text or binary: clients of the first kind exist, and the server reads both.
                Some(Said::Piece(piece)) => self.piece(piece)?,
            }
        }
    }

    fn piece(&mut self, piece: Piece) -> Result<(), ChannelError> {
        let Piece {
            mut bytes, last, ..
        } = piece;
        if matches!(self.reading, Reading::Channel)
            && let Some((first, _)) = bytes.split_first()
        {
            self.reading = self.begin(*first)?;
            let _ = bytes.split_to(1);
        }
        match &mut self.reading {
            // Nothing of the message has come, or it is empty, which says nothing.
            Reading::Channel => return Ok(()),
            Reading::Ending(which) => {
                for byte in &bytes {
                    if which.replace(*byte).is_some() {
                        return Err(ChannelError::CloseSignal);
                    }
                }
                if last {
                    let which = which.ok_or(ChannelError::CloseSignal)?;
                    self.end(which)?;
                }
            }
            Reading::Stream {
                channel,
                decoder,
                given,
            } => {
                let bytes = if self.base64 {
                    decoder.push(&bytes, last)?
                } else {
                    bytes
                };
                let is_new = !*given;
                *given |= !bytes.is_empty();
                // An empty message is the server's word that it is ready.
                if !bytes.is_empty() || (last && is_new) {
                    let channel = *channel;
                    self.give(channel, bytes)?;
                }
            }
            Reading::Whole {
                channel,
                decoder,
                bytes: whole,
            } => {
                let bytes = if self.base64 {
                    decoder.push(&bytes, last)?
                } else {
                    bytes
                };
                let channel = *channel;
                if whole.len() + bytes.len() > MAX_WHOLE {
                    let channel = self.channels.get(channel);
                    let stream = channel.map_or(Stream::Error, |channel| channel.stream);
                    return Err(ChannelError::TooLarge(stream));
                }
                whole.extend_from_slice(&bytes);
                if last {
                    let whole = std::mem::take(whole);
                    self.give(channel, whole.into())?;
                }
            }
        }
        if last {
            self.reading = Reading::Channel;
        }
        Ok(())
    }

    /// Which channel a message is for, and whether the sender may use it.
    fn begin(&self, first: u8) -> Result<Reading, ChannelError> {
        if first == CLOSE && self.can_end {
            return Ok(Reading::Ending(None));
        }
        let number = match self.base64 {
            true => first.wrapping_sub(b'0'),
            false => first,
        };
        let found = self.channels.get(usize::from(number));
        let channel = found.ok_or(ChannelError::UnknownChannel(number))?;
        let stream = channel.stream;
        if !channel.asked {
            return Err(ChannelError::NotAsked(stream));
        }
        if !stream.flows_from(self.side) {
            return Err(ChannelError::Direction(stream));
        }
        if channel.ended {
            return Err(ChannelError::AfterEnd(stream));
        }
        let (channel, decoder) = (usize::from(number), Base64Decoder::default());
        Ok(match stream {
            Stream::Error | Stream::Resize => Reading::Whole {
                channel,
                decoder,
                bytes: Vec::new(),
            },
            _ => Reading::Stream {
                channel,
                decoder,
                given: false,
            },
        })
    }

    fn give(&mut self, channel: usize, mut bytes: Bytes) -> Result<(), ChannelError> {
        let Some(channel) = self.channels.get_mut(channel) else {
            return Ok(());
        };
        let stream = channel.stream;
        let (Stream::Data(forward) | Stream::PortError(forward)) = stream else {
            self.events
                .push_back(Event::Message(Message::new(stream, bytes)));
            return Ok(());
        };
        let announced = channel.unannounced > 0;
        while let Some(expected) = forward.port.to_be_bytes().get(..channel.unannounced)
            && let Some(expected) = expected.last()
            && let Some(byte) = bytes.first()
        {
            if byte != expected {
                return Err(ChannelError::Announcement(forward.port));
            }
            let _ = bytes.split_to(1);
            channel.unannounced -= 1;
        }
        if announced {
            if channel.unannounced == 0 {
                self.events.push_back(Event::Accepted(stream));
            }
            if bytes.is_empty() {
                return Ok(());
            }
        }
        self.events
            .push_back(Event::Message(Message::new(stream, bytes)));
        Ok(())
    }

    fn end(&mut self, number: u8) -> Result<(), ChannelError> {
        let found = self.channels.get_mut(usize::from(number));
        let channel = found.ok_or(ChannelError::UnknownChannel(number))?;
        if !channel.asked {
            return Err(ChannelError::NotAsked(channel.stream));
        }
        // A second one means nothing, as it does to the server.
        if !std::mem::replace(&mut channel.ended, true) {
            let message = Message::end(channel.stream);
            self.events.push_back(Event::Message(message));
        }
        Ok(())
    }

    pub(super) fn open(&mut self, stream: Stream) -> Result<(), ChannelError> {
        if self.side == Side::Client {
            return Err(ChannelError::Unexpected("a stream that the server opens"));
        }
        let channel = self.channels.iter().find(|known| known.stream == stream);
        match channel {
            // The server's announcement accepts it.
            Some(channel) if channel.unannounced > 0 => Ok(()),
            Some(channel) if channel.asked => {
                self.events.push_back(Event::Accepted(stream));
                Ok(())
            }
            _ => Err(ChannelError::NotAsked(stream)),
        }
    }

    pub(super) fn accept(
        &mut self,
        stream: Stream,
        out: &mut BytesMut,
    ) -> Result<(), ChannelError> {
        let (Stream::Data(forward) | Stream::PortError(forward)) = stream else {
            return Ok(());
        };
        let port = forward.port.to_le_bytes();
        let number = self.number(stream)?;
        self.put(number, &port, out);
        if let Some(channel) = self.channels.get_mut(usize::from(number)) {
            channel.unannounced = 0;
        }
        Ok(())
    }

    pub(super) fn send(
        &mut self,
        message: &Message,
        out: &mut BytesMut,
    ) -> Result<Sent, ChannelError> {
        let stream = message.stream;
        let number = self.number(stream)?;
        if !message.bytes.is_empty() && !stream.flows_from(self.side.other()) {
            return Err(ChannelError::Direction(stream));
        }
        let Some(channel) = self.channels.get_mut(usize::from(number)) else {
            return Err(ChannelError::NotOpen(stream));
        };
        if channel.we_ended {
            return Err(ChannelError::AfterEnd(stream));
        }
        if channel.unannounced > 0 {
            return Err(ChannelError::NotAccepted(stream));
        }
        channel.we_ended = message.end;
        if message.bytes.is_empty() && !message.end {
            self.put(number, &[], out);
        }
        let pieces = match stream {
            Stream::Error | Stream::Resize => message.bytes.len().max(1),
            _ => FRAME,
        };
        for piece in message.bytes.chunks(pieces) {
            self.put(number, piece, out);
        }
        if !message.end {
            return Ok(Sent::Whole);
        }
        // Clients know no such message: to them the end is that of the connection.
        if !self.can_end || self.side == Side::Client {
            return Ok(Sent::EndUnsaid);
        }
        self.line.put(Opcode::Binary, &[&[CLOSE, number]], out);
        Ok(Sent::Whole)
    }

    fn put(&mut self, number: u8, bytes: &[u8], out: &mut BytesMut) {
        if self.base64 {
            let text = BASE64.encode(bytes);
            let number = number.wrapping_add(b'0');
            let parts: [&[u8]; 2] = [&[number], text.as_bytes()];
            self.line.put(Opcode::Text, &parts, out);
        } else {
            self.line.put(Opcode::Binary, &[&[number], bytes], out);
        }
    }

    fn number(&self, stream: Stream) -> Result<u8, ChannelError> {
        let mut known = self.channels.iter();
        let found = known.position(|channel| channel.stream == stream && channel.asked);
        let number = found.and_then(|number| u8::try_from(number).ok());
        number.ok_or(ChannelError::NotAsked(stream))
    }

    pub(super) fn can_send(&self, stream: Stream) -> bool {
        let channel = self.channels.iter().find(|known| known.stream == stream);
        channel.is_some_and(|known| known.asked && !known.we_ended && known.unannounced == 0)
    }
}

fn channels(purpose: &Purpose) -> Vec<Channel> {
    let channel = |stream, asked, unannounced| Channel {
        stream,
        asked,
        unannounced,
        ended: false,
        we_ended: false,
    };
    match purpose {
        Purpose::Command(asked) => vec![
            channel(Stream::Stdin, asked.stdin, 0),
            channel(Stream::Stdout, asked.stdout, 0),
            channel(Stream::Stderr, asked.stderr && !asked.tty, 0),
            channel(Stream::Error, true, 0),
            // Without a terminal a size changes nothing; the server reads it all the same.
            channel(Stream::Resize, true, 0),
        ],
        Purpose::PortForward { ports } => (0..)
            .zip(ports.iter().take(MAX_PORTS))
            .flat_map(|(number, port)| {
                let forward = Forward {
                    port: *port,
                    number,
                };
                [Stream::Data(forward), Stream::PortError(forward)]
            })
            .map(|stream| channel(stream, true, 2))
            .collect(),
    }
}

/// Base64 in any pieces; line ends within it count for nothing.
#[derive(Default)]
struct Base64Decoder {
    /// Characters that make no group of four yet.
    held: Vec<u8>,
    padded: bool,
}

impl Base64Decoder {
    fn push(&mut self, text: &[u8], last: bool) -> Result<Bytes, ChannelError> {
        let ends = |byte: &u8| matches!(byte, b'\r' | b'\n');
        self.held.extend(text.iter().filter(|byte| !ends(byte)));
        let whole = self.held.len() / 4 * 4;
        let rest = self.held.split_off(whole);
        let groups = std::mem::replace(&mut self.held, rest);
        // Padding ends a message.
        let more = !groups.is_empty() || !self.held.is_empty();
        if (self.padded && more) || (last && !self.held.is_empty()) {
            return Err(ChannelError::Base64);
        }
        self.padded |= groups.last() == Some(&b'=');
        let bytes = BASE64.decode(groups).map_err(|_| ChannelError::Base64)?;
        Ok(bytes.into())
    }
}
