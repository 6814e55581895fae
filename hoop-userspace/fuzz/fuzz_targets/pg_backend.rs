//! A server's messages beside rows.
#![no_main]

use bytes::Bytes;
use hoop::wire::postgres::{backend, copy, fields};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = backend::ready(bytes);
    let _ = backend::command(bytes);
    let _ = copy::response(Bytes::copy_from_slice(bytes));
    fields::is_fatal(bytes);
    assert!(fields::fields(bytes).count() <= 65);
    if let Ok((name, value)) = backend::parameter(bytes) {
        let message = backend::parameter_message(name, value);
        assert_eq!(backend::parameter(&message[5..]), Ok((name, value)));
    }
});
