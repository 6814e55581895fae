//! Answers of API servers, but for the objects in them: those have masks of their own.

use bytes::{Bytes, BytesMut};

use super::{Detection, Sensed};
use crate::terminate::HttpPart;
use crate::wire::kubernetes::http::ResponseHead;
use crate::wire::ssh::channel::Message;

impl Detection {
    /// One part of an answer.
    pub(super) fn http(&self, part: HttpPart, bytes: &[u8]) -> Sensed {
        // What the server is, and what its API consists of: patterns in schemas are no values.
        if matches!(part, HttpPart::Description | HttpPart::Document) {
            return Sensed::Same;
        }
        let mut wire = Bytes::copy_from_slice(bytes);
        let (mut out, mut values) = (BytesMut::with_capacity(bytes.len()), 0);
        // They were encoded a moment ago.
        while let Ok(Some(message)) = Message::take(&mut wire) {
            match message {
                Message::ResponseHead(head) => {
                    let (head, found) = self.response_head(head);
                    values += found;
                    Message::ResponseHead(head).put(&mut out);
                }
                Message::Forwarded(mut piece) => {
                    if let Some(bytes) = self.masked_cut(&piece.bytes) {
                        values += 1;
                        piece.bytes = bytes;
                    }
                    Message::Forwarded(piece).put(&mut out);
                }
                other => other.put(&mut out),
            }
        }
        match values {
            0 => Sensed::Same,
            _ => Sensed::Other(out.to_vec(), values),
        }
    }

    /// Warnings and places may quote values.
    fn response_head(&self, bytes: Bytes) -> (Bytes, u64) {
        let Ok(mut head) = ResponseHead::read(&bytes) else {
            return (Bytes::new(), 1);
        };
        let mut values = 0;
        for (_, value) in &mut head.headers {
            if let Some(masked) = self.masked_text(value) {
                *value = masked.into();
                values += 1;
            }
        }
        match values {
            0 => (bytes, 0),
            values => (head.to_bytes(), values),
        }
    }
}
