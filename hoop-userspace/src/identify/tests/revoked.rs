//! What an issuer's word on a token does: how seldom it is asked for, what each answer means, and
//! what holds while there is none.

use serde_json::Value;

use super::*;
use crate::secret::Secret;

/// `issuer` is what stands below `[issuer.okta]` beside url and audience.
fn asking(url: &str, issuer: &str) -> Config {
    let text = format!(
        "[issuer.okta]\nurl = \"{url}\"\naudience = \"api://hoop\"\nrecheck = \"1s\"\n{issuer}\n\
         [[agent]]\nname = \"bot\"\ncgroup = \"agents.slice/bot\"\nissuer = \"okta\"\n\
         client_id = \"0oa1\"\ntoken = {{ env = \"TOKEN\" }}\n"
    );
    let mut bundle = Bundle::from_text("t".as_ref(), &text);
    let secret = Secret::new("s3cret".to_owned());
    bundle.secrets.insert("file:asks".to_owned(), secret);
    Config::from_bundle(&bundle).unwrap()
}

const ASKS: &str = "introspection = { client_id = \"hoop\", secret = { file = \"asks\" } }";

struct Asked {
    issuer: Issuer,
    key: Key,
    config: Config,
    verifier: Verifier,
    token: String,
}

impl Asked {
    async fn new(issuer_table: &str) -> Self {
        let key = Key::es256("a");
        let issuer = Issuer::start(&[&key]).await;
        let config = asking(&issuer.url, issuer_table);
        let verifier = Verifier::with_pace(&config, QUICK).unwrap();
        let token = key.token(&issuer.claims());
        Self {
            issuer,
            key,
            config,
            verifier,
            token,
        }
    }

    async fn look(&self, occasion: Occasion) -> Result<Proved, Reason> {
        let text = TokenText::Found(self.token.clone().into());
        let agent = &self.config.agents[0];
        let looked = self
            .verifier
            .verify(agent, &text, "agents.slice/bot", occasion)
            .await;
        looked.map_err(|error| {
            let shown = error.to_string();
            let secrets = [self.token.as_str(), "s3cret"];
            assert!(!secrets.iter().any(|s| shown.contains(s)), "{shown}");
            error.reason
        })
    }

    async fn open(&self) -> Result<Proved, Reason> {
        self.look(Occasion::Opening).await
    }

    async fn live(&self) -> Result<Proved, Reason> {
        self.look(Occasion::Living).await
    }
}

fn active() -> Value {
    json!({ "active": true, "sub": "0oa1", "client_id": "0oa1" })
}

/// Past `recheck`.
async fn later() {
    tokio::time::sleep(Duration::from_millis(1050)).await;
}

#[tokio::test]
async fn one_question_serves_everybody_for_a_while() {
    let asked = std::sync::Arc::new(Asked::new(ASKS).await);
    asked.issuer.say(200, "", active());
    let waiting: Vec<_> = (0..1000)
        .map(|_| {
            let asked = asked.clone();
            tokio::spawn(async move { asked.open().await.is_ok() })
        })
        .collect();
    for task in waiting {
        assert!(task.await.unwrap());
    }
    let questions = asked.issuer.questions();
    assert_eq!(questions.len(), 1, "single flight");
    let question = &questions[0];
    assert!(
        question.starts_with("POST /oauth2/aus1/v1/introspect "),
        "{question}"
    );
    assert!(
        question.contains("token_type_hint=access_token"),
        "{question}"
    );
    // RFC 6749 §2.3.1: base64 of "hoop:s3cret".
    assert!(question.contains("Basic aG9vcDpzM2NyZXQ="), "{question}");
    later().await;
    let proved = asked.open().await.unwrap();
    assert!(matches!(proved.standing, Standing::Confirmed { .. }));
    let bound = proved.bound.within.unwrap();
    assert!((1..3).contains(&bound.as_secs()), "{bound:?}");
    assert_eq!(asked.issuer.questions().len(), 2);
    let counts = asked.verifier.metrics().counts();
    assert_eq!((counts.verified, counts.active), (1001, 2));
}

#[tokio::test]
async fn an_alarm_asks_at_once() {
    let asked = Asked::new(ASKS).await;
    asked.issuer.say(200, "", active());
    asked.open().await.unwrap();
    asked.issuer.say(200, "", json!({ "active": false }));
    assert!(asked.live().await.is_ok(), "its last word is young");
    let revoked = asked.look(Occasion::Alarm).await;
    assert_eq!(revoked.unwrap_err(), Reason::Inactive);
    assert_eq!(asked.open().await.unwrap_err(), Reason::Inactive);
}

/// What it may say, and what that means where it said yes before and where it did not.
#[tokio::test]
async fn each_answer() {
    for (name, status, body, first, before) in [
        (
            "inactive",
            200,
            json!({ "active": false }),
            "revoked",
            "revoked",
        ),
        ("no word", 200, json!({}), "without `active`", "goes on"),
        (
            "another's",
            200,
            json!({ "active": true, "sub": "x" }),
            "about sub",
            "goes on",
        ),
        (
            "refused",
            401,
            json!({ "error": "invalid_client" }),
            "compare its key",
            "goes on",
        ),
        ("an error", 500, json!("oops"), "answers 500", "goes on"),
        (
            "a redirect",
            302,
            json!({ "active": true }),
            "answers 302",
            "goes on",
        ),
        ("nothing", 0, json!(""), "connection closed", "goes on"),
    ] {
        let asked = Asked::new(ASKS).await;
        asked.issuer.say(status, "location: /\r\n", &body);
        let refused = asked.open().await.unwrap_err().to_string();
        assert!(refused.contains(first), "{name}: {refused}");

        let asked = Asked::new(ASKS).await;
        asked.issuer.say(200, "", active());
        asked.open().await.unwrap();
        asked.issuer.say(status, "", &body);
        later().await;
        let living = match asked.live().await {
            Ok(_) => "goes on".to_owned(),
            Err(reason) => reason.to_string(),
        };
        assert!(living.contains(before), "{name}: {living}");
        // A new connection is refused at once in any case.
        assert!(asked.open().await.is_err(), "{name}");
    }
}

#[tokio::test]
async fn grace_is_for_what_was_confirmed_and_ends() {
    let table = format!("{ASKS}\nunreachable = {{ grace = \"3s\" }}");
    let asked = Asked::new(&table).await;
    asked.issuer.say(503, "", "busy");
    assert!(
        matches!(asked.open().await, Err(Reason::Unreachable(_))),
        "never confirmed"
    );
    later().await;
    asked.issuer.say(200, "", active());
    asked.open().await.unwrap();
    asked.issuer.say(503, "", "busy");
    later().await;
    let proved = asked.open().await.unwrap();
    let Standing::Grace { why, .. } = &proved.standing else {
        panic!("{proved:?}");
    };
    assert!(why.contains("503"), "{why}");
    assert!(proved.bound.why.unwrap().contains("cannot be asked"));
    assert_eq!(asked.verifier.metrics().counts().graced, 1);
    // The word of a token that was found revoked is not forgotten by an outage.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(
        matches!(asked.live().await, Err(Reason::Unreachable(_))),
        "the grace is over"
    );
}

#[tokio::test]
async fn limits_are_honoured_and_said() {
    let asked = Asked::new(ASKS).await;
    let reset = now() + 30;
    let limits = format!(
        "x-rate-limit-limit: 10\r\nx-rate-limit-remaining: 0\r\nx-rate-limit-reset: {reset}\r\n"
    );
    asked.issuer.say(200, &limits, active());
    asked.open().await.unwrap();
    later().await;
    for _ in 0..5 {
        let proved = asked.live().await.unwrap();
        assert!(matches!(proved.standing, Standing::Confirmed { .. }));
        assert!(proved.bound.within.unwrap() >= Duration::from_secs(1));
        assert!(proved.bound.why.unwrap().contains("limits how often"));
    }
    assert_eq!(
        asked.issuer.questions().len(),
        1,
        "it is not asked past its limit"
    );
    // A token that it never confirmed waits for no turn that is half a minute away.
    let other = asked.key.token(&{
        let mut claims = asked.issuer.claims();
        claims["jti"] = json!("AT.other");
        claims
    });
    let other = Asked {
        token: other,
        ..asked
    };
    let refused = other.open().await.unwrap_err().to_string();
    assert!(refused.contains("limits how often"), "{refused}");
}

#[tokio::test]
async fn near_its_end_a_token_is_expired_and_not_revoked() {
    let mut asked = Asked::new(ASKS).await;
    let mut claims = asked.issuer.claims();
    claims["exp"] = json!(now() + 5);
    asked.token = asked.key.token(&claims);
    asked.issuer.say(200, "", json!({ "active": false }));
    assert!(matches!(asked.open().await, Err(Reason::Expired(_))));
}

#[tokio::test]
async fn nobody_to_ask() {
    // Not configured, switched off, or not there: the token holds until it ends, and that is said.
    for (table, hidden) in [("", false), ("introspection = \"off\"", false)] {
        let asked = Asked::new(table).await;
        if hidden {
            asked.issuer.hide_introspection();
        }
        let proved = asked.open().await.unwrap();
        assert_eq!(proved.standing, Standing::Unasked);
        assert_eq!(proved.bound.within, None);
        assert!(asked.issuer.questions().is_empty());
    }
    // Demanded, and not there.
    let asked = Asked::new(ASKS).await;
    asked.issuer.hide_introspection();
    let refused = asked.open().await.unwrap_err().to_string();
    assert!(refused.contains("no introspection endpoint"), "{refused}");
}

#[tokio::test]
async fn userinfo() {
    let asked = Asked::new("userinfo = true").await;
    asked.issuer.say(200, "", json!({ "sub": "0oa1" }));
    asked.open().await.unwrap();
    let question = &asked.issuer.questions()[0];
    assert!(
        question.starts_with("GET /oauth2/aus1/v1/userinfo "),
        "{question}"
    );
    for (status, body, why) in [
        (401, json!({}), "revoked"),
        (403, json!({}), "`openid`"),
        (200, json!({ "sub": "eve" }), "about sub"),
    ] {
        asked.issuer.say(status, "", body);
        later().await;
        let refused = asked.open().await.unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
}

#[tokio::test]
async fn a_reload_forgets_nothing_and_a_resumption_forgets() {
    let asked = Asked::new(ASKS).await;
    asked.issuer.say(200, "", active());
    asked.open().await.unwrap();
    let after = asked.verifier.after(&asked.config).unwrap();
    let asked = Asked {
        verifier: after,
        ..asked
    };
    asked.open().await.unwrap();
    assert_eq!(asked.issuer.questions().len(), 1);
    // A resumption forgets what was taken away, and nothing else.
    asked.verifier.forget(&"bot".into());
    asked.open().await.unwrap();
    assert_eq!(asked.issuer.questions().len(), 1);
    asked.issuer.say(200, "", json!({ "active": false }));
    assert!(asked.look(Occasion::Alarm).await.is_err());
    asked.issuer.say(200, "", active());
    assert_eq!(asked.open().await.unwrap_err(), Reason::Inactive);
    asked.verifier.forget(&"bot".into());
    asked.open().await.unwrap();
    assert_eq!(asked.issuer.questions().len(), 3);
    // Another table is another issuer.
    let changed = asking(&asked.issuer.url, &format!("{ASKS}\nskew = \"5s\""));
    let changed = Asked {
        verifier: asked.verifier.after(&changed).unwrap(),
        config: changed,
        ..asked
    };
    changed.open().await.unwrap();
    assert_eq!(changed.issuer.questions().len(), 4);
}

/// A withdrawn application cannot ask about its own token any more: that is no outage.
#[tokio::test]
async fn an_application_that_was_withdrawn() {
    let key = Key::es256("a");
    let issuer = Issuer::start(&[&key]).await;
    let text = format!(
        "[issuer.okta]\nurl = \"{}\"\naudience = \"api://hoop\"\nrecheck = \"1s\"\n\
         [[agent]]\nname = \"bot\"\ncgroup = \"agents.slice/bot\"\nissuer = \"okta\"\n\
         client_id = \"0oa1\"\n\
         token = {{ client_credentials = {{ secret = {{ file = \"own\" }} }} }}\n",
        issuer.url
    );
    let mut bundle = Bundle::from_text("t".as_ref(), &text);
    let secret = Secret::new("s3cret".to_owned());
    bundle.secrets.insert("file:own".to_owned(), secret);
    let config = Config::from_bundle(&bundle).unwrap();
    let verifier = Verifier::with_pace(&config, QUICK).unwrap();
    let token = key.token(&issuer.claims());
    let grant = json!({ "access_token": token, "token_type": "Bearer", "expires_in": 300 });
    issuer.grant(200, grant);
    let open = async || {
        let agent = &config.agents[0];
        let opened = verifier
            .verify(
                agent,
                &TokenText::Obtained,
                "agents.slice/bot",
                Occasion::Opening,
            )
            .await;
        opened.map_err(|error| error.reason)
    };
    issuer.say(401, "", json!({ "error": "invalid_client" }));
    assert!(
        matches!(open().await, Err(Reason::Unreachable(_))),
        "never confirmed"
    );
    later().await;
    issuer.say(200, "", active());
    open().await.unwrap();
    later().await;
    issuer.say(401, "", json!({ "error": "invalid_client" }));
    assert_eq!(open().await.unwrap_err(), Reason::Inactive);
}
