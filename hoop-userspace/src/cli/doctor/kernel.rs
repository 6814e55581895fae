//! What this kernel can do, asked feature by feature and never by its version.

use std::path::Path;

use super::finding::{Check, Finding};
use super::host::Host;
use crate::capture::{Capture, Feature, features};

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
    "LSM programs could refuse packet and virtual machine sockets and passed descriptors; without them the unit's settings must",
);
const LSM_LIST: &str = "/sys/kernel/security/lsm";
const NEWER: &str =
    "start a newer kernel: hoop needs Linux 6.1 or later, with BPF and cgroups of version 2";

pub fn check(host: &Host) -> Vec<Finding> {
    vec![features_of(host), programs(host), bpf_fs(host), lsm()]
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
        return FEATURES.fail(format!("this kernel lacks: {}", missing.join(", ")), NEWER);
    }
    if !unknown.is_empty() {
        let seen = format!(
            "the kernel does not say whether it has: {}",
            unknown.join(", ")
        );
        return FEATURES.unknown(
            seen,
            "run it with CAP_BPF and CAP_NET_ADMIN, outside of any container",
        );
    }
    FEATURES.ok(format!(
        "all {} program types, maps and helpers are there",
        all.len()
    ))
}

fn programs(host: &Host) -> Finding {
    if !host.root {
        return PROGRAMS.needs_root();
    }
    match Capture::rehearse() {
        Ok(count) => PROGRAMS.ok(format!("the kernel takes all {count} programs")),
        Err(error) => PROGRAMS.fail(error.to_string(), NEWER),
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
            "mount -t bpf bpf /sys/fs/bpf",
        ),
    }
}

fn lsm() -> Finding {
    let list = std::fs::read_to_string(LSM_LIST).ok();
    LSM.ok(lsm_text(list.as_deref()))
}

/// This version has no such programs: what the kernel would allow is said for later ones.
fn lsm_text(list: Option<&str>) -> String {
    let allows = match list {
        Some(list) if list.trim().split(',').any(|name| name == "bpf") => {
            "this kernel would run them"
        }
        Some(_) => "this kernel runs none (no `bpf` among its security modules)",
        None if Path::new(LSM_LIST).exists() => "whether this kernel runs them, only root can read",
        None => "securityfs is not mounted, so whether this kernel runs them is not known",
    };
    format!("off: this version of hoop has no LSM programs; {allows}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tier_is_off_and_the_kernel_is_described() {
        assert!(lsm_text(Some("lockdown,capability,bpf\n")).contains("would run them"));
        assert!(lsm_text(Some("lockdown,capability,bpfx")).contains("runs none"));
        assert!(lsm_text(None).starts_with("off"));
    }
}
