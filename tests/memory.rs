//! What sessions at rest hold in the worker: bounded, and given back when they end.

use hoop_tests::idle::{self, Idle, Memory};
use hoop_tests::{Place, Settings, World};

const SESSIONS: usize = 500;

/// The target of the release, which the bench prints; tests run a build without optimisation.
const EACH: u64 = 100 * 1024;

#[test]
fn a_session_at_rest_is_small() {
    let place = Place::make().unwrap();
    let resource = idle::Resource::of(&place);
    place.set_hosts(&resource.hosts).unwrap();
    let settings = Settings {
        more: resource.config,
        ..Settings::default()
    };
    let world = World::start_in(place, settings).unwrap();
    idle::serve(&world.place).unwrap();
    let worker = world.daemon.worker().unwrap();
    // What is made once, with the first session, is no session's.
    drop(Idle::open(&world, 1).unwrap());
    let before = Memory::of(worker).unwrap();
    let _held = Idle::open(&world, SESSIONS).unwrap();
    let with = Memory::of(worker).unwrap();
    let each = with.share.saturating_sub(before.share) / SESSIONS as u64;
    println!("{each} bytes each");
    assert!(each < EACH, "{each} bytes for each session at rest");
}
