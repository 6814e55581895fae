//! What is offered and what is agreed on.

use http::header::*;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::super::negotiate::*;

fn map(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, value.parse().unwrap());
    }
    headers
}

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn websocket(protocols: &str) -> HeaderMap {
    map(&[
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", KEY),
        ("sec-websocket-protocol", protocols),
    ])
}

#[test]
fn kubectls_offers_reach_the_server_and_its_choice_comes_back() {
    // kubectl 1.20 with SPDY, kubectl 1.37 with WebSocket, the JavaScript client.
    let spdy = map(&[
        ("connection", "Upgrade"),
        ("upgrade", "SPDY/3.1"),
        ("x-stream-protocol-version", "v4.channel.k8s.io"),
        ("x-stream-protocol-version", "v3.channel.k8s.io"),
        ("x-stream-protocol-version", "v2.channel.k8s.io"),
        ("x-stream-protocol-version", "channel.k8s.io"),
    ]);
    let several = "v5.channel.k8s.io,v4.channel.k8s.io, v3.channel.k8s.io,channel.k8s.io";
    let (command, forward) = (Operation::Command, Operation::PortForward);
    for (headers, of, offered, chosen) in [
        (
            spdy,
            command,
            vec![Protocol::SpdyV4, Protocol::SpdyV3, Protocol::SpdyV2],
            Protocol::SpdyV4,
        ),
        (
            websocket("v5.channel.k8s.io"),
            command,
            vec![Protocol::V5],
            Protocol::V5,
        ),
        (
            websocket(several),
            command,
            vec![Protocol::V5, Protocol::V4],
            Protocol::V4,
        ),
        (
            websocket("SPDY/3.1+portforward.k8s.io"),
            forward,
            vec![Protocol::PortForwardTunnel],
            Protocol::PortForwardTunnel,
        ),
        (
            websocket("v4.channel.k8s.io, v4.base64.channel.k8s.io"),
            forward,
            vec![Protocol::PortForwardV4, Protocol::PortForwardV4Base64],
            Protocol::PortForwardV4Base64,
        ),
    ] {
        let upgrade = Upgrade::read(&headers, of).unwrap().unwrap();
        assert_eq!(upgrade.offered(), offered);
        let (question, asked) = upgrade.ask([7; 16]);
        // A server reads what hoop asks as hoop reads a client, and answers the same way.
        let at_server = Upgrade::read(&asked, of).unwrap().unwrap();
        assert_eq!(at_server.offered(), offered);
        assert_ne!(
            asked.get("sec-websocket-key").map(|k| k.as_bytes()),
            Some(KEY.as_bytes())
        );
        let answer = at_server.answer(chosen).unwrap();
        assert_eq!(question.chosen(&answer), Ok(chosen));
        let to_client = upgrade.answer(chosen).unwrap();
        if chosen.transport() == Transport::WebSocket {
            assert_eq!(
                to_client.get(SEC_WEBSOCKET_ACCEPT).unwrap(),
                "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
            );
            assert_eq!(question.chosen(&to_client), Err(UpgradeError::Accept));
        }
        assert!(HEADERS.iter().all(|name| name != "authorization"));
        assert!(
            asked
                .keys()
                .chain(to_client.keys())
                .all(|k| HEADERS.contains(k))
        );
    }
}

#[test]
fn what_is_no_upgrade_is_none() {
    let read = |headers| Upgrade::read(&headers, Operation::Command);
    assert_eq!(read(HeaderMap::new()), Ok(None));
    assert_eq!(read(map(&[("connection", "keep-alive")])), Ok(None));
    assert_eq!(read(map(&[("upgrade", "websocket")])), Ok(None));
}

#[test]
fn what_is_not_spoken_is_refused_by_name() {
    let read = |headers| Upgrade::read(&headers, Operation::Command);
    let why = |headers| read(headers).unwrap_err().to_string();
    let h2c = map(&[("connection", "Upgrade"), ("upgrade", "h2c")]);
    assert_eq!(
        why(h2c),
        "an upgrade to \"h2c\" is not spoken here; ask for websocket or SPDY/3.1"
    );
    assert_eq!(
        why(websocket("channel.k8s.io, base64.channel.k8s.io")),
        "of the protocols \"channel.k8s.io, base64.channel.k8s.io\" none is spoken here; \
         ask for v5.channel.k8s.io or v4.channel.k8s.io"
    );
    assert_eq!(
        why(websocket("")),
        "the upgrade names no protocol; ask for v5.channel.k8s.io or v4.channel.k8s.io"
    );
    // Of exec, not of port-forward, and the other way round.
    assert!(Upgrade::read(&websocket("v5.channel.k8s.io"), Operation::PortForward).is_err());
    assert!(read(websocket("SPDY/3.1+portforward.k8s.io")).is_err());
    let mut twice = websocket("v5.channel.k8s.io");
    twice.append(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    assert!(read(twice).is_err());
    let mut old = websocket("v5.channel.k8s.io");
    old.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("8"));
    assert_eq!(read(old), Err(UpgradeError::Version));
    for key in ["", "c2hvcnQ=", "?"] {
        let mut bad = websocket("v5.channel.k8s.io");
        bad.insert(SEC_WEBSOCKET_KEY, key.parse().unwrap());
        assert_eq!(read(bad), Err(UpgradeError::Key));
    }
}

#[test]
fn a_server_that_answers_something_else_is_refused() {
    let upgrade = Upgrade::read(&websocket("v5.channel.k8s.io"), Operation::Command);
    let (question, asked) = upgrade.unwrap().unwrap().ask([1; 16]);
    let server = Upgrade::read(&asked, Operation::Command).unwrap().unwrap();
    let right = server.answer(Protocol::V5).unwrap();
    assert_eq!(question.chosen(&right), Ok(Protocol::V5));
    let changed = |name: HeaderName, value: Option<&str>| {
        let mut answer = right.clone();
        answer.remove(&name);
        if let Some(value) = value {
            answer.insert(name, value.parse().unwrap());
        }
        question.chosen(&answer).unwrap_err()
    };
    assert_eq!(changed(UPGRADE, None), UpgradeError::OtherUpgrade);
    assert_eq!(changed(CONNECTION, None), UpgradeError::OtherUpgrade);
    assert_eq!(
        changed(SEC_WEBSOCKET_EXTENSIONS, Some("permessage-deflate")),
        UpgradeError::Extension
    );
    for other in [
        None,
        Some("v4.channel.k8s.io"),
        Some("v5.channel.k8s.io, x"),
    ] {
        assert!(matches!(
            changed(SEC_WEBSOCKET_PROTOCOL, other),
            UpgradeError::NotOffered(_)
        ));
    }
    assert_eq!(
        server.answer(Protocol::V4),
        Err(UpgradeError::NotOffered("v4.channel.k8s.io".into()))
    );
}
