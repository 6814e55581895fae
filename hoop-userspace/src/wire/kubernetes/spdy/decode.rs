//! Bytes of a SPDY connection, in any pieces, become frames.

use bytes::{Buf, Bytes, BytesMut};

use super::headers::Inflater;
use super::{
    CLEAR, CONTROL, FIN, Frame, HEADER, Headers, MAX_CONTROL, Setting, SpdyError, StreamId,
    SynStream, UNIDIRECTIONAL, VERSION, kind,
};

/// One direction of a connection. Control frames are taken whole, DATA frames in pieces as they
/// come, so that no more than [`MAX_CONTROL`] bytes wait here.
pub struct Decoder {
    inflater: Inflater,
    /// A DATA frame of which more is to come.
    pub(super) open: Option<Open>,
}

#[derive(Clone, Copy)]
pub(super) struct Open {
    id: StreamId,
    fin: bool,
    left: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            inflater: Inflater::new(),
            open: None,
        }
    }
}

impl Decoder {
    /// Whether a connection that ends here ends between two frames; `input` is what is left.
    pub fn is_between_frames(&self, input: &[u8]) -> bool {
        self.open.is_none() && input.is_empty()
    }

    /// Takes the next frame, or the next piece of a DATA frame, off `input`. `None` while there is
    /// none. After an error nothing more can be read.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, SpdyError> {
        if let Some(open) = self.open {
            return Ok(self.piece(open, input));
        }
        let Some(&[a, b, c, d, flags, e, f, g]) = input.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let (word, length) = (
            u32::from_be_bytes([a, b, c, d]),
            u32::from_be_bytes([0, e, f, g]) as usize,
        );
        if word & CONTROL != 0 {
            return self.control([a & 0x7f, b, c, d], flags, length, input);
        }
        if flags & !FIN != 0 {
            let kind = kind::DATA;
            return Err(SpdyError::Flags { kind, flags });
        }
        let (id, fin) = (StreamId::new(word)?, flags & FIN != 0);
        input.advance(HEADER);
        if length == 0 {
            let bytes = Bytes::new();
            return Ok(Some(Frame::Data { id, fin, bytes }));
        }
        let left = length;
        Ok(self.piece(Open { id, fin, left }, input))
    }

    fn piece(&mut self, open: Open, input: &mut BytesMut) -> Option<Frame> {
        let bytes = input.split_to(open.left.min(input.len())).freeze();
        let left = open.left - bytes.len();
        self.open = (left > 0).then_some(Open { left, ..open });
        let (id, fin) = (open.id, open.fin && left == 0);
        (!bytes.is_empty()).then_some(Frame::Data { id, fin, bytes })
    }

    fn control(
        &mut self,
        [a, b, c, d]: [u8; 4],
        flags: u8,
        length: usize,
        input: &mut BytesMut,
    ) -> Result<Option<Frame>, SpdyError> {
        let (version, kind) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        // All this before the payload is there: nothing waits for what will be refused.
        if version != VERSION {
            return Err(SpdyError::Version(version));
        }
        let allowed = match kind {
            kind::SYN_STREAM => FIN | UNIDIRECTIONAL,
            kind::SYN_REPLY | kind::HEADERS => FIN,
            kind::SETTINGS => CLEAR,
            kind::RST_STREAM | kind::PING | kind::GOAWAY | kind::WINDOW_UPDATE => 0,
            other => return Err(SpdyError::Type(other)),
        };
        if flags & !allowed != 0 {
            return Err(SpdyError::Flags { kind, flags });
        }
        let fits = match kind {
            kind::SYN_STREAM => (10..=MAX_CONTROL).contains(&length),
            kind::SYN_REPLY | kind::HEADERS => (4..=MAX_CONTROL).contains(&length),
            kind::SETTINGS => (4..=MAX_CONTROL).contains(&length) && length % 8 == 4,
            kind::PING => length == 4,
            _ => length == 8,
        };
        if !fits {
            return Err(SpdyError::Length { kind, length });
        }
        if input.len() < HEADER + length {
            return Ok(None);
        }
        input.advance(HEADER);
        let payload = Payload(input.split_to(length).freeze());
        let frame = self.payload(kind, flags, payload);
        frame.map(Some)
    }

    fn payload(&mut self, kind: u16, flags: u8, mut payload: Payload) -> Result<Frame, SpdyError> {
        let fin = flags & FIN != 0;
        let length = payload.0.len();
        let short = SpdyError::Length { kind, length };
        let mut number = || payload.u32().ok_or(short);
        Ok(match kind {
            kind::SYN_STREAM => {
                let (id, associated) = (StreamId::new(number()?)?, number()?);
                let [priority, _slot] = payload.array().ok_or(short)?;
                Frame::SynStream(SynStream {
                    id,
                    fin,
                    unidirectional: flags & UNIDIRECTIONAL != 0,
                    associated: associated & !CONTROL,
                    priority: priority >> 5,
                    headers: self.headers(payload)?,
                })
            }
            kind::SYN_REPLY => Frame::SynReply {
                id: StreamId::new(number()?)?,
                fin,
                headers: self.headers(payload)?,
            },
            kind::HEADERS => Frame::Headers {
                id: StreamId::new(number()?)?,
                fin,
                headers: self.headers(payload)?,
            },
            kind::RST_STREAM => Frame::RstStream {
                id: StreamId::new(number()?)?,
                status: Some(number()?)
                    .filter(|status| *status != 0)
                    .ok_or(SpdyError::Status)?,
            },
            kind::SETTINGS => {
                let count = number()? as usize;
                if count != length / 8 {
                    return Err(short);
                }
                Frame::Settings {
                    clear: flags & CLEAR != 0,
                    entries: settings(count, &mut payload).ok_or(short)?,
                }
            }
            kind::PING => match number()? {
                0 => return Err(SpdyError::Ping),
                id => Frame::Ping(id),
            },
            kind::GOAWAY => Frame::GoAway {
                last: number()? & !CONTROL,
                status: number()?,
            },
            _ => Frame::WindowUpdate {
                id: number()? & !CONTROL,
                delta: number()? & !CONTROL,
            },
        })
    }

    fn headers(&mut self, payload: Payload) -> Result<Headers, SpdyError> {
        self.inflater.headers(&payload.0)
    }
}

fn settings(count: usize, payload: &mut Payload) -> Option<Vec<Setting>> {
    let entry = |payload: &mut Payload| {
        let [flags, a, b, c] = payload.array()?;
        let id = u32::from_be_bytes([0, a, b, c]);
        let value = payload.u32()?;
        Some(Setting { flags, id, value })
    };
    (0..count).map(|_| entry(payload)).collect()
}

struct Payload(Bytes);

impl Payload {
    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = *self.0.first_chunk::<N>()?;
        self.0.advance(N);
        Some(array)
    }
}
