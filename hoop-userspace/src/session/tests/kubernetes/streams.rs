//! The streams of an exec and of a port-forward through the whole loop: a client and a server that
//! speak what kubectl and API servers speak, over WebSocket and over SPDY.

use http::{Request as HttpRequest, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::*;
use super::{Content, Hoop, full, request};
use crate::wire::kubernetes::channel::negotiate::{Operation, Protocol as Streaming, Upgrade};
use crate::wire::kubernetes::channel::{
    Asked as Wanted, Event as Told, Forward, Message, Peer, Purpose, Side as Other, Stream, status,
};

const WANTED: Wanted = Wanted {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};
const EVERYTHING: &str = "permit (principal, action, resource);";

fn peer(other: Other, protocol: Streaming) -> Peer {
    Peer::new(other, protocol, &Purpose::Command(WANTED), || [1, 2, 3, 4])
}

/// A server whose command gives back what is typed, and ends with status 3; but `tar`, which says
/// something, sends what it was asked for, and takes its time to end.
pub(super) fn serve(mut request: HttpRequest<Incoming>) -> Response<Content> {
    let archives = request.uri().query().unwrap().contains("command=tar");
    let upgrade = Upgrade::read(request.headers(), Operation::Command);
    let upgrade = upgrade.unwrap().expect("streams are asked for");
    let chosen = upgrade.offered()[0];
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let io = TokioIo::new(upgraded.await.unwrap());
        let peer = peer(Other::Client, chosen);
        match archives {
            true => archive(io, peer, chosen).await,
            false => command(io, peer).await,
        }
    });
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = upgrade.answer(chosen).unwrap();
    response
}

async fn command(mut io: TokioIo<Upgraded>, mut peer: Peer) {
    let (mut input, mut out) = (bytes::BytesMut::new(), bytes::BytesMut::new());
    loop {
        while let Some(event) = peer.next(&mut input, &mut out).unwrap() {
            match event {
                Told::Opened(stream) => peer.accept(stream, &mut out).unwrap(),
                Told::Message(message) if message.stream == Stream::Stdin => {
                    if !message.bytes.is_empty() {
                        let back = Message::new(Stream::Stdout, message.bytes);
                        peer.send(&back, &mut out).unwrap();
                    }
                    if message.end {
                        let over = Message {
                            stream: Stream::Error,
                            bytes: status::exited(3),
                            end: true,
                        };
                        peer.send(&Message::end(Stream::Stdout), &mut out).unwrap();
                        peer.send(&over, &mut out).unwrap();
                        peer.close(&mut out);
                        io.write_all_buf(&mut out).await.unwrap();
                        io.shutdown().await.unwrap();
                        return;
                    }
                }
                _ => {}
            }
        }
        io.write_all_buf(&mut out).await.unwrap();
        if io.read_buf(&mut input).await.unwrap() == 0 {
            return;
        }
    }
}

const REMARK: &str = "tar: Removing leading `/' from member names\n";

async fn archive(mut io: TokioIo<Upgraded>, mut peer: Peer, protocol: Streaming) {
    let (mut input, mut out) = (bytes::BytesMut::new(), bytes::BytesMut::new());
    let mut opened = WANTED.streams(protocol);
    while !opened.is_empty() {
        while let Some(event) = peer.next(&mut input, &mut out).unwrap() {
            if let Told::Opened(stream) = event {
                peer.accept(stream, &mut out).unwrap();
                opened.retain(|known| *known != stream);
            }
        }
        io.write_all_buf(&mut out).await.unwrap();
        if !opened.is_empty() {
            assert!(io.read_buf(&mut input).await.unwrap() > 0);
        }
    }
    let remark = Message::new(Stream::Stderr, REMARK.into());
    peer.send(&remark, &mut out).unwrap();
    io.write_all_buf(&mut out).await.unwrap();
    // As large as tar's smallest, which is more than is held back at once.
    let archive = Message::new(Stream::Stdout, vec![0; 10240].into());
    peer.send(&archive, &mut out).unwrap();
    io.write_all_buf(&mut out).await.unwrap();
    while io.read_buf(&mut input).await.unwrap_or(0) > 0 {}
}

/// What a client sees: standard output, and how the command ended.
async fn exec(hoop: &mut Hoop, offer: &[(&str, &str)], protocol: Streaming) -> (String, String) {
    let target = "/api/v1/namespaces/shop/pods/web/exec?command=cat&stdin=1&stdout=1&stderr=1";
    let mut sender = hoop.http1().await;
    let mut response = sender
        .send_request(request("POST", target, offer, ""))
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut io = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let mut peer = peer(Other::Server, protocol);
    let (mut input, mut out) = (bytes::BytesMut::new(), bytes::BytesMut::new());
    let mut waiting = WANTED.streams(protocol);
    for stream in &waiting {
        peer.open(*stream, &mut out).unwrap();
    }
    let (mut printed, mut ended) = (Vec::new(), Vec::new());
    loop {
        while let Some(event) = peer.next(&mut input, &mut out).unwrap() {
            match event {
                Told::Accepted(stream) => {
                    waiting.retain(|known| *known != stream);
                    if waiting.is_empty() {
                        let typed = Message::new(Stream::Stdin, "what is typed\n".into());
                        peer.send(&typed, &mut out).unwrap();
                        peer.send(&Message::end(Stream::Stdin), &mut out).unwrap();
                    }
                }
                Told::Message(message) => match message.stream {
                    Stream::Stdout => printed.extend_from_slice(&message.bytes),
                    Stream::Error => ended.extend_from_slice(&message.bytes),
                    _ => {}
                },
                _ => {}
            }
        }
        io.write_all_buf(&mut out).await.unwrap();
        if io.read_buf(&mut input).await.unwrap_or(0) == 0 {
            let text = |bytes| String::from_utf8(bytes).unwrap();
            return (text(printed), text(ended));
        }
    }
}

/// What a client offers (RFC 6455, section 4.1).
fn over_websocket(protocol: &'static str) -> [(&'static str, &'static str); 5] {
    [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", protocol),
    ]
}

fn over_spdy(protocol: &'static str) -> [(&'static str, &'static str); 3] {
    [
        ("connection", "Upgrade"),
        ("upgrade", "SPDY/3.1"),
        ("x-stream-protocol-version", protocol),
    ]
}

/// Both ways to a command, as clients offer them.
fn ways() -> [(Vec<(&'static str, &'static str)>, Streaming); 2] {
    [
        (over_websocket("v5.channel.k8s.io").into(), Streaming::V5),
        (over_spdy("v4.channel.k8s.io").into(), Streaming::SpdyV4),
    ]
}

#[tokio::test]
async fn a_command_runs_over_websocket_and_over_spdy() {
    for (offer, protocol) in ways() {
        let offer = &offer[..];
        let mut hoop = Hoop::new(EVERYTHING);
        let limit = Duration::from_secs(20);
        let ran = tokio::time::timeout(limit, exec(&mut hoop, offer, protocol)).await;
        let (printed, ended) = ran.expect("hangs");
        assert_eq!(printed, "what is typed\n", "{protocol:?}");
        let outcome = status::outcome(protocol, ended.as_bytes()).unwrap();
        assert_eq!(outcome, status::Outcome::Exit(3), "{protocol:?}");
    }
}

/// `kubectl cp` leaves once it has the archive: what was said before must have come before.
#[tokio::test]
async fn what_was_said_before_an_archive_comes_before_it() {
    for (offer, protocol) in ways() {
        let offer = &offer[..];
        let mut hoop = Hoop::new(EVERYTHING);
        let target = "/api/v1/namespaces/shop/pods/web/exec\
                      ?command=tar&command=cf&stdin=1&stdout=1&stderr=1";
        let mut sender = hoop.http1().await;
        let asked = request("POST", target, offer, "");
        let mut response = sender.send_request(asked).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let mut io = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
        let mut peer = peer(Other::Server, protocol);
        let (mut input, mut out) = (bytes::BytesMut::new(), bytes::BytesMut::new());
        for stream in WANTED.streams(protocol) {
            peer.open(stream, &mut out).unwrap();
        }
        let (mut said, mut archive) = (Vec::new(), 0);
        while archive == 0 {
            io.write_all_buf(&mut out).await.unwrap();
            let read = tokio::time::timeout(Duration::from_secs(20), io.read_buf(&mut input));
            assert!(read.await.expect("hangs").unwrap() > 0);
            while let Some(event) = peer.next(&mut input, &mut out).unwrap() {
                if let Told::Message(message) = event {
                    match message.stream {
                        Stream::Stderr if archive == 0 => said.extend_from_slice(&message.bytes),
                        Stream::Stdout => archive += message.bytes.len(),
                        _ => {}
                    }
                }
            }
        }
        assert_eq!(String::from_utf8_lossy(&said), REMARK, "{protocol:?}");
    }
}

fn forwarder(other: Other, protocol: Streaming) -> Peer {
    let purpose = Purpose::PortForward { ports: Vec::new() };
    Peer::new(other, protocol, &purpose, || [1, 2, 3, 4])
}

/// A server all of whose ports give back what they are sent.
pub(super) fn serve_forward(mut request: HttpRequest<Incoming>) -> Response<Content> {
    let upgrade = Upgrade::read(request.headers(), Operation::PortForward);
    let upgrade = upgrade.unwrap().expect("streams are asked for");
    let chosen = upgrade.offered()[0];
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut io = TokioIo::new(upgraded.await.unwrap());
        let mut peer = forwarder(Other::Client, chosen);
        let (mut input, mut out) = (bytes::BytesMut::new(), bytes::BytesMut::new());
        loop {
            while let Some(event) = peer.next(&mut input, &mut out).unwrap() {
                match event {
                    Told::Opened(stream) => peer.accept(stream, &mut out).unwrap(),
                    Told::Message(message) if matches!(message.stream, Stream::Data(_)) => {
                        peer.send(&message, &mut out).unwrap();
                    }
                    _ => {}
                }
            }
            io.write_all_buf(&mut out).await.unwrap();
            if io.read_buf(&mut input).await.unwrap_or(0) == 0 {
                return;
            }
        }
    });
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = upgrade.answer(chosen).unwrap();
    response
}

/// Two connections of one forward: what each hears of what it sends, and why the first is refused.
async fn forward(hoop: &mut Hoop, offer: &[(&str, &str)], protocol: Streaming) -> [String; 3] {
    let target = "/api/v1/namespaces/shop/pods/db/portforward";
    let mut sender = hoop.http1().await;
    let mut response = sender
        .send_request(request("POST", target, offer, ""))
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut io = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let mut peer = forwarder(Other::Server, protocol);
    let (mut input, mut out) = (bytes::BytesMut::new(), bytes::BytesMut::new());
    let [database, other] = [0, 1].map(|number| Forward { port: 80, number });
    for to in [database, other] {
        peer.open(Stream::PortError(to), &mut out).unwrap();
        peer.open(Stream::Data(to), &mut out).unwrap();
    }
    let mut heard = [const { Vec::new() }; 3];
    let mut ends = 0;
    loop {
        while let Some(event) = peer.next(&mut input, &mut out).unwrap() {
            match event {
                Told::Accepted(stream) if stream == Stream::Data(database) => {
                    for piece in [&b"\0\0\0\x08\x04"[..], b"\xd2\x16\x2f"] {
                        let message = Message::new(stream, Bytes::from_static(piece));
                        peer.send(&message, &mut out).unwrap();
                    }
                }
                Told::Accepted(stream) if stream == Stream::Data(other) => {
                    let message = Message::new(stream, "PING\r\n".into());
                    peer.send(&message, &mut out).unwrap();
                    peer.send(&Message::end(stream), &mut out).unwrap();
                }
                Told::Message(message) => {
                    let at = match message.stream {
                        Stream::Data(to) if to == database => 0,
                        Stream::Data(_) => 1,
                        _ => 2,
                    };
                    heard[at].extend_from_slice(&message.bytes);
                    ends += usize::from(message.end);
                }
                _ => {}
            }
        }
        if ends == 3 {
            return heard.map(|bytes| String::from_utf8(bytes).unwrap());
        }
        io.write_all_buf(&mut out).await.unwrap();
        assert!(io.read_buf(&mut input).await.unwrap() > 0, "{heard:?}");
    }
}

#[tokio::test]
async fn a_database_is_not_reached_through_a_forwarded_port() {
    let tunnel = over_websocket("SPDY/3.1+portforward.k8s.io");
    let spdy = over_spdy("portforward.k8s.io");
    for (offer, protocol) in [
        (&tunnel[..], Streaming::PortForwardTunnel),
        (&spdy[..], Streaming::PortForwardSpdy),
    ] {
        let mut hoop = Hoop::new(EVERYTHING);
        let limit = Duration::from_secs(20);
        let ran = tokio::time::timeout(limit, forward(&mut hoop, offer, protocol)).await;
        let [database, other, refused] = ran.expect("hangs");
        assert_eq!(database, "", "{protocol:?}");
        assert_eq!(other, "PING\r\n", "{protocol:?}");
        assert!(
            refused.starts_with("hoop: no PostgreSQL through a forwarded port"),
            "{protocol:?}: {refused}"
        );
    }
}
