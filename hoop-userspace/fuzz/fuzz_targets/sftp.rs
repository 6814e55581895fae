//! SFTP packets of both sides, in any pieces.
#![no_main]

use bytes::{Bytes, BytesMut};
use hoop::wire::ssh::sftp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = Bytes::copy_from_slice(bytes);
    let _ = sftp::request(&whole);
    let _ = sftp::reply(&whole);
    let mut at_once = BytesMut::from(bytes);
    let mut packets = Vec::new();
    while let Ok(Some(packet)) = sftp::split(&mut at_once) {
        let _ = sftp::request(&packet);
        packets.push(packet);
    }
    let mut pieces = BytesMut::new();
    let mut again = Vec::new();
    'all: for byte in bytes {
        pieces.extend_from_slice(&[*byte]);
        loop {
            match sftp::split(&mut pieces) {
                Ok(Some(packet)) => again.push(packet),
                Ok(None) => break,
                Err(_) => break 'all,
            }
        }
    }
    assert_eq!(packets, again);
});
