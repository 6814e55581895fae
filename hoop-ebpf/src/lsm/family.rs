//! Address families by allow-list: packet, virtual machine, Bluetooth, crypto and all other sockets
//! never come to `sock_create`.

use aya_ebpf::helpers::generated::bpf_set_retval;
use aya_ebpf::macros::lsm_cgroup;
use aya_ebpf::programs::LsmContext;
use hoop_common::{Origin, family, mode, reason};

use super::{PASS, REFUSE, task, verdict};

pub const AF_UNIX: u32 = 1;
pub const AF_INET: u32 = 2;
pub const AF_INET6: u32 = 10;
pub const AF_NETLINK: u32 = 16;
const EAFNOSUPPORT: i32 = 97;

/// `int family, int type, int protocol, int kern`.
#[lsm_cgroup(hook = "socket_create")]
pub fn hoop_lsm_create(ctx: LsmContext) -> i32 {
    let af: u32 = ctx.arg(0);
    let by_kernel: u32 = ctx.arg(3);
    let allowed = matches!(af, AF_UNIX | AF_INET | AF_INET6 | AF_NETLINK);
    if allowed || by_kernel != 0 {
        return PASS;
    }
    let task = task();
    if task.mode == mode::DISCOVER {
        return PASS;
    }
    let mut origin = Origin {
        family: family::OTHER,
        port: af as u16,
        ..Origin::default()
    };
    let verdict = verdict(task, reason::FAMILY, &mut origin);
    if verdict == REFUSE {
        // What a kernel without the family answers, so that programs do without.
        // SAFETY: a plain helper call.
        unsafe { bpf_set_retval(-EAFNOSUPPORT) };
    }
    verdict
}
