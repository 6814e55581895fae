//! `hoop break-glass`: an agent goes past hoop in an emergency, for a while, and everybody sees it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use hoop_tests::{PATIENCE, READER, Ran, Settings, WRITER, Who, World};
use serde_json::Value;

const SECRET: &str = "078-05-1120";
const ASK: &str = "SELECT ssn FROM users WHERE id = 1";

/// With the password that a direct connection needs; through hoop it is not asked for.
fn psql(world: &World, agent: &str) -> std::process::Command {
    let mut psql = world.command(Who::Agent(agent), "psql").unwrap();
    psql.env("PGPASSWORD", &world.state.password);
    psql.args(["-X", "-A", "-t", "-q"]);
    psql
}

fn ask(world: &World, agent: &str) -> Ran {
    hoop_tests::run(psql(world, agent).args(["-c", ASK]), "", PATIENCE).unwrap()
}

fn break_it(world: &World, agent: &str, lasts: &str) -> Ran {
    let reason = "the issuer is down";
    world
        .hoop(&[
            "break-glass",
            "--agent",
            agent,
            "--for",
            lasts,
            "--reason",
            reason,
        ])
        .unwrap()
}

fn events(world: &World, kind: &str) -> Vec<Value> {
    let all = world.events().unwrap();
    all.into_iter()
        .filter(|event| event.to_string().contains(&format!("\"{kind}\"")))
        .collect()
}

fn until(what: &str, done: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < until, "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A psql that stays.
struct Held(Child, BufReader<std::process::ChildStdout>);

impl Held {
    fn start(world: &World, agent: &str) -> Self {
        let mut psql = psql(world, agent);
        psql.stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = psql.spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut held = Self(child, answers);
        held.say(ASK);
        let mut line = String::new();
        held.1.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), SECRET);
        held
    }

    fn say(&mut self, sql: &str) {
        // It may have ended by now.
        writeln!(self.0.stdin.as_mut().unwrap(), "{sql};").ok();
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait().map(drop)).ok();
    }
}

#[test]
fn it_is_seen_everywhere_and_ends_when_it_is_told() {
    let world = World::start(Settings::default()).unwrap();
    assert!(!ask(&world, READER).stdout.contains(SECRET));
    let recorded = world.sessions().unwrap().len();
    break_it(&world, READER, "30m").ok().unwrap();
    let ran = ask(&world, READER);
    assert_eq!(ran.stdout.trim(), SECRET, "{}", ran.stderr);
    assert_eq!(world.sessions().unwrap().len(), recorded, "it was recorded");
    let mut held = Held::start(&world, READER);
    // Another agent is held as before.
    assert!(!ask(&world, WRITER).stdout.contains(SECRET));

    // A cgroup that is made below meanwhile counts too, once the keeper has seen it.
    let below = format!("agents.slice/{READER}.service/inner");
    world.place.make_cgroup(&below).unwrap();
    until("the way past hoop for a new cgroup", || {
        let mut inner = world.place.command(&below, None, "psql").unwrap();
        inner.envs(&world.state.environment);
        inner.env("PGPASSWORD", &world.state.password);
        inner.args(["-X", "-A", "-t", "-c", ASK]);
        let ran = hoop_tests::run(&mut inner, "", PATIENCE).unwrap();
        ran.stdout.trim() == SECRET
    });

    let status = world.hoop(&["status"]).unwrap();
    assert_eq!(status.code, Some(1), "{}", status.stdout);
    assert!(
        status.stdout.contains("THE GLASS IS BROKEN") && status.stdout.contains("issuer is down")
    );
    let json = world
        .hoop(&["status", "--json"])
        .unwrap()
        .json_lines()
        .unwrap()
        .remove(0);
    assert_eq!(json["well"], false);
    assert_eq!(json["bypasses"][0]["agent"], READER);
    let metrics = world.hoop(&["metrics"]).unwrap().stdout;
    assert!(
        metrics.contains(&format!("hoop_bypass_seconds_left{{agent=\"{READER}\"}}")),
        "{metrics}"
    );
    let listed = world
        .hoop(&["break-glass", "list", "--json"])
        .unwrap()
        .json_lines()
        .unwrap();
    assert_eq!(listed[0]["reason"], "the issuer is down");
    let doctor = world
        .hoop(&["doctor", "--offline", "--json"])
        .unwrap()
        .json_lines()
        .unwrap();
    let found = |f: &Value| f["check"] == "hooks.bypass" && f["state"] == "warn";
    assert!(doctor.iter().any(found), "{doctor:#?}");
    let discovered = world.hoop(&["discover"]).unwrap().stdout;
    assert!(discovered.contains("the glass is broken"), "{discovered}");
    let opened = events(&world, "bypass_opened");
    assert_eq!(opened.len(), 1, "{opened:#?}");
    assert!(opened[0].to_string().contains("the issuer is down"));

    let ended = world.hoop(&[
        "break-glass",
        "end",
        "--agent",
        READER,
        "--reason",
        "it is back",
    ]);
    ended.unwrap().ok().unwrap();
    assert!(!ask(&world, READER).stdout.contains(SECRET));
    held.say("SELECT 'still there'");
    until("the end of the connection", || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE client_addr IS NOT NULL AND query LIKE '%ssn%' AND pid <> pg_backend_pid()";
        world.postgres.ask(sql).unwrap() == "0"
    });
    until_ended(&mut held);
    let ended = events(&world, "bypass_ended");
    assert!(
        ended.len() == 1 && ended[0].to_string().contains("it is back"),
        "{ended:#?}"
    );
    assert_eq!(world.hoop(&["status"]).unwrap().code, Some(0));
    let again = world
        .hoop(&["break-glass", "end", "--agent", READER])
        .unwrap();
    assert_eq!(again.code, Some(1), "{}", again.stdout);

    // Whom somebody suspends goes nowhere, and a suspended one cannot be let past.
    break_it(&world, READER, "30m").ok().unwrap();
    world
        .hoop(&["agent", "suspend", READER])
        .unwrap()
        .ok()
        .unwrap();
    let ran = ask(&world, READER);
    assert!(
        !ran.stdout.contains(SECRET) && ran.code != Some(0),
        "{}",
        ran.stdout
    );
    let refused = break_it(&world, READER, "30m");
    assert!(
        refused.code == Some(1) && refused.stderr.contains("suspended"),
        "{}",
        refused.stderr
    );
}

#[test]
fn saying_it_again_for_longer_cuts_nothing_off() {
    let world = World::start(Settings::default()).unwrap();
    break_it(&world, READER, "6s").ok().unwrap();
    let mut held = Held::start(&world, READER);
    break_it(&world, READER, "30m").ok().unwrap();
    // Shorter than what holds: it takes nothing away.
    break_it(&world, READER, "5s").ok().unwrap();
    until("the end of the first", || {
        events(&world, "bypass_ended").len() == 2
    });
    std::thread::sleep(Duration::from_secs(2));
    assert!(!held.has_ended(), "the connection was ended with the first");
    held.say(ASK);
    let mut line = String::new();
    held.1.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), SECRET);
    assert_eq!(ask(&world, READER).stdout.trim(), SECRET);
    world
        .hoop(&["break-glass", "end", "--agent", READER])
        .unwrap()
        .ok()
        .unwrap();
    held.say("SELECT 'still there'");
    until_ended(&mut held);
    assert!(!ask(&world, READER).stdout.contains(SECRET));
}

#[test]
fn a_file_that_is_none_keeps_nobody_from_mending_the_glass() {
    let world = World::start(Settings::default()).unwrap();
    break_it(&world, READER, "30m").ok().unwrap();
    let config = std::fs::read_to_string(&world.state.config).unwrap();
    std::fs::write(&world.state.config, format!("{config}\nmode = = 1\n")).unwrap();
    let (state, pins) = (setting(&config, "state"), setting(&config, "pins"));
    let places = ["--state", state, "--pins", pins];
    let listed = world
        .hoop(&[&["break-glass", "list"], &places[..]].concat())
        .unwrap();
    assert!(
        listed.stdout.contains(READER),
        "{}{}",
        listed.stdout,
        listed.stderr
    );
    world
        .hoop(&[&["break-glass", "end", "--agent", READER], &places[..]].concat())
        .unwrap()
        .ok()
        .unwrap();
    assert!(!ask(&world, READER).stdout.contains(SECRET));

    // Nor is anybody let past of whom it cannot be told whether somebody suspended it.
    std::fs::write(&world.state.config, &config).unwrap();
    let list = std::path::Path::new(state).join("keeper/suspended.json");
    std::fs::write(&list, "[{").unwrap();
    let refused = break_it(&world, READER, "30m");
    assert!(
        refused.code == Some(1) && refused.stderr.contains("whether"),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_disk_that_takes_nothing_stops_neither_breaking_nor_ending() {
    let world = World::start(Settings::default()).unwrap();
    let config = std::fs::read_to_string(&world.state.config).unwrap();
    let state = setting(&config, "state");
    // In the way of the list as a full disk would be: root writes in spite of any mode.
    let beside = std::path::Path::new(state).join("keeper/break-glass.json.new");
    std::fs::create_dir(&beside).unwrap();
    break_it(&world, READER, "30m").ok().unwrap();
    // Past the keeper's next looks.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(ask(&world, READER).stdout.trim(), SECRET);
    world
        .hoop(&["break-glass", "end", "--agent", READER])
        .unwrap()
        .ok()
        .unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert!(!ask(&world, READER).stdout.contains(SECRET));
    std::fs::remove_dir(&beside).unwrap();
    until("a status that is well", || {
        world.hoop(&["status"]).unwrap().code == Some(0)
    });
}

/// The text that a key of the file has.
fn setting<'c>(config: &'c str, key: &str) -> &'c str {
    let of_key = |line: &'c str| line.strip_prefix(key)?.trim().strip_prefix('=');
    config
        .lines()
        .find_map(of_key)
        .unwrap()
        .trim()
        .trim_matches('"')
}

fn until_ended(held: &mut Held) {
    let until = Instant::now() + Duration::from_secs(20);
    while !held.has_ended() {
        assert!(Instant::now() < until, "the connection lives on");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn it_needs_no_daemon_and_ends_without_one() {
    let mut world = World::start(Settings::default()).unwrap();
    assert!(!ask(&world, READER).stdout.contains(SECRET));
    world.daemon.kill_keeper().unwrap();
    let ran = ask(&world, READER);
    assert!(ran.stderr.contains("Connection refused"), "{}", ran.stderr);
    let begun = Instant::now();
    let broken = break_it(&world, READER, "25s").ok().unwrap();
    assert!(
        broken.stdout.contains("No daemon answers"),
        "{}",
        broken.stdout
    );
    assert_eq!(ask(&world, READER).stdout.trim(), SECRET);
    let mut held = Held::start(&world, READER);
    let listed = world.hoop(&["break-glass", "list"]).unwrap().stdout;
    assert!(listed.contains(READER), "{listed}");
    // Written down by the command itself, in a chain that verifies.
    assert_eq!(events(&world, "bypass_opened").len(), 1);
    std::thread::sleep(Duration::from_secs(26).saturating_sub(begun.elapsed()));
    let ran = ask(&world, READER);
    assert!(ran.stderr.contains("Connection refused"), "{}", ran.stderr);
    held.say("SELECT 'after the end'");
    std::thread::sleep(Duration::from_secs(1));
    let heard = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT ''after the end''%' AND pid <> pg_backend_pid()";
    assert_eq!(
        world.postgres.ask(heard).unwrap(),
        "0",
        "the server heard it"
    );
    // The next daemon ends what is left, and says so.
    world.start_daemon().unwrap();
    until_ended(&mut held);
    assert!(!ask(&world, READER).stdout.contains(SECRET));
    let ended = events(&world, "bypass_ended");
    assert!(
        ended.len() == 1 && ended[0].to_string().contains("time was over"),
        "{ended:#?}"
    );
    assert_eq!(world.hoop(&["status"]).unwrap().code, Some(0));
}

#[test]
fn no_agent_lets_itself_out() {
    let world = World::shared();
    // Where every account may run it.
    let hoop = world.place.path("hoop-for-all");
    std::fs::copy(hoop_tests::program("hoop").unwrap(), &hoop).unwrap();
    let arguments = [
        "break-glass",
        "--agent",
        READER,
        "--for",
        "1m",
        "--reason",
        "mine",
    ];
    let place = format!("agents.slice/{READER}.service");
    // As root in its own cgroup, and as another account outside of it.
    for (cgroup, user, why) in [
        (place.as_str(), None, "governed"),
        ("outside", Some("nobody"), "root"),
    ] {
        let mut command = world.place.command(cgroup, user, &hoop).unwrap();
        command
            .args(arguments)
            .env("HOOP_CONFIG", &world.state.config);
        let ran = hoop_tests::run(&mut command, "", PATIENCE).unwrap();
        assert!(
            ran.code == Some(1) && ran.stderr.contains(why),
            "{}{}",
            ran.stdout,
            ran.stderr
        );
    }
    for bad in [["--for", "5h"], ["--for", "0s"]] {
        let ran = world
            .hoop(&[
                "break-glass",
                "--agent",
                READER,
                bad[0],
                bad[1],
                "--reason",
                "x",
            ])
            .unwrap();
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    }
    let unknown = break_it(world, "no-such-bot", "1m");
    assert!(unknown.stderr.contains("there are:"), "{}", unknown.stderr);
    assert!(!ask(world, READER).stdout.contains(SECRET));
}
