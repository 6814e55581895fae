//! `hoop doctor` finds real faults, each with what mends it.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hoop_tests::{AgentSettings, READER, Settings, World};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, chown};
use serde_json::Value;

/// Accounts that nothing else here runs as, one for each test: they run beside each other.
const ACCOUNTS: [u32; 3] = [61_234, 61_235, 61_236];

fn world() -> World {
    let settings = Settings {
        agents: vec![AgentSettings::new(READER)],
        ..Settings::default()
    };
    World::start(settings).unwrap()
}

/// Without the LSM tier, which would refuse the faults that are made.
fn without_tier() -> World {
    let settings = Settings {
        agents: vec![AgentSettings::new(READER)],
        capture: "lsm = \"off\"\n",
        ..Settings::default()
    };
    World::start(settings).unwrap()
}

struct Examined {
    code: Option<i32>,
    findings: Vec<Value>,
}

impl Examined {
    fn of(world: &World, arguments: &[&str]) -> Self {
        let all = [&["doctor", "--json"], arguments].concat();
        let ran = world.hoop(&all).unwrap();
        let mut findings = ran.json_lines().unwrap();
        let summary = findings.pop().unwrap();
        assert!(summary["fail"].is_u64(), "{summary} {}", ran.stderr);
        Self {
            code: ran.code,
            findings,
        }
    }

    /// The one finding of a check that is not well, or any.
    fn of_check(&self, check: &str) -> &Value {
        let mut all = self.findings.iter().filter(|f| f["check"] == check);
        let first = all.clone().next();
        let bad = all.find(|f| f["state"] != "ok");
        bad.or(first)
            .unwrap_or_else(|| panic!("no {check} among {:#?}", self.findings))
    }

    fn is(&self, check: &str, state: &str, seen: &str) {
        let found = self.of_check(check);
        assert_eq!(found["state"], state, "{found:#}");
        assert!(found["seen"].as_str().unwrap().contains(seen), "{found:#}");
        if state != "ok" {
            let mended = found["mend"].is_string() || found["advice"].is_string();
            assert!(mended && found["why"].is_string(), "{found:#}");
        }
    }
}

/// A process that stays, ended with the test.
struct Running(Child);

impl Running {
    /// As an account of its own, without privileges: what an agent should be.
    fn agent(world: &World, through: &[String], command: &[&str]) -> Self {
        let place = format!("agents.slice/{READER}.service");
        Self::start(
            world.place.command(&place, None, "setpriv").unwrap(),
            through,
            command,
        )
    }

    fn start(mut setpriv: Command, through: &[String], command: &[&str]) -> Self {
        setpriv.args(through).args(command);
        setpriv.stdin(Stdio::null()).stdout(Stdio::null());
        let child = setpriv.spawn().unwrap();
        let running = Self(child);
        // The helper that enters the cgroup becomes the command in a moment.
        let until = Instant::now() + Duration::from_secs(10);
        let name = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm"));
        while !name(running.0.id())
            .unwrap()
            .starts_with(command[0].rsplit('/').next().unwrap())
        {
            assert!(Instant::now() < until, "it does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait().map(drop)).ok();
    }
}

/// How an agent's unit should start it.
fn bound(uid: u32) -> Vec<String> {
    let mut arguments = vec![format!("--reuid={uid}"), format!("--regid={uid}")];
    arguments
        .extend(["--clear-groups", "--bounding-set=-all", "--no-new-privs"].map(str::to_owned));
    arguments
}

#[test]
fn a_host_as_it_should_be_has_no_failure_that_is_hoops() {
    let world = world();
    let _agent = Running::agent(&world, &bound(ACCOUNTS[1]), &["sleep", "600"]);
    let found = Examined::of(&world, &[]);
    for check in [
        "config",
        "kernel.features",
        "kernel.programs",
        "kernel.bpf_fs",
        "cgroup.slice",
        "cgroup.delegation",
        "daemon",
        "daemon.config",
        "daemon.worker",
        "daemon.worker_privileges",
        "hooks",
        "hooks.bypass",
        "agent.account",
        "door.udp",
        "door.protocols",
        "door.ports",
        "door.namespaces",
        "door.localhost",
        "door.child_cgroup",
        "door.listener",
        "door.ssh_tunnels",
        "door.egress_allow",
        "door.packet",
        "door.older_connections",
        "door.passed_descriptors",
        "door.root",
        "door.cgroup",
        "door.daemon",
        "door.guests",
        "door.cron",
        "issuer",
        "upstream",
        "recordings.folder",
    ] {
        found.is(check, "ok", "");
    }
    // They depend on the host that this runs on, and must be said.
    let list = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    if !list.trim().split(',').any(|name| name == "bpf") {
        found.is("kernel.lsm", "warn", "off: ");
    }
    for check in [
        "kernel.lsm",
        "door.vsock",
        "door.io_uring",
        "door.local_database",
        "door.starters",
        "clock",
        "trust",
    ] {
        found.of_check(check);
    }
    // For people the same, and by the same exit status.
    let ran = world.hoop(&["doctor"]).unwrap();
    assert_eq!(ran.code, found.code, "{}", ran.stdout);
    assert!(
        ran.stdout.contains("ok      hooks: all 1"),
        "{}",
        ran.stdout
    );
    assert_eq!(world.hoop(&["doctor", "--no-such"]).unwrap().code, Some(2));
}

#[test]
fn real_faults_are_found_each_by_its_name() {
    let mut world = without_tier();
    let account = ACCOUNTS[0];
    let slice = world.place.cgroup.join("agents.slice");
    let owner = |uid| chown(&slice, Some(Uid::from_raw(uid)), Some(Gid::from_raw(0))).unwrap();
    owner(account);
    let agent = Running::agent(&world, &bound(account), &["sleep", "600"]);
    let outside = world.place.command("outside", None, "setpriv").unwrap();
    let other = Running::start(outside, &bound(account), &["sleep", "601"]);
    let config = std::fs::read_to_string(&world.state.config).unwrap();
    let wrong = config.replace("servers/ca.pem", "state/ca.pem");
    assert_ne!(config, wrong);
    std::fs::write(&world.state.config, &wrong).unwrap();
    end_issuer(&world);
    let found = Examined::of(&world, &[]);
    assert_eq!(found.code, Some(1));
    found.is("cgroup.slice", "fail", &format!("uid {account}"));
    let shared = format!("uid {account} also runs process {}", other.0.id());
    found.is("agent.account", "fail", &shared);
    found.is("upstream", "fail", "not signed by the configured CA");
    found.is("issuer", "fail", "");
    // The same account may write to nothing above its own by a file's owner alone.
    owner(0);
    std::fs::write(&world.state.config, &config).unwrap();
    drop((agent, other));

    // As root, with CAP_NET_RAW and a socket that no hook sees.
    let script = "import socket, time; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); time.sleep(600)";
    let capable = Running::agent(
        &world,
        &["--no-new-privs".to_owned()],
        &["/usr/bin/python3", "-c", script],
    );
    std::thread::sleep(Duration::from_millis(500));
    let found = Examined::of(&world, &["--offline"]);
    found.is("door.packet", "fail", &capable.0.id().to_string());
    found.is("door.root", "fail", "is root");
    found.is("agent.account", "fail", "root");
    found.is("cgroup.slice", "ok", "");
    drop(capable);

    // A socket from outside in an agent's hands.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let procs = world
        .place
        .cgroup
        .join(format!("agents.slice/{READER}.service/cgroup.procs"));
    let script = format!(
        "import socket, time; s = socket.create_connection(('127.0.0.1', {port})); open('{}', 'w').write('0'); time.sleep(600)",
        procs.display()
    );
    let outside = world.place.command("outside", None, "setpriv").unwrap();
    let passed = Running::start(
        outside,
        &["--no-new-privs".to_owned()],
        &["/usr/bin/python3", "-c", &script],
    );
    let (_taken, _) = server.accept().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let found = Examined::of(&world, &["--offline"]);
    found.is(
        "door.passed_descriptors",
        "fail",
        &passed.0.id().to_string(),
    );
    drop(passed);

    world.daemon.kill_keeper().unwrap();
    let found = Examined::of(&world, &["--offline"]);
    assert_eq!(found.code, Some(1));
    found.is("daemon", "fail", "no daemon answers");
    found.is("hooks", "ok", "as their pins say");

    // A cgroup that was made anew has nothing attached.
    std::fs::remove_dir(slice.join(format!("{READER}.service"))).unwrap();
    std::fs::remove_dir(&slice).unwrap();
    let found = Examined::of(&world, &["--offline"]);
    found.is("cgroup.slice", "fail", "");
    std::fs::create_dir(&slice).unwrap();
    let found = Examined::of(&world, &["--offline"]);
    found.is("hooks", "fail", "defunct");
}

#[test]
fn what_is_in_force_is_judged_and_not_the_file() {
    let mut observed = AgentSettings::new(READER);
    observed.mode = "observe";
    let settings = Settings {
        agents: vec![observed],
        ..Settings::default()
    };
    let mut world = World::start(settings).unwrap();
    let _agent = Running::agent(&world, &bound(ACCOUNTS[2]), &["sleep", "600"]);
    let found = Examined::of(&world, &["--offline"]);
    found.is("daemon.config", "ok", "");
    found.is("door.udp", "warn", "observe");
    found.is("door.ssh_tunnels", "warn", "observe");

    // Edited, and not reloaded.
    let config = std::fs::read_to_string(&world.state.config).unwrap();
    let edited = config.replace("mode = \"observe\"", "mode = \"enforce\"");
    assert_ne!(config, edited);
    std::fs::write(&world.state.config, &edited).unwrap();
    let found = Examined::of(&world, &["--offline"]);
    found.is("daemon.config", "warn", "has changed");
    found.is("door.udp", "warn", "observe");
    found.is("door.egress_allow", "unknown", "in force");
    // Nor by a daemon that has died meanwhile.
    world.daemon.kill_keeper().unwrap();
    let found = Examined::of(&world, &["--offline"]);
    found.is("door.udp", "warn", "observe");
    // The next one takes it as it is.
    world.start_daemon().unwrap();
    let found = Examined::of(&world, &["--offline"]);
    found.is("daemon.config", "ok", "");
    found.is("door.udp", "ok", "closed");

    let opened = [
        "break-glass",
        "--agent",
        READER,
        "--for",
        "5m",
        "--reason",
        "x",
    ];
    world.hoop(&opened).unwrap().ok().unwrap();
    let found = Examined::of(&world, &["--offline"]);
    for door in ["door.ports", "door.localhost", "door.ssh_tunnels"] {
        found.is(door, "warn", "the glass is broken");
    }
    found.is("door.udp", "ok", "closed");
}

#[test]
fn without_root_it_says_what_it_cannot_tell() {
    let world = World::shared();
    // Where every account may run it.
    let hoop = world.place.path("hoop-for-all");
    std::fs::copy(hoop_tests::program("hoop").unwrap(), &hoop).unwrap();
    let mut doctor = world
        .place
        .command("outside", Some("nobody"), hoop)
        .unwrap();
    doctor
        .args(["doctor", "--json", "--offline"])
        .env("HOOP_CONFIG", &world.state.config);
    let ran = hoop_tests::run(&mut doctor, "", hoop_tests::PATIENCE).unwrap();
    let lines = ran.json_lines().unwrap();
    let unknown = |check: &str| {
        let found = lines.iter().find(|f| f["check"] == check);
        assert_eq!(
            found.unwrap_or_else(|| panic!("{lines:#?}"))["state"],
            "unknown",
            "{check}"
        );
    };
    unknown("kernel.features");
    unknown("kernel.programs");
}

/// Ends the provider's process, which is the only node of this world.
fn end_issuer(world: &World) {
    let procs = std::fs::read_to_string(world.place.cgroup.join("services/cgroup.procs")).unwrap();
    let node: Vec<i32> = procs
        .lines()
        .filter(|pid| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
            line.is_ok_and(|line| line.contains("server.mjs"))
        })
        .map(|pid| pid.parse().unwrap())
        .collect();
    assert!(!node.is_empty(), "no node among {procs}");
    for pid in node {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
}
