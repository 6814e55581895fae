//! The LSM tier, on a kernel that has it: what nothing else closes, tried without any other net.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::machine::Machine;

const SCRIPT: &str = include_str!("inside/tier.py");
/// What it tries, at least: doors, and what must go on working.
const DOORS: usize = 18;
const WORKS: usize = 8;

/// Only this: the program out of the package, attached to a cgroup of its own by hand, without a daemon.
pub fn alone(machine: &Machine, kernel: &str, package: &Path) -> Result<()> {
    println!("vm: {kernel}: {}", machine.ok("uname -r")?.trim());
    machine.put(package, "/var/tmp/hoop.deb")?;
    machine.ok(
        "set -e; dpkg-deb --fsys-tarfile /var/tmp/hoop.deb | tar -x -C /var/tmp ./usr/bin/hoop\n\
         mkdir -p /sys/fs/cgroup/tier.slice/agent",
    )?;
    // A server for who is outside.
    machine.ok(
        "systemd-run --quiet --unit=tier-server python3 -c 'import socket,time
s = socket.create_server((\"127.0.0.1\", 7654)); time.sleep(3600)'; sleep 2",
    )?;
    let (cgroup, server) = ("/sys/fs/cgroup/tier.slice/agent", ("127.0.0.1", 7654));
    // What is closed below must be open without it, or it says nothing.
    let without = Tried::of(machine, cgroup, server)?;
    ensure!(
        without.closed == 0 && without.open.len() >= DOORS && without.broken.is_empty(),
        "without the tier: {without:?}"
    );
    let load =
        "/var/tmp/usr/bin/hoop capture load --cgroup tier.slice --pins /sys/fs/bpf/tier 2>&1";
    let said = machine.run(load)?;
    println!("{}", said.text.trim_end());
    ensure!(said.ok, "not loaded");
    ensure!(
        said.text.contains("LSM tier           on"),
        "the tier is off"
    );
    let seen = tried(machine, cgroup, server)?;
    // Programs are swapped below links that stay, as in an upgrade.
    machine.ok(load)?;
    let again = tried(machine, cgroup, server)?;
    machine.ok(
        "/var/tmp/usr/bin/hoop capture unload --cgroup tier.slice --pins /sys/fs/bpf/tier\n\
         test ! -e /sys/fs/bpf/tier",
    )?;
    println!(
        "  without the tier: {} open\n  with it: {seen}\n  its programs swapped: {again}",
        without.open.len()
    );
    Ok(())
}

/// In that cgroup, which is governed and enforced.
fn tried(machine: &Machine, cgroup: &str, server: (&str, u16)) -> Result<String> {
    let tried = Tried::of(machine, cgroup, server)?;
    ensure!(tried.open.is_empty(), "open: {:?}", tried.open);
    ensure!(tried.broken.is_empty(), "broken: {:?}", tried.broken);
    ensure!(
        tried.closed >= DOORS && tried.works >= WORKS,
        "fewer were tried than there are: {tried:?}"
    );
    Ok(format!(
        "{} ways tried by root without any other net, all closed; {} things go on working",
        tried.closed, tried.works
    ))
}

/// What came of each.
#[derive(Debug, Default)]
struct Tried {
    closed: usize,
    works: usize,
    open: Vec<String>,
    broken: Vec<String>,
}

impl Tried {
    fn of(machine: &Machine, cgroup: &str, server: (&str, u16)) -> Result<Self> {
        machine.write("/var/tmp/tier.py", SCRIPT)?;
        let (host, port) = server;
        let said = machine.run(&format!("python3 /var/tmp/tier.py {cgroup} {host} {port}"))?;
        ensure!(said.ok, "{}", said.text);
        let mut tried = Self::default();
        for line in said.text.lines() {
            let [what, state, seen] = line.split('\t').collect::<Vec<_>>()[..] else {
                bail!(
                    "the list of what the LSM tier closes ends early: {}",
                    said.text
                )
            };
            println!("      {what:<42} {state:<7} {seen}");
            match state {
                "closed" => tried.closed += 1,
                "works" => tried.works += 1,
                "open" => tried.open.push(what.to_owned()),
                _ => tried.broken.push(what.to_owned()),
            }
        }
        Ok(tried)
    }
}

/// With the daemon of the steps: in the agent's own cgroup, where the daemon says that the tier is on.
pub fn with_daemon(machine: &Machine) -> Result<String> {
    let status = machine.ok("hoop status | grep '^LSM tier'")?;
    let status = status.trim();
    ensure!(status.contains("on ("), "{status}");
    let doctor = machine.ok("hoop doctor --offline | grep 'kernel.lsm'")?;
    ensure!(
        doctor.starts_with("ok") && doctor.contains("on ("),
        "{doctor}"
    );
    let cgroup = machine.ok("systemctl show -P ControlGroup billing-bot")?;
    let cgroup = format!("/sys/fs/cgroup{}", cgroup.trim());
    let seen = tried(machine, &cgroup, ("10.77.0.1", 5432))?;
    let events = machine.ok("hoop events | tail -400")?;
    for word in ["AF_PACKET", ".s.PGSQL.5432", "descriptor passed"] {
        let found = events.lines().find(|line| line.contains(word));
        found.with_context(|| format!("hoop events does not tell of {word}: {events}"))?;
    }
    Ok(format!("{status}; {seen}; hoop events tells of them"))
}
