//! Sockets by allow-list, and who made them.
//!
//! The hook runs for AF_INET and AF_INET6 only. AF_UNIX and AF_NETLINK never come here and are
//! free; AF_PACKET, AF_VSOCK and the rest are for the service's own `RestrictAddressFamilies=`.

use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::generated::{bpf_get_current_cgroup_id, bpf_set_retval};
use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;
use hoop_common::{Origin, family, kind, mode, reason};

use crate::field::read32;
use crate::{govern, maps};

const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const TCP: u32 = 6;
const UDP: u32 = 17;
const MPTCP: u32 = 262;
const AF_INET6: u32 = 10;
const EPROTONOSUPPORT: i32 = 93;

#[cgroup_sock(sock_create)]
pub fn hoop_create(ctx: SockContext) -> i32 {
    let af = read32!(ctx.sock, bpf_sock, family);
    let kind_of = read32!(ctx.sock, bpf_sock, type_);
    let protocol = read32!(ctx.sock, bpf_sock, protocol);
    // SAFETY: a plain helper call.
    let creator = unsafe { bpf_get_current_cgroup_id() };
    let (anchor, mode) = govern::nearest_of_task(creator);
    // SAFETY: the context of this program type is the socket itself.
    let Some(socket) = (unsafe { maps::socket(ctx.sock.cast()) }) else {
        return i32::from(mode != mode::ENFORCE);
    };
    socket.creator = creator;
    socket.anchor = anchor;
    let allowed = matches!((kind_of, protocol), (SOCK_STREAM, TCP) | (SOCK_DGRAM, UDP));
    if allowed || mode == mode::DISCOVER {
        return 1;
    }
    let mut origin = Origin {
        cgroup_id: creator,
        mode,
        family: if af == AF_INET6 {
            family::V6
        } else {
            family::V4
        },
        // MPTCP's number has nine bits; 255 stands for all that do not fit.
        protocol: if protocol > 255 { 255 } else { protocol as u8 },
        ..Origin::default()
    };
    govern::sign(&mut origin);
    if mode == mode::OBSERVE {
        govern::report(kind::PASSED, reason::SOCKET_KIND, &origin);
        return 1;
    }
    govern::report(kind::DENIED, reason::SOCKET_KIND, &origin);
    if protocol == MPTCP {
        // What a kernel without MPTCP answers, so that runtimes fall back to TCP.
        // SAFETY: a plain helper call.
        unsafe { bpf_set_retval(-EPROTONOSUPPORT) };
    }
    0
}
