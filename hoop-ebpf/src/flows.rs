//! The origin of a redirected connection, published under its 4-tuple before the SYN leaves, so
//! that whoever accepts it always finds it.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_sock_ops_cb_flags_set;
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use hoop_common::{FlowKey, flag, mapped};

use crate::{connect, maps};

const AF_INET: u32 = 2;
const TCP_CONNECT_CB: u32 = 3;
const STATE_CB: u32 = 10;
const STATE_CB_FLAG: u32 = 1 << 2;
const SYN_SENT: u32 = 2;
const CLOSE: u32 = 7;

#[sock_ops]
pub fn hoop_flows(ctx: SockOpsContext) -> u32 {
    // SAFETY: the kernel passes a valid context; volatile as the verifier wants.
    let op = unsafe { core::ptr::read_volatile(&raw const (*ctx.ops).op) };
    match op {
        TCP_CONNECT_CB => publish(&ctx),
        STATE_CB => withdraw(&ctx),
        _ => {}
    }
    1
}

#[inline(always)]
fn publish(ctx: &SockOpsContext) {
    // SAFETY: as above; the socket is checked for null.
    let socket = unsafe {
        let sk = (*ctx.ops).__bindgen_anon_2.sk;
        if sk.is_null() {
            return;
        }
        maps::known_socket(sk.cast())
    };
    let Some(socket) = socket else { return };
    if socket.flags & flag::REDIRECTED == 0 {
        return;
    }
    let key = key(ctx, socket.origin.netns_cookie);
    // If the map is full there is no entry, and the accepting side resets the connection.
    if maps::FLOWS.insert(key, socket.origin, 0).is_ok() {
        // SAFETY: plain helper call; flags of other programs are kept.
        unsafe {
            let set = core::ptr::read_volatile(&raw const (*ctx.ops).bpf_sock_ops_cb_flags);
            bpf_sock_ops_cb_flags_set(ctx.ops, (set | STATE_CB_FLAG) as i32);
        }
    }
}

/// Deletes the entry of a connection that never came to be. Once established it belongs to the
/// accepting side: a client may write and close before it is accepted.
#[inline(always)]
fn withdraw(ctx: &SockOpsContext) {
    // SAFETY: as above.
    let (from, to) = unsafe {
        let args = &raw const (*ctx.ops).__bindgen_anon_1.args;
        (
            core::ptr::read_volatile(&raw const (*args)[0]),
            core::ptr::read_volatile(&raw const (*args)[1]),
        )
    };
    if from != SYN_SENT || to != CLOSE {
        return;
    }
    // SAFETY: as above.
    let cookie = unsafe { aya_ebpf::helpers::generated::bpf_get_netns_cookie(ctx.as_ptr()) };
    let _ = maps::FLOWS.remove(key(ctx, cookie));
}

#[inline(always)]
fn key(ctx: &SockOpsContext, netns_cookie: u64) -> FlowKey {
    let ops = ctx.ops;
    // SAFETY: as above.
    let (family, local_port, remote_port) = unsafe {
        (
            core::ptr::read_volatile(&raw const (*ops).family),
            core::ptr::read_volatile(&raw const (*ops).local_port),
            core::ptr::read_volatile(&raw const (*ops).remote_port),
        )
    };
    let mut key = FlowKey {
        netns_cookie,
        sport: local_port as u16,
        // Network byte order, in the upper half on little-endian machines.
        dport: u16::from_be((remote_port >> 16) as u16),
        ..FlowKey::default()
    };
    if family == AF_INET {
        // SAFETY: as above.
        unsafe {
            key.src = mapped(core::ptr::read_volatile(&raw const (*ops).local_ip4).to_ne_bytes());
            key.dst = mapped(core::ptr::read_volatile(&raw const (*ops).remote_ip4).to_ne_bytes());
        }
    } else {
        // A v4-mapped socket's addresses have the mapped form already.
        // SAFETY: as above.
        unsafe {
            let local = &raw const (*ops).local_ip6;
            let remote = &raw const (*ops).remote_ip6;
            key.src = connect::join(
                core::ptr::read_volatile(&raw const (*local)[0]),
                core::ptr::read_volatile(&raw const (*local)[1]),
                core::ptr::read_volatile(&raw const (*local)[2]),
                core::ptr::read_volatile(&raw const (*local)[3]),
            );
            key.dst = connect::join(
                core::ptr::read_volatile(&raw const (*remote)[0]),
                core::ptr::read_volatile(&raw const (*remote)[1]),
                core::ptr::read_volatile(&raw const (*remote)[2]),
                core::ptr::read_volatile(&raw const (*remote)[3]),
            );
        }
    }
    key
}
