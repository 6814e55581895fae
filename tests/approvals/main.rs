//! Statements that wait for people: held in the client's own protocol, answered by whoever may, and
//! what becomes of them when client, worker, daemon or policy change meanwhile.

mod freezing;

use std::fs::File;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use hoop_tests::{AgentSettings, Client, PATIENCE, Place, Ran, Settings, WRITER, Who, World, wait};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Accounts that every Debian has, as people.
const PEOPLE: &str = r#"
[[approver]]
name = "ada"
user = "games"
groups = ["dba"]

[[approver]]
name = "bob"
user = "man"
groups = ["dba"]

[[approver]]
name = "sue"
user = "news"
groups = ["security"]

[[approver]]
name = "olga"
user = "lp"
groups = ["dba", "security"]

[[approver]]
name = "joe"
user = "mail"
groups = ["oncall"]
"#;

fn account(person: &str) -> &'static str {
    match person {
        "ada" => "games",
        "bob" => "man",
        "sue" => "news",
        "olga" => "lp",
        "joe" => "mail",
        other => panic!("nobody is called {other}"),
    }
}

const RULES: &str = r#"
@id("reads") permit (principal, action == Action::"sql:read", resource);

@id("once") @approvers("dba") @ttl("5m")
permit (principal, action == Action::"sql:write", resource is Table)
when { resource.name == "once" || resource.name == "counted" };

@id("brief") @approvers("dba") @ttl("2s")
permit (principal, action == Action::"sql:write", resource is Table) when { resource.name == "brief" };

@id("two") @approvers("dba & security") @reason("required") @break_glass("oncall")
permit (principal, action == Action::"sql:write", resource is Table) when { resource.name == "two" };

@id("alike") @approvers("dba") @scope("fingerprint") @lasts("10m")
permit (principal, action == Action::"sql:write", resource is Table) when { resource.name == "alike" };

@id("session") @approvers("dba") @scope("session")
permit (principal, action == Action::"sql:write", resource is Table) when { resource.name == "sess" };

@id("window") @approvers("dba") @scope("resource") @lasts("10m")
permit (principal, action == Action::"sql:write", resource is Table) when { resource.name == "win" };

@id("freeze") @approvers("dba") @scope("session")
forbid (principal, action, resource is Table)
when { resource.name == "icy" && context.activity.session.rows > 3 };
"#;

const TABLES: &str = "SET ROLE orders_app;
    CREATE TABLE once (id int, note text); CREATE TABLE brief (id int); CREATE TABLE two (id int);
    CREATE TABLE alike (id int); CREATE TABLE sess (id int); CREATE TABLE win (id int);
    CREATE TABLE icy (id int); INSERT INTO icy SELECT generate_series(1, 5);
    CREATE TABLE counted (id int); INSERT INTO counted SELECT generate_series(1, 1000); ANALYZE counted;";

fn settings(more: &str) -> Settings {
    let mut agent = AgentSettings::new(WRITER);
    agent.owner = "olga";
    Settings {
        agents: vec![agent],
        masks: Vec::new(),
        packs: Vec::new(),
        policies: vec![("rules.cedar", RULES.to_owned())],
        resource: "estimate = true".to_owned(),
        more: format!("[approvals]\nremind = \"1s\"\n{more}\n{PEOPLE}"),
        ..Settings::default()
    }
}

fn start(more: &str) -> World {
    let world = World::start(settings(more)).expect("a world for approvals");
    world.postgres.ask(TABLES).unwrap();
    world
}

fn shared() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| start(""))
}

fn questions(world: &World) -> Vec<Value> {
    let list = world
        .hoop(&["approvals", "list", "--all", "--json"])
        .unwrap();
    list.ok().unwrap().json_lines().unwrap()
}

fn find(world: &World, marker: &str) -> Option<Value> {
    let about = |q: &Value| q["statement"].as_str().is_some_and(|s| s.contains(marker));
    questions(world).into_iter().rev().find(about)
}

/// The question about the statement, once its client waits for it.
fn held(world: &World, marker: &str) -> String {
    let question = wait(marker, || {
        find(world, marker).filter(|q| q["state"] == "pending" && q["awaited"] == true)
    });
    question["question"].as_str().unwrap().to_owned()
}

fn state(world: &World, question: &str) -> String {
    let show = world
        .hoop(&["approvals", "show", question, "--json"])
        .unwrap();
    let shown = show.ok().unwrap().json_lines().unwrap().remove(0);
    shown["state"].as_str().unwrap().to_owned()
}

/// `hoop approvals …` as that person.
fn by(world: &World, person: &str, arguments: &[&str]) -> Ran {
    world.approvals(account(person), arguments).unwrap()
}

fn approve(world: &World, question: &str) {
    by(world, "ada", &["approve", question]).ok().unwrap();
}

fn rows(world: &World, table: &str, condition: &str) -> String {
    let sql = format!("SELECT count(*) FROM {table} WHERE {condition}");
    world.postgres.ask(&sql).unwrap()
}

#[test]
fn approved_refused_expired_and_cancelled_in_the_simple_protocol() {
    let world = shared();
    let insert = |n: u32| format!("INSERT INTO once VALUES ({n}, 'simple {n}') RETURNING note");
    let client = Client::psql(world, &[&insert(1), "SELECT 'goes on'"]);
    let question = held(world, "simple 1");
    wait("the notice", || {
        client.said().contains(&question).then_some(())
    });
    assert_eq!(rows(world, "once", "note = 'simple 1'"), "0");
    approve(world, &question);
    let ran = client.end();
    assert_eq!(
        ran.stdout, "simple 1\nINSERT 0 1\ngoes on\n",
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("NOTICE") && ran.stderr.contains("approval of dba"),
        "{}",
        ran.stderr
    );
    assert_eq!(state(world, &question), "used");

    let client = Client::psql(world, &[&insert(2)]);
    let question = held(world, "simple 2");
    by(
        world,
        "bob",
        &["refuse", &question, "--reason", "not on a Friday"],
    )
    .ok()
    .unwrap();
    let ran = client.end();
    for word in [
        "42501",
        "bob refused: not on a Friday",
        "approval_refused",
        &question,
    ] {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    assert_eq!(ran.code, Some(1));

    let client = Client::psql(world, &["INSERT INTO brief VALUES (3)", "SELECT 'goes on'"]);
    let ran = client.end();
    assert!(
        ran.stderr.contains("nobody answered in time"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("approval_expired"), "{}", ran.stderr);
    assert_eq!(ran.stdout, "goes on\n");

    // An interactive psql goes on after Ctrl-C; one with -c ends.
    let client = Client::psql(world, &[&insert(4)]);
    let question = held(world, "simple 4");
    client.interrupt();
    let ran = client.end();
    assert!(ran.stderr.contains("57014"), "{}", ran.stderr);
    assert_eq!(state(world, &question), "cancelled");
    assert_eq!(rows(world, "once", "note LIKE 'simple%'"), "1");
}

#[test]
fn approved_refused_expired_and_cancelled_in_the_extended_protocol() {
    let world = shared();
    let insert = |n: u32| format!("INSERT INTO once VALUES ({n}, 'extended {n}') RETURNING note");
    let client = Client::driver(world, &[&insert(1), "SELECT 'goes on'"]);
    let question = held(world, "extended 1");
    approve(world, &question);
    let ran = client.end();
    let lines = ran.json_lines().unwrap();
    assert_eq!(lines[0]["rows"][0][0], "extended 1", "{ran:?}");
    assert_eq!(lines[1]["rows"][0][0], "goes on");
    assert!(ran.stderr.contains(&question), "{}", ran.stderr);

    let client = Client::driver(world, &[&insert(2)]);
    let question = held(world, "extended 2");
    by(world, "bob", &["refuse", &question, "--reason", "no"])
        .ok()
        .unwrap();
    let last = client.last();
    assert_eq!(last["sqlstate"], "42501", "{last}");
    assert_eq!(last["detail"]["code"], "approval_refused");
    assert_eq!(last["detail"]["approval"], question);

    let last = Client::driver(world, &["INSERT INTO brief VALUES (4)"]).last();
    assert_eq!(last["detail"]["code"], "approval_expired", "{last}");

    let client = Client::driver(world, &[&insert(4), "SELECT 'goes on'"]);
    let question = held(world, "extended 4");
    client.interrupt();
    let lines = client.end().json_lines().unwrap();
    assert_eq!(lines[0]["interrupted"], true);
    assert_eq!(lines[1]["rows"][0][0], "goes on", "{lines:?}");
    assert_eq!(state(world, &question), "cancelled");
    assert_eq!(rows(world, "once", "note LIKE 'extended%'"), "1");
}

#[test]
fn two_groups_two_people_and_never_oneself() {
    let world = shared();
    let client = Client::psql(world, &["INSERT INTO two VALUES (1)"]);
    let question = held(world, "two VALUES (1)");
    let vote = |person| {
        by(
            world,
            person,
            &["approve", &question, "--reason", "reviewed"],
        )
    };
    let silent = by(world, "ada", &["approve", &question]);
    assert!(
        silent.stderr.contains("needs a reason"),
        "{}",
        silent.stderr
    );
    let first = vote("ada").ok().unwrap();
    assert!(
        first.stdout.contains("still needs security"),
        "{}",
        first.stdout
    );
    for (person, why) in [
        ("ada", "one person counts once"),
        ("olga", "own agent"),
        ("joe", "in none of the groups"),
    ] {
        let ran = vote(person);
        assert_eq!(ran.code, Some(1));
        assert!(ran.stderr.contains(why), "{person}: {}", ran.stderr);
    }
    assert_eq!(state(world, &question), "pending");
    vote("sue").ok().unwrap();
    client.end().ok().unwrap();
    let late = vote("bob");
    assert!(late.stderr.contains("is used already"), "{}", late.stderr);
    let shown = world
        .hoop(&["approvals", "show", &question])
        .unwrap()
        .ok()
        .unwrap();
    for word in [
        "INSERT INTO two VALUES (1)",
        "by ada",
        "by sue",
        "reviewed",
        "etl-bot",
        "psql",
    ] {
        assert!(shown.stdout.contains(word), "{word}: {}", shown.stdout);
    }
    // Who tried is written down.
    let events = world.events().unwrap();
    let tried =
        |e: &&Value| e["entry"]["event"] == "approval_rejected" && e["entry"]["who"] == "olga";
    assert!(events.iter().any(|e| tried(&e)), "{events:#?}");
}

#[test]
fn an_emergency_is_answered_alone_and_raises_an_alert() {
    let world = shared();
    let client = Client::psql(world, &["INSERT INTO two VALUES (2)"]);
    let question = held(world, "two VALUES (2)");
    let glass = [
        "approve",
        &question,
        "--break-glass",
        "--reason",
        "the site is down",
    ];
    by(world, "joe", &glass).ok().unwrap();
    client.end().ok().unwrap();
    let events = world.events().unwrap();
    let alert =
        |e: &Value| e["entry"]["event"] == "break_glass" && e["entry"]["question"] == question;
    assert!(events.iter().any(alert), "{events:#?}");
}

#[test]
fn what_is_governed_can_neither_see_nor_answer() {
    let world = shared();
    let client = Client::psql(world, &["INSERT INTO once VALUES (10, 'governed')"]);
    let question = held(world, "governed");
    let hoop = hoop_tests::program("hoop").unwrap().display().to_string();
    for arguments in [vec!["list"], vec!["approve", &question]] {
        let mut command = world.command(Who::Agent(WRITER), &hoop).unwrap();
        command
            .arg("approvals")
            .args(arguments)
            .env("HOOP_CONFIG", &world.state.config);
        let ran = hoop_tests::run(&mut command, "", PATIENCE).unwrap();
        assert_eq!(ran.code, Some(1), "{}", ran.stdout);
        assert!(ran.stderr.contains("is governed"), "{}", ran.stderr);
    }
    client.interrupt();
    client.end();
}

#[test]
fn a_transaction_waits_less_and_is_left_as_the_client_is_told() {
    let world = shared();
    let statements = [
        "SELECT 1",
        "INSERT INTO once VALUES (20, 'locked')",
        "SELECT 2",
    ];
    let client = Client::driver(world, &[&["--begin"][..], &statements].concat());
    let question = held(world, "locked");
    wait("the notice", || {
        client.said().contains("transaction is open").then_some(())
    });
    by(world, "ada", &["refuse", &question, "--reason", "no"])
        .ok()
        .unwrap();
    let lines = client.end().json_lines().unwrap();
    assert_eq!(lines[0]["transaction"], "INTRANS");
    assert_eq!(lines[1]["transaction"], "INERROR", "{lines:?}");
    // The server says so as well.
    assert_eq!(lines[2]["sqlstate"], "25P02");

    let client = Client::driver(world, &[&["--begin"][..], &statements].concat());
    let question = held(world, "locked");
    approve(world, &question);
    let lines = client.end().json_lines().unwrap();
    assert_eq!(lines[2]["transaction"], "INTRANS", "{lines:?}");
    assert_eq!(rows(world, "once", "note = 'locked'"), "1");
}

#[test]
fn what_stands_before_it_in_a_pipeline_runs_and_what_follows_waits() {
    let world = shared();
    let statements = [
        "SELECT 'before'",
        "INSERT INTO once VALUES (30, 'piped')",
        "SELECT 'after'",
    ];
    let client = Client::driver(world, &[&["--pipeline"][..], &statements].concat());
    let question = held(world, "piped");
    approve(world, &question);
    let lines = client.end().json_lines().unwrap();
    assert_eq!(lines[0]["rows"][0][0], "before", "{lines:?}");
    assert_eq!(lines[1]["count"], 1);
    assert_eq!(lines[2]["rows"][0][0], "after");

    let client = Client::driver(world, &[&["--pipeline"][..], &statements].concat());
    let question = held(world, "piped");
    by(world, "ada", &["refuse", &question, "--reason", "no"])
        .ok()
        .unwrap();
    assert_eq!(client.last()["sqlstate"], "42501");
    assert_eq!(rows(world, "once", "note = 'piped'"), "1");
}

#[test]
fn copy_waits_before_its_data() {
    let world = shared();
    let script = world.place.path("copy.sql");
    std::fs::write(
        &script,
        "COPY once FROM STDIN;\n40\tcopied\n\\.\nSELECT 'goes on';\n",
    )
    .unwrap();
    let mut psql = world.command(Who::Agent(WRITER), "psql").unwrap();
    psql.args(["-X", "-A", "-t", "-q", "-f"]).arg(script);
    let client = Client::start(world, psql);
    let question = held(world, "COPY once");
    approve(world, &question);
    let ran = client.end();
    assert_eq!(ran.stdout, "goes on\n", "{}", ran.stderr);
    assert_eq!(rows(world, "once", "note = 'copied'"), "1");
}

#[test]
fn a_client_that_hangs_up_takes_its_question_with_it() {
    let world = shared();
    let mut client = Client::psql(world, &["INSERT INTO once VALUES (50, 'left')"]);
    let question = held(world, "left");
    client.child.kill().unwrap();
    client.end();
    wait("the end of the question", || {
        (state(world, &question) == "cancelled").then_some(())
    });
    let late = by(world, "ada", &["approve", &question]);
    assert!(
        late.stderr.contains("is cancelled already"),
        "{}",
        late.stderr
    );
}

#[test]
fn windows_cover_what_their_scope_says() {
    let world = shared();
    let alike = Client::psql(
        world,
        &[
            "INSERT INTO alike VALUES (1)",
            "INSERT INTO alike VALUES (2)",
        ],
    );
    approve(world, &held(world, "alike VALUES (1)"));
    alike.end().ok().unwrap();
    let later = Client::driver(world, &["INSERT INTO alike VALUES (3)"]);
    assert_eq!(later.last()["count"], 1);
    let other = Client::psql(world, &["DELETE FROM alike WHERE id = 1"]);
    held(world, "DELETE FROM alike");
    other.interrupt();
    other.end();

    let first = Client::psql(
        world,
        &[
            "INSERT INTO sess VALUES (1)",
            "DELETE FROM sess WHERE id = 1",
        ],
    );
    approve(world, &held(world, "sess VALUES (1)"));
    first.end().ok().unwrap();
    let second = Client::psql(world, &["INSERT INTO sess VALUES (2)"]);
    held(world, "sess VALUES (2)");
    second.interrupt();
    second.end();
}

#[test]
fn revoking_ends_what_runs() {
    let world = shared();
    let slow = "UPDATE win SET id = 2 WHERE pg_sleep(60) IS NOT NULL AND id = 1";
    let client = Client::psql(world, &["INSERT INTO win VALUES (1)", slow]);
    let question = held(world, "win VALUES (1)");
    approve(world, &question);
    let running =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'UPDATE win%' AND state = 'active'";
    wait("the slow statement", || {
        (world.postgres.ask(running).unwrap() == "1").then_some(())
    });
    let revoke = ["revoke", &question, "--reason", "wrong table"];
    by(world, "bob", &revoke).ok().unwrap();
    let ran = client.end();
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("revoked by bob: wrong table"),
        "{}",
        ran.stderr
    );
    assert_eq!(rows(world, "win", "id = 2"), "0");
    let again = Client::psql(world, &["DELETE FROM win WHERE id = 1"]);
    held(world, "DELETE FROM win");
    again.interrupt();
    again.end();
}

#[test]
fn questions_and_answers_are_in_the_recording() {
    let world = shared();
    let client = Client::psql(world, &["INSERT INTO once VALUES (60, 'recorded')"]);
    let question = held(world, "recorded");
    by(
        world,
        "ada",
        &["approve", &question, "--reason", "ticket 7"],
    )
    .ok()
    .unwrap();
    client.end().ok().unwrap();
    let recording = world.recording_of("'recorded'").unwrap();
    assert_eq!(
        recording.verified.code,
        Some(0),
        "{}",
        recording.verified.stdout
    );
    let kinds: Vec<&str> = recording
        .events
        .iter()
        .filter_map(|e| e["event"].as_str())
        .collect();
    let place = |kind| kinds.iter().position(|k| *k == kind).unwrap();
    assert!(place("question") < place("answer"), "{kinds:?}");
    assert!(place("answer") < place("request"), "{kinds:?}");
    let answer = &recording.events[place("answer")];
    assert_eq!(answer["outcome"], "approved");
    assert_eq!(answer["by"][0]["who"], "ada");
    assert_eq!(answer["by"][0]["reason"], "ticket 7");
    assert!(recording.shown.contains("ticket 7"), "{}", recording.shown);
}

/// A question survives daemon and worker, and its answer serves the same request once.
#[test]
fn a_question_outlives_worker_and_daemon() {
    let mut world = start("on_hangup = \"keep\"");
    let insert = |n: u32| format!("INSERT INTO once VALUES ({n}, 'kept {n}')");

    let client = Client::psql(&world, &[&insert(1)]);
    let question = held(&world, "kept 1");
    let worker = world.daemon.worker().unwrap();
    world.daemon.signal(worker, Signal::SIGKILL).unwrap();
    assert_ne!(client.end().code, Some(0));
    wait("another worker", || {
        world.daemon.worker().ok().filter(|pid| *pid != worker)
    });
    assert_eq!(state(&world, &question), "pending");
    approve(&world, &question);
    assert_eq!(state(&world, &question), "approved");
    let retry = || {
        wait("service", || {
            let ran = Client::psql(&world, &[&insert(1)]).end();
            (!ran.stderr.contains("Connection refused") && ran.code != Some(2)).then_some(ran)
        })
    };
    assert_eq!(retry().code, Some(0));
    assert_eq!(state(&world, &question), "used");
    assert_eq!(rows(&world, "once", "id = 1"), "1");

    let client = Client::psql(&world, &[&insert(2)]);
    let question = held(&world, "kept 2");
    world.daemon.kill_keeper().unwrap();
    assert_ne!(client.end().code, Some(0));
    wait("the end of the worker", || {
        world.daemon_processes().is_empty().then_some(())
    });
    world.start_daemon().unwrap();
    assert_eq!(state(&world, &question), "pending");
    // The same request joins the question that is open.
    let client = Client::psql(&world, &[&insert(2)]);
    assert_eq!(held(&world, "kept 2"), question);
    approve(&world, &question);
    client.end().ok().unwrap();

    let client = Client::psql(&world, &[&insert(3)]);
    let question = held(&world, "kept 3");
    world.daemon.stop().unwrap();
    let ran = client.end();
    assert!(
        ran.stderr
            .contains(&format!("question {question} stays open")),
        "{}",
        ran.stderr
    );
    world.start_daemon().unwrap();
    approve(&world, &question);
    Client::psql(&world, &[&insert(3)]).end().ok().unwrap();

    // Kept over a hang-up as well.
    let mut client = Client::psql(&world, &[&insert(4)]);
    let question = held(&world, "kept 4");
    client.child.kill().unwrap();
    client.end();
    wait("the client's end", || {
        find(&world, "kept 4").filter(|q| q["awaited"] == false && q["state"] == "pending")
    });
    approve(&world, &question);
    Client::driver(&world, &[&insert(4)]).last()["count"]
        .as_i64()
        .unwrap();
    assert_eq!(state(&world, &question), "used");
    assert_eq!(rows(&world, "once", "note LIKE 'kept%'"), "4");
}

#[test]
fn a_policy_that_changes_meanwhile_counts() {
    let mut world = start("");
    let insert = |n: u32| format!("INSERT INTO once VALUES ({n}, 'reload {n}')");
    let rules = |world: &World, text: &str| {
        std::fs::write(world.place.path("etc/policies/rules.cedar"), text).unwrap();
    };
    // Another rule: the question goes on.
    let client = Client::psql(&world, &[&insert(1)]);
    let question = held(&world, "reload 1");
    let more = format!(
        "{RULES}\n@id(\"more\") permit (principal, action == Action::\"sql:ddl\", resource);"
    );
    rules(&world, &more);
    world.daemon.reload().unwrap();
    approve(&world, &question);
    client.end().ok().unwrap();
    // Nobody need be asked any more.
    let client = Client::psql(&world, &[&insert(2)]);
    let question = held(&world, "reload 2");
    rules(&world, "permit (principal, action, resource);");
    world.daemon.reload().unwrap();
    client.end().ok().unwrap();
    wait("the end of the question", || {
        (state(&world, &question) == "cancelled").then_some(())
    });
    // It is forbidden now.
    rules(&world, RULES);
    world.daemon.reload().unwrap();
    let client = Client::psql(&world, &[&insert(3)]);
    let question = held(&world, "reload 3");
    rules(
        &world,
        "@id(\"reads\") permit (principal, action == Action::\"sql:read\", resource);",
    );
    world.daemon.reload().unwrap();
    let ran = client.end();
    assert!(ran.stderr.contains("not_permitted"), "{}", ran.stderr);
    let late = by(&world, "ada", &["approve", &question]);
    assert!(
        late.stderr.contains("is cancelled already"),
        "{}",
        late.stderr
    );
    assert_eq!(rows(&world, "once", "note LIKE 'reload%'"), "2");
}

/// A webhook is told of what happens, again if it was not heard, and its failure approves nothing.
#[test]
fn a_webhook_is_told_and_told_again() {
    const KEY: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let place = Place::make().unwrap();
    let receiver = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("python/receiver.py");
    let heard = place.path("heard");
    let mut python = place.command("services", None, "/usr/bin/python3").unwrap();
    python.arg("-B").arg(receiver).arg(KEY);
    python.stdout(File::create(&heard).unwrap());
    let mut receiver = python.spawn().unwrap();
    let heard = || std::fs::read_to_string(&heard).unwrap();
    let port = wait("the receiver's port", || {
        Some(heard().lines().next()?.to_owned())
    });
    let secret = place.path("webhook-secret");
    std::fs::write(&secret, format!("whsec_{KEY}\n")).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let channel = format!(
        "\n[[channel]]\nname = \"ops\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{port}/hook\"\n\
         secret = {{ file = \"{}\" }}\n\n[[channel]]\nname = \"down\"\nkind = \"webhook\"\n\
         url = \"http://127.0.0.1:9/\"\nsecret = {{ file = \"{0}\" }}\n",
        secret.display()
    );
    let world = World::start_in(place, settings(&channel)).unwrap();
    world.postgres.ask(TABLES).unwrap();
    let client = Client::psql(&world, &["INSERT INTO once VALUES (1, 'hooked')"]);
    let question = held(&world, "hooked");
    let all = || -> Vec<Value> {
        let text = heard();
        let lines = text.lines().skip(1);
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    wait("a second attempt", || (all().len() >= 2).then_some(()));
    let seen = all();
    assert_eq!(
        (&seen[0]["status"], &seen[1]["status"]),
        (&500.into(), &204.into())
    );
    assert_eq!(
        seen[0]["id"], seen[1]["id"],
        "the same, so that it counts once"
    );
    assert_eq!(seen[1]["body"]["type"], "approval.asked");
    assert_eq!(seen[1]["body"]["data"]["question"], question);
    assert_eq!(seen[1]["body"]["data"]["needs"][0], "dba");
    assert!(
        !heard().contains("hooked"),
        "statements stay here unless the channel shows them"
    );
    // A channel that is down is seen, and approves nothing.
    let status = wait("the failure", || {
        let ran = world.hoop(&["status", "--json"]).unwrap();
        let status = ran.json_lines().unwrap().remove(0);
        status["channels"][1]["problem"]
            .is_string()
            .then_some(status)
    });
    assert_eq!(status["well"], false);
    assert_eq!(state(&world, &question), "pending");
    approve(&world, &question);
    client.end().ok().unwrap();
    wait("the outcome", || {
        all()
            .iter()
            .any(|e| e["body"]["data"]["state"] == "approved")
            .then_some(())
    });
    assert!(all().iter().all(|e| e["good"] == true), "{:#?}", all());
    receiver.kill().unwrap();
    receiver.wait().unwrap();
}
