//! The corpus of statements against a real server: what hoop finds in a text, compared with the
//! locks that the server took to run it.
//!
//! Every statement runs in a transaction that is rolled back, as a superuser in a database of its
//! own. Locks tell reading from writing, name tables that the planner left out, and are the server's
//! own word: no code of hoop's is asked.

mod fixture;
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use hoop_tests::{READER, World};
use serde_json::Value;

use fixture::Fixture;
use server::{Connection, Lock};

/// One statement that a server is asked to run.
struct Case {
    place: String,
    sql: String,
    /// The server may leave alone what the text names.
    lenient: bool,
}

fn cases() -> Vec<Case> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../hoop-userspace/tests/corpus/postgres");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .collect();
    files.sort();
    let read = |path: &Path| {
        let family = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).unwrap();
        let blocks: Vec<Case> = text
            .split("\n\n")
            .filter_map(|b| case(&family, b))
            .collect();
        blocks
    };
    files.iter().flat_map(|path| read(path)).collect()
}

fn case(family: &str, block: &str) -> Option<Case> {
    let lines: Vec<&str> = block.trim().lines().collect();
    let lines: Vec<&str> = lines
        .into_iter()
        .skip_while(|l| l.starts_with("# "))
        .collect();
    let told = lines.iter().position(|line| line.starts_with('='))?;
    let says = |what: &str| lines[told..].iter().any(|line| line.starts_with(what));
    let unknown = says("= unknown");
    if says("oracle: no") || unknown {
        return None;
    }
    let sql = lines[..told].join("\n");
    let sql = match sql.starts_with('"') && told == 1 {
        true => serde_json::from_str(&sql).unwrap(),
        false => sql,
    };
    Some(Case {
        place: format!("{family}: {}", lines[0]),
        sql,
        lenient: says("oracle: more"),
    })
}

/// What hoop finds in all of them, by its own command.
fn found(world: &World, cases: &[Case]) -> Vec<Value> {
    let arguments = [
        "policy",
        "test",
        "--agent",
        READER,
        "--resource",
        "orders",
        "--batch",
    ];
    let mut hoop = world.hoop_command(&arguments).unwrap();
    let mut input = String::new();
    for case in cases {
        let _ = writeln!(input, "{}", serde_json::json!({"sql": case.sql}));
    }
    let ran = hoop_tests::run(&mut hoop, &input, hoop_tests::PATIENCE).unwrap();
    let answers = ran.ok().unwrap().json_lines().unwrap();
    assert_eq!(answers.len(), cases.len());
    answers
}

/// Tables by full names, as the server would resolve those of the text.
fn names(facts: &Value, key: &str, fixture: &Fixture) -> BTreeSet<String> {
    let list = facts[key].as_array().unwrap();
    let name = |value: &Value| {
        let name = value["name"].as_str().unwrap();
        match value["schema"].as_str() {
            Some(schema) => format!("{schema}.{name}"),
            None => fixture.resolve(name),
        }
    };
    list.iter().map(name).collect()
}

#[test]
fn the_server_touches_what_hoop_says() {
    let world = World::shared();
    let mut server = Connection::open(&world.postgres, "postgres");
    server.run("CREATE DATABASE classification").unwrap();
    let mut server = Connection::open(&world.postgres, "classification");
    let fixture = Fixture::make(&mut server);
    let cases = cases();
    let facts = found(world, &cases);
    let mut report = String::new();
    let mut ran = 0;
    let mut refused: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (case, answer) in cases.iter().zip(&facts) {
        let locks = match server.locks_of(&case.sql, &fixture) {
            Ok(locks) => locks,
            Err(why) => {
                refused.entry(why).or_default().push(&case.place);
                continue;
            }
        };
        ran += 1;
        let wrong = disagreements(&answer["facts"], &locks, &fixture, case.lenient);
        if !wrong.is_empty() {
            let _ = writeln!(report, "{}\n{wrong}", case.place);
        }
    }
    println!("{ran} of {} statements ran", cases.len());
    for (why, places) in &refused {
        println!("  {why}: {}", places.join(" | "));
    }
    assert!(report.is_empty(), "{report}");
    assert!(ran > 450, "only {ran} statements ran: {refused:#?}");
}

/// Where the server did more than hoop says, or left alone what hoop says it touches.
fn disagreements(
    facts: &Value,
    locks: &BTreeMap<String, Lock>,
    fixture: &Fixture,
    lenient: bool,
) -> String {
    let reads = names(facts, "reads", fixture);
    let writes = names(facts, "writes", fixture);
    let may_write = fixture.reached(&writes);
    let may_touch = fixture.reached(&reads.union(&writes).cloned().collect());
    let says = |key: &str, word: &str| facts[key].as_array().unwrap().contains(&word.into());
    // What is planned takes the locks of what is run.
    let planned = says("verbs", "EXPLAIN") && !says("flags", "explain_analyze");
    let calls = facts["functions"].to_string();
    let counts = calls.contains("nextval") || calls.contains("setval");
    let mut text = String::new();
    for (name, lock) in locks {
        // Opaque says just this; a sequence goes by the function's argument.
        if says("flags", "opaque") && !may_touch.contains(name)
            || counts && fixture.is_sequence(name)
        {
            continue;
        }
        let lock = if planned { &Lock::Read } else { lock };
        if !may_touch.contains(name) {
            let _ = writeln!(text, "    touched and not said: {name} {lock:?}");
        } else if *lock > Lock::Read && !may_write.contains(name) {
            let _ = writeln!(text, "    written and not said: {name} {lock:?}");
        }
    }
    if lenient {
        return text;
    }
    for name in reads
        .union(&writes)
        .filter(|name| fixture.is_lockable(name))
    {
        match locks.get(name) {
            None => {
                let _ = writeln!(text, "    said and not touched: {name}");
            }
            Some(Lock::Read) if writes.contains(name) && !reads.contains(name) => {
                let _ = writeln!(text, "    said to be written, only read: {name}");
            }
            Some(_) => {}
        }
    }
    text
}
