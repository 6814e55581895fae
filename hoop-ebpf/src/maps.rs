//! The maps, and the socket storage under one name for every kind of program.

use core::ffi::c_void;
use core::ptr;

use aya_ebpf::bindings::BPF_SK_STORAGE_GET_F_CREATE;
use aya_ebpf::btf_maps::{HashMap, LpmTrie, RingBuf, SkStorage};
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use aya_ebpf::macros::btf_map;
use hoop_common::{
    Address, Answer, Bypass, Event, FlowKey, ListenKey, Origin, Proxy, Socket, size, socket_name,
};

/// Per socket: who made it, and the origin of its redirected connection. Not an LRU keyed by
/// cookie, which evicts live entries: storage lives exactly as long as its socket.
#[btf_map]
static SOCKETS: SkStorage<Socket> = SkStorage::new();

/// Redirected connections that the daemon has not accepted yet. Preallocated; when it is full the
/// newest connections find no origin and are reset.
#[btf_map]
pub static FLOWS: HashMap<FlowKey, Origin, { size::FLOWS }> = HashMap::new();

/// Mode by cgroup id.
#[btf_map]
pub static MODES: HashMap<u64, u32, { size::MODES }> = HashMap::new();

/// The daemon's listeners by network namespace cookie.
#[btf_map]
pub static PROXIES: HashMap<u64, Proxy, { size::PROXIES }> = HashMap::new();

/// Resolvers whose port 53 may be asked, and whose answers are believed.
#[btf_map]
pub static RESOLVERS: HashMap<Address, u32, { size::RESOLVERS }> = HashMap::new();

/// Ports on which a cgroup may accept connections in enforce mode.
#[btf_map]
pub static LISTEN: HashMap<ListenKey, u32, { size::LISTEN }> = HashMap::new();

/// Cgroups for which somebody broke the glass. Written by root alone, the daemon alive or not.
#[btf_map]
pub static BYPASS: HashMap<u64, Bypass, { size::BYPASS }> = HashMap::new();

/// Names of Unix sockets that are refused, or allowed whatever else says so; keys are described at
/// [`socket_name`].
#[btf_map]
pub static SOCKET_NAMES: LpmTrie<[u8; socket_name::BYTES], u32, { size::SOCKET_NAMES }> =
    LpmTrie::new();

#[btf_map]
pub static EVENTS: RingBuf<Event, { size::EVENTS }> = RingBuf::new();

/// Apart from EVENTS, so that a program that provokes refusals cannot crowd out names.
#[btf_map]
pub static NAMES: RingBuf<Answer, { size::NAMES }> = RingBuf::new();

/// The storage of a socket, made empty if there is none.
///
/// # Safety
/// `sk` is a socket pointer of the program's context that was checked for null.
#[inline(always)]
pub unsafe fn socket(sk: *mut c_void) -> Option<&'static mut Socket> {
    // SAFETY: the caller's promise; the kernel returns null or a valid value of the map.
    unsafe { storage(sk, BPF_SK_STORAGE_GET_F_CREATE.into()) }
}

/// The storage of a socket, if it has any.
///
/// # Safety
/// As [`socket`].
#[inline(always)]
pub unsafe fn known_socket(sk: *mut c_void) -> Option<&'static mut Socket> {
    // SAFETY: as above.
    unsafe { storage(sk, 0) }
}

#[inline(always)]
unsafe fn storage(sk: *mut c_void, flags: u64) -> Option<&'static mut Socket> {
    let map = ptr::addr_of!(SOCKETS).cast_mut().cast();
    // SAFETY: as above. Only one program at a time writes a socket's storage but for counters
    // that do not matter: connect holds the socket's lock.
    unsafe {
        bpf_sk_storage_get(map, sk, ptr::null_mut(), flags)
            .cast::<Socket>()
            .as_mut()
    }
}
