//! The file as a whole: the example of the manual, and every kind of mistake.

use std::path::Path;

use super::*;

const SAMPLE: &str = r#"
[issuer.okta]
url = "https://acme.okta.com/oauth2/aus1"
audience = "api://hoop"

[[agent]]
name = "billing-bot"
cgroup = "agents.slice/billing-bot*.service"
issuer = "okta"
client_id = "0oa1abcd"
token = { file = "/run/credentials/billing-bot.service/token" }
egress_allow = ["api.llm.example:443"]
mode = "enforce"

[[resource]]
name = "orders"
protocol = "postgres"
hosts = ["db.prod.internal", "10.20.0.0/24"]
port = 5432
tls = "verify-full"
login = { user = "hoop_orders", password = { credential = "orders-password" } }

[[mask]]
resource = "orders"
columns = ["public.users.ssn", "*.*.email"]
how = "partial"

[policy]
use = ["read-only"]
directory = "/etc/hoop/policies"
"#;

fn parsed(text: &str) -> Result<Config, ConfigError> {
    let mut bundle = Bundle::from_text(Path::new("hoop.toml"), text);
    for name in ["credential:orders-password", "file:pw"] {
        bundle
            .secrets
            .insert(name.into(), Secret::new("s3cret".into()));
    }
    Config::from_bundle(&bundle)
}

fn problems(text: &str) -> String {
    parsed(text).expect_err("must be refused").to_string()
}

#[test]
fn the_example_of_the_manual() {
    let config = parsed(SAMPLE).unwrap();
    let okta = &config.issuers[&IssuerName::from("okta")];
    assert_eq!(okta.identifier, "https://acme.okta.com/oauth2/aus1");
    assert_eq!(okta.claims.client_id, ["cid", "azp", "client_id"]);
    assert_eq!(okta.skew, Duration::from_secs(30));
    let agent = &config.agents[0];
    assert_eq!(agent.mode, Mode::Enforce);
    assert!(matches!(
        &agent.egress[..],
        [Egress::Name { port: 443, .. }]
    ));
    let orders = &config.resources[0];
    assert_eq!(orders.hosts.len(), 2);
    assert_eq!((orders.tls, orders.port), (UpstreamTls::VerifyFull, 5432));
    assert_eq!(orders.max_message, 64 << 20);
    assert!(orders.login.password.is_some() && orders.allow_plain && !orders.allow_replication);
    assert_eq!(config.masks[0].how, How::Partial);
    assert_eq!(config.masks[0].columns.len(), 2);
    assert_eq!(config.policy.packs, ["read-only"]);
    assert_eq!(config.capture.attach, "agents.slice");
    assert_eq!(config.record.durability, Durability::Kernel);
    assert_eq!(config.worker.drain, Duration::from_secs(30));
    assert_eq!(config.worker.retire, Duration::from_secs(24 * 3600));
    assert!(!format!("{config:?}").contains("s3cret"));
}

/// `kept` has a configuration with every key of each version, as that version came out: folders are
/// added there, and their files never change.
#[test]
fn configurations_of_earlier_versions_are_taken_as_they_are() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/kept");
    let versions: Vec<_> = std::fs::read_dir(kept).unwrap().collect();
    assert!(!versions.is_empty());
    for version in versions {
        let file = version.unwrap().path().join("hoop.toml");
        let config = Bundle::without_secrets(&file).unwrap_or_else(|why| panic!("{why}"));
        assert!(!config.agents.is_empty() && !config.resources.is_empty());
    }
}

#[test]
fn an_empty_file_governs_nothing() {
    let config = parsed("").unwrap();
    assert!(config.agents.is_empty() && config.policy.packs.is_empty());
}

#[test]
fn several_mistakes_are_reported_at_once() {
    insta::assert_snapshot!(problems(
        &SAMPLE
            .replace("hosts =", "hots =")
            .replace("issuer = \"okta\"", "issuer = \"okto\"")
            .replace("\"enforce\"", "\"enfroce\"")
            .replace("[policy]", "[polcy]")
            .replace("audience = ", "audiance = ")
    ), @r"
    hoop.toml:4:1: unknown key `audiance`; did you mean `audience`?
    hoop.toml:13:8: unknown value `enfroce`; did you mean `enforce`?
    hoop.toml:18:1: unknown key `hots`; did you mean `hosts`?
    hoop.toml:28:2: unknown table or key `polcy`; did you mean `policy`?
    ");
    insta::assert_snapshot!(problems(
        &SAMPLE
            .replace("issuer = \"okta\"", "issuer = \"okto\"")
            .replace("resource = \"orders\"", "resource = \"order\"")
            .replace("agents.slice/b", "/agents.slice/b")
            .replace("{ file = \"/run/credentials/billing-bot.service/token\" }", "{ file = \"/a\", env = \"B\" }")
            .replace("*.*.email", "email")
            .replace(":443", "")
            .replace("https:", "http:")
    ), @r#"
    hoop.toml:3:7: an issuer is reached by https (http only on loopback): whoever changes its keys in transit could name any agent
    hoop.toml:8:10: "/agents.slice/billing-bot*.service" starts with a slash; write the path below the cgroup2 mount, like agents.slice/bot.service
    hoop.toml:9:10: there is no issuer `okto`; did you mean `okta`?
    hoop.toml:11:9: give one token source: file, credential, env, client_credentials, exec or saml
    hoop.toml:12:17: "api.llm.example" is no destination: write name:port, *.name:port, address:port, network:port or [v6 network]:port
    hoop.toml:24:12: there is no resource `order`; did you mean `orders`?
    hoop.toml:25:32: "email" must be schema.table.column: write "*.*.email"
    "#);
}

#[test]
fn a_secret_in_the_file_is_refused_and_not_shown() {
    for text in [
        SAMPLE.replace("{ credential = \"orders-password\" }", "\"hunter2\""),
        SAMPLE.replace("\"orders-password\"", "\"hunter2"),
        SAMPLE.replace("{ file = \"/run", "\"hunter2\" # { file = \"/run"),
        SAMPLE.replace("credential = \"orders", "plain = \"hunter2"),
    ] {
        let text = problems(&text);
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn half_an_identity_is_refused() {
    let agent =
        |rest: &str| format!("[[agent]]\nname = \"a\"\ncgroup = \"agents.slice/a\"\n{rest}");
    assert!(parsed(&agent("")).is_err());
    assert!(parsed(&agent("mode = \"discover\"")).is_ok());
    assert!(parsed(&agent("mode = \"observe\"")).is_ok());
    let text = problems(&agent("mode = \"observe\"\nclient_id = \"x\""));
    assert!(text.contains("lacks issuer and token"), "{text}");
}

#[test]
fn what_belongs_to_two_is_refused() {
    let second = SAMPLE.split_once("[[resource]]").unwrap().1;
    let second = second.split_once("[[mask]]").unwrap().0;
    let twice = format!("{SAMPLE}[[resource]]{second}");
    let text = problems(&twice);
    assert!(
        text.contains("the resource `orders` stands on line 16 already"),
        "{text}"
    );
    assert!(text.contains("belongs to `orders` already"), "{text}");
}

#[test]
fn a_cgroup_outside_the_attached_slice_is_refused() {
    let text = problems(&SAMPLE.replace("agents.slice/", "system.slice/"));
    assert!(text.contains("lies outside `agents.slice`"), "{text}");
    for fits in ["agents.slice", "*.slice/x", "agents.slice/a/b"] {
        let text = SAMPLE.replace("agents.slice/billing-bot*.service", fits);
        assert!(parsed(&text).is_ok(), "{fits}");
    }
}

#[test]
fn bounds() {
    for (from, to) in [
        ("port = 5432", "port = 0"),
        ("port = 5432", "max_message = \"2GiB\""),
        ("port = 5432", "max_message = \"1KiB\""),
        ("port = 5432", "max_message = -1"),
        ("audience = \"api://hoop\"", "audience = \"\""),
        ("audience", "skew = \"301s\"\naudience"),
        ("[policy]", "[worker]\ndrain = \"2h\"\n[policy]"),
        ("[policy]", "[worker]\nretire = \"169h\"\n[policy]"),
        ("[policy]", "[worker]\nstate = \"relative\"\n[policy]"),
        ("[policy]", "[capture]\nresolvers = [\"dns\"]\n[policy]"),
        ("[policy]", "[capture]\nattach = \"*\"\n[policy]"),
        (
            "[policy]",
            "[capture]\nrefused_sockets = [\"x.sock\"]\n[policy]",
        ),
        ("[policy]", "[capture]\nlsm = \"on\"\n[policy]"),
        ("name = \"orders\"", "name = \"or ders\""),
    ] {
        assert!(parsed(&SAMPLE.replace(from, to)).is_err(), "{to}");
    }
}

#[test]
fn a_bundle_without_its_secrets_is_no_configuration() {
    let bundle = Bundle::from_text(Path::new("hoop.toml"), SAMPLE);
    assert!(Config::from_bundle(&bundle).is_err());
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "(\\[\\[?(agent|mask|resource|issuer)(\\.a)?\\]?\\]\n|name = |[a-z]{1,8} = |\"[a-z.*:]{0,8}\"|[0-9]{1,3}|\n|\\{|\\}|.){0,30}") {
        let _ = parsed(&text);
    }
}

#[test]
fn detectors_and_what_is_wrong_with_them() {
    let own = "[detector.order]\npattern = 'ORD-[0-9]{6}'\nkeywords = [\"order\"]\n\
               validate = \"luhn\"\n[detector.staff]\nwords = [\"Ada Byron\"]\n\
               [[mask]]\nresource = \"orders\"\ndetect = [\"financial\", \"order\", \"staff\"]\n\
               how = \"redact\"\n";
    let config = parsed(&format!("{SAMPLE}{own}")).unwrap();
    let names: Vec<_> = config.masks[1].detect.iter().map(|d| d.name()).collect();
    assert_eq!(names, ["card", "iban", "order", "staff"]);
    let wrong = "[detector.email]\nwords = [\"x\"]\n[detector.a]\npattern = '('\n\
                 [detector.b]\nwords = []\nvalidate = \"lun\"\n\
                 [detector.c]\npattern = 'x'\nvalidate = \"lun\"\n[detector.d]\n\
                 [[mask]]\nresource = \"orders\"\nhow = \"redact\"\n\
                 [[mask]]\nresource = \"orders\"\ndetect = [\"emial\", \"a\", \"xyz\"]\n\
                 how = \"redact\"\n";
    insta::assert_snapshot!(problems(&format!("{SAMPLE}{wrong}")), @r"
    hoop.toml:31:11: hoop brings a detector `email`; give this one another name
    hoop.toml:34:11: this is no pattern: unclosed group
    hoop.toml:35:1: `keywords` and `validate` belong to a `pattern`
    hoop.toml:36:9: the list holds no word
    hoop.toml:40:12: there is no check `lun`; did you mean `luhn`?
    hoop.toml:41:1: a detector has one of `pattern`, `words` and `words_file`
    hoop.toml:42:1: this mask names neither `columns` nor what to `detect`
    hoop.toml:47:11: there is no detector `emial`; did you mean `email`?
    hoop.toml:47:25: there is no detector `xyz`; there are: email, phone, birth-date, us-ssn, uk-nino, de-tax-id, fr-nir, es-nif, it-fiscal-code, nl-bsn, br-cpf, in-aadhaar, card, iban, private-key, jwt, api-key, password, token, connection-string, ip, pii, national-id, financial, secrets, a, b, c, d
    ");
}

#[test]
fn paths_of_masks_and_what_is_wrong_with_them() {
    let mask = |more: &str| format!("[[mask]]\nresource = \"orders\"\nhow = \"redact\"\n{more}\n");
    let right = mask("columns = [\"*.*.doc\"]\njson = [\"$.card.number\", \"$..iban\"]");
    let config = parsed(&format!("{SAMPLE}{right}")).unwrap();
    let paths: Vec<_> = config.masks[1]
        .json
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(paths, ["$.card.number", "$..iban"]);
    for (wrong, words) in [
        ("columns = [\"*.*.doc\"]\njson = []", "no path is named"),
        (
            "columns = [\"*.*.doc\"]\njson = [\"card\"]",
            "begins with `$`",
        ),
        (
            "columns = [\"*.*.doc\"]\njson = [\"$\"]",
            "the whole document",
        ),
        (
            "detect = [\"card\"]\njson = [\"$.a\"]",
            "says what of `columns` is masked",
        ),
        ("json = [\"$.a\"]", "says what of `columns` is masked"),
    ] {
        let problems = problems(&format!("{SAMPLE}{}", mask(wrong)));
        assert!(problems.contains(words), "{wrong}: {problems}");
    }
}

#[test]
fn an_api_server_is_asked_what_would_change_where_that_is_wanted_alone() {
    let cluster = |more: &str| {
        let text = format!(
            "[[resource]]\nname = \"prod\"\nprotocol = \"kubernetes\"\nhosts = [\"k8s\"]\n\
             login = {{ as_agent = true }}\n{more}"
        );
        parsed(&text).map(|config| config.resources[0].estimate)
    };
    assert!(!cluster("").unwrap());
    assert!(!cluster("estimate = false").unwrap());
    assert!(cluster("estimate = true").unwrap());
}

#[test]
fn containers_are_picked_by_what_is_asked_of_them() {
    let agents = r#"
[containers]
docker = "/srv/docker"
[[agent]]
name = "one"
cgroup = "agents.slice"
mode = "discover"
container = { label = ["a=b", "c=d=e"], image = "registry.example/*" }
[[agent]]
name = "two"
cgroup = "agents.slice"
mode = "discover"
pod = { namespace = "agents", label = "app=two" }
[[agent]]
name = "rest"
cgroup = "agents.slice"
mode = "discover"
"#;
    let config = parsed(agents).unwrap();
    assert_eq!(config.containers.docker, Path::new("/srv/docker"));
    assert_eq!(config.containers.containerd, Path::new("/run/containerd"));
    let picks: Vec<_> = config.agents.iter().map(|a| a.pick.as_ref()).collect();
    let shown = |at: usize| picks[at].unwrap().to_string();
    assert_eq!(
        shown(0),
        r#"container image="registry.example/*" label="a=b" label="c=d=e""#
    );
    assert_eq!(shown(1), r#"pod namespace="agents" label="app=two""#);
    assert_eq!(picks[2], None);
    assert_eq!(picks[0].unwrap().conditions(), 3);
    for (instead, said) in [
        ("container = {}", "asks for nothing"),
        ("container = { label = \"a\" }", "is no label"),
        ("container = { label = \"=a\" }", "is no label"),
        ("container = { label = [] }", "give 1 to 16"),
        ("container = { label = \"a=b\\nc\" }", "is no label"),
        ("container = { image = \"\" }", "can be no name"),
        ("container = { labels = \"a=b\" }", "did you mean `label`?"),
        ("pod = { label = \"app=two\" }", "`namespace` is missing"),
        ("pod = { namespace = \"agent*\" }", "takes no wildcards"),
        (
            "container = { name = \"x\" }\npod = { namespace = \"x\" }",
            "not by both",
        ),
        (
            "container = { label = [\"a=b\", \"c=d=e\"], image = \"registry.example/*\" }",
            "with the same pick",
        ),
        ("", "stands on line"),
    ] {
        let pod = "pod = { namespace = \"agents\", label = \"app=two\" }";
        let problems = problems(&agents.replace(pod, instead));
        assert!(problems.contains(said), "{instead}: {problems}");
    }
    let elsewhere = agents.replace("/srv/docker", "srv");
    assert!(problems(&elsewhere).contains("not an absolute path"));
}

#[test]
fn what_is_dialled_in_a_clients_network_must_prove_itself() {
    let with =
        |resource: &str| SAMPLE.replace("port = 5432\n", &format!("port = 5432\n{resource}"));
    let network = |text: &str| parsed(text).unwrap().resources[0].network;
    assert_eq!(network(SAMPLE), None);
    assert_eq!(network(&with("network = \"host\"\n")), Some(Network::Host));
    let client = with("network = \"client\"\n");
    assert_eq!(network(&client), Some(Network::Client));
    for tls in ["disable", "verify-ca"] {
        let text = client.replace("verify-full", tls);
        let found = problems(&text);
        assert!(
            found.contains("anybody may have the server's address"),
            "{found}"
        );
    }
    let found = problems(&client.replace("network", "upstream = \"127.0.0.1:1\"\nnetwork"));
    assert!(
        found.contains("`upstream` is dialled from the host"),
        "{found}"
    );
    assert!(problems(&with("network = \"there\"\n")).contains("there"));
    let agent = SAMPLE.replace("mode = \"enforce\"", "network = \"host\"");
    assert_eq!(
        parsed(&agent).unwrap().agents[0].network,
        Some(Network::Host)
    );
}

#[test]
fn refused_sockets_are_hoops_list_or_the_operators() {
    let config = |capture: &str| parsed(&format!("[capture]\n{capture}\n")).unwrap().capture;
    let default = config("").lsm;
    assert_eq!(default.wish, LsmWish::Auto);
    assert_eq!(default.refused.len(), REFUSED_SOCKETS.len());
    let none = config("lsm = \"require\"\nrefused_sockets = []").lsm;
    assert_eq!((none.wish, none.refused.len()), (LsmWish::Require, 0));
    let more = config("refused_sockets = [\"default\", \"*/my.sock\", \"*/bus\"]").lsm;
    assert_eq!(more.refused.len(), REFUSED_SOCKETS.len() + 1);
    let own = parsed("[worker]\nruntime = \"/run/other\"\n").unwrap();
    assert_eq!(own.capture.lsm.own.to_str(), Some("/run/other"));
    let text = problems("[capture]\nrefused_sockets = [\"/run/hoop/c*\"]\n");
    assert!(text.contains("hoop's own sockets"), "{text}");
    let text = problems("[capture]\nrefused_sockets = [\"/run/*/x\", \"@a\", \"@a\"]\n");
    assert!(text.contains("has a * elsewhere"), "{text}");
    assert!(text.contains("stands on line 2 already"), "{text}");
}
