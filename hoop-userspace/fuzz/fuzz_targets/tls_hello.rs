//! A ClientHello, as far as it is read before anything is trusted.
#![no_main]

use hoop::wire::tls::{client_hello, host_name};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = client_hello(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = host_name(text);
    }
});
