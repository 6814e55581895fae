//! Sessions of exec, attach and port-forward in every protocol, from both sides, in any pieces: what
//! flows is only what was asked for and goes the right way.
#![no_main]

use bytes::{Bytes, BytesMut};
use hoop::wire::kubernetes::channel::negotiate::{Protocol, Transport};
use hoop::wire::kubernetes::channel::status::{Resizes, outcome};
use hoop::wire::kubernetes::channel::{Asked, Event, Message, Peer, Purpose, Side, Stream};
use hoop::wire::kubernetes::websocket::{Opcode, put};
use libfuzzer_sys::fuzz_target;

const PROTOCOLS: [Protocol; 10] = [
    Protocol::V5,
    Protocol::V4,
    Protocol::V4Base64,
    Protocol::SpdyV4,
    Protocol::SpdyV3,
    Protocol::SpdyV2,
    Protocol::PortForwardSpdy,
    Protocol::PortForwardTunnel,
    Protocol::PortForwardV4,
    Protocol::PortForwardV4Base64,
];

fn mask() -> [u8; 4] {
    [1, 2, 3, 4]
}

/// Events, adjacent pieces of a stream joined, and whether all was in order. Streams are accepted
/// as they are opened.
fn read(
    side: Side,
    protocol: Protocol,
    purpose: &Purpose,
    wire: &[u8],
    chunk: usize,
) -> (Vec<Event>, bool) {
    let mut peer = Peer::new(side, protocol, purpose, mask);
    let (mut input, mut out, mut found) = (BytesMut::new(), BytesMut::new(), Vec::new());
    if side == Side::Server
        && let Purpose::Command(asked) = purpose
    {
        for stream in asked.streams(protocol) {
            peer.open(stream, &mut out).unwrap();
        }
    }
    for piece in std::iter::once(&[][..]).chain(wire.chunks(chunk)) {
        input.extend_from_slice(piece);
        loop {
            match peer.next(&mut input, &mut out) {
                Ok(Some(event)) => {
                    if let Event::Opened(stream) = event {
                        peer.accept(stream, &mut out).unwrap();
                    }
                    join(&mut found, event);
                }
                Ok(None) => break,
                Err(why) => {
                    peer.fail(&why, &mut out);
                    return (found, false);
                }
            }
        }
    }
    peer.close(&mut out);
    (found, true)
}

fn join(found: &mut Vec<Event>, event: Event) {
    match (found.last_mut(), event) {
        (Some(Event::Message(have)), Event::Message(next))
            if have.stream == next.stream && !have.end =>
        {
            have.bytes = Bytes::from([&have.bytes[..], &next.bytes[..]].concat());
            have.end = next.end;
        }
        (_, event) => found.push(event),
    }
}

fn check(side: Side, purpose: &Purpose, message: &Message) {
    let from_client = side == Side::Client;
    let right = match (message.stream, purpose) {
        (Stream::Stdin, Purpose::Command(asked)) => {
            asked.stdin && (from_client || message.bytes.is_empty())
        }
        (Stream::Resize, Purpose::Command(_)) => from_client || message.bytes.is_empty(),
        (Stream::Stdout, Purpose::Command(asked)) => {
            asked.stdout && (!from_client || message.bytes.is_empty())
        }
        (Stream::Stderr, Purpose::Command(asked)) => {
            asked.stderr && !asked.tty && (!from_client || message.bytes.is_empty())
        }
        (Stream::Error, Purpose::Command(_)) => !from_client || message.bytes.is_empty(),
        (Stream::Data(forward), Purpose::PortForward { .. }) => forward.port != 0,
        (Stream::PortError(forward), Purpose::PortForward { .. }) => {
            forward.port != 0 && (!from_client || message.bytes.is_empty())
        }
        _ => false,
    };
    assert!(right, "{message:?} from {side:?} for {purpose:?}");
}

fuzz_target!(|input: (u8, bool, [bool; 4], Vec<Vec<u8>>, bool)| {
    let (which, client, [stdin, stdout, stderr, tty], messages, framed) = input;
    let protocol = PROTOCOLS[usize::from(which) % PROTOCOLS.len()];
    let side = if client { Side::Client } else { Side::Server };
    let purpose = match protocol {
        Protocol::PortForwardSpdy
        | Protocol::PortForwardTunnel
        | Protocol::PortForwardV4
        | Protocol::PortForwardV4Base64 => Purpose::PortForward {
            ports: vec![80, 443, 80],
        },
        _ => Purpose::Command(Asked {
            stdin,
            stdout,
            stderr,
            tty,
        }),
    };
    let mut wire = BytesMut::new();
    for message in &messages {
        match framed && protocol.transport() == Transport::WebSocket {
            true => put(
                Opcode::Binary,
                true,
                &[message],
                client.then(mask),
                &mut wire,
            ),
            false => wire.extend_from_slice(message),
        }
        let _ = outcome(protocol, message);
        let _ = Resizes::default().push(message);
    }
    let (whole, valid) = read(side, protocol, &purpose, &wire, usize::MAX);
    for event in &whole {
        if let Event::Message(message) = event {
            check(side, &purpose, message);
        }
    }
    let (pieces, same) = read(side, protocol, &purpose, &wire, 1);
    assert_eq!(valid, same);
    if valid {
        assert_eq!(whole, pieces);
    }
});
