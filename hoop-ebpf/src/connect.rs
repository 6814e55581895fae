//! connect(2): every TCP connection goes to the daemon's listener, or nowhere.
//!
//! Nothing is decided here by destination: addresses rotate, so that names are matched in user
//! space and an unknown address fails closed. The only destination that passes is a configured
//! resolver's port 53. Loopback is no exception either.

use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr, bpf_sock_tuple};
use aya_ebpf::helpers::generated::{
    bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval, bpf_setsockopt, bpf_sk_lookup_tcp,
    bpf_sk_release,
};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use hoop_common::{
    Address, LOOPBACK4, LOOPBACK6, Origin, Proxy, Socket, family, flag, kind, mapped, mode, reason,
};

use crate::field::{read_pointer, read32, write32};
use crate::govern::{self, Governed};
use crate::log::debug;
use crate::{bypass, datagram, maps};

pub const TCP: u32 = 6;
const DNS: u16 = 53;
const ECONNREFUSED: i32 = 111;
const SOL_SOCKET: i32 = 1;
const SO_BINDTODEVICE: i32 = 25;
const V4_TUPLE: u32 = 12;
const V6_TUPLE: u32 = 36;

/// Where a call wants to go.
#[derive(Clone, Copy)]
pub struct Destination {
    pub address: Address,
    pub port: u16,
    pub family: u8,
}

/// What becomes of a connect.
pub enum Outcome {
    Pass,
    /// To this port (host byte order) on loopback.
    Redirect(u16),
    /// EPERM, or the given error.
    Refuse(Option<i32>),
}

#[cgroup_sock_addr(connect4)]
pub fn hoop_connect4(ctx: SockAddrContext) -> i32 {
    let to = v4_destination(&ctx);
    match decide(&ctx, &to) {
        Outcome::Pass => 1,
        Outcome::Redirect(port) => {
            write_v4(ctx.sock_addr, [127, 0, 0, 1], port);
            1
        }
        Outcome::Refuse(error) => refuse(error),
    }
}

#[cgroup_sock_addr(connect6)]
pub fn hoop_connect6(ctx: SockAddrContext) -> i32 {
    let to = v6_destination(&ctx);
    match decide(&ctx, &to) {
        Outcome::Pass => 1,
        Outcome::Redirect(port) => {
            let loopback = if to.family == family::MAPPED {
                LOOPBACK4
            } else {
                LOOPBACK6
            };
            write_v6(ctx.sock_addr, &loopback, port);
            1
        }
        Outcome::Refuse(error) => refuse(error),
    }
}

/// The address of a v4 call, as the kernel would take it.
#[inline(always)]
pub fn v4_destination(ctx: &SockAddrContext) -> Destination {
    let ip = read32!(ctx.sock_addr, bpf_sock_addr, user_ip4);
    let port = read32!(ctx.sock_addr, bpf_sock_addr, user_port);
    let address = if ip == 0 {
        LOOPBACK4
    } else {
        mapped(ip.to_ne_bytes())
    };
    Destination {
        address,
        port: u16::from_be(port as u16),
        family: family::V4,
    }
}

/// The address of a v6 call; a v4-mapped one is told apart.
#[inline(always)]
pub fn v6_destination(ctx: &SockAddrContext) -> Destination {
    let w0 = read32!(ctx.sock_addr, bpf_sock_addr, user_ip6, 0);
    let w1 = read32!(ctx.sock_addr, bpf_sock_addr, user_ip6, 1);
    let w2 = read32!(ctx.sock_addr, bpf_sock_addr, user_ip6, 2);
    let w3 = read32!(ctx.sock_addr, bpf_sock_addr, user_ip6, 3);
    let port = read32!(ctx.sock_addr, bpf_sock_addr, user_port);
    let port = u16::from_be(port as u16);
    if w0 | w1 == 0 && w2 == 0xffff_u32.to_be() {
        let address = if w3 == 0 {
            LOOPBACK4
        } else {
            mapped(w3.to_ne_bytes())
        };
        return Destination {
            address,
            port,
            family: family::MAPPED,
        };
    }
    let address = if w0 | w1 | w2 | w3 == 0 {
        LOOPBACK6
    } else {
        join(w0, w1, w2, w3)
    };
    Destination {
        address,
        port,
        family: family::V6,
    }
}

#[inline(always)]
pub fn join(w0: u32, w1: u32, w2: u32, w3: u32) -> Address {
    let [a, b, c, d] = w0.to_ne_bytes();
    let [e, f, g, h] = w1.to_ne_bytes();
    let [i, j, k, l] = w2.to_ne_bytes();
    let [m, n, o, p] = w3.to_ne_bytes();
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

#[inline(always)]
pub fn write_v4(to: *mut bpf_sock_addr, address: [u8; 4], port: u16) {
    write32!(to, bpf_sock_addr, user_ip4, 0, u32::from_ne_bytes(address));
    write32!(to, bpf_sock_addr, user_port, 0, u32::from(port.to_be()));
}

#[inline(always)]
pub fn write_v6(to: *mut bpf_sock_addr, address: &Address, port: u16) {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
    write32!(
        to,
        bpf_sock_addr,
        user_ip6,
        0,
        u32::from_ne_bytes([a, b, c, d])
    );
    write32!(
        to,
        bpf_sock_addr,
        user_ip6,
        1,
        u32::from_ne_bytes([e, f, g, h])
    );
    write32!(
        to,
        bpf_sock_addr,
        user_ip6,
        2,
        u32::from_ne_bytes([i, j, k, l])
    );
    write32!(
        to,
        bpf_sock_addr,
        user_ip6,
        3,
        u32::from_ne_bytes([m, n, o, p])
    );
    write32!(to, bpf_sock_addr, user_port, 0, u32::from(port.to_be()));
}

#[inline(always)]
fn refuse(error: Option<i32>) -> i32 {
    if let Some(error) = error {
        // SAFETY: a plain helper call.
        unsafe { bpf_set_retval(-error) };
    }
    0
}

#[inline(always)]
pub fn socket_pointer(ctx: &SockAddrContext) -> *mut c_void {
    read_pointer!(ctx.sock_addr, bpf_sock_addr, __bindgen_anon_1)
}

#[inline(always)]
fn protocol(ctx: &SockAddrContext) -> u32 {
    read32!(ctx.sock_addr, bpf_sock_addr, protocol)
}

/// The socket's storage; `None` only when the kernel has no memory.
#[inline(always)]
pub fn socket_of(ctx: &SockAddrContext) -> Option<&'static mut Socket> {
    let sk = socket_pointer(ctx);
    // SAFETY: a connect or sendmsg context always has its socket, which the verifier knows.
    unsafe { maps::socket(sk) }
}

/// True if the destination is a configured resolver's DNS port.
#[inline(always)]
pub fn is_resolver(address: &Address, port: u16) -> bool {
    port == DNS && maps::RESOLVERS.get_ptr(address).is_some()
}

/// Fills in who asks and what for.
#[inline(always)]
pub fn describe(ctx: &SockAddrContext, origin: &mut Origin, to: &Destination, by: Governed) {
    govern::sign(origin);
    origin.cgroup_id = by.cgroup;
    origin.mode = by.mode;
    origin.address = to.address;
    origin.port = to.port;
    origin.family = to.family;
    origin.protocol = protocol(ctx) as u8;
    // SAFETY: the context is the kernel's.
    unsafe {
        origin.netns_cookie = bpf_get_netns_cookie(ctx.as_ptr());
        origin.socket_cookie = bpf_get_socket_cookie(ctx.as_ptr());
    }
}

#[inline(always)]
fn decide(ctx: &SockAddrContext, to: &Destination) -> Outcome {
    let Some(socket) = socket_of(ctx) else {
        return Outcome::Refuse(None);
    };
    // Before anything else: a path that does not redirect leaves no origin behind.
    socket.flags &= !(flag::REDIRECTED | flag::BYPASSED);
    if socket.flags & flag::EXEMPT != 0 {
        return Outcome::Pass;
    }
    let by = govern::of_socket(socket);
    describe(ctx, &mut socket.origin, to, by);
    if by.passed && by.mode == mode::ENFORCE {
        govern::report(kind::DENIED, reason::PASSED_SOCKET, &socket.origin);
        return Outcome::Refuse(None);
    }
    if protocol(ctx) != TCP {
        return datagram::decide(socket, to, by.mode);
    }
    if is_resolver(&to.address, to.port) {
        return Outcome::Pass;
    }
    if by.mode == mode::DISCOVER {
        govern::report(kind::PASSED, reason::NONE, &socket.origin);
        return Outcome::Pass;
    }
    // Not for a socket that came from another cgroup: its packets count for that one.
    if !by.passed && bypass::of_task(by.cgroup) {
        socket.flags |= flag::BYPASSED;
        govern::report(kind::PASSED, reason::BYPASS, &socket.origin);
        return Outcome::Pass;
    }
    redirect(ctx, socket, to, by.mode)
}

#[inline(always)]
fn redirect(ctx: &SockAddrContext, socket: &mut Socket, to: &Destination, mode: u32) -> Outcome {
    let observing = mode == mode::OBSERVE;
    // SAFETY: the value is copied at once.
    let Some(proxy) = (unsafe { maps::PROXIES.get(socket.origin.netns_cookie) }).copied() else {
        govern::report(kind::NAMESPACE, reason::NAMESPACE, &socket.origin);
        return without_daemon(observing);
    };
    let v6 = to.family == family::V6;
    let port = if v6 { proxy.port6 } else { proxy.port4 };
    if port == 0 || !alive(ctx, &proxy, port, v6) {
        debug!(ctx, "no listener of the daemon on port {}", port);
        let what = if observing {
            kind::PASSED
        } else {
            kind::DENIED
        };
        govern::report(what, reason::NO_DAEMON, &socket.origin);
        return without_daemon(observing);
    }
    if !released_from_device(ctx) {
        govern::report(kind::DENIED, reason::BOUND_DEVICE, &socket.origin);
        return Outcome::Refuse(None);
    }
    socket.flags |= flag::REDIRECTED;
    Outcome::Redirect(port)
}

#[inline(always)]
fn without_daemon(observing: bool) -> Outcome {
    if observing {
        Outcome::Pass
    } else {
        Outcome::Refuse(Some(ECONNREFUSED))
    }
}

/// Whether the daemon itself listens there: the socket's storage must hold the nonce, which
/// nobody else can write. Defeats whoever binds a dead daemon's port.
#[inline(always)]
fn alive(ctx: &SockAddrContext, proxy: &Proxy, port: u16, v6: bool) -> bool {
    // SAFETY: all zeros is a tuple; the union's two forms are plain integers.
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    let size = if v6 {
        let one = 1_u32.to_be();
        tuple.__bindgen_anon_1.ipv6.saddr = [0, 0, 0, one];
        tuple.__bindgen_anon_1.ipv6.daddr = [0, 0, 0, one];
        tuple.__bindgen_anon_1.ipv6.dport = port.to_be();
        V6_TUPLE
    } else {
        let loopback = u32::from_ne_bytes([127, 0, 0, 1]);
        tuple.__bindgen_anon_1.ipv4.saddr = loopback;
        tuple.__bindgen_anon_1.ipv4.daddr = loopback;
        tuple.__bindgen_anon_1.ipv4.dport = port.to_be();
        V4_TUPLE
    };
    // SAFETY: the socket is used only if not null, and released on the one path out.
    unsafe {
        let current_namespace = u64::MAX;
        let sk = bpf_sk_lookup_tcp(ctx.as_ptr(), &raw mut tuple, size, current_namespace, 0);
        if sk.is_null() {
            return false;
        }
        let blessed = maps::known_socket(sk.cast())
            .is_some_and(|listener| listener.nonce != 0 && listener.nonce == proxy.nonce);
        bpf_sk_release(sk.cast());
        blessed
    }
}

/// A socket that is bound to a device would not reach loopback. Unprivileged callers may bind but
/// not unbind, and the kernel applies that to this hook too on some versions: then refuse.
#[inline(always)]
fn released_from_device(ctx: &SockAddrContext) -> bool {
    if read32!(socket_pointer(ctx), bpf_sock, bound_dev_if) == 0 {
        return true;
    }
    let mut none = [0_u8; 4];
    // SAFETY: the option's value is four zero bytes on this stack: the empty device name.
    let set = unsafe {
        bpf_setsockopt(
            ctx.as_ptr(),
            SOL_SOCKET,
            SO_BINDTODEVICE,
            none.as_mut_ptr().cast(),
            4,
        )
    };
    set == 0
}
