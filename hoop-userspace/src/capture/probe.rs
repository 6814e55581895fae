//! What this kernel can do: asked feature by feature, never by its version.

use aya::programs::ProgramType;
use aya::sys::{BpfHelper, is_helper_supported};

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
];

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
