//! A world leaves nothing behind, however its owner ends.

use std::path::Path;

use hoop_tests::{Place, Postgres, certificates::Authority};

#[test]
fn a_world_that_is_dropped_is_gone() {
    let place = Place::make().unwrap();
    let authority = Authority::make(&place.path("servers")).unwrap();
    let certificate = authority.sign("db.prod.internal").unwrap();
    let postgres = Postgres::start(&place, &certificate).unwrap();
    assert_eq!(postgres.ask("SELECT count(*) FROM users").unwrap(), "3");
    let (folder, cgroup) = (place.folder.clone(), place.cgroup.clone());
    assert!(shared_memory() > 0, "PostgreSQL without shared memory?");
    drop(place);
    assert!(!folder.exists() && !cgroup.exists());
}

#[test]
fn the_host_keeps_its_own_names() {
    let before = std::fs::read("/etc/hosts").unwrap();
    let place = Place::make().unwrap();
    let inside = place
        .command("services", None, "cat")
        .unwrap()
        .arg("/etc/hosts")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&inside.stdout).contains("db.prod.internal"));
    assert_eq!(std::fs::read("/etc/hosts").unwrap(), before);
}

#[test]
fn a_killed_janitor_is_succeeded_by_the_next_world() {
    let first = Place::make().unwrap();
    let mut sleep = first
        .command("services", None, "sleep")
        .unwrap()
        .arg("600")
        .spawn()
        .unwrap();
    let name = format!("/proc/{}/comm", sleep.id());
    while std::fs::read_to_string(&name).unwrap() != "sleep\n" {
        std::thread::yield_now();
    }
    first.janitor().kill();
    let second = Place::make().unwrap();
    assert!(!first.folder.exists() && !first.cgroup.exists());
    assert!(
        !sleep.wait().unwrap().success(),
        "a process of the dead world went on"
    );
    assert!(second.folder.exists());
}

fn shared_memory() -> usize {
    let text = std::fs::read_to_string(Path::new("/proc/sysvipc/shm")).unwrap_or_default();
    text.lines().count().saturating_sub(1)
}
