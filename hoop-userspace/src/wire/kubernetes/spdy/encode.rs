//! Frames become bytes of a SPDY connection.

use bytes::{BufMut, BytesMut};

use super::headers::Deflater;
use super::{
    CLEAR, CONTROL, FIN, Frame, HEADER, Headers, MAX_CONTROL, MAX_DATA, SpdyError, StreamId,
    SynStream, UNIDIRECTIONAL, VERSION, kind,
};

/// One direction of a connection: header blocks depend on all that were sent before.
#[derive(Default)]
pub struct Encoder {
    /// Made with the first block: a quarter of a megabyte that a refused connection never needs.
    deflater: Option<Deflater>,
}

impl Encoder {
    /// Appends a frame. DATA of more than [`MAX_DATA`] bytes becomes several, `fin` on the last.
    ///
    /// Settings of which there are more than fit a frame of [`MAX_CONTROL`] bytes are an error;
    /// nothing is appended then.
    pub fn put(&mut self, frame: &Frame, out: &mut BytesMut) -> Result<(), SpdyError> {
        match frame {
            Frame::SynStream(syn) => self.syn_stream(syn, out),
            Frame::SynReply { id, fin, headers } => {
                self.with_headers(kind::SYN_REPLY, *id, *fin, headers, out)
            }
            Frame::Headers { id, fin, headers } => {
                self.with_headers(kind::HEADERS, *id, *fin, headers, out)
            }
            Frame::RstStream { id, status } => {
                // 0 would be refused by the peer, and the connection with it.
                let status = (*status).max(1);
                fixed(kind::RST_STREAM, &[id.get(), status], out);
                Ok(())
            }
            Frame::Settings { clear, entries } => {
                let length = 4 + entries.len() * 8;
                if length > MAX_CONTROL {
                    let kind = kind::SETTINGS;
                    return Err(SpdyError::Length { kind, length });
                }
                let flags = if *clear { CLEAR } else { 0 };
                control(kind::SETTINGS, flags, length, out);
                out.put_u32(u32::try_from(entries.len()).unwrap_or(u32::MAX));
                for entry in entries {
                    out.put_u32(u32::from(entry.flags) << 24 | entry.id & 0x00ff_ffff);
                    out.put_u32(entry.value);
                }
                Ok(())
            }
            Frame::Ping(0) => Err(SpdyError::Ping),
            Frame::Ping(number) => {
                fixed(kind::PING, &[*number], out);
                Ok(())
            }
            Frame::GoAway { last, status } => {
                fixed(kind::GOAWAY, &[last & !CONTROL, *status], out);
                Ok(())
            }
            Frame::WindowUpdate { id, delta } => {
                fixed(kind::WINDOW_UPDATE, &[id & !CONTROL, delta & !CONTROL], out);
                Ok(())
            }
            Frame::Data { id, fin, bytes } => {
                data(*id, *fin, bytes, out);
                Ok(())
            }
        }
    }

    fn syn_stream(&mut self, syn: &SynStream, out: &mut BytesMut) -> Result<(), SpdyError> {
        let fin = if syn.fin { FIN } else { 0 };
        let one_way = if syn.unidirectional {
            UNIDIRECTIONAL
        } else {
            0
        };
        let start = out.len();
        control(kind::SYN_STREAM, fin | one_way, 0, out);
        out.put_u32(syn.id.get());
        out.put_u32(syn.associated & !CONTROL);
        out.put_u8(syn.priority << 5);
        out.put_u8(0);
        self.block(&syn.headers, start, out)
    }

    fn with_headers(
        &mut self,
        kind: u16,
        id: StreamId,
        fin: bool,
        headers: &Headers,
        out: &mut BytesMut,
    ) -> Result<(), SpdyError> {
        let start = out.len();
        control(kind, if fin { FIN } else { 0 }, 0, out);
        out.put_u32(id.get());
        self.block(headers, start, out)
    }

    /// Appends the headers and writes the length of the frame that began at `start`.
    fn block(
        &mut self,
        headers: &Headers,
        start: usize,
        out: &mut BytesMut,
    ) -> Result<(), SpdyError> {
        let deflater = match &mut self.deflater {
            Some(deflater) => deflater,
            none => none.insert(Deflater::new()?),
        };
        deflater.headers(headers, out)?;
        // Bounded by `Headers` to 16 KiB, which deflate can lengthen by a few bytes only.
        let length = out.len() - start - HEADER;
        let [_, a, b, c] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        if let Some(slot) = out.get_mut(start + 5..start + HEADER) {
            slot.copy_from_slice(&[a, b, c]);
        }
        Ok(())
    }
}

fn data(id: StreamId, fin: bool, bytes: &[u8], out: &mut BytesMut) {
    let mut rest = bytes;
    loop {
        let (piece, after) = rest.split_at(rest.len().min(MAX_DATA));
        let flags = if fin && after.is_empty() { FIN } else { 0 };
        out.put_u32(id.get());
        put_length(flags, piece.len(), out);
        out.extend_from_slice(piece);
        rest = after;
        if rest.is_empty() {
            return;
        }
    }
}

fn fixed(kind: u16, words: &[u32], out: &mut BytesMut) {
    control(kind, 0, words.len() * 4, out);
    words.iter().for_each(|word| out.put_u32(*word));
}

fn control(kind: u16, flags: u8, length: usize, out: &mut BytesMut) {
    out.put_u32(CONTROL | u32::from(VERSION) << 16 | u32::from(kind));
    put_length(flags, length, out);
}

/// `length` is below 2^24 everywhere.
fn put_length(flags: u8, length: usize, out: &mut BytesMut) {
    let length = u32::try_from(length).unwrap_or(u32::MAX) & 0x00ff_ffff;
    out.put_u32(u32::from(flags) << 24 | length);
}
