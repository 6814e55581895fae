//! Objects of a stream: wherever the pieces end, the same objects are found.
#![no_main]

use hoop::wire::kubernetes::documents::{BadStream, Documents};
use libfuzzer_sys::fuzz_target;

fn all(pieces: &[&[u8]]) -> (Vec<bytes::Bytes>, Result<(), BadStream>) {
    let mut documents = Documents::new(1 << 16);
    let mut found = Vec::new();
    for piece in pieces {
        documents.push(piece);
        loop {
            match documents.take() {
                Ok(Some(document)) => found.push(document),
                Ok(None) => break,
                Err(error) => return (found, Err(error)),
            }
        }
    }
    (found, Ok(()))
}

fuzz_target!(|input: (usize, Vec<u8>)| {
    let (cut, bytes) = input;
    let (one, other) = bytes.split_at(cut % (bytes.len() + 1));
    let whole = all(&[&bytes]);
    assert_eq!(all(&[one, other]), whole);
    for document in whole.0 {
        assert!(document.starts_with(b"{"));
    }
});
