//! Detectors through real clients: what is a card, an address or a key by its own form reaches
//! neither the agent nor the recording, in any format.

use std::path::PathBuf;
use std::sync::OnceLock;

use hoop_tests::{PATIENCE, Settings, WRITER, Who, World};
use serde_json::{Value, json};

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let detect = "[[mask]]\nresource = \"orders\"\n\
                      detect = [\"pii\", \"financial\", \"secrets\", \"staff\"]\nhow = \"redact\"\n\
                      [detector.staff]\nwords = [\"Grace Hopper\"]\n";
        let settings = Settings {
            masks: Vec::new(),
            more: detect.into(),
            ..Settings::default()
        };
        World::start(settings).expect("a world with detectors")
    })
}

fn psql(options: &[&str], sql: &str) -> String {
    let ran = world().psql(Who::Agent(WRITER), options, sql).unwrap();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    ran.stdout
}

#[test]
fn psql_sees_findings_masked_and_the_rest_as_it_is() {
    let options = ["-A", "-t"];
    let shown = psql(
        &options,
        "SELECT 'card 4111 1111 1111 1111, order 1000234567', 'Grace Hopper', \
         'postgres://app:s3cret@db/x', 'password=hunter2';\n",
    );
    assert_eq!(
        shown.trim(),
        "card [masked:card], order 1000234567|[masked:staff]|\
         postgres://app:[masked:connection-string]@db/x|password=[masked:password]"
    );
    let copied = psql(&options, "COPY (SELECT 'ada@example.com', 7) TO STDOUT;\n");
    assert_eq!(copied, "[masked:email]\t7\n");
}

#[test]
fn a_driver_gets_valid_values_in_both_formats() {
    let python = hoop_tests::target().unwrap().join("python/bin/python");
    assert!(
        python.exists(),
        "no Python drivers: `cargo xtask setup` installs them"
    );
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("python/detectors.py");
    let mut command = world()
        .command(Who::Agent(WRITER), &python.display().to_string())
        .unwrap();
    command.args(["-B", &script.display().to_string()]);
    let ran = hoop_tests::run(&mut command, "", PATIENCE).unwrap();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let lines = ran.json_lines().unwrap();
    let saw = |case: &str| -> &Value {
        let line = lines.iter().find(|l| l["case"] == case);
        &line.unwrap_or_else(|| panic!("no {case}"))["saw"]
    };
    let row = json!([
        "write to [masked:email]",
        null,
        null,
        {"mail": "[masked:email]", "card": "[masked:card]", "n": [1, 2]},
        ["[masked:email]", "plain"],
        "[masked:email]",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "2024-01-15 12:34:56"
    ]);
    assert_eq!(saw("text"), &row);
    assert_eq!(saw("binary"), &row);
    assert_eq!(saw("copy text"), "1\t[masked:email]\tplain\n");
    assert_eq!(saw("copy csv"), "1,[masked:email],plain\n");
    assert_eq!(saw("copy binary")[0], true);
    assert_eq!(saw("copy binary")[1], false);
    assert_eq!(
        saw("error"),
        "invalid input syntax for type integer: \"[masked:email]\""
    );
    assert_eq!(
        saw("parameters"),
        &json!(["[masked:card]", "[masked:email]"])
    );
}

#[test]
fn the_recording_holds_neither_literals_nor_parameters_nor_replies() {
    let marker = "recorded without the card";
    psql(
        &[],
        &format!("SELECT '{marker}', '5555 5555 5555 4444', 'bob@example.com';\n"),
    );
    let recording = world().recording_of(marker).unwrap();
    assert_eq!(recording.verified.code, Some(0));
    let statements = recording.statements();
    let found = statements.iter().find(|s| s.text.contains(marker)).unwrap();
    assert!(
        found.text.ends_with("'[masked:card]', '[masked:email]';"),
        "{}",
        found.text
    );
    for secret in ["5555 4444", "bob@example"] {
        assert!(!recording.raw.contains(secret), "{}", recording.raw);
        assert!(!recording.shown.contains(secret), "{}", recording.shown);
    }
}
