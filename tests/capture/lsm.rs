//! The LSM tier on the host that runs these tests: on, or off with the reason, and everything else as
//! it is without. What it closes is tried in a machine of its own (`cargo xtask vm KERNEL --tier`).

use hoop::capture::{Capture, CaptureError, Lsm, LsmOff};
use hoop::config::{LsmWish, Mode};

use crate::ground::{Ground, outside};

const CORE: usize = 10;
const TIER: usize = 4;
const PACKET: &str = "s = tried(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
print(s if isinstance(s, str) else 'made')";

#[test]
fn the_tier_is_on_or_says_what_keeps_it_off_and_the_rest_holds() {
    let mut ground = Ground::new();
    ground.config.lsm.wish = LsmWish::Auto;
    let daemon = ground.daemon(Mode::Enforce);
    let health = daemon.capture.health();
    assert!(health.iter().all(|hook| hook.healthy), "{health:?}");
    let list = std::fs::read_to_string("/sys/kernel/security/lsm").ok();
    let listed = list
        .as_deref()
        .map(|list| list.trim().split(',').any(|name| name == "bpf"));
    match (daemon.capture.lsm(), listed) {
        (Lsm::On(hooks), Some(true)) => {
            assert_eq!((hooks, health.len()), (TIER, CORE + TIER));
            assert_eq!(ground.agent(PACKET), "EAFNOSUPPORT");
        }
        (Lsm::Off(why), listed) => {
            let known = match why {
                LsmOff::NoList => listed.is_none(),
                LsmOff::NotListed(_) => listed == Some(false),
                // A list that has it, on a machine that forbids it all the same.
                _ => listed == Some(true),
            };
            assert!(known, "{why:?} with {list:?}");
            assert!(!why.mend().is_empty());
            assert_eq!(health.len(), CORE);
            // Which is what the tier is for: nothing else sees it.
            assert_eq!(ground.agent(PACKET), "made");
        }
        (on, listed) => panic!("{on:?} with {listed:?}"),
    }
    // Whatever the tier is, TCP is redirected as always.
    let connect = "s = socket.socket()
print(tried(lambda: s.connect(('192.0.2.1', 80)) or answer(s)))";
    assert_eq!(ground.agent(connect), "192.0.2.1:80");
    assert_eq!(
        outside(PACKET),
        "made",
        "whoever is not governed is left alone"
    );
}

#[test]
fn who_does_not_want_the_tier_has_none_and_who_requires_it_is_not_left_without() {
    let mut ground = Ground::new();
    let capture = Capture::load(&ground.config).unwrap();
    assert_eq!(capture.lsm(), Lsm::Off(LsmOff::NotWanted));
    assert_eq!(capture.health().len(), CORE);
    drop(capture);
    assert_eq!(
        Capture::pinned_lsm(&ground.config).unwrap(),
        Lsm::Off(LsmOff::NotWanted)
    );
    ground.config.lsm.wish = LsmWish::Require;
    match Capture::load(&ground.config) {
        Ok(capture) => assert_eq!(capture.lsm(), Lsm::On(TIER)),
        Err(error @ CaptureError::NoLsm { .. }) => {
            let rehearsed = Capture::rehearse_takeover(&ground.config);
            assert!(matches!(rehearsed, Err(CaptureError::NoLsm { .. })));
            assert!(error.to_string().contains("the LSM tier is off"), "{error}");
            // What does not depend on it is attached, and refuses.
            let health = Capture::pinned_health(&ground.config).unwrap();
            assert!(health.iter().all(|hook| hook.healthy), "{health:?}");
        }
        Err(other) => panic!("{other}"),
    }
}

/// A version from before the tier pinned no names of sockets.
#[test]
fn pins_of_a_version_without_the_tier_are_taken_over() {
    let mut ground = Ground::new();
    ground.config.lsm.wish = LsmWish::Auto;
    drop(Capture::load(&ground.config).unwrap());
    let names = ground.config.pins.join("v1/maps/SOCKET_NAMES");
    std::fs::remove_file(&names).unwrap();
    Capture::rehearse_takeover(&ground.config).unwrap();
    assert!(!names.exists(), "a rehearsal pins nothing");
    let capture = Capture::load(&ground.config).unwrap();
    assert!(names.exists() && capture.health().iter().all(|hook| hook.healthy));
    let default = ground.config.lsm.clone();
    capture.set_socket_names(&default).unwrap();
    let mut none = default;
    none.refused.clear();
    capture.set_socket_names(&none).unwrap();
}
