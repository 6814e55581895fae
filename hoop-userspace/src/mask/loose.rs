//! Values that come outside any result: a notification's payload, a function call's result.
//!
//! Neither says where it comes from. A trigger that announces whole rows is common, and a function
//! called by its object id may read anything; so where a resource has masks, both are masked whole.

use bytes::{BufMut, BytesMut};

use crate::wire::postgres::frame;

const NOTIFICATION: u8 = b'A';
const FUNCTION_RESULT: u8 = b'V';
const MASKED: &[u8] = b"[masked]";

/// Appends the message without its value; returns how many were replaced. A message that cannot be
/// read is not passed on.
pub(super) fn replace(message: &[u8], out: &mut BytesMut) -> u64 {
    let Some((header, body)) = message.split_first_chunk::<{ frame::HEADER }>() else {
        return 1;
    };
    match header.first() {
        Some(&NOTIFICATION) => notification(message, body, out),
        Some(&FUNCTION_RESULT) => {
            let at = frame::begin(out, FUNCTION_RESULT);
            out.put_i32(-1);
            frame::end(out, at);
            1
        }
        _ => 1,
    }
}

/// Process id, channel, payload. Without a payload there is nothing to mask.
fn notification(message: &[u8], body: &[u8], out: &mut BytesMut) -> u64 {
    let texts = body.get(4..).unwrap_or_default();
    let Some(end) = memchr::memchr(0, texts) else {
        return 1;
    };
    let (channel, payload) = texts.split_at(end + 1);
    if payload == b"\0" {
        out.put_slice(message);
        return 0;
    }
    let at = frame::begin(out, NOTIFICATION);
    out.put_slice(body.get(..4).unwrap_or_default());
    out.put_slice(channel);
    out.put_slice(MASKED);
    out.put_u8(0);
    frame::end(out, at);
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(message: &[u8]) -> (Vec<u8>, u64) {
        let mut out = BytesMut::new();
        let count = replace(message, &mut out);
        (out.to_vec(), count)
    }

    #[test]
    fn a_payload_goes_and_its_channel_stays() {
        let (out, count) = replaced(b"A\0\0\0\x13\0\0\0\x01rows\x00123-45\0");
        assert_eq!(out, b"A\0\0\0\x16\0\0\0\x01rows\0[masked]\0");
        assert_eq!(count, 1);
    }

    #[test]
    fn a_bare_notification_passes_and_a_result_becomes_null() {
        let bare = b"A\0\0\0\x0e\0\0\0\x01rows\0\0";
        assert_eq!(replaced(bare), (bare.to_vec(), 0));
        let (out, count) = replaced(b"V\0\0\0\x0a\0\0\0\x02hi");
        assert_eq!((&out[..], count), (&b"V\0\0\0\x08\xff\xff\xff\xff"[..], 1));
    }

    #[test]
    fn what_cannot_be_read_is_not_passed_on() {
        for message in [&b""[..], b"A\0\0", b"A\0\0\0\x08\0\0\0\x01", b"Q\0\0\0\x04"] {
            assert_eq!(replaced(message), (Vec::new(), 1));
        }
    }
}
