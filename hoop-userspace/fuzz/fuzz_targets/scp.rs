//! scp's records and command lines, in any pieces: content adds up to what was announced, and every
//! byte comes out in its place.
#![no_main]

use bytes::BytesMut;
use hoop::wire::ssh::scp::{self, Record, Sender};
use libfuzzer_sys::fuzz_target;

fn all(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    let (mut sender, mut input) = (Sender::default(), BytesMut::new());
    let (mut out, mut left) = (Vec::new(), 0);
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match sender.take(&mut input) {
                Ok(Some(record)) => {
                    let bytes = match record {
                        Record::File { line, size, name } => {
                            assert!(!name.contains(&b'/') && !name.is_empty());
                            left = size;
                            line
                        }
                        Record::Content(content) => {
                            left -= content.len() as u64;
                            content
                        }
                        Record::Complete { line } => {
                            assert_eq!(left, 0);
                            line
                        }
                        Record::Folder { line, .. }
                        | Record::Leave { line }
                        | Record::Other { line } => line,
                    };
                    out.extend_from_slice(&bytes);
                }
                Ok(None) => break,
                Err(_) => return (out, true),
            }
        }
    }
    (out, false)
}

fuzz_target!(|bytes: &[u8]| {
    let whole = all(&[bytes]);
    assert!(bytes.starts_with(&whole.0));
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    let pieces = all(&single);
    assert_eq!(whole, pieces);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = scp::command(text);
    }
});
