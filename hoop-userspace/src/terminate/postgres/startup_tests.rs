//! Handshakes over loopback, plain and by TLS.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::{AgentPassword, Arrived, Startup, StartupError, Terms};
use crate::decide::{Code, Refusal, Retry};
use crate::forward::fixture::{config, resource};
use crate::ids::ExchangeId;
use crate::secret::Secret;
use crate::terminate::authority::{Authority, Destinations};
use crate::terminate::tls::Offers;
use crate::wire::postgres::startup::{First, StartupMessage, encode};
use crate::wire::postgres::{authentication, fields, frame};
use crate::wire::scram::{AwaitServerFirst, Binding, Keys};

fn terms() -> Terms {
    Terms::of(&resource("orders", &["db.internal"]), None, None)
}

/// Terms with TLS, and the CA that a client must trust.
fn secured() -> (Terms, CertificateDer<'static>) {
    let state = tempfile::tempdir().unwrap();
    let orders = resource("orders", &["db.internal"]);
    let destinations = Destinations::of(&config(vec![orders.clone()]));
    let authority = Arc::new(Authority::open(state.path(), &destinations).unwrap());
    let ca = CertificateDer::from_pem_slice(authority.ca_pem().as_bytes()).unwrap();
    let offer = Offers::new(authority)
        .offer(&orders, None, [127, 0, 0, 1].into())
        .unwrap();
    (Terms::of(&orders, Some(offer), None), ca)
}

type Outcome = JoinHandle<Result<Arrived, StartupError>>;

async fn meet(terms: Terms) -> (TcpStream, Outcome) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (client, tokio::spawn(Startup::accept(server, terms)))
}

fn startup(minor: u16, parameters: &[(&str, &str)]) -> Bytes {
    let parameters = parameters
        .iter()
        .map(|(n, v)| ((*n).into(), (*v).into()))
        .collect();
    encode(&First::Startup(StartupMessage {
        major: 3,
        minor,
        parameters,
    }))
}

async fn message(
    stream: &mut (impl AsyncRead + Unpin),
    input: &mut BytesMut,
) -> Option<(u8, Bytes)> {
    loop {
        if let Some(message) = frame::split(input, 1 << 20).unwrap() {
            return Some(message);
        }
        if stream.read_buf(input).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

async fn connect_tls(
    stream: TcpStream,
    ca: CertificateDer<'static>,
    alpn: &[&[u8]],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    let name = ServerName::try_from("db.internal").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

async fn session(outcome: Outcome) -> Box<Startup> {
    match outcome.await.unwrap() {
        Ok(Arrived::Session(startup)) => startup,
        Ok(Arrived::Cancel { .. }) => panic!("a cancel"),
        Err(error) => panic!("{error}"),
    }
}

async fn failure(outcome: Outcome) -> StartupError {
    outcome.await.unwrap().err().expect("no session")
}

fn no() -> Refusal {
    Refusal {
        exchange: ExchangeId(0),
        unit: 0,
        code: Code::Identity,
        message: "the token of agent a was revoked".into(),
        rule: None,
        retry: Retry::Never,
        hint: "ask for another".into(),
        approval: None,
        asked: None,
    }
}

#[tokio::test]
async fn a_plain_client_is_let_in_and_refused_afterwards() {
    let (mut client, outcome) = meet(terms()).await;
    let gss = encode(&First::GssEncRequest);
    client.write_all(&gss).await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'N');
    client.write_all(&encode(&First::SslRequest)).await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'N');
    client
        .write_all(&startup(0, &[("user", "u"), ("application_name", "x")]))
        .await
        .unwrap();
    let startup = session(outcome).await;
    assert_eq!((startup.user(), startup.database()), ("u", "u"));
    assert!(startup.objection().is_none() && !startup.is_encrypted());
    tokio::spawn(async move { startup.refuse(&no()).await });
    let mut input = BytesMut::new();
    assert_eq!(
        message(&mut client, &mut input).await.unwrap(),
        (b'R', Bytes::from_static(&[0; 4]))
    );
    let (tag, body) = message(&mut client, &mut input).await.unwrap();
    assert_eq!(
        (tag, fields::field(&body, b'C').unwrap()),
        (b'E', &b"28000"[..])
    );
    assert!(fields::is_fatal(&body));
    assert!(
        fields::field(&body, b'D')
            .unwrap()
            .starts_with(b"{\"code\":\"identity\"")
    );
    assert!(message(&mut client, &mut input).await.is_none());
}

#[tokio::test]
async fn newer_minor_versions_and_unknown_options_are_negotiated() {
    let (mut client, outcome) = meet(terms()).await;
    client
        .write_all(&startup(2, &[("user", "u"), ("_pq_.x", "1")]))
        .await
        .unwrap();
    session(outcome).await;
    let (tag, body) = message(&mut client, &mut BytesMut::new()).await.unwrap();
    assert_eq!((tag, &body[..]), (b'v', &b"\0\0\0\0\0\0\0\x01_pq_.x\0"[..]));
}

#[tokio::test]
async fn what_cannot_be_granted_is_named() {
    let refused = [
        (("client_encoding", "SJIS"), Some("client_encoding = SJIS")),
        (("client_encoding", "'utf-8'"), None),
        (
            ("standard_conforming_strings", "off"),
            Some("standard_conforming_strings = off"),
        ),
        (
            ("replication", "database"),
            Some("a replication connection"),
        ),
        (("replication", "off"), None),
    ];
    for (parameter, expected) in refused {
        let (mut client, outcome) = meet(terms()).await;
        client
            .write_all(&startup(0, &[("user", "u"), parameter]))
            .await
            .unwrap();
        let objection = session(outcome).await.objection().map(|r| r.message);
        match expected {
            Some(start) => assert!(objection.unwrap().starts_with(start), "{parameter:?}"),
            None => assert_eq!(objection, None),
        }
    }
}

#[tokio::test]
async fn tls_comes_by_request_or_at_once() {
    for direct in [false, true] {
        let (terms, ca) = secured();
        let (mut client, outcome) = meet(terms).await;
        if !direct {
            client.write_all(&encode(&First::SslRequest)).await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'S');
        }
        let mut client = connect_tls(client, ca, &[b"postgresql"]).await.unwrap();
        client
            .write_all(&startup(0, &[("user", "u")]))
            .await
            .unwrap();
        assert!(session(outcome).await.is_encrypted());
    }
}

#[tokio::test]
async fn direct_tls_must_say_that_it_is_for_postgresql() {
    let (terms, ca) = secured();
    let (client, outcome) = meet(terms).await;
    let _client = connect_tls(client, ca, &[]).await;
    assert!(matches!(failure(outcome).await, StartupError::Alpn));
    let (terms, ca) = secured();
    let (client, outcome) = meet(terms).await;
    assert!(connect_tls(client, ca, &[b"h2"]).await.is_err());
    assert!(matches!(failure(outcome).await, StartupError::Tls(_)));
}

#[tokio::test]
async fn bytes_in_the_clear_before_tls_are_an_attack() {
    let (terms, _) = secured();
    let (mut client, outcome) = meet(terms).await;
    let early = [encode(&First::SslRequest), startup(0, &[("user", "u")])].concat();
    client.write_all(&early).await.unwrap();
    assert!(matches!(
        failure(outcome).await,
        StartupError::BufferedBeforeTls | StartupError::Tls(_)
    ));
}

#[tokio::test]
async fn plain_text_is_refused_where_tls_is_required() {
    let (terms, _) = secured();
    let (mut client, outcome) = meet(Terms {
        allow_plain: false,
        ..terms
    })
    .await;
    client
        .write_all(&startup(0, &[("user", "u")]))
        .await
        .unwrap();
    let (tag, body) = message(&mut client, &mut BytesMut::new()).await.unwrap();
    assert_eq!(
        (tag, fields::field(&body, b'C').unwrap()),
        (b'E', &b"28000"[..])
    );
    drop(client);
    assert!(matches!(failure(outcome).await, StartupError::Plain));
}

#[tokio::test]
async fn a_cancel_request_written_and_closed_at_once_is_seen() {
    let (mut client, outcome) = meet(terms()).await;
    let key = Bytes::from_static(b"abcd");
    client
        .write_all(&encode(&First::Cancel {
            pid: 7,
            key: key.clone(),
        }))
        .await
        .unwrap();
    drop(client);
    let Ok(Arrived::Cancel { pid, key: found }) = outcome.await.unwrap() else {
        panic!("no cancel");
    };
    assert_eq!((pid, found), (7, key));
}

#[tokio::test]
async fn other_protocols_get_an_answer_that_they_understand() {
    for (bytes, start) in [
        (
            &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
            &b"HTTP/1.1 400"[..],
        ),
        (b"SSH-2.0-x\r\n", b"this is a PostgreSQL server"),
        (b"\xff\xff\xff\xff\0\0\0\0", b"E"),
        (b"\0\0\x27\x11\0\x03\0\0", b"E"),
        (b"\0\0\0\x08\0\x02\0\0", b"E"),
        (b"\0\0\0\x09\0\x03\0\0\0", b"E"),
    ] {
        let (mut client, outcome) = meet(terms()).await;
        client.write_all(bytes).await.unwrap();
        let mut answer = vec![];
        client.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(start), "{bytes:?}: {answer:?}");
        if let Some((head, body)) = String::from_utf8_lossy(&answer).split_once("\r\n\r\n") {
            assert!(head.contains(&format!("Content-Length: {}", body.len())));
        }
        drop(client);
        failure(outcome).await;
    }
}

/// What a client that insists on SCRAM does; `binding` what it binds to.
async fn scram<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    password: &str,
    binding: Binding,
) -> Result<(), String> {
    let mut input = BytesMut::new();
    stream
        .write_all(&startup(0, &[("user", "u")]))
        .await
        .unwrap();
    let (_, body) = message(&mut stream, &mut input).await.unwrap();
    assert!(body.starts_with(&[0, 0, 0, 10]));
    let mechanism = binding.mechanism();
    let (client, first) = AwaitServerFirst::new(binding, "abcdefghijklmnopqrstuvwx".into());
    let first = authentication::initial_response_message(mechanism, first.as_bytes());
    stream.write_all(&first).await.unwrap();
    let (_, body) = message(&mut stream, &mut input).await.unwrap();
    let exchange = client.server_first(&body[4..]).map_err(|e| e.to_string())?;
    let keys = Keys::derive(password, &exchange.salt, exchange.iterations);
    let (client, last) = exchange.with_keys(&keys);
    stream
        .write_all(&frame::message(b'p', &[last.as_bytes()]))
        .await
        .unwrap();
    let (tag, body) = message(&mut stream, &mut input).await.unwrap();
    if tag == b'E' {
        return Err(String::from_utf8_lossy(fields::field(&body, b'C').unwrap()).into());
    }
    client.server_final(&body[4..]).unwrap();
    let (_, body) = message(&mut stream, &mut input).await.unwrap();
    assert_eq!(&body[..], [0; 4]);
    Ok(())
}

#[tokio::test]
async fn clients_that_insist_on_scram_are_served() {
    let (terms, ca) = secured();
    let password = AgentPassword::derive(&Secret::new("dummy".into())).unwrap();
    let end_point = terms.tls.as_ref().unwrap().end_point.to_vec();
    let terms = Terms {
        agent_password: Some(password),
        ..terms
    };

    let (client, outcome) = meet(terms.clone()).await;
    assert_eq!(scram(client, "dummy", Binding::Unsupported).await, Ok(()));
    session(outcome).await;

    let (client, outcome) = meet(terms.clone()).await;
    assert_eq!(
        scram(client, "wrong", Binding::Unsupported).await,
        Err("28P01".into())
    );
    assert!(matches!(failure(outcome).await, StartupError::Scram(_)));

    let (client, outcome) = meet(terms).await;
    let client = connect_tls(client, ca, &[b"postgresql"]).await.unwrap();
    assert_eq!(
        scram(client, "dummy", Binding::EndPoint(end_point)).await,
        Ok(())
    );
    session(outcome).await;
}
