//! What agents may reach besides their database, and how a site starts: egress by name, observe,
//! discover, reload, programs started by hand, two agents side by side.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hoop_tests::{AgentSettings, PATIENCE, READER, Ran, Settings, WRITER, Who, World};
use serde_json::Value;

/// A real TLS server for a name, at an address of the world's.
struct TlsServer(Child);

impl TlsServer {
    fn start(world: &World, host: u8, name: &str) -> Self {
        let certificate = world.authority.sign(name).unwrap();
        let mut openssl = world.place.command("services", None, "openssl").unwrap();
        openssl.args(["s_server", "-www", "-quiet", "-accept"]);
        openssl.arg(format!("{}:443", world.place.address(host)));
        openssl
            .arg("-cert")
            .arg(certificate.certificate)
            .arg("-key")
            .arg(certificate.key);
        openssl
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let server = Self(openssl.spawn().unwrap());
        let address = std::net::SocketAddr::from((world.place.address(host), 443));
        let until = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(address).is_err() {
            assert!(Instant::now() < until, "openssl s_server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait().map(drop)).ok();
    }
}

/// Verifies the certificate and asks for a page, as any HTTPS client of that agent would.
fn get(world: &World, agent: &str, name: &str) -> Ran {
    let mut openssl = world.command(Who::Agent(agent), "openssl").unwrap();
    openssl.args([
        "s_client",
        "-quiet",
        "-verify_return_error",
        "-verify_hostname",
        name,
    ]);
    openssl.args([
        "-servername",
        name,
        "-connect",
        &format!("{name}:443"),
        "-CAfile",
    ]);
    openssl.arg(world.authority.pem());
    hoop_tests::run(&mut openssl, "GET / HTTP/1.0\r\n\r\n", PATIENCE).unwrap()
}

fn answered(ran: &Ran) -> bool {
    ran.stdout.contains("HTTP/1.0 200")
}

#[test]
fn an_allowed_name_may_rotate_and_any_other_is_refused_with_a_record() {
    let mut reader = AgentSettings::new(READER);
    reader.egress = vec!["api.llm.example:443".to_owned()];
    let settings = Settings {
        agents: vec![reader],
        ..Settings::default()
    };
    let world = World::start(settings).unwrap();
    let name = "api.llm.example";
    let _first = TlsServer::start(&world, 40, name);
    let _second = TlsServer::start(&world, 41, name);
    let _other = TlsServer::start(&world, 42, "elsewhere.example");
    let elsewhere = format!("{} elsewhere.example\n", world.place.address(42));
    for host in [40, 41, 40] {
        let line = format!("{} {name}\n{elsewhere}", world.place.address(host));
        world.place.set_hosts(&line).unwrap();
        let ran = get(&world, READER, name);
        assert!(answered(&ran), "at .{host}: {}{}", ran.stdout, ran.stderr);
    }
    let ran = get(&world, READER, "elsewhere.example");
    assert!(!answered(&ran), "{}", ran.stdout);
    // The allowed name in the greeting does not open the way to another's address.
    let mut forged = world.command(Who::Agent(READER), "openssl").unwrap();
    forged.args([
        "s_client",
        "-quiet",
        "-servername",
        name,
        "-connect",
        "elsewhere.example:443",
    ]);
    let ran = hoop_tests::run(&mut forged, "GET / HTTP/1.0\r\n\r\n", PATIENCE).unwrap();
    assert!(
        !ran.stderr.contains("CN = elsewhere.example"),
        "{}",
        ran.stderr
    );
    let lines = [world.sessions().unwrap(), world.events().unwrap()].concat();
    let refused = world.place.address(42).to_string();
    assert!(
        lines.iter().any(|l| l.to_string().contains(&refused)),
        "{lines:#?}"
    );
    assert!(
        lines.iter().any(|l| l.to_string().contains(name)),
        "{lines:#?}"
    );
}

#[test]
fn discover_redirects_nothing_and_lists_what_it_saw() {
    let mut reader = AgentSettings::new(READER);
    reader.mode = "discover";
    let world = World::start(Settings {
        agents: vec![reader],
        ..Settings::default()
    })
    .unwrap();
    let mut psql = world.command(Who::Agent(READER), "psql").unwrap();
    psql.args([
        "-X",
        "-A",
        "-t",
        "-c",
        "SELECT ssn FROM users ORDER BY id LIMIT 1",
    ]);
    psql.env("PGPASSWORD", &world.state.password)
        .env("PGSSLROOTCERT", world.authority.pem());
    let ran = hoop_tests::run(&mut psql, "", PATIENCE).unwrap();
    assert_eq!(ran.stdout, "078-05-1120\n", "{}", ran.stderr);
    assert_eq!(world.sessions().unwrap(), Vec::<Value>::new());
    let destination = format!("{}:5432", world.place.address(10));
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let seen = world
            .hoop(&["discover", "--json"])
            .unwrap()
            .ok()
            .unwrap()
            .json_lines()
            .unwrap();
        let found = seen
            .iter()
            .find(|row| row.to_string().contains(&destination));
        if let Some(row) = found {
            let row = row.to_string();
            assert!(row.contains(READER) && row.contains("psql"), "{row}");
            break;
        }
        assert!(
            Instant::now() < until,
            "{destination} is not among {seen:#?}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn observe_lets_pass_and_marks_what_it_would_have_refused() {
    let mut writer = AgentSettings::new(WRITER);
    writer.mode = "observe";
    let world = World::start(Settings {
        agents: vec![writer],
        ..Settings::default()
    })
    .unwrap();
    std::fs::write(world.place.path("tokens").join(WRITER), "no token at all").unwrap();
    world
        .postgres
        .ask("SET ROLE orders_app; CREATE TABLE victim (id int)")
        .unwrap();
    let ran = world
        .psql(Who::Agent(WRITER), &["-c", "DROP TABLE victim"], "")
        .unwrap();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let left = world
        .postgres
        .ask("SELECT count(*) FROM pg_tables WHERE tablename = 'victim'");
    assert_eq!(left.unwrap(), "0");
    let recording = world.recording_of("DROP TABLE victim").unwrap();
    assert!(recording.raw.contains("would_refuse"), "{}", recording.raw);
}

#[test]
fn a_bad_file_keeps_the_old_one_in_force() {
    let mut world = World::start(Settings::default()).unwrap();
    let good = std::fs::read_to_string(&world.state.config).unwrap();
    let session = world.command(Who::Agent(READER), "psql").unwrap();
    let mut session = Held::start(session);
    session.ask("SELECT 'before the reload'", "before the reload");
    std::fs::write(&world.state.config, good.replace("[policy]", "[polici]")).unwrap();
    let reloaded = world.daemon.reload();
    let log = world.daemon.log().unwrap();
    assert!(reloaded.is_ok(), "{log}");
    assert!(
        log.contains("polici") && log.contains("policy"),
        "names the nearest key: {log}"
    );
    session.ask("SELECT 'after the bad file'", "after the bad file");
    let ran = world
        .psql(Who::Agent(READER), &["-c", "SELECT 1"], "")
        .unwrap();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    // A good one then takes effect, and the session that was open still goes on.
    let hidden = good.replace("\"public.users.ssn\"", "\"public.users.name\"");
    std::fs::write(&world.state.config, hidden).unwrap();
    world.daemon.reload().unwrap();
    let sql = "SELECT name FROM users WHERE id = 1";
    let ran = world.psql(Who::Agent(READER), &["-c", sql], "").unwrap();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(!ran.stdout.contains("Ada Byron"), "{}", ran.stdout);
    session.ask("SELECT 'after the good file'", "after the good file");
}

/// A psql that stays and is asked by its standard input.
struct Held {
    child: Child,
    answers: std::io::BufReader<std::process::ChildStdout>,
}

impl Held {
    fn start(mut psql: Command) -> Self {
        psql.args(["-X", "-A", "-t", "-q"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = psql.spawn().unwrap();
        let answers = std::io::BufReader::new(child.stdout.take().unwrap());
        Self { child, answers }
    }

    fn ask(&mut self, sql: &str, answer: &str) {
        use std::io::{BufRead, Write};
        let input = self.child.stdin.as_mut().unwrap();
        writeln!(input, "{sql};").unwrap();
        input.flush().unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), answer);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.child
            .kill()
            .and_then(|()| self.child.wait().map(drop))
            .ok();
    }
}

#[test]
fn a_program_started_by_hand_is_governed_too() {
    let world = World::shared();
    let arguments = [
        "exec",
        "--agent",
        READER,
        "--",
        "psql",
        "-X",
        "-c",
        "DROP TABLE users",
    ];
    let mut hoop = world.hoop_command(&arguments).unwrap();
    hoop.envs(&world.state.environment);
    let ran = hoop_tests::run(&mut hoop, "", PATIENCE).unwrap();
    assert_eq!(ran.code, Some(1), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains(READER), "{}", ran.stderr);
    assert_eq!(
        world.postgres.ask("SELECT count(*) FROM users").unwrap(),
        "3"
    );
}

#[test]
fn two_agents_have_two_identities() {
    let world = World::shared();
    for agent in [READER, WRITER] {
        let sql = format!("SELECT 'I am {agent}'");
        world
            .psql(Who::Agent(agent), &["-c", &sql], "")
            .unwrap()
            .ok()
            .unwrap();
        let recording = world.recording_of(&sql).unwrap();
        assert_eq!(recording.session["agent"], agent, "{:#}", recording.session);
    }
    let sql = "INSERT INTO scratch VALUES (30, 'whose?')";
    let refused = world.psql(Who::Agent(READER), &["-c", sql], "").unwrap();
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    let allowed = world.psql(Who::Agent(WRITER), &["-c", sql], "").unwrap();
    assert_eq!(allowed.code, Some(0), "{}", allowed.stderr);
}
