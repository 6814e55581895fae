//! Each way of proving a client, what the issuer may answer, and how seldom it is asked.

use std::path::Path;
use std::process::Command;

use base64::engine::general_purpose::STANDARD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, EcdsaKeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use serde_json::{Value, json};

use super::super::tests::issuer::{self, encode};
use super::*;
use crate::config::{Bundle, Config, SigningAlgorithm};
use crate::secret::Secret;

/// A key that the tool makes with these arguments, in PEM.
fn made(arguments: &str) -> String {
    let ran = Command::new("openssl")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    assert!(ran.status.success(), "openssl {arguments}");
    String::from_utf8(ran.stdout).unwrap()
}

fn ec_pem() -> String {
    made("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256")
}

fn config(issuer: &str, token: &str, secrets: &[(&str, &str)]) -> Config {
    let text = format!(
        "[issuer.okta]\nurl = \"{issuer}\"\naudience = \"api://hoop\"\n\
         [[agent]]\nname = \"bot\"\ncgroup = \"agents.slice/bot\"\nissuer = \"okta\"\n\
         client_id = \"0oa1\"\ntoken = {token}\n"
    );
    let mut bundle = Bundle::from_text(Path::new("t"), &text);
    for (name, secret) in secrets {
        let secret = Secret::new((*secret).to_owned());
        bundle.secrets.insert((*name).to_owned(), secret);
    }
    Config::from_bundle(&bundle).unwrap()
}

fn obtainer(config: &Config, pause: Duration) -> Obtainer {
    let issuer = config.issuers.values().next().unwrap();
    let client = Client::new(None).unwrap();
    let discovery = Arc::new(Discovery::new(client.clone(), &issuer.identifier));
    let metrics = Arc::default();
    let made = Obtainer::with_pause(&config.agents[0], &client, &discovery, &metrics, pause);
    made.unwrap().unwrap()
}

fn grant(token: &str, life: u64) -> Value {
    json!({ "access_token": token, "token_type": "Bearer", "expires_in": life })
}

/// The form that a request carried.
fn form(request: &str) -> std::collections::BTreeMap<String, String> {
    let body = request.split_once("\r\n\r\n").unwrap().1;
    url::form_urlencoded::parse(body.as_bytes())
        .into_owned()
        .collect()
}

fn verify(assertion: &str, kind: &'static dyn VerificationAlgorithm, public: &[u8]) -> Value {
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    UnparsedPublicKey::new(kind, public)
        .verify(signed.as_bytes(), &signature)
        .unwrap();
    let claims = signed.split_once('.').unwrap().1;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

#[test]
fn keys_of_every_form() {
    let rsa = made("genrsa 2048");
    let ec = ec_pem();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &rsa).unwrap();
    let path = file.path().to_str().unwrap();
    let pkcs1 = made(&format!("rsa -in {path} -traditional"));
    let pkcs8 = made(&format!("pkcs8 -topk8 -nocrypt -in {path}"));
    std::fs::write(file.path(), &ec).unwrap();
    let sec1 = made(&format!("ec -in {path}"));
    assert!(pkcs1.contains("BEGIN RSA PRIVATE") && sec1.contains("BEGIN EC PRIVATE"));
    for (pem, expected) in [
        (&pkcs1, SigningAlgorithm::RS256),
        (&pkcs8, SigningAlgorithm::RS256),
        (&ec, SigningAlgorithm::ES256),
        (&sec1, SigningAlgorithm::ES256),
    ] {
        let key = SigningKey::read(pem, Some(expected)).unwrap();
        assert_eq!(key.algorithm(), expected);
        let signature = key.sign(b"x").unwrap();
        let (kind, public): (&dyn VerificationAlgorithm, _) = match &key.pair_for_test() {
            Ok(rsa) => (&RSA_PKCS1_2048_8192_SHA256, rsa.clone()),
            Err(ec) => (&ECDSA_P256_SHA256_FIXED, ec.clone()),
        };
        let known = UnparsedPublicKey::new(kind, public);
        known.verify(b"x", &signature).unwrap();
    }
    let wrong = SigningKey::read(&ec, Some(SigningAlgorithm::RS256))
        .err()
        .unwrap();
    assert!(
        wrong.contains("signs with ES256, not with RS256"),
        "{wrong}"
    );
    let p384 = made("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384");
    let short = made("genrsa 1024");
    for unfit in [
        p384.as_str(),
        &short,
        "",
        "{}",
        "{\"kty\":\"oct\",\"k\":\"c2VjcmV0\"}",
    ] {
        assert!(SigningKey::read(unfit, None).is_err());
    }
}

#[test]
fn keys_as_jwk() {
    let random = ring::rand::SystemRandom::new();
    let kind = &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(kind, pkcs8.as_ref(), &random).unwrap();
    let public = pair.public_key().as_ref();
    // Where the template of ring keeps the secret number.
    let d = &pkcs8.as_ref()[36..68];
    let jwk = json!({
        "kty": "EC", "crv": "P-256", "kid": "k1", "use": "sig",
        "x": encode(&public[1..33]), "y": encode(&public[33..]), "d": encode(d),
    });
    let key = SigningKey::read(&jwk.to_string(), None).unwrap();
    assert_eq!(key.kid(), Some("k1"));
    let known = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public);
    known.verify(b"x", &key.sign(b"x").unwrap()).unwrap();
    let mut public_only = jwk.clone();
    public_only.as_object_mut().unwrap().remove("d");
    let error = SigningKey::read(&public_only.to_string(), None)
        .err()
        .unwrap();
    assert!(error.contains("lacks `d`"), "{error}");
}

#[tokio::test]
async fn a_private_key_proves_the_client() {
    let issuer = issuer::Issuer::start(&[]).await;
    issuer.grant(200, grant("tok", 300));
    let pem = ec_pem();
    let public = SigningKey::read(&pem, None)
        .unwrap()
        .pair_for_test()
        .unwrap_err();
    for (more, audience) in [
        ("", format!("{}/v1/token", issuer.url)),
        (", audience = \"issuer\"", issuer.url.clone()),
    ] {
        let token = format!(
            "{{ client_credentials = {{ key = \"bot.pem\", kid = \"k1\", scope = \"a b\"{more} }} }}"
        );
        let config = config(&issuer.url, &token, &[("file:bot.pem", &pem)]);
        let token = obtainer(&config, FIRST_PAUSE).token(None).await.unwrap();
        assert_eq!(token.as_str(), "tok");
        let form = form(issuer.requests().last().unwrap());
        assert_eq!(form["grant_type"], "client_credentials");
        assert_eq!(form["scope"], "a b");
        let claims = verify(&form["client_assertion"], &ECDSA_P256_SHA256_FIXED, &public);
        assert_eq!(claims["aud"], audience);
        assert_eq!(
            (&claims["iss"], &claims["sub"]),
            (&json!("0oa1"), &json!("0oa1"))
        );
        assert_eq!(
            claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(),
            60
        );
    }
}

#[tokio::test]
async fn a_secret_proves_the_client() {
    let issuer = issuer::Issuer::start(&[]).await;
    issuer.grant(200, grant("tok", 300));
    let secret = [("credential:bot", "p:ss wörd%")];
    let basic = "{ client_credentials = { secret = { credential = \"bot\" } } }";
    let basic = config(&issuer.url, basic, &secret);
    obtainer(&basic, FIRST_PAUSE).token(None).await.unwrap();
    let request = issuer.requests().pop().unwrap();
    let sent = STANDARD.encode("0oa1:p%3Ass+w%C3%B6rd%25");
    assert!(request.contains(&format!("Basic {sent}")), "{request}");
    assert!(!form(&request).contains_key("client_secret"));

    let post = "{ client_credentials = { secret = { credential = \"bot\" }, auth = \"post\" } }";
    let post = config(&issuer.url, post, &secret);
    obtainer(&post, FIRST_PAUSE).token(None).await.unwrap();
    let request = issuer.requests().pop().unwrap();
    assert_eq!(form(&request)["client_secret"], "p:ss wörd%");
    assert!(!request.to_lowercase().contains("authorization:"));
}

#[tokio::test]
async fn an_assertion_is_exchanged() {
    let issuer = issuer::Issuer::start(&[]).await;
    issuer.grant(200, grant("tok", 300));
    let token = "{ saml = { file = \"/run/bot.xml\", scope = \"a\" } }";
    let config = config(&issuer.url, token, &[]);
    let obtainer = obtainer(&config, FIRST_PAUSE);
    for _ in 0..3 {
        obtainer.token(Some("<saml/>")).await.unwrap();
    }
    assert_eq!(issuer.requests().len(), 1);
    let form = form(&issuer.requests()[0]);
    assert_eq!(form["grant_type"], SAML_BEARER);
    assert_eq!(form["assertion"], encode("<saml/>"));
    assert_eq!(form["client_id"], "0oa1");
    // Another assertion: the token of the first one is not given out for it.
    issuer.grant(
        400,
        json!({ "error": "invalid_grant", "error_description": "<saml/> old" }),
    );
    let why = obtainer.token(Some("<other/>")).await.unwrap_err();
    assert!(
        why.contains("invalid_grant") && !why.contains("saml"),
        "{why}"
    );
}

#[tokio::test]
async fn one_request_serves_all_and_is_renewed_before_its_end() {
    let issuer = issuer::Issuer::start(&[]).await;
    issuer.grant(200, grant("one", 3));
    let token = "{ client_credentials = { secret = { file = \"s\" } } }";
    let config = config(&issuer.url, token, &[("file:s", "secret")]);
    let obtainer = Arc::new(obtainer(&config, Duration::from_millis(200)));
    let mut waiting = Vec::new();
    for _ in 0..50 {
        let obtainer = obtainer.clone();
        waiting.push(tokio::spawn(
            async move { obtainer.token(None).await.unwrap() },
        ));
    }
    for task in waiting {
        assert_eq!(task.await.unwrap().as_str(), "one");
    }
    assert_eq!(issuer.requests().len(), 1);
    issuer.grant(200, grant("two", 300));
    tokio::time::sleep(Duration::from_millis(2100)).await;
    // Past two thirds: the old one at once, the new one soon.
    assert_eq!(obtainer.token(None).await.unwrap().as_str(), "one");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(obtainer.token(None).await.unwrap().as_str(), "two");
    assert_eq!(issuer.requests().len(), 2);
}

#[tokio::test]
async fn what_an_issuer_may_answer() {
    let issuer = issuer::Issuer::start(&[]).await;
    let token = "{ client_credentials = { secret = { file = \"s\" } } }";
    let config = config(&issuer.url, token, &[("file:s", "hunter2")]);
    let obtainer = obtainer(&config, Duration::ZERO);
    for (status, body, why) in [
        (
            401,
            "{\"error\":\"invalid_client\",\"error_description\":\"hunter2\"}",
            "invalid_client",
        ),
        (500, "<html>hunter2</html>", "answers 500"),
        (302, "{}", "answers 302"),
        (200, "<html>hunter2</html>", "no token in JSON"),
        (
            200,
            "{\"access_token\":\"a\",\"access_token\":\"b\",\"token_type\":\"Bearer\"}",
            "no token",
        ),
        (
            200,
            "{\"access_token\":\"a\",\"token_type\":\"DPoP\"}",
            "not Bearer",
        ),
        (
            200,
            "{\"access_token\":\"\",\"token_type\":\"Bearer\"}",
            "no token, or",
        ),
    ] {
        issuer.grant(status, body);
        let error = obtainer.token(None).await.unwrap_err();
        assert!(error.contains(why) && !error.contains("hunter2"), "{error}");
    }
    issuer.grant(200, " ".repeat(MAX_TOKEN * 5));
    let error = obtainer.token(None).await.unwrap_err();
    assert!(error.contains("more than 65536 bytes"), "{error}");
    issuer.grant(200, grant("tok", 300));
    assert!(obtainer.token(None).await.is_ok());
}

#[tokio::test]
async fn an_issuer_that_refuses_is_left_alone() {
    let issuer = issuer::Issuer::start(&[]).await;
    issuer.grant(401, json!({ "error": "invalid_client" }));
    let token = "{ client_credentials = { secret = { file = \"s\" } } }";
    let config = config(&issuer.url, token, &[("file:s", "secret")]);
    let obtainer = obtainer(&config, Duration::from_millis(100));
    for _ in 0..100 {
        assert!(obtainer.token(None).await.is_err());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // After 0, 100, 300 ms and, on a slow machine, 700.
    let asked = issuer.requests().len();
    assert!((2..=4).contains(&asked), "{asked}");
}
