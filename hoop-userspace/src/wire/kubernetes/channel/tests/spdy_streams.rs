//! SPDY, frame by frame.

use super::super::super::spdy::{
    self, Decoder, Encoder, Frame, Headers, StreamId, SynStream, status,
};
use super::*;

pub(super) fn syn(number: u32, pairs: &[(&str, &str)]) -> Frame {
    let own = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Frame::SynStream(SynStream {
        id: StreamId::new(number).unwrap(),
        fin: false,
        unidirectional: false,
        associated: 0,
        priority: 0,
        headers: Headers::new(pairs.iter().map(|(n, v)| (own(n), own(v))).collect()).unwrap(),
    })
}

fn frame(number: u32, fin: bool, bytes: &'static str) -> Frame {
    Frame::Data {
        id: StreamId::new(number).unwrap(),
        fin,
        bytes: bytes.into(),
    }
}

fn reset(number: u32, status: u32) -> Frame {
    let id = StreamId::new(number).unwrap();
    Frame::RstStream { id, status }
}

pub(super) fn encode(frames: &[Frame]) -> BytesMut {
    let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
    frames
        .iter()
        .for_each(|f| encoder.put(f, &mut out).unwrap());
    out
}

fn decode(wire: &[u8]) -> Vec<Frame> {
    let (mut decoder, mut input) = (Decoder::default(), BytesMut::from(wire));
    std::iter::from_fn(|| decoder.next(&mut input).unwrap()).collect()
}

fn spdy_server(purpose: &Purpose) -> Peer {
    let protocol = match purpose {
        Purpose::Command(_) => Protocol::SpdyV4,
        Purpose::PortForward { .. } => Protocol::PortForwardSpdy,
    };
    Peer::new(Side::Client, protocol, purpose, mask)
}

pub(super) fn forward() -> Purpose {
    Purpose::PortForward { ports: vec![] }
}

/// Why the frames, whose streams are accepted as they are opened, are refused.
fn refused(purpose: &Purpose, frames: &[Frame]) -> Option<ChannelError> {
    let mut peer = spdy_server(purpose);
    let (mut input, mut out) = (encode(frames), BytesMut::new());
    loop {
        match peer.next(&mut input, &mut out) {
            Ok(Some(Event::Opened(stream))) => peer.accept(stream, &mut out).unwrap(),
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(why) => return Some(why),
        }
    }
}

const STDIN: &[(&str, &str)] = &[("streamtype", "stdin")];

#[test]
fn only_what_the_query_asks_for_is_opened() {
    let none = Purpose::Command(Asked {
        stdout: true,
        ..Asked::default()
    });
    let all = Purpose::Command(ALL);
    let not_asked = Some(ChannelError::NotAsked(Stream::Stdin));
    assert_eq!(refused(&none, &[syn(1, STDIN)]), not_asked);
    assert_eq!(refused(&all, &[syn(1, STDIN)]), None);
    let twice = [syn(1, STDIN), syn(3, STDIN)];
    assert_eq!(
        refused(&all, &twice),
        Some(ChannelError::Twice(Stream::Stdin))
    );
    // Nor again after it is over.
    let again = [syn(1, STDIN), reset(1, status::CANCEL), syn(3, STDIN)];
    assert_eq!(
        refused(&all, &again),
        Some(ChannelError::Twice(Stream::Stdin))
    );
    for (pairs, why) in [
        (&[][..], "there is no stream type"),
        (&[("streamtype", "")], "there is no stream type"),
        (&[("streamtype", "data")], "the stream type is unknown"),
        (
            &[("streamtype", "stdin\0stdout")],
            "a header has several values",
        ),
    ] {
        assert_eq!(
            refused(&all, &[syn(1, pairs)]),
            Some(ChannelError::Headers(why))
        );
    }
}

#[test]
fn stream_numbers_rise_and_are_the_clients() {
    let all = Purpose::Command(ALL);
    let error: &[_] = &[("streamtype", "error")];
    for frames in [
        vec![syn(2, STDIN)],
        vec![syn(3, STDIN), syn(1, error)],
        vec![syn(3, STDIN), syn(3, error)],
        vec![frame(1, false, "x")],
        vec![syn(1, STDIN), frame(3, false, "x")],
        vec![reset(1, status::CANCEL)],
    ] {
        assert!(matches!(
            refused(&all, &frames),
            Some(ChannelError::UnknownStream(_))
        ));
    }
}

#[test]
fn ends_are_kept() {
    let all = Purpose::Command(ALL);
    let stdout: &[_] = &[("streamtype", "stdout")];
    assert_eq!(
        refused(
            &all,
            &[syn(1, STDIN), frame(1, true, ""), frame(1, false, "x")]
        ),
        Some(ChannelError::AfterEnd(Stream::Stdin))
    );
    assert_eq!(
        refused(&all, &[syn(1, stdout), frame(1, false, "x")]),
        Some(ChannelError::Direction(Stream::Stdout))
    );
    // Its end may come from the client, and bytes under way when it is reset are of no interest.
    assert_eq!(refused(&all, &[syn(1, stdout), frame(1, true, "")]), None);
    let late = [
        syn(1, STDIN),
        reset(1, status::CANCEL),
        frame(1, false, "x"),
        reset(1, status::CANCEL),
    ];
    assert_eq!(refused(&all, &late), None);
    // Without a reply from the server nothing may be sent.
    let mut peer = spdy_server(&all);
    let wire = encode(&[syn(1, STDIN), frame(1, false, "x")]);
    let (events, why) = feed(&mut peer, &wire, 3, &mut BytesMut::new());
    assert_eq!(events, [Event::Opened(Stream::Stdin)]);
    assert_eq!(why, Some(ChannelError::NotAccepted(Stream::Stdin)));
}

#[test]
fn what_no_client_of_kubernetes_sends_is_refused() {
    let all = Purpose::Command(ALL);
    let Frame::SynStream(plain) = syn(1, STDIN) else {
        panic!("not a SYN_STREAM");
    };
    let one_way = SynStream {
        unidirectional: true,
        ..plain.clone()
    };
    let child = SynStream {
        associated: 1,
        ..plain
    };
    let (id, fin, headers) = (StreamId::new(1).unwrap(), false, Headers::default());
    let late = Frame::Headers {
        id,
        fin,
        headers: headers.clone(),
    };
    let reply = Frame::SynReply { id, fin, headers };
    for frames in [
        vec![Frame::SynStream(one_way)],
        vec![Frame::SynStream(child)],
        vec![syn(1, STDIN), late],
        vec![syn(1, STDIN), reply],
    ] {
        assert!(matches!(
            refused(&all, &frames),
            Some(ChannelError::Unexpected(_))
        ));
    }
}

#[test]
fn pings_are_answered_and_flow_control_is_not_kept() {
    let mut peer = spdy_server(&forward());
    let window = Frame::WindowUpdate { id: 1, delta: 9 };
    let settings = Frame::Settings {
        clear: false,
        entries: vec![],
    };
    let wire = encode(&[Frame::Ping(7), window, settings, Frame::Ping(2)]);
    let mut out = BytesMut::new();
    assert_eq!(feed(&mut peer, &wire, 1, &mut out), (vec![], None));
    assert_eq!(decode(&out), [Frame::Ping(7)]);
}

pub(super) fn pair(
    id: &'static str,
    kind: &'static str,
    port: &'static str,
) -> Vec<(&'static str, &'static str)> {
    vec![("streamtype", kind), ("port", port), ("requestid", id)]
}

#[test]
fn forwarded_connections_are_pairs() {
    let mut peer = spdy_server(&forward());
    let old = |kind| vec![("streamtype", kind), ("port", "81")];
    // Two at once, the data first in one; then a client that names no request.
    let wire = encode(&[
        syn(1, &pair("0", "error", "80")),
        syn(3, &pair("1", "data", "80")),
        syn(5, &pair("0", "data", "80")),
        syn(7, &pair("1", "error", "80")),
        syn(9, &pair("0", "error", "8080")),
        syn(11, &old("error")),
        syn(13, &old("data")),
    ]);
    let (events, why) = feed(&mut peer, &wire, 16, &mut BytesMut::new());
    assert_eq!(why, None);
    let expected = [
        error(80, 0),
        data(80, 1),
        data(80, 0),
        error(80, 1),
        error(8080, 2),
        error(81, 3),
        data(81, 3),
    ];
    assert_eq!(events, expected.map(Event::Opened));
}

#[test]
fn forwarded_connections_that_make_no_pair_are_refused() {
    let why = |frames: &[Frame]| refused(&forward(), frames).unwrap();
    let first = || syn(1, &pair("0", "data", "80"));
    assert_eq!(
        why(&[first(), syn(3, &pair("0", "data", "80"))]),
        ChannelError::Twice(data(80, 0))
    );
    let headers = |frames: &[Frame]| match why(frames) {
        ChannelError::Headers(what) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        headers(&[first(), syn(3, &pair("0", "error", "81"))]),
        "the two streams of a connection name different ports"
    );
    for port in ["", "0", "65536", "-1", "+1", "1 ", "0x50", "8\x008"] {
        headers(&[syn(1, &pair("0", "data", port))]);
    }
    headers(&[syn(1, &pair("0", "stdin", "80"))]);
    headers(&[syn(1, &[("streamtype", "data")])]);
    let long = "9".repeat(65);
    headers(&[syn(
        1,
        &[("streamtype", "data"), ("port", "80"), ("requestid", &long)],
    )]);
}

#[test]
fn surplus_streams_are_refused_and_the_others_live() {
    let mut peer = spdy_server(&forward());
    let mut frames = Vec::new();
    let names: Vec<String> = (0..MAX_STREAMS + 1).map(|n| n.to_string()).collect();
    for (at, name) in names.iter().enumerate() {
        let headers = [("streamtype", "data"), ("port", "80"), ("requestid", name)];
        frames.push(syn(at as u32 * 2 + 1, &headers));
    }
    let mut out = BytesMut::new();
    let (events, why) = feed(&mut peer, &encode(&frames), usize::MAX, &mut out);
    assert_eq!((events.len(), why), (MAX_STREAMS, None));
    let last = MAX_STREAMS as u32 * 2 + 1;
    assert_eq!(decode(&out), [reset(last, status::REFUSED_STREAM)]);
}

#[test]
fn a_server_that_opens_streams_or_replies_twice_is_refused() {
    let all = Purpose::Command(ALL);
    let mut peer = Peer::new(Side::Server, Protocol::SpdyV4, &all, mask);
    let mut out = BytesMut::new();
    peer.open(Stream::Error, &mut out).unwrap();
    assert_eq!(
        peer.open(Stream::Error, &mut out),
        Err(ChannelError::Twice(Stream::Error))
    );
    assert_eq!(
        peer.send(&Message::end(Stream::Error), &mut out),
        Err(ChannelError::NotAccepted(Stream::Error))
    );
    assert_eq!(
        peer.send(&Message::end(Stream::Stdin), &mut out),
        Err(ChannelError::NotOpen(Stream::Stdin))
    );
    let (id, fin, headers) = (StreamId::new(1).unwrap(), false, Headers::default());
    let reply = Frame::SynReply { id, fin, headers };
    let (events, why) = feed(&mut peer, &encode(&[reply.clone(), reply]), 1, &mut out);
    assert_eq!(events, [Event::Accepted(Stream::Error)]);
    assert!(matches!(why, Some(ChannelError::Unexpected(_))));
    let mut peer = Peer::new(Side::Server, Protocol::SpdyV4, &all, mask);
    let (_, why) = feed(&mut peer, &encode(&[syn(2, STDIN)]), 1, &mut out);
    assert!(matches!(why, Some(ChannelError::Unexpected(_))));
}

#[test]
fn closing_resets_what_is_open_and_says_goodbye_once() {
    let mut peer = spdy_server(&Purpose::Command(ALL));
    let mut out = BytesMut::new();
    feed(
        &mut peer,
        &encode(&[syn(1, STDIN)]),
        9,
        &mut BytesMut::new(),
    );
    peer.accept(Stream::Stdin, &mut out).unwrap();
    out.clear();
    peer.close(&mut out);
    peer.close(&mut out);
    let goodbye = |last, status| Frame::GoAway { last, status };
    assert_eq!(
        decode(&out),
        [reset(1, status::CANCEL), goodbye(1, spdy::goaway::OK)]
    );
    let mut peer = spdy_server(&Purpose::Command(ALL));
    out.clear();
    peer.fail(&ChannelError::CloseSignal, &mut out);
    assert_eq!(decode(&out), [goodbye(0, spdy::goaway::PROTOCOL_ERROR)]);
}

#[test]
fn a_tunnel_carries_binary_messages_cut_anywhere() {
    let wire = encode(&[
        syn(1, &pair("0", "error", "80")),
        Frame::Ping(1),
        Frame::GoAway { last: 0, status: 0 },
    ]);
    for cut in 1..wire.len() {
        let mut peer = Peer::new(Side::Client, Protocol::PortForwardTunnel, &forward(), mask);
        let mut messages = BytesMut::new();
        for piece in wire.chunks(cut) {
            messages.extend(from_client(Opcode::Binary, piece));
        }
        messages.extend(from_client(Opcode::Close, b""));
        let mut out = BytesMut::new();
        let (events, why) = feed(&mut peer, &messages, 5, &mut out);
        let expected = vec![Event::Opened(error(80, 0)), Event::Closed];
        assert_eq!((events, why), (expected, None));
        let mut pong = BytesMut::new();
        Encoder::default().put(&Frame::Ping(1), &mut pong).unwrap();
        assert!(out.starts_with(&from_server(Opcode::Binary, &pong)));
    }
    let mut peer = Peer::new(Side::Client, Protocol::PortForwardTunnel, &forward(), mask);
    let text = from_client(Opcode::Text, b"x");
    let (_, why) = feed(&mut peer, &text, 1, &mut BytesMut::new());
    assert_eq!(why, Some(ChannelError::Text));
}
