//! Nothing passes without a verified identity: every wrong token is refused in PostgreSQL's own
//! form, with a record of it, and reaches no server.

use hoop_tests::{READER, Who, World};
use serde_json::{Value, json};

/// Connects with that token in place and gives it back afterwards.
fn with_token(token: &str) -> hoop_tests::Ran {
    let world = World::shared();
    let file = world.place.path("tokens").join(READER);
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, token).unwrap();
    let ran = world
        .psql(Who::Agent(READER), &["-c", "SELECT 'went through'"], "")
        .unwrap();
    std::fs::write(&file, good).unwrap();
    ran
}

fn made(claims: &Value, forge: &str) -> String {
    World::shared().issuer.made(READER, claims, forge).unwrap()
}

/// One test, since the token's file is one: each wrong token, and between them a right one.
#[test]
fn wrong_tokens_are_refused_and_recorded() {
    let world = World::shared();
    let other = world.issuer.token("etl-bot").unwrap();
    let wrong = [
        ("an expired token", made(&json!({"exp": 1_700_000_000}), "")),
        (
            "a token of tomorrow",
            made(&json!({"nbf": 4_000_000_000_u64}), ""),
        ),
        ("another audience", made(&json!({"aud": "api://other"}), "")),
        (
            "another issuer",
            made(&json!({"iss": "http://127.0.0.1:1/"}), ""),
        ),
        ("another client", other),
        (
            "no client at all",
            made(&json!({"cid": null, "client_id": null}), ""),
        ),
        ("a key of its own", made(&json!({}), "own-key")),
        ("no signature", made(&json!({}), "none")),
        ("the public key as a secret", made(&json!({}), "hs256")),
        ("no token", "not a token".to_owned()),
        ("an empty file", String::new()),
    ];
    let before = connections();
    for (what, token) in wrong {
        let ran = with_token(&token);
        let seen = format!("{}{}", ran.stdout, ran.stderr);
        assert!(!seen.contains("went through"), "{what} went through");
        assert_eq!(ran.code, Some(2), "{what}: {seen}");
        assert!(seen.contains("FATAL:  "), "{what}: {seen}");
        assert!(
            token.len() < 20 || !seen.contains(&token),
            "{what} is repeated: {seen}"
        );
    }
    assert_eq!(
        connections(),
        before,
        "the server was reached under a wrong identity"
    );
    let log = world.daemon.log().unwrap();
    assert!(!log.contains("panicked"), "{log}");
    assert!(recorded_refusals() >= 11, "{:#?}", world.events().unwrap());
    let good = made(&json!({}), "");
    assert!(
        with_token(&good).stdout.contains("went through"),
        "a right token is refused"
    );
}

/// Sessions that hoop opened at the server so far, by the server's own count.
fn connections() -> u32 {
    let log = std::fs::read_to_string(World::shared().postgres.log()).unwrap();
    u32::try_from(log.matches("connection authorized").count()).unwrap()
}

/// Sessions and events that say that an identity was refused.
fn recorded_refusals() -> usize {
    let world = World::shared();
    let lines = [world.sessions().unwrap(), world.events().unwrap()].concat();
    lines
        .iter()
        .filter(|line| line.to_string().contains("identity"))
        .count()
}
