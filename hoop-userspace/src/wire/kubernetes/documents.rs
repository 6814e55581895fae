//! Where one JSON document of a stream ends: a watch sends them back to back.
//!
//! Only the ends are found here, by counting brackets outside strings (RFC 8259); whether what lies
//! between is valid is for whoever parses it.

use bytes::{Bytes, BytesMut};

/// Cuts a stream of JSON objects into single ones.
#[derive(Debug)]
pub struct Documents {
    buffer: BytesMut,
    /// Bytes of the buffer that have been looked at.
    seen: usize,
    depth: u32,
    within: Within,
    most: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    Nothing,
    Text,
    Escape,
}

/// The stream cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadStream {
    #[error("an object is larger than {0} bytes")]
    TooLarge(usize),
    #[error("what was sent is no JSON object")]
    NotAnObject,
}

impl Documents {
    /// `most` bounds one document, in bytes.
    pub fn new(most: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            seen: 0,
            depth: 0,
            within: Within::Nothing,
            most,
        }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole document, without space around it; `None` until more has come.
    pub fn take(&mut self) -> Result<Option<Bytes>, BadStream> {
        if self.depth == 0 {
            self.skip_space();
        }
        while let Some(byte) = self.buffer.get(self.seen).copied() {
            if self.depth == 0 && byte != b'{' {
                return Err(BadStream::NotAnObject);
            }
            self.seen += 1;
            self.within = match (self.within, byte) {
                (Within::Text, b'\\') => Within::Escape,
                (Within::Text, b'"') => Within::Nothing,
                (Within::Text | Within::Escape, _) => Within::Text,
                (Within::Nothing, b'"') => Within::Text,
                (Within::Nothing, b'{' | b'[') => {
                    self.depth = self.depth.saturating_add(1);
                    Within::Nothing
                }
                (Within::Nothing, b'}' | b']') => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        let document = self.buffer.split_to(std::mem::take(&mut self.seen));
                        return match document.len() > self.most {
                            true => Err(BadStream::TooLarge(self.most)),
                            false => Ok(Some(document.freeze())),
                        };
                    }
                    Within::Nothing
                }
                (Within::Nothing, _) => Within::Nothing,
            };
        }
        match self.buffer.len() > self.most {
            true => Err(BadStream::TooLarge(self.most)),
            false => Ok(None),
        }
    }

    /// Whether everything that came was whole documents.
    pub fn is_empty(&mut self) -> bool {
        if self.depth == 0 {
            self.skip_space();
        }
        self.buffer.is_empty()
    }

    fn skip_space(&mut self) {
        let space = self.buffer.iter().take_while(|b| b.is_ascii_whitespace());
        let count = space.count();
        let _ = self.buffer.split_to(count);
        self.seen = self.seen.saturating_sub(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(pieces: &[&[u8]]) -> Result<Vec<Bytes>, BadStream> {
        let mut documents = Documents::new(100);
        let mut found = Vec::new();
        for piece in pieces {
            documents.push(piece);
            while let Some(document) = documents.take()? {
                found.push(document);
            }
        }
        assert!(documents.is_empty());
        Ok(found)
    }

    #[test]
    fn documents_are_found_wherever_the_pieces_end() {
        let text = br#" {"a":"}\"{"}
{"b":[{},"\\"]}{} "#;
        for cut in 0..text.len() {
            let (one, other) = text.split_at(cut);
            let found = all(&[one, other]).unwrap();
            assert_eq!(
                found,
                [&br#"{"a":"}\"{"}"#[..], br#"{"b":[{},"\\"]}"#, b"{}"]
            );
        }
    }

    #[test]
    fn what_is_no_object_or_has_no_end_is_an_error() {
        assert_eq!(all(&[b"null"]), Err(BadStream::NotAnObject));
        assert_eq!(all(&[b"{} ]"]), Err(BadStream::NotAnObject));
        let long = format!("{{\"a\":\"{}", "x".repeat(200));
        assert_eq!(all(&[long.as_bytes()]), Err(BadStream::TooLarge(100)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut documents = Documents::new(100);
            documents.push(&bytes);
            while let Ok(Some(_)) = documents.take() {}
        }
    }
}
