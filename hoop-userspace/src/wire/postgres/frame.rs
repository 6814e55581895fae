//! Where one message ends and the next begins: a type byte, then a length that counts itself.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::WireError;

/// Type byte and length.
pub const HEADER: usize = 5;

/// The first five bytes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub tag: u8,
    /// As claimed: the body and these four bytes.
    length: u32,
}

impl Header {
    /// Reads a header; `None` while fewer than five bytes are there.
    pub fn peek(bytes: &[u8]) -> Result<Option<Self>, WireError> {
        let Some((tag, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        let Some(length) = rest.first_chunk::<4>() else {
            return Ok(None);
        };
        let (tag, length) = (*tag, u32::from_be_bytes(*length));
        // The length is signed on the wire.
        if length < 4 || length > i32::MAX as u32 {
            return Err(WireError::Length { tag, length });
        }
        Ok(Some(Self { tag, length }))
    }

    /// The whole message, type byte included.
    pub fn wire_len(self) -> usize {
        self.length as usize + 1
    }

    /// The message without type byte and length.
    pub fn body_len(self) -> usize {
        self.length as usize - 4
    }
}

/// Takes the next whole message off `input`: its type and body. `None` while it is incomplete.
///
/// A message above `most` bytes is an error as soon as its header is there.
pub fn split(input: &mut BytesMut, most: usize) -> Result<Option<(u8, Bytes)>, WireError> {
    let Some(header) = Header::peek(input)? else {
        return Ok(None);
    };
    if header.wire_len() > most {
        let Header { tag, length } = header;
        return Err(WireError::Length { tag, length });
    }
    if input.len() < header.wire_len() {
        return Ok(None);
    }
    let mut message = input.split_to(header.wire_len()).freeze();
    message.advance(HEADER);
    Ok(Some((header.tag, message)))
}

/// Follows a stream that is written in arbitrary pieces, and knows whether it stands between two
/// messages: only there may a message of another origin be put.
#[derive(Debug, Default)]
pub struct Boundary {
    /// Bytes of the current message that have yet to come.
    open: usize,
    /// A header that was cut.
    head: [u8; HEADER],
    headed: usize,
}

impl Boundary {
    pub fn is_between_messages(&self) -> bool {
        self.open == 0 && self.headed == 0
    }

    /// Takes note of the next bytes of the stream.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), WireError> {
        loop {
            let skipped = self.open.min(bytes.len());
            self.open -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(());
            }
            if self.headed == 0
                && let Some(header) = Header::peek(bytes)?
            {
                self.open = header.wire_len();
                continue;
            }
            // Seldom: a header that lies across two pieces.
            for (slot, byte) in self.head.iter_mut().skip(self.headed).zip(bytes) {
                *slot = *byte;
            }
            let taken = bytes.len().min(HEADER - self.headed);
            self.headed += taken;
            bytes = bytes.get(taken..).unwrap_or_default();
            if self.headed == HEADER
                && let Some(header) = Header::peek(&self.head)?
            {
                self.headed = 0;
                self.open = header.body_len();
            }
        }
    }
}

/// Starts a message; [`end`] writes its length.
pub fn begin(out: &mut BytesMut, tag: u8) -> usize {
    out.put_u8(tag);
    let at = out.len();
    out.put_u32(0);
    at
}

/// Writes the length of the message that [`begin`] returned `at` for.
pub fn end(out: &mut BytesMut, at: usize) {
    // A message that hoop builds is far below the protocol's 2 GiB.
    let length = u32::try_from(out.len() - at).unwrap_or(u32::MAX);
    if let Some(slot) = out.get_mut(at..at + 4) {
        slot.copy_from_slice(&length.to_be_bytes());
    }
}

/// Builds one message from pieces of its body.
pub fn message(tag: u8, pieces: &[&[u8]]) -> Bytes {
    let length: usize = pieces.iter().map(|p| p.len()).sum();
    let mut out = BytesMut::with_capacity(length + HEADER);
    let at = begin(&mut out, tag);
    pieces.iter().for_each(|p| out.put_slice(p));
    end(&mut out, at);
    out.freeze()
}

/// Appends text and the zero that ends it. Zeros inside would end it early: they are left out.
pub fn put_text(out: &mut BytesMut, text: &str) {
    out.extend(text.bytes().filter(|b| *b != 0));
    out.put_u8(0);
}

/// Takes a zero-terminated string off a body.
pub(super) fn text(body: &mut Bytes, of: &'static str) -> Result<Bytes, WireError> {
    let end = memchr::memchr(0, body).ok_or(WireError::Truncated(of))?;
    let text = body.split_to(end);
    body.advance(1);
    Ok(text)
}

/// Refuses what follows the last field, as the server does.
pub(super) fn nothing_left(body: &Bytes, of: &'static str) -> Result<(), WireError> {
    match body.is_empty() {
        true => Ok(()),
        false => Err(WireError::Trailing(of)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn claims_beyond_the_protocol_are_refused() {
        for length in [0u32, 3, 0x8000_0000, u32::MAX] {
            let mut bytes = vec![b'Q'];
            bytes.extend(length.to_be_bytes());
            assert_eq!(
                Header::peek(&bytes),
                Err(WireError::Length { tag: b'Q', length })
            );
        }
        let mut two_gib = BytesMut::from(&b"Q\x7f\xff\xff\xff"[..]);
        assert!(split(&mut two_gib, 1 << 20).is_err());
        assert!(two_gib.capacity() < 1 << 10);
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_messages(
            messages in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..12),
            chunk in 1usize..30,
        ) {
            let wire: Vec<u8> = messages.iter().flat_map(|(t, b)| message(*t, &[b])).collect();
            let (mut input, mut found, mut boundary) = (BytesMut::new(), vec![], Boundary::default());
            for piece in wire.chunks(chunk) {
                input.extend_from_slice(piece);
                boundary.feed(piece).unwrap();
                while let Some((tag, body)) = split(&mut input, 1 << 20).unwrap() {
                    found.push((tag, body.to_vec()));
                }
                prop_assert_eq!(boundary.is_between_messages(), input.is_empty());
            }
            prop_assert_eq!(found, messages);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, chunk in 1usize..9) {
            let mut boundary = Boundary::default();
            for piece in bytes.chunks(chunk) {
                if boundary.feed(piece).is_err() { break; }
            }
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = split(&mut input, 64) {}
        }
    }
}
