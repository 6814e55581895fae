//! SSH under the loop: held for people, masked as it is printed, cut when the identity ends; servers
//! that are not who they should be, and clients that mean harm.

mod client;

use std::time::{Duration, Instant};

use hoop_tests::sshd::{ACCOUNT, HOST};
use hoop_tests::{
    ASKS, PATIENCE, READER, Ran, Recording, Settings, Sshd, WRITER, Who, World, wait,
};
use serde_json::Value;

use client::Client;

/// Accounts that every Debian has, as people.
const PEOPLE: &str = r#"
[approvals]
remind = "1s"

[[approver]]
name = "ada"
user = "games"
groups = ["ops"]

[[mask]]
resource = "web"
detect = ["card"]
how = "redact"
"#;

const POLICY: &str = r#"
@id("etl-everything")
permit (principal == Agent::"etl-bot", action in Action::"ssh", resource)
unless {
    context.verb == "remove" || context has to_port && context.to_port == 7 ||
    context has line && context.line like "*ask-first*"
};
@id("etl-unknown")
permit (principal == Agent::"etl-bot", action == Action::"ssh:unknown", resource)
unless { context.command like "*ask-first*" };
@id("asks") @approvers("ops") @ttl("30s")
permit (principal == Agent::"etl-bot", action == Action::"ssh:exec", resource)
when { context.line like "*ask-first*" };
@id("asks-unknown") @approvers("ops") @ttl("30s")
permit (principal == Agent::"etl-bot", action == Action::"ssh:unknown", resource)
when { context.command like "*ask-first*" };
@id("asks-remove") @approvers("ops") @ttl("30s")
permit (principal == Agent::"etl-bot", action == Action::"ssh:sftp-write", resource)
when { context.verb == "remove" };
@id("asks-connect") @approvers("ops") @ttl("30s")
permit (principal == Agent::"etl-bot", action == Action::"ssh:forward", resource)
when { context.to_port == 7 };
"#;

fn settings() -> Settings {
    Settings {
        ssh: Some(r#"{ user = "deploy", key = { file = "FOLDER/sshd/login" } }"#),
        policies: vec![("ssh.cedar", POLICY.to_owned())],
        issuer: ASKS.to_owned(),
        more: PEOPLE.to_owned(),
        log: "info,russh=debug",
        ..Settings::default()
    }
}

/// One world for all of it, in an order: what ends the identity comes last.
#[test]
fn hosts_are_governed() {
    let mut world = World::start(settings()).expect("a world with an SSH server");
    held_for_people(&world);
    taken_back(&world);
    files_and_connections_are_asked_about_too(&world);
    masked_as_it_is_printed(&world);
    prompts_do_not_wait(&world);
    keys_are_made_anew_under_load(&world);
    nothing_of_the_clients_is_needed_or_believed(&world);
    forwards_are_refused(&world);
    clients_that_mean_harm(&world);
    another_server_in_its_place(&mut world);
    revoked(&world);
}

fn sshd(world: &World) -> &Sshd {
    world.sshd.as_ref().expect("an SSH server")
}

fn ssh(world: &World, who: Who<'_>, arguments: &[&str], input: &str) -> Ran {
    let mut command = world.ssh(who, "ssh").unwrap();
    command.args(arguments);
    hoop_tests::run(&mut command, input, PATIENCE).unwrap()
}

fn exec(world: &World, command: &str) -> Ran {
    ssh(world, Who::Agent(WRITER), &[HOST, command], "")
}

fn question(world: &World, marker: &str) -> Option<Value> {
    let list = world.hoop(&["approvals", "list", "--all", "--json"]);
    let list = list.unwrap().ok().unwrap().json_lines().unwrap();
    let about = |q: &Value| q["statement"].as_str().is_some_and(|s| s.contains(marker));
    list.into_iter().rev().find(about)
}

/// The question about it, once its client waits.
fn held(world: &World, marker: &str) -> String {
    let question = wait(marker, || {
        question(world, marker).filter(|q| q["state"] == "pending" && q["awaited"] == true)
    });
    question["question"].as_str().unwrap().to_owned()
}

/// `hoop approvals …` as the person who may.
fn ada(world: &World, arguments: &[&str]) -> Ran {
    world.approvals("games", arguments).unwrap()
}

fn held_for_people(world: &World) {
    let marker = sshd(world).home.join("approved");
    let command = format!(": ask-first one; touch {}; cat; exit 7", marker.display());
    let mut client = Client::start(world, &[HOST, &command]);
    client.say("typed while it waits\n");
    let id = held(world, "ask-first one");
    wait("the notice", || client.said().contains(&id).then_some(()));
    assert!(!marker.exists(), "it ran before anybody approved");
    ada(world, &["approve", &id]).ok().unwrap();
    let ran = client.end();
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(7), "typed while it waits\n"),
        "{}",
        ran.stderr
    );
    assert!(marker.exists());
    let recording = world.recording_of("ask-first one").unwrap();
    let kinds: Vec<_> = recording
        .events
        .iter()
        .filter_map(|e| e["event"].as_str())
        .collect();
    assert!(
        kinds.contains(&"question") && kinds.contains(&"answer"),
        "{kinds:?}"
    );

    let client = Client::start(world, &[HOST, ": ask-first two"]);
    let id = held(world, "ask-first two");
    ada(world, &["refuse", &id, "--reason", "not today"])
        .ok()
        .unwrap();
    let ran = client.end();
    assert_eq!(ran.code, Some(126), "{}", ran.stderr);
    for words in ["ada refused: not today", "approval_refused", &id] {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
}

/// A client that hangs up takes its question back.
fn taken_back(world: &World) {
    let client = Client::start(world, &[HOST, ": ask-first three"]);
    let id = held(world, "ask-first three");
    client.hang_up();
    wait("the end of the question", || {
        question(world, "ask-first three").filter(|q| q["state"] != "pending")
    });
    let late = ada(world, &["approve", &id]);
    assert_ne!(late.code, Some(0), "{}", late.stdout);
}

fn files_and_connections_are_asked_about_too(world: &World) {
    let file = sshd(world).home.join("to-remove");
    std::fs::write(&file, "x").unwrap();
    let mut sftp = world.ssh(Who::Agent(WRITER), "sftp").unwrap();
    sftp.args(["-q", "-b", "-", HOST]);
    let mut client = Client::of(sftp);
    client.say("rm to-remove\npwd\n");
    client.end_of_input();
    let id = held(world, "remove");
    assert!(file.exists());
    ada(world, &["approve", &id]).ok().unwrap();
    let ran = client.end();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(!file.exists() && ran.stdout.contains("Remote working directory"));

    let client = Client::start(world, &["-W", "127.0.0.1:7", HOST]);
    let id = held(world, "connect 127.0.0.1:7");
    ada(world, &["approve", &id]).ok().unwrap();
    // It was permitted, and nobody listens there.
    let ran = client.end();
    assert_eq!(ran.code, Some(255), "{}", ran.stderr);
}

fn masked_as_it_is_printed(world: &World) {
    const CARD: &str = "4111 1111 1111 1111";
    // Two writes, as near as a shell makes them. A busy machine may pause between them for longer than
    // the end of what was printed is held back, which then shows the first: one try of five must not.
    let pieces = "printf 'card 4111 1111 '; printf '1111 1111 end\\n'";
    for options in [&[][..], &["-tt"]] {
        let arguments = [options, &[HOST, pieces]].concat();
        let mut tries = (0..5).map(|_| ssh(world, Who::Agent(WRITER), &arguments, ""));
        assert!(
            tries.any(|ran| ran.stdout.trim_end() == "card [masked:card] end"),
            "{arguments:?}"
        );
        let whole = format!("echo 'card {CARD} end'");
        let arguments = [options, &[HOST, &whole]].concat();
        let ran = ssh(world, Who::Agent(WRITER), &arguments, "");
        assert_eq!(
            ran.stdout.trim_end(),
            "card [masked:card] end",
            "{}",
            ran.stderr
        );
    }
    let ran = exec(world, &format!("echo '{CARD}' >&2"));
    assert_eq!(ran.stderr, "[masked:card]\n");
    // Keys are masked without being asked for.
    let key = std::fs::read_to_string(sshd(world).path("login")).unwrap();
    std::fs::write(sshd(world).home.join("key"), &key).unwrap();
    let ran = exec(world, "cat key; echo after");
    let line = key.lines().nth(1).unwrap();
    assert!(
        !ran.stdout.contains(line) && ran.stdout.contains("after"),
        "{}",
        ran.stdout
    );
    // Lengths stay where a protocol says them.
    let file = sshd(world).home.join("statement");
    std::fs::write(&file, format!("paid with {CARD}.\n")).unwrap();
    let got = world.place.path("statement").display().to_string();
    for flags in [&["-q"][..], &["-q", "-O"]] {
        let mut scp = world.ssh(Who::Agent(WRITER), "scp").unwrap();
        scp.args(flags).args([&format!("{HOST}:statement"), &got]);
        hoop_tests::run(&mut scp, "", PATIENCE)
            .unwrap()
            .ok()
            .unwrap();
        let text = std::fs::read_to_string(&got).unwrap();
        assert_eq!(text, format!("paid with {}.\n", "*".repeat(CARD.len())));
    }
    // No recording holds it, in what was printed, sent or asked for.
    exec(world, &format!("cat > /dev/null; : asked with {CARD}"));
    let input = format!("typed {CARD}\n");
    ssh(
        world,
        Who::Agent(WRITER),
        &[HOST, "cat > /dev/null"],
        &input,
    );
    for session in world.sessions().unwrap() {
        let recording = Recording::read(world, &session).unwrap();
        assert!(!recording.raw.contains(CARD), "{}", recording.raw);
    }
}

/// The end of what was printed waits for more, but not long.
fn prompts_do_not_wait(world: &World) {
    let script = "printf 'name? '; read name; echo \"hello $name\"";
    let mut client = Client::start(world, &["-tt", HOST, script]);
    let asked = Instant::now();
    wait("the prompt", || {
        client.printed().contains("name? ").then_some(())
    });
    assert!(asked.elapsed() < Duration::from_secs(10));
    client.say("ada\n");
    let ran = client.end();
    assert!(ran.stdout.contains("hello ada"), "{ran:?}");
}

/// By the client every 4 MB, and by the server every 32, in both directions.
fn keys_are_made_anew_under_load(world: &World) {
    const SIZE: usize = 48 << 20;
    let log = world.place.path("rekey.log").display().to_string();
    let zeros = format!("head -c {SIZE} /dev/zero");
    for up in [true, false] {
        std::fs::remove_file(&log).ok();
        let mut shell = world.command(Who::Agent(WRITER), "sh").unwrap();
        let config = world.place.path("sshd/ssh_config").display().to_string();
        let ssh = format!("ssh -F {config} -o RekeyLimit=4M -o LogLevel=DEBUG1 -E {log} {HOST}");
        let line = match up {
            true => format!("{zeros} | {ssh} wc -c"),
            false => format!("{ssh} {zeros} | wc -c"),
        };
        shell.arg("-c").arg(&line);
        let ran = hoop_tests::run(&mut shell, "", Duration::from_secs(40));
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        let rekeyed = said.matches("rekey").count();
        let count = ran.map(|ran| ran.stdout.trim().to_owned());
        assert!(
            count.as_ref().is_ok_and(|count| *count == SIZE.to_string()),
            "{line}: {count:?} after {rekeyed}\n{}\n{}",
            tail(&said),
            tail(&world.daemon.log().unwrap()),
        );
        assert!(rekeyed > 0, "{said}");
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// Keys that no server knows and passwords that mean nothing change nothing.
fn nothing_of_the_clients_is_needed_or_believed(world: &World) {
    let mut keygen = std::process::Command::new("ssh-keygen");
    let key = world.place.path("some-key").display().to_string();
    keygen.args(["-q", "-t", "ecdsa", "-N", "", "-f", &key]);
    hoop_tests::run(&mut keygen, "", PATIENCE)
        .unwrap()
        .ok()
        .unwrap();
    let command = "id -un; echo $SSH_ORIGINAL_COMMAND";
    for options in [
        ["-o", "PreferredAuthentications=publickey", "-i", &key],
        ["-o", "PreferredAuthentications=none", "-l", "somebody"],
    ] {
        let arguments = [&options[..], &[HOST, command]].concat();
        let ran = ssh(world, Who::Agent(WRITER), &arguments, "");
        assert_eq!(ran.stdout.trim(), ACCOUNT, "{options:?}: {}", ran.stderr);
    }
    // A client that demands another kind of host key hears it from its own side, and is noted.
    let demands = [
        "-o",
        "LogLevel=INFO",
        "-o",
        "HostKeyAlgorithms=ecdsa-sha2-nistp256",
    ];
    let arguments = [&demands[..], &[HOST, "true"]].concat();
    let ran = ssh(world, Who::Agent(WRITER), &arguments, "");
    assert_eq!(ran.code, Some(255));
    assert!(
        ran.stderr.contains("no matching host key type"),
        "{}",
        ran.stderr
    );
    let noted = wait("the event", || {
        let events = world.events().unwrap();
        events
            .into_iter()
            .find(|e| e["entry"]["kind"] == "handshake_failed")
    });
    assert!(noted.to_string().contains(WRITER), "{noted}");
    // Variables that would change what a command means are not passed on.
    let mut env = world.ssh(Who::Agent(WRITER), "ssh").unwrap();
    env.args([
        "-o",
        "SendEnv=BASH_ENV LC_TEST",
        HOST,
        "echo \"[$BASH_ENV][$LC_TEST]\"",
    ]);
    env.env("BASH_ENV", "/tmp/x").env("LC_TEST", "C.UTF-8");
    let ran = hoop_tests::run(&mut env, "", PATIENCE).unwrap();
    assert_eq!(ran.stdout, "[][C.UTF-8]\n", "{}", ran.stderr);
}

fn forwards_are_refused(world: &World) {
    let socket = world.place.path("forwarded").display().to_string();
    for (options, words) in [
        (
            vec!["-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1"],
            "remote port forwarding failed",
        ),
        (vec!["-W", "127.0.0.1:9"], "administratively prohibited"),
    ] {
        let mut all = vec!["-o", "LogLevel=INFO"];
        all.extend(options);
        all.push(HOST);
        if !all.contains(&"-W") {
            all.push("true");
        }
        let ran = ssh(world, Who::Agent(READER), &all, "");
        assert_ne!(ran.code, Some(0), "{all:?}");
        assert!(ran.stderr.contains(words), "{all:?}: {}", ran.stderr);
    }
    // Agent forwarding: no socket appears at the server.
    let ran = ssh(
        world,
        Who::Agent(WRITER),
        &["-A", HOST, "echo \"[$SSH_AUTH_SOCK][$DISPLAY]\""],
        "",
    );
    assert_eq!(ran.stdout, "[][]\n", "{}", ran.stderr);
    drop(socket);
}

fn clients_that_mean_harm(world: &World) {
    let before = world.daemon_processes();
    hostile(world, WRITER, "-");
    // One that may only read sends what would change a file before it was told that it may not.
    let kept = sshd(world).home.join("inbox/kept");
    std::fs::create_dir_all(kept.parent().unwrap()).unwrap();
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(kept.parent().unwrap(), everybody).unwrap();
    std::fs::write(&kept, "as it was").unwrap();
    hostile(world, READER, kept.to_str().unwrap());
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "as it was");
    assert_eq!(world.daemon_processes(), before, "the worker died");
    assert_eq!(exec(world, "echo alive").stdout, "alive\n");
}

fn hostile(world: &World, agent: &str, file: &str) {
    let python = hoop_tests::target().unwrap().join("python/bin/python");
    let script = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("python/hostile_ssh.py");
    let mut hostile = world
        .command(Who::Agent(agent), python.to_str().unwrap())
        .unwrap();
    hostile.arg("-B").arg(script).args([HOST, ACCOUNT, file]);
    let ran = hoop_tests::run(&mut hostile, "", PATIENCE)
        .unwrap()
        .ok()
        .unwrap();
    for case in ran.json_lines().unwrap() {
        assert_eq!(case["fine"], true, "{case}");
    }
}

/// A server that shows another key is not logged in to, and the client is told which key it was.
fn another_server_in_its_place(world: &mut World) {
    let file = world.place.path("sshd/users_known_hosts");
    let right = std::fs::read_to_string(&file).unwrap();
    let wrong = format!(
        "{HOST} ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ\n"
    );
    std::fs::write(&file, wrong).unwrap();
    world.daemon.reload().unwrap();
    let logins = |world: &World| sshd(world).log().unwrap().matches("Accepted ").count();
    let before = logins(world);
    let ran = exec(world, "echo reached");
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(126), ""),
        "{}",
        ran.stderr
    );
    for words in [
        "the server cannot be believed",
        "SHA256:",
        "an operator must say by which key",
    ] {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
    assert_eq!(logins(world), before, "hoop logged in to it");
    std::fs::write(&file, right).unwrap();
    world.daemon.reload().unwrap();
    assert_eq!(exec(world, "echo reached").stdout, "reached\n");
}

/// What lives ends within the bound, at the server too, and nothing new begins.
fn revoked(world: &World) {
    let client = Client::start(world, &[HOST, "echo begun-$$; exec sleep 600"]);
    let pid = wait("the command", || {
        let printed = client.printed();
        let line = printed.lines().next()?;
        Some(line.strip_prefix("begun-")?.to_owned())
    });
    let token = world.place.path("tokens").join(WRITER);
    let token = std::fs::read_to_string(token).unwrap();
    world.issuer.revoke(WRITER, &token).unwrap();
    let since = Instant::now();
    let ran = client.end();
    assert!(
        since.elapsed() < Duration::from_secs(8),
        "{:?}",
        since.elapsed()
    );
    assert_eq!(ran.code, Some(255));
    assert!(
        ran.stderr.contains("identity no longer holds"),
        "{}",
        ran.stderr
    );
    let process = format!("/proc/{pid}");
    wait("the end of the command", || {
        (!std::path::Path::new(&process).exists()).then_some(())
    });
    let ran = exec(world, "echo again");
    assert_ne!(ran.code, Some(0), "{}", ran.stdout);
    assert!(ran.stderr.contains(WRITER), "{}", ran.stderr);
}
