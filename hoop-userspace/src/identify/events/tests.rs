//! Reports that are taken, and those that are not, each with why.

use serde_json::{Value, json};

use super::super::http::Client;
use super::super::tests::issuer::{Issuer, Key, now};
use super::*;
use crate::config::{Bundle, Config};
use crate::secret::Secret;

const REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
const CHANGED: &str = "https://schemas.openid.net/secevent/caep/event-type/token-claims-change";

fn transmitter(issuer: &Issuer) -> Transmitter {
    let text = format!(
        "[issuer.okta]\nurl = \"{0}\"\naudience = \"api://hoop\"\n\
         events = {{ transmitter = \"{0}\", audience = \"https://hoop.example/events\" }}\n",
        issuer.url
    );
    let config = Config::from_bundle(&Bundle::from_text("t".as_ref(), &text)).unwrap();
    let of = config.issuers.values().next().unwrap();
    let transmitter = of.events.transmitter.as_ref().unwrap();
    Transmitter::new(of, transmitter, &Client::new(None).unwrap())
}

fn claims(issuer: &Issuer, id: &str, kind: &str) -> Value {
    json!({
        "iss": issuer.url, "aud": "https://hoop.example/events", "iat": now(), "jti": id,
        "sub_id": { "format": "iss_sub", "iss": "https://x", "sub": "0oa1" },
        "events": { kind: { "event_timestamp": now() } },
    })
}

fn header(key: &Key) -> Value {
    let mut header = key.header();
    header["typ"] = json!("secevent+jwt");
    header
}

#[tokio::test]
async fn a_session_is_revoked_and_claims_change() {
    let key = Key::es256("a");
    let issuer = Issuer::start(&[&key]).await;
    let transmitter = transmitter(&issuer);
    let report = transmitter
        .take(&key.sign(&header(&key), &claims(&issuer, "1", REVOKED)))
        .await
        .unwrap();
    assert!(report.revoked.contains("0oa1") && report.changed.is_empty());
    // As drafts had it: the subject lies in the event.
    let mut older = claims(&issuer, "2", CHANGED);
    older.as_object_mut().unwrap().remove("sub_id");
    older["events"][CHANGED]["subject"] = json!({
        "format": "complex", "user": { "format": "email", "email": "ada@acme.example" },
    });
    let report = transmitter
        .take(&key.sign(&header(&key), &older))
        .await
        .unwrap();
    assert!(report.changed.contains("ada@acme.example") && report.revoked.is_empty());
    // What is of no account is taken too.
    let other = claims(
        &issuer,
        "3",
        "https://schemas.openid.net/secevent/ssf/event-type/verification",
    );
    let report = transmitter
        .take(&key.sign(&header(&key), &other))
        .await
        .unwrap();
    assert_eq!(report, Report::default());
}

#[tokio::test]
async fn what_is_not_proved_is_not_taken() {
    let (key, foreign) = (Key::es256("a"), Key::es256("a"));
    let issuer = Issuer::start(&[&key]).await;
    let transmitter = transmitter(&issuer);
    let good = claims(&issuer, "1", REVOKED);
    let with = |member: &str, value: Value| {
        let mut changed = good.clone();
        changed[member] = value;
        key.sign(&header(&key), &changed)
    };
    let access = key.sign(&key.header(), &good);
    for (what, token, code) in [
        (
            "another's signature",
            foreign.sign(&header(&foreign), &good),
            "invalid_key",
        ),
        ("an access token's type", access, "invalid_request"),
        (
            "no signature",
            key.sign(&json!({"alg": "none", "typ": "secevent+jwt"}), &good),
            "invalid_request",
        ),
        (
            "another issuer",
            with("iss", json!("https://x")),
            "invalid_issuer",
        ),
        (
            "another audience",
            with("aud", json!("https://x")),
            "invalid_audience",
        ),
        (
            "too old",
            with("iat", json!(now() - 4000)),
            "invalid_request",
        ),
        (
            "too new",
            with("iat", json!(now() + 400)),
            "invalid_request",
        ),
        ("no id", with("jti", Value::Null), "invalid_request"),
        ("no events", with("events", json!([])), "invalid_request"),
        ("no token", "nonsense".to_owned(), "invalid_request"),
    ] {
        let error = transmitter.take(&token).await.expect_err(what);
        assert_eq!(error.code, code, "{what}: {error}");
        assert!(!error.passing, "{what}");
    }
    let token = key.sign(&header(&key), &claims(&issuer, "once", REVOKED));
    transmitter.take(&token).await.unwrap();
    let again = transmitter.take(&token).await.unwrap_err();
    assert!(again.to_string().contains("taken before"));
}

#[test]
fn hooks() {
    let secret = HookSecret::new(&Secret::new("s3cret".to_owned())).unwrap();
    assert!(secret.is(Some(b"s3cret")));
    for wrong in [
        None,
        Some(&b""[..]),
        Some(b"s3cre"),
        Some(b"s3cretx"),
        Some(b"Bearer s3cret"),
    ] {
        assert!(!secret.is(wrong));
    }
    let body = |kind: &str| {
        json!({ "data": { "events": [{
            "eventType": kind,
            "target": [{ "id": "0oa1", "type": "AppInstance", "alternateId": "billing" }],
        }]}})
        .to_string()
    };
    let report = hook::read(body("application.lifecycle.deactivate").as_bytes()).unwrap();
    assert!(report.revoked.contains("0oa1") && report.revoked.contains("billing"));
    let report = hook::read(body("app.oauth2.as.token.revoke").as_bytes()).unwrap();
    assert_eq!(report, Report::default());
    for nonsense in [
        "",
        "{}",
        "[]",
        "{\"data\":{\"events\":[{}]}}",
        "{\"data\":{\"events\":7}}",
    ] {
        assert!(hook::read(nonsense.as_bytes()).is_none(), "{nonsense}");
    }
}

#[test]
fn a_subject_without_end_is_not_followed() {
    let mut subject = json!({ "sub": "deep" });
    for _ in 0..100 {
        subject = json!({ "user": subject });
    }
    let mut found = std::collections::BTreeSet::new();
    names(&subject, 0, &mut found);
    assert!(found.is_empty());
    let many: Vec<_> = (0..1000).map(|n| json!({ "id": n.to_string() })).collect();
    names(&json!({ "identifiers": many }), 0, &mut found);
    assert_eq!(found.len(), MAX_NAMES);
}
