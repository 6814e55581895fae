//! A table of attacks, each with the check that has to refuse it.

use ring::hmac;
use serde_json::{Value, json};

use super::issuer::{Issuer, Key, encode, now};
use super::{QUICK, config, verify};
use crate::identify::{Reason, Verifier, jwt};

/// One attack: its name, the token, and the name of the reason that must refuse it.
type Attack = (&'static str, String, &'static str);

fn with(claims: &Value, claim: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    claims[claim] = value;
    claims
}

fn without(claims: &Value, claim: &str) -> Value {
    let mut claims = claims.clone();
    claims.as_object_mut().unwrap().remove(claim);
    claims
}

fn in_header(key: &Key, claims: &Value, member: &str, value: Value) -> String {
    let mut header = key.header();
    header[member] = value;
    key.sign(&header, claims)
}

fn hmac_with(secret: &[u8], claims: &Value) -> String {
    let header = json!({ "alg": "HS256", "kid": "a" });
    let signed = format!(
        "{}.{}",
        encode(header.to_string()),
        encode(claims.to_string())
    );
    let tag = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, secret),
        signed.as_bytes(),
    );
    format!("{signed}.{}", encode(tag))
}

fn unsigned(algorithm: &str, claims: &Value) -> String {
    let header = json!({ "alg": algorithm, "kid": "a" });
    format!(
        "{}.{}.",
        encode(header.to_string()),
        encode(claims.to_string())
    )
}

fn of_the_signature(key: &Key, thief: &Key, good: &Value) -> Vec<Attack> {
    let token = key.token(good);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    let richer = encode(with(good, "groups", json!(["admins"])).to_string());
    let public = key.public();
    let jwk = key.jwk().to_string();
    let embedded = {
        let mut header = json!({ "alg": "ES256", "kid": "a" });
        header["jwk"] = thief.jwk();
        header["jku"] = json!("https://thief.example/keys");
        header["x5c"] = json!(["AAAA"]);
        thief.sign(&header, good)
    };
    vec![
        ("alg none", unsigned("none", good), "Algorithm"),
        ("alg None", unsigned("None", good), "Algorithm"),
        ("alg nOnE", unsigned("nOnE", good), "Algorithm"),
        (
            "no alg",
            key.sign(&json!({ "kid": "a" }), good),
            "Malformed",
        ),
        (
            "HS256 with the public key",
            hmac_with(&public, good),
            "Algorithm",
        ),
        (
            "HS256 with the JWK",
            hmac_with(jwk.as_bytes(), good),
            "Algorithm",
        ),
        (
            "another algorithm of the kind",
            in_header(key, good, "alg", json!("ES384")),
            "Signature",
        ),
        (
            "another kind of algorithm",
            in_header(key, good, "alg", json!("RS256")),
            "Signature",
        ),
        (
            "an algorithm nobody has",
            in_header(key, good, "alg", json!("ES512")),
            "Algorithm",
        ),
        ("another's key", thief.token(good), "Signature"),
        (
            "unknown kid",
            in_header(key, good, "kid", json!("b")),
            "UnknownKey",
        ),
        (
            "kid like a path",
            in_header(key, good, "kid", json!("../../dev/null")),
            "UnknownKey",
        ),
        (
            "kid not text",
            in_header(key, good, "kid", json!(["a"])),
            "Malformed",
        ),
        ("embedded key", embedded, "Signature"),
        (
            "crit",
            in_header(key, good, "crit", json!(["exp"])),
            "Critical",
        ),
        (
            "empty crit",
            in_header(key, good, "crit", json!([])),
            "Critical",
        ),
        (
            "an id token's typ",
            in_header(key, good, "typ", json!("id+jwt")),
            "Type",
        ),
        (
            "altered claims",
            format!("{header}.{richer}.{signature}"),
            "Signature",
        ),
        ("no signature", format!("{header}.{payload}."), "Signature"),
        (
            "signature cut",
            format!("{header}.{payload}.{}", &signature[..80]),
            "Signature",
        ),
        (
            "zero signature",
            format!("{header}.{payload}.{}", encode([0; 64])),
            "Signature",
        ),
    ]
}

fn of_the_form(key: &Key, good: &Value) -> Vec<Attack> {
    let token = key.token(good);
    let header = key.header().to_string();
    let text = good.to_string();
    let twice = |member: &str| {
        let inner = text.strip_prefix('{').unwrap();
        key.sign_texts(&header, &format!("{{{member},{inner}"))
    };
    let alg_twice = header.replacen('{', "{\"alg\":\"none\",", 1);
    let mut deep = "[".repeat(5000);
    deep.push_str(&"]".repeat(5000));
    vec![
        ("empty", String::new(), "Malformed"),
        ("dots", "..".to_owned(), "Malformed"),
        ("four parts", format!("{token}.x"), "Malformed"),
        (
            "truncated",
            token[..token.len() / 3].to_owned(),
            "Malformed",
        ),
        (
            "huge",
            format!("{token}{}", "A".repeat(20_000)),
            "Malformed",
        ),
        ("nested base64", encode(encode(&token)), "Malformed"),
        (
            "parts encoded twice",
            {
                let parts: Vec<_> = token.split('.').map(encode).collect();
                parts.join(".")
            },
            "Malformed",
        ),
        ("padding", token.replacen('.', "=.", 1), "Malformed"),
        ("newline", format!("{token}\n"), "Malformed"),
        ("standard alphabet", format!("{token}+/"), "Malformed"),
        ("header is a list", key.sign_texts("[]", &text), "Malformed"),
        (
            "claims are a list",
            key.sign_texts(&header, "[]"),
            "Malformed",
        ),
        (
            "claims are deep",
            key.sign_texts(&header, &format!("{{\"a\":{deep}}}")),
            "Malformed",
        ),
        (
            "claims with a tail",
            key.sign_texts(&header, &format!("{text} {{}}")),
            "Malformed",
        ),
        ("aud twice", twice("\"aud\":\"x\""), "Malformed"),
        (
            "cid twice, once escaped",
            twice("\"\\u0063id\":\"x\""),
            "Malformed",
        ),
        ("alg twice", key.sign_texts(&alg_twice, &text), "Malformed"),
    ]
}

fn of_the_claims(key: &Key, good: &Value) -> Vec<Attack> {
    let token = |claim: &str, value: Value| key.token(&with(good, claim, value));
    let lacking = |claim: &str| key.token(&without(good, claim));
    let issuer = good["iss"].as_str().unwrap();
    vec![
        (
            "expired by the skew and a second",
            token("exp", json!(now() - 31)),
            "Expired",
        ),
        ("exp long ago", token("exp", json!(0)), "Expired"),
        ("exp absent", lacking("exp"), "Claim"),
        ("exp as text", token("exp", json!("9999999999")), "Claim"),
        ("exp negative", token("exp", json!(-1)), "Claim"),
        ("exp beyond reason", token("exp", json!(1e300)), "Claim"),
        ("exp null", token("exp", json!(null)), "Claim"),
        (
            "nbf in the future",
            token("nbf", json!(now() + 40)),
            "NotYet",
        ),
        (
            "iat in the future",
            token("iat", json!(now() + 40)),
            "NotYet",
        ),
        (
            "wrong aud",
            token("aud", json!("api://default")),
            "Audience",
        ),
        (
            "aud contains",
            token("aud", json!("api://hoop2")),
            "Audience",
        ),
        (
            "aud list without",
            token("aud", json!(["a", "b"])),
            "Audience",
        ),
        (
            "aud list in list",
            token("aud", json!([["api://hoop"]])),
            "Audience",
        ),
        ("aud absent", lacking("aud"), "Claim"),
        (
            "aud object",
            token("aud", json!({ "api://hoop": 1 })),
            "Claim",
        ),
        (
            "wrong iss",
            token("iss", json!("https://acme.okta.com")),
            "Issuer",
        ),
        (
            "iss with a slash",
            token("iss", json!(format!("{issuer}/"))),
            "Issuer",
        ),
        (
            "iss in capitals",
            token("iss", json!(issuer.replace("http", "HTTP"))),
            "Issuer",
        ),
        ("iss absent", lacking("iss"), "Claim"),
        ("iss list", token("iss", json!([issuer])), "Claim"),
        ("wrong client", token("cid", json!("0oa2")), "Client"),
        ("client empty", token("cid", json!("")), "Client"),
        ("client list", token("cid", json!(["0oa1"])), "Claim"),
        (
            "client only where it comes second",
            {
                let claims = with(good, "cid", json!("0oa2"));
                key.token(&with(&claims, "azp", json!("0oa1")))
            },
            "Client",
        ),
        ("client absent", lacking("cid"), "Claim"),
        ("groups of numbers", token("groups", json!([1])), "Claim"),
        (
            "groups too many",
            token("groups", json!(vec!["g"; 1001])),
            "Claim",
        ),
        ("sub list", token("sub", json!(["a"])), "Claim"),
    ]
}

fn name(reason: &Reason) -> String {
    let text = format!("{reason:?}");
    let end = text.find([' ', '(', '{']).unwrap_or(text.len());
    text[..end].to_owned()
}

#[tokio::test]
async fn each_attack_is_refused_by_its_check() {
    let (key, thief) = (Key::es256("a"), Key::es256("a"));
    let issuer = Issuer::start(&[&key]).await;
    let config = config(&issuer.url);
    let verifier = Verifier::with_pace(&config, QUICK).unwrap();
    let good = issuer.claims();
    let mut attacks = of_the_signature(&key, &thief, &good);
    attacks.extend(of_the_form(&key, &good));
    attacks.extend(of_the_claims(&key, &good));
    for (attack, token, expected) in attacks {
        let answer = verify(&verifier, &config, 0, &token).await;
        let reason = answer.expect_err(attack);
        assert_eq!(name(&reason), expected, "{attack}: {reason}");
    }
    assert!(
        verify(&verifier, &config, 0, &key.token(&good))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn within_the_skew_passes() {
    let key = Key::es256("a");
    let issuer = Issuer::start(&[&key]).await;
    let config = config(&issuer.url);
    let verifier = Verifier::with_pace(&config, QUICK).unwrap();
    let good = issuer.claims();
    for (claim, value) in [
        ("exp", now() - 25),
        ("nbf", now() + 25),
        ("iat", now() + 25),
    ] {
        let token = key.token(&with(&good, claim, json!(value)));
        assert!(
            verify(&verifier, &config, 0, &token).await.is_ok(),
            "{claim}"
        );
    }
}

#[tokio::test]
async fn without_a_kid_only_a_lone_key_will_do() {
    let (key, second) = (Key::es256("a"), Key::es256("b"));
    let issuer = Issuer::start(&[&key, &second]).await;
    let config = config(&issuer.url);
    let verifier = Verifier::with_pace(&config, QUICK).unwrap();
    let token = key.sign(&json!({ "alg": "ES256" }), &issuer.claims());
    let answer = verify(&verifier, &config, 0, &token).await;
    assert_eq!(answer.unwrap_err(), Reason::KeyUnnamed);
}

#[test]
fn what_a_token_says_of_itself_is_quoted_short_and_plain() {
    let quoted = crate::identify::Quoted::new(&format!("\x1b[2J\n{}", "x".repeat(500)));
    let shown = quoted.to_string();
    assert!(
        shown.len() < 120 && !shown.contains(['\x1b', '\n']),
        "{shown}"
    );
}

proptest::proptest! {
    #[test]
    fn no_token_panics(token in "([A-Za-z0-9_-]{0,40}\\.?){0,5}", bytes: Vec<u8>) {
        for kind in [jwt::Kind::Access, jwt::Kind::Event] {
            let _ = jwt::Unverified::parse(&token, kind);
            let _ = jwt::Unverified::parse(&format!("{}.{}.", encode(&bytes), token), kind);
        }
    }
}
