//! Heads of HTTP as hoop keeps them: what was read is written again byte for byte.
#![no_main]

use bytes::Bytes;
use hoop::wire::kubernetes::http::{RequestHead, ResponseHead};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(head) = RequestHead::read(&bytes) {
        assert_eq!(head.to_bytes(), bytes);
    }
    if let Ok(head) = ResponseHead::read(&bytes) {
        assert_eq!(ResponseHead::read(&head.to_bytes()), Ok(head));
    }
});
