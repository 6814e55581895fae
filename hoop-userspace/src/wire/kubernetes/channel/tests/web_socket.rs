//! WebSocket, message by message.

use super::super::super::websocket::{self, Opcode};
use super::*;

pub(super) fn from_client(opcode: Opcode, payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    websocket::put(opcode, true, &[payload], Some(mask()), &mut out);
    out
}

pub(super) fn from_server(opcode: Opcode, payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    websocket::put(opcode, true, &[payload], None, &mut out);
    out
}

fn client_says(protocol: Protocol, asked: Asked, wire: &[u8]) -> Result<Vec<Event>, ChannelError> {
    let mut peer = Peer::new(Side::Client, protocol, &Purpose::Command(asked), mask);
    events(&mut peer, b"");
    let one = feed(&mut peer, wire, usize::MAX, &mut BytesMut::new());
    one.1.map_or(Ok(one.0), Err)
}

#[test]
fn the_first_byte_is_the_channel() {
    let says =
        |payload: &[u8]| client_says(Protocol::V5, ALL, &from_client(Opcode::Binary, payload));
    assert_eq!(says(b"\0ls\n"), Ok(vec![said(Stream::Stdin, "ls\n")]));
    assert_eq!(says(b"\0"), Ok(vec![said(Stream::Stdin, "")]));
    assert_eq!(says(b""), Ok(vec![]));
    assert_eq!(says(b"\xff\0"), Ok(vec![ended(Stream::Stdin)]));
    assert_eq!(says(b"\x05x"), Err(ChannelError::UnknownChannel(5)));
    assert_eq!(says(b"\xff\x05"), Err(ChannelError::UnknownChannel(5)));
    assert_eq!(says(b"\x01x"), Err(ChannelError::Direction(Stream::Stdout)));
    assert_eq!(says(b"\x03x"), Err(ChannelError::Direction(Stream::Error)));
    assert_eq!(says(b"\xff"), Err(ChannelError::CloseSignal));
    assert_eq!(says(b"\xff\0\0"), Err(ChannelError::CloseSignal));
    // The python client sends text.
    let text = from_client(Opcode::Text, b"\0ls\n");
    assert_eq!(
        client_says(Protocol::V4, ALL, &text),
        Ok(vec![said(Stream::Stdin, "ls\n")])
    );
    // v4 has no 255.
    let end = from_client(Opcode::Binary, b"\xff\0");
    assert_eq!(
        client_says(Protocol::V4, ALL, &end),
        Err(ChannelError::UnknownChannel(255))
    );
    let none = Asked::default();
    let input = from_client(Opcode::Binary, b"\0x");
    assert_eq!(
        client_says(Protocol::V5, none, &input),
        Err(ChannelError::NotAsked(Stream::Stdin))
    );
}

#[test]
fn a_channel_ends_once() {
    let mut wire = from_client(Opcode::Binary, b"\xff\0");
    wire.extend(from_client(Opcode::Binary, b"\xff\0"));
    assert_eq!(
        client_says(Protocol::V5, ALL, &wire),
        Ok(vec![ended(Stream::Stdin)])
    );
    wire.extend(from_client(Opcode::Binary, b"\0x"));
    assert_eq!(
        client_says(Protocol::V5, ALL, &wire),
        Err(ChannelError::AfterEnd(Stream::Stdin))
    );
}

#[test]
fn a_status_stays_one_message_and_is_bounded() {
    let purpose = Purpose::Command(ALL);
    let text = "{\"metadata\":{},\"status\":\"Success\"}";
    let mut wire = BytesMut::new();
    websocket::put(
        Opcode::Binary,
        false,
        &[b"\x03", &text.as_bytes()[..9]],
        None,
        &mut wire,
    );
    websocket::put(
        Opcode::Continuation,
        true,
        &[&text.as_bytes()[9..]],
        None,
        &mut wire,
    );
    for chunk in 1..wire.len() {
        let mut peer = Peer::new(Side::Server, Protocol::V5, &purpose, mask);
        let (events, why) = feed(&mut peer, &wire, chunk, &mut BytesMut::new());
        assert_eq!((events, why), (vec![said(Stream::Error, text)], None));
    }
    let mut peer = Peer::new(Side::Server, Protocol::V5, &purpose, mask);
    let long = from_server(Opcode::Binary, &vec![3; MAX_WHOLE + 2]);
    let (_, why) = feed(&mut peer, &long, 999, &mut BytesMut::new());
    assert_eq!(why, Some(ChannelError::TooLarge(Stream::Error)));
}

#[test]
fn base64_as_the_server_writes_and_reads_it() {
    let purpose = Purpose::Command(ALL);
    let mut peer = Peer::new(Side::Client, Protocol::V4Base64, &purpose, mask);
    let mut out = BytesMut::new();
    peer.send(&message(Stream::Stdout, "hello"), &mut out)
        .unwrap();
    assert_eq!(out, from_server(Opcode::Text, b"1aGVsbG8="));
    let says =
        |payload: &[u8]| client_says(Protocol::V4Base64, ALL, &from_client(Opcode::Text, payload));
    assert_eq!(says(b"0aGVsbG8="), Ok(vec![said(Stream::Stdin, "hello")]));
    assert_eq!(
        says(b"0aGVs\r\nbG8=\n"),
        Ok(vec![said(Stream::Stdin, "hello")])
    );
    assert_eq!(says(b"0"), Ok(vec![said(Stream::Stdin, "")]));
    for bad in [
        &b"0aGVsbG8"[..],
        b"0a",
        b"0====",
        b"0aGVsbG8=aGVs",
        b"0aG=s",
        b"0a-_s",
    ] {
        assert_eq!(says(bad), Err(ChannelError::Base64));
    }
    assert_eq!(says(b"9aGVs"), Err(ChannelError::UnknownChannel(9)));
    assert_eq!(
        says(b"\0aGVs"),
        Err(ChannelError::UnknownChannel(0u8.wrapping_sub(b'0')))
    );
}

#[test]
fn ports_are_announced_in_the_first_two_bytes() {
    let ports = vec![5432, 5432];
    let purpose = Purpose::PortForward { ports };
    // 5432 is 0x1538; the low byte comes first.
    let mut peer = Peer::new(Side::Client, Protocol::PortForwardV4, &purpose, mask);
    let mut out = BytesMut::new();
    let early = peer.send(&message(data(5432, 0), "x"), &mut out);
    assert_eq!(early, Err(ChannelError::NotAccepted(data(5432, 0))));
    peer.accept(error(5432, 1), &mut out).unwrap();
    assert_eq!(out, from_server(Opcode::Binary, b"\x03\x38\x15"));
    let reads = |wire: &[u8], chunk| {
        let mut peer = Peer::new(Side::Server, Protocol::PortForwardV4, &purpose, mask);
        let mut out = BytesMut::new();
        peer.open(data(5432, 1), &mut out).unwrap();
        assert!(!peer.can_send(data(5432, 1)));
        let (events, why) = feed(&mut peer, wire, chunk, &mut out);
        (joined(events), why)
    };
    let mut wire = from_server(Opcode::Binary, b"\x02\x38");
    wire.extend(from_server(Opcode::Binary, b"\x02\x15N"));
    for chunk in 1..wire.len() {
        let (events, why) = reads(&wire, chunk);
        let expected = [Event::Accepted(data(5432, 1)), said(data(5432, 1), "N")];
        assert_eq!((&events[..], why), (&expected[..], None));
    }
    let other = from_server(Opcode::Binary, b"\x02\x15\x38");
    assert_eq!(reads(&other, 1).1, Some(ChannelError::Announcement(5432)));
}

#[test]
fn control_frames_are_answered() {
    let purpose = Purpose::Command(ALL);
    let mut peer = Peer::new(Side::Server, Protocol::V5, &purpose, mask);
    let mut wire = from_server(Opcode::Ping, b"p");
    wire.extend(from_server(Opcode::Close, b"\x03\xe8"));
    let mut out = BytesMut::new();
    let (events, why) = feed(&mut peer, &wire, 1, &mut out);
    assert_eq!((events, why), (vec![Event::Closed], None));
    let mut expected = from_client(Opcode::Pong, b"p");
    expected.extend(from_client(Opcode::Close, b"\x03\xe8"));
    assert_eq!(out, expected);
    // All was said.
    peer.close(&mut out);
    peer.fail(&ChannelError::Text, &mut out);
    peer.send(&message(Stream::Stdin, "x"), &mut out).unwrap();
    assert_eq!(out, expected);
}

#[test]
fn failures_have_their_close_codes() {
    let purpose = Purpose::Command(ALL);
    for (why, code) in [
        (ChannelError::Text, 1003u16),
        (ChannelError::Base64, 1007),
        (ChannelError::TooLarge(Stream::Error), 1009),
        (ChannelError::NotAsked(Stream::Stdin), 1002),
        (websocket::WebSocketError::TooBig.into(), 1009),
        (websocket::WebSocketError::NotUtf8.into(), 1007),
    ] {
        let mut peer = Peer::new(Side::Client, Protocol::V5, &purpose, mask);
        let mut out = BytesMut::new();
        peer.fail(&why, &mut out);
        let reason = why.to_string();
        let payload = [&code.to_be_bytes()[..], reason.as_bytes()].concat();
        assert_eq!(out, from_server(Opcode::Close, &payload));
    }
}
