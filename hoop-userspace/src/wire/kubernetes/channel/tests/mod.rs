//! Sessions as clients and servers of Kubernetes hold them, what is refused in them, and properties.

use proptest::prelude::*;

use super::super::websocket::Opcode;
use super::*;
use web_socket::{from_client, from_server};

mod negotiation;
mod spdy_streams;
mod web_socket;

const ALL: Asked = Asked {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};
const COMMANDS: [Protocol; 6] = [
    Protocol::V5,
    Protocol::V4,
    Protocol::V4Base64,
    Protocol::SpdyV4,
    Protocol::SpdyV3,
    Protocol::SpdyV2,
];
const FORWARDS: [Protocol; 4] = [
    Protocol::PortForwardSpdy,
    Protocol::PortForwardTunnel,
    Protocol::PortForwardV4,
    Protocol::PortForwardV4Base64,
];

fn mask() -> [u8; 4] {
    [0x37, 0xfa, 0x21, 0x3d]
}

fn data(port: u16, number: u32) -> Stream {
    Stream::Data(Forward { port, number })
}

fn error(port: u16, number: u32) -> Stream {
    Stream::PortError(Forward { port, number })
}

fn said(stream: Stream, bytes: &'static str) -> Event {
    Event::Message(Message::new(stream, Bytes::from_static(bytes.as_bytes())))
}

fn ended(stream: Stream) -> Event {
    Event::Message(Message::end(stream))
}

/// All events of `wire`, and why it stopped.
fn feed(
    peer: &mut Peer,
    wire: &[u8],
    chunk: usize,
    out: &mut BytesMut,
) -> (Vec<Event>, Option<ChannelError>) {
    let (mut input, mut events) = (BytesMut::new(), Vec::new());
    // Also what is known without any byte.
    for piece in std::iter::once(&[][..]).chain(wire.chunks(chunk.max(1))) {
        input.extend_from_slice(piece);
        loop {
            match peer.next(&mut input, out) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(why) => return (events, Some(why)),
            }
        }
    }
    (events, None)
}

/// The same without an error.
fn events(peer: &mut Peer, wire: &[u8]) -> Vec<Event> {
    let (events, why) = feed(peer, wire, usize::MAX, &mut BytesMut::new());
    assert_eq!(why, None);
    events
}

/// Adjacent pieces of a stream are one message; an end goes with the bytes before it.
fn joined(events: Vec<Event>) -> Vec<Event> {
    let mut found: Vec<Event> = Vec::new();
    for event in events {
        if let Event::Message(next) = &event
            && let Some(Event::Message(before)) = found.last_mut()
            && before.stream == next.stream
            && !before.end
        {
            before.bytes = [&before.bytes[..], &next.bytes[..]].concat().into();
            before.end = next.end;
            continue;
        }
        found.push(event);
    }
    found
}

/// A client and a server that speak to each other through what hoop has for each.
struct Pair {
    client: Peer,
    server: Peer,
}

impl Pair {
    fn new(protocol: Protocol, purpose: &Purpose) -> Self {
        Self {
            // The one that has a server at its other end is a client.
            client: Peer::new(Side::Server, protocol, purpose, mask),
            server: Peer::new(Side::Client, protocol, purpose, mask),
        }
    }

    /// Opens and accepts, as the proxy does it.
    fn open(&mut self, stream: Stream) {
        let (mut up, mut down) = (BytesMut::new(), BytesMut::new());
        self.client.open(stream, &mut up).unwrap();
        let opened = events(&mut self.server, &up);
        assert!(opened.is_empty() || opened.contains(&Event::Opened(stream)));
        self.server.accept(stream, &mut down).unwrap();
        assert_eq!(events(&mut self.client, &down), [Event::Accepted(stream)]);
    }

    fn up(&mut self, message: &Message) -> (Sent, Vec<Event>) {
        let mut wire = BytesMut::new();
        let sent = self.client.send(message, &mut wire).unwrap();
        (sent, events(&mut self.server, &wire))
    }

    fn down(&mut self, message: &Message) -> (Sent, Vec<Event>) {
        let mut wire = BytesMut::new();
        let sent = self.server.send(message, &mut wire).unwrap();
        (sent, events(&mut self.client, &wire))
    }
}

fn message(stream: Stream, bytes: &'static str) -> Message {
    Message::new(stream, Bytes::from_static(bytes.as_bytes()))
}

#[test]
fn a_command_in_every_protocol() {
    for protocol in COMMANDS {
        let mut pair = Pair::new(protocol, &Purpose::Command(ALL));
        let first = events(&mut pair.server, b"");
        let spdy = protocol.transport() == negotiate::Transport::Spdy;
        let expected = [Stream::Error, Stream::Stdin, Stream::Stdout, Stream::Stderr];
        match spdy {
            true => assert_eq!(first, []),
            false => assert_eq!(first, expected.map(Event::Opened)),
        }
        expected.into_iter().for_each(|stream| pair.open(stream));
        for (stream, text) in [(Stream::Stdin, "ls\n"), (Stream::Stdin, "\0\u{ff}")] {
            let (sent, events) = pair.up(&message(stream, text));
            assert_eq!((sent, events), (Sent::Whole, vec![said(stream, text)]));
        }
        for (stream, text) in [
            (Stream::Stdout, "a\n"),
            (Stream::Stderr, "b\n"),
            (Stream::Error, "{}"),
        ] {
            let (sent, events) = pair.down(&message(stream, text));
            assert_eq!((sent, events), (Sent::Whole, vec![said(stream, text)]));
        }
        // The server's word that it is ready is one on WebSocket only.
        let (_, events) = pair.down(&message(Stream::Stdout, ""));
        assert_eq!(events.len(), usize::from(!spdy));
        let (sent, events) = pair.up(&Message::end(Stream::Stdin));
        match protocol {
            Protocol::V4 | Protocol::V4Base64 => {
                assert_eq!((sent, events), (Sent::EndUnsaid, vec![]));
            }
            _ => assert_eq!((sent, events), (Sent::Whole, vec![ended(Stream::Stdin)])),
        }
        assert!(!pair.client.can_send(Stream::Stdin));
        let (sent, events) = pair.down(&Message::end(Stream::Stdout));
        match spdy {
            true => assert_eq!((sent, events), (Sent::Whole, vec![ended(Stream::Stdout)])),
            false => assert_eq!((sent, events), (Sent::EndUnsaid, vec![])),
        }
        let mut wire = BytesMut::new();
        pair.server.close(&mut wire);
        let last = self::events(&mut pair.client, &wire);
        assert_eq!(last.last(), Some(&Event::Closed));
        assert!(pair.client.is_closed() && pair.client.is_between_frames(b""));
    }
}

#[test]
fn a_terminal_has_a_size_and_no_standard_error() {
    let asked = Asked { tty: true, ..ALL };
    let base = vec![Stream::Error, Stream::Stdin, Stream::Stdout];
    let sized = [base.clone(), vec![Stream::Resize]].concat();
    for protocol in COMMANDS {
        let streams = asked.streams(protocol);
        match protocol {
            Protocol::SpdyV2 => assert_eq!(streams, base),
            _ => assert_eq!(streams, sized),
        }
        let mut pair = Pair::new(protocol, &Purpose::Command(asked));
        events(&mut pair.server, b"");
        streams.iter().for_each(|stream| pair.open(*stream));
        if protocol != Protocol::SpdyV2 {
            let size = "{\"Width\":80,\"Height\":24}\n";
            let (_, events) = pair.up(&message(Stream::Resize, size));
            assert_eq!(events, [said(Stream::Resize, size)]);
        }
        let mut out = BytesMut::new();
        assert!(pair.client.open(Stream::Stderr, &mut out).is_err());
    }
}

#[test]
fn a_forwarded_connection_in_every_protocol() {
    for protocol in FORWARDS {
        let ports = vec![5432, 80];
        let mut pair = Pair::new(protocol, &Purpose::PortForward { ports });
        let first = events(&mut pair.server, b"");
        let streams = [error(5432, 0), data(5432, 0), error(80, 1), data(80, 1)];
        if matches!(
            protocol,
            Protocol::PortForwardV4 | Protocol::PortForwardV4Base64
        ) {
            assert_eq!(first.len(), 4);
            assert!(streams.iter().all(|s| first.contains(&Event::Opened(*s))));
        }
        streams.into_iter().for_each(|stream| pair.open(stream));
        let (_, events) = pair.up(&message(data(80, 1), "GET /"));
        assert_eq!(events, [said(data(80, 1), "GET /")]);
        let (_, events) = pair.down(&message(data(5432, 0), "N"));
        assert_eq!(events, [said(data(5432, 0), "N")]);
        let (_, events) = pair.down(&message(error(80, 1), "refused"));
        assert_eq!(events, [said(error(80, 1), "refused")]);
        let mut wire = BytesMut::new();
        pair.server.reset(data(80, 1), &mut wire).unwrap();
        let events = self::events(&mut pair.client, &wire);
        if protocol.transport() == negotiate::Transport::Spdy {
            assert_eq!(events, [Event::Reset(data(80, 1))]);
            let (sent, events) = pair.up(&message(data(80, 1), "late"));
            assert_eq!((sent, events), (Sent::Dropped, vec![]));
        }
    }
}

/// What a client sends after everything is open, as (stream of three, bytes).
fn exchanges() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let one = (0u8..3, prop::collection::vec(any::<u8>(), 1..200));
    prop::collection::vec(one, 0..12)
}

proptest! {
    #[test]
    fn what_is_sent_arrives_in_any_cut(
        exchanges in exchanges(),
        which in 0usize..COMMANDS.len(),
        chunk in 1usize..64,
    ) {
        let protocol = COMMANDS[which];
        let mut pair = Pair::new(protocol, &Purpose::Command(ALL));
        events(&mut pair.server, b"");
        ALL.streams(protocol).into_iter().for_each(|stream| pair.open(stream));
        let streams = [Stream::Stdout, Stream::Stderr, Stream::Error];
        let (mut wire, mut sent) = (BytesMut::new(), Vec::new());
        for (stream, bytes) in exchanges {
            let message = Message::new(streams[usize::from(stream)], bytes.into());
            pair.server.send(&message, &mut wire).unwrap();
            sent.push(Event::Message(message));
        }
        let (found, why) = feed(&mut pair.client, &wire, chunk, &mut BytesMut::new());
        prop_assert_eq!(why, None);
        prop_assert_eq!(joined(found), joined(sent));
    }

    #[test]
    fn forwarded_bytes_arrive_in_any_cut(
        exchanges in exchanges(),
        which in 0usize..FORWARDS.len(),
        chunk in 1usize..64,
    ) {
        let ports = vec![80, 80, 443];
        let mut pair = Pair::new(FORWARDS[which], &Purpose::PortForward { ports });
        events(&mut pair.server, b"");
        let streams = [data(80, 0), data(80, 1), data(443, 2)];
        for stream in streams {
            let Stream::Data(forward) = stream else { continue };
            pair.open(Stream::PortError(forward));
            pair.open(stream);
        }
        let (mut wire, mut sent) = (BytesMut::new(), Vec::new());
        for (stream, bytes) in exchanges {
            let message = Message::new(streams[usize::from(stream)], bytes.into());
            pair.client.send(&message, &mut wire).unwrap();
            sent.push(Event::Message(message));
        }
        let (found, why) = feed(&mut pair.server, &wire, chunk, &mut BytesMut::new());
        prop_assert_eq!(why, None);
        prop_assert_eq!(joined(found), joined(sent));
    }

    #[test]
    fn no_bytes_panic_and_any_cut_gives_the_same(
        payload: Vec<u8>,
        framed: bool,
        client: bool,
        which in 0usize..COMMANDS.len() + FORWARDS.len(),
        chunk in 1usize..9,
    ) {
        let side = if client { Side::Client } else { Side::Server };
        let (protocol, purpose) = match COMMANDS.get(which) {
            Some(protocol) => (*protocol, Purpose::Command(ALL)),
            None => (FORWARDS[which - COMMANDS.len()], Purpose::PortForward { ports: vec![80, 443] }),
        };
        let wire = match (framed, side) {
            (false, _) => BytesMut::from(&payload[..]),
            (true, Side::Client) => from_client(Opcode::Binary, &payload),
            (true, Side::Server) => from_server(Opcode::Binary, &payload),
        };
        let read = |chunk| {
            let mut peer = Peer::new(side, protocol, &purpose, mask);
            let mut out = BytesMut::new();
            let (events, why) = feed(&mut peer, &wire, chunk, &mut out);
            (joined(events), why, out)
        };
        let (one, other) = (read(chunk), read(usize::MAX));
        // Bytes that are refused may be so for another of their mistakes, and what came before it differ.
        if one.1.is_some() && other.1.is_some() {
            return Ok(());
        }
        prop_assert_eq!(one, other);
    }
}
