//! Unix sockets by name: local databases, and whoever can have processes started elsewhere.
//!
//! Looked up are what the listener is bound to, what its file is called now, and what its file was called
//! when it was bound, so that neither a link nor another mount on the way to it matters, nor another name
//! that its file is given later. A listener in the task's own cgroup is its own affair.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str};
use aya_ebpf::macros::lsm_cgroup;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::programs::LsmContext;
use hoop_common::{Origin, family, reason, socket_name};

use super::structs::{cgroup_of, follow, place, read};
use super::{PASS, task, verdict};
use crate::maps;

/// `sa_family_t`, which an address's length includes.
const FAMILY_BYTES: u32 = 2;
const BITS: u32 = 8 * socket_name::BYTES as u32;

/// Bytes of `sun_path`.
const PATH_BYTES: usize = 108;

/// A name as it is looked up.
struct Name([u8; socket_name::BYTES]);

/// `struct sock *sock, struct sock *other, struct sock *newsk`: SOCK_STREAM and SOCK_SEQPACKET.
#[lsm_cgroup(hook = "unix_stream_connect")]
pub fn hoop_lsm_unix(ctx: LsmContext) -> i32 {
    decide(ctx.arg(1))
}

/// `struct socket *sock, struct socket *other`: SOCK_DGRAM, at connect(2) and for each datagram.
#[lsm_cgroup(hook = "unix_may_send")]
pub fn hoop_lsm_unix_send(ctx: LsmContext) -> i32 {
    let other: *const c_void = ctx.arg(1);
    match follow(other, place!(socket_sk)) {
        Some(sk) => decide(sk),
        None => PASS,
    }
}

/// What becomes of a connection to that socket.
#[inline(always)]
pub fn decide(to: *const c_void) -> i32 {
    let Some(address) = follow(to, place!(unix_address)) else {
        // Without a name nobody finds it.
        return PASS;
    };
    let mut name = Name([0; socket_name::BYTES]);
    name.bound_to(address);
    let mut found = name.look_up();
    if found == 0
        && let Some(dentry) = follow(to, place!(unix_dentry))
    {
        let file = name.file_at();
        name.file(address.wrapping_byte_add(place!(address_path) + file));
        found = name.look_up();
        if found == 0
            && let Some(file) = follow(dentry, place!(dentry_name))
        {
            name.file(file);
            found = name.look_up();
        }
    }
    if found != socket_name::REFUSED {
        return PASS;
    }
    let task = task();
    if cgroup_of(to) == Some(task.cgroup) {
        return PASS;
    }
    let mut origin = Origin {
        family: family::UNIX,
        address: name.beginning(),
        ..Origin::default()
    };
    verdict(task, reason::UNIX_SOCKET, &mut origin)
}

impl Name {
    #[inline(always)]
    fn bound_to(&mut self, address: *const c_void) {
        let [kind, name @ ..] = &mut self.0;
        *kind = socket_name::ADDRESS;
        let length = read::<u32>(address, place!(address_length)).unwrap_or(0);
        let size = below_128(length.saturating_sub(FAMILY_BYTES));
        let path = address.wrapping_byte_add(place!(address_path));
        // SAFETY: `size` is at most the 127 bytes that are there.
        unsafe { bpf_probe_read_kernel(name.as_mut_ptr().cast(), size, path) };
    }

    #[inline(always)]
    fn file(&mut self, file: *const c_void) {
        self.0 = [0; socket_name::BYTES];
        let [kind, name @ ..] = &mut self.0;
        *kind = socket_name::FILE;
        // SAFETY: as many bytes as are there.
        unsafe {
            bpf_probe_read_kernel_str(name.as_mut_ptr().cast(), socket_name::ROOM as u32, file);
        }
    }

    /// Where the file's name begins in the address: after its last slash.
    ///
    /// Without a branch for each byte: the verifier would follow every way through the loop.
    #[inline(always)]
    fn file_at(&self) -> usize {
        let [_, name @ ..] = &self.0;
        let (mut start, mut at) = (0, 0);
        while at < PATH_BYTES {
            let differs = u64::from(name[at] ^ b'/');
            // The borrow of a subtraction from zero.
            let slash = lowest_bit(differs.wrapping_sub(1) >> 63);
            let all = 0_u64.wrapping_sub(slash);
            start = start & !all | (at as u64 + 1) & all;
            at += 1;
        }
        below_128(start as u32) as usize
    }

    /// What holds for it; 0 if nothing does.
    #[inline(always)]
    fn look_up(&self) -> u32 {
        let key = Key::new(BITS, self.0);
        maps::SOCKET_NAMES.get(&key).copied().unwrap_or(0)
    }

    /// As much of it as an event holds.
    #[inline(always)]
    fn beginning(&self) -> [u8; 16] {
        let [_, name @ ..] = &self.0;
        let mut beginning = [0; 16];
        let mut at = 0;
        while at < beginning.len() {
            beginning[at] = name[at];
            at += 1;
        }
        beginning
    }
}

/// Cuts a size to seven bits, by an instruction that the compiler cannot leave out: the verifier has to
/// see the bound.
#[inline(always)]
fn below_128(size: u32) -> u32 {
    let mut size = u64::from(size);
    // SAFETY: arithmetic on one register.
    unsafe {
        core::arch::asm!("{size} &= 127", size = inout(reg) size, options(nostack, preserves_flags, nomem, pure));
    }
    size as u32
}

/// The same for one bit, of which the compiler is not to know that it is one: it would branch by it.
#[inline(always)]
fn lowest_bit(mut bits: u64) -> u64 {
    // SAFETY: arithmetic on one register.
    unsafe {
        core::arch::asm!("{bits} &= 1", bits = inout(reg) bits, options(nostack, preserves_flags, nomem, pure));
    }
    bits
}
