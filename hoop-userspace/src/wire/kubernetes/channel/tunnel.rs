//! `SPDY/3.1+portforward.k8s.io`: the bytes of a SPDY connection in binary WebSocket messages, whose
//! boundaries mean nothing.

use bytes::BytesMut;

use super::super::websocket::{Kind, Opcode};
use super::line::{Line, Said};
use super::negotiate::Protocol;
use super::streams::Streams;
use super::{ChannelError, Event, Masks, Purpose, Side};

pub(super) struct Tunnel {
    pub(super) line: Line,
    pub(super) streams: Streams,
    /// SPDY bytes that came and are no whole frame yet: less than one control frame.
    inner: BytesMut,
}

impl Tunnel {
    pub(super) fn new(side: Side, purpose: &Purpose, masks: Masks) -> Self {
        Self {
            line: Line::new(side, masks),
            streams: Streams::new(side, Protocol::PortForwardSpdy, purpose),
            inner: BytesMut::new(),
        }
    }

    pub(super) fn next(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<Option<Event>, ChannelError> {
        loop {
            let mut answers = BytesMut::new();
            let event = self.streams.next(&mut self.inner, &mut answers);
            self.wrap(&answers, out);
            if let Some(event) = event? {
                return Ok(Some(event));
            }
            match self.line.next(input, out)? {
                None => return Ok(None),
                // GOAWAY has said it before.
                Some(Said::Closed) if self.streams.is_closed() => {}
                Some(Said::Closed) => return Ok(Some(Event::Closed)),
                Some(Said::Piece(piece)) if piece.kind == Kind::Text => {
                    return Err(ChannelError::Text);
                }
                Some(Said::Piece(piece)) => self.inner.extend_from_slice(&piece.bytes),
            }
        }
    }

    /// What `action` says in SPDY is sent in a message.
    pub(super) fn act<T>(
        &mut self,
        out: &mut BytesMut,
        action: impl FnOnce(&mut Streams, &mut BytesMut) -> T,
    ) -> T {
        let mut bytes = BytesMut::new();
        let done = action(&mut self.streams, &mut bytes);
        self.wrap(&bytes, out);
        done
    }

    pub(super) fn close(&mut self, out: &mut BytesMut) {
        self.act(out, Streams::close);
        self.line.close(out);
    }

    fn wrap(&mut self, bytes: &[u8], out: &mut BytesMut) {
        for piece in bytes.chunks(super::socket::FRAME) {
            self.line.put(Opcode::Binary, &[piece], out);
        }
    }

    pub(super) fn is_between_frames(&self, input: &[u8]) -> bool {
        self.line.is_between_messages(input) && self.streams.is_between_frames(&self.inner)
    }
}
