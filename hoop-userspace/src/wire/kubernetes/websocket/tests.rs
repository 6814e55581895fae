//! The examples of RFC 6455, what it forbids, and properties.

use super::*;
use proptest::prelude::*;

/// Events, the pieces of one frame joined; and why it stopped.
fn decode(sender: Sender, wire: &[u8], chunk: usize) -> (Vec<Event>, Option<WebSocketError>, bool) {
    let (mut decoder, mut input) = (Decoder::new(sender), BytesMut::new());
    let mut found: Vec<Event> = Vec::new();
    let mut message: Option<Piece> = None;
    for piece in wire.chunks(chunk.max(1)) {
        input.extend_from_slice(piece);
        loop {
            match decoder.next(&mut input) {
                Ok(Some(Event::Data(piece))) => {
                    assert_eq!(piece.first, message.is_none());
                    let whole = message.get_or_insert(Piece {
                        bytes: Bytes::new(),
                        ..piece.clone()
                    });
                    whole.bytes = [&whole.bytes[..], &piece.bytes[..]].concat().into();
                    whole.last = piece.last;
                    if piece.last {
                        found.extend(message.take().map(Event::Data));
                    }
                }
                Ok(Some(event)) => found.push(event),
                Ok(None) => break,
                Err(why) => return (found, Some(why), false),
            }
        }
    }
    let between = decoder.is_between_messages(&input);
    (found, None, between)
}

fn whole(kind: Kind, bytes: &[u8]) -> Event {
    Event::Data(Piece {
        kind,
        bytes: Bytes::copy_from_slice(bytes),
        first: true,
        last: true,
    })
}

#[test]
fn the_examples_of_the_rfc() {
    // Section 5.7.
    let unmasked = b"\x81\x05Hello";
    let masked = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    let hello = || vec![whole(Kind::Text, b"Hello")];
    for chunk in 1..12 {
        assert_eq!(
            decode(Sender::Server, unmasked, chunk),
            (hello(), None, true)
        );
        assert_eq!(decode(Sender::Client, masked, chunk), (hello(), None, true));
        let fragments = b"\x01\x03Hel\x80\x02lo";
        assert_eq!(
            decode(Sender::Server, fragments, chunk),
            (hello(), None, true)
        );
    }
    let mut out = BytesMut::new();
    put(
        Opcode::Text,
        true,
        &[b"He", b"llo"],
        Some([0x37, 0xfa, 0x21, 0x3d]),
        &mut out,
    );
    assert_eq!(out, &masked[..]);
    let (events, ..) = decode(Sender::Server, b"\x89\x05Hello\x8a\x05Hello", 3);
    assert_eq!(
        events,
        [Event::Ping("Hello".into()), Event::Pong("Hello".into())]
    );
    for length in [256usize, 65536] {
        let mut out = BytesMut::new();
        put(Opcode::Binary, true, &[&vec![1; length]], None, &mut out);
        let header: &[u8] = match length {
            256 => b"\x82\x7e\x01\x00",
            _ => b"\x82\x7f\0\0\0\0\0\x01\0\0",
        };
        assert!(out.starts_with(header));
        assert_eq!(out.len(), header.len() + length);
    }
    // Section 1.3.
    let nonce = "dGhlIHNhbXBsZSBub25jZQ==";
    assert_eq!(accept(nonce), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert!(is_key(nonce) && !is_key("dGhlIHNhbXBsZQ==") && !is_key("?"));
    assert_eq!(key(*b"the sample nonce"), nonce);
}

#[test]
fn control_frames_come_between_fragments() {
    let wire = b"\x02\x01a\x89\x01p\x00\x00\x80\x01b\x88\x02\x03\xe8";
    let expected = vec![
        Event::Ping("p".into()),
        whole(Kind::Binary, b"ab"),
        Event::Close(Some((close::NORMAL, String::new()))),
    ];
    for chunk in 1..wire.len() {
        assert_eq!(
            decode(Sender::Server, wire, chunk),
            (expected.clone(), None, true)
        );
    }
}

#[test]
fn what_the_rfc_forbids_is_refused() {
    let why = |wire: &[u8]| decode(Sender::Server, wire, 1).1;
    assert_eq!(why(b"\xc2\x00"), Some(WebSocketError::Reserved));
    assert_eq!(why(b"\x83\x00"), Some(WebSocketError::Opcode(3)));
    assert_eq!(why(b"\x8b\x00"), Some(WebSocketError::Opcode(11)));
    assert_eq!(why(b"\x82\x80"), Some(WebSocketError::Masked));
    assert_eq!(
        decode(Sender::Client, b"\x82\x00", 1).1,
        Some(WebSocketError::Unmasked)
    );
    assert_eq!(why(b"\x82\x7e\x00\x7d"), Some(WebSocketError::Length));
    assert_eq!(
        why(b"\x82\x7f\0\0\0\0\0\0\xff\xff"),
        Some(WebSocketError::Length)
    );
    assert_eq!(why(b"\x09\x00"), Some(WebSocketError::Control));
    assert_eq!(why(b"\x89\x7e"), Some(WebSocketError::Control));
    assert_eq!(why(b"\x80\x00"), Some(WebSocketError::NotBegun));
    assert_eq!(why(b"\x02\x00\x82\x00"), Some(WebSocketError::Interrupted));
    assert_eq!(why(b"\x88\x00\x82\x00"), Some(WebSocketError::AfterClose));
}

#[test]
fn what_is_too_long_is_refused_by_its_header() {
    let most = |length: u64, opcode: u8| {
        let mut wire = vec![opcode, 127];
        wire.extend(length.to_be_bytes());
        wire
    };
    let why = |wire: &[u8]| decode(Sender::Server, wire, usize::MAX).1;
    assert_eq!(why(&most(MAX_MESSAGE, 0x82)), None);
    for length in [MAX_MESSAGE + 1, u64::MAX] {
        let error = why(&most(length, 0x82)).unwrap();
        assert_eq!(error, WebSocketError::TooBig);
        assert_eq!(error.close_code(), close::TOO_BIG);
    }
    // Fragments count together.
    let mut wire = b"\x02\x01a".to_vec();
    wire.extend(most(MAX_MESSAGE, 0x80));
    assert_eq!(why(&wire), Some(WebSocketError::TooBig));
}

#[test]
fn text_is_utf_8_and_bytes_need_not_be() {
    let sign = "\u{20ac}\u{1f980}".as_bytes();
    for cut in 0..=sign.len() {
        let mut wire = vec![0x01, cut as u8];
        wire.extend(&sign[..cut]);
        wire.extend([0x80, (sign.len() - cut) as u8]);
        wire.extend(&sign[cut..]);
        for chunk in 1..5 {
            let (events, error, _) = decode(Sender::Server, &wire, chunk);
            assert_eq!((events, error), (vec![whole(Kind::Text, sign)], None));
        }
    }
    for bad in [
        &b"\x81\x01\xff"[..],
        b"\x81\x02\xc0\x80",
        b"\x81\x03\xed\xa0\x80",
        b"\x81\x02\xe2\x82",
        b"\x01\x01\xe2\x80\x01\x61",
    ] {
        let error = decode(Sender::Server, bad, 1).1.unwrap();
        assert_eq!(error, WebSocketError::NotUtf8);
        assert_eq!(error.close_code(), close::INVALID_PAYLOAD);
    }
    let (events, error, _) = decode(Sender::Server, b"\x82\x01\xff", 1);
    assert_eq!((events, error), (vec![whole(Kind::Binary, b"\xff")], None));
}

#[test]
fn close_frames() {
    let of = |payload: &[u8]| {
        let mut wire = vec![0x88, payload.len() as u8];
        wire.extend(payload);
        let (mut events, error, _) = decode(Sender::Server, &wire, 1);
        error.map_or_else(|| Ok(events.remove(0)), Err)
    };
    assert_eq!(of(b""), Ok(Event::Close(None)));
    assert_eq!(
        of(b"\x0f\xa0bye"),
        Ok(Event::Close(Some((4000, "bye".into()))))
    );
    for code in [
        0u16,
        999,
        1004,
        1005,
        1006,
        1015,
        1016,
        2999,
        5000,
        u16::MAX,
    ] {
        assert_eq!(
            of(&code.to_be_bytes()),
            Err(WebSocketError::CloseCode(code))
        );
    }
    assert_eq!(of(b"\x03"), Err(WebSocketError::CloseCode(3)));
    assert_eq!(of(b"\x03\xe8\xff"), Err(WebSocketError::NotUtf8));
    let mut out = BytesMut::new();
    put_close(close::TOO_BIG, &"\u{20ac}".repeat(60), None, &mut out);
    let (events, error, _) = decode(Sender::Server, &out, 7);
    let reason = "\u{20ac}".repeat(41);
    assert_eq!(error, None);
    assert_eq!(events, [Event::Close(Some((close::TOO_BIG, reason)))]);
}

fn any_event() -> impl Strategy<Value = Event> {
    let bytes = |most| prop::collection::vec(any::<u8>(), 0..most);
    prop_oneof![
        bytes(400).prop_map(|b| whole(Kind::Binary, &b)),
        ".{0,80}".prop_map(|t| whole(Kind::Text, t.as_bytes())),
        bytes(126).prop_map(|b| Event::Ping(b.into())),
        bytes(126).prop_map(|b| Event::Pong(b.into())),
    ]
}

/// Data in fragments of `cut` bytes.
fn encode(event: &Event, cut: usize, mask: Option<[u8; 4]>, out: &mut BytesMut) {
    match event {
        Event::Data(piece) => {
            let mut opcode = match piece.kind {
                Kind::Text => Opcode::Text,
                Kind::Binary => Opcode::Binary,
            };
            let mut rest = &piece.bytes[..];
            loop {
                let (now, after) = rest.split_at(rest.len().min(cut));
                put(opcode, after.is_empty(), &[now], mask, out);
                (opcode, rest) = (Opcode::Continuation, after);
                if rest.is_empty() {
                    return;
                }
            }
        }
        Event::Ping(bytes) => put(Opcode::Ping, true, &[bytes], mask, out),
        Event::Pong(bytes) => put(Opcode::Pong, true, &[bytes], mask, out),
        Event::Close(said) => {
            let (code, reason) = said.clone().unwrap();
            put_close(code, &reason, mask, out);
        }
    }
}

proptest! {
    #[test]
    fn decode_of_encode_is_identity_in_any_cut(
        events in prop::collection::vec(any_event(), 0..8),
        mask: Option<[u8; 4]>,
        cut in 1usize..200,
        chunk in 1usize..200,
    ) {
        let sender = if mask.is_some() { Sender::Client } else { Sender::Server };
        let mut out = BytesMut::new();
        events.iter().for_each(|e| encode(e, cut, mask, &mut out));
        prop_assert_eq!(decode(sender, &out, chunk), (events, None, true));
    }

    #[test]
    fn no_bytes_panic_and_any_cut_gives_the_same(bytes: Vec<u8>, client: bool, chunk in 1usize..9) {
        let sender = if client { Sender::Client } else { Sender::Server };
        let one = decode(sender, &bytes, chunk);
        prop_assert_eq!(one, decode(sender, &bytes, usize::MAX));
    }

    #[test]
    fn utf_8_in_any_cut_is_what_it_is_in_one(bytes: Vec<u8>, cut: prop::sample::Index) {
        let mut utf8 = Utf8::default();
        let cut = cut.index(bytes.len() + 1);
        let valid = utf8.push(&bytes[..cut], false).and_then(|()| utf8.push(&bytes[cut..], true));
        prop_assert_eq!(valid.is_ok(), std::str::from_utf8(&bytes).is_ok());
    }
}
