//! SPDY frames: a captured session with some bytes changed and others after it, in any pieces; and
//! what was decoded is encoded and decoded to the same.
#![no_main]

use bytes::{Bytes, BytesMut};
use hoop::wire::kubernetes::spdy::{Decoder, Encoder, Frame};
use libfuzzer_sys::fuzz_target;

/// As client-go wrote it: the streams of an exec, a port's, data, its end, a reset, a ping, settings
/// and a window's update.
const SESSION: &[u8] = b"\x80\x03\x00\x01\x00\x00\x00\x29\x00\x00\x00\x01\x00\x00\x00\x00\
    \x00\x00\x78\xf9\xe3\xc6\xa7\xc2\x62\x60\x60\x60\x04\xa7\xb3\x92\xa2\xd4\xc4\x5c\x68\x51\
    \xc2\x9a\x0a\x0a\x68\x00\x00\x00\x00\xff\xff\
    \x80\x03\x00\x01\x00\x00\x00\x17\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\xc2\x2e\x55\x5c\
    \x92\x92\x99\x07\x00\x00\x00\xff\xff\
    \x80\x03\x00\x01\x00\x00\x00\x19\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\xc2\x2a\xc5\x56\
    \x5c\x92\x92\x5f\x5a\x02\x00\x00\x00\xff\xff\
    \x80\x03\x00\x01\x00\x00\x00\x18\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\xc2\x2e\x57\x94\
    \x5a\x9c\x59\x95\x0a\x00\x00\x00\xff\xff\
    \x80\x03\x00\x01\x00\x00\x00\x2f\x00\x00\x00\x09\x00\x00\x00\x00\x00\x00\x02\x25\x71\x0c\
    \x39\x50\xc1\x95\x08\xa9\x03\x8a\xc0\xd9\xcd\xd4\xc4\xd8\x88\x81\x81\x81\xb3\x08\x92\x66\
    \x32\x41\x79\x89\xd1\x00\x00\x00\x00\xff\xff\
    \x00\x00\x00\x03\x00\x00\x00\x03ls\n\
    \x00\x00\x00\x03\x01\x00\x00\x00\
    \x80\x03\x00\x03\x00\x00\x00\x08\x00\x00\x00\x05\x00\x00\x00\x05\
    \x80\x03\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01\
    \x80\x03\x00\x04\x00\x00\x00\x0c\x00\x00\x00\x01\x01\x00\x00\x04\x00\x00\x00\x64\
    \x80\x03\x00\x09\x00\x00\x00\x08\x00\x00\x00\x03\x00\x01\x00\x00";

/// Frames, adjacent DATA of a stream joined, and whether all was in order.
fn decode(wire: &[u8], chunk: usize) -> (Vec<Frame>, bool) {
    let (mut decoder, mut input, mut found) = (Decoder::default(), BytesMut::new(), Vec::new());
    for piece in wire.chunks(chunk) {
        input.extend_from_slice(piece);
        loop {
            match decoder.next(&mut input) {
                Ok(Some(frame)) => join(&mut found, frame),
                Ok(None) => break,
                Err(_) => return (found, false),
            }
        }
    }
    (found, true)
}

fn join(found: &mut Vec<Frame>, frame: Frame) {
    match (found.last_mut(), frame) {
        (
            Some(Frame::Data {
                id: before,
                fin: end,
                bytes: have,
            }),
            Frame::Data { id, fin, bytes },
        ) if *before == id && !*end => {
            *have = Bytes::from([&have[..], &bytes[..]].concat());
            *end = fin;
        }
        (_, frame) => found.push(frame),
    }
}

fuzz_target!(|input: (Vec<(u16, u8)>, Vec<u8>)| {
    let (changes, tail) = input;
    let mut session = SESSION.to_vec();
    for (at, byte) in changes {
        let at = usize::from(at) % session.len();
        session[at] = byte;
    }
    session.extend_from_slice(&tail);
    for wire in [&session, &tail] {
        let (frames, valid) = decode(wire, usize::MAX);
        assert_eq!(decode(wire, 1), (frames.clone(), valid));
        let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
        for frame in &frames {
            encoder.put(frame, &mut out).unwrap();
        }
        assert_eq!(decode(&out, usize::MAX), (frames, true));
    }
});
