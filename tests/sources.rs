//! Tokens that hoop obtains by itself, from the certified provider: every proof of a client, a
//! command, two identities beside each other, and keys that change under load.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hoop_tests::{AgentSettings, PATIENCE, READER, Ran, Settings, Who, World};
use serde_json::json;

/// Agent, how its client proves itself, and its source.
const OBTAINED: [(&str, &str, &str); 4] = [
    (
        "rsa-bot",
        "RS256",
        "{ client_credentials = { key = \"FOLDER/issuer/clients/rsa-bot.pem\", kid = \"rsa-bot-key\", scope = \"orders\" } }",
    ),
    (
        "ec-bot",
        "ES256",
        "{ client_credentials = { key = \"FOLDER/issuer/clients/ec-bot.jwk\", audience = \"issuer\", scope = \"orders\" } }",
    ),
    (
        "basic-bot",
        "",
        "{ client_credentials = { secret = { file = \"FOLDER/etc/clients/basic-bot\" }, scope = \"orders\" } }",
    ),
    (
        "post-bot",
        "post",
        "{ client_credentials = { secret = { file = \"FOLDER/etc/clients/post-bot\" }, auth = \"post\", scope = \"orders\" } }",
    ),
];
const EXEC: &str =
    "{ exec = { command = [\"/bin/cat\", \"FOLDER/tokens/exec-bot\"], refresh = \"1s\" } }";

const SAML: &str = "{ saml = { file = \"FOLDER/tokens/saml.xml\", scope = \"orders\", key = \"FOLDER/issuer/clients/saml-bot.pem\", kid = \"saml-bot-key\" } }";

fn settings() -> Settings {
    let mut agents: Vec<_> = OBTAINED
        .iter()
        .map(|(name, auth, token)| AgentSettings {
            auth,
            token,
            ..AgentSettings::new(name)
        })
        .collect();
    agents.push(AgentSettings {
        token: EXEC,
        ..AgentSettings::new("exec-bot")
    });
    agents.push(AgentSettings {
        token: SAML,
        auth: "RS256",
        ..AgentSettings::new("saml-bot")
    });
    agents.push(AgentSettings {
        token: "{ client_credentials = { secret = { file = \"FOLDER/etc/orders-password\" } } }",
        ..AgentSettings::new("wrong-bot")
    });
    agents.push(AgentSettings::new(READER));
    Settings {
        agents,
        policies: Vec::new(),
        ..Settings::default()
    }
}

fn ask(world: &World, agent: &str) -> Ran {
    let query = ["-c", "SELECT 'went through'"];
    world.psql(Who::Agent(agent), &query, "").unwrap()
}

fn passes(world: &World, agent: &str) {
    let ran = ask(world, agent);
    assert!(ran.stdout.contains("went through"), "{agent}: {ran:?}");
}

/// Whether the newest session of that agent was under its own identity.
fn is_itself(world: &World, agent: &str) {
    let sessions = world.sessions().unwrap();
    let mut of_agent = sessions.iter().rev().filter(|s| s["agent"] == agent);
    let session = of_agent.next().unwrap();
    assert_eq!(session["client_id"], agent, "{session}");
    assert!(session["unverified"].is_null(), "{session}");
}

/// One test, since the world's issuer is one.
#[test]
fn every_source_gives_each_agent_its_own_identity() {
    let world = World::start(settings()).unwrap();
    for (agent, ..) in OBTAINED {
        passes(&world, agent);
        is_itself(&world, agent);
    }
    passes(&world, "exec-bot");
    is_itself(&world, "exec-bot");
    assertions(&world);
    explained(&world);
    one_of_two_expires(&world);
    keys_change_under_load(&world);
    let log = world.daemon.log().unwrap();
    let secrets = ["basic-bot-secret", "post-bot-secret", "eyJ", "PRIVATE KEY"];
    assert!(!secrets.iter().any(|secret| log.contains(secret)), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

/// The issuer judges an assertion; a new one counts at once, for better or worse.
fn assertions(world: &World) {
    let file = world.place.path("tokens/saml.xml");
    for (whose, passes) in [("saml-bot", true), ("ec-bot", false)] {
        let text = format!("<Assertion>{whose}</Assertion>\n");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let ran = ask(world, "saml-bot");
        assert_eq!(ran.stdout.contains("went through"), passes, "{ran:?}");
        if passes {
            is_itself(world, "saml-bot");
        } else {
            assert!(ran.stderr.contains("invalid_grant"), "{ran:?}");
        }
    }
}

/// A secret that the issuer does not know is refused with the issuer's reason; whoami says the same
/// as the daemon, and shows where a good token comes from.
fn explained(world: &World) {
    let refused = ask(world, "wrong-bot");
    assert_eq!(refused.code, Some(2), "{refused:?}");
    let whoami = |agent: &str| {
        let cgroup = format!("{}/{agent}.service", world.place.slice);
        let ran = world
            .hoop(&["whoami", "--json", "--cgroup", &cgroup])
            .unwrap();
        ran.json_lines().unwrap().remove(0)
    };
    let wrong = whoami("wrong-bot");
    assert_eq!(wrong["identified"], false);
    let reason = wrong["reason"].as_str().unwrap();
    assert!(reason.contains("invalid_client"), "{reason}");
    let right = whoami("rsa-bot");
    assert_eq!(right["identified"], true, "{right}");
    assert_eq!(right["client_id"], "rsa-bot");
    assert!(right["expires"].is_string());
    let source = right["token_source"].as_str().unwrap();
    assert!(source.contains("private_key_jwt"), "{source}");
    assert_eq!(whoami("exec-bot")["token_source"], "command /bin/cat");
}

/// Same host, binary and user: only the agent whose token has expired is refused.
fn one_of_two_expires(world: &World) {
    passes(world, READER);
    is_itself(world, READER);
    let expired = json!({ "exp": 1_700_000_000 });
    let expired = world.issuer.made(READER, &expired, "").unwrap();
    std::fs::write(world.place.path("tokens").join(READER), expired).unwrap();
    let refused = ask(world, READER);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("expired"), "{refused:?}");
    passes(world, "exec-bot");
    is_itself(world, "exec-bot");
    passes(world, "ec-bot");
}

/// The issuer withdraws its keys while agents connect: none of them is refused.
fn keys_change_under_load(world: &World) {
    // The issuer is asked for unknown keys once in this time, and a younger token is not given up.
    std::thread::sleep(Duration::from_secs(10));
    let done = AtomicBool::new(false);
    let connections = std::thread::scope(|scope| {
        let load: Vec<_> = ["rsa-bot", "post-bot"]
            .map(|agent| {
                let done = &done;
                scope.spawn(move || {
                    let mut count = 0;
                    let from = Instant::now();
                    // Should the other thread fail, this one ends too.
                    while !done.load(Ordering::Relaxed) && from.elapsed() < PATIENCE {
                        passes(world, agent);
                        count += 1;
                    }
                    count
                })
            })
            .into();
        std::thread::sleep(Duration::from_secs(1));
        world.issuer.rotate().unwrap();
        let reader = AgentSettings::new(READER);
        world.issuer.give_token(&world.place, &reader).unwrap();
        // A token with the new key makes hoop ask for it; the old tokens then go.
        passes(world, READER);
        std::thread::sleep(Duration::from_secs(2));
        done.store(true, Ordering::Relaxed);
        load.into_iter()
            .map(|load| load.join().unwrap())
            .sum::<u32>()
    });
    assert!(connections > 4, "{connections} connections");
}
