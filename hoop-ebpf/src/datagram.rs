//! UDP: only DNS to the configured resolvers leaves an enforced cgroup. Loopback is no exception:
//! a program there may forward what it is sent.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use hoop_common::{Socket, flag, kind, mode, reason};

use crate::connect::{self, Destination, Outcome};
use crate::govern;

#[cgroup_sock_addr(sendmsg4)]
pub fn hoop_sendmsg4(ctx: SockAddrContext) -> i32 {
    let to = connect::v4_destination(&ctx);
    send(&ctx, &to)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn hoop_sendmsg6(ctx: SockAddrContext) -> i32 {
    let to = connect::v6_destination(&ctx);
    send(&ctx, &to)
}

#[inline(always)]
fn send(ctx: &SockAddrContext, to: &Destination) -> i32 {
    let Some(socket) = connect::socket_of(ctx) else {
        return 0;
    };
    if socket.flags & flag::EXEMPT != 0 {
        return 1;
    }
    let by = govern::of_socket(socket);
    connect::describe(ctx, &mut socket.origin, to, by);
    if by.passed && by.mode == mode::ENFORCE {
        let origin = socket.origin;
        govern::report_once(socket, kind::DENIED, reason::PASSED_SOCKET, &origin);
        return 0;
    }
    i32::from(matches!(decide(socket, to, by.mode), Outcome::Pass))
}

/// For connect(2) on a socket that is not TCP, and for each unconnected datagram.
#[inline(always)]
pub fn decide(socket: &mut Socket, to: &Destination, mode: u32) -> Outcome {
    if connect::is_resolver(&to.address, to.port) {
        return Outcome::Pass;
    }
    let origin = socket.origin;
    if mode == mode::ENFORCE {
        govern::report_once(socket, kind::DENIED, reason::DATAGRAM, &origin);
        return Outcome::Refuse(None);
    }
    govern::report_once(socket, kind::PASSED, reason::NONE, &origin);
    Outcome::Pass
}
