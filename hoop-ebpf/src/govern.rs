//! Which mode holds, and how the daemon hears of what happened.

use aya_ebpf::helpers::generated::{
    bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_get_current_comm,
    bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_ktime_get_ns,
};
use hoop_common::{Event, Origin, Socket, mode};

use crate::maps;

/// Deepest level of the cgroup tree that is looked at; cgroups below count as their ancestor there.
pub const LEVELS: i32 = 24;

/// The cgroup of a socket and what holds for it.
#[derive(Clone, Copy)]
pub struct Governed {
    pub cgroup: u64,
    /// One of [`mode`].
    pub mode: u32,
    /// The task is in another cgroup than the socket's maker was.
    pub passed: bool,
}

/// The nearest cgroup of the current task, itself or an ancestor, that has a mode.
#[inline(always)]
pub fn nearest_of_task(cgroup: u64) -> (u64, u32) {
    if let Some(mode) = mode_of(cgroup) {
        return (cgroup, mode);
    }
    let mut nearest = (0, mode::ENFORCE);
    for level in 1..LEVELS {
        // SAFETY: a plain helper call; 0 means that the task is not that deep.
        let ancestor = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if ancestor == 0 {
            break;
        }
        if let Some(mode) = mode_of(ancestor) {
            nearest = (ancestor, mode);
        }
    }
    nearest
}

#[inline(always)]
pub fn mode_of(cgroup: u64) -> Option<u32> {
    // SAFETY: the value is copied at once; an entry that is replaced meanwhile is as good.
    unsafe { maps::MODES.get(cgroup) }.copied()
}

/// What holds for a socket that the current task uses. The hooks run for the socket's cgroup, the
/// helpers tell the task's: where they differ, the maker's counts.
#[inline(always)]
pub fn of_socket(socket: &Socket) -> Governed {
    // SAFETY: a plain helper call.
    let current = unsafe { bpf_get_current_cgroup_id() };
    if socket.creator == 0 || socket.creator == current {
        let (_, mode) = nearest_of_task(current);
        return Governed {
            cgroup: current,
            mode,
            passed: false,
        };
    }
    let mode = mode_of(socket.creator)
        .or_else(|| mode_of(socket.anchor))
        .unwrap_or(mode::ENFORCE);
    Governed {
        cgroup: socket.creator,
        mode,
        passed: true,
    }
}

/// Who is asking, in the caller's context.
#[inline(always)]
pub fn sign(origin: &mut Origin) {
    // SAFETY: plain helper calls; comm is 16 bytes, as its helper wants.
    unsafe {
        origin.born = bpf_ktime_get_ns();
        let ids = bpf_get_current_pid_tgid();
        origin.tgid = (ids >> 32) as u32;
        origin.pid = ids as u32;
        origin.uid = bpf_get_current_uid_gid() as u32;
        bpf_get_current_comm(origin.comm.as_mut_ptr().cast(), 16);
    }
}

/// Tells the daemon; a full ring buffer loses the event, never the refusal.
#[inline(always)]
pub fn report(kind: u8, reason: u8, origin: &Origin) {
    if let Some(mut entry) = maps::EVENTS.reserve(0) {
        entry.write(Event {
            kind,
            reason,
            reserved: [0; 6],
            origin: *origin,
        });
        entry.submit(0);
    }
}

/// Like [`report`], but once per socket and destination: for what can repeat at packet rate.
#[inline(always)]
pub fn report_once(socket: &mut Socket, kind: u8, reason: u8, origin: &Origin) {
    let seen = hash(origin, reason);
    if socket.reported != seen {
        socket.reported = seen;
        report(kind, reason, origin);
    }
}

#[inline(always)]
fn hash(origin: &Origin, reason: u8) -> u64 {
    let address = u128::from_ne_bytes(origin.address);
    let mut hash = (address >> 64) as u64 ^ (address as u64).rotate_left(21);
    hash ^= u64::from(origin.port) << 16 | u64::from(reason) << 8 | 1;
    hash
}
