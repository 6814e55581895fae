//! Requests before they are recorded: literals and parameters pass the detectors, so that what the
//! masks hide from the agent is not kept in its own statements.

use bytes::{BufMut, Bytes, BytesMut};

use super::Detection;
use super::value::{Found, is_text};
use crate::mask::detect::{Hit, Kind, Marks, Signs};
use crate::wire::postgres::frame::{self, HEADER, Header};
use crate::wire::postgres::frontend::{self, Frontend};

const INT8: u32 = 20;

impl Detection {
    /// The messages of a request with what is found in them masked; `None` if nothing is.
    pub fn masked_request(&self, wire: &[u8]) -> Option<Bytes> {
        // Most hold nothing, which is seen at once.
        let mut marks = Marks::default();
        self.detectors.look(wire, &mut marks);
        if marks.is_empty() && !self.detectors.has(Kind::Card) {
            return None;
        }
        let mut out = BytesMut::new();
        let (mut rest, mut changed) = (wire, false);
        while let Ok(Some(header)) = Header::peek(rest) {
            let Some((message, after)) = rest.split_at_checked(header.wire_len()) else {
                break;
            };
            rest = after;
            let body = message.get(HEADER..).unwrap_or_default();
            match self.message(header.tag, body) {
                Some(other) => {
                    out.put_slice(&other);
                    changed = true;
                }
                None => out.put_slice(message),
            }
        }
        match self.masked_cut(rest) {
            Some(other) => {
                out.put_slice(&other);
                changed = true;
            }
            None => out.put_slice(rest),
        }
        changed.then(|| out.freeze())
    }

    /// Part of a message, as a recording keeps it: what is found becomes as many `*`, so that
    /// lengths stay true.
    pub fn masked_cut(&self, bytes: &[u8]) -> Option<Bytes> {
        let hits = self.find(bytes);
        if hits.is_empty() {
            return None;
        }
        let mut out = bytes.to_vec();
        for hit in hits {
            if let Some(value) = out.get_mut(hit.range) {
                value.fill(b'*');
            }
        }
        Some(out.into())
    }

    fn message(&self, tag: u8, body: &[u8]) -> Option<BytesMut> {
        let mut message = match frontend::decode(tag, Bytes::copy_from_slice(body)) {
            Ok(message) => message,
            Err(_) => {
                let other = self.masked_cut(body)?;
                let mut out = BytesMut::new();
                let at = frame::begin(&mut out, tag);
                out.put_slice(&other);
                frame::end(&mut out, at);
                return Some(out);
            }
        };
        let masked = |text: &Bytes| self.masked_text(text).map(Bytes::from);
        match &mut message {
            Frontend::Query(text) | Frontend::Parse { text, .. } | Frontend::CopyFail(text) => {
                *text = without_zeros(masked(text)?);
            }
            Frontend::CopyData(data) => *data = masked(data)?,
            Frontend::Bind(bind) => {
                let mut changed = false;
                for i in 0..bind.values.len() {
                    let binary = bind.is_binary(i);
                    if let Some(Some(value)) = bind.values.get_mut(i).map(Option::as_mut)
                        && let Some(other) = self.parameter(binary, value)
                    {
                        *value = other;
                        changed = true;
                    }
                }
                changed.then_some(())?;
            }
            // Its arguments are not kept where something is found in them.
            Frontend::FunctionCall { .. } => drop(self.masked_cut(body)?),
            _ => return None,
        }
        let mut out = BytesMut::new();
        frontend::encode(&message, &mut out);
        Some(out)
    }

    fn parameter(&self, binary: bool, value: &Bytes) -> Option<Bytes> {
        if is_text(value) {
            return self.masked_text(value).map(Bytes::from);
        }
        let number = binary && self.number(INT8, true, value) != Found::Nothing;
        number.then(|| Bytes::from(vec![0; value.len()]))
    }

    /// A value whose type is not known: as text, if it is text.
    pub(super) fn bytes(&self, signs: Signs, value: &[u8], hits: &mut Vec<Hit>) -> Found {
        self.of_form(super::forms::Form::Bytes, signs, value, hits, 0)
    }
}

/// An operator's own text may hold one, and a message's text may not.
fn without_zeros(text: Bytes) -> Bytes {
    match memchr::memchr(0, &text) {
        None => text,
        Some(_) => text.iter().copied().filter(|b| *b != 0).collect(),
    }
}
