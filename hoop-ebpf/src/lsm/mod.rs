//! The LSM tier: what no cgroup hook sees, where the kernel lets BPF be a security module.
//!
//! A socket meets it when it is made of a family that nobody allowed (`family`), when its descriptor
//! comes from another process (`received`), and when it connects to a Unix socket (`unix`). All are
//! programs of the cgroup, as the others are: they cost nothing to whoever is not governed. The
//! daemon loads and attaches them by themselves, and does without where the kernel refuses.
//!
//! Broken glass changes nothing here: it lets TCP connections pass, and nothing else.

mod family;
mod received;
mod structs;
mod unix;

use aya_ebpf::helpers::generated::bpf_get_current_cgroup_id;
use hoop_common::{Origin, kind, mode};

use crate::govern;

/// What these hooks return: the kernel takes 0 for EPERM.
const PASS: i32 = 1;
const REFUSE: i32 = 0;

/// The current task's cgroup, what answers for it, and its mode.
#[derive(Clone, Copy)]
struct Task {
    cgroup: u64,
    anchor: u64,
    mode: u32,
}

#[inline(always)]
fn task() -> Task {
    // SAFETY: a plain helper call.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    let (anchor, mode) = govern::nearest_of_task(cgroup);
    Task {
        cgroup,
        anchor,
        mode,
    }
}

/// Reports, and refuses where that is the mode.
#[inline(always)]
fn verdict(task: Task, reason: u8, origin: &mut Origin) -> i32 {
    origin.cgroup_id = task.cgroup;
    origin.mode = task.mode;
    govern::sign(origin);
    if task.mode == mode::ENFORCE {
        govern::report(kind::DENIED, reason, origin);
        return REFUSE;
    }
    govern::report(kind::PASSED, reason, origin);
    PASS
}
