//! Another build takes over under load: no session is cut, nothing passes by, and where it cannot,
//! nothing has changed.

mod clients;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hoop_tests::sshd::HOST;
use hoop_tests::{Client, PATIENCE, Ran, Settings, WRITER, Who, World, wait_within};
use serde_json::Value;

use clients::{Load, Psql, reached, recorded};

const POLICY: &str = r#"
@id("all")
permit (principal == Agent::"etl-bot", action, resource)
unless { resource is Table && resource.name == "asked" };
@id("asked-read")
permit (principal == Agent::"etl-bot", action == Action::"sql:read", resource is Table)
when { resource.name == "asked" };
@id("asked") @approvers("dba") @ttl("5m")
permit (principal == Agent::"etl-bot", action == Action::"sql:write", resource is Table)
when { resource.name == "asked" };
"#;

const PEOPLE: &str = r#"
[approvals]
remind = "1s"

[[approver]]
name = "ada"
user = "games"
groups = ["dba"]
"#;

fn settings() -> Settings {
    Settings {
        // What a transaction has just defined no catalog tells, and its columns would be masked.
        masks: Vec::new(),
        packs: Vec::new(),
        policies: vec![("all.cedar", POLICY.to_owned())],
        more: PEOPLE.to_owned(),
        ..Settings::default()
    }
}

fn status(world: &World) -> Value {
    let ran = world.hoop(&["status", "--json"]).unwrap();
    ran.json_lines().unwrap().remove(0)
}

fn worker(world: &World) -> u32 {
    status(world)["worker"]["pid"].as_u64().unwrap() as u32
}

fn retiring(world: &World) -> Vec<(u32, u64)> {
    let status = status(world);
    let of = |w: &Value| {
        (
            w["pid"].as_u64().unwrap() as u32,
            w["sessions"].as_u64().unwrap(),
        )
    };
    status["retiring"]
        .as_array()
        .unwrap()
        .iter()
        .map(of)
        .collect()
}

fn executable(pid: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// The same build at another path, so that it can be told which one runs.
fn next_build(world: &World) -> PathBuf {
    let next = world.place.path("hoop-next");
    std::fs::copy(hoop_tests::program("hoop").unwrap(), &next).unwrap();
    next
}

fn upgrade_command(world: &World, to: &Path) -> Command {
    let to = to.display().to_string();
    world
        .hoop_command(&["upgrade", "--json", "--to", &to])
        .unwrap()
}

fn upgrade(world: &World, to: &Path) -> Ran {
    hoop_tests::run(&mut upgrade_command(world, to), "", 3 * PATIENCE).unwrap()
}

fn upgraded(world: &World, to: &Path) -> Value {
    let ran = upgrade(world, to).ok();
    let ran = ran.unwrap_or_else(|why| panic!("{why}\n{}", world.daemon.log().unwrap()));
    assert_eq!(executable(world.daemon.keeper()).as_deref(), Some(to));
    ran.json_lines().unwrap().remove(0)
}

fn ssh(world: &World, command: &str) -> Client {
    let mut ssh = world.ssh(Who::Agent(WRITER), "ssh").unwrap();
    ssh.args([HOST, command]);
    Client::start(world, ssh)
}

fn ada(world: &World, arguments: &[&str]) -> Ran {
    let mut setpriv = world.place.command("outside", None, "setpriv").unwrap();
    setpriv.args([
        "--reuid",
        "games",
        "--regid",
        "nogroup",
        "--clear-groups",
        "--",
    ]);
    setpriv
        .arg(hoop_tests::program("hoop").unwrap())
        .args(arguments);
    setpriv.env("HOOP_CONFIG", &world.state.config);
    hoop_tests::run(&mut setpriv, "", PATIENCE).unwrap()
}

fn held(world: &World, marker: &str) -> String {
    wait_within(PATIENCE, marker, || {
        let list = world.hoop(&["approvals", "list", "--json"]).unwrap();
        let about = |q: &Value| {
            q["statement"].as_str().is_some_and(|s| s.contains(marker)) && q["awaited"] == true
        };
        let list = list.ok().unwrap().json_lines().unwrap();
        let question = list.into_iter().find(about)?;
        Some(question["question"].as_str().unwrap().to_owned())
    })
}

/// Statements that the server runs now, like this one.
fn running(world: &World, like: &str) -> usize {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '{like}' AND state = 'active' AND pid <> pg_backend_pid()"
    );
    world.postgres.ask(&sql).unwrap().parse().unwrap()
}

#[test]
fn another_build_takes_over_under_load_and_no_session_is_cut() {
    const IN_TRANSACTIONS: usize = 44;
    let settings = Settings {
        ssh: Some(r#"{ user = "deploy", key = { file = "FOLDER/sshd/login" } }"#),
        ..settings()
    };
    let mut world = World::start(settings).unwrap();
    world
        .postgres
        .ask("SET ROLE orders_app; CREATE TABLE asked (note text)")
        .unwrap();
    let (keeper, before) = (world.daemon.keeper(), worker(&world));
    let next = next_build(&world);

    let mut sessions: Vec<Psql> = (0..IN_TRANSACTIONS).map(|_| Psql::start(&world)).collect();
    for (number, psql) in sessions.iter_mut().enumerate() {
        psql.say("BEGIN");
        psql.say("CREATE TEMP TABLE mine (n int)");
        psql.say(&format!("INSERT INTO mine VALUES ({number})"));
        assert_eq!(psql.ask("SELECT 'begun'"), "begun");
    }
    let mut killed = Psql::start(&world);
    assert_eq!(killed.ask("SELECT 'to be killed'"), "to be killed");
    let waits = Client::psql(
        &world,
        &["INSERT INTO asked VALUES ('kept') RETURNING note"],
    );
    let refused = Client::psql(
        &world,
        &["INSERT INTO asked VALUES ('not kept') RETURNING note"],
    );
    let (question, other) = (held(&world, "'kept'"), held(&world, "'not kept'"));
    let cancelled = Client::psql(&world, &["SELECT 'cancelled' FROM pg_sleep(600)"]);
    let long = Client::psql(&world, &["SELECT 'slept' FROM pg_sleep(75)"]);
    let mut command = ssh(&world, "echo begun; sleep 75; echo done");
    let mut is_run = || {
        let ended = command.child.try_wait().unwrap();
        assert!(ended.is_none(), "{ended:?}: {}", command.said());
        let ran = world.hoop(&["status", "--json"]).unwrap();
        ran.stdout.contains("\"web\"")
    };
    let until = Instant::now() + PATIENCE;
    while !is_run() {
        assert!(Instant::now() < until, "the command does not run");
        std::thread::sleep(Duration::from_millis(100));
    }
    wait_within(PATIENCE, "the long queries", || {
        (running(&world, "SELECT %pg_sleep%") == 2).then_some(())
    });
    let live = status(&world)["sessions"].as_array().unwrap().len();
    assert_eq!(live, IN_TRANSACTIONS + 6);

    let load = Load::start(&world, 200);
    std::thread::sleep(Duration::from_secs(2));
    let began = Instant::now();
    let answer = upgraded(&world, &next);
    println!("took over within {:?}: {answer}", began.elapsed());
    std::thread::sleep(Duration::from_secs(3));
    let load = load.end();

    // Who runs now.
    assert_eq!(answer["keeper"], keeper);
    assert_eq!(answer["retiring"], serde_json::json!([before]));
    let after = worker(&world);
    assert_ne!(after, before);
    assert_eq!(executable(after), Some(next.clone()));
    assert_eq!(
        executable(before),
        Some(hoop_tests::program("hoop").unwrap())
    );
    assert_eq!(retiring(&world), [(before, live as u64)]);
    let now = status(&world);
    assert_eq!(now["well"], true, "{now:#}");
    assert_eq!(now["upgrade"]["from"], env!("CARGO_PKG_VERSION"));

    // Nobody was turned away, and nothing reached the server but what was recorded.
    let good: BTreeSet<u64> = load["good"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_u64)
        .collect();
    println!(
        "{} connections in {} s, {:.0} a second of 200; the slowest {} s; not served: {}",
        good.len(),
        load["seconds"],
        good.len() as f64 / load["seconds"].as_f64().unwrap(),
        load["slowest"],
        load["bad"]
    );
    assert!(good.len() > 50, "{load}");
    assert_eq!(load["bad"], serde_json::json!({}));
    let (reached, recorded) = (reached(&world), recorded(&world));
    assert_eq!(reached, good);
    assert!(
        reached.is_subset(&recorded),
        "{:?}",
        reached.difference(&recorded)
    );

    // What had begun goes on, each in its own way.
    for (number, psql) in sessions.iter_mut().enumerate() {
        assert_eq!(psql.ask("SELECT n FROM mine"), number.to_string());
        psql.say("COMMIT");
        assert_eq!(psql.ask("SELECT 'ended'"), "ended");
    }
    ada(&world, &["approvals", "approve", &question])
        .ok()
        .unwrap();
    let ran = waits.end();
    assert_eq!(
        (ran.code, ran.stdout.trim()),
        (Some(0), "kept\nINSERT 0 1"),
        "{}",
        ran.stderr
    );
    ada(
        &world,
        &["approvals", "refuse", &other, "--reason", "not today"],
    )
    .ok()
    .unwrap();
    let ran = refused.end();
    assert!(ran.stderr.contains("not today"), "{}", ran.stderr);
    // The request to cancel arrives at the new worker.
    cancelled.interrupt();
    let ran = cancelled.end();
    assert!(ran.stderr.contains("57014"), "{}", ran.stderr);
    let list = status(&world);
    let session = list["sessions"].as_array().unwrap().iter().find(|session| {
        let id = session["session"].as_str().unwrap();
        let replay = world.hoop(&["replay", id, "--json"]).unwrap();
        replay.stdout.contains("to be killed")
    });
    let session = session.unwrap()["session"].as_str().unwrap();
    let kill = world.hoop(&["sessions", "kill", session, "--reason", "seen enough"]);
    kill.unwrap().ok().unwrap();
    killed.say("SELECT 1");
    let (_, said) = killed.end();
    assert!(said.contains("seen enough"), "{said}");
    // It has slept for less than others had to be asked in.
    let ran = long.end_within(2 * PATIENCE);
    assert_eq!(
        (ran.code, ran.stdout.trim()),
        (Some(0), "slept"),
        "{}",
        ran.stderr
    );
    let ran = command.end_within(2 * PATIENCE);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "begun\ndone\n"),
        "{}",
        ran.stderr
    );
    let ended: Vec<_> = sessions.into_iter().map(Psql::end).collect();
    assert!(
        ended
            .iter()
            .all(|(code, said)| *code == Some(0) && said.is_empty()),
        "{ended:?}"
    );

    // With the last session the old worker ends.
    wait_within(PATIENCE, "the end of the old worker", || {
        retiring(&world).is_empty().then_some(())
    });
    assert_eq!(executable(before), None);
    let events = world.events().unwrap();
    for event in ["upgrade_begun", "upgraded", "worker_ended"] {
        let is = |line: &&Value| line.to_string().contains(&format!("\"{event}\""));
        assert!(events.iter().any(|line| is(&line)), "{event}: {events:#?}");
    }
    let log = world.daemon.log().unwrap();
    assert!(!log.contains("panicked"), "{log}");
    let recording = world.recording_of("SELECT n FROM mine").unwrap();
    assert_eq!(
        recording.verified.code,
        Some(0),
        "{}",
        recording.verified.stdout
    );
    assert_eq!(world.daemon.stop().unwrap(), Some(0));
}

#[test]
fn upgrades_that_do_not_fit_change_nothing_and_others_go_both_ways() {
    let mut world = World::start(settings()).unwrap();
    let first = hoop_tests::program("hoop").unwrap();
    let next = next_build(&world);
    let one = worker(&world);
    let mut oldest = Psql::start(&world);
    assert_eq!(oldest.ask("SELECT 'oldest'"), "oldest");

    // No hoop, nobody's business, and a configuration that is not in force.
    let ran = upgrade(&world, Path::new("/bin/true"));
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
    assert!(ran.stderr.contains("is it a hoop"), "{}", ran.stderr);
    assert!(ran.stderr.contains("nothing has changed"), "{}", ran.stderr);
    let ran = ada(&world, &["upgrade"]);
    assert!(
        ran.code == Some(1) && ran.stderr.contains("only root"),
        "{}",
        ran.stderr
    );
    let policy = world.place.path("etc/policies/more.cedar");
    std::fs::write(&policy, "// Not in force yet.\n").unwrap();
    let ran = upgrade(&world, &next);
    assert!(
        ran.code == Some(1) && ran.stderr.contains("reload first"),
        "{}",
        ran.stderr
    );
    std::fs::remove_file(&policy).unwrap();
    let config = std::fs::read_to_string(&world.state.config).unwrap();
    std::fs::write(&world.state.config, config.clone() + "\n[later]\nkey = 1\n").unwrap();
    let ran = upgrade(&world, &next);
    assert!(
        ran.code == Some(1) && ran.stderr.contains("not in force"),
        "{}",
        ran.stderr
    );
    std::fs::write(&world.state.config, config).unwrap();
    let ran = world.hoop(&["upgrade", "--check"]).unwrap();
    assert!(
        ran.code == Some(0) && ran.stdout.contains("could take over"),
        "{}",
        ran.stderr
    );
    assert_eq!(executable(world.daemon.keeper()), Some(first.clone()));
    assert_eq!((worker(&world), retiring(&world)), (one, Vec::new()));
    assert_eq!(oldest.ask("SELECT 'still here'"), "still here");

    // There, and back again, with sessions of both.
    upgraded(&world, &next);
    let two = worker(&world);
    let mut older = Psql::start(&world);
    assert_eq!(older.ask("SELECT 'older'"), "older");
    upgraded(&world, &first);
    let three = worker(&world);
    assert!(three != two && two != one);
    assert_eq!(retiring(&world), [(one, 1), (two, 1)]);
    assert_eq!(oldest.ask("SELECT 'oldest'"), "oldest");
    assert_eq!(older.ask("SELECT 'older'"), "older");

    // The rules of now hold for all of them.
    std::fs::write(
        &policy,
        "@id(\"no-scratch\") forbid (principal, action, resource is Table) when { resource.name == \"scratch\" };",
    )
    .unwrap();
    world.daemon.reload().unwrap();
    for psql in [&mut oldest, &mut older] {
        wait_within(PATIENCE, "the new rule", || {
            let texts = world.hoop(&["status", "--json"]).unwrap().stdout;
            texts.contains("\"epoch\":2").then_some(())
        });
        psql.say("SELECT count(*) FROM scratch");
        assert_eq!(psql.ask("SELECT 'refused'"), "refused");
    }
    // One by name, one by its agent's suspension; each worker ends with its last session.
    let sessions = status(&world)["sessions"].as_array().unwrap().clone();
    let id = sessions[0]["session"].as_str().unwrap();
    let kill = world.hoop(&["sessions", "kill", id, "--reason", "enough"]);
    kill.unwrap().ok().unwrap();
    wait_within(PATIENCE, "the end of one worker", || {
        (retiring(&world).len() == 1).then_some(())
    });
    let suspend = world.hoop(&["agent", "suspend", WRITER, "--reason", "odd"]);
    suspend.unwrap().ok().unwrap();
    wait_within(PATIENCE, "the end of the other", || {
        retiring(&world).is_empty().then_some(())
    });
    for psql in [oldest, older] {
        let (_, said) = psql.end();
        assert!(said.contains("no-scratch"), "{said}");
    }
    let events = world.events().unwrap();
    let refused = events
        .iter()
        .filter(|e| e.to_string().contains("upgrade_refused"));
    assert_eq!(refused.count(), 3, "{events:#?}");
    assert_eq!(world.daemon.stop().unwrap(), Some(0));
    assert!(world.daemon_processes().is_empty());
}

#[test]
fn a_keeper_killed_in_the_middle_of_an_upgrade_lets_nothing_out() {
    let mut world = World::start(settings()).unwrap();
    let next = next_build(&world);
    let trying = |world: &World| {
        let of = |pid: &String| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let rehearses = |pid: &String| String::from_utf8_lossy(&of(pid)).contains("--rehearse");
        world.daemon_processes().iter().any(rehearses)
    };
    for became in [false, true] {
        let mut session = Psql::start(&world);
        assert_eq!(session.ask("SELECT 'before'"), "before");
        let keeper = world.daemon.keeper();
        let mut command = upgrade_command(&world, &next);
        let mut upgrading = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let until = Instant::now() + 2 * PATIENCE;
        while !(if became {
            executable(keeper).as_ref() == Some(&next)
        } else {
            trying(&world)
        }) {
            assert!(Instant::now() < until, "the upgrade did not begin");
        }
        world.daemon.kill_keeper().unwrap();
        assert!(!upgrading.wait().unwrap().success());
        session.say("SELECT 'after'");
        let (code, _) = session.end();
        assert_ne!(code, Some(0), "the session went on without hoop");
        let ran = world
            .psql(Who::Agent(WRITER), &["-c", "SELECT 'leaked'"], "")
            .unwrap();
        assert!(
            ran.code != Some(0) && !ran.stdout.contains("leaked"),
            "{}",
            ran.stdout
        );
        assert!(ran.stderr.contains("Connection refused"), "{}", ran.stderr);
        wait_within(PATIENCE, "the end of all of it", || {
            world.daemon_processes().is_empty().then_some(())
        });
        world.start_daemon().unwrap();
        let ran = world
            .psql(Who::Agent(WRITER), &["-c", "SELECT 'back'"], "")
            .unwrap();
        assert_eq!(ran.stdout, "back\n", "{}", ran.stderr);
    }
}
