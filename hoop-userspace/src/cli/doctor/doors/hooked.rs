//! Doors that hoop's programs close by themselves: as well as they are attached, and as the agent's
//! mode says.

use super::super::finding::{Check, Finding, Remedy, advise, run};
use super::{Seen, no_mode};
use crate::config::{Egress, Mode};

const DATAGRAMS: Check = Check::new("door.udp", "QUIC and any tunnel over UDP would pass unseen");
const PROTOCOLS: Check = Check::new(
    "door.protocols",
    "raw IP, MPTCP and SCTP sockets go round what holds TCP",
);
const PORTS: Check = Check::new(
    "door.ports",
    "a server on another port is reached as well as on its own",
);
const CHILDREN: Check = Check::new(
    "door.child_cgroup",
    "programs of a cgroup below could change addresses before hoop's; the slice's run last",
);
const PROXY: Check = Check::new(
    "door.listener",
    "who talks to hoop's own port, or takes it when hoop is dead, would pass for somebody else",
);
const NAMESPACES: Check = Check::new(
    "door.namespaces",
    "a network namespace of the agent's own has no listener of hoop's; the cgroup stays, so it is refused",
);
const LOCALHOST: Check = Check::new(
    "door.localhost",
    "who logs in to this host itself runs things outside of the cgroup: loopback is held like everything else",
);
const TUNNELS: Check = Check::new(
    "door.ssh_tunnels",
    "a forwarding by SSH leads anywhere that the host reaches; each is decided, and met again inside",
);
const EGRESS: Check = Check::new(
    "door.egress_allow",
    "what is allowed past hoop is seen by nobody: a proxy there leads anywhere",
);
const RESTART: &str = "systemctl restart hoop.service";
/// Prefixes that stand for at most 256 addresses.
const NARROW: (u8, u8) = (24, 120);

pub fn check(seen: &Seen<'_>) -> Vec<Finding> {
    let mut found: Vec<Finding> = [DATAGRAMS, PROTOCOLS]
        .map(|check| by_mode(seen, check, by_hooks(check, seen.attached)))
        .into();
    found.extend([PORTS, NAMESPACES, LOCALHOST].map(|check| {
        by_glass(seen, check)
            .unwrap_or_else(|| by_mode(seen, check, by_hooks(check, seen.attached)))
    }));
    found.extend([CHILDREN, PROXY].map(|check| by_hooks(check, seen.attached)));
    found.push(by_glass(seen, TUNNELS).unwrap_or_else(|| {
        // By the worker, to which the hooks lead what speaks SSH.
        let closed = match seen.attached {
            Some(true) => {
                TUNNELS.ok("closed: hoop decides each forwarding, where it speaks SSH at all")
            }
            attached => by_hooks(TUNNELS, attached),
        };
        by_mode(seen, TUNNELS, closed)
    }));
    found.push(
        by_glass(seen, EGRESS).unwrap_or_else(|| match seen.as_the_file {
            true => egress(&seen.agent.egress),
            false => EGRESS.unknown(
                "what the file allows is not what is in force",
                run("systemctl reload hoop.service"),
            ),
        }),
    );
    found
}

/// While the glass is broken, what a TCP connection could not do otherwise.
fn by_glass(seen: &Seen<'_>, check: Check) -> Option<Finding> {
    let opening = seen.broken.as_ref()?;
    let until = &opening.until;
    let what = format!("open: the glass is broken until {until}");
    Some(check.warn(what, opening.remedy()))
}

fn by_mode(seen: &Seen<'_>, check: Check, enforced: Finding) -> Finding {
    match seen.mode {
        Some(mode) => as_held(check, mode, enforced),
        None => no_mode(seen, check),
    }
}

fn as_held(check: Check, mode: Mode, enforced: Finding) -> Finding {
    match mode {
        Mode::Enforce => enforced,
        Mode::Observe => check.warn("open: the agent is in observe mode", mend(mode)),
        Mode::Discover => check.warn("open: the agent is in discover mode", mend(mode)),
    }
}

pub(super) fn mend(mode: Mode) -> Remedy {
    advise(match mode {
        Mode::Discover => {
            "set mode = \"observe\", then \"enforce\", when hoop discover lists nothing surprising"
        }
        _ => "set mode = \"enforce\" when recordings mark nothing that should pass",
    })
}

fn by_hooks(check: Check, attached: Option<bool>) -> Finding {
    match attached {
        Some(true) => check.ok("closed: the hooks are attached"),
        Some(false) => check.fail("open: not every hook is attached", run(RESTART)),
        None => check.needs_root(),
    }
}

fn egress(allowed: &[Egress]) -> Finding {
    let wide: Vec<String> = allowed
        .iter()
        .filter_map(|egress| match egress {
            Egress::Net { net, port } => {
                let narrow = if net.max_prefix_len() == 32 {
                    NARROW.0
                } else {
                    NARROW.1
                };
                (net.prefix_len() < narrow).then(|| format!("{net} port {port}"))
            }
            Egress::Name { name, port } => name
                .starts_with("*.")
                .then(|| format!("{name} port {port}")),
        })
        .collect();
    match (allowed.len(), wide.is_empty()) {
        (0, _) => EGRESS.ok("closed: nothing is allowed past hoop"),
        (n, true) => EGRESS.ok(format!("closed but for {n} narrow entries of egress_allow")),
        (_, false) => EGRESS.warn(
            format!("open to {}", wide.join(", ")),
            advise("name single hosts in egress_allow, and let no proxy be among them"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::State;
    use super::*;

    #[test]
    fn a_door_is_as_closed_as_the_hooks_and_the_mode() {
        let state = |attached, mode| as_held(DATAGRAMS, mode, by_hooks(DATAGRAMS, attached)).state;
        assert_eq!(state(Some(true), Mode::Enforce), State::Ok);
        assert_eq!(state(Some(false), Mode::Enforce), State::Fail);
        assert_eq!(state(None, Mode::Enforce), State::Unknown);
        assert_eq!(state(Some(true), Mode::Observe), State::Warn);
    }

    #[test]
    fn wide_allowances_are_named() {
        let net = |net: &str| Egress::Net {
            net: net.parse().unwrap(),
            port: 443,
        };
        let name = |name: &str| Egress::Name {
            name: name.into(),
            port: 443,
        };
        assert_eq!(egress(&[]).state, State::Ok);
        assert_eq!(
            egress(&[net("10.0.0.0/24"), name("api.example")]).state,
            State::Ok
        );
        assert!(egress(&[net("10.0.0.0/8")]).seen.contains("10.0.0.0/8"));
        assert_eq!(egress(&[name("*.example")]).state, State::Warn);
        assert_eq!(egress(&[net("2001:db8::/64")]).state, State::Warn);
    }
}
