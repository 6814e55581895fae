//! Every TCP connection reaches the daemon, with its destination and its process.

use std::net::SocketAddr;

use hoop::capture::{Observed, Verdict};
use hoop::config::Mode;

use crate::ground::Ground;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn v4_v6_and_mapped_connections_keep_their_destination() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Enforce);
    for (family, host, shown) in [
        ("AF_INET", "192.0.2.7", "192.0.2.7:5432"),
        ("AF_INET6", "2001:db8::7", "[2001:db8::7]:5432"),
        ("AF_INET6", "::ffff:192.0.2.8", "192.0.2.8:5432"),
        ("AF_INET", "0.0.0.0", "127.0.0.1:5432"),
        ("AF_INET6", "::", "[::1]:5432"),
    ] {
        let said = ground.agent(&format!(
            "s = socket.socket(socket.{family}, socket.SOCK_STREAM)
s.connect(('{host}', 5432))
print(s.getpeername()[0], s.getpeername()[1], answer(s))"
        ));
        let peer = match host {
            "0.0.0.0" => "127.0.0.1",
            "::" => "::1",
            host => host,
        };
        assert_eq!(said, format!("{peer} 5432 {shown}"));
        let (origin, destination) = *daemon.seen.lock().unwrap().captured.last().unwrap();
        assert_eq!(destination, address(shown));
        assert_eq!(origin.cgroup_id, ground.id());
        assert_eq!((origin.uid, origin.protocol), (0, 6));
        assert!(origin.comm.starts_with(b"python3") && origin.tgid > 0);
    }
    assert_eq!(daemon.capture.waiting(), 0);
}

#[test]
fn bound_nonblocking_and_reconnected_sockets_are_redirected() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Enforce);
    let said = ground.agent(
        "a = socket.socket(); a.bind(('127.0.0.1', 0)); a.connect(('192.0.2.1', 1)); print(answer(a))
b = socket.socket(); b.setsockopt(0, 24, 1); b.bind(('127.0.0.9', 0)); b.connect(('192.0.2.2', 2)); print(answer(b))
c = socket.socket(); c.setblocking(False); print(tried(lambda: c.connect(('192.0.2.3', 3))))
import select; select.select([], [c], [], 5); print(answer(c))
d = socket.socket(); d.connect(('192.0.2.4', 4)); answer(d)
d2 = socket.socket(fileno=os.dup(d.fileno()))
import ctypes; libc = ctypes.CDLL(None, use_errno=True)
print(libc.connect(d.fileno(), bytes(16), 16)); d.connect(('192.0.2.5', 5)); print(answer(d))",
    );
    let expected = "192.0.2.1:1\n192.0.2.2:2\nEINPROGRESS\n192.0.2.3:3\n0\n192.0.2.5:5";
    assert_eq!(said, expected);
    assert_eq!(daemon.capture.waiting(), 0);
}

#[test]
fn a_socket_bound_to_a_device_is_released_or_refused() {
    let ground = Ground::new();
    let _daemon = ground.daemon(Mode::Enforce);
    let attempt = "s = socket.socket(); s.setsockopt(1, 25, b'lo\\0')
print(tried(lambda: s.connect(('192.0.2.1', 1)) or answer(s)))";
    assert_eq!(ground.agent(attempt), "192.0.2.1:1");
    let unprivileged = format!("os.setuid(65534)\n{attempt}");
    let said = ground.agent(&unprivileged);
    assert!(["192.0.2.1:1", "EPERM"].contains(&said.as_str()), "{said}");
}

#[test]
fn fast_open_is_redirected() {
    let ground = Ground::new();
    let _daemon = ground.daemon(Mode::Enforce);
    let said = ground.agent(
        "s = socket.socket(); s.sendto(b'early', 0x20000000, ('192.0.2.1', 80))
said = answer(s); print(s.getpeername()[0], said)",
    );
    assert_eq!(said, "192.0.2.1 192.0.2.1:80");
}

#[test]
fn io_uring_is_redirected() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Enforce);
    for kernel_thread in ["False", "True"] {
        let script = include_str!("io_uring.py").replace("SQPOLL", kernel_thread);
        let said = ground.agent(&script);
        assert_eq!(said, "0 192.0.2.1:80", "kernel thread: {kernel_thread}");
    }
    let seen = daemon.seen.lock().unwrap();
    assert!(
        seen.captured
            .iter()
            .all(|(origin, _)| origin.cgroup_id == ground.id())
    );
    assert_eq!(seen.captured.len(), 2);
}

#[test]
fn what_was_written_before_the_accept_arrives_although_the_client_closed() {
    let ground = Ground::new();
    let capture = std::sync::Arc::new(hoop::capture::Capture::load(&ground.config).unwrap());
    // A daemon that is slow to accept: bound and blessed, but not accepting yet.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    capture.listen_marked(&listener).unwrap();
    ground.agent(
        "s = socket.socket(); s.connect(('192.0.2.1', 80)); s.sendall(b'last words'); s.close()",
    );
    let (mut stream, peer) = listener.accept().unwrap();
    let local = stream.local_addr().unwrap();
    let key = hoop_common::FlowKey {
        netns_cookie: netns_cookie(),
        src: hoop::capture::kernel_address(peer.ip()),
        dst: hoop::capture::kernel_address(local.ip()),
        sport: peer.port(),
        dport: local.port(),
        reserved: 0,
    };
    let origin = capture
        .take_origin(&key)
        .expect("the origin outlives the client");
    assert_eq!(hoop::capture::destination(&origin), address("192.0.2.1:80"));
    assert!(
        capture.take_origin(&key).is_none(),
        "an origin can be taken once"
    );
    let mut said = String::new();
    std::io::Read::read_to_string(&mut stream, &mut said).unwrap();
    assert_eq!(said, "last words");
}

/// This process's namespace cookie, as the kernel tells a Python of the same namespace.
pub fn netns_cookie() -> u64 {
    let script = "print(struct.unpack('Q', socket.socket().getsockopt(1, 71, 8))[0])";
    crate::ground::outside(script).parse().unwrap()
}

#[test]
fn an_origin_that_nobody_takes_ages_out() {
    let ground = Ground::new();
    let capture = hoop::capture::Capture::load(&ground.config).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    capture.listen_marked(&listener).unwrap();
    ground.agent("s = socket.socket(); s.connect(('192.0.2.1', 80)); s.close()");
    assert_eq!(capture.waiting(), 1);
    assert_eq!(capture.sweep(std::time::Duration::from_secs(60)), 0);
    assert_eq!(capture.sweep(std::time::Duration::ZERO), 1);
    assert_eq!(capture.waiting(), 0);
}

#[test]
fn discover_redirects_nothing_and_reports_the_destination() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Discover);
    let real = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    let to = real.local_addr().unwrap();
    let said = ground.agent(&format!(
        "s = socket.socket(); s.connect(('127.0.0.2', {})); print(s.getpeername()[0])
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); print(u.sendto(b'x', ('127.0.0.2', 9)))",
        to.port()
    ));
    assert_eq!(said, "127.0.0.2\n1");
    real.accept().unwrap();
    for wanted in [to, address("127.0.0.2:9")] {
        daemon.until(|seen| {
            seen.observed.iter().find_map(|observed| match observed {
                Observed::Connect {
                    origin,
                    verdict: Verdict::Passed,
                } if hoop::capture::destination(origin) == wanted
                    && origin.cgroup_id == ground.id() =>
                {
                    Some(())
                }
                _ => None,
            })
        });
    }
    assert!(daemon.seen.lock().unwrap().captured.is_empty());
}

#[test]
fn modes_are_inherited_from_the_nearest_ancestor_and_unknown_means_enforced() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Discover);
    let child = ground.cgroup.join("child/grandchild");
    std::fs::create_dir_all(&child).unwrap();
    let connect = format!(
        "open('{}/cgroup.procs', 'w').write(str(os.getpid()))
s = socket.socket(); print(tried(lambda: s.connect(('127.0.0.2', 1)) or answer(s)))",
        child.display()
    );
    assert_eq!(
        ground.agent(&connect),
        "ECONNREFUSED",
        "discover: nobody listens there"
    );
    daemon.capture.set_modes(&[]).unwrap();
    assert_eq!(ground.agent(&connect), "127.0.0.2:1", "redirected");
    std::fs::remove_dir(&child).unwrap();
}

#[test]
fn a_socket_that_is_used_again_forgets_its_first_destination() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Enforce);
    let resolver = std::net::TcpListener::bind("127.0.0.153:53").unwrap();
    let said = ground.agent(
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True)
s = socket.socket(); s.connect(('192.0.2.1', 80)); answer(s)
libc.connect(s.fileno(), bytes(16), 16)
s.connect(('127.0.0.153', 53)); print(s.getpeername())",
    );
    assert_eq!(said, "('127.0.0.153', 53)");
    resolver.accept().unwrap();
    assert_eq!(daemon.seen.lock().unwrap().captured.len(), 1);
    assert_eq!(
        daemon.capture.waiting(),
        0,
        "no origin of a connection that was not redirected"
    );
}

#[test]
fn names_that_a_resolver_answered_are_seen() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Enforce);
    let resolver = std::net::UdpSocket::bind("127.0.0.153:53").unwrap();
    let answering = std::thread::spawn(move || {
        let mut query = [0; 512];
        let (length, from) = resolver.recv_from(&mut query).unwrap();
        let mut answer = query[..length].to_vec();
        answer[2] = 0x81;
        answer[3] = 0x80;
        answer[7] = 1;
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 9]);
        resolver.send_to(&answer, from).unwrap();
    });
    let said = ground.agent(
        "q = b'\\x12\\x34\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0\\x02db\\x07example\\0\\0\\x01\\0\\x01'
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.settimeout(5)
u.sendto(q, ('127.0.0.153', 53)); print(len(u.recv(512)))",
    );
    answering.join().unwrap();
    assert_eq!(said, "44");
    let (names, addresses) = daemon.until(|seen| {
        seen.observed.iter().find_map(|observed| match observed {
            Observed::Dns {
                names,
                addresses,
                cgroup_id,
                ..
            } if *cgroup_id == ground.id() => Some((names.clone(), addresses.clone())),
            _ => None,
        })
    });
    assert_eq!(names, ["db.example"]);
    assert_eq!(
        addresses,
        ["192.0.2.9".parse::<std::net::IpAddr>().unwrap()]
    );
}
