//! Errors, notices, notifications and results of calls: texts outside any result.

use bytes::{BufMut, BytesMut};

use super::value::Found;
use super::{Detection, Sensed};
use crate::mask::detect::Signs;
use crate::wire::postgres::fields;
use crate::wire::postgres::frame::{self, HEADER};

const NOTIFICATION: u8 = b'A';
const FUNCTION_RESULT: u8 = b'V';

/// Message, detail, hint, context, internal query: the fields of free text.
const TEXTS: &[u8] = b"MDHWq";

/// An error or a notice.
pub(super) fn report(detection: &Detection, message: &[u8]) -> Sensed {
    let Some((header, body)) = message.split_first_chunk::<HEADER>() else {
        return Sensed::Same;
    };
    let mut values = 0;
    let mut out = BytesMut::with_capacity(message.len() + 32);
    let at = frame::begin(&mut out, header.first().copied().unwrap_or(fields::NOTICE));
    for (code, text) in fields::fields(body).map_while(Result::ok) {
        let other = match TEXTS.contains(&code) {
            true => detection.masked_text(text),
            false => None,
        };
        values += u64::from(other.is_some());
        out.put_u8(code);
        out.put_slice(other.as_deref().unwrap_or(text));
        out.put_u8(0);
    }
    out.put_u8(0);
    frame::end(&mut out, at);
    match values {
        0 => Sensed::Same,
        _ => Sensed::Other(out.to_vec(), values),
    }
}

/// A notification, or the result of a call by object id.
pub(super) fn loose(detection: &Detection, message: &[u8]) -> Sensed {
    let Some((header, body)) = message.split_first_chunk::<HEADER>() else {
        return Sensed::Same;
    };
    match header.first() {
        Some(&NOTIFICATION) => notification(detection, body),
        Some(&FUNCTION_RESULT) => result(detection, body),
        _ => Sensed::Same,
    }
}

/// Process id, channel, payload.
fn notification(detection: &Detection, body: &[u8]) -> Sensed {
    let texts = body.get(4..).unwrap_or_default();
    let Some(end) = memchr::memchr(0, texts) else {
        return Sensed::Same;
    };
    let payload = texts.get(end + 1..).unwrap_or_default();
    let payload = payload.strip_suffix(b"\0").unwrap_or(payload);
    let Some(other) = detection.masked_text(payload) else {
        return Sensed::Same;
    };
    let mut out = BytesMut::new();
    let at = frame::begin(&mut out, NOTIFICATION);
    out.put_slice(body.get(..4 + end + 1).unwrap_or_default());
    out.extend(other.into_iter().filter(|b| *b != 0));
    out.put_u8(0);
    frame::end(&mut out, at);
    Sensed::Other(out.to_vec(), 1)
}

/// A length, then a value of a type that nobody names.
fn result(detection: &Detection, body: &[u8]) -> Sensed {
    let value = body.get(4..).unwrap_or_default();
    let mut hits = Vec::new();
    let other = match detection.bytes(Signs::ALL, value, &mut hits) {
        Found::Nothing => return Sensed::Same,
        Found::Null => None,
        Found::Instead(other) => i32::try_from(other.len()).ok().map(|n| (n, other)),
    };
    let mut out = BytesMut::new();
    let at = frame::begin(&mut out, FUNCTION_RESULT);
    match other {
        Some((length, other)) => {
            out.put_i32(length);
            out.put_slice(&other);
        }
        None => out.put_i32(-1),
    }
    frame::end(&mut out, at);
    Sensed::Other(out.to_vec(), 1)
}
