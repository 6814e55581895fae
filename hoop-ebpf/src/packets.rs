//! Packets: the backstop behind the connect hooks, and the names that resolvers answered.
//!
//! In enforce mode a packet of a governed socket leaves only if it is
//! 1. TCP of a connection that the connect hook redirected, to 127.0.0.1 or ::1; or
//! 2. DNS to a configured resolver; or
//! 3. TCP from a local port on which the cgroup may accept connections, and not a plain SYN.
//!
//! What was let pass by a bypass is let through in either direction until that ends, whatever the mode;
//! from then on only resets are, so that both ends learn of it.
//!
//! Packets that belong to no full socket (resets for closed ports, TIME_WAIT) do not come here;
//! they carry no data. IPv4 options (source routing would lead past the redirect) and IPv6
//! extension headers are refused in enforce mode.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{
    bpf_skb_ancestor_cgroup_id, bpf_skb_cgroup_id, bpf_skb_load_bytes,
};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use hoop_common::{
    ANSWER_BYTES, Address, LOOPBACK4, LOOPBACK6, ListenKey, Origin, family, flag, kind, mapped,
    mode, reason,
};

use crate::field::{read_pointer, read32};
use crate::{bypass, connect, govern, maps};

const LEVELS: i32 = 24;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DNS: u16 = 53;
const SYN_ACK_BITS: u8 = 0x12;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PASS: i32 = 1;
const DROP: i32 = 0;

/// The outer headers of a packet.
struct Packet {
    source: Address,
    destination: Address,
    v6: bool,
    protocol: u8,
    /// Where the next header begins.
    offset: u32,
    /// IPv4 options or IPv6 extension headers are there.
    options: bool,
}

struct Ports {
    source: u16,
    destination: u16,
}

#[cgroup_skb(egress)]
pub fn hoop_egress(ctx: SkBuffContext) -> i32 {
    let Some(packet) = packet(&ctx) else {
        return DROP;
    };
    let sk = read_pointer!(ctx.skb.skb, __sk_buff, __bindgen_anon_2);
    // SAFETY: the context's socket, checked for null.
    let socket = if sk.is_null() {
        None
    } else {
        unsafe { maps::known_socket(sk) }
    };
    if let Some(socket) = socket {
        if socket.flags & flag::EXEMPT != 0 {
            return PASS;
        }
        if socket.flags & flag::BYPASSED != 0 {
            return bypassed(&ctx, &packet);
        }
        let redirected = socket.flags & flag::REDIRECTED != 0;
        if redirected && packet.protocol == TCP && is_listener(&packet.destination) {
            return PASS;
        }
    }
    backstop(&ctx, &packet)
}

/// A packet of a connection that was let pass, in the direction out.
#[inline(always)]
fn bypassed(ctx: &SkBuffContext, packet: &Packet) -> i32 {
    if passes(ctx, packet) {
        return PASS;
    }
    // SAFETY: a plain helper call on the kernel's context.
    let cgroup = unsafe { bpf_skb_cgroup_id(ctx.skb.skb) };
    let port = ports(ctx, packet).map_or(0, |ports| ports.destination);
    report(ctx, packet, port, cgroup);
    DROP
}

#[inline(always)]
fn passes(ctx: &SkBuffContext, packet: &Packet) -> bool {
    if packet.protocol != TCP || packet.options {
        return false;
    }
    bypass::of_packet(ctx) || flags(ctx, packet).is_some_and(|flags| flags & RST != 0)
}

#[inline(always)]
fn backstop(ctx: &SkBuffContext, packet: &Packet) -> i32 {
    // SAFETY: plain helper calls on the kernel's context.
    let cgroup = unsafe { bpf_skb_cgroup_id(ctx.skb.skb) };
    let mode = mode_of(ctx, cgroup);
    if mode != mode::ENFORCE {
        return PASS;
    }
    let ports = if packet.options {
        None
    } else {
        ports(ctx, packet)
    };
    if let Some(ports) = &ports {
        if connect::is_resolver(&packet.destination, ports.destination) {
            return PASS;
        }
        if packet.protocol == TCP && !plain_syn(ctx, packet) && listens(ctx, cgroup, ports.source) {
            return PASS;
        }
    }
    report(
        ctx,
        packet,
        ports.map_or(0, |ports| ports.destination),
        cgroup,
    );
    DROP
}

#[inline(always)]
fn mode_of(ctx: &SkBuffContext, cgroup: u64) -> u32 {
    if let Some(mode) = govern::mode_of(cgroup) {
        return mode;
    }
    let mut nearest = mode::ENFORCE;
    for level in 1..LEVELS {
        // SAFETY: as above; 0 means that the socket's cgroup is not that deep.
        let ancestor = unsafe { bpf_skb_ancestor_cgroup_id(ctx.skb.skb, level) };
        if ancestor == 0 {
            break;
        }
        if let Some(mode) = govern::mode_of(ancestor) {
            nearest = mode;
        }
    }
    nearest
}

/// Whether the cgroup or one above it may accept connections on that port.
#[inline(always)]
fn listens(ctx: &SkBuffContext, cgroup: u64, port: u16) -> bool {
    let mut key = ListenKey {
        cgroup_id: cgroup,
        port,
        reserved: [0; 3],
    };
    if maps::LISTEN.get_ptr(key).is_some() {
        return true;
    }
    for level in 1..LEVELS {
        // SAFETY: as above.
        key.cgroup_id = unsafe { bpf_skb_ancestor_cgroup_id(ctx.skb.skb, level) };
        if key.cgroup_id == 0 {
            break;
        }
        if maps::LISTEN.get_ptr(key).is_some() {
            return true;
        }
    }
    false
}

#[inline(always)]
fn report(ctx: &SkBuffContext, packet: &Packet, port: u16, cgroup: u64) {
    let origin = Origin {
        // SAFETY: a plain helper call. Not the process's context: there is nobody to name.
        born: unsafe { aya_ebpf::helpers::generated::bpf_ktime_get_ns() },
        cgroup_id: cgroup,
        address: packet.destination,
        port,
        family: if packet.v6 { family::V6 } else { family::V4 },
        protocol: packet.protocol,
        mode: mode::ENFORCE,
        ..Origin::default()
    };
    let sk = read_pointer!(ctx.skb.skb, __sk_buff, __bindgen_anon_2);
    // SAFETY: the context's socket, checked for null.
    let socket = if sk.is_null() {
        None
    } else {
        unsafe { maps::socket(sk) }
    };
    if let Some(socket) = socket {
        govern::report_once(socket, kind::DENIED, reason::EGRESS, &origin);
    }
}

#[cgroup_skb(ingress)]
pub fn hoop_ingress(ctx: SkBuffContext) -> i32 {
    let Some(packet) = packet(&ctx) else {
        return PASS;
    };
    if packet.protocol == TCP {
        let sk = read_pointer!(ctx.skb.skb, __sk_buff, __bindgen_anon_2);
        // SAFETY: the context's socket, checked for null.
        let socket = if sk.is_null() {
            None
        } else {
            unsafe { maps::known_socket(sk) }
        };
        let bypassed = socket.is_some_and(|socket| socket.flags & flag::BYPASSED != 0);
        // What the server still sends would be read by a client that may no longer ask.
        if bypassed && !passes(&ctx, &packet) {
            return DROP;
        }
    }
    if packet.protocol != UDP {
        return PASS;
    }
    let Some(ports) = ports(&ctx, &packet) else {
        return PASS;
    };
    if ports.source == DNS && maps::RESOLVERS.get_ptr(packet.source).is_some() {
        copy_answer(&ctx, &packet);
    }
    PASS
}

#[inline(always)]
fn copy_answer(ctx: &SkBuffContext, packet: &Packet) {
    const UDP_HEADER: u32 = 8;
    let offset = packet.offset + UDP_HEADER;
    let length = read32!(ctx.skb.skb, __sk_buff, len).wrapping_sub(offset);
    if length == 0 || length > 0xffff {
        return;
    }
    let Some(mut entry) = maps::NAMES.reserve(0) else {
        return;
    };
    let answer = entry.as_mut_ptr();
    // The verifier needs to see both bounds on the register itself. That of Linux 6.1 learns nothing
    // from a comparison with zero, hence the mask below and the one that is added behind it.
    let most = ANSWER_BYTES as u32;
    let length = if length > most { most } else { length };
    let length = (core::hint::black_box(length - 1) & (most - 1)) + 1;
    // SAFETY: the entry is of this size and all its fields are written or zeroed; what is behind
    // `length` may be an older entry's, and the daemon does not read it.
    unsafe {
        (*answer).cgroup_id = bpf_skb_cgroup_id(ctx.skb.skb);
        (*answer).resolver = packet.source;
        (*answer).reserved = 0;
        let to = (&raw mut (*answer).message).cast();
        let copied = bpf_skb_load_bytes(ctx.as_ptr(), offset, to, length) == 0;
        (*answer).length = if copied { length } else { 0 };
    }
    entry.submit(0);
}

/// Reads the outer header; `None` if the packet is neither IPv4 nor IPv6, or too short.
#[inline(always)]
fn packet(ctx: &SkBuffContext) -> Option<Packet> {
    let first: u8 = ctx.load(0).ok()?;
    match first >> 4 {
        4 => {
            let header: [u8; 20] = ctx.load(0).ok()?;
            let words = u32::from(first & 0xf);
            let [.., s0, s1, s2, s3, d0, d1, d2, d3] = header;
            Some(Packet {
                source: mapped([s0, s1, s2, s3]),
                destination: mapped([d0, d1, d2, d3]),
                v6: false,
                protocol: header[9],
                offset: words * 4,
                options: words != 5,
            })
        }
        6 => {
            let next: u8 = ctx.load(6).ok()?;
            Some(Packet {
                source: ctx.load(8).ok()?,
                destination: ctx.load(24).ok()?,
                v6: true,
                protocol: next,
                offset: 40,
                // Any extension header is neither of the two, and fails the comparison there.
                options: false,
            })
        }
        _ => None,
    }
}

#[inline(always)]
fn ports(ctx: &SkBuffContext, packet: &Packet) -> Option<Ports> {
    if packet.protocol != TCP && packet.protocol != UDP {
        return None;
    }
    let [a, b, c, d]: [u8; 4] = ctx.load(packet.offset as usize).ok()?;
    Some(Ports {
        source: u16::from_be_bytes([a, b]),
        destination: u16::from_be_bytes([c, d]),
    })
}

/// A segment that opens a connection, which only the connect hook may allow; unreadable counts.
#[inline(always)]
fn plain_syn(ctx: &SkBuffContext, packet: &Packet) -> bool {
    flags(ctx, packet).is_none_or(|flags| flags & SYN_ACK_BITS == SYN)
}

/// The flags of a TCP segment (RFC 9293 §3.1).
#[inline(always)]
fn flags(ctx: &SkBuffContext, packet: &Packet) -> Option<u8> {
    const FLAGS: usize = 13;
    ctx.load::<u8>(packet.offset as usize + FLAGS).ok()
}

/// Exactly what the connect hook wrote: under source routing the header holds the first hop.
#[inline(always)]
fn is_listener(address: &Address) -> bool {
    *address == LOOPBACK4 || *address == LOOPBACK6
}
