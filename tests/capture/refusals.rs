//! Side doors, each shut in enforce mode.

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use hoop::accept::NotCaptured;
use hoop::capture::{Observed, Reason};
use hoop::config::Mode;

use crate::ground::{Daemon, Ground, outside};

fn denied(daemon: &Daemon, wanted: Reason) {
    daemon.until(|seen| {
        seen.observed.iter().find_map(|observed| match observed {
            Observed::Denied { reason, .. } if *reason == wanted => Some(()),
            _ => None,
        })
    });
}

#[test]
fn udp_is_refused_but_to_a_resolvers_port() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Enforce);
    let outsider = UdpSocket::bind("127.0.0.1:0").unwrap();
    outsider
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let port = outsider.local_addr().unwrap().port();
    let said = ground.agent(&format!(
        "def udp(family=socket.AF_INET): return socket.socket(family, socket.SOCK_DGRAM)
print(tried(lambda: udp().sendto(b'x', ('127.0.0.1', {port}))))
print(tried(lambda: udp(socket.AF_INET6).sendto(b'x', ('::ffff:127.0.0.1', {port}))))
print(tried(lambda: udp(socket.AF_INET6).sendto(b'x', ('2001:db8::1', 443))))
print(tried(lambda: udp().connect(('192.0.2.1', 443))))
print(tried(lambda: udp().sendto(b'x', ('127.0.0.153', 54))))
print(tried(lambda: udp().connect(('127.0.0.153', 53))))
print(tried(lambda: udp(socket.AF_INET6).sendto(b'x', ('::ffff:127.0.0.153', 53))))"
    ));
    assert_eq!(said, "EPERM\nEPERM\nEPERM\nEPERM\nEPERM\nNone\n1");
    denied(&daemon, Reason::Datagram);
    assert!(outsider.recv(&mut [0; 8]).is_err(), "a datagram got out");
}

#[test]
fn socket_kinds_are_allowed_by_list() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Enforce);
    let said = ground.agent(
        "def made(*a): return tried(lambda: socket.socket(*a).type and 'made')
print(made(socket.AF_INET, socket.SOCK_RAW, 1), made(socket.AF_INET6, socket.SOCK_RAW, 58))
print(made(socket.AF_INET, socket.SOCK_RAW, 255))
print(made(socket.AF_INET, socket.SOCK_STREAM, 262))
print(made(socket.AF_INET, socket.SOCK_STREAM, 132) in ('EPERM', 'EPROTONOSUPPORT'))
print(made(socket.AF_INET, socket.SOCK_DGRAM, 136) in ('EPERM', 'EPROTONOSUPPORT'))
print(made(socket.AF_INET, socket.SOCK_DGRAM, 1) in ('EPERM', 'EACCES'))
print(made(socket.AF_INET, socket.SOCK_STREAM), made(socket.AF_INET6, socket.SOCK_DGRAM))
print(made(socket.AF_UNIX, socket.SOCK_STREAM), made(socket.AF_NETLINK, socket.SOCK_RAW, 0))",
    );
    let expected = "EPERM EPERM\nEPERM\nEPROTONOSUPPORT\nTrue\nTrue\nTrue\nmade made\nmade made";
    assert_eq!(said, expected);
    denied(&daemon, Reason::SocketKind);
}

#[test]
fn what_dials_the_daemons_port_itself_is_reset_and_reported() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Enforce);
    let port = daemon.ports[0].port();
    // From outside: no origin. From inside: redirected like any other, so the daemon knows.
    let said = outside(&format!(
        "s = socket.socket(); s.connect(('127.0.0.1', {port})); s.settimeout(5)
print(tried(lambda: s.recv(1)))"
    ));
    assert_eq!(said, "ECONNRESET");
    daemon.until(|seen| seen.refused.contains(&NotCaptured::NoOrigin).then_some(()));
    let inside = format!("s = socket.socket(); s.connect(('127.0.0.1', {port})); print(answer(s))");
    assert_eq!(ground.agent(&inside), format!("127.0.0.1:{port}"));
}

#[test]
fn a_socket_made_in_another_governed_cgroup_is_refused() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Enforce);
    let other = ground.cgroup.join("other");
    std::fs::create_dir(&other).unwrap();
    let said = ground.agent(&format!(
        "s = socket.socket(); u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
open('{}/cgroup.procs', 'w').write(str(os.getpid()))
print(tried(lambda: s.connect(('192.0.2.1', 80))))
print(tried(lambda: u.sendto(b'x', ('127.0.0.153', 53))))",
        other.display()
    ));
    assert_eq!(said, "EPERM\nEPERM");
    denied(&daemon, Reason::PassedSocket);
}

/// A stated limit: the hooks follow the socket's cgroup. What starts agents must close inherited
/// descriptors (`hoop exec` does).
#[test]
fn a_socket_made_outside_and_brought_in_is_not_governed() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Enforce);
    let real = TcpListener::bind("127.0.0.1:0").unwrap();
    let said = outside(&format!(
        "s = socket.socket()
open('{}/cgroup.procs', 'w').write(str(os.getpid()))
s.connect(('127.0.0.1', {})); print('direct')",
        ground.cgroup.display(),
        real.local_addr().unwrap().port()
    ));
    assert_eq!(said, "direct");
    real.accept().unwrap();
    assert!(daemon.seen.lock().unwrap().captured.is_empty());
}

#[test]
fn what_an_agent_accepts_is_answered_on_listed_ports_only() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Enforce);
    let mut child = ground.start(
        "l = socket.socket(); l.bind(('127.0.0.1', 0)); l.listen(8); print(l.getsockname()[1], flush=True)
while True:
    c, _ = l.accept(); c.sendall(b'hello'); c.close()",
    );
    let mut line = String::new();
    let out = child.stdout.as_mut().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
    let port: u16 = line.trim().parse().unwrap();
    let dial = format!(
        "s = socket.socket(); s.settimeout(1)
try: s.connect(('127.0.0.1', {port})); print(answer(s))
except socket.timeout: print('silence')"
    );
    assert_eq!(outside(&dial), "silence");
    denied(&daemon, Reason::Egress);
    daemon
        .capture
        .set_listen_ports(ground.id(), &[port])
        .unwrap();
    assert_eq!(outside(&dial), "hello");
    daemon
        .capture
        .retain_listen_ports(&Default::default())
        .unwrap();
    assert_eq!(outside(&dial), "silence");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_connection_from_before_enforcement_is_cut_off() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Discover);
    let real = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut child = ground.start(&format!(
        "s = socket.socket(); s.connect(('127.0.0.1', {})); sys.stdin.readline()
s.sendall(b'late'); time.sleep(5)",
        real.local_addr().unwrap().port()
    ));
    let (mut stream, _) = real.accept().unwrap();
    daemon
        .capture
        .set_modes(&[(ground.id(), Mode::Enforce)])
        .unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n").unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    assert!(
        std::io::Read::read(&mut stream, &mut [0; 8]).is_err(),
        "bytes got out"
    );
    denied(&daemon, Reason::Egress);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn source_routing_does_not_lead_past_the_daemon() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Enforce);
    // Loose source route by way of 127.0.0.77: the packet's own destination would be that.
    let said = ground.agent(
        "s = socket.socket(); s.settimeout(1)
s.setsockopt(0, 4, bytes([131, 7, 4, 127, 0, 0, 77, 0]))
try: s.connect(('192.0.2.1', 80)); print('connected')
except OSError: print('nothing')",
    );
    assert_eq!(said, "nothing");
    denied(&daemon, Reason::Egress);
    assert!(daemon.seen.lock().unwrap().captured.is_empty());
}
