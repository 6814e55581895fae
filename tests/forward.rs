//! hoop's own login against a real PostgreSQL server: every way to authenticate, and every way in
//! which a server may fail to be who it claims to be.

mod forward_server;

use std::sync::Arc;
use std::time::Duration;

use forward_server::{HOST, PASSWORD, Server};
use hoop::config::{Bundle, Config, Host, Login, ProtocolKind, Resource, UpstreamTls};
use hoop::forward::postgres::{Catalogs, catalog};
use hoop::forward::{Connector, ForwardError, Network, Resolver, Startup, Target};
use hoop::mask::RelationKind;
use hoop::secret::Secret;
use hoop::terminate::postgres::{Upstream, UpstreamStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn resource(server: &Server, user: &str) -> Resource {
    Resource {
        name: "orders".into(),
        protocol: ProtocolKind::Postgres,
        hosts: vec![Host::Name(HOST.into())],
        port: 5432,
        upstream: Some(("127.0.0.1".into(), server.port)),
        tls: UpstreamTls::VerifyFull,
        ca: Some(server.ca()),
        login: Login {
            user: user.into(),
            password: Some(Secret::new(PASSWORD.into())),
            certificate: None,
            database: Some("postgres".into()),
        },
        allow_plain: true,
        allow_replication: false,
        estimate: false,
        network: None,
        agent_password: None,
        max_message: 1 << 20,
        ssh: None,
        kubernetes: None,
    }
}

fn connector() -> Connector {
    let nothing = Config::from_bundle(&Bundle::from_text("t".as_ref(), "")).unwrap();
    Connector::new(Resolver::new(&nothing))
}

fn target(resource: &Resource) -> Target<'_> {
    let addresses = vec!["127.0.0.1:5432".parse().expect("an address")];
    Target {
        resource,
        name: Some(HOST.into()),
        addresses,
        network: Network::Host,
    }
}

async fn connect(resource: &Resource) -> Result<Upstream, ForwardError> {
    connector()
        .connect(&target(resource), &Startup::default())
        .await
}

async fn as_other(resource: &Resource) -> Result<Upstream, ForwardError> {
    let target = Target {
        name: Some("other.internal".into()),
        ..target(resource)
    };
    connector().connect(&target, &Startup::default()).await
}

async fn ask(upstream: &mut Upstream, sql: &str) -> String {
    let length = sql.len() as u32 + 5;
    let query = [&b"Q"[..], &length.to_be_bytes(), sql.as_bytes(), b"\0"].concat();
    upstream
        .stream
        .write_all(&query)
        .await
        .expect("the query is written");
    let mut answer = Vec::new();
    while !answer.ends_with(b"Z\0\0\0\x05I") {
        let read = upstream
            .stream
            .read_buf(&mut answer)
            .await
            .expect("an answer");
        assert!(read > 0, "the server closed the connection");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn scram_with_channel_binding_over_tls() {
    let server = Server::shared();
    let mut upstream = connect(&resource(&server, "scram"))
        .await
        .expect("logged in");
    let UpstreamStream::Tls(stream) = &upstream.stream else {
        panic!("not over TLS")
    };
    // The server takes "I cannot bind" from a client; that hoop could is asserted here.
    let certificates = stream
        .get_ref()
        .1
        .peer_certificates()
        .expect("a certificate");
    assert_eq!(
        hoop::forward::postgres::end_point(&certificates[0]),
        Some(server.fingerprint())
    );
    assert!(upstream.leftover.is_empty());
    assert!(upstream.cancel.pid > 0);
    let version = upstream
        .parameters
        .iter()
        .find(|(name, _)| name == "server_version");
    assert!(version.is_some(), "{:?}", upstream.parameters);
    assert!(
        ask(&mut upstream, "select 'user:' || current_user")
            .await
            .contains("user:scram")
    );
}

#[tokio::test]
async fn scram_without_tls_and_with_cached_keys() {
    let server = Server::shared();
    let mut resource = resource(&server, "scram");
    resource.tls = UpstreamTls::Disable;
    let connector = connector();
    for _ in 0..3 {
        let upstream = connector
            .connect(&target(&resource), &Startup::default())
            .await;
        assert!(matches!(
            upstream.expect("logged in").stream,
            UpstreamStream::Plain(_)
        ));
    }
}

#[tokio::test]
async fn what_the_server_notices_during_login_is_kept() {
    let server = Server::shared();
    let resource = resource(&server, "scram");
    let long = ("application_name".to_owned(), "x".repeat(65));
    let startup = Startup::new("postgres", &[long], false).expect("harmless");
    let upstream = connector().connect(&target(&resource), &startup).await;
    let upstream = upstream.expect("logged in");
    assert_eq!(upstream.leftover.first(), Some(&b'N'));
    let text = String::from_utf8_lossy(&upstream.leftover).into_owned();
    assert!(text.contains("will be truncated"), "{text}");
}

#[tokio::test]
async fn md5_and_cleartext_over_tls() {
    let server = Server::shared();
    connect(&resource(&server, "md5"))
        .await
        .expect("logged in by md5");
    connect(&resource(&server, "cleartext"))
        .await
        .expect("logged in by password over TLS");
}

#[tokio::test]
async fn no_cleartext_password_without_tls() {
    let server = Server::shared();
    let mut resource = resource(&server, "cleartext");
    resource.tls = UpstreamTls::Disable;
    let error = connect(&resource).await.err().expect("refused");
    assert!(
        matches!(&error, ForwardError::Login(why) if why.contains("clear")),
        "{error}"
    );
}

#[tokio::test]
async fn a_client_certificate() {
    let server = Server::shared();
    let mut resource = resource(&server, "certified");
    resource.login.password = None;
    let error = connect(&resource)
        .await
        .err()
        .expect("refused without the certificate");
    assert!(
        matches!(&error, ForwardError::Server { code, .. } if code == "28000"),
        "{error}"
    );
    let (certificate, key) = server.client_certificate();
    resource.login.certificate = Some((certificate, Secret::new(key)));
    let mut upstream = connect(&resource).await.expect("logged in by certificate");
    assert!(
        ask(&mut upstream, "select 'user:' || current_user")
            .await
            .contains("user:certified")
    );
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_database_are_told_in_the_servers_words() {
    let server = Server::shared();
    let mut wrong = resource(&server, "scram");
    wrong.login.password = Some(Secret::new("hunter2hunter2".into()));
    let error = connect(&wrong).await.err().expect("refused");
    assert!(
        matches!(&error, ForwardError::Server { code, .. } if code == "28P01"),
        "{error}"
    );
    assert!(!format!("{error:?}").contains("hunter2"));
    let mut nowhere = resource(&server, "scram");
    nowhere.login.database = Some("nowhere".into());
    let error = connect(&nowhere).await.err().expect("refused");
    assert!(
        matches!(&error, ForwardError::Server { code, .. } if code == "3D000"),
        "{error}"
    );
    let mut none = resource(&server, "scram");
    none.login.password = None;
    let error = connect(&none).await.err().expect("refused");
    assert!(matches!(error, ForwardError::Login(_)), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_proven() {
    let server = Server::shared();
    let why = |error: Option<ForwardError>| match error {
        Some(ForwardError::Tls(why)) => why,
        other => panic!("not refused for its certificate: {other:?}"),
    };

    let mut other_ca = resource(&server, "scram");
    other_ca.ca = Some(server.other_ca());
    let error = why(connect(&other_ca).await.err());
    assert!(error.contains("not signed by the configured CA"), "{error}");
    other_ca.tls = UpstreamTls::VerifyCa;
    let error = why(connect(&other_ca).await.err());
    assert!(error.contains("not signed by the configured CA"), "{error}");

    let mut other_name = resource(&server, "scram");
    let error = why(as_other(&other_name).await.err());
    assert!(error.contains("not for other.internal"), "{error}");
    other_name.tls = UpstreamTls::VerifyCa;
    as_other(&other_name)
        .await
        .expect("verify-ca leaves the name unchecked");

    // The certificate names no address, so an unnamed destination is not proven by it.
    let resource = resource(&server, "scram");
    let unnamed = Target {
        name: None,
        ..target(&resource)
    };
    let error = why(connector()
        .connect(&unnamed, &Startup::default())
        .await
        .err());
    assert!(error.contains("not for 127.0.0.1"), "{error}");
}

#[tokio::test]
async fn an_expired_certificate_and_a_server_without_tls() {
    let expired = Server::start("expired");
    let error = connect(&resource(&expired, "scram"))
        .await
        .err()
        .expect("refused");
    assert!(error.to_string().contains("has expired"), "{error}");
    let mut verify_ca = resource(&expired, "scram");
    verify_ca.tls = UpstreamTls::VerifyCa;
    let error = connect(&verify_ca).await.err().expect("refused");
    assert!(error.to_string().contains("has expired"), "{error}");

    let plain = Server::start("none");
    let error = connect(&resource(&plain, "scram"))
        .await
        .err()
        .expect("refused");
    assert!(matches!(error, ForwardError::NoTls), "{error}");
}

#[tokio::test]
async fn startup_parameters_reach_the_server_or_are_refused() {
    let server = Server::shared();
    let resource = resource(&server, "scram");
    let startup = |name: &str, value: &str| {
        Startup::new("ignored", &[(name.into(), value.into())], false).expect("understood")
    };
    let passed = startup(
        "options",
        "-c statement_timeout=1234ms -c TimeZone=Asia/Tokyo",
    );
    let mut upstream = connector()
        .connect(&target(&resource), &passed)
        .await
        .expect("logged in");
    assert!(
        ask(&mut upstream, "show statement_timeout")
            .await
            .contains("1234ms")
    );
    assert!(
        ask(&mut upstream, "show timezone")
            .await
            .contains("Asia/Tokyo")
    );
    let refused = startup("role", "postgres");
    let error = connector()
        .connect(&target(&resource), &refused)
        .await
        .err()
        .expect("refused");
    assert!(matches!(error, ForwardError::Parameter(_)), "{error}");
}

#[tokio::test]
async fn a_cancel_request_stops_the_statement() {
    let server = Server::shared();
    for tls in [UpstreamTls::VerifyFull, UpstreamTls::Disable] {
        let mut resource = resource(&server, "scram");
        resource.tls = tls;
        let mut upstream = connect(&resource).await.expect("logged in");
        let cancel = upstream.cancel.clone();
        let asked = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            cancel
                .send(Duration::from_secs(5))
                .await
                .expect("the server took the request");
        };
        let (answer, ()) = tokio::join!(ask(&mut upstream, "select pg_sleep(30)"), asked);
        assert!(answer.contains("57014"), "{answer}");
    }
}

#[tokio::test]
async fn the_catalog_of_a_database() {
    let server = Server::shared();
    let resource = resource(&server, "scram");
    let catalog = catalog::fetch(&connector(), &target(&resource), "postgres").await;
    let catalog = catalog.expect("the catalog").catalog;
    let named = |name: &str| {
        let found = catalog.relations().find(|r| &*r.name == name);
        found.unwrap_or_else(|| panic!("{name} is missing: {catalog:?}"))
    };
    let users = named("users");
    assert_eq!(
        (&*users.schema, users.kind),
        ("public", RelationKind::Partitioned)
    );
    let columns: Vec<_> = users
        .columns
        .iter()
        .map(|(n, name)| (*n, &**name))
        .collect();
    // The second column was dropped.
    assert_eq!(columns, [(1, "id"), (3, "ssn"), (4, "email")]);
    let (part, view, deep) = (named("users_low"), named("contacts"), named("Deep View"));
    assert_eq!(part.parents, [users.oid]);
    assert_eq!(view.reads, [users.oid]);
    assert_eq!(deep.kind, RelationKind::Materialized);
    assert!(catalog.sources(deep.oid).contains(&part.oid), "{catalog:?}");
    assert!(named("calls").opaque && !view.opaque);
    assert!(catalog.relations().all(|r| &*r.schema != "pg_catalog"));
}

#[tokio::test]
async fn sessions_share_a_catalog_that_is_looked_up_when_needed() {
    let server = Server::shared();
    let resource = resource(&server, "scram");
    let catalogs = Catalogs::new(Arc::new(connector()));
    let (one, two) = (
        catalogs.of(&target(&resource), "ignored"),
        catalogs.of(&target(&resource), "other"),
    );
    assert!(one.current().is_empty());
    let (first, second) = tokio::join!(one.refresh(), two.refresh());
    assert!(!first.is_empty());
    assert!(Arc::ptr_eq(&first, &second), "one look-up serves both");
    assert!(Arc::ptr_eq(&first, &one.current()) && Arc::ptr_eq(&first, &two.current()));
    // A table that came later is seen by the next look-up, which waits out its interval.
    server.sql("create table later (id int)");
    let third = two.refresh().await;
    assert!(third.relations().any(|r| &*r.name == "later"));
    assert!(Arc::ptr_eq(&third, &one.current()));
}

#[tokio::test]
async fn a_catalog_that_cannot_be_had_is_unknown() {
    let server = Server::shared();
    let mut resource = resource(&server, "scram");
    let catalogs = Catalogs::new(Arc::new(connector()));
    let known = catalogs.of(&target(&resource), "").refresh().await;
    assert!(!known.is_empty());
    resource.login.password = Some(Secret::new("wrong".into()));
    let session = catalogs.of(&target(&resource), "");
    // What was known before may be what has changed.
    assert!(session.refresh().await.is_empty());
}
