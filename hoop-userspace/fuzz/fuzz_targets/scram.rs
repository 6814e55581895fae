//! What a server may answer to hoop's SCRAM.
#![no_main]

use hoop::wire::scram::{AwaitServerFirst, Binding};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (client, _) = AwaitServerFirst::new(Binding::NotOffered, "abcdefgh".into());
    let _ = client.server_first(bytes);
});
