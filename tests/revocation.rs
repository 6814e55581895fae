//! A token that its issuer revokes ends what lives under it within seconds and suspends its agent,
//! at the certified provider, with a long query at the real server; and what does not: rotation, a
//! reload, an issuer that is away for a moment.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use hoop_tests::{ASKS, AgentSettings, PATIENCE, Place, READER, Ran, Settings, WRITER, Who, World};
use serde_json::Value;

/// What the issue of revocation promises by default.
const BOUND: Duration = Duration::from_secs(5);
/// Its token is obtained by the daemon.
const OBTAINED: &str = "basic-bot";
const OWN: &str = "{ client_credentials = { secret = { file = \"FOLDER/etc/clients/basic-bot\" }, scope = \"orders\" } }";

fn settings(console: &str) -> Settings {
    let mut settings = Settings {
        issuer: format!(
            "{ASKS}\nevents = {{ hook = {{ file = \"FOLDER/etc/clients/hoop-asks\" }} }}"
        ),
        more: format!("\n[console]\nlisten = \"{console}\"\nuser = \"www-data\"\n"),
        ..Settings::default()
    };
    settings.agents.push(AgentSettings {
        token: OWN,
        ..AgentSettings::new(OBTAINED)
    });
    settings.policies.push(("sleep.cedar", SLEEP.to_owned()));
    settings
}

/// `read-only` does not let anybody sleep.
const SLEEP: &str = "permit (principal, action == Action::\"sql:read\", resource);\n";

fn ask(world: &World, agent: &str) -> Ran {
    let query = ["-c", "SELECT 'went through'"];
    world.psql(Who::Agent(agent), &query, "").unwrap()
}

fn passes(world: &World, agent: &str) {
    let ran = ask(world, agent);
    assert!(ran.stdout.contains("went through"), "{agent}: {ran:?}");
}

fn refused(world: &World, agent: &str, words: &[&str]) {
    let ran = ask(world, agent);
    assert_eq!(ran.code, Some(2), "{agent}: {ran:?}");
    assert!(ran.stderr.contains("FATAL:"), "{ran:?}");
    for word in words.iter().chain([&agent]) {
        assert!(ran.stderr.contains(word), "{word}: {ran:?}");
    }
    assert!(!ran.stderr.contains("eyJ"), "a token is shown: {ran:?}");
}

/// A psql that runs one long query.
struct Sleeping {
    child: Child,
    since: Instant,
}

impl Sleeping {
    fn start(world: &World, agent: &str) -> Self {
        let mut psql = world.command(Who::Agent(agent), "psql").unwrap();
        let child = psql
            .args(["-X", "-c", "SELECT pg_sleep(60)"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let sleeping = Self {
            child,
            since: Instant::now(),
        };
        while asleep(world) == 0 {
            assert!(
                sleeping.since.elapsed() < PATIENCE,
                "the query does not start"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        sleeping
    }

    /// How long after `since` it ended, and what it was told.
    fn end(self, since: Instant) -> (Duration, String) {
        let out = self.child.wait_with_output().unwrap();
        let took = since.elapsed();
        assert!(!out.status.success(), "{out:?}");
        (took, String::from_utf8_lossy(&out.stderr).into_owned())
    }
}

/// Queries of hoop's that sleep at the server now, by the server's own word.
fn asleep(world: &World) -> u32 {
    let query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'";
    let ran = world
        .psql(Who::Direct, &["-c", query], "")
        .unwrap()
        .ok()
        .unwrap();
    ran.stdout.trim().parse().unwrap()
}

fn status(world: &World) -> Value {
    let ran = world.hoop(&["status", "--json"]).unwrap();
    ran.json_lines().unwrap().remove(0)
}

fn agent_status(world: &World, agent: &str) -> Value {
    let status = status(world);
    let agents = status["agents"].as_array().unwrap();
    agents.iter().find(|a| a["name"] == agent).unwrap().clone()
}

fn is_suspended(world: &World, agent: &str) -> bool {
    !agent_status(world, agent)["suspended"]
        .as_array()
        .unwrap()
        .is_empty()
}

fn hoop(world: &World, arguments: &[&str]) -> Ran {
    let ran = world.hoop(arguments).unwrap();
    assert_eq!(ran.code, Some(0), "{arguments:?}: {ran:?}");
    ran
}

fn token_file(world: &World, agent: &str) -> std::path::PathBuf {
    world.place.path("tokens").join(agent)
}

fn renew(world: &World, agent: &'static str) {
    let agent = AgentSettings::new(agent);
    world.issuer.give_token(&world.place, &agent).unwrap();
}

fn revoke(world: &World, agent: &str) {
    let token = std::fs::read_to_string(token_file(world, agent)).unwrap();
    world.issuer.revoke(agent, &token).unwrap();
}

/// One test, since the world's issuer is one.
#[test]
fn a_revoked_token_ends_what_lives_under_it() {
    let place = Place::make().unwrap();
    let console = format!("{}:8443", place.address(30));
    let mut world = World::start_in(place, settings(&console)).unwrap();
    for agent in [READER, WRITER, OBTAINED] {
        passes(&world, agent);
    }
    let shown = &agent_status(&world, READER)["identities"][0];
    let bound = shown["revocation_bound_ms"].as_u64().unwrap();
    assert!((1000..5000).contains(&bound), "{shown:#}");
    assert!(shown["confirmed"].is_string(), "{shown:#}");

    questions_are_few(&world);
    rotation_is_no_revocation(&world);
    cut_within_the_bound(&world);
    suspended_through_a_restart(&mut world);
    what_hoop_obtains_is_not_renewed(&world);
    by_hand(&world);
    away_for_a_moment(&world);
    reported(&world, &console);
    reported_to_a_worker_that_retires(&world, &console);
    nothing_leaks(&world);
}

/// Connections as fast as psql makes them cost one question for each period.
fn questions_are_few(world: &World) {
    let before = world.issuer.questions().unwrap();
    let from = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..15).for_each(|_| passes(world, READER)));
        }
    });
    let periods = u32::try_from(from.elapsed().as_secs() / 2).unwrap() + 2;
    let asked = world.issuer.questions().unwrap() - before;
    assert!(asked <= periods, "{asked} questions in {periods} periods");
}

/// A session outlives the token that it began with: the new one is in its place before the old one
/// is revoked.
fn rotation_is_no_revocation(world: &World) {
    let sleeping = Sleeping::start(world, READER);
    let old = std::fs::read_to_string(token_file(world, READER)).unwrap();
    renew(world, READER);
    world.issuer.revoke(READER, &old).unwrap();
    std::thread::sleep(BOUND);
    assert_eq!(asleep(world), 1, "the session ended with its first token");
    assert!(!is_suspended(world, READER));
    passes(world, READER);
    let killed = hoop(
        world,
        &[
            "sessions",
            "kill",
            "--agent",
            READER,
            "--reason",
            "enough of it",
        ],
    );
    assert!(killed.stdout.contains("was told to end"), "{killed:?}");
    let (_, said) = sleeping.end(Instant::now());
    assert!(said.contains("enough of it"), "{said}");
}

fn cut_within_the_bound(world: &World) {
    let sleeping = Sleeping::start(world, READER);
    let other = Sleeping::start(world, WRITER);
    revoke(world, READER);
    let since = Instant::now();
    let (took, said) = sleeping.end(since);
    println!("a revoked session ended after {:.2} s", took.as_secs_f64());
    assert!(took < BOUND, "{took:?}: {said}");
    assert!(said.contains("revoked") && !said.contains("eyJ"), "{said}");
    // Its work at the server ended with it, and nobody else's.
    assert_eq!(asleep(world), 1);
    let recording = world
        .recording(|session| session["agent"] == READER && session["end"] == "identity")
        .unwrap();
    let end = recording
        .events
        .iter()
        .find(|event| event["event"] == "end");
    let end = end.expect("an end");
    assert_eq!(end["outcome"], "cancelled", "{end:#}");
    assert!(
        end["reason"].as_str().unwrap().contains("revoked"),
        "{end:#}"
    );
    refused(world, READER, &["suspended", "hoop agent resume"]);
    assert!(is_suspended(world, READER));
    let counted = &status(world)["identity"];
    assert_eq!(counted["suspended"], 1, "{counted:#}");
    let metrics = hoop(world, &["metrics"]).stdout;
    assert!(metrics.contains("hoop_revoke_total 1\n"), "{metrics}");
    let whoami = world
        .hoop(&[
            "whoami",
            "--cgroup",
            &format!("{}/{READER}.service", world.place.slice),
        ])
        .unwrap();
    assert_eq!(whoami.code, Some(3), "{whoami:?}");
    assert!(whoami.stdout.contains("suspended since"), "{whoami:?}");
    passes(world, WRITER);
    hoop(world, &["sessions", "kill", "--agent", WRITER]);
    other.end(Instant::now());
}

/// Neither a restart nor a resumption makes a revoked token good; a new one and a resumption do.
fn suspended_through_a_restart(world: &mut World) {
    world.daemon.stop().unwrap();
    world.start_daemon().unwrap();
    refused(world, READER, &["suspended"]);
    hoop(world, &["agent", "resume", READER, "--reason", "looked at"]);
    refused(world, READER, &["revoked"]);
    refused(world, READER, &["suspended"]);
    renew(world, READER);
    refused(world, READER, &["suspended"]);
    hoop(world, &["agent", "resume", READER]);
    passes(world, READER);
    let events = world.events().unwrap();
    for event in ["\"suspended\"", "\"resumed\"", "looked at"] {
        let found = events.iter().any(|known| known.to_string().contains(event));
        assert!(found, "{event}: {events:#?}");
    }
}

/// The daemon could obtain another token at once, and does not: somebody revoked this one.
fn what_hoop_obtains_is_not_renewed(world: &World) {
    let sleeping = Sleeping::start(world, OBTAINED);
    world.issuer.revoke_all(OBTAINED).unwrap();
    let since = Instant::now();
    let (took, said) = sleeping.end(since);
    assert!(took < BOUND && said.contains("revoked"), "{took:?}: {said}");
    refused(world, OBTAINED, &["suspended"]);
    hoop(world, &["agent", "resume", OBTAINED]);
    passes(world, OBTAINED);
}

/// Needs no issuer.
fn by_hand(world: &World) {
    let sleeping = Sleeping::start(world, READER);
    world.issuer.fail(Some(503)).unwrap();
    hoop(
        world,
        &["agent", "suspend", READER, "--reason", "incident 7"],
    );
    let (took, said) = sleeping.end(Instant::now());
    assert!(
        took < BOUND && said.contains("incident 7"),
        "{took:?}: {said}"
    );
    refused(world, READER, &["incident 7"]);
    world.issuer.fail(None).unwrap();
    hoop(world, &["agent", "resume", READER]);
    passes(world, READER);
    let nobody = world.hoop(&["agent", "suspend", "nobody"]).unwrap();
    assert!(
        nobody.code != Some(0) && nobody.stderr.contains(READER),
        "{nobody:?}"
    );
}

/// New connections are refused at once, live ones wait a while, and all goes on afterwards.
fn away_for_a_moment(world: &World) {
    let sleeping = Sleeping::start(world, READER);
    world.issuer.fail(Some(503)).unwrap();
    // Its last word may still serve for a moment.
    std::thread::sleep(Duration::from_secs(3));
    refused(world, READER, &["cannot be asked", "503"]);
    let note = agent_status(world, READER)["identities"][0].to_string();
    assert!(note.contains("cannot be asked"), "{note}");
    assert_eq!(asleep(world), 1, "a moment's absence ends no session");
    world.issuer.fail(None).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    passes(world, READER);
    hoop(world, &["sessions", "kill", "--agent", READER]);
    sleeping.end(Instant::now());
}

/// What the console answers to a report that the writer was deactivated.
fn report(console: &str, secret: &str) -> String {
    let script = format!(
        "const answer = await fetch('http://{console}/events/okta/hook', {{ method: 'POST', \
           headers: {{ authorization: '{secret}' }}, body: JSON.stringify({{ data: {{ events: [ \
             {{ eventType: 'application.lifecycle.deactivate', target: [{{ id: '{WRITER}' }}] }} ] }} }}) }}); \
         console.log(answer.status)"
    );
    let mut node = std::process::Command::new("node");
    node.args(["--input-type=module", "-e", &script]);
    hoop_tests::run(&mut node, "", PATIENCE).unwrap().stdout
}

/// The report ends the session and suspends the agent, until an operator lets it go on.
fn ended_by_a_report(world: &World, console: &str, sleeping: Sleeping) {
    let since = Instant::now();
    assert_eq!(report(console, "hoop-asks-secret"), "204\n");
    let (took, said) = sleeping.end(since);
    assert!(
        took < BOUND && said.contains("its issuer reports"),
        "{took:?}: {said}"
    );
    refused(world, WRITER, &["suspended", "an operator decides"]);
    hoop(world, &["agent", "resume", WRITER]);
    passes(world, WRITER);
}

/// What the issuer reports counts at once, if it knows the secret.
fn reported(world: &World, console: &str) {
    let sleeping = Sleeping::start(world, WRITER);
    assert_eq!(report(console, "guessed"), "401\n");
    assert!(!is_suspended(world, WRITER));
    ended_by_a_report(world, console, sleeping);
    let events = world.events().unwrap();
    let refused = |event: &Value| event.to_string().contains("a hook with a wrong secret");
    assert!(events.iter().any(refused), "{events:#?}");
}

/// The worker that hears of it is another one than the worker that has the session.
fn reported_to_a_worker_that_retires(world: &World, console: &str) {
    let sleeping = Sleeping::start(world, WRITER);
    let next = world.place.path("hoop-next");
    std::fs::copy(hoop_tests::program("hoop").unwrap(), &next).unwrap();
    hoop(world, &["upgrade", "--to", &next.display().to_string()]);
    let retiring = status(world)["retiring"].clone();
    assert_eq!(retiring[0]["sessions"], 1, "{retiring:#}");
    ended_by_a_report(world, console, sleeping);
}

/// No token is in a log, a recording, a ledger, or what other processes can read.
fn nothing_leaks(world: &World) {
    let token = std::fs::read_to_string(token_file(world, READER)).unwrap();
    let signature = token.trim().rsplit('.').next().unwrap().to_owned();
    let log = world.daemon.log().unwrap();
    assert!(!log.contains("eyJ") && !log.contains("panicked"), "{log}");
    let mut folders = vec![world.place.path("state")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let bytes = std::fs::read(&path).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains(&signature), "{}", path.display());
        }
    }
    assert!(files > 10, "{files}");
    for pid in world.daemon_processes() {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        assert!(!line.contains("eyJ") && !line.contains("secret"), "{line}");
    }
}
