//! The origin of a redirected connection, published under its 4-tuple before the SYN leaves, so
//! that whoever accepts it always finds it.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_sock_ops;
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_sock_ops_cb_flags_set};
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use hoop_common::{FlowKey, flag, mapped};

use crate::field::{read_pointer, read32};
use crate::{connect, maps};

const AF_INET: u32 = 2;
const TCP_CONNECT_CB: u32 = 3;
const STATE_CB: u32 = 10;
const STATE_CB_FLAG: u32 = 1 << 2;
const SYN_SENT: u32 = 2;
const CLOSE: u32 = 7;

#[sock_ops]
pub fn hoop_flows(ctx: SockOpsContext) -> u32 {
    match read32!(ctx.ops, bpf_sock_ops, op) {
        TCP_CONNECT_CB => publish(&ctx),
        STATE_CB => withdraw(&ctx),
        _ => {}
    }
    1
}

#[inline(always)]
fn publish(ctx: &SockOpsContext) {
    let sk = read_pointer!(ctx.ops, bpf_sock_ops, __bindgen_anon_2);
    if sk.is_null() {
        return;
    }
    // SAFETY: the context's socket, checked for null.
    let Some(socket) = (unsafe { maps::known_socket(sk) }) else {
        return;
    };
    if socket.flags & flag::REDIRECTED == 0 {
        return;
    }
    let key = key(ctx, socket.origin.netns_cookie);
    // If the map is full there is no entry, and the accepting side resets the connection.
    if maps::FLOWS.insert(key, socket.origin, 0).is_ok() {
        let set = read32!(ctx.ops, bpf_sock_ops, bpf_sock_ops_cb_flags);
        // SAFETY: a plain helper call; flags of other programs are kept.
        unsafe { bpf_sock_ops_cb_flags_set(ctx.ops, (set | STATE_CB_FLAG) as i32) };
    }
}

/// Deletes the entry of a connection that never came to be. Once established it belongs to the
/// accepting side: a client may write and close before it is accepted.
#[inline(always)]
fn withdraw(ctx: &SockOpsContext) {
    let from = read32!(ctx.ops, bpf_sock_ops, __bindgen_anon_1, 0);
    let to = read32!(ctx.ops, bpf_sock_ops, __bindgen_anon_1, 1);
    if from != SYN_SENT || to != CLOSE {
        return;
    }
    // SAFETY: a plain helper call.
    let cookie = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    let _ = maps::FLOWS.remove(key(ctx, cookie));
}

#[inline(always)]
fn key(ctx: &SockOpsContext, netns_cookie: u64) -> FlowKey {
    let ops = ctx.ops;
    let remote_port = read32!(ops, bpf_sock_ops, remote_port);
    let mut key = FlowKey {
        netns_cookie,
        sport: read32!(ops, bpf_sock_ops, local_port) as u16,
        // Network byte order, in the upper half on little-endian machines.
        dport: u16::from_be((remote_port >> 16) as u16),
        ..FlowKey::default()
    };
    if read32!(ops, bpf_sock_ops, family) == AF_INET {
        key.src = mapped(read32!(ops, bpf_sock_ops, local_ip4).to_ne_bytes());
        key.dst = mapped(read32!(ops, bpf_sock_ops, remote_ip4).to_ne_bytes());
    } else {
        // A v4-mapped socket's addresses have the mapped form already.
        key.src = connect::join(
            read32!(ops, bpf_sock_ops, local_ip6, 0),
            read32!(ops, bpf_sock_ops, local_ip6, 1),
            read32!(ops, bpf_sock_ops, local_ip6, 2),
            read32!(ops, bpf_sock_ops, local_ip6, 3),
        );
        key.dst = connect::join(
            read32!(ops, bpf_sock_ops, remote_ip6, 0),
            read32!(ops, bpf_sock_ops, remote_ip6, 1),
            read32!(ops, bpf_sock_ops, remote_ip6, 2),
            read32!(ops, bpf_sock_ops, remote_ip6, 3),
        );
    }
    key
}
