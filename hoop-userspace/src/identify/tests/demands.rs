//! What a mapping asks for beyond the usual: its instance, certain claims, certain signatures.

use super::*;

fn demanding(url: &str, issuer: &str, agent: &str) -> Config {
    let text = format!(
        "[issuer.okta]\nurl = \"{url}\"\naudience = \"api://hoop\"\n{issuer}\n\
         [[agent]]\nname = \"bot\"\ncgroup = \"agents.slice/agent-*.service\"\nissuer = \"okta\"\n\
         token = {{ env = \"TOKEN\" }}\n{agent}\n"
    );
    Config::from_bundle(&Bundle::from_text("t".as_ref(), &text)).unwrap()
}

async fn asked(config: &Config, token: &str, cgroup: &str) -> Result<(), String> {
    let verifier = Verifier::with_pace(config, QUICK).unwrap();
    answered(&verifier, config, token, cgroup).await
}

async fn answered(
    verifier: &Verifier,
    config: &Config,
    token: &str,
    cgroup: &str,
) -> Result<(), String> {
    let token = TokenText::Found(token.to_owned().into());
    let answer = verifier
        .verify(&config.agents[0], &token, cgroup, Occasion::Opening)
        .await;
    answer.map(drop).map_err(|error| error.reason.to_string())
}

#[tokio::test]
async fn an_instance_needs_its_own_token() {
    let key = Key::es256("a");
    let issuer = Issuer::start(&[&key]).await;
    let config = demanding(&issuer.url, "", "instance_claim = \"sub\"");
    let verifier = Verifier::with_pace(&config, QUICK).unwrap();
    let mut claims = issuer.claims();
    claims["sub"] = json!("7");
    let token = key.token(&claims);
    let good = "agents.slice/agent-7.service/inner";
    assert_eq!(answered(&verifier, &config, &token, good).await, Ok(()));
    for (cgroup, why) in [
        ("agents.slice/agent-8.service", "instance \"8\""),
        ("agents.slice/agent-77.service", "instance \"77\""),
        ("agents.slice/agent-.service", "names no instance"),
        ("agents.slice/other", "names no instance"),
        ("", "names no instance"),
    ] {
        // The same verifier: what it remembers of the one instance is nothing for another.
        let error = answered(&verifier, &config, &token, cgroup)
            .await
            .unwrap_err();
        assert!(error.contains(why), "{cgroup}: {error}");
    }
    claims["sub"] = json!(["7"]);
    let error = answered(&verifier, &config, &key.token(&claims), good).await;
    assert!(error.unwrap_err().contains("`sub` is not text"));
}

#[tokio::test]
async fn required_claims() {
    let key = Key::es256("a");
    let issuer = Issuer::start(&[&key]).await;
    let agent = "client_id = \"0oa1\"\nrequired_claims = { env = \"prod\", team = [\"a\", \"b\"], level = \"3\" }";
    let config = demanding(&issuer.url, "", agent);
    let with = |env: serde_json::Value, team: serde_json::Value| {
        let mut claims = issuer.claims();
        (claims["env"], claims["team"], claims["level"]) = (env, team, json!(3));
        key.token(&claims)
    };
    for good in [
        with(json!("prod"), json!("b")),
        with(json!(["x", "prod"]), json!(["z", "a"])),
    ] {
        assert_eq!(asked(&config, &good, "").await, Ok(()));
    }
    for (bad, why) in [
        (with(json!("test"), json!("a")), "`env` is \"test\""),
        (with(json!("prod"), json!(["z"])), "not `a` or `b`"),
        (with(json!([["prod"]]), json!("a")), "`env` is"),
        (with(json!("prod "), json!("a")), "`env` is"),
        (with(json!(null), json!("a")), "`env` is"),
        (key.token(&issuer.claims()), "`env` is missing"),
    ] {
        let error = asked(&config, &bad, "").await.unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

#[tokio::test]
async fn only_the_listed_signatures() {
    let (ec, ed) = (Key::es256("a"), Key::ed25519("b"));
    let issuer = Issuer::start(&[&ec, &ed]).await;
    let listed = "algorithms = [\"EdDSA\", \"RS256\"]";
    let config = demanding(&issuer.url, listed, "client_id = \"0oa1\"");
    assert_eq!(
        asked(&config, &ed.token(&issuer.claims()), "").await,
        Ok(())
    );
    let error = asked(&config, &ec.token(&issuer.claims()), "").await;
    assert!(
        error
            .unwrap_err()
            .contains("signed with \"ES256\"; `algorithms` in [issuer] lists EdDSA, RS256")
    );
}

#[test]
fn what_the_configuration_refuses() {
    let issuer = "[issuer.okta]\nurl = \"https://a.example\"\naudience = \"a\"\n";
    let agent = "[[agent]]\nname = \"bot\"\ncgroup = \"agents.slice/a\"\nissuer = \"okta\"\nclient_id = \"c\"\n";
    let token = |written: &str| format!("{issuer}{agent}token = {written}\n");
    let env = token("{ env = \"T\" }");
    for (text, why) in [
        (token("{}"), "give one token source"),
        (
            token("{ env = \"T\", file = \"/a\" }"),
            "give one token source",
        ),
        (token("{ credential = \"../x\" }"), "is no credential name"),
        (
            token("{ exec = { command = [\"relative\"] } }"),
            "absolute path",
        ),
        (token("{ exec = { command = [] } }"), "absolute path"),
        (
            token("{ exec = { command = [\"/a\"], timeout = \"1m\" } }"),
            "at most 30s",
        ),
        (
            token("{ client_credentials = { scope = \"a\" } }"),
            "give `key` (better) or `secret`",
        ),
        (
            token("{ client_credentials = { key = \"k\", auth = \"post\" } }"),
            "`auth` goes with",
        ),
        (
            token("{ client_credentials = { kid = \"k\" } }"),
            "go with a `key`",
        ),
        (
            token("{ client_credentials = { key = \"k\", alg = \"HS256\" } }"),
            "HS256",
        ),
        (
            token("{ client_credentials = { key = '{\"kty\":\"x9z\"}' } }"),
            "never stands in this file",
        ),
        (
            token("{ client_credentials = { secret = \"x9z\" } }"),
            "never stands in this file",
        ),
        (
            token("{ saml = { file = \"a.xml\" } }"),
            "not an absolute path",
        ),
        (
            token("{ saml = { file = \"/a.xml\", scope = \"\" } }"),
            "`scope` is one or several",
        ),
        (
            format!("{env}instance_claim = \"sub\"\n"),
            "exactly one `*`",
        ),
        (
            format!("{env}required_claims = {{ a = [] }}\n"),
            "a list of at least one",
        ),
        (
            env.replace("audience", "algorithms = [\"HS256\"]\naudience"),
            "can verify",
        ),
    ] {
        let bundle = Bundle::from_text("t".as_ref(), &text);
        let error = Config::from_bundle(&bundle).expect_err(&text).to_string();
        assert!(
            error.contains(why) && !error.contains("x9z"),
            "{text}{error}"
        );
    }
}
