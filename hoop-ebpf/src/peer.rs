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
        // SAFETY: this hook may write these two fields.
        unsafe {
            let to = ctx.sock_addr;
            core::ptr::write_volatile(&raw mut (*to).user_ip4, u32::from_ne_bytes([a, b, c, d]));
            core::ptr::write_volatile(&raw mut (*to).user_port, u32::from(origin.port.to_be()));
        }
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
    let socket = unsafe { maps::known_socket((*ctx.sock_addr).__bindgen_anon_1.sk.cast()) }?;
    (socket.flags & flag::REDIRECTED != 0).then_some(&socket.origin)
}
