//! Broken glass in the kernel: it begins at once, ends by itself, and counts for whom it is meant.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use hoop::capture::{Bypasses, boot_now};
use hoop::config::Mode;
use hoop_common::Bypass;

use crate::ground::Ground;

/// For so long from now, under a number of its own.
fn lasting(nanoseconds: u64) -> Bypass {
    Bypass {
        until: boot_now() + nanoseconds,
        number: boot_now(),
    }
}

const SECOND: u64 = 1_000_000_000;

/// A server that says who it is.
fn server() -> (TcpListener, u16) {
    let server = TcpListener::bind("127.0.0.2:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let serving = server.try_clone().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = serving.accept() {
            stream.write_all(b"the server itself").ok();
        }
    });
    (server, port)
}

fn ask(port: u16) -> String {
    format!(
        "s = socket.socket()
print(tried(lambda: s.connect(('127.0.0.2', {port})) or answer(s)))"
    )
}

#[test]
fn it_passes_for_its_time_with_the_daemon_dead_and_no_longer() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Enforce);
    daemon.die(&ground);
    let (_server, port) = server();
    assert_eq!(ground.agent(&ask(port)), "ECONNREFUSED");
    let mut map = Bypasses::open(&ground.config).unwrap();
    map.set(ground.id(), lasting(600 * SECOND)).unwrap();
    assert_eq!(ground.agent(&ask(port)), "the server itself");
    // Further ahead than it may be, and over: nothing.
    for until in [Bypass::MOST + 60 * SECOND, 0] {
        map.set(ground.id(), lasting(until)).unwrap();
        assert_eq!(ground.agent(&ask(port)), "ECONNREFUSED", "{until}");
    }
    map.set(ground.id(), lasting(600 * SECOND)).unwrap();
    assert_eq!(map.retain(&Default::default()).unwrap().len(), 1);
    assert_eq!(ground.agent(&ask(port)), "ECONNREFUSED");
    // UDP stays as it was all the time.
    map.set(ground.id(), lasting(600 * SECOND)).unwrap();
    let said = ground.agent(
        "u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print(tried(lambda: u.sendto(b'x', ('127.0.0.2', 9))))",
    );
    assert_eq!(said, "EPERM");
}

#[test]
fn what_is_still_open_when_it_ends_carries_nothing_more() {
    let ground = Ground::new();
    for mode in [Mode::Enforce, Mode::Observe] {
        let daemon = ground.daemon(mode);
        daemon.die(&ground);
        let server = TcpListener::bind("127.0.0.2:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let mut map = Bypasses::open(&ground.config).unwrap();
        map.set(ground.id(), lasting(600 * SECOND)).unwrap();
        let mut child = ground.start(&format!(
            "s = socket.socket(); s.connect(('127.0.0.2', {port})); s.sendall(b'before')
sys.stdin.readline(); s.sendall(b'after'); s.settimeout(1)
print(tried(lambda: s.recv(9)) if True else '')"
        ));
        let (mut stream, _) = server.accept().unwrap();
        let mut word = [0; 6];
        stream.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"before");
        map.retain(&Default::default()).unwrap();
        // Neither what the server sends from now on, nor what the client does.
        stream.write_all(b"unasked").unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(700)))
            .unwrap();
        child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        let read = stream.read(&mut word);
        assert!(read.is_err(), "{read:?} in {mode:?}");
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!said.contains("unasked"), "{said}");
        assert!(
            said.contains("None") || errors.contains("timed out"),
            "{said}{errors}"
        );
    }
}

#[test]
fn it_counts_for_what_is_below_but_for_another_agents() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Enforce);
    let (_server, port) = server();
    let inner = ground.cgroup.join("inner");
    std::fs::create_dir(&inner).unwrap();
    let from_inner = |script: &str| {
        let procs = inner.join("cgroup.procs");
        ground.agent(&format!(
            "open('{}', 'w').write('0')\n{script}",
            procs.display()
        ))
    };
    let mut map = Bypasses::open(&ground.config).unwrap();
    map.set(ground.id(), lasting(600 * SECOND)).unwrap();
    assert_eq!(from_inner(&ask(port)), "the server itself");
    // One with a mode of its own answers for itself.
    let id = std::fs::metadata(&inner).unwrap().ino();
    let modes = [(ground.id(), Mode::Enforce), (id, Mode::Enforce)];
    daemon.capture.set_modes(&modes).unwrap();
    assert_eq!(from_inner(&ask(port)), format!("127.0.0.2:{port}"));
    map.set(id, lasting(600 * SECOND)).unwrap();
    assert_eq!(from_inner(&ask(port)), "the server itself");
    // One that is over does not fall back to what is above.
    map.set(id, lasting(0)).unwrap();
    assert_eq!(from_inner(&ask(port)), format!("127.0.0.2:{port}"));
}

#[test]
fn it_ends_by_the_kernels_clock() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Enforce);
    daemon.die(&ground);
    let (_server, port) = server();
    let mut map = Bypasses::open(&ground.config).unwrap();
    let bypass = lasting(6 * SECOND);
    map.set(ground.id(), bypass).unwrap();
    assert_eq!(ground.agent(&ask(port)), "the server itself");
    let start = Instant::now();
    while boot_now() < bypass.until {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(ground.agent(&ask(port)), "ECONNREFUSED");
}

#[test]
fn nobody_but_root_can_write_it() {
    let ground = Ground::new();
    let _daemon = ground.daemon(Mode::Enforce);
    let path = ground
        .config
        .pins
        .join(format!("v{}/maps/BYPASS", hoop_common::LAYOUT));
    let said = ground.agent(&format!(
        "import ctypes
os.setgroups([]); os.setgid(65534); os.setuid(65534)
libc = ctypes.CDLL(None, use_errno=True)
path = ctypes.create_string_buffer(b'{}')
attr = struct.pack('QIIQ', ctypes.addressof(path), 0, 0, 0)
fd = libc.syscall(321, 7, attr, len(attr))
print(fd, errno.errorcode[ctypes.get_errno()])",
        path.display()
    ));
    assert!(said == "-1 EPERM" || said == "-1 EACCES", "{said}");
}
