//! Broken glass: cgroups whose TCP connections go their own way for a while.
//!
//! The moment at which that ends is compared here, with the kernel's own clock, at every connection
//! and at every packet of one that was let pass: nobody has to be alive for it to end. A cgroup with
//! a mode or a bypass of its own answers for all below it that have neither, so that another agent's
//! cgroup further down stays governed.

use aya_ebpf::helpers::generated::{
    bpf_get_current_ancestor_cgroup_id, bpf_ktime_get_boot_ns, bpf_skb_ancestor_cgroup_id,
    bpf_skb_cgroup_id,
};
use aya_ebpf::programs::SkBuffContext;

use crate::govern::{self, LEVELS};
use crate::maps;

/// Whether the current task's connections pass.
#[inline(always)]
pub fn of_task(cgroup: u64) -> bool {
    let now = now();
    if let Some(open) = own(cgroup, now) {
        return open;
    }
    let mut open = false;
    for level in 1..LEVELS {
        // SAFETY: a plain helper call; 0 means that the task is not that deep.
        let ancestor = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if ancestor == 0 {
            break;
        }
        if let Some(here) = own(ancestor, now) {
            open = here;
        }
    }
    open
}

/// The same for the socket that a packet belongs to.
#[inline(always)]
pub fn of_packet(ctx: &SkBuffContext) -> bool {
    let now = now();
    // SAFETY: plain helper calls on the kernel's context, here and below.
    if let Some(open) = own(unsafe { bpf_skb_cgroup_id(ctx.skb.skb) }, now) {
        return open;
    }
    let mut open = false;
    for level in 1..LEVELS {
        let ancestor = unsafe { bpf_skb_ancestor_cgroup_id(ctx.skb.skb, level) };
        if ancestor == 0 {
            break;
        }
        if let Some(here) = own(ancestor, now) {
            open = here;
        }
    }
    open
}

/// What the cgroup says for itself; `None` if it says nothing.
#[inline(always)]
fn own(cgroup: u64, now: u64) -> Option<bool> {
    // SAFETY: the value is read at once; an entry that is replaced meanwhile is as good.
    match unsafe { maps::BYPASS.get(cgroup) } {
        Some(bypass) => Some(bypass.holds(now)),
        None => govern::mode_of(cgroup).map(|_| false),
    }
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: a plain helper call.
    unsafe { bpf_ktime_get_boot_ns() }
}
