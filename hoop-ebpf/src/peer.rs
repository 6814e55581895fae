//! getpeername(2) answers with the destination that the client asked for.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use hoop_common::{Origin, flag};

use crate::connect;
use crate::maps;

#[cgroup_sock_addr(getpeername4)]
pub fn hoop_getpeername4(ctx: SockAddrContext) -> i32 {
    if let Some(origin) = origin(&ctx) {
        let [.., a, b, c, d] = origin.address;
        connect::write_v4(ctx.sock_addr, [a, b, c, d], origin.port);
    }
    // The only value that the verifier lets these hooks return.
    1
}

#[cgroup_sock_addr(getpeername6)]
pub fn hoop_getpeername6(ctx: SockAddrContext) -> i32 {
    if let Some(origin) = origin(&ctx) {
        // A mapped destination is stored in the mapped form, which is what the caller knows.
        connect::write_v6(ctx.sock_addr, &origin.address, origin.port);
    }
    1
}

#[inline(always)]
fn origin(ctx: &SockAddrContext) -> Option<&'static Origin> {
    // SAFETY: the context of these hooks always has its socket.
    let socket = unsafe { maps::known_socket(connect::socket_pointer(ctx)) }?;
    (socket.flags & flag::REDIRECTED != 0).then_some(&socket.origin)
}
