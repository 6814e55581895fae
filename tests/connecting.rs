//! Every way in which libpq may be told to connect: what works directly works through hoop.
//!
//! The resource has an `agent_password`, which the agent gives and which means nothing to the server.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use hoop_tests::{PATIENCE, READER, Settings, WRITER, Who, World};
use serde_json::{Value, json};

const DUMMY: &str = "a password for show";

fn settings(resource: &str) -> Settings {
    Settings {
        masks: Vec::new(),
        resource: resource.to_owned(),
        secrets: vec![("agent-password", DUMMY)],
        ..Settings::default()
    }
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let resource = "agent_password = { file = \"FOLDER/etc/agent-password\" }\n";
        World::start(settings(resource)).expect("a world whose agent gives a password")
    })
}

struct Case {
    name: String,
    conninfo: String,
    environment: Value,
}

fn case(name: &str, conninfo: &str) -> Case {
    with(name, conninfo, json!({}))
}

fn with(name: &str, conninfo: &str, environment: Value) -> Case {
    Case {
        name: name.to_owned(),
        conninfo: conninfo.to_owned(),
        environment,
    }
}

/// What each case saw.
fn connect(world: &World, who: Who<'_>, cases: &[Case]) -> BTreeMap<String, Value> {
    let python = hoop_tests::target().unwrap().join("python/bin/python");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/connecting.py");
    let mut command = world.command(who, &python.display().to_string()).unwrap();
    command.args(["-B", script]);
    if who != Who::Direct {
        command.env("PGPASSWORD", DUMMY);
    }
    let lines = cases.iter().map(|c| {
        let conninfo = match who {
            Who::Direct => c.conninfo.replace("PASSWORD", hoop_tests::PASSWORD),
            _ => c.conninfo.replace("PASSWORD", DUMMY),
        };
        json!([c.name, conninfo, c.environment]).to_string() + "\n"
    });
    let input: String = lines.collect();
    let ran = hoop_tests::run(&mut command, &input, PATIENCE).unwrap();
    let lines = ran.ok().unwrap().json_lines().unwrap();
    let entry = |line: Value| {
        (
            line["case"].as_str().unwrap().to_owned(),
            line["saw"].clone(),
        )
    };
    lines.into_iter().map(entry).collect()
}

/// Asserts that both saw the same, and returns it.
fn alike(cases: &[Case]) -> BTreeMap<String, Value> {
    let through = connect(world(), Who::Agent(WRITER), cases);
    let direct = connect(world(), Who::Direct, cases);
    for case in cases {
        let name = &case.name;
        assert_eq!(through[name], direct[name], "{name}: {}", case.conninfo);
    }
    through
}

const MODES: [&str; 6] = [
    "disable",
    "allow",
    "prefer",
    "require",
    "verify-ca",
    "verify-full",
];

#[test]
fn every_sslmode() {
    let modes = MODES.map(|mode| case(mode, &format!("sslmode={mode}")));
    let seen = alike(&modes);
    let encrypted = MODES.map(|mode| seen[mode]["ssl"] == true);
    assert_eq!(encrypted, [false, false, true, true, true, true]);
}

#[test]
fn every_sslmode_with_another_authority() {
    let other = world().place.path("other.pem");
    let other = other.display();
    // An authority that signed neither certificate: hoop's own, and the server's.
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args([
            "-subj",
            "/CN=another",
            "-keyout",
            "/dev/null",
            "-out",
            &other.to_string(),
        ])
        .output()
        .unwrap();
    assert!(made.status.success());
    let modes = MODES.map(|mode| case(mode, &format!("sslmode={mode} sslrootcert={other}")));
    let seen = alike(&modes);
    // What docs/TRUST.md says of `prefer` and `require`.
    assert_eq!(seen["prefer"]["ssl"], false);
    assert!(seen["require"]["failed"].is_string());
}

#[test]
fn tls_without_asking_first() {
    let direct = ["require", "verify-full"]
        .map(|mode| case(mode, &format!("sslnegotiation=direct sslmode={mode}")));
    // PostgreSQL 15 does not know it, so this is asked of hoop alone.
    let seen = connect(world(), Who::Agent(WRITER), &direct);
    assert!(seen.values().all(|saw| saw["ssl"] == true), "{seen:#?}");
}

#[test]
fn every_gssencmode() {
    alike(&["disable", "prefer", "require"].map(|mode| case(mode, &format!("gssencmode={mode}"))));
}

#[test]
fn every_require_auth() {
    let methods = [
        "none",
        "password",
        "md5",
        "gss",
        "scram-sha-256",
        "scram-sha-256,none",
        "!none",
        "!scram-sha-256",
        "!password,!md5",
    ];
    let seen = alike(&methods.map(|method| case(method, &format!("require_auth={method}"))));
    assert_eq!(seen["scram-sha-256"]["password"], true);
    assert!(seen["none"]["failed"].is_string());
}

#[test]
fn every_channel_binding() {
    let mut cases = Vec::new();
    for binding in ["disable", "prefer", "require"] {
        for mode in ["disable", "require"] {
            cases.push(case(
                &format!("{binding} {mode}"),
                &format!("channel_binding={binding} sslmode={mode}"),
            ));
        }
    }
    let seen = alike(&cases);
    assert_eq!(seen["require require"]["ssl"], true);
    assert!(seen["require disable"]["failed"].is_string());
}

#[test]
fn passwords_and_services_from_files() {
    let world = world();
    let mut files = BTreeMap::new();
    for (who, password) in [("agent", DUMMY), ("direct", hoop_tests::PASSWORD)] {
        let path = world.place.path(&format!("{who}.pgpass"));
        let line = format!("db.prod.internal:5432:*:orders_app:{password}\n");
        std::fs::write(&path, line).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).unwrap();
        files.insert(who, path.display().to_string());
    }
    let service = world.place.path("services.conf");
    let text =
        "[orders]\nhost=db.prod.internal\ndbname=shop\nuser=orders_app\nsslmode=verify-full\n";
    std::fs::write(&service, text).unwrap();
    let cases = |who: &str| {
        let pgpass = json!({"PGPASSFILE": files[who], "PGPASSWORD": ""});
        let services = json!({"PGSERVICEFILE": service.display().to_string(), "PGHOST": ""});
        [
            with("pgpass", "", pgpass),
            with("service", "service=orders", services),
        ]
    };
    let through = connect(world, Who::Agent(WRITER), &cases("agent"));
    let direct = connect(world, Who::Direct, &cases("direct"));
    assert_eq!(through, direct);
    assert_eq!(through["pgpass"]["password"], true);
    assert_eq!(through["service"]["host"], "db.prod.internal");
}

#[test]
fn several_hosts_and_session_attributes() {
    let mut cases = vec![
        case(
            "two ports",
            "host=db.prod.internal,db.prod.internal port=5439,5432",
        ),
        case("two names", "host=nowhere.invalid,db.prod.internal"),
        case(
            "balanced",
            "host=nowhere.invalid,db.prod.internal load_balance_hosts=random",
        ),
        case(
            "uri",
            "postgresql://orders_app@db.prod.internal:5432/shop?sslmode=verify-full",
        ),
        case(
            "uri of two",
            "postgresql://nowhere.invalid,db.prod.internal/shop",
        ),
    ];
    for wanted in [
        "any",
        "read-write",
        "read-only",
        "primary",
        "standby",
        "prefer-standby",
    ] {
        cases.push(case(wanted, &format!("target_session_attrs={wanted}")));
    }
    let read_only = "options='-c default_transaction_read_only=on' target_session_attrs=read-only";
    cases.push(case("read-only by option", read_only));
    let seen = alike(&cases);
    assert_eq!(seen["two ports"]["ssl"], true);
    assert!(seen["standby"]["failed"].is_string());
}

#[test]
fn settings_at_the_start() {
    let seen = alike(&[
        case("search_path", "options='-c search_path=app,public'"),
        case("encoding", "client_encoding=auto"),
        case("spelled", "client_encoding=utf-8 application_name='a b'"),
        case("unknown setting", "options='-c no_such_thing=1'"),
        case("bad value", "options='-c work_mem=lots'"),
        case("another database", "dbname=no_such_database"),
        case("wrong password", "password=wrong"),
        case("role", "options='-c role=orders_app'"),
    ]);
    assert_eq!(seen["search_path"]["row"][0], "app,public");
}

#[test]
fn settings_at_the_start_are_decided_and_recorded() {
    let asked = [case(
        "search_path",
        "options='-c search_path=marked,public'",
    )];
    let refused = connect(world(), Who::Agent(READER), &asked);
    let said = refused["search_path"]["failed"].as_str().unwrap();
    assert!(
        said.contains("may not run") && said.contains("search_path"),
        "{said}"
    );
    let permitted = connect(world(), Who::Agent(WRITER), &asked);
    assert_eq!(permitted["search_path"]["row"][0], "marked,public");
    let recording = world().recording_of("marked,public").unwrap();
    let found = recording.statements();
    let found = found.iter().find(|s| s.text.contains("marked,public"));
    assert_eq!(found.unwrap().verdict, "allow");
}

#[test]
fn plain_text_may_be_forbidden() {
    let world = World::start(settings("allow_plain = false\n")).unwrap();
    let modes = MODES.map(|mode| case(mode, &format!("sslmode={mode}")));
    let seen = connect(&world, Who::Agent(WRITER), &modes);
    let said = seen["disable"]["failed"].as_str().unwrap_or_default();
    assert!(said.contains("requires TLS"), "{seen:#?}");
    // `allow` tries again with TLS.
    for mode in &MODES[1..] {
        assert_eq!(seen[*mode]["ssl"], true, "{mode}");
    }
}
