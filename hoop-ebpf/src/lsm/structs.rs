//! Reading the kernel's own structures, at the places that the daemon found in its BTF.
//!
//! The programs are compiled for no kernel in particular, and Rust has no relocations for fields. The
//! daemon does not load them where it has not found every field.

use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use hoop_common::Fields;

/// Overwritten at loading; the map that it lies in is frozen then, so that the verifier knows each.
#[unsafe(no_mangle)]
pub static FIELDS: Fields = Fields {
    socket_sk: 0,
    sock_family: 0,
    sock_protocol: 0,
    sock_port: 0,
    sock_peer4: 0,
    sock_peer6: 0,
    sock_cgroup: 0,
    cgroup_node: 0,
    node_id: 0,
    unix_address: 0,
    unix_dentry: 0,
    unix_peer: 0,
    address_length: 0,
    address_path: 0,
    dentry_name: 0,
    reserved: 0,
};

/// Where a field is: `place!(sock_family)`.
macro_rules! place {
    ($field:ident) => {
        // SAFETY: a valid static; volatile, since the compiler knows only what it was built with.
        unsafe { core::ptr::read_volatile(&raw const $crate::lsm::structs::FIELDS.$field) as usize }
    };
}
pub(super) use place;

/// Copies a field's value; `None` if there is nothing to read.
#[inline(always)]
pub fn read<T: Copy>(base: *const c_void, place: usize) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the kernel writes all of the value or says that it could not; any address may be asked.
    let failed = unsafe {
        bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            base.byte_add(place),
        )
    };
    // SAFETY: written, as the kernel said. Only integers, pointers and arrays of bytes are asked for.
    (failed == 0).then(|| unsafe { value.assume_init() })
}

/// A pointer's value; `None` also where it is null.
#[inline(always)]
pub fn follow(base: *const c_void, place: usize) -> Option<*const c_void> {
    read::<*const c_void>(base, place).filter(|pointer| !pointer.is_null())
}

/// The cgroup that a socket counts for; `None` if that cannot be told.
#[inline(always)]
pub fn cgroup_of(sk: *const c_void) -> Option<u64> {
    let cgroup = follow(sk, place!(sock_cgroup))?;
    let node = follow(cgroup, place!(cgroup_node))?;
    read(node, place!(node_id))
}

/// A pointer that the verifier goes on knowing the type of, which storage wants.
///
/// # Safety
/// `base` is a pointer of the program's context or a helper's, checked for null.
#[inline(always)]
pub unsafe fn typed(base: *const c_void, place: usize) -> *mut c_void {
    // SAFETY: the caller's promise; the verifier checks that a pointer lies there.
    unsafe { ptr::read_volatile(base.byte_add(place).cast()) }
}
