//! What a server may say while hoop logs in.
#![no_main]

use bytes::BytesMut;
use hoop::wire::postgres::login::next;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut input = BytesMut::from(bytes);
    while let Ok(Some(_)) = next(&mut input) {}
});
