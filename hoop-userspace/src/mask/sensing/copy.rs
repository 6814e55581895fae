//! COPY data that a server sends. Its messages need not be rows (protocol manual, "COPY
//! Operations"), so that one too large to wait for is passed on as several.

use bytes::{BufMut, BytesMut};

use super::value::{Found, is_text};
use super::{Detection, Sensed};
use crate::mask::detect::{Id, Marks, Signs, Stream};
use crate::wire::postgres::frame::{self, HEADER, Header};

const COPY_OUT: u8 = b'H';
const COPY_DATA: u8 = b'd';
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// The COPY that is under way.
#[derive(Debug, Default)]
pub(super) struct Copying {
    binary: bool,
    /// What is left of a message that comes in pieces.
    open: Option<Open>,
    marks: Marks,
}

#[derive(Debug)]
struct Open {
    left: usize,
    stream: Stream,
}

impl Copying {
    /// Takes note of the format of what follows.
    pub fn control(&mut self, message: &[u8]) {
        if message.first() == Some(&COPY_OUT) {
            self.binary = message.get(HEADER).is_some_and(|format| *format != 0);
            self.open = None;
        }
    }

    pub fn is_within(&self) -> bool {
        self.open.is_some()
    }

    pub fn sense(&mut self, detection: &Detection, bytes: &[u8]) -> Sensed {
        detection.detectors.look(bytes, &mut self.marks);
        let whole = self.open.is_none() && frames_end(bytes);
        if whole && self.marks.is_empty() {
            return Sensed::Same;
        }
        let (mut out, mut values, mut at) = (BytesMut::new(), 0, 0);
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if self.open.is_some() {
                let taken = self.piece(detection, rest, &mut out, &mut values);
                at += taken;
                continue;
            }
            let Ok(Some(header)) = Header::peek(rest) else {
                out.put_slice(rest);
                break;
            };
            let Some(message) = rest.get(..header.wire_len()) else {
                self.open = Some(Open {
                    left: header.body_len(),
                    stream: self.stream(detection),
                });
                at += HEADER;
                continue;
            };
            let body = message.get(HEADER..).unwrap_or_default();
            let signs = self.marks.within(at + HEADER..at + message.len());
            match self.message(detection, header.tag, signs, body) {
                Some((other, count)) => {
                    put(&mut out, &other);
                    values += count;
                }
                None => out.put_slice(message),
            }
            at += message.len();
        }
        match whole && values == 0 {
            true => Sensed::Same,
            false => Sensed::Other(out.to_vec(), values),
        }
    }

    fn stream(&self, detection: &Detection) -> Stream {
        let stream = Stream::bytes(detection.detectors.clone());
        // Fields have their lengths before them: what is masked keeps its own.
        match self.binary {
            true => stream.keeping_length(),
            false => stream,
        }
    }

    /// The next piece of a large message; returns how much of `rest` belongs to it.
    fn piece(
        &mut self,
        detection: &Detection,
        rest: &[u8],
        out: &mut BytesMut,
        values: &mut u64,
    ) -> usize {
        let Some(open) = &mut self.open else { return 0 };
        let piece = rest.get(..open.left.min(rest.len())).unwrap_or_default();
        open.left -= piece.len();
        let binary = self.binary;
        let replace = |id: Id, value: &[u8], out: &mut Vec<u8>| {
            *values += 1;
            match binary {
                true => out.resize(out.len() + value.len(), b'*'),
                false => detection.show(id, value, out),
            }
        };
        let mut text = Vec::with_capacity(piece.len());
        open.stream.push(piece, &mut text, replace);
        if open.left == 0 {
            let replace = |id: Id, value: &[u8], out: &mut Vec<u8>| match binary {
                true => out.resize(out.len() + value.len(), b'*'),
                false => detection.show(id, value, out),
            };
            open.stream.finish(&mut text, replace);
            self.open = None;
        }
        if !text.is_empty() {
            put(out, &text);
        }
        piece.len()
    }

    /// A whole message; `None` if it passes as it is.
    fn message(
        &self,
        detection: &Detection,
        tag: u8,
        signs: Signs,
        body: &[u8],
    ) -> Option<(Vec<u8>, u64)> {
        if tag != COPY_DATA || signs.is_empty() {
            return None;
        }
        if self.binary {
            return tuple(detection, signs, body);
        }
        let mut hits = Vec::new();
        detection.detectors.scan(body, signs, &mut hits);
        let count = hits.len() as u64;
        (count > 0).then(|| (detection.replaced(body, &hits), count))
    }
}

/// One row in binary: a count, then each field with its length before it. The first message holds
/// the header too.
fn tuple(detection: &Detection, signs: Signs, body: &[u8]) -> Option<(Vec<u8>, u64)> {
    let mut at = 0;
    if body.starts_with(SIGNATURE) {
        let extension = body.get(SIGNATURE.len() + 4..)?.first_chunk::<4>()?;
        at = SIGNATURE.len() + 8 + usize::try_from(u32::from_be_bytes(*extension)).ok()?;
    }
    let mut out = body.get(..at)?.to_vec();
    let mut rest = body.get(at..)?;
    let (mut values, mut hits) = (0, Vec::new());
    if let Some((count, fields)) = rest.split_first_chunk::<2>() {
        out.extend_from_slice(count);
        rest = fields;
    }
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let size = match i32::from_be_bytes(*length) {
            -1 => 0,
            size => usize::try_from(size).ok()?,
        };
        let (value, after) = after.split_at_checked(size)?;
        rest = after;
        let found = match is_text(value) {
            true => detection.bytes(signs, value, &mut hits),
            false => Found::Nothing,
        };
        match found {
            Found::Nothing => {
                out.extend_from_slice(length);
                out.extend_from_slice(value);
            }
            Found::Null => {
                out.extend_from_slice(&[0xff; 4]);
                values += 1;
            }
            Found::Instead(other) => {
                out.extend_from_slice(&u32::try_from(other.len()).ok()?.to_be_bytes());
                out.extend_from_slice(&other);
                values += 1;
            }
        }
    }
    out.extend_from_slice(rest);
    (values > 0).then_some((out, values))
}

fn put(out: &mut BytesMut, body: &[u8]) {
    let at = frame::begin(out, COPY_DATA);
    out.put_slice(body);
    frame::end(out, at);
}

/// Whether the last message is whole.
fn frames_end(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let length = match Header::peek(bytes) {
            Ok(Some(header)) => header.wire_len(),
            _ => return true,
        };
        match bytes.get(length..) {
            Some(rest) => bytes = rest,
            None => return false,
        }
    }
    true
}
