//! What this kernel can do: asked feature by feature, never by its version.

use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported};

use super::CaptureError;

/// The helpers without which a program could not fail closed, and the kernel that first had each
/// (for the message only).
const NEEDED: &[(ProgramType, BpfHelper, &str)] = &[
    (
        ProgramType::CgroupSockAddr,
        BpfHelper::BPF_FUNC_sk_storage_get,
        "socket storage in connect hooks (Linux 5.3)",
    ),
    (
        ProgramType::CgroupSockAddr,
        BpfHelper::BPF_FUNC_sk_lookup_tcp,
        "listener look-up in connect hooks (Linux 4.20)",
    ),
    (
        ProgramType::CgroupSockAddr,
        BpfHelper::BPF_FUNC_set_retval,
        "own error codes in connect hooks (Linux 5.18)",
    ),
    (
        ProgramType::CgroupSock,
        BpfHelper::BPF_FUNC_sk_storage_get,
        "socket storage at socket creation (Linux 5.8)",
    ),
    (
        ProgramType::SockOps,
        BpfHelper::BPF_FUNC_get_netns_cookie,
        "namespace cookies in sockops (Linux 5.15)",
    ),
    (
        ProgramType::CgroupSkb,
        BpfHelper::BPF_FUNC_skb_ancestor_cgroup_id,
        "cgroup ids of packets (Linux 5.8)",
    ),
    (
        ProgramType::CgroupSkb,
        BpfHelper::BPF_FUNC_ringbuf_reserve,
        "ring buffers (Linux 5.8)",
    ),
    (
        ProgramType::CgroupSockAddr,
        BpfHelper::BPF_FUNC_ktime_get_boot_ns,
        "the clock of bypasses (Linux 5.8)",
    ),
];

const PROGRAMS: &[(ProgramType, &str)] = &[
    (ProgramType::CgroupSockAddr, "connect and sendmsg programs"),
    (ProgramType::CgroupSock, "programs at socket creation"),
    (ProgramType::CgroupSkb, "packet programs of cgroups"),
    (ProgramType::SockOps, "sockops programs"),
];

const MAPS: &[(MapType, &str)] = &[
    (MapType::Hash, "hash maps"),
    (MapType::RingBuf, "ring buffer maps"),
    (MapType::SkStorage, "socket storage maps"),
];

/// Something that hoop needs of the kernel.
#[derive(Clone, Debug)]
pub struct Feature {
    pub name: &'static str,
    /// `None`: the kernel cannot be asked.
    pub there: Option<bool>,
}

/// All that hoop needs, each asked for. Needs root.
pub fn features() -> Vec<Feature> {
    let programs = PROGRAMS.iter().map(|(kind, name)| Feature {
        name,
        there: is_program_supported(*kind).ok(),
    });
    let maps = MAPS.iter().map(|(kind, name)| Feature {
        name,
        there: is_map_supported(*kind).ok(),
    });
    let helpers = NEEDED.iter().map(|(program, helper, name)| Feature {
        name,
        there: is_helper_supported(*program, *helper).ok(),
    });
    programs.chain(maps).chain(helpers).collect()
}

/// Fails with everything that is missing.
pub fn kernel() -> Result<(), CaptureError> {
    let mut missing = Vec::new();
    for (program, helper, what) in NEEDED {
        match is_helper_supported(*program, *helper) {
            Ok(true) => {}
            Ok(false) => missing.push(*what),
            Err(source) => return Err(CaptureError::Probe { what, source }),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(CaptureError::Kernel {
        missing: missing.join(", "),
    })
}
