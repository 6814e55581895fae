//! Enforcement does not depend on a daemon that lives.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hoop::capture::{Capture, CaptureError};
use hoop::config::Mode;

use crate::ground::Ground;

const CONNECT: &str = "s = socket.socket()
print(tried(lambda: s.connect(('192.0.2.1', 80)) or answer(s)))";

#[test]
fn a_killed_daemon_means_refused_and_nothing_leaks() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Enforce);
    assert_eq!(ground.agent(CONNECT), "192.0.2.1:80");
    daemon.die(&ground);
    let real = TcpListener::bind("127.0.0.2:0").unwrap();
    real.set_nonblocking(true).unwrap();
    let port = real.local_addr().unwrap().port();
    let direct = format!(
        "s = socket.socket(); print(tried(lambda: s.connect(('127.0.0.2', {port}))))
t = socket.socket(socket.AF_INET6); print(tried(lambda: t.connect(('::ffff:127.0.0.2', {port}))))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); print(tried(lambda: u.sendto(b'x', ('127.0.0.2', 9))))"
    );
    assert_eq!(ground.agent(&direct), "ECONNREFUSED\nECONNREFUSED\nEPERM");
    assert!(real.accept().is_err(), "a connection got out");
    // The next daemon takes the pins over, and all is as before.
    let next = ground.daemon(Mode::Enforce);
    assert_eq!(ground.agent(CONNECT), "192.0.2.1:80");
    assert!(next.capture.health().iter().all(|hook| hook.healthy));
}

#[test]
fn in_observe_mode_a_dead_daemon_is_gone_round() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Observe);
    let real = TcpListener::bind("127.0.0.2:0").unwrap();
    let port = real.local_addr().unwrap().port();
    let direct =
        format!("s = socket.socket(); s.connect(('127.0.0.2', {port})); print(s.getpeername()[0])");
    assert_eq!(
        ground.agent(CONNECT),
        "192.0.2.1:80",
        "observed while the daemon lives"
    );
    daemon.die(&ground);
    assert_eq!(ground.agent(&direct), "127.0.0.2");
    real.accept().unwrap();
}

#[test]
fn whoever_binds_a_dead_daemons_port_gets_nothing() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Enforce);
    let port = daemon.ports[0];
    daemon.die(&ground);
    // An outsider, whose socket holds nothing, then the agent itself, whose socket holds a record.
    let squatter = bound(port);
    squatter.set_nonblocking(true).unwrap();
    assert_eq!(ground.agent(CONNECT), "ECONNREFUSED");
    assert!(squatter.accept().is_err());
    drop(squatter);
    let own = format!(
        "l = socket.socket()
for _ in range(4000):
    try: l.bind(('127.0.0.1', {})); break
    except OSError: time.sleep(0.005)
l.listen(8)
{CONNECT}",
        port.port()
    );
    assert_eq!(ground.agent(&own), "ECONNREFUSED");
}

/// Binds the port. A program that another test is just starting holds what this process had open
/// until it runs.
fn bound(port: SocketAddr) -> TcpListener {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match TcpListener::bind(port) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(5));
            }
            bound => return bound.unwrap(),
        }
    }
}

#[test]
fn programs_are_swapped_under_links_that_stay() {
    let ground = Ground::new();
    let first = ground.daemon(Mode::Enforce);
    let before = first.capture.health();
    let second = Capture::load(&ground.config).unwrap();
    let after = second.health();
    for (before, after) in before.iter().zip(&after) {
        assert!(
            after.healthy && before.program_id != after.program_id,
            "{after:?}"
        );
    }
    assert_eq!(
        ground.agent(CONNECT),
        "192.0.2.1:80",
        "the maps are the same"
    );
}

#[test]
fn a_recreated_cgroup_is_noticed_and_repaired() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Enforce);
    std::fs::remove_dir(&ground.cgroup).unwrap();
    assert!(
        daemon
            .capture
            .health()
            .iter()
            .all(|hook| !hook.healthy && hook.expected == 0)
    );
    assert!(matches!(
        daemon.capture.repair(),
        Err(CaptureError::Slice { .. })
    ));
    std::fs::create_dir(&ground.cgroup).unwrap();
    let health = daemon.capture.health();
    assert!(
        health
            .iter()
            .all(|hook| !hook.healthy && hook.expected == ground.id())
    );
    assert_eq!(daemon.capture.repair().unwrap(), health.len());
    assert!(daemon.capture.health().iter().all(|hook| hook.healthy));
    assert_eq!(ground.agent(CONNECT), "192.0.2.1:80");
    // A daemon that starts afterwards does the same by itself.
    daemon.die(&ground);
    std::fs::remove_dir(&ground.cgroup).unwrap();
    std::fs::create_dir(&ground.cgroup).unwrap();
    let _next = ground.daemon(Mode::Enforce);
    assert_eq!(ground.agent(CONNECT), "192.0.2.1:80");
}

#[test]
fn a_pin_that_was_taken_away_is_put_back() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Enforce);
    let pin = ground
        .config
        .pins
        .join(format!("v{}/links/hoop_connect4", hoop_common::LAYOUT));
    std::fs::remove_file(&pin).unwrap();
    let unhealthy =
        |capture: &Arc<Capture>| capture.health().iter().filter(|hook| !hook.healthy).count();
    assert_eq!(unhealthy(&daemon.capture), 1);
    assert_eq!(daemon.capture.repair().unwrap(), 1);
    assert_eq!(unhealthy(&daemon.capture), 0);
    assert!(pin.exists());
}

#[test]
fn the_mark_that_agents_wait_for_is_there_only_while_every_hook_is_attached() {
    let ground = Ground::new();
    let mark = ground.config.pins.join("attached");
    let links = ground
        .config
        .pins
        .join(format!("v{}/links", hoop_common::LAYOUT));
    // Mounts the BPF file system where nobody has.
    drop(Capture::load(&ground.config).unwrap());
    Capture::unload(&ground.config.pins).unwrap();
    // What the last hook would be pinned as is taken: the start fails with the others attached.
    let taken = links.join("hoop_egress");
    std::fs::create_dir_all(&taken).unwrap();
    assert!(Capture::load(&ground.config).is_err());
    assert!(links.join("hoop_connect4").exists() && !mark.exists());
    std::fs::remove_dir(&taken).unwrap();
    let capture = Capture::load(&ground.config).unwrap();
    assert!(mark.exists());
    // The slice goes: the mark goes with the first look, and comes back with the hooks.
    std::fs::remove_dir(&ground.cgroup).unwrap();
    assert!(capture.repair().is_err());
    assert!(!mark.exists());
    std::fs::create_dir(&ground.cgroup).unwrap();
    capture.repair().unwrap();
    assert!(mark.exists());
    // With no daemon to look, the next one's failed start takes it away.
    drop(capture);
    std::fs::remove_dir(&ground.cgroup).unwrap();
    std::fs::create_dir(&ground.cgroup).unwrap();
    std::fs::remove_file(links.join("hoop_egress")).unwrap();
    std::fs::create_dir(&taken).unwrap();
    assert!(Capture::load(&ground.config).is_err());
    assert!(!mark.exists());
    std::fs::remove_dir(&taken).unwrap();
}

#[test]
fn unloading_ends_governance() {
    let ground = Ground::new();
    let daemon = ground.daemon(Mode::Enforce);
    daemon.die(&ground);
    assert!(Capture::unload(&ground.config.pins).unwrap());
    assert!(!Capture::unload(&ground.config.pins).unwrap());
    let real = TcpListener::bind("127.0.0.2:0").unwrap();
    let port = real.local_addr().unwrap().port();
    let direct = format!("s = socket.socket(); s.connect(('127.0.0.2', {port})); print('direct')");
    assert_eq!(ground.agent(&direct), "direct");
    assert!(!ground.config.pins.exists());
}
