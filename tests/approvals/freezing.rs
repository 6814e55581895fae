//! Sessions that stand still, by a rule or by an operator's word, and what whoever is asked sees of how
//! much a statement would do.

use super::*;

#[test]
fn a_rule_freezes_a_session_until_somebody_has_looked() {
    let world = shared();
    let read = "SELECT count(*) FROM icy";
    let all = "SELECT id FROM icy";
    let client = Client::psql(world, &[all, read, read, all]);
    let question = held(world, "FROM icy");
    approve(world, &question);
    let ran = client.end().ok().unwrap();
    assert_eq!(ran.stdout.matches("5\n").count(), 4, "{}", ran.stdout);
    let asked = ran.stderr.matches("it waits for question").count();
    assert!(
        asked >= 1 && ran.stderr.contains("\"freeze\""),
        "{}",
        ran.stderr
    );
    let about = questions(world);
    let about = about
        .iter()
        .filter(|q| q["statement"].as_str().is_some_and(|s| s.contains("icy")));
    assert_eq!(about.count(), 1, "one look lets the session go on");
}

#[test]
fn an_operator_freezes_a_session_and_lets_it_go_on_or_end() {
    let world = shared();
    let session = |marker: &str| {
        let long = format!("SELECT '{marker}', pg_sleep(1)");
        let client = Client::psql(world, &[&long, "SELECT 'went on'"]);
        let known = |session: &Value| {
            let id = session["session"].as_str()?.to_owned();
            let recording = world.hoop(&["replay", &id]).ok()?;
            recording.stdout.contains(marker).then_some(id)
        };
        let id = wait(marker, || {
            let status = world.hoop(&["status", "--json"]).unwrap();
            let status = status.json_lines().unwrap().remove(0);
            status["sessions"].as_array()?.iter().find_map(known)
        });
        (client, id)
    };
    let steer = |arguments: &[&str]| world.hoop(&[&["sessions"], arguments].concat()).unwrap();

    let (client, id) = session("frozen one");
    let frozen = steer(&["freeze", &id, "--reason", "that is odd"])
        .ok()
        .unwrap();
    assert!(frozen.stdout.contains("stands still"), "{}", frozen.stdout);
    let status = world.hoop(&["status"]).unwrap();
    assert!(status.stdout.contains("FROZEN by"), "{}", status.stdout);
    std::thread::sleep(Duration::from_secs(3));
    let thawed = steer(&["thaw", &id, "--reason", "it was me"]).ok().unwrap();
    assert!(thawed.stdout.contains("goes on"), "{}", thawed.stdout);
    let ran = client.end().ok().unwrap();
    assert!(ran.stdout.contains("frozen one") && ran.stdout.contains("went on"));
    let told = "froze this session: that is odd; nothing more runs until somebody lets it go on";
    assert!(ran.stderr.contains(told), "{}", ran.stderr);
    let again = steer(&["thaw", &id]);
    assert_eq!(again.code, Some(1), "{}", again.stderr);

    let (client, id) = session("frozen two");
    steer(&["freeze", &id, "--for", "2"]).ok().unwrap();
    let ran = client.end();
    assert!(!ran.stdout.contains("went on"), "{}", ran.stdout);
    assert!(
        ran.stderr.contains("nobody let it go on in time"),
        "{}",
        ran.stderr
    );

    let events = world.events().unwrap();
    let noted = |event: &str, reason: &str| {
        let is = |e: &&Value| e["entry"]["event"] == event && e["entry"]["reason"] == reason;
        events.iter().find(is).map(|e| e["entry"]["found"].clone())
    };
    assert_eq!(noted("frozen", "that is odd"), Some(Value::Bool(true)));
    assert_eq!(noted("thawed", "it was me"), Some(Value::Bool(true)));
    let recording = world.recording_of("'frozen one'").unwrap();
    let outcomes: Vec<&str> = recording
        .events
        .iter()
        .filter_map(|e| e["outcome"].as_str())
        .collect();
    assert!(outcomes.contains(&"thawed"), "{outcomes:?}");
    assert_eq!(recording.verified.code, Some(0));
}

#[test]
fn whoever_is_asked_sees_about_how_many_rows() {
    let world = shared();
    let client = Client::psql(world, &["DELETE FROM counted WHERE id > 0"]);
    let question = held(world, "FROM counted");
    let estimate = wait("an estimate", || {
        let shown = world
            .hoop(&["approvals", "show", &question, "--json"])
            .ok()?;
        shown.json_lines().ok()?.first()?["estimate"].as_u64()
    });
    assert_eq!(estimate, 1000);
    assert_eq!(rows(world, "counted", "true"), "1000", "it was not run");
    let shown = world.hoop(&["approvals", "show", &question]).unwrap();
    assert!(shown.stdout.contains("about 1000 rows"), "{}", shown.stdout);
    client.interrupt();
    client.end();
}
