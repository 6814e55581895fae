//! Channel messages: what was taken is put again byte for byte.
#![no_main]

use bytes::{Bytes, BytesMut};
use hoop::wire::ssh::channel::Message;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = Bytes::copy_from_slice(bytes);
    while let Ok(Some(message)) = Message::take(&mut rest) {
        let mut out = BytesMut::new();
        message.put(&mut out);
        let mut again = out.freeze();
        assert_eq!(Message::take(&mut again), Ok(Some(message)));
    }
});
