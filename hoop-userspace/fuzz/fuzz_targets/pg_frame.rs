//! Any cutting of the bytes gives the same messages, or the same error.
#![no_main]

use bytes::BytesMut;
use hoop::wire::postgres::frame::{Boundary, split};
use libfuzzer_sys::fuzz_target;

const MOST: usize = 1 << 16;

fn messages(bytes: &[u8], chunk: usize) -> (Vec<(u8, Vec<u8>)>, bool) {
    let (mut input, mut found) = (BytesMut::new(), Vec::new());
    for piece in bytes.chunks(chunk) {
        input.extend_from_slice(piece);
        loop {
            match split(&mut input, MOST) {
                Ok(Some((tag, body))) => found.push((tag, body.to_vec())),
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
    }
    (found, false)
}

fuzz_target!(|data: (u8, &[u8])| {
    let (chunk, bytes) = data;
    assert_eq!(
        messages(bytes, usize::from(chunk) + 1),
        messages(bytes, bytes.len().max(1))
    );
    let mut boundary = Boundary::default();
    for piece in bytes.chunks(usize::from(chunk) + 1) {
        if boundary.feed(piece).is_err() {
            break;
        }
    }
});
