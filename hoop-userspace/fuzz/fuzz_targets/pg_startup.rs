//! First packets: what is decoded and encoded again is the same.
#![no_main]

use bytes::Bytes;
use hoop::wire::postgres::startup::{claimed, decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(length) = bytes.first_chunk() {
        let _ = claimed(*length);
    }
    if let Ok(first) = decode(Bytes::copy_from_slice(bytes)) {
        let again = encode(&first).slice(4..);
        assert_eq!(decode(again), Ok(first));
    }
});
