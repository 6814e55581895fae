//! What the kernel says of sockets, as `hoop discover --host` reads it.
#![no_main]

use hoop::capture::sockets::watched;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut all = Vec::new();
    let _ = watched(bytes, &mut all);
    // Each takes up at least a header and a message of the datagram.
    assert!(all.len() <= bytes.len() / 88);
});
