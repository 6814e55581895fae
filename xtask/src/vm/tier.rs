//! The LSM tier, on a kernel that has it: what nothing else closes, tried without any other net.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::machine::Machine;

const SCRIPT: &str = include_str!("inside/tier.py");
/// What it tries, at least: doors, and what must go on working.
const DOORS: usize = 16;
const WORKS: usize = 7;

/// Only this: the program out of the package, attached to a cgroup of its own by hand, without a daemon.
pub fn alone(machine: &Machine, kernel: &str, package: &Path) -> Result<()> {
    println!("vm: {kernel}: {}", machine.ok("uname -r")?.trim());
    machine.put(package, "/var/tmp/hoop.deb")?;
    machine.ok(
        "set -e; dpkg-deb --fsys-tarfile /var/tmp/hoop.deb | tar -x -C /var/tmp ./usr/bin/hoop\n\
         mkdir -p /sys/fs/cgroup/tier.slice/agent",
    )?;
    let load = "/var/tmp/usr/bin/hoop capture load --cgroup tier.slice --pins /sys/fs/bpf/tier 2>&1";
    let said = machine.run(load)?;
    println!("{}", said.text.trim_end());
    ensure!(said.ok, "not loaded");
    ensure!(said.text.contains("LSM tier           on"), "the tier is off");
    // A server for who is outside.
    machine.ok(
        "systemd-run --quiet --unit=tier-server python3 -c 'import socket,time
s = socket.create_server((\"127.0.0.1\", 7654)); time.sleep(3600)'; sleep 2",
    )?;
    let seen = tried(machine, "/sys/fs/cgroup/tier.slice/agent", ("127.0.0.1", 7654))?;
    // Programs are swapped below links that stay, as in an upgrade.
    let before = machine.ok(load)?;
    let again = tried(machine, "/sys/fs/cgroup/tier.slice/agent", ("127.0.0.1", 7654))?;
    machine.ok(
        "/var/tmp/usr/bin/hoop capture unload --cgroup tier.slice --pins /sys/fs/bpf/tier\n\
         test ! -e /sys/fs/bpf/tier",
    )?;
    println!("  {seen}\n  programs swapped ({}): {again}", before.lines().count());
    Ok(())
}

/// In that cgroup, which is governed and enforced.
pub fn tried(machine: &Machine, cgroup: &str, server: (&str, u16)) -> Result<String> {
    machine.write("/var/tmp/tier.py", SCRIPT)?;
    let (host, port) = server;
    let said = machine.run(&format!("python3 /var/tmp/tier.py {cgroup} {host} {port}"))?;
    let (mut open, mut broken) = (Vec::new(), Vec::new());
    let (mut doors, mut works) = (0, 0);
    for line in said.text.lines() {
        let [what, state, seen] = line.split('\t').collect::<Vec<_>>()[..] else {
            bail!("the list of what the LSM tier closes ends early: {}", said.text)
        };
        println!("      {what:<42} {state:<7} {seen}");
        match state {
            "closed" => doors += 1,
            "works" => works += 1,
            "open" => open.push(what),
            _ => broken.push(what),
        }
    }
    ensure!(open.is_empty(), "open: {open:?}");
    ensure!(broken.is_empty(), "broken: {broken:?}");
    ensure!(
        doors >= DOORS && works >= WORKS,
        "only {doors} doors were tried, and {works} things that must work: {}",
        said.text
    );
    ensure!(said.ok, "{}", said.text);
    Ok(format!(
        "{doors} ways tried by root without any other net, all closed; {works} things go on working"
    ))
}

/// With the daemon of the steps: in the agent's own cgroup, where the daemon says that the tier is on.
pub fn with_daemon(machine: &Machine) -> Result<String> {
    let status = machine.ok("hoop status | grep '^LSM tier'")?;
    let status = status.trim();
    ensure!(status.contains("on ("), "{status}");
    let doctor = machine.ok("hoop doctor --offline | grep 'kernel.lsm'")?;
    ensure!(doctor.starts_with("ok") && doctor.contains("on ("), "{doctor}");
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
