//! After a refusal the session is exactly where PostgreSQL would be after an error of its own.
//!
//! Each scenario runs twice: through hoop with a statement that hoop refuses, and past it with one
//! that the server itself refuses by the same SQLSTATE. What differs is a bug.

use std::path::PathBuf;

use hoop_tests::{PATIENCE, READER, Ran, WRITER, Who, World};
use serde_json::Value;

/// Refused by hoop's policy to both agents.
const REFUSED: &str = "DROP TABLE users";
/// Refused by the server: the schema belongs to another role. 42501, as a refusal of hoop's is.
const DENIED: &str = "DROP TABLE kept.vault";

/// The script with BAD in place of what is refused, through hoop and past it.
fn alike(who: &str, options: &[&str], script: &str) -> Ran {
    let world = World::shared();
    // Only the code: the texts differ on purpose.
    let options = [&["-v", "VERBOSITY=sqlstate"], options].concat();
    let fill = |bad: &str| script.replace("BAD", bad);
    let fill_options = |bad: &str| {
        options
            .iter()
            .map(|o| o.replace("BAD", bad))
            .collect::<Vec<_>>()
    };
    let run = |who, bad| {
        let options = fill_options(bad);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        world.psql(who, &options, &fill(bad)).unwrap()
    };
    let direct = run(Who::Direct, DENIED);
    let through = run(Who::Agent(who), REFUSED);
    assert_eq!(through.stdout, direct.stdout, "{script}");
    assert_eq!(through.stderr, direct.stderr, "{script}");
    assert_eq!(through.code, direct.code, "{script}");
    assert!(through.stderr.contains("42501"), "{}", through.stderr);
    assert_eq!(
        world.postgres.ask("SELECT count(*) FROM users").unwrap(),
        "3"
    );
    through
}

#[test]
fn the_following_statement_works() {
    let ran = alike(READER, &[], "SELECT 1;\nBAD;\nSELECT 2;\n");
    assert_eq!((ran.stdout.as_str(), ran.code), ("1\n2\n", Some(0)));
}

#[test]
fn the_exit_status_is_psqls_own() {
    assert_eq!(alike(READER, &["-c", "BAD"], "").code, Some(1));
    assert_eq!(
        alike(READER, &["-v", "ON_ERROR_STOP=1"], "BAD;\nSELECT 1;\n").code,
        Some(3)
    );
    alike(
        READER,
        &["-c", "SELECT 1", "-c", "BAD", "-c", "SELECT 2"],
        "",
    );
}

#[test]
fn a_transaction_block_is_aborted() {
    alike(
        READER,
        &[],
        "BEGIN;\nSELECT 1;\nBAD;\nSELECT 2;\nCOMMIT;\nSELECT 3;\n",
    );
    alike(
        WRITER,
        &["-1"],
        "INSERT INTO scratch VALUES (20, 'lost');\nBAD;\n",
    );
    let count = World::shared()
        .postgres
        .ask("SELECT count(*) FROM scratch WHERE id = 20")
        .unwrap();
    assert_eq!(count, "0");
}

#[test]
fn savepoints_hold() {
    alike(
        WRITER,
        &[],
        "BEGIN;\nINSERT INTO scratch VALUES (21, 'kept');\nSAVEPOINT s;\nBAD;\nROLLBACK TO s;\n\
         COMMIT;\nSELECT count(*) FROM scratch WHERE id = 21;\nDELETE FROM scratch WHERE id = 21;\n",
    );
}

#[test]
fn a_string_of_statements_is_one_transaction() {
    alike(
        WRITER,
        &[
            "-c",
            "INSERT INTO scratch VALUES (22, 'lost'); BAD; SELECT 1",
        ],
        "",
    );
    let count = World::shared()
        .postgres
        .ask("SELECT count(*) FROM scratch WHERE id = 22")
        .unwrap();
    assert_eq!(count, "0");
}

#[test]
fn the_refusal_says_who_what_which_rule_and_what_next() {
    let options = ["-v", "VERBOSITY=verbose"];
    let ran = World::shared()
        .psql(Who::Agent(READER), &options, &format!("{REFUSED};"))
        .unwrap();
    let line = |start: &str| {
        let found = ran.stderr.lines().find_map(|line| line.strip_prefix(start));
        found
            .unwrap_or_else(|| panic!("no {start} in {}", ran.stderr))
            .to_owned()
    };
    assert!(
        line("ERROR:  42501: ").contains("billing-bot"),
        "{}",
        ran.stderr
    );
    assert!(!line("HINT:  ").is_empty());
    let detail: Value = serde_json::from_str(&line("DETAIL:  ")).unwrap();
    let keys: Vec<&String> = detail.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["code", "rule", "retry", "approval", "hint"]);
}

/// The message-by-message client, through hoop and past it.
#[test]
fn pipelines_end_as_the_client_was_told() {
    let world = World::shared();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("python");
    let run = |who, bad: &str| {
        world.postgres.ask("DELETE FROM scratch").unwrap();
        let mut python = world.command(who, "/usr/bin/python3").unwrap();
        python.arg("-B").arg(folder.join("wire.py")).arg(bad);
        if who == Who::Direct {
            python.env(
                "WIRE_SOURCE",
                world.place.address(hoop_tests::TRUSTED).to_string(),
            );
        }
        hoop_tests::run(&mut python, "", PATIENCE)
            .unwrap()
            .ok()
            .unwrap()
            .json_lines()
            .unwrap()
    };
    let direct = run(Who::Direct, DENIED);
    let through = run(Who::Agent(WRITER), REFUSED);
    assert_eq!(through.len(), direct.len());
    for (through, direct) in through.iter().zip(&direct) {
        let case = through["case"].as_str().unwrap();
        let saw = through["saw"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str);
        check_pipeline(case, &saw.collect::<Vec<_>>());
        // hoop refuses before the server ran any of it: a refused Parse leaves no statement behind,
        // and the first statement of a refused string does not report before it is rolled back.
        if !["skipped_parse", "several_in_one_string"].contains(&case) {
            assert_eq!(
                outcomes(&through["saw"]),
                outcomes(&direct["saw"]),
                "{case}"
            );
        }
    }
    assert_eq!(
        world.postgres.ask("SELECT count(*) FROM users").unwrap(),
        "3"
    );
}

/// Without acknowledgements: hoop refuses at Parse what the server refuses at Execute.
fn outcomes(saw: &Value) -> Vec<&str> {
    let lines = saw.as_array().unwrap().iter().filter_map(Value::as_str);
    lines
        .filter(|line| !["ParseComplete", "BindComplete"].contains(line))
        .collect()
}

fn check_pipeline(case: &str, saw: &[&str]) {
    let none_left = "DataRow [\"0\"]";
    let refused = saw.contains(&"ErrorResponse ERROR 42501");
    match case {
        "skipped_parse" => {
            assert!(
                saw.contains(&"DataRow [\"1\"]"),
                "the row must still be there: {saw:#?}"
            );
            assert!(
                !saw.iter()
                    .any(|line| line.starts_with("CommandComplete DROP")),
                "{saw:#?}"
            );
        }
        "write_then_refused_in_block" => {
            assert!(refused && saw.contains(&none_left), "{case}: {saw:#?}");
            assert!(
                saw.contains(&"ErrorResponse ERROR 25P02"),
                "the block is aborted: {saw:#?}"
            );
            assert!(saw.contains(&"CommandComplete ROLLBACK"), "{saw:#?}");
        }
        _ => assert!(refused && saw.contains(&none_left), "{case}: {saw:#?}"),
    }
    assert!(!saw.contains(&"(closed)"), "{case}: {saw:#?}");
}
