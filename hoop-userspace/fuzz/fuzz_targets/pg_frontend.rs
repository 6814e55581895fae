//! A client's messages: what is decoded and encoded again is the same.
#![no_main]

use bytes::{Bytes, BytesMut};
use hoop::wire::postgres::authentication::initial_response;
use hoop::wire::postgres::frame::split;
use hoop::wire::postgres::frontend::{decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: (u8, &[u8])| {
    let (tag, bytes) = data;
    let body = Bytes::copy_from_slice(bytes);
    let _ = initial_response(body.clone());
    if let Ok(message) = decode(tag, body) {
        let mut out = BytesMut::new();
        encode(&message, &mut out);
        let (tag, body) = split(&mut out, usize::MAX).unwrap().unwrap();
        assert_eq!(decode(tag, body), Ok(message));
    }
});
