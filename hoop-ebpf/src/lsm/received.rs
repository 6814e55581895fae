//! Descriptors that come from another process: SCM_RIGHTS, pidfd_getfd(2), a seccomp supervisor.
//!
//! The other hooks follow the cgroup that a socket counts for, which is its maker's for as long as it
//! lives, connected or not. One that counts for another cgroup would therefore be governed as that
//! one is, or not at all; so it does not arrive. What a process was started with does not come here:
//! that is whoever starts agents, who could as well start them elsewhere.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_sock_from_file;
use aya_ebpf::macros::lsm_cgroup;
use aya_ebpf::programs::LsmContext;
use hoop_common::{Origin, family, mapped, mode, reason};

use super::family::{AF_INET, AF_INET6, AF_NETLINK, AF_UNIX};
use super::structs::{cgroup_of, follow, place, read, typed};
use super::{PASS, task, unix, verdict};
use crate::maps;

/// `struct file *file`.
#[lsm_cgroup(hook = "file_receive")]
pub fn hoop_lsm_receive(ctx: LsmContext) -> i32 {
    let file: *mut c_void = ctx.arg(0);
    // SAFETY: the hook's file. Null for what is no socket.
    let socket: *const c_void = unsafe { bpf_sock_from_file(file.cast()) }.cast();
    if socket.is_null() {
        return PASS;
    }
    let at = place!(socket_sk);
    // SAFETY: the helper's socket, checked for null.
    let sk = unsafe { typed(socket, at) };
    if sk.is_null() {
        return PASS;
    }
    // 0 is no family, and treated like those that nobody allows.
    let af = u32::from(read::<u16>(sk, place!(sock_family)).unwrap_or(0));
    match af {
        AF_NETLINK => PASS,
        AF_UNIX => match follow(sk, place!(unix_peer)) {
            Some(peer) => unix::decide(peer),
            // One that is not connected could be, and its cgroup's programs are not this one's.
            None => of_elsewhere(sk, af),
        },
        _ => of_elsewhere(sk, af),
    }
}

#[inline(always)]
fn of_elsewhere(sk: *mut c_void, af: u32) -> i32 {
    let task = task();
    if cgroup_of(sk) == Some(task.cgroup) || task.mode == mode::DISCOVER {
        return PASS;
    }
    // SAFETY: typed, and checked for null.
    if let Some(known) = unsafe { maps::known_socket(sk) }
        && known.anchor != 0
        && known.anchor == task.anchor
    {
        return PASS;
    }
    let mut origin = Origin {
        protocol: read::<u16>(sk, place!(sock_protocol)).unwrap_or(0) as u8,
        port: u16::from_be(read(sk, place!(sock_port)).unwrap_or(0)),
        ..Origin::default()
    };
    match af {
        AF_INET => {
            origin.family = family::V4;
            origin.address = mapped(read(sk, place!(sock_peer4)).unwrap_or_default());
        }
        AF_INET6 => {
            origin.family = family::V6;
            origin.address = read(sk, place!(sock_peer6)).unwrap_or_default();
        }
        other => {
            origin.family = family::OTHER;
            origin.port = other as u16;
        }
    }
    verdict(task, reason::RECEIVED, &mut origin)
}
