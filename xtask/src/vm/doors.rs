//! The ways round hoop, from inside an agent's unit; and the same ways without hoop, where they are open: what
//! fails by itself must not pass for closed.

use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::site::Site;

/// What an agent opens and whoever connects to it must not reach.
const PORT: u16 = 7777;

/// Not open without hoop either: what is hoop's is not there yet, and the kernel of a virtual machine may
/// have no SCTP.
const SHUT_ANYWAY: [&str; 4] = [
    "SCTP",
    "hoop's control socket",
    "a cgroup of its own",
    "the proxy's own port",
];
/// What arrives outside when nothing is closed.
const ARRIVES: [&str; 7] = [
    "tcp another port",
    "tcp an IPv4 address as IPv6",
    "tcp fast open",
    "tcp CONNECT",
    "tcp multipath",
    "udp datagrams",
    "udp connected datagrams",
];
/// For what was sent to arrive, or not.
const ARRIVED: Duration = Duration::from_secs(4);

struct Door {
    name: String,
    state: String,
    seen: String,
}

/// Tries them as root, in a unit like any other, and returns the names of those that are open.
pub fn without(site: &Site) -> Result<Vec<String>> {
    let (tcp, udp) = (site.elsewhere.tcp, site.elsewhere.udp);
    let said = site.machine.ok(&format!(
        "systemd-run --quiet --wait --pipe --collect /usr/bin/python3 /srv/agent/doors.py {tcp} {udp} 127.0.0.1:1"
    ))?;
    let mut open = Vec::new();
    for Door { name, state, seen } in doors(&said)? {
        match state.as_str() {
            "open" => open.push(name),
            _ if SHUT_ANYWAY.contains(&name.as_str()) => {}
            _ => bail!("{name} is {state} without hoop: {seen}"),
        }
    }
    std::thread::sleep(ARRIVED);
    let came = site.elsewhere.came();
    for what in ARRIVES {
        ensure!(
            came.iter().any(|came| came.starts_with(what)),
            "{what:?} did not arrive without hoop: {came:?}"
        );
    }
    let inbound = inbound(site, "system.slice", "control")?;
    ensure!(
        inbound.contains("got b'hello'"),
        "a port of an ungoverned unit cannot be reached: {inbound}"
    );
    Ok(open)
}

/// Tries them as an agent with the drop-in, in enforce mode; of each what it was without hoop is told too.
pub fn with(site: &Site, without: &[String]) -> Result<String> {
    silent(site)?;
    let proxy = site
        .machine
        .ok("ss -Hltnp | grep '\"hoop\"' | awk '{print $4}' | grep -m1 '^127'")?;
    let (tcp, udp) = (site.elsewhere.tcp, site.elsewhere.udp);
    let said = site.agent(
        4,
        &format!(
            "/usr/bin/python3 /srv/agent/doors.py {tcp} {udp} {}",
            proxy.trim()
        ),
    )?;
    let doors = doors(&said)?;
    let mut open = Vec::new();
    for Door { name, state, seen } in &doors {
        let before = match without.contains(name) {
            true => "; without hoop: open",
            false => "",
        };
        println!("      {name:<40} {state:<7} {seen}{before}");
        if state != "closed" {
            open.push(name);
        }
    }
    ensure!(open.is_empty(), "not closed: {open:?}");
    std::thread::sleep(ARRIVED);
    let came = site.elsewhere.came();
    ensure!(came.is_empty(), "outside received {came:?}");
    let inbound = inbound(site, "agents.slice", "billing-bot-5")?;
    // Nobody's answer: the kernel drops what comes.
    ensure!(
        inbound.contains("imed out"),
        "a port that an agent opened: {inbound}"
    );
    Ok(format!(
        "{} tried from inside the unit, {} of them open without hoop, a connection to it, and one from before: 0 open, nothing arrived outside",
        doors.len(),
        without.len()
    ))
}

/// Opens a connection that nobody governs yet.
pub fn older(site: &Site) -> Result<()> {
    drop(site.elsewhere.came());
    site.machine.ok(&format!(
        "systemd-run --quiet --collect --slice=agents.slice --unit=billing-bot-7 \
         /usr/bin/python3 /srv/agent/older.py {}",
        site.elsewhere.tcp
    ))?;
    std::thread::sleep(ARRIVED);
    let came = site.elsewhere.came();
    ensure!(
        came.iter().any(|came| came.starts_with("tcp older")),
        "the agent's own connection does not arrive in discover mode: {came:?}"
    );
    Ok(())
}

/// That it is cut off in enforce mode, while its process goes on.
fn silent(site: &Site) -> Result<()> {
    drop(site.elsewhere.came());
    std::thread::sleep(ARRIVED);
    let came = site.elsewhere.came();
    ensure!(
        came.is_empty(),
        "a connection from before it was governed goes on: {came:?}"
    );
    site.machine.run("systemctl stop billing-bot-7").map(drop)
}

/// What somebody else sees of a port that a unit in that slice has opened.
fn inbound(site: &Site, slice: &str, unit: &str) -> Result<String> {
    let listen = format!(
        "import socket\\ns=socket.socket()\\ns.bind(('0.0.0.0',{PORT}))\\ns.listen()\\ns.settimeout(60)\\ns.accept()[0].send(b'hello')"
    );
    let connect = format!(
        "import socket\\ns=socket.create_connection(('10.77.0.1',{PORT}),5)\\ns.settimeout(5)\\nprint('got', s.recv(9))"
    );
    site.machine.ok(&format!(
        "set -e; printf \"{listen}\" >/srv/agent/listen.py; printf \"{connect}\" >/var/tmp/connect.py\n\
         systemd-run --quiet --collect --slice={slice} --unit={unit} /usr/bin/python3 /srv/agent/listen.py\n\
         for try in $(seq 60); do ss -Hltn 'sport = :{PORT}' | grep -q . && break; sleep 0.5; done\n\
         ss -Hltn 'sport = :{PORT}' | grep -q .\n\
         python3 /var/tmp/connect.py 2>&1 | tail -1; systemctl stop {unit} || true"
    ))
}

fn doors(said: &str) -> Result<Vec<Door>> {
    let mut doors = Vec::new();
    for line in said.lines() {
        let [name, state, seen] = line.split('\t').collect::<Vec<_>>()[..] else {
            bail!("the doors' list ends early: {said}")
        };
        doors.push(Door {
            name: name.to_owned(),
            state: state.to_owned(),
            seen: seen.to_owned(),
        });
    }
    // One for each that doors.py names.
    let named = include_str!("inside/doors.py").split_once("DOORS = {");
    let named = named.and_then(|(_, rest)| rest.split_once("\n}\n"));
    let named = named.map_or(0, |(table, _)| table.trim().lines().count());
    ensure!(
        named > 0 && doors.len() == named,
        "{} of {named} doors were tried: {said}",
        doors.len()
    );
    Ok(doors)
}
