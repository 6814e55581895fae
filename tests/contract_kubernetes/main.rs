//! The contract suite, Kubernetes: what real clients see through hoop is what they see past it, but
//! for masks; who asked is in the cluster's own audit log; and what they did is in recordings that
//! verify.

mod commands;
mod watches;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use hoop_tests::{PATIENCE, READER, Ran, Settings, WRITER, Who, World};
use serde_json::Value;

const POLICY: &str = r#"
@id("etl-everything")
permit (principal == Agent::"etl-bot", action, resource);
@id("reader-reads")
permit (principal == Agent::"billing-bot", action == Action::"k8s:get", resource);
@id("reader-lists")
permit (principal == Agent::"billing-bot", action == Action::"k8s:list", resource);
@id("reader-discovers")
permit (principal == Agent::"billing-bot", action == Action::"k8s:nonresource", resource);
"#;

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let settings = Settings {
            kubernetes: Some("show_secrets = [\"helm.sh/release.v1\"]"),
            policies: vec![("kubernetes.cedar", POLICY.to_owned())],
            ..Settings::default()
        };
        World::start(settings).expect("a world with a cluster")
    })
}

fn run(who: Who<'_>, client: &str, arguments: &[&str], input: &str) -> Ran {
    let mut command = world().kubernetes(who, client).unwrap();
    command.args(arguments);
    hoop_tests::run(&mut command, input, PATIENCE).unwrap()
}

/// Both ways; output, errors and exit status must be equal.
fn same(client: &str, arguments: &[&str], input: &str) -> Ran {
    let direct = run(Who::Direct, client, arguments, input);
    let through = run(Who::Agent(WRITER), client, arguments, input);
    let what = format!("{client} {arguments:?}");
    assert_eq!(through.stdout, direct.stdout, "{what}\n{}", through.stderr);
    assert_eq!(through.stderr, direct.stderr, "errors of {what}");
    assert_eq!(through.code, direct.code, "exit status of {what}");
    through
}

/// The same for a table whose last column is AGE: what was listed a second later is a second older.
fn same_but_for_age(client: &str, arguments: &[&str]) {
    let [direct, through] = [Who::Direct, Who::Agent(WRITER)].map(|who| {
        let ran = run(who, client, arguments, "");
        assert_eq!(ran.code, Some(0), "{client} {arguments:?}: {}", ran.stderr);
        assert_eq!(ran.stderr, "", "{client} {arguments:?}");
        ageless(&ran.stdout)
    });
    assert_eq!(through.0, direct.0, "{client} {arguments:?}");
    for (through, direct) in through.1.iter().zip(&direct.1) {
        let later = through.abs_diff(*direct);
        assert!(later <= PATIENCE.as_secs(), "{direct} s, then {through} s");
    }
}

/// The lines of a table without what AGE says, and what it says, in seconds.
fn ageless(table: &str) -> (Vec<String>, Vec<u64>) {
    let mut lines = table.lines();
    let head = lines.next().expect("a head");
    assert!(head.ends_with(" AGE"), "{table}");
    let (mut rest, mut ages) = (vec![head.to_owned()], Vec::new());
    for line in lines {
        let (before, age) = line.rsplit_once(' ').expect("several columns");
        // `5m3s`, as kubectl writes durations.
        let mut seconds = 0;
        let mut digits = String::new();
        for c in age.chars() {
            let unit = match c {
                '0'..='9' => {
                    digits.push(c);
                    continue;
                }
                's' => 1,
                'm' => 60,
                'h' => 3600,
                'd' => 86400,
                _ => panic!("{age:?} is no age: {table}"),
            };
            seconds += unit * digits.parse::<u64>().expect("digits before a unit");
            digits.clear();
        }
        assert!(digits.is_empty() && !age.is_empty(), "{age:?}: {table}");
        rest.push(before.trim_end().to_owned());
        ages.push(seconds);
    }
    (rest, ages)
}

#[test]
fn an_age_is_left_out_and_nothing_else() {
    let table = "NAME      DATA   AGE\ncolours   1      5m3s\nroot.crt  2      9s\n";
    let (rest, ages) = ageless(table);
    assert_eq!(rest, ["NAME      DATA   AGE", "colours   1", "root.crt  2"]);
    assert_eq!(ages, [303, 9]);
    for other in [
        "NAME   DATA\ncolours   1\n",
        "NAME   AGE\ncolours   soon\n",
        "NAME   AGE\ncolours   12\n",
    ] {
        assert!(std::panic::catch_unwind(|| ageless(other)).is_err());
    }
}

/// A pod that runs on the node of these tests.
fn pod(name: &str) {
    let run = [
        "run",
        name,
        "--image=test",
        "--restart=Never",
        "--command",
        "--",
        "sleep",
        "600",
    ];
    let ran = self::run(Who::Direct, "kubectl", &run, "");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let until = Instant::now() + PATIENCE;
    let phase = ["get", "pod", name, "-o", "jsonpath={.status.phase}"];
    while self::run(Who::Direct, "kubectl", &phase, "").stdout != "Running" {
        assert!(Instant::now() < until, "{name} never runs");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn objects_come_and_go_as_they_do_without_hoop() {
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: colours}\ndata: {red: '1'}\n";
    let ran = run(Who::Agent(WRITER), "kubectl", &["apply", "-f", "-"], map);
    assert_eq!(ran.stdout, "configmap/colours created\n", "{}", ran.stderr);
    for client in ["kubectl", "kubectl-1.20"] {
        same(client, &["get", "configmap", "colours", "-o", "yaml"], "");
        same_but_for_age(client, &["get", "configmap", "colours"]);
        same(client, &["get", "namespace", "-o", "name"], "");
        same(client, &["get", "configmap", "absent"], "");
        same(client, &["api-resources", "-o", "name"], "");
    }
    let patch = [
        "patch",
        "configmap",
        "colours",
        "-p",
        r#"{"data":{"blue":"2"}}"#,
    ];
    let ran = run(Who::Agent(WRITER), "kubectl", &patch, "");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let blue = ["get", "configmap", "colours", "-o", "jsonpath={.data.blue}"];
    assert_eq!(same("kubectl", &blue, "").stdout, "2");
    let delete = ["delete", "configmap", "colours"];
    let ran = run(Who::Agent(WRITER), "kubectl", &delete, "");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let audit = world().kubernetes.as_ref().unwrap().audit().unwrap();
    let line = audit
        .lines()
        .find(|l| l.contains("colours") && l.contains("impersonatedUser"));
    let entry: Value = serde_json::from_str(line.expect("an entry of the agent")).unwrap();
    assert_eq!(entry["impersonatedUser"]["username"], "hoop:etl-bot");
    assert!(
        entry["impersonatedUser"]["extra"]["hoop-session"].is_array(),
        "{entry}"
    );
}

#[test]
fn secrets_are_masked_and_what_is_not_permitted_is_refused() {
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringData: {password: hunter2}\n";
    let ran = run(Who::Direct, "kubectl", &["apply", "-f", "-"], secret);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for arguments in [
        &["get", "secret", "db", "-o", "yaml"][..],
        &["get", "secret", "-o", "json"],
    ] {
        let ran = run(Who::Agent(READER), "kubectl", arguments, "");
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert!(
            ran.stdout.contains("db") && !ran.stdout.contains("aHVudGVyMg"),
            "{}",
            ran.stdout
        );
    }
    let ran = run(
        Who::Agent(READER),
        "kubectl",
        &["delete", "secret", "db"],
        "",
    );
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.contains("Forbidden") && ran.stderr.contains("billing-bot"),
        "{}",
        ran.stderr
    );
    let line = "DELETE /api/v1/namespaces/default/secrets/db";
    let recording = world().recording_of(line).unwrap();
    assert_eq!(recording.verified.code, Some(0));
    let asked = recording.statements();
    assert!(asked.iter().all(|s| s.verdict == "refuse"), "{asked:?}");
    let refusal = |e: &&Value| e["event"] == "refusal";
    let refusal = recording.events.iter().find(refusal);
    let refusal = refusal.expect("a refusal").to_string();
    assert!(refusal.contains("billing-bot"), "{refusal}");
    // It went no further: the cluster never heard of it, and the Secret is there.
    let audit = world().kubernetes.as_ref().unwrap().audit().unwrap();
    let deleted = |line: &&str| {
        let entry: Value = serde_json::from_str(line).unwrap();
        let agent = entry["impersonatedUser"]["username"] == "hoop:billing-bot";
        agent && entry["verb"] == "delete"
    };
    assert!(audit.contains("hoop:billing-bot"), "what it read is there");
    assert_eq!(audit.lines().find(deleted), None);
    let there = ["get", "secret", "db", "-o", "name"];
    let there = run(Who::Direct, "kubectl", &there, "");
    assert_eq!(there.stdout, "secret/db\n");
    // Nor do other clients see it, or get around the refusal.
    for client in ["python", "javascript"] {
        let read = ["--namespace=default", "secret", "db"];
        let ran = run(Who::Agent(READER), client, &read, "");
        assert_eq!(ran.code, Some(0), "{client}: {}", ran.stderr);
        assert!(
            !ran.stdout.contains("aHVudGVyMg"),
            "{client}: {}",
            ran.stdout
        );
        assert!(
            ran.stdout.starts_with("aG9vcC1tYXNrZWQt"),
            "{client}: {}",
            ran.stdout
        );
        let make = ["--namespace=default", "create", "tints", "red=1"];
        let ran = run(Who::Agent(READER), client, &make, "");
        assert_eq!(ran.code, Some(1), "{client}: {}", ran.stderr);
        let refused: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(refused["status"], 403, "{client}: {refused}");
        assert_eq!(
            refused["body"]["reason"], "Forbidden",
            "{client}: {refused}"
        );
        let causes = refused["body"]["details"]["causes"].to_string();
        assert!(causes.contains("code"), "{client}: {refused}");
    }
}

#[test]
fn commands_run_in_pods_over_both_protocols() {
    pod("runs");
    for (client, websockets) in [
        ("kubectl", true),
        ("kubectl", false),
        ("kubectl-1.20", false),
    ] {
        let exec = |arguments: &[&str], input: &str| {
            let arguments = [&["exec", "-i", "runs", "--"], arguments].concat();
            let both = [Who::Direct, Who::Agent(WRITER)].map(|who| {
                let mut command = world().kubernetes(who, client).unwrap();
                command.args(&arguments);
                command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets.to_string());
                hoop_tests::run(&mut command, input, PATIENCE).unwrap()
            });
            let [direct, through] = both;
            let what = format!("{client} {websockets} {arguments:?}: {}", through.stderr);
            assert_eq!(through.stdout, direct.stdout, "{what}");
            assert_eq!(through.code, direct.code, "{what}");
            through
        };
        assert_eq!(exec(&["sh", "-c", "echo out; exit 3"], "").code, Some(3));
        assert_eq!(exec(&["cat"], "what is typed\n").stdout, "what is typed\n");
        exec(
            &[
                "sh",
                "-c",
                "echo err >&2; head -c 300000 /dev/zero | tr '\\0' x",
            ],
            "",
        );
    }
    let recording = world().recording_of("echo out; exit 3").unwrap();
    assert_eq!(recording.verified.code, Some(0));
    let exit = recording
        .events
        .iter()
        .find(|e| e["event"] == "exit")
        .expect("an exit status");
    assert_eq!(exit["status"], 3);
}

#[test]
fn every_command_does_what_it_does_without_hoop() {
    let (count, differ) = commands::compare(world());
    println!("{count} commands, {} differ", differ.len());
    assert!(count >= 120, "{count}");
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

#[test]
fn two_hundred_watches_see_every_event_in_its_order() {
    watches::compare(world());
}
