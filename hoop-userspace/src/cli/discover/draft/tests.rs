//! What is printed is taken, whatever was seen.

use super::super::line::tests::line;
use super::super::protocol::{By, guess};
use super::*;
use crate::config::Mode;
use proptest::prelude::*;

fn taken(plan: &Plan) -> (String, Config) {
    let text = text(plan).unwrap();
    let bundle = Bundle::from_text(Path::new("hoop.toml"), &text);
    let config = Config::from_bundle(&bundle).unwrap();
    assert!(
        config
            .agents
            .iter()
            .all(|agent| agent.mode == Mode::Discover)
    );
    (text, config)
}

fn plan(lines: Vec<Line>) -> Plan {
    Plan {
        lines,
        slice: "agents.slice".into(),
        origin: "after watching the host for 60 s".into(),
        ..Plan::default()
    }
}

fn speaking(cgroup: &str, executable: &str, destination: &str, names: &[&str]) -> Line {
    let mut line = line(cgroup, executable, destination);
    let found = guess(None, executable, line.destination.port());
    line.protocol = found.map(|(protocol, _)| protocol);
    line.protocol_by = Some(By::Port);
    line.names = names.iter().map(|name| (*name).to_owned()).collect();
    line
}

/// As `hoop check` reads it: the policies too.
fn checked(config: &Config) {
    crate::decide::Decider::new(config).unwrap();
}

#[test]
fn agents_resources_and_egress() {
    let bot = "agents.slice/billing-bot.service";
    let (text, config) = taken(&Plan {
        existing: vec!["agents.slice/quiet.service".into()],
        ..plan(vec![
            speaking(bot, "/usr/bin/psql", "10.0.0.9:5432", &["db.prod.internal"]),
            speaking(
                bot,
                "/usr/bin/psql",
                "10.0.0.10:5432",
                &["db.prod.internal"],
            ),
            speaking(bot, "/usr/bin/ssh", "10.0.0.11:22", &[]),
            speaking(bot, "/usr/bin/kubectl", "10.0.0.12:6443", &[]),
            speaking(bot, "/usr/bin/curl", "10.0.0.13:443", &["api.llm.example"]),
            speaking(bot, "/usr/bin/curl", "10.0.0.14:443", &[]),
        ])
    });
    checked(&config);
    let agents: Vec<&str> = config.agents.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(agents, ["billing-bot", "quiet", REST]);
    assert_eq!(config.agents[0].egress.len(), 1, "{text}");
    // Of the others nobody but the port says what they are.
    assert_eq!(config.resources.len(), 1, "{text}");
    assert_eq!(config.resources[0].hosts.len(), 3, "{text}");
    assert!(text.contains("\"10.0.0.14:443\""), "{text}");
    insta::assert_snapshot!(text, @r#"
    # Written by `hoop discover --toml`, after watching the host for 60 s.
    # It is taken as it stands (`hoop check`), and every agent in it is only watched: nothing is
    # redirected or refused. Read it before anything is enforced: it holds what was seen, which need
    # not be what should be allowed, and names were given by others.

    [[agent]]
    name = "billing-bot"
    cgroup = "agents.slice/billing-bot.service"
    mode = "discover"
    # It reached the resource db.prod.internal: 10.0.0.9:5432 (db.prod.internal), 3 times by /usr/bin/psql.
    # It reached the resource db.prod.internal: 10.0.0.10:5432 (db.prod.internal), 3 times by /usr/bin/psql.
    # It reached the resource ssh-10.0.0.11: 10.0.0.11:22, 3 times by /usr/bin/ssh.
    # It reached the resource kubernetes-10.0.0.12: 10.0.0.12:6443, 3 times by /usr/bin/kubectl.
    egress_allow = [
        "api.llm.example:443", # 10.0.0.13:443 (api.llm.example), 3 times by /usr/bin/curl
        # "10.0.0.14:443", # 10.0.0.14:443, 3 times by /usr/bin/curl
    ]

    [[agent]]
    name = "quiet"
    cgroup = "agents.slice/quiet.service"
    mode = "discover"

    # Whatever else runs in the slice; without this it would be nobody's, and refused. Remove it
    # when each agent has an entry.
    [[agent]]
    name = "rest-of-the-slice"
    cgroup = "agents.slice"
    mode = "discover"

    # Seen from agents.slice/billing-bot.service: 10.0.0.9:5432 (db.prod.internal), 3 times by /usr/bin/psql.
    # Seen from agents.slice/billing-bot.service: 10.0.0.10:5432 (db.prod.internal), 3 times by /usr/bin/psql.
    [[resource]]
    name = "db.prod.internal"
    protocol = "postgres"
    hosts = ["db.prod.internal", "10.0.0.9", "10.0.0.10"]
    port = 5432
    # Before an agent is more than watched: the account that hoop logs in with, and where its
    # password is kept. `ca` where the server's certificate is not of a public authority.
    login = { user = "CHANGE-ME" }
    # login = { user = "hoop", password = { credential = "orders-password" } }
    # ca = "/etc/hoop/postgres-ca.pem"

    # Seen from agents.slice/billing-bot.service: 10.0.0.11:22, 3 times by /usr/bin/ssh.
    # Its port or the client's name alone speaks for what it is: uncomment what you know to be right.
    # [[resource]]
    # name = "ssh-10.0.0.11"
    # protocol = "ssh"
    # hosts = ["10.0.0.11"]
    # port = 22
    # Which keys the server has is not seen by watching. This believes the first that it shows;
    # better, and before an agent is more than watched, name them:
    # known_hosts = "/etc/ssh/ssh_known_hosts"
    # trust_on_first_use = true
    # hoop signs certificates for the account that the client asks for, once the server trusts it;
    # or it has a key: login = { user = "deploy", key = { credential = "deploy-key" } }
    # login = { user = "as-client", certificate = "minted" }

    # Seen from agents.slice/billing-bot.service: 10.0.0.12:6443, 3 times by /usr/bin/kubectl.
    # Its port or the client's name alone speaks for what it is: uncomment what you know to be right.
    # [[resource]]
    # name = "kubernetes-10.0.0.12"
    # protocol = "kubernetes"
    # hosts = ["10.0.0.12"]
    # port = 6443
    # The cluster's own authority, before an agent is more than watched:
    # ca = "/etc/hoop/cluster-ca.pem"
    # The agent's own token goes to the API server; or hoop has one, and impersonates:
    # login = { token = { file = "/etc/hoop/cluster-token" }, impersonate = {} }
    # login = { as_agent = true }

    # Nothing is decided while agents are only watched; this is where to begin.
    [policy]
    use = ["read-only"]
    "#);
}

#[test]
fn what_only_a_client_claims_and_what_was_refused_is_no_rule() {
    let bot = "agents.slice/bot.service";
    let guessed = |executable: &str, destination: &str, name: &str| {
        let mut line = speaking(bot, executable, destination, &[name]);
        let found = guess(None, executable, line.destination.port());
        line.protocol_by = found.map(|(_, by)| by);
        line
    };
    let mut refused = guessed("/usr/bin/curl", "10.0.0.4:443", "refused.example");
    refused.why = Some("no daemon\n\"x\"".into());
    let mut probed = guessed("/usr/bin/kubectl", "10.0.0.5:6443", "cluster.example");
    probed.protocol_by = Some(By::Probe);
    let (text, config) = taken(&plan(vec![
        guessed("/tmp/psql", "10.0.0.1:443", "api.example"),
        guessed("/tmp/kubectl", "10.0.0.2:9443", "evil.example"),
        guessed("/usr/bin/psql", "10.0.0.3:7000", "db.example"),
        refused,
        probed,
    ]));
    let resources: Vec<&str> = config.resources.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(resources, ["db.example", "cluster.example"], "{text}");
    assert!(config.agents[0].egress.is_empty(), "{text}");
    assert!(
        text.contains("(only the client's name speaks for postgres)"),
        "{text}"
    );
    assert!(text.contains("refused.example"), "{text}");
    assert!(text.contains("# login = { as_agent = true }"), "{text}");
}

#[test]
fn named_units_are_moved_or_said_to_be_missing() {
    let (text, config) = taken(&Plan {
        units: vec!["app".into(), "gone.service".into(), "in*valid".into()],
        ..plan(vec![speaking(
            "system.slice/app.service",
            "/usr/bin/psql",
            "10.0.0.9:5432",
            &[],
        )])
    });
    let patterns: Vec<&str> = config.agents.iter().map(|a| a.cgroup.as_str()).collect();
    let expected = [
        "agents.slice/app.service",
        "agents.slice/gone.service",
        "agents.slice",
    ];
    assert_eq!(patterns, expected, "{text}");
    assert!(
        text.contains("It runs in system.slice/app.service now"),
        "{text}"
    );
    assert!(text.contains("Nothing of it was seen"), "{text}");
}

#[test]
fn an_empty_slice_mentions_who_speaks_what_is_governed() {
    let (text, config) = taken(&plan(vec![
        speaking(
            "system.slice/app.service",
            "/usr/bin/psql",
            "10.0.0.9:5432",
            &[],
        ),
        speaking(
            "system.slice/web.service",
            "/usr/bin/curl",
            "10.0.0.9:443",
            &[],
        ),
    ]));
    assert_eq!(config.agents.len(), 1);
    assert!(
        text.contains("# cgroup = \"agents.slice/app.service\""),
        "{text}"
    );
    assert!(!text.contains("web"), "{text}");
    let (text, _) = taken(&plan(Vec::new()));
    assert!(text.contains("no unit spoke"), "{text}");
}

#[test]
fn another_slice_is_attached_to() {
    let (_, config) = taken(&Plan {
        slice: "a/b.slice".into(),
        ..plan(vec![speaking(
            "a/b.slice/x-y.slice/bot/deep",
            "/x",
            "10.0.0.9:1",
            &[],
        )])
    });
    assert_eq!(config.capture.attach, "a/b.slice");
    assert_eq!(config.agents[0].cgroup, "a/b.slice/x-y.slice/bot");
    // What cannot be attached to is refused, not printed.
    assert!(
        text(&Plan {
            slice: "/\"*".into(),
            ..plan(Vec::new())
        })
        .is_err()
    );
}

#[test]
fn much_is_cut_and_still_taken() {
    let lines = (0..3000_u32).map(|n| {
        let [_, _, high, low] = n.to_be_bytes();
        let cgroup = format!("agents.slice/{}-{}.service", "n".repeat(200), n % 400);
        let port = [5432, 443, 9999][n as usize % 3];
        let program = format!("/{}", "x".repeat(250));
        speaking(&cgroup, &program, &format!("10.1.{high}.{low}:{port}"), &[])
    });
    let (text, config) = taken(&plan(lines.collect()));
    assert!(config.agents.len() <= MOST_AGENTS + 1 && text.contains("more cgroups"));
    assert!(text.len() < MOST_BYTES && text.contains("more to say"));
}

const HOSTILE: &str =
    "[a-z*?\\[\\]{}\"'\\\\#=/.\\x00-\\x1f\\x7f\u{85}\u{2028}\u{202e}é\u{1F600}]{0,24}";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_was_named_the_file_is_taken(
        seen in proptest::collection::vec(
            (HOSTILE, HOSTILE, HOSTILE, HOSTILE, any::<bool>(), 0_usize..6, 0_u8..4), 0..8),
        existing in proptest::collection::vec(HOSTILE, 0..3),
        units in proptest::collection::vec(HOSTILE, 0..2),
    ) {
        let ports = [5432, 22, 6443, 443, 53, 40000];
        let lines = seen.iter().map(|(cgroup, program, name, reverse, inside, port, last)| {
            let cgroup = if *inside { format!("agents.slice/{cgroup}") } else { cgroup.clone() };
            let mut line = speaking(&cgroup, program, &format!("10.0.0.{last}:{}", ports[*port]), &[name]);
            line.reverse_name = Some(reverse.clone());
            line.agent = Some(program.clone());
            line
        }).collect();
        let existing = existing.iter().map(|name| format!("agents.slice/{name}")).collect();
        let (text, config) = taken(&Plan { existing, units, ..plan(lines) });
        prop_assert!(!config.agents.is_empty());
        // Nothing of theirs became a key, a table or a permission.
        prop_assert!(config.issuers.is_empty() && config.masks.is_empty());
        prop_assert!(!text.contains(|c| is_hidden(c) && c != '\n'));
        for agent in &config.agents {
            prop_assert!(agent.cgroup.starts_with("agents.slice") && !agent.cgroup.contains('*'));
        }
    }
}
