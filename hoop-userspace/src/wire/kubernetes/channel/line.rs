//! A WebSocket connection whose control frames answer themselves.

use bytes::BytesMut;

use super::super::websocket::{self, Decoder, Opcode, Piece, Sender, close};
use super::{ChannelError, Masks, Side};

pub(super) struct Line {
    decoder: Decoder,
    /// `None` towards a client, whose server does not mask.
    masks: Option<Masks>,
    received_close: bool,
    sent_close: bool,
}

pub(super) enum Said {
    Piece(Piece),
    Closed,
}

impl Line {
    pub(super) fn new(side: Side, masks: Masks) -> Self {
        let (sender, masks) = match side {
            Side::Client => (Sender::Client, None),
            Side::Server => (Sender::Server, Some(masks)),
        };
        Self {
            decoder: Decoder::new(sender),
            masks,
            received_close: false,
            sent_close: false,
        }
    }

    /// The next piece of data. Pings and Close are answered in `out`.
    pub(super) fn next(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<Option<Said>, ChannelError> {
        loop {
            if self.received_close {
                // Section 5.5.1: nothing follows; what does is of no interest.
                input.clear();
                return Ok(None);
            }
            match self.decoder.next(input)? {
                None => return Ok(None),
                Some(websocket::Event::Data(piece)) => return Ok(Some(Said::Piece(piece))),
                Some(websocket::Event::Ping(bytes)) if !self.sent_close => {
                    self.put(Opcode::Pong, &[&bytes], out);
                }
                Some(websocket::Event::Ping(_) | websocket::Event::Pong(_)) => {}
                Some(websocket::Event::Close(said)) => {
                    self.received_close = true;
                    let code = said.map_or(close::NORMAL, |(code, _)| code);
                    self.put_close(code, "", out);
                    return Ok(Some(Said::Closed));
                }
            }
        }
    }

    /// One frame, whole. Nothing after a Close.
    pub(super) fn put(&mut self, opcode: Opcode, parts: &[&[u8]], out: &mut BytesMut) {
        if !self.sent_close {
            let mask = self.masks.map(|mask| mask());
            websocket::put(opcode, true, parts, mask, out);
        }
    }

    pub(super) fn close(&mut self, out: &mut BytesMut) {
        self.put_close(close::NORMAL, "", out);
    }

    pub(super) fn fail(&mut self, why: &ChannelError, out: &mut BytesMut) {
        let code = match why {
            ChannelError::WebSocket(why) => why.close_code(),
            ChannelError::TooLarge(_) => close::TOO_BIG,
            ChannelError::Text => close::UNSUPPORTED_DATA,
            ChannelError::Base64 => close::INVALID_PAYLOAD,
            _ => close::PROTOCOL_ERROR,
        };
        self.put_close(code, &why.to_string(), out);
    }

    fn put_close(&mut self, code: u16, reason: &str, out: &mut BytesMut) {
        if !self.sent_close {
            let mask = self.masks.map(|mask| mask());
            websocket::put_close(code, reason, mask, out);
            self.sent_close = true;
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.received_close
    }

    pub(super) fn is_between_messages(&self, input: &[u8]) -> bool {
        self.received_close || self.decoder.is_between_messages(input)
    }
}
