//! A table of what a lying issuer or one in its place may do, each with what refuses it; and two
//! issuers that look alike.

use std::time::Instant;

use super::issuer::Fault;
use super::*;

/// Each fault, and words of the reason that refuses it.
const LIES: [(&str, Fault, &str); 11] = [
    ("an error page", Fault::Status, "answers 500"),
    ("a redirect to itself", Fault::Redirect, "answers 302"),
    (
        "HTML for JSON",
        Fault::ContentType,
        "\"text/html\" instead of",
    ),
    ("a huge description", Fault::Huge, "more than 1048576 bytes"),
    ("100 MB of keys", Fault::Endless, "more than 1048576 bytes"),
    (
        "another issuer's name",
        Fault::OtherIssuer,
        "describes the issuer",
    ),
    (
        "two issuers' names",
        Fault::Twice,
        "duplicate field `issuer`",
    ),
    (
        "half an object",
        Fault::Garbage,
        "no OpenID provider metadata",
    ),
    (
        "keys elsewhere in the clear",
        Fault::KeysElsewhere,
        "which is not https",
    ),
    ("no answer", Fault::Hangup, "connection closed"),
    ("an answer byte by byte", Fault::Slow, "timed out"),
];

#[tokio::test]
async fn each_lie_is_refused() {
    let key = Key::es256("a");
    let issuer = Issuer::start(&[&key]).await;
    let config = config(&issuer.url);
    let verifier = Verifier::with_pace(&config, QUICK).unwrap();
    let token = key.token(&issuer.claims());
    for (lie, fault, why) in LIES {
        issuer.fail(Some(fault));
        let from = Instant::now();
        let reason = verify(&verifier, &config, 0, &token).await.expect_err(lie);
        assert!(matches!(reason, Reason::NoKeys(_)), "{lie}: {reason}");
        assert!(reason.to_string().contains(why), "{lie}: {reason}");
        assert!(from.elapsed() < Duration::from_secs(8), "{lie}");
    }
    // What the buffers between the two hold comes on top of the one MiB that is read.
    assert!(issuer.taken() < 16 << 20, "{} bytes taken", issuer.taken());
    issuer.fail(None);
    assert!(verify(&verifier, &config, 0, &token).await.is_ok());
}

#[tokio::test]
async fn two_issuers_with_the_same_kid_and_client_id() {
    let (ours, theirs) = (Key::es256("a"), Key::es256("a"));
    let (first, second) = (
        Issuer::start(&[&ours]).await,
        Issuer::start(&[&theirs]).await,
    );
    let mut text = String::new();
    for (name, issuer) in [("one", &first), ("two", &second)] {
        text += &format!(
            "[issuer.{name}]\nurl = \"{}\"\naudience = \"api://hoop\"\n\
             [[agent]]\nname = \"bot-{name}\"\ncgroup = \"agents.slice/{name}\"\nissuer = \"{name}\"\n\
             client_id = \"0oa1\"\ntoken = {{ env = \"TOKEN\" }}\n",
            issuer.url
        );
    }
    let config = Config::from_bundle(&Bundle::from_text("t".as_ref(), &text)).unwrap();
    let verifier = Verifier::with_pace(&config, QUICK).unwrap();
    let check = async |agent: usize, token: String| {
        let token = TokenText::Found(token.into());
        let answer = verifier
            .verify(&config.agents[agent], &token, "", Occasion::Opening)
            .await;
        answer.map_err(|error| error.reason)
    };
    assert!(check(0, ours.token(&first.claims())).await.is_ok());
    assert!(check(1, theirs.token(&second.claims())).await.is_ok());
    // The other's token; the other's key under the right name; the right key under the other's name.
    let table = [
        (theirs.token(&second.claims()), "Signature"),
        (theirs.token(&first.claims()), "Signature"),
        (ours.token(&second.claims()), "Issuer"),
    ];
    for (token, expected) in table {
        let reason = check(0, token).await.unwrap_err();
        assert!(format!("{reason:?}").starts_with(expected), "{reason:?}");
    }
}
