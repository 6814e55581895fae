//! What goes through streams, as messages that are decided, recorded and masked.

use bytes::{Bytes, BytesMut};

use super::EXCHANGE;
use crate::terminate::{HttpPart, Part, PartKind, Printed, Replies};
use crate::wire::kubernetes::channel::{self, Forward, Stream};
use crate::wire::ssh::channel::{Flow, Forwarded, MAX_BODY, Message};

/// A batch of replies as it is made.
#[derive(Default)]
pub(super) struct Telling {
    wire: BytesMut,
    parts: Vec<Part>,
}

impl Telling {
    pub fn put(&mut self, message: &Message, kind: PartKind) {
        message.put(&mut self.wire);
        self.part(kind);
    }

    fn part(&mut self, kind: PartKind) {
        self.parts.push(Part {
            exchange: EXCHANGE,
            unit: 0,
            end: self.wire.len(),
            kind,
        });
    }

    pub fn pieces(&mut self, bytes: &Bytes, message: fn(Bytes) -> Message, printed: Printed) {
        let before = self.wire.len();
        put_pieces(bytes, message, &mut self.wire);
        if self.wire.len() > before {
            self.part(PartKind::Output(printed));
        }
    }

    /// Of a forwarded connection.
    pub fn forwarded(&mut self, flow: Flow, to: Forward, bytes: &Bytes, end: bool) {
        put_forwarded(flow, to, bytes, end, &mut self.wire);
        self.part(PartKind::Http(HttpPart::Forwarded));
    }

    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub fn replies(self) -> Replies {
        Replies {
            wire: self.wire.freeze(),
            parts: self.parts,
        }
    }
}

pub(super) fn put_pieces(bytes: &Bytes, message: fn(Bytes) -> Message, out: &mut BytesMut) {
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        let piece = rest.split_to(rest.len().min(MAX_BODY));
        message(piece).put(out);
    }
}

pub(super) fn put_forwarded(flow: Flow, to: Forward, bytes: &Bytes, end: bool, out: &mut BytesMut) {
    // Room for what a message says beside its bytes.
    const MOST: usize = MAX_BODY - 64;
    let mut rest = bytes.clone();
    loop {
        let bytes = rest.split_to(rest.len().min(MOST));
        let last = rest.is_empty();
        let piece = Forwarded {
            flow,
            port: to.port,
            number: to.number,
            end: end && last,
            bytes,
        };
        Message::Forwarded(piece).put(out);
        if last {
            return;
        }
    }
}

pub(super) fn forwarded_piece(forwarded: Forwarded) -> channel::Message {
    let to = Forward {
        port: forwarded.port,
        number: forwarded.number,
    };
    let stream = match forwarded.flow {
        Flow::In | Flow::Out => Stream::Data(to),
        Flow::Error | Flow::ErrorIn => Stream::PortError(to),
    };
    piece(stream, forwarded.bytes, forwarded.end)
}

pub(super) fn piece(stream: Stream, bytes: Bytes, end: bool) -> channel::Message {
    channel::Message { stream, bytes, end }
}
