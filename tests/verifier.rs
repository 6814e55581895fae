//! Tokens of a certified OpenID provider, which no one here wrote, before hoop's verifier: every
//! algorithm that both know, rotation, and what the provider signs but hoop must not take.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hoop::config::{Bundle, Config};
use hoop::handover::TokenText;
use hoop::identify::{IdentityError, Occasion, Reason, Verifier};

struct Provider {
    url: String,
    child: Child,
}

impl Provider {
    fn start() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("issuer");
        assert!(
            folder.join("node_modules/oidc-provider").is_dir(),
            "the OpenID provider is missing: run `cargo xtask setup`"
        );
        let mut child = Command::new("node")
            .arg(folder.join("server.mjs"))
            .args(["--clients", "billing-bot,other"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node is missing: run `cargo xtask setup`");
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        Self {
            url: ready["issuer"].as_str().unwrap().to_owned(),
            child,
        }
    }

    fn token(&self, client: &str) -> TokenText {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("issuer/token.mjs");
        let ran = Command::new("node")
            .arg(script)
            .args(["--issuer", &self.url, "--client", client])
            .output()
            .unwrap();
        assert!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        TokenText::Found(
            String::from_utf8(ran.stdout)
                .unwrap()
                .trim()
                .to_owned()
                .into(),
        )
    }

    fn rotate(&self, algorithm: &str) {
        let script = format!(
            "await (await fetch('{}/test/rotate?alg={algorithm}', {{ method: 'POST' }})).text()",
            self.url
        );
        let ran = Command::new("node")
            .args(["--input-type=module", "-e", &script])
            .status();
        assert!(ran.unwrap().success());
    }

    fn config(&self, audience: &str) -> Config {
        let text = format!(
            "[issuer.okta]\nurl = \"{}\"\naudience = \"{audience}\"\n\
             [[agent]]\nname = \"billing-bot\"\ncgroup = \"agents.slice/bot\"\nissuer = \"okta\"\n\
             client_id = \"billing-bot\"\ntoken = {{ env = \"TOKEN\" }}\n",
            self.url
        );
        Config::from_bundle(&Bundle::from_text("test".as_ref(), &text)).unwrap()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[tokio::test]
async fn every_algorithm_and_rotation() {
    let provider = Provider::start();
    let config = provider.config("api://hoop");
    let agent = &config.agents[0];
    let lasting = Verifier::new(&config).unwrap();
    let first = provider.token("billing-bot");
    let identity = lasting
        .verify(agent, &first, "agents.slice/bot", Occasion::Opening)
        .await
        .unwrap()
        .identity;
    assert_eq!(identity.client_id(), "billing-bot");
    assert_eq!(identity.groups(), ["agents"]);
    assert_eq!(identity.scopes(), ["orders"]);

    for algorithm in ["PS256", "ES256", "ES384", "EdDSA"] {
        provider.rotate(algorithm);
        let token = provider.token("billing-bot");
        let fresh = Verifier::new(&config).unwrap();
        let answer = fresh
            .verify(agent, &token, "agents.slice/bot", Occasion::Opening)
            .await;
        assert!(
            answer.is_ok_and(|proved| proved.identity.verified()),
            "{algorithm}"
        );
    }

    // The verifier that knew the first key learns the last one, and forgets what was withdrawn.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let last = provider.token("billing-bot");
    assert!(
        lasting
            .verify(agent, &last, "agents.slice/bot", Occasion::Opening)
            .await
            .is_ok()
    );
    let withdrawn = lasting
        .verify(agent, &first, "agents.slice/bot", Occasion::Opening)
        .await;
    assert!(matches!(
        withdrawn,
        Err(IdentityError {
            reason: Reason::UnknownKey { .. },
            ..
        })
    ));
}

#[tokio::test]
async fn genuine_tokens_for_others_are_refused() {
    let provider = Provider::start();
    let config = provider.config("api://hoop");
    let verifier = Verifier::new(&config).unwrap();
    let other = provider.token("other");
    let refused = verifier
        .verify(
            &config.agents[0],
            &other,
            "agents.slice/bot",
            Occasion::Opening,
        )
        .await
        .unwrap_err();
    assert!(matches!(refused.reason, Reason::Client { .. }), "{refused}");

    let config = provider.config("api://elsewhere");
    let verifier = Verifier::new(&config).unwrap();
    let token = provider.token("billing-bot");
    let refused = verifier
        .verify(
            &config.agents[0],
            &token,
            "agents.slice/bot",
            Occasion::Opening,
        )
        .await
        .unwrap_err();
    assert!(
        matches!(refused.reason, Reason::Audience { .. }),
        "{refused}"
    );
}
