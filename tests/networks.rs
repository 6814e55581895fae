//! Agents in network namespaces of their own, and servers that only those namespaces reach: dialled
//! from there, proved, masked and recorded; and never dialled from the host instead.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hoop_tests::certificates::Authority;
use hoop_tests::{
    AgentSettings, PATIENCE, READER, Ran, Settings, WRITER, World, run, wait, wait_within,
};

/// Where the server is for its clients. No host has a route there.
const SERVER: &str = "10.89.207.10";
const HOST: &str = "db.prod.internal";
const WEB: &str = "web1.prod.internal";

/// The world's own hosts file says something else than the container's.
const CONNECTS: &str = r#"
mount --bind "$HOSTS" /etc/hosts || exit 99
for turn in $(seq 100); do
    said=$("$@" 2>&1); code=$?
    case "$said" in *"port 5432 failed: Connection refused"*|*"port 22: Connection refused"*) sleep 0.1 ;; *) break ;; esac
done
printf '%s\n' "$said"
exit $code
"#;

/// A network namespace, for as long as somebody is in it.
struct Net {
    holder: Child,
}

impl Net {
    fn new(world: &World) -> Self {
        let mut holder = world.place.command("services", None, "unshare").unwrap();
        holder.args(["--net", "--", "sh", "-c"]);
        holder.arg("ip link set lo up && echo up && exec sleep 600");
        let mut holder = holder.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let out = holder.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
        assert_eq!(line, "up\n");
        Self { holder }
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    fn inode(&self) -> u64 {
        std::fs::metadata(self.path()).unwrap().ino()
    }

    fn enter(&self, mut command: Command, program: &[&str]) -> Command {
        command.arg(format!("--net={}", self.path())).arg("--");
        command.args(program);
        command
    }

    fn shell(&self, script: &str) {
        let mut command = self.enter(Command::new("nsenter"), &["sh", "-ec", script]);
        run(&mut command, "", PATIENCE).unwrap().ok().unwrap();
    }

    /// Joins it with another: `address` here, and `there` in the other.
    fn join(&self, address: &str, other: &Net, there: &str) {
        let pid = other.holder.id();
        self.shell(&format!(
            "ip link add wire type veth peer name wire netns {pid}\n\
             ip addr add {address}/24 dev wire\nip link set wire up"
        ));
        other.shell(&format!(
            "ip addr add {there}/24 dev wire\nip link set wire up"
        ));
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.holder.kill().and_then(|()| self.holder.wait()).ok();
    }
}

/// A world whose agents' names and addresses are those of a container's network.
struct Site {
    world: World,
    hosts: PathBuf,
}

impl Site {
    fn start(settings: Settings) -> Self {
        let world = World::start(settings).unwrap();
        let hosts = world.place.path("container-hosts");
        let text = format!("127.0.0.1 localhost\n{SERVER} {HOST} {WEB}\n");
        std::fs::write(&hosts, text).unwrap();
        Self { world, hosts }
    }

    /// A program in the agent's cgroup and in that network namespace.
    fn command(&self, net: &Net, agent: &str, program: &[&str]) -> Command {
        let world = &self.world;
        let cgroup = format!("agents.slice/{agent}.service");
        let command = world.place.command(&cgroup, None, "nsenter").unwrap();
        let mut shell = vec!["unshare", "--mount", "--", "sh", "-c", CONNECTS, "sh"];
        shell.extend(program);
        let mut command = net.enter(command, &shell);
        command.envs(&world.state.environment);
        command.env("HOSTS", &self.hosts);
        command
    }

    fn psql(&self, net: &Net, sql: &str) -> Ran {
        let psql = ["psql", "-X", "-A", "-t", "-q", "-c", sql];
        run(&mut self.command(net, READER, &psql), "", PATIENCE).unwrap()
    }

    /// Puts the database into a namespace, where it listens at that address alone.
    fn move_database(&self, net: &Net) {
        let world = &self.world;
        world
            .postgres
            .admit("host all all 10.89.207.0/24 scram-sha-256\n")
            .unwrap();
        let data = world.place.path("postgres/data");
        let owner = std::fs::metadata(&data).unwrap();
        let (uid, gid) = (owner.uid().to_string(), owner.gid().to_string());
        let tool = world.postgres.tool("pg_ctl").display().to_string();
        let data = data.display().to_string();
        let log = world.postgres.log().display().to_string();
        let listens = format!("-c listen_addresses={SERVER}");
        let become_owner = [
            "setpriv",
            "--reuid",
            &uid,
            "--regid",
            &gid,
            "--clear-groups",
        ];
        let pg_ctl = |arguments: &[&str]| {
            let command = world.place.command("services", None, "nsenter").unwrap();
            let mut whole = become_owner.to_vec();
            whole.extend([tool.as_str(), "-D", &data, "-w", "-s", "-t", "30"]);
            whole.extend(arguments);
            let mut command = net.enter(command, &whole);
            // Its server would keep a pipe of ours open.
            let status = command.current_dir("/").status().unwrap();
            assert!(status.success(), "{arguments:?}: {status}");
        };
        pg_ctl(&["-m", "fast", "stop"]);
        pg_ctl(&["-l", &log, "-o", &listens, "start"]);
        assert!(!answers(SERVER), "the host reaches {SERVER}");
    }
}

/// Whether a PostgreSQL server that speaks TLS is there for the host. Some networks have a gateway that
/// takes any connection: that is not it.
fn answers(address: &str) -> bool {
    let address: SocketAddr = format!("{address}:5432").parse().unwrap();
    let wait = Duration::from_secs(1);
    let Ok(mut stream) = TcpStream::connect_timeout(&address, wait) else {
        return false;
    };
    stream.set_read_timeout(Some(wait)).unwrap();
    let mut answer = [0];
    let asked = stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]);
    asked.is_ok() && stream.read(&mut answer).is_ok() && answer == *b"S"
}

fn inner() -> Settings {
    Settings {
        resource: "network = \"client\"\n".to_owned(),
        ..Settings::default()
    }
}

#[test]
fn a_server_that_only_the_clients_network_reaches_is_dialled_from_there() {
    let site = Site::start(inner());
    let (client, server) = (Net::new(&site.world), Net::new(&site.world));
    client.join("10.89.207.2", &server, SERVER);
    site.move_database(&server);
    // What the mask names is known by hoop's own look-up, which goes the same way.
    let sql = "SELECT name, ssn, email FROM users ORDER BY id LIMIT 1";
    let ran = site.psql(&client, sql);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("Ada Byron"), "{}", ran.stdout);
    assert!(ran.stdout.contains("1120"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("078-05") && !ran.stdout.contains("ada@"));
    let recording = site.world.recording_of(sql).unwrap();
    let header = recording.events.first().unwrap();
    assert_eq!(header["netns"], client.inode(), "{header:#}");
    assert_eq!(header["destination"], format!("{SERVER}:5432"));
    let shown = format!("net:[{}]", client.inode());
    assert!(recording.shown.contains(&shown), "{}", recording.shown);
    assert_eq!(recording.verified.code, Some(0));
    // The server sees the container's address, and not the host's.
    let log = std::fs::read_to_string(site.world.postgres.log()).unwrap();
    assert!(
        log.contains("connection received: host=10.89.207.2"),
        "{log}"
    );

    // A client that cancels does so by a connection of its own, and so does hoop.
    let sleep = [
        "timeout",
        "--signal=INT",
        "3",
        "psql",
        "-X",
        "-c",
        "SELECT pg_sleep(50)",
    ];
    let ran = run(&mut site.command(&client, WRITER, &sleep), "", PATIENCE).unwrap();
    assert!(ran.stdout.contains("canceling statement"), "{ran:?}");

    // One that is removed in the middle: what goes on breaks, and what comes is told why.
    let mut live = site.command(&client, READER, &["psql", "-X", "-A", "-t", "-q"]);
    let live = live.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut session = live.stderr(Stdio::piped()).spawn().unwrap();
    let mut input = session.stdin.take().unwrap();
    input.write_all(b"SELECT 'it lives';\n").unwrap();
    wait("the session", || {
        site.world.recording_of("it lives").ok().map(|_| ())
    });
    server.shell("ip link del wire");
    let refused = site.psql(&client, "SELECT 'never'");
    assert_ne!(refused.code, Some(0));
    for part in [SERVER, "dialled from the client's own network", &shown] {
        assert!(refused.stdout.contains(part), "{part}: {}", refused.stdout);
    }
    drop(input);
    session.wait().unwrap();
    // Nobody is there any more: its listener goes with it, and hoop lives on.
    drop(client);
    assert!(site.world.hoop(&["status"]).unwrap().code == Some(0));
}

/// Answers as PostgreSQL does until TLS has begun, and says what came of that.
const FALSE_SERVER: &str = r#"
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
listener = socket.create_server((sys.argv[1], 5432))
print("listens", flush=True)
while True:
    s, _ = listener.accept()
    s.settimeout(10)
    try:
        s.recv(8)
        s.sendall(b"S")
        with context.wrap_socket(s, server_side=True) as t:
            got = t.recv(4096)
            print("heard", len(got), flush=True)
    except OSError as error:
        print("broke off", flush=True)
"#;

#[test]
fn another_server_at_the_same_address_in_another_network_gets_no_credential() {
    let site = Site::start(inner());
    let (client, server) = (Net::new(&site.world), Net::new(&site.world));
    client.join("10.89.207.2", &server, SERVER);
    site.move_database(&server);
    assert_eq!(site.psql(&client, "SELECT 'the right one'").code, Some(0));
    let stranger = Authority::make(&site.world.place.path("stranger")).unwrap();
    let own = &site.world.authority;
    for (certificate, said) in [
        (
            stranger.sign(HOST).unwrap(),
            "the server's certificate is not acceptable",
        ),
        (
            own.sign("other.prod.internal").unwrap(),
            "not for db.prod.internal",
        ),
    ] {
        // Whoever controls a container's network gives it what address they like.
        let theirs = Net::new(&site.world);
        theirs.shell(&format!("ip addr add {SERVER}/32 dev lo"));
        let command = site
            .world
            .place
            .command("services", None, "nsenter")
            .unwrap();
        let (pem, key) = (&certificate.certificate, &certificate.key);
        let (pem, key) = (pem.display().to_string(), key.display().to_string());
        let python = ["/usr/bin/python3", "-c", FALSE_SERVER, SERVER, &pem, &key];
        let mut fake = theirs.enter(command, &python);
        let mut fake = fake.stdout(Stdio::piped()).spawn().unwrap();
        let out = std::io::BufReader::new(fake.stdout.take().unwrap());
        let mut lines = std::io::BufRead::lines(out).map(Result::unwrap);
        assert_eq!(lines.next().as_deref(), Some("listens"));
        let refused = site.psql(&theirs, "SELECT 'never'");
        assert_ne!(refused.code, Some(0));
        assert!(refused.stdout.contains(said), "{}", refused.stdout);
        assert_eq!(lines.next().as_deref(), Some("broke off"));
        fake.kill().and_then(|()| fake.wait()).unwrap();
    }
    // And the right one goes on being reached from the other.
    assert_eq!(site.psql(&client, "SELECT 'still'").code, Some(0));
}

#[test]
fn who_shows_no_certificate_is_dialled_from_the_host_or_not_at_all() {
    let plain = Settings {
        upstream_tls: "disable",
        ..Settings::default()
    };
    let mut site = Site::start(plain.clone());
    // The container means the host's address, which is loopback and so its own.
    let name = site.world.postgres.ask("SHOW listen_addresses").unwrap();
    std::fs::write(&site.hosts, format!("{} {HOST}\n", name.trim())).unwrap();
    let client = Net::new(&site.world);
    let refused = site.psql(&client, "SELECT 'never'");
    assert_ne!(refused.code, Some(0));
    for part in [
        "does not log in there",
        "network = \"host\"",
        &format!("net:[{}]", client.inode()),
    ] {
        let said = refused.stdout.replace("\\\"", "\"");
        assert!(said.contains(part), "{part}: {}", refused.stdout);
    }
    let recording = site.world.recording(|session| session["agent"] == READER);
    assert!(recording.unwrap().shown.contains("does not log in there"));
    // By the operator's word for one resource, or for all that an agent asks for.
    let by_resource = Settings {
        resource: "network = \"host\"\n".to_owned(),
        ..plain.clone()
    };
    let mut agent = AgentSettings::new(READER);
    agent.network = "host";
    let by_agent = Settings {
        agents: vec![agent, AgentSettings::new(WRITER)],
        ..plain
    };
    for settings in [by_resource, by_agent] {
        site.world.restart(settings).unwrap();
        let client = Net::new(&site.world);
        let sql = "SELECT ssn FROM users ORDER BY id LIMIT 1";
        let ran = site.psql(&client, sql);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let recording = site.world.recording_of(sql).unwrap();
        assert!(recording.events.first().unwrap()["netns"].is_null());
    }
}

#[test]
fn an_ssh_server_in_the_clients_network_is_known_by_its_key() {
    let settings = Settings {
        ssh: Some(
            "{ user = \"deploy\", key = { file = \"FOLDER/sshd/login\" } }\nnetwork = \"client\"",
        ),
        policies: vec![(
            "ssh.cedar",
            "permit (principal, action in Action::\"ssh\", resource);".to_owned(),
        )],
        ..Settings::default()
    };
    let site = Site::start(settings);
    let (client, server) = (Net::new(&site.world), Net::new(&site.world));
    client.join("10.89.207.2", &server, SERVER);
    let folder = site.world.place.path("sshd");
    let start = |key: &str| {
        let outer = std::fs::read_to_string(folder.join("sshd_config")).unwrap();
        let mut inner = format!(
            "ListenAddress {SERVER}\nPidFile {}/pid-inner\n",
            folder.display()
        );
        for line in outer.lines() {
            match line.split(' ').next() {
                Some("ListenAddress" | "PidFile") => {}
                Some("HostKey") => inner += &format!("HostKey {key}\n"),
                _ => inner += &format!("{line}\n"),
            }
        }
        let config = folder.join("inner_config");
        std::fs::write(&config, inner).unwrap();
        let command = site
            .world
            .place
            .command("services", None, "nsenter")
            .unwrap();
        let config = config.display().to_string();
        let log = folder.join("inner.log").display().to_string();
        let sshd = ["/usr/sbin/sshd", "-D", "-f", &config, "-E", &log];
        let mut sshd = server.enter(command, &sshd);
        sshd.spawn().unwrap()
    };
    let settings = folder.join("ssh_config").display().to_string();
    let ask = |command: &str| {
        let ssh = ["ssh", "-F", &settings, WEB, command];
        run(&mut site.command(&client, READER, &ssh), "", PATIENCE).unwrap()
    };
    let mut sshd = start(&folder.join("host").display().to_string());
    // hoop takes the client before the server is there.
    let ran = wait_within(PATIENCE, "the server", || {
        let ran = ask("echo from inside");
        (ran.code == Some(0)).then_some(ran)
    });
    assert!(ran.stdout.contains("from inside"), "{ran:?}");
    let log = std::fs::read_to_string(folder.join("inner.log")).unwrap();
    assert!(log.contains("from 10.89.207.2 "), "{log}");
    let recording = site.world.recording_of("from inside").unwrap();
    assert_eq!(recording.events.first().unwrap()["netns"], client.inode());
    sshd.kill().and_then(|()| sshd.wait()).unwrap();
    // Another key at the same address.
    let mut keygen = Command::new("ssh-keygen");
    let other = folder.join("other-host");
    keygen
        .args(["-q", "-N", "", "-t", "ed25519", "-f"])
        .arg(&other);
    run(&mut keygen, "", PATIENCE).unwrap().ok().unwrap();
    let mut sshd = start(&other.display().to_string());
    wait("a refusal", || {
        let refused = ask("echo never");
        assert_ne!(refused.code, Some(0), "{refused:?}");
        let why = "none of those that the resource names";
        refused.stdout.contains(why).then_some(())
    });
    sshd.kill().and_then(|()| sshd.wait()).unwrap();
}
