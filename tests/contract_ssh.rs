//! The contract suite, SSH: what real clients see through hoop is what they see past it, and what
//! they did is in recordings that verify.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use hoop_tests::sshd::{ACCOUNT, HOST};
use hoop_tests::{PATIENCE, READER, Ran, Recording, Settings, Sshd, WRITER, Who, World};
use serde_json::Value;

/// The writer may do anything; the reader reads files.
const POLICY: &str = r#"
@id("etl-everything")
permit (principal == Agent::"etl-bot", action in Action::"ssh", resource);
@id("etl-commands")
permit (principal == Agent::"etl-bot", action == Action::"ssh:unknown", resource);
"#;

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let settings = Settings {
            ssh: Some(r#"{ user = "deploy", key = { file = "FOLDER/sshd/login" } }"#),
            policies: vec![("ssh.cedar", POLICY.to_owned())],
            ..Settings::default()
        };
        World::start(settings).expect("a world with an SSH server")
    })
}

fn sshd() -> &'static Sshd {
    world().sshd.as_ref().expect("an SSH server")
}

fn run(who: Who<'_>, program: &str, arguments: &[&str], input: &str) -> Ran {
    let mut command = world().ssh(who, program).unwrap();
    command.args(arguments);
    hoop_tests::run(&mut command, input, PATIENCE).unwrap()
}

/// Both ways; output, errors and exit status must be equal.
fn same(program: &str, arguments: &[&str], input: &str) -> Ran {
    let direct = run(Who::Direct, program, arguments, input);
    let through = run(Who::Agent(WRITER), program, arguments, input);
    let what = format!("{program} {arguments:?}");
    assert_eq!(through.stdout, direct.stdout, "{what}\n{}", through.stderr);
    assert_eq!(through.stderr, direct.stderr, "errors of {what}");
    assert_eq!(through.code, direct.code, "exit status of {what}");
    through
}

fn exec(command: &str, input: &str) -> Ran {
    same("ssh", &[HOST, command], input)
}

fn file(name: &str) -> PathBuf {
    world().place.path(name)
}

fn recording_of(text: &str) -> Recording {
    world().recording_of(text).unwrap()
}

fn events<'r>(recording: &'r Recording, kind: &str) -> Vec<&'r Value> {
    let all = recording.events.iter();
    all.filter(|event| event["event"] == kind).collect()
}

#[test]
fn commands_print_fail_and_end_as_they_do_without_hoop() {
    let ran = exec("echo out; echo err >&2; exit 3", "");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), "out\n"));
    exec("cat", "what is typed\ncomes back\n");
    exec("kill -TERM $$", "");
    exec("printf '\\000\\377\\r\\n'; tr a-z A-Z", "lower");
    exec("exec 1>&-; sleep 0.1; echo late >&2", "");
    // Both ends have said all before it is known how the command ended.
    exec("exec 1>&- 2>&-; sleep 0.5; exit 9", "");
    exec("echo \"$LC_HOOP\"; id -un; pwd", "");
    let recording = recording_of("echo out; echo err >&2; exit 3");
    assert_eq!(recording.verified.code, Some(0));
    assert_eq!(recording.session["protocol"], "ssh");
    assert_eq!(recording.session["login"], ACCOUNT);
    let output = events(&recording, "output");
    assert!(
        output
            .iter()
            .any(|o| o["stream"] == "stdout" && o["text"] == "out\n")
            && output
                .iter()
                .any(|o| o["stream"] == "stderr" && o["text"] == "err\n"),
        "{output:#?}"
    );
    assert_eq!(events(&recording, "exit")[0]["status"], 3);
}

#[test]
fn a_silent_command_is_kept_alive() {
    let alive = ["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=2"];
    let arguments = [&alive[..], &[HOST, "sleep 5; echo still here"]].concat();
    let ran = run(Who::Agent(WRITER), "ssh", &arguments, "");
    assert_eq!(ran.stdout, "still here\n", "{}", ran.stderr);
}

#[test]
fn a_terminal_is_a_terminal() {
    same(
        "ssh",
        &["-tt", HOST, "tty | sed s/[0-9]*$/N/; stty size; echo $TERM"],
        "",
    );
}

#[test]
fn what_is_typed_into_a_shell_is_recorded_and_can_be_played() {
    let input = "echo marker-$((40+2))\nexit 5\n";
    let ran = run(Who::Agent(WRITER), "ssh", &["-tt", HOST], input);
    assert_eq!(ran.code, Some(5), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("marker-42"));
    let recording = recording_of("interactive shell");
    let typed: String = events(&recording, "input")
        .iter()
        .filter_map(|e| e["text"].as_str())
        .collect();
    assert!(typed.contains("exit 5"), "{typed}");
    let id = recording.session["session"].as_str().unwrap();
    let cast = world()
        .hoop(&["replay", id, "--cast"])
        .unwrap()
        .ok()
        .unwrap();
    assert!(
        cast.stdout.starts_with("{\"version\":2,"),
        "{}",
        cast.stdout
    );
    assert!(cast.stdout.contains("marker-42"));
    let play = ["replay", id, "--play", "--speed", "1000"];
    let played = world().hoop(&play).unwrap().ok().unwrap();
    assert!(played.stdout.contains("marker-42"));
}

#[test]
fn much_passes_in_both_directions_whole() {
    let count = 48 << 20;
    let script = format!("head -c {count} /dev/zero | tr '\\0' x");
    let command = |who, script: &str| {
        let mut ssh = world().ssh(who, "ssh").unwrap();
        ssh.arg(HOST).arg(script);
        ssh
    };
    let mut down = command(Who::Agent(WRITER), &script);
    let out = down.stdout(Stdio::piped()).output().unwrap();
    assert_eq!(out.stdout.len(), count);
    assert!(out.stdout.iter().all(|b| *b == b'x'));
    // A filter whose output is read slowly: both directions are full at once.
    let shell = world().command(Who::Agent(WRITER), "sh").unwrap();
    let mut shell = shell;
    shell.arg("-c").arg(format!(
        "{script} | ssh -F {} {HOST} cat | (sleep 2; sha256sum)",
        file("sshd/ssh_config").display()
    ));
    let ran = hoop_tests::run(&mut shell, "", PATIENCE * 3).unwrap();
    let mut expected = Command::new("sh");
    expected.arg("-c").arg(format!("{script} | sha256sum"));
    let expected = hoop_tests::run(&mut expected, "", PATIENCE).unwrap();
    assert_eq!(ran.stdout, expected.stdout, "{}", ran.stderr);
}

#[test]
fn files_come_and_go_by_sftp_and_scp() {
    let content: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
    std::fs::write(file("sent"), &content).unwrap();
    let sent = file("sent").display().to_string();
    let got = file("got").display().to_string();
    for flags in [&[][..], &["-O"]] {
        let run_scp = |arguments: &[&str]| {
            let all = [flags, &["-q"], arguments].concat();
            let ran = run(Who::Agent(WRITER), "scp", &all, "");
            assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        };
        std::fs::remove_file(sshd().home.join("kept")).ok();
        std::fs::remove_file(file("got")).ok();
        run_scp(&[&sent, &format!("{HOST}:kept")]);
        let kept = std::fs::read_to_string(sshd().home.join("kept")).unwrap();
        assert!(kept == content);
        run_scp(&[&format!("{HOST}:kept"), &got]);
        assert!(std::fs::read_to_string(file("got")).unwrap() == content);
    }
    let batch = format!(
        "pwd\nmkdir d\ncd d\nput {sent} a\nrename a b\nls\nget b {got}\nrm b\ncd ..\nrmdir d\n"
    );
    same("sftp", &["-q", "-b", "-", HOST], &batch);
    let recording = recording_of(&format!("open for writing {}/d/a", sshd().home.display()));
    let transfers = events(&recording, "transfer");
    let digest = hoop_tests::run(Command::new("sha256sum").arg(&sent), "", PATIENCE).unwrap();
    let digest = digest.stdout.split(' ').next().unwrap().to_owned();
    let flows: Vec<_> = transfers
        .iter()
        .flat_map(|t| [&t["read"], &t["written"]])
        .filter(|f| f["bytes"] != 0)
        .collect();
    assert_eq!(flows.len(), 2, "{transfers:#?}");
    assert!(
        flows.iter().all(|f| f["sha256"] == digest.as_str()),
        "{flows:#?}"
    );
    assert_eq!(recording.verified.code, Some(0));
}

#[test]
fn rsync_and_git_work() {
    let tree = file("tree");
    std::fs::create_dir_all(tree.join("below")).unwrap();
    for n in 0..200 {
        std::fs::write(tree.join(format!("below/{n}")), format!("content {n}")).unwrap();
    }
    let ssh = format!("ssh -F {}", file("sshd/ssh_config").display());
    let run_as_agent = |program: &str, arguments: &[&str]| {
        let mut command = world().command(Who::Agent(WRITER), program).unwrap();
        command.args(arguments).env("GIT_SSH_COMMAND", &ssh);
        command
            .current_dir(&tree)
            .env("HOME", &world().place.folder);
        let ran = hoop_tests::run(&mut command, "", PATIENCE).unwrap();
        assert_eq!(ran.code, Some(0), "{program} {arguments:?}\n{}", ran.stderr);
        ran
    };
    let from = format!("{}/", tree.display());
    run_as_agent(
        "rsync",
        &["-a", "-e", &ssh, &from, &format!("{HOST}:copy/")],
    );
    let copied = std::fs::read_to_string(sshd().home.join("copy/below/199")).unwrap();
    assert_eq!(copied, "content 199");
    exec("git init -q --bare repo.git", "");
    run_as_agent("git", &["init", "-q", "-b", "main"]);
    run_as_agent("git", &["add", "."]);
    let who = ["-c", "user.name=x", "-c", "user.email=x@example.org"];
    run_as_agent("git", &[&who[..], &["commit", "-q", "-m", "one"]].concat());
    let remote = format!("{HOST}:repo.git");
    run_as_agent("git", &["push", "-q", &remote, "main"]);
    let listed = run_as_agent("git", &["ls-remote", &remote]);
    assert!(listed.stdout.contains("refs/heads/main"));
}

/// A connection that others share, until it is dropped.
struct Master {
    socket: String,
    process: Child,
}

impl Master {
    fn open(name: &str) -> Self {
        let socket = file(name).display().to_string();
        let mut master = world().ssh(Who::Agent(WRITER), "ssh").unwrap();
        master.args(["-M", "-N", "-S", &socket, HOST]);
        let process = master.stdin(Stdio::null()).spawn().unwrap();
        for _ in 0..200 {
            if std::path::Path::new(&socket).exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        Self { socket, process }
    }

    fn exec(&self, script: &str) -> Ran {
        let arguments = ["-S", &self.socket, HOST, script];
        run(Who::Agent(WRITER), "ssh", &arguments, "")
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        // Of a test that fails, too, which must not fail a second time here.
        if let Ok(mut ssh) = world().ssh(Who::Agent(WRITER), "ssh") {
            ssh.args(["-S", &self.socket, "-O", "exit", HOST]);
            let _ = hoop_tests::run(&mut ssh, "", PATIENCE);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn one_connection_carries_many_channels() {
    let master = Master::open("control");
    std::thread::scope(|threads| {
        for n in 0..20 {
            let master = &master;
            threads.spawn(move || {
                let ran = master.exec(&format!("sleep 0.2; echo channel {n}; exit {n}"));
                assert_eq!(ran.stdout, format!("channel {n}\n"), "{}", ran.stderr);
                assert_eq!(ran.code, Some(n), "{}", ran.stderr);
            });
        }
    });
    // Each channel has a recording of its own.
    let recording = recording_of("echo channel 7;");
    assert_eq!(events(&recording, "request").len(), 1);
}

/// A client on a shared connection closes its channel before it has heard the status.
#[test]
fn no_status_of_many_short_commands_is_lost() {
    let master = Master::open("short");
    std::thread::scope(|threads| {
        for _ in 0..8 {
            let master = &master;
            threads.spawn(move || {
                for n in 0..25 {
                    let ran = master.exec("true");
                    assert_eq!(ran.code, Some(0), "{n}: {}", ran.stderr);
                }
            });
        }
    });
}

/// Twenty hosts that are one: modules, files and commands by way of one connection with many
/// channels, and what they change is there.
#[test]
fn ansible_works_with_twenty_forks() {
    let hosts: String = (0..20)
        .map(|n| format!("h{n} ansible_host={HOST}\n"))
        .collect();
    let folder = file("ansible");
    std::fs::create_dir_all(&folder).unwrap();
    let inventory = folder.join("hosts");
    std::fs::write(&inventory, hosts).unwrap();
    let python = hoop_tests::target().unwrap().join("python/bin/python");
    let mut ansible = world()
        .command(Who::Agent(WRITER), python.to_str().unwrap())
        .unwrap();
    let arguments = format!(
        "-F {} -o ControlMaster=auto -o ControlPersist=5s",
        file("sshd/ssh_config").display()
    );
    let written = "dest=~/by-{{ inventory_hostname }} content=x";
    ansible
        .args(["-m", "ansible", "adhoc", "all", "-f", "20", "-i"])
        .arg(&inventory)
        .args(["-e", "ansible_python_interpreter=/usr/bin/python3"])
        .args(["-m", "copy", "-a", written])
        .env("ANSIBLE_SSH_ARGS", arguments)
        .env("ANSIBLE_LOCAL_TEMP", folder.join("local"))
        .env("ANSIBLE_SSH_CONTROL_PATH_DIR", folder.join("control"))
        .env("ANSIBLE_NOCOLOR", "1")
        .env("HOME", &folder)
        .env("LC_ALL", "C.UTF-8");
    let ran = hoop_tests::run(&mut ansible, "", PATIENCE * 2).unwrap();
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    for n in 0..20 {
        let path = sshd().home.join(format!("by-h{n}"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "x", "{path:?}");
    }
}

/// The lines of known hosts that are no authority's and no comment.
fn plain(known: &str) -> String {
    let text = std::fs::read_to_string(known).unwrap();
    let plain = text.lines().filter(|line| !line.starts_with(['@', '#']));
    plain.map(|line| format!("{line}\n")).collect()
}

#[test]
fn other_clients_work_too() {
    let known = file("known_hosts").display().to_string();
    let python = hoop_tests::target().unwrap().join("python/bin/python");
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("python/through_paramiko.py");
    let mut paramiko = world()
        .command(Who::Agent(WRITER), python.to_str().unwrap())
        .unwrap();
    // Neither of the others knows lines of authorities.
    let plain_known = file("plain_known_hosts").display().to_string();
    std::fs::write(&plain_known, plain(&known)).unwrap();
    paramiko.arg("-B").arg(script);
    paramiko.args([HOST, ACCOUNT, &plain_known]);
    let ran = hoop_tests::run(&mut paramiko, "", PATIENCE).unwrap();
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let seen: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(seen["exec"], serde_json::json!(["out\n", "err\n", 4]));
    assert_eq!(seen["file"], "by paramiko");

    let home = file("dropbear-home");
    std::fs::create_dir_all(home.join(".ssh")).unwrap();
    // dbclient knows no certificates: of hoop it knows the plain key.
    std::fs::write(home.join(".ssh/known_hosts"), plain(&known)).unwrap();
    let mut dbclient = world().command(Who::Agent(WRITER), "dbclient").unwrap();
    dbclient
        .env("HOME", &home)
        .args(["-T", &format!("{ACCOUNT}@{HOST}")]);
    dbclient.arg("echo by dropbear; exit 6");
    let ran = hoop_tests::run(&mut dbclient, "", PATIENCE).unwrap();
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(6), "by dropbear\n"),
        "{}",
        ran.stderr
    );

    // plink knows the plain key by its fingerprint.
    let text = plain(&known);
    std::fs::write(file("plain-key"), text.split_once(' ').unwrap().1).unwrap();
    let mut keygen = Command::new("ssh-keygen");
    keygen.arg("-lf").arg(file("plain-key"));
    let shown = hoop_tests::run(&mut keygen, "", PATIENCE)
        .unwrap()
        .ok()
        .unwrap();
    let fingerprint = shown.stdout.split(' ').nth(1).unwrap().to_owned();
    let mut plink = world().command(Who::Agent(WRITER), "plink").unwrap();
    plink.env("HOME", &home);
    plink.args(["-batch", "-ssh", "-no-antispoof", "-hostkey", &fingerprint]);
    plink.args([&format!("{ACCOUNT}@{HOST}"), "echo by plink; exit 7"]);
    let ran = hoop_tests::run(&mut plink, "", PATIENCE).unwrap();
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(7), "by plink\n"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_users_own_conflicting_line_changes_nothing() {
    // The server's own key stands in the user's known hosts, and hoop's authority in the system's.
    let users = std::fs::read_to_string(file("sshd/users_known_hosts")).unwrap();
    let system = std::fs::read_to_string(file("known_hosts")).unwrap();
    assert!(users.starts_with(HOST) && system.starts_with("@cert-authority"));
    exec("true", "");
    // Without hoop's lines a strict client refuses hoop.
    let options = ["-o", "GlobalKnownHostsFile=/dev/null", HOST, "true"];
    let ran = run(Who::Agent(WRITER), "ssh", &options, "");
    assert_eq!(ran.code, Some(255), "{}", ran.stderr);
}

#[test]
fn what_is_not_permitted_is_refused_with_words_and_recorded() {
    let ran = run(
        Who::Agent(READER),
        "ssh",
        &[HOST, "no-such-program --marker"],
        "typed\n",
    );
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(126), ""),
        "{}",
        ran.stderr
    );
    let line = ran.stderr.lines().last().unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["code"], "not_permitted", "{}", ran.stderr);
    assert!(ran.stderr.contains(READER), "{}", ran.stderr);
    let recording = recording_of("no-such-program --marker");
    assert_eq!(recording.statements()[0].verdict, "refuse");
    assert!(!sshd().log().unwrap().contains("no-such-program"));

    let ran = run(Who::Agent(READER), "ssh", &["-tt", HOST], "id\n");
    assert_eq!(ran.code, Some(126), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains("ssh:shell"), "{}", ran.stderr);
}

#[test]
fn files_are_read_and_not_written_by_who_may_only_read() {
    let home = sshd().home.clone();
    std::fs::write(home.join("public"), "for all\n").unwrap();
    std::fs::create_dir_all(home.join(".ssh")).unwrap();
    std::fs::write(home.join(".ssh/id_ed25519"), "secret\n").unwrap();
    let got = file("reader-got").display().to_string();
    let scp = |arguments: &[&str]| run(Who::Agent(READER), "scp", arguments, "");
    let ran = scp(&["-q", &format!("{HOST}:public"), &got]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for flags in [&["-q"][..], &["-q", "-O"]] {
        let from = format!("{HOST}:.ssh/id_ed25519");
        let secret = format!("{got}-secret");
        let ran = scp(&[flags, &[from.as_str(), secret.as_str()]].concat());
        assert_ne!(ran.code, Some(0));
        assert!(ran.stderr.contains("id_ed25519 on"), "{}", ran.stderr);
        assert!(!std::path::Path::new(&secret).exists());
        let to = format!("{HOST}:written");
        let ran = scp(&[flags, &[got.as_str(), to.as_str()]].concat());
        assert_ne!(ran.code, Some(0));
        assert!(ran.stderr.contains("written on"), "{}", ran.stderr);
        assert!(!home.join("written").exists());
    }
    // One refusal among what is permitted: the session goes on.
    let batch = "-rm public\n-mkdir d\nls public\n";
    let ran = run(Who::Agent(READER), "sftp", &["-q", "-b", "-", HOST], batch);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("public") && home.join("public").exists());
    assert!(
        ran.stderr.to_lowercase().contains("permission denied"),
        "{}",
        ran.stderr
    );
}

#[test]
fn connections_through_a_host_are_decided() {
    let options = ["-o", "LogLevel=INFO", "-W", "127.0.0.1:1", HOST];
    let ran = run(Who::Agent(READER), "ssh", &options, "");
    assert!(
        ran.stderr.contains("administratively prohibited"),
        "{}",
        ran.stderr
    );
    let recording = recording_of("connect 127.0.0.1:1");
    assert_eq!(recording.statements()[0].verdict, "refuse");
    // Where it is permitted, bytes pass as they are.
    let issuer = world().issuer.url().split_once("://").unwrap().1;
    let place = issuer.split('/').next().unwrap();
    let request = "GET /nowhere HTTP/1.0\r\n\r\n";
    let ran = run(Who::Agent(WRITER), "ssh", &["-W", place, HOST], request);
    assert!(ran.stdout.starts_with("HTTP/1."), "{ran:?}");
    assert!(ran.stdout.contains("GET on /nowhere"), "{ran:?}");
    // A resource is not reached past hoop, whatever rules say.
    let database = "db.prod.internal:5432";
    let ran = run(Who::Agent(WRITER), "ssh", &["-W", database, HOST], "");
    assert_eq!(ran.code, Some(255), "{}", ran.stderr);
    let recording = recording_of(&format!("connect {database}"));
    assert_eq!(recording.statements()[0].verdict, "refuse");
    assert!(recording.raw.contains("hoop/governed"), "{}", recording.raw);
}

#[test]
fn a_jump_to_a_governed_host_is_governed_there() {
    let address = world().place.address(30).to_string();
    let alias = format!("HostKeyAlias={HOST}");
    let jump = |who, command: &str| {
        let arguments = ["-o", &alias, "-J", HOST, &address, command];
        run(who, "ssh", &arguments, "")
    };
    let ran = jump(Who::Agent(WRITER), "echo by way of; id -un");
    let seen = format!("by way of\n{ACCOUNT}\n");
    assert_eq!((ran.code, &ran.stdout), (Some(0), &seen), "{}", ran.stderr);
    let recording = recording_of("echo by way of");
    assert_eq!(recording.session["protocol"], "ssh");
    let ran = jump(Who::Agent(READER), "no-such-program --inside");
    assert_eq!(ran.code, Some(126), "{}", ran.stderr);
    assert!(ran.stderr.contains(READER), "{}", ran.stderr);
    // A host's own loopback is that host.
    for own in ["127.0.0.1", "localhost"] {
        let command = format!("echo by way of {own}");
        let arguments = ["-o", &alias, "-J", HOST, own, &command];
        let ran = run(Who::Agent(WRITER), "ssh", &arguments, "");
        let seen = format!("by way of {own}\n");
        assert_eq!((ran.code, &ran.stdout), (Some(0), &seen), "{}", ran.stderr);
        let recording = recording_of(&command);
        assert_eq!(recording.session["protocol"], "ssh");
    }
}

#[test]
fn an_operator_ends_a_session_with_words() {
    let mut ssh = world().ssh(Who::Agent(WRITER), "ssh").unwrap();
    ssh.args([HOST, "echo begun-$$; exec sleep 600"]);
    let mut child = ssh
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut first).unwrap();
    let pid = first.trim().strip_prefix("begun-").unwrap().to_owned();
    let session = recording_of("echo begun-$$").session["session"].clone();
    let id = session.as_str().unwrap();
    let killed = world()
        .hoop(&["sessions", "kill", id, "--reason", "enough"])
        .unwrap();
    assert_eq!(killed.code, Some(0), "{}", killed.stderr);
    let ended = child.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(
        words.contains("an operator ended this session: enough"),
        "{words}"
    );
    assert_eq!(ended.status.code(), Some(255));
    let gone = || !std::path::Path::new(&format!("/proc/{pid}")).exists();
    for _ in 0..400 {
        if gone() {
            break;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    assert!(gone(), "the command still runs at the server");
    let ended = || {
        let recording = world().recording(|s| s["session"] == session).unwrap();
        let ends = events(&recording, "end");
        ends.first().map(|end| end["end"].clone())
    };
    let mut end = None;
    for _ in 0..100 {
        end = ended();
        if end.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(end.unwrap(), "killed");
}

#[test]
fn logins_by_password_and_by_minted_certificate() {
    for (login, method) in [
        (
            r#"{ user = "as-client", password = { file = "FOLDER/etc/web-password" } }"#,
            "Accepted password for deploy",
        ),
        (
            r#"{ user = "as-client", certificate = "minted" }"#,
            "Accepted publickey for deploy",
        ),
    ] {
        let settings = Settings {
            ssh: Some(login),
            policies: vec![("ssh.cedar", POLICY.to_owned())],
            ..Settings::default()
        };
        let world = World::start(settings).unwrap();
        let sshd = world.sshd.as_ref().unwrap();
        let authority = std::fs::read_to_string(world.place.path("state/ssh-user-ca.pub"));
        sshd.trust_authority(&authority.unwrap()).unwrap();
        let mut ssh = world.ssh(Who::Agent(WRITER), "ssh").unwrap();
        ssh.args([HOST, "id -un"]);
        let ran = hoop_tests::run(&mut ssh, "", PATIENCE).unwrap();
        assert_eq!(ran.stdout, "deploy\n", "{}", ran.stderr);
        let log = sshd.log().unwrap();
        assert!(log.contains(method), "{log}");
        if method.contains("publickey") {
            // The certificate's id names the agent and its session.
            assert!(log.contains("ID etl-bot "), "{log}");
        }
    }
}
