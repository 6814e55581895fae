//! WebSocket frames of both sides, in any pieces; what was decoded is encoded and decoded to the same.
#![no_main]

use bytes::{Bytes, BytesMut};
use hoop::wire::kubernetes::websocket::{Decoder, Event, Kind, Opcode, Sender, put, put_close};
use libfuzzer_sys::fuzz_target;

/// Whole messages and control frames, and whether all was in order.
fn decode(sender: Sender, wire: &[u8], chunk: usize) -> (Vec<Event>, bool) {
    let (mut decoder, mut input) = (Decoder::new(sender), BytesMut::new());
    let (mut found, mut message) = (Vec::new(), None);
    for piece in wire.chunks(chunk) {
        input.extend_from_slice(piece);
        loop {
            match decoder.next(&mut input) {
                Ok(Some(Event::Data(piece))) => {
                    assert_eq!(piece.first, message.is_none());
                    let mut whole = message.take().unwrap_or(piece.clone());
                    if !piece.first {
                        whole.bytes = Bytes::from([&whole.bytes[..], &piece.bytes[..]].concat());
                        whole.last = piece.last;
                    }
                    if whole.last {
                        if whole.kind == Kind::Text {
                            assert!(std::str::from_utf8(&whole.bytes).is_ok());
                        }
                        found.push(Event::Data(whole));
                    } else {
                        message = Some(whole);
                    }
                }
                Ok(Some(event)) => found.push(event),
                Ok(None) => break,
                Err(_) => return (found, false),
            }
        }
    }
    (found, true)
}

fn encode(event: &Event, mask: Option<[u8; 4]>, out: &mut BytesMut) {
    match event {
        Event::Data(piece) => {
            let opcode = match piece.kind {
                Kind::Text => Opcode::Text,
                Kind::Binary => Opcode::Binary,
            };
            put(opcode, true, &[&piece.bytes], mask, out);
        }
        Event::Ping(bytes) => put(Opcode::Ping, true, &[bytes], mask, out),
        Event::Pong(bytes) => put(Opcode::Pong, true, &[bytes], mask, out),
        Event::Close(None) => put(Opcode::Close, true, &[], mask, out),
        Event::Close(Some((code, reason))) => put_close(*code, reason, mask, out),
    }
}

fuzz_target!(|input: (bool, [u8; 4], Vec<u8>)| {
    let (client, mask, wire) = input;
    let (sender, mask) = match client {
        true => (Sender::Client, Some(mask)),
        false => (Sender::Server, None),
    };
    let (events, valid) = decode(sender, &wire, usize::MAX);
    assert_eq!(decode(sender, &wire, 1), (events.clone(), valid));
    let mut out = BytesMut::new();
    for event in &events {
        encode(event, mask, &mut out);
    }
    assert_eq!(decode(sender, &out, usize::MAX), (events, true));
});
