//! WebSocket frames and the headers that begin a connection (RFC 6455).
//!
//! No extension is ever agreed to, so the reserved bits are 0 and payloads are what they seem.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use ring::digest;

/// A message's longest payload, all its frames together: what the API server's own reader takes.
pub const MAX_MESSAGE: u64 = 32 << 20;
/// A control frame's longest payload (section 5.5).
pub const MAX_CONTROL: usize = 125;
/// A frame's header without the mask, at its longest.
const MAX_HEADER: usize = 10;
/// What is hashed with the client's key (section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The only version there is (section 4.1).
pub const VERSION: &str = "13";

/// Codes in a Close frame (section 7.4.1).
pub mod close {
    pub const NORMAL: u16 = 1000;
    pub const PROTOCOL_ERROR: u16 = 1002;
    pub const UNSUPPORTED_DATA: u16 = 1003;
    pub const INVALID_PAYLOAD: u16 = 1007;
    pub const POLICY_VIOLATION: u16 = 1008;
    pub const TOO_BIG: u16 = 1009;
    pub const INTERNAL_ERROR: u16 = 1011;
}

/// Why bytes are no frames of a peer. The connection ends with [`Self::close_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebSocketError {
    #[error("a frame has reserved bits set, and no extension was agreed to")]
    Reserved,
    #[error("a frame has the unknown opcode {0:#x}")]
    Opcode(u8),
    #[error("a client's frame is not masked")]
    Unmasked,
    #[error("a server's frame is masked")]
    Masked,
    #[error("a frame's length is not written in the shortest form")]
    Length,
    #[error("a control frame is longer than {MAX_CONTROL} bytes or in fragments")]
    Control,
    #[error("a message begins before the one before it has ended")]
    Interrupted,
    #[error("a message goes on that has not begun")]
    NotBegun,
    #[error("a message is longer than {MAX_MESSAGE} bytes")]
    TooBig,
    #[error("a text is not valid UTF-8")]
    NotUtf8,
    #[error("a close frame has half a code, or the code {0}, which is not for the wire")]
    CloseCode(u16),
    #[error("a frame follows the close frame")]
    AfterClose,
}

impl WebSocketError {
    pub fn close_code(self) -> u16 {
        match self {
            Self::TooBig => close::TOO_BIG,
            Self::NotUtf8 => close::INVALID_PAYLOAD,
            _ => close::PROTOCOL_ERROR,
        }
    }
}

/// Who sends the frames: a client masks them, a server does not (section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    Client,
    Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Binary,
}

/// What a peer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Data(Piece),
    /// To be answered by a pong with the same bytes.
    Ping(Bytes),
    Pong(Bytes),
    /// Nothing follows. Code and reason, if it gives them.
    Close(Option<(u16, String)>),
}

/// What of a message is there: all of a frame, or less. Text may be cut within a character; the
/// whole of it is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub kind: Kind,
    pub bytes: Bytes,
    /// The message begins with it.
    pub first: bool,
    /// The message ends with it.
    pub last: bool,
}

/// One direction of a connection.
#[derive(Debug)]
pub struct Decoder {
    sender: Sender,
    /// A data frame of which more is to come.
    open: Option<Open>,
    message: Option<Message>,
    utf8: Utf8,
    closed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    left: u64,
    mask: [u8; 4],
    /// The message's last frame.
    fin: bool,
}

/// A message that has not ended.
#[derive(Clone, Copy, Debug)]
struct Message {
    kind: Kind,
    /// Bytes announced so far.
    length: u64,
    /// A piece of it was given out.
    begun: bool,
}

#[derive(Clone, Copy)]
struct Header {
    fin: bool,
    opcode: u8,
    masked: bool,
    payload: u64,
    /// Of the header itself, with the mask.
    length: usize,
}

impl Decoder {
    pub fn new(sender: Sender) -> Self {
        Self {
            sender,
            open: None,
            message: None,
            utf8: Utf8::default(),
            closed: false,
        }
    }

    /// Whether a connection that ends here ends between two messages; `input` is what is left.
    pub fn is_between_messages(&self, input: &[u8]) -> bool {
        self.open.is_none() && self.message.is_none() && input.is_empty()
    }

    /// Takes the next event off `input`; `None` while there is none. Data comes in pieces as they
    /// arrive, so that no more than a control frame waits here. After an error nothing can be read.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Event>, WebSocketError> {
        loop {
            if let Some(open) = self.open {
                return self.piece(open, input);
            }
            let Some(header) = self.header(input)? else {
                return Ok(None);
            };
            if header.opcode >= 8 {
                return self.control(header, input);
            }
            self.begin(header)?;
            let mask = mask(header, input);
            input.advance(header.length);
            let (left, fin) = (header.payload, header.fin);
            self.open = Some(Open { left, mask, fin });
        }
    }

    /// Checks all that a header can say. The length is that of the shortest form.
    fn header(&self, input: &[u8]) -> Result<Option<Header>, WebSocketError> {
        let Some((&[first, second], rest)) = input.split_first_chunk::<2>() else {
            return Ok(None);
        };
        if self.closed {
            return Err(WebSocketError::AfterClose);
        }
        if first & 0x70 != 0 {
            return Err(WebSocketError::Reserved);
        }
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        let (masked, short) = (second & 0x80 != 0, second & 0x7f);
        match (self.sender, masked) {
            (Sender::Client, false) => return Err(WebSocketError::Unmasked),
            (Sender::Server, true) => return Err(WebSocketError::Masked),
            _ => {}
        }
        match opcode {
            0..=2 => {}
            8..=10 if fin && usize::from(short) <= MAX_CONTROL => {}
            8..=10 => return Err(WebSocketError::Control),
            other => return Err(WebSocketError::Opcode(other)),
        }
        let (payload, least, bytes) = match short {
            126 => match rest.first_chunk::<2>() {
                Some(length) => (u64::from(u16::from_be_bytes(*length)), 126, 2),
                None => return Ok(None),
            },
            127 => match rest.first_chunk::<8>() {
                Some(length) => (u64::from_be_bytes(*length), 1 << 16, 8),
                None => return Ok(None),
            },
            short => (u64::from(short), 0, 0),
        };
        if payload < least {
            return Err(WebSocketError::Length);
        }
        let length = 2 + bytes + if masked { 4 } else { 0 };
        if input.len() < length {
            return Ok(None);
        }
        Ok(Some(Header {
            fin,
            opcode,
            masked,
            payload,
            length,
        }))
    }

    fn begin(&mut self, header: Header) -> Result<(), WebSocketError> {
        let kind = match header.opcode {
            1 => Some(Kind::Text),
            2 => Some(Kind::Binary),
            _ => None,
        };
        let message = match (self.message, kind) {
            (Some(message), None) => message,
            (None, Some(kind)) => Message {
                kind,
                length: 0,
                begun: false,
            },
            (Some(_), Some(_)) => return Err(WebSocketError::Interrupted),
            (None, None) => return Err(WebSocketError::NotBegun),
        };
        let length = message.length.saturating_add(header.payload);
        if length > MAX_MESSAGE {
            return Err(WebSocketError::TooBig);
        }
        self.message = Some(Message { length, ..message });
        Ok(())
    }

    fn piece(&mut self, open: Open, input: &mut BytesMut) -> Result<Option<Event>, WebSocketError> {
        let there = u64::try_from(input.len()).unwrap_or(u64::MAX);
        let taken = usize::try_from(open.left.min(there)).unwrap_or(usize::MAX);
        if taken == 0 && open.left > 0 {
            return Ok(None);
        }
        let Some(message) = self.message else {
            return Err(WebSocketError::NotBegun);
        };
        let mut bytes = input.split_to(taken);
        unmask(&mut bytes, open.mask);
        let left = open.left - there.min(open.left);
        let last = left == 0 && open.fin;
        if message.kind == Kind::Text {
            self.utf8.push(&bytes, last)?;
        }
        self.open = (left > 0).then(|| {
            let mut mask = open.mask;
            mask.rotate_left(taken % 4);
            Open { left, mask, ..open }
        });
        let begun = true;
        self.message = (!last).then_some(Message { begun, ..message });
        Ok(Some(Event::Data(Piece {
            kind: message.kind,
            bytes: bytes.freeze(),
            first: !message.begun,
            last,
        })))
    }

    fn control(
        &mut self,
        header: Header,
        input: &mut BytesMut,
    ) -> Result<Option<Event>, WebSocketError> {
        // At most 125: the header was checked.
        let payload = usize::try_from(header.payload).unwrap_or(usize::MAX);
        if input.len() < header.length.saturating_add(payload) {
            return Ok(None);
        }
        let mask = mask(header, input);
        input.advance(header.length);
        let mut bytes = input.split_to(payload);
        unmask(&mut bytes, mask);
        let bytes = bytes.freeze();
        Ok(Some(match header.opcode {
            8 => {
                let said = close_payload(&bytes)?;
                self.closed = true;
                Event::Close(said)
            }
            9 => Event::Ping(bytes),
            _ => Event::Pong(bytes),
        }))
    }
}

fn mask(header: Header, input: &[u8]) -> [u8; 4] {
    let at = header.length.saturating_sub(4);
    let mask = input.get(at..).and_then(|rest| rest.first_chunk::<4>());
    match mask {
        Some(mask) if header.masked => *mask,
        _ => [0; 4],
    }
}

/// Section 5.3; masking and unmasking are the same.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    if mask == [0; 4] {
        return;
    }
    let [a, b, c, d] = mask;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for chunk in words {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

fn close_payload(bytes: &[u8]) -> Result<Option<(u16, String)>, WebSocketError> {
    let Some((code, reason)) = bytes.split_first_chunk::<2>() else {
        return match bytes.first() {
            None => Ok(None),
            Some(half) => Err(WebSocketError::CloseCode(u16::from(*half))),
        };
    };
    let code = u16::from_be_bytes(*code);
    // Section 7.4.2 and the registry after it; 1004 to 1006 and 1015 are never sent.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(WebSocketError::CloseCode(code));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| WebSocketError::NotUtf8)?;
    Ok(Some((code, reason.to_owned())))
}

/// Follows a text through its pieces (section 8.1).
#[derive(Debug, Default)]
struct Utf8 {
    /// The beginning of a character whose end is to come.
    open: [u8; 4],
    held: usize,
}

impl Utf8 {
    fn push(&mut self, mut bytes: &[u8], last: bool) -> Result<(), WebSocketError> {
        while self.held > 0
            && let Some((next, rest)) = bytes.split_first()
        {
            bytes = rest;
            if let Some(slot) = self.open.get_mut(self.held) {
                *slot = *next;
            }
            self.held += 1;
            let character = self.open.get(..self.held).unwrap_or_default();
            match std::str::from_utf8(character) {
                Ok(_) => self.held = 0,
                Err(why) if why.error_len().is_none() => {}
                Err(_) => return Err(WebSocketError::NotUtf8),
            }
        }
        if let Err(why) = std::str::from_utf8(bytes) {
            if why.error_len().is_some() {
                return Err(WebSocketError::NotUtf8);
            }
            for byte in bytes.get(why.valid_up_to()..).unwrap_or_default() {
                if let Some(slot) = self.open.get_mut(self.held) {
                    *slot = *byte;
                }
                self.held += 1;
            }
        }
        match last && self.held > 0 {
            true => Err(WebSocketError::NotUtf8),
            false => Ok(()),
        }
    }
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

/// Appends one frame whose payload is `parts`, one after the other. A client gives a `mask` that
/// nobody can foretell, another one for each frame; a server gives `None`.
pub fn put(opcode: Opcode, fin: bool, parts: &[&[u8]], mask: Option<[u8; 4]>, out: &mut BytesMut) {
    let code = match opcode {
        Opcode::Continuation => 0,
        Opcode::Text => 1,
        Opcode::Binary => 2,
        Opcode::Close => 8,
        Opcode::Ping => 9,
        Opcode::Pong => 10,
    };
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.reserve(MAX_HEADER + 4 + length);
    out.put_u8(code | if fin { 0x80 } else { 0 });
    let masked = if mask.is_some() { 0x80 } else { 0 };
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..=125), _) => out.put_u8(masked | length),
        (_, Ok(length)) => {
            out.put_u8(masked | 126);
            out.put_u16(length);
        }
        _ => {
            out.put_u8(masked | 127);
            out.put_u64(u64::try_from(length).unwrap_or(u64::MAX));
        }
    }
    if let Some(mask) = mask {
        out.extend_from_slice(&mask);
    }
    let start = out.len();
    parts.iter().for_each(|part| out.extend_from_slice(part));
    unmask(
        out.get_mut(start..).unwrap_or_default(),
        mask.unwrap_or_default(),
    );
}

/// Appends a Close frame; the reason is cut to what fits.
pub fn put_close(code: u16, reason: &str, mask: Option<[u8; 4]>, out: &mut BytesMut) {
    let fits = reason.floor_char_boundary(MAX_CONTROL - 2);
    let reason = reason.get(..fits).unwrap_or_default();
    let parts: [&[u8]; 2] = [&code.to_be_bytes(), reason.as_bytes()];
    put(Opcode::Close, true, &parts, mask, out);
}

/// A client's key: 16 bytes that nobody can foretell (section 4.1).
pub fn key(nonce: [u8; 16]) -> String {
    BASE64.encode(nonce)
}

/// Whether that is 16 bytes in base64.
pub fn is_key(key: &str) -> bool {
    BASE64.decode(key).is_ok_and(|bytes| bytes.len() == 16)
}

/// What the server answers to a client's key (section 4.2.2).
pub fn accept(key: &str) -> String {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key.as_bytes());
    hash.update(GUID.as_bytes());
    BASE64.encode(hash.finish())
}

#[cfg(test)]
mod tests;
