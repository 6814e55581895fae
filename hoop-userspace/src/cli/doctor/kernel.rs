//! What this kernel can do, asked feature by feature and never by its version.

use super::finding::{Check, Finding, advise, run};
use super::host::Host;
use crate::capture::{Capture, CaptureError, Feature, Lsm, LsmOff, features};

const FEATURES: Check = Check::new(
    "kernel.features",
    "a program that lacks a map or a helper could not refuse, so hoop does not start without one of them",
);
const PROGRAMS: Check = Check::new(
    "kernel.programs",
    "each of hoop's programs must pass this kernel's verifier, or nothing is governed",
);
const BPFFS: Check = Check::new(
    "kernel.bpf_fs",
    "pins in it keep agents governed while the daemon is down",
);
const LSM: Check = Check::new(
    "kernel.lsm",
    "LSM programs refuse packet and virtual machine sockets, passed descriptors and local databases; without them the unit's settings must",
);
const NEWER: &str =
    "start a newer kernel: hoop needs Linux 6.1 or later, with BPF and cgroups of version 2";

pub fn check(host: &Host) -> Vec<Finding> {
    let rehearsed = host.root.then(Capture::rehearse);
    let would = match &rehearsed {
        Some(Ok((_, lsm))) => Some(lsm.clone()),
        _ => None,
    };
    vec![
        features_of(host),
        programs(rehearsed),
        bpf_fs(host),
        lsm(host, would),
    ]
}

fn features_of(host: &Host) -> Finding {
    if !host.root {
        return FEATURES.needs_root();
    }
    let all = features();
    let named = |wanted: fn(&Feature) -> bool| -> Vec<&str> {
        all.iter().filter(|f| wanted(f)).map(|f| f.name).collect()
    };
    let missing = named(|feature| feature.there == Some(false));
    let unknown = named(|feature| feature.there.is_none());
    if !missing.is_empty() {
        return FEATURES.fail(
            format!("this kernel lacks: {}", missing.join(", ")),
            advise(NEWER),
        );
    }
    if !unknown.is_empty() {
        let seen = format!(
            "the kernel does not say whether it has: {}",
            unknown.join(", ")
        );
        return FEATURES.unknown(
            seen,
            advise("run it with CAP_BPF and CAP_NET_ADMIN, outside of any container"),
        );
    }
    FEATURES.ok(format!(
        "all {} program types, maps and helpers are there",
        all.len()
    ))
}

/// What the kernel said of the programs, and of those of the LSM tier.
type Rehearsed = Result<(usize, Result<(), LsmOff>), CaptureError>;

fn programs(rehearsed: Option<Rehearsed>) -> Finding {
    match rehearsed {
        None => PROGRAMS.needs_root(),
        Some(Ok((count, _))) => PROGRAMS.ok(format!("the kernel takes all {count} programs")),
        Some(Err(error)) => PROGRAMS.fail(error.to_string(), advise(NEWER)),
    }
}

fn bpf_fs(host: &Host) -> Finding {
    let pins = host.capture().pins;
    let shown = pins.display();
    match Capture::has_bpf_fs(&pins) {
        true => BPFFS.ok(format!("{shown} is in one")),
        false if !host.root => BPFFS.needs_root(),
        false => BPFFS.fail(
            format!("{shown} is in no BPF file system"),
            run("mount -t bpf bpf /sys/fs/bpf"),
        ),
    }
}

/// As the daemon says, or else the pins; where neither is there, as the kernel would have it.
fn lsm(host: &Host, would: Option<Result<(), LsmOff>>) -> Finding {
    if let Ok(status) = &host.status {
        let lsm = &status.lsm;
        return match &lsm.mend {
            Some(mend) if !lsm.on => LSM.warn(lsm.text.clone(), advise(mend.clone())),
            _ => LSM.ok(lsm.text.clone()),
        };
    }
    if !host.root {
        return LSM.needs_root();
    }
    let pinned = Capture::pinned_lsm(&host.capture()).unwrap_or(Lsm::Off(LsmOff::NotAttached));
    unattended(pinned, would)
}

fn unattended(pinned: Lsm, would: Option<Result<(), LsmOff>>) -> Finding {
    match (pinned, would) {
        (on @ Lsm::On(_), _) => LSM.ok(on.text()),
        (Lsm::Off(LsmOff::NotAttached), Some(Ok(()))) => {
            LSM.ok("off: nothing is attached; this kernel takes its programs")
        }
        (Lsm::Off(LsmOff::NotAttached), Some(Err(why))) | (Lsm::Off(why), _) => {
            LSM.warn(Lsm::Off(why.clone()).text(), advise(why.mend()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn the_tier_is_on_or_off_with_a_reason_and_a_remedy() {
        let list = || LsmOff::NotListed("capability,yama".into());
        assert_eq!(unattended(Lsm::On(4), None).state, State::Ok);
        let off = unattended(Lsm::Off(list()), None);
        assert_eq!(off.state, State::Warn);
        assert!(off.seen.contains("off: BPF is not among"), "{off:?}");
        assert!(off.advice.unwrap().contains("lsm=capability,yama,bpf"));
        let idle = || Lsm::Off(LsmOff::NotAttached);
        assert_eq!(unattended(idle(), Some(Ok(()))).state, State::Ok);
        let off = unattended(idle(), Some(Err(list())));
        assert!(off.seen.contains("BPF is not among"), "{off:?}");
    }
}
