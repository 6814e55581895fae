//! Agents in network namespaces of their own.

use hoop::capture::Observed;
use hoop::config::Mode;

use crate::ground::{Ground, prelude, printed};

/// Tries for a while: the first connection tells the daemon of the namespace, and is refused.
const UNTIL_SERVED: &str = "
for _ in range(100):
    s = socket.socket()
    said = tried(lambda: s.connect(('192.0.2.1', 80)) or answer(s))
    if said != 'ECONNREFUSED': break
    time.sleep(0.05)
print(said)";

fn up() -> &'static str {
    "os.system('ip link set lo up')\n"
}

#[test]
fn a_namespace_of_the_host_is_served_after_its_first_connection() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Enforce);
    let script = format!("{}{}{UNTIL_SERVED}", prelude(), up());
    let mut command = ground.enter(&["unshare", "--net"]);
    assert_eq!(
        printed(command.arg(script).output().unwrap()),
        "192.0.2.1:80"
    );
    let own = daemon.capture.health();
    assert!(own.iter().all(|hook| hook.healthy));
    let cookies: std::collections::BTreeSet<u64> = {
        let seen = daemon.seen.lock().unwrap();
        seen.captured
            .iter()
            .map(|(origin, _)| origin.netns_cookie)
            .collect()
    };
    assert_eq!(cookies.len(), 1);
}

/// What governs the agent does not hold for a socket that the daemon makes where the agent is.
#[test]
fn the_daemons_sockets_in_an_agents_namespace_are_the_daemons_own() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Enforce);
    // A server that is there alone. It listens for the time of the test, in the agent's namespace and
    // outside of its cgroup's rules on connecting.
    let script = format!(
        "{}{}os.system('ip addr add 192.0.2.1/32 dev lo')\n{UNTIL_SERVED}
sys.stdout.flush(); sys.stdin.read()",
        prelude(),
        up(),
    );
    let mut command = ground.enter(&["unshare", "--net"]);
    let mut agent = command.arg(script).spawn().unwrap();
    daemon.until(|seen| (!seen.captured.is_empty()).then_some(()));
    let (cookie, pid) = {
        let seen = daemon.seen.lock().unwrap();
        let (origin, _) = seen.captured.first().unwrap();
        (origin.netns_cookie, origin.tgid)
    };
    let mut server = std::process::Command::new("nsenter")
        .args([&format!("--net=/proc/{pid}/ns/net"), "/usr/bin/python3", "-u", "-c"])
        .arg("import socket\nl = socket.create_server(('192.0.2.1', 8080))\nprint('up')\nwhile True: print(l.accept()[1][0])")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let out = std::io::BufReader::new(server.stdout.take().unwrap());
    let mut lines = std::io::BufRead::lines(out).map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("up"));
    let doors = daemon.doors.clone();
    let address = "192.0.2.1:8080".parse().unwrap();
    let dialled = ground.runtime().block_on(async {
        let mut spent = std::time::Duration::ZERO;
        for _ in 0..50 {
            let begun = std::time::Instant::now();
            let socket = doors.socket(cookie, false).await.unwrap();
            spent += begun.elapsed();
            let socket = tokio::net::TcpSocket::from_std_stream(socket.into());
            let stream = socket.connect(address).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), address);
        }
        println!("a socket takes {:?}", spent / 50);
        let other = doors.socket(cookie + 1, false).await.unwrap_err();
        let own = doors
            .socket(crate::redirect::netns_cookie(), false)
            .await
            .unwrap_err();
        (other.to_string(), own.to_string())
    });
    assert!(dialled.0.contains("nobody is in"), "{dialled:?}");
    assert!(
        dialled.1.contains("nobody is in"),
        "the daemon's own: {dialled:?}"
    );
    assert_eq!(lines.next().as_deref(), Some("192.0.2.1"));
    server.kill().and_then(|()| server.wait()).unwrap();
    drop(agent.stdin.take());
    agent.wait().unwrap();
    // It goes with the last who is there, and then there are no more sockets in it.
    daemon.until(|_| (daemon.doors.retire_namespaces() > 0).then_some(()));
    let gone = ground
        .runtime()
        .block_on(daemon.doors.socket(cookie, false));
    assert!(gone.unwrap_err().to_string().contains("nobody is in"));
}

#[test]
fn a_namespace_that_the_agent_made_stays_refused_and_is_reported() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Enforce);
    let script = format!(
        "{}{}
l = socket.socket(); l.bind(('127.0.0.1', {})); l.listen(8)
{}",
        prelude(),
        up(),
        daemon.ports[0].port(),
        UNTIL_SERVED.replace("range(100)", "range(10)"),
    );
    let mut command = ground.enter(&["unshare", "--user", "--map-root-user", "--net"]);
    assert_eq!(
        printed(command.arg(script).output().unwrap()),
        "ECONNREFUSED"
    );
    daemon.until(|seen| {
        seen.observed.iter().find_map(|observed| match observed {
            Observed::Namespace { origin } => (origin.cgroup_id == ground.id()).then_some(()),
            _ => None,
        })
    });
    assert!(daemon.seen.lock().unwrap().captured.is_empty());
}
