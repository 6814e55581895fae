//! The verifier against an issuer of its own (plain HTTP on loopback): what passes, every attack
//! with what refused it, rotation, and how seldom the issuer is asked.

mod attacks;
mod demands;
pub(super) mod issuer;
mod lies;
mod revoked;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::keys::Pace;
use super::*;
use crate::config::{Bundle, Config};
use crate::handover::TokenText;
use issuer::{Issuer, Key, now};

const QUICK: Pace = Pace {
    fresh: Duration::from_secs(60),
    usable: Duration::from_secs(60),
    unknown: Duration::from_millis(300),
    failed: Duration::ZERO,
};

fn config(url: &str) -> Config {
    let text = format!(
        "[issuer.okta]\nurl = \"{url}\"\naudience = \"api://hoop\"\n\
         [[agent]]\nname = \"bot\"\ncgroup = \"agents.slice/bot\"\nissuer = \"okta\"\n\
         client_id = \"0oa1\"\ntoken = {{ env = \"TOKEN\" }}\n\
         [[agent]]\nname = \"other\"\ncgroup = \"agents.slice/other\"\nissuer = \"okta\"\n\
         client_id = \"0oa2\"\ntoken = {{ env = \"TOKEN\" }}\n"
    );
    Config::from_bundle(&Bundle::from_text("t".as_ref(), &text)).unwrap()
}

async fn verify(
    verifier: &Verifier,
    config: &Config,
    agent: usize,
    token: &str,
) -> Result<std::sync::Arc<Identity>, Reason> {
    let text = TokenText::Found(token.to_owned().into());
    let answer = verifier
        .verify(
            &config.agents[agent],
            &text,
            "agents.slice/bot",
            Occasion::Opening,
        )
        .await;
    let answer = answer.map(|proved| proved.identity);
    answer.map_err(|error| {
        let shown = error.to_string();
        assert!(
            shown.contains("`bot`") || shown.contains("`other`"),
            "{shown}"
        );
        assert!(token.len() < 40 || !shown.contains(token), "{shown}");
        error.reason
    })
}

#[tokio::test]
async fn a_good_token_of_each_algorithm() {
    for key in [Key::es256("a"), Key::es384("a"), Key::ed25519("a")] {
        let issuer = Issuer::start(&[&key]).await;
        let config = config(&issuer.url);
        let verifier = Verifier::with_pace(&config, QUICK).unwrap();
        let mut claims = issuer.claims();
        claims["groups"] = json!(["agents", "billing"]);
        claims["aud"] = json!(["other", "api://hoop"]);
        let identity = verify(&verifier, &config, 0, &key.token(&claims))
            .await
            .unwrap();
        assert!(identity.verified());
        assert_eq!(identity.client_id(), "0oa1");
        assert_eq!(identity.subject(), "0oa1");
        assert_eq!(identity.groups(), ["agents", "billing"]);
        assert_eq!(identity.scopes(), ["db.read"]);
        let expected = UNIX_EPOCH + Duration::from_secs(claims["exp"].as_u64().unwrap());
        assert_eq!(identity.expires(), expected);
    }
}

#[tokio::test]
async fn other_shapes_of_claims() {
    let key = Key::es256("a");
    let issuer = Issuer::start(&[&key]).await;
    let config = config(&issuer.url);
    let verifier = Verifier::with_pace(&config, QUICK).unwrap();
    let mut claims = issuer.claims();
    for name in ["cid", "scp", "sub", "nbf", "iat"] {
        claims.as_object_mut().unwrap().remove(name);
    }
    claims["client_id"] = json!("0oa1");
    claims["scope"] = json!("db.read db.write");
    claims["exp"] = json!(now() as f64 + 60.5);
    let mut header = key.header();
    header["typ"] = json!("application/at+JWT");
    let token = key.sign(&header, &claims);
    let identity = verify(&verifier, &config, 0, &token).await.unwrap();
    assert_eq!(identity.scopes(), ["db.read", "db.write"]);
    assert_eq!(identity.subject(), "0oa1");
    // Without `kid`, and with the only key there is.
    header.as_object_mut().unwrap().remove("kid");
    let token = key.sign(&header, &claims);
    assert!(verify(&verifier, &config, 0, &token).await.is_ok());
}

#[tokio::test]
async fn a_token_is_verified_once_and_for_its_agent_only() {
    let key = Key::es256("a");
    let issuer = Issuer::start(&[&key]).await;
    let config = config(&issuer.url);
    let verifier = std::sync::Arc::new(Verifier::with_pace(&config, QUICK).unwrap());
    let token = key.token(&issuer.claims());
    let mut waiting = Vec::new();
    for _ in 0..100 {
        let (verifier, config, token) = (verifier.clone(), config.clone(), token.clone());
        waiting.push(tokio::spawn(async move {
            verify(&verifier, &config, 0, &token).await.is_ok()
        }));
    }
    for task in waiting {
        assert!(task.await.unwrap());
    }
    assert_eq!(issuer.asked(), 1, "single flight");
    assert_eq!(verifier.remembers(), 1);
    let stolen = verify(&verifier, &config, 1, &token).await;
    assert!(matches!(stolen, Err(Reason::Client { .. })), "{stolen:?}");
}

#[tokio::test]
async fn keys_rotate() {
    let (old, new) = (Key::es256("old"), Key::es256("new"));
    let issuer = Issuer::start(&[&old]).await;
    let config = config(&issuer.url);
    let verifier = Verifier::with_pace(&config, QUICK).unwrap();
    let (first, second) = (old.token(&issuer.claims()), new.token(&issuer.claims()));
    assert!(verify(&verifier, &config, 0, &first).await.is_ok());
    issuer.publish(&[&new]);
    // Too soon after the last question: refused, not asked.
    let early = verify(&verifier, &config, 0, &second).await;
    assert!(matches!(early, Err(Reason::UnknownKey { .. })), "{early:?}");
    assert_eq!(issuer.asked(), 1);
    tokio::time::sleep(QUICK.unknown).await;
    assert!(verify(&verifier, &config, 0, &second).await.is_ok());
    assert_eq!(issuer.asked(), 2);
    // The withdrawn key's token was remembered; it goes with its key.
    let withdrawn = verify(&verifier, &config, 0, &first).await;
    assert!(
        matches!(withdrawn, Err(Reason::UnknownKey { .. })),
        "{withdrawn:?}"
    );
    for _ in 0..20 {
        assert!(verify(&verifier, &config, 0, &first).await.is_err());
    }
    assert_eq!(
        issuer.asked(),
        2,
        "invented key names do not reach the issuer"
    );
}

#[tokio::test]
async fn an_issuer_out_of_reach_refuses_and_recovers() {
    let key = Key::es256("a");
    let issuer = Issuer::start(&[&key]).await;
    let config = config(&issuer.url);
    let verifier = Verifier::with_pace(&config, QUICK).unwrap();
    let token = key.token(&issuer.claims());
    for fault in [
        issuer::Fault::Status,
        issuer::Fault::Redirect,
        issuer::Fault::ContentType,
        issuer::Fault::Huge,
        issuer::Fault::OtherIssuer,
        issuer::Fault::Garbage,
        issuer::Fault::KeysElsewhere,
        issuer::Fault::Hangup,
    ] {
        issuer.fail(Some(fault));
        let answer = verify(&verifier, &config, 0, &token).await;
        assert!(
            matches!(answer, Err(Reason::NoKeys(_))),
            "{fault:?}: {answer:?}"
        );
    }
    issuer.fail(None);
    assert!(verify(&verifier, &config, 0, &token).await.is_ok());
}

#[tokio::test]
async fn what_is_missing_is_said() {
    let issuer = Issuer::start(&[]).await;
    let mut config = config(&issuer.url);
    let verifier = Verifier::with_pace(&config, QUICK).unwrap();
    let missing = TokenText::Missing("$TOKEN is not set".into());
    let error = verifier
        .verify(
            &config.agents[0],
            &missing,
            "agents.slice/bot",
            Occasion::Opening,
        )
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "agent `bot` is not identified: it has no token: $TOKEN is not set"
    );
    config.agents[0].client_id = None;
    let error = verifier
        .verify(
            &config.agents[0],
            &missing,
            "agents.slice/bot",
            Occasion::Opening,
        )
        .await
        .unwrap_err();
    assert_eq!(error.reason, Reason::NotConfigured);
    let unverified = Identity::unverified(&config.agents[0]);
    assert!(!unverified.verified() && unverified.client_id().is_empty());
    assert!(unverified.expires() > SystemTime::now());
}
