//! System calls that no library offers, each behind a safe function.
//!
//! aya loads programs and reads maps; links are handled here, because it exposes neither the
//! descriptor of a pinned link nor what the kernel says of it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use hoop_common::{FlowKey, Origin};

const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_MAP_LOOKUP_AND_DELETE_ELEM: libc::c_long = 21;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
const SO_NETNS_COOKIE: libc::c_int = 71;
/// `SIOCGSKNS`: the network namespace of a socket.
const SOCKET_NAMESPACE: libc::c_ulong = 0x894c;
/// `_IO(0xb7, 0x1)`: the user namespace that owns a namespace.
const NS_GET_USERNS: libc::c_ulong = 0xb701;

/// A descriptor as `bpf_attr` has it.
fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

/// One call of bpf(2).
///
/// # Safety
/// `A` is the beginning of `bpf_attr` for `command`, and every address in it is valid for it.
unsafe fn bpf<A>(command: libc::c_long, attributes: &mut A) -> io::Result<RawFd> {
    // SAFETY: the caller's promise; the kernel takes what is beyond the given size as zeros.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<A>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(result).map_err(io::Error::other)
}

fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just returned this descriptor to us alone.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// Opens what is pinned there.
pub fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut object = Object {
        path: path.as_ptr() as u64,
        fd: 0,
        flags: 0,
    };
    // SAFETY: the path lives until the call returns.
    unsafe { bpf(BPF_OBJ_GET, &mut object) }.map(owned)
}

/// Pins, replacing what is pinned there in one step.
pub fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    // No dot: the BPF file system reserves names with one.
    let mut fresh = path.as_os_str().to_owned();
    fresh.push("_new");
    let fresh = std::path::PathBuf::from(fresh);
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let name = c_path(&fresh)?;
    let mut object = Object {
        path: name.as_ptr() as u64,
        fd: number(fd),
        flags: 0,
    };
    // SAFETY: the path lives until the call returns.
    unsafe { bpf(BPF_OBJ_PIN, &mut object) }?;
    std::fs::rename(&fresh, path)
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches a program to a cgroup, beside whatever else is attached there.
pub fn attach(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    let mut create = LinkCreate {
        program: number(program),
        target: number(cgroup),
        attach_type,
        flags: 0,
    };
    // SAFETY: no addresses.
    unsafe { bpf(BPF_LINK_CREATE, &mut create) }.map(owned)
}

#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// Swaps the program of a link; no packet or call goes by without one or the other.
pub fn swap(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut update = LinkUpdate {
        link: number(link),
        program: number(program),
        flags: 0,
        old_program: 0,
    };
    // SAFETY: no addresses.
    unsafe { bpf(BPF_LINK_UPDATE, &mut update) }.map(drop)
}

#[repr(C)]
struct InfoByFd {
    fd: u32,
    length: u32,
    info: u64,
}

/// What the kernel says of a cgroup link.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkInfo {
    pub kind: u32,
    pub id: u32,
    pub program: u32,
    reserved: u32,
    /// 0 once the cgroup was removed.
    pub cgroup_id: u64,
    pub attach_type: u32,
    reserved2: u32,
}

pub fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = LinkInfo::default();
    let mut query = InfoByFd {
        fd: number(link),
        length: u32::try_from(size_of::<LinkInfo>()).map_err(io::Error::other)?,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    // SAFETY: `info` is writable for the given length, and any bytes are a value of it.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut query) }?;
    Ok(info)
}

#[repr(C)]
struct Element {
    map: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Takes an entry out of FLOWS: of two that ask, one gets it.
pub fn take_flow(map: BorrowedFd<'_>, key: &FlowKey) -> io::Result<Option<Origin>> {
    let mut origin = Origin::default();
    let mut element = Element {
        map: number(map),
        reserved: 0,
        key: std::ptr::from_ref(key) as u64,
        value: std::ptr::from_mut(&mut origin) as u64,
        flags: 0,
    };
    // SAFETY: key and value have the map's sizes (the shared types), and any bytes are an Origin.
    match unsafe { bpf(BPF_MAP_LOOKUP_AND_DELETE_ELEM, &mut element) } {
        Ok(_) => Ok(Some(origin)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The cookie of a socket's network namespace.
pub fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = 8 as libc::socklen_t;
    // SAFETY: the value is eight writable bytes, as `length` says.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            std::ptr::from_mut(&mut cookie).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(cookie)
}

/// A socket's network namespace, as setns(2) takes it. Needs CAP_NET_ADMIN there.
pub fn network_namespace(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: this request takes no argument and returns a new descriptor.
    let fd = unsafe { libc::ioctl(socket.as_raw_fd(), SOCKET_NAMESPACE) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(owned(fd))
}

/// The user namespace that owns this namespace.
pub fn owning_user_namespace(namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: this request takes no argument and returns a new descriptor.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(owned(fd))
}

/// Monotonic nanoseconds, the clock of [`Origin::born`].
pub fn now() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    now.map(|t| std::time::Duration::from(t).as_nanos())
        .map_or(0, |nanos| u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Nanoseconds since the host started, those asleep included: the clock of a bypass.
pub fn boot_now() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    now.map(|t| std::time::Duration::from(t).as_nanos())
        .map_or(u64::MAX, |nanos| u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The host's clock, as the kernel keeps it (adjtimex(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Somebody adjusts it (no STA_UNSYNC).
    pub synchronised: bool,
    /// By how much it may be off, in microseconds, as whoever adjusts it believes.
    pub worst_error_us: i64,
}

/// Only reads.
pub fn clock() -> io::Result<Clock> {
    // SAFETY: `timex` is made of integers, of which all zeros is a value; no mode is set, so that
    // the call changes nothing.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the struct is writable and of the kernel's layout.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Clock {
        synchronised: timex.status & libc::STA_UNSYNC == 0,
        worst_error_us: timex.maxerror,
    })
}

/// The file system's magic number at a path.
pub fn is_bpffs(path: &Path) -> bool {
    nix::sys::statfs::statfs(path)
        .is_ok_and(|stat| stat.filesystem_type() == nix::sys::statfs::BPF_FS_MAGIC)
}

/// A cgroup's id: the inode of its folder.
pub fn cgroup_id(folder: impl AsFd) -> io::Result<u64> {
    let stat = nix::sys::stat::fstat(folder)?;
    Ok(stat.st_ino)
}
