//! System calls that the worker never makes and an intruder would want.
//!
//! A list of what is refused, not of what is allowed: which calls the C library makes differs with
//! its version (and name service modules differ from host to host), so an allow-list would turn an
//! upgrade of the host into an outage. `docs/adr/seccomp-list.md` says why each call is here.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp,
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    #[error("the system call filter could not be built: {0}")]
    Build(#[from] BackendError),
    #[error("the system call filter could not be installed: {0}")]
    Install(#[from] Error),
    #[error("no system call filter is written for the architecture {0}")]
    Architecture(&'static str),
}

/// No code of ours or of a library's has a use for these here: whoever makes one has taken over
/// the process, which then ends at once.
const FATAL: &[c_long] = &[
    // Other programs, and other processes' memory.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // The kernel's own programs, modules and images.
    libc::SYS_bpf,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    // Namespaces and what is mounted where.
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    // Files by handle, past every folder's rights.
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // The host as a whole.
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// A library may try these and must live with being refused.
const REFUSED: &[c_long] = &[
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_personality,
    libc::SYS_syslog,
    libc::SYS_fanotify_init,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_mknodat,
    // The rings run calls that no filter sees.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// The only families that a socket may have: what the worker dials, and the log.
const FAMILIES: [libc::c_int; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];

/// Installs both filters for this thread and all that it starts. Needs no_new_privs.
pub fn install() -> Result<(), SeccompError> {
    let arch: TargetArch = std::env::consts::ARCH
        .try_into()
        .map_err(|_| SeccompError::Architecture(std::env::consts::ARCH))?;
    let refused = libc::EPERM.unsigned_abs();
    for (rules, action) in [
        (plain(REFUSED), SeccompAction::Errno(refused)),
        (
            sockets()?,
            SeccompAction::Errno(libc::EAFNOSUPPORT.unsigned_abs()),
        ),
        (plain(FATAL), SeccompAction::KillProcess),
    ] {
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch)?;
        let program: BpfProgram = filter.try_into()?;
        seccompiler::apply_filter(&program)?;
    }
    Ok(())
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn plain(calls: &[c_long]) -> Rules {
    calls
        .iter()
        .flat_map(|call| numbers(*call))
        .map(|number| (number, Vec::new()))
        .collect()
}

/// All numbers of one call. On x86-64 a kernel may also serve the x32 numbers, which a list of
/// refusals would otherwise let through.
fn numbers(call: c_long) -> Vec<i64> {
    if cfg!(not(target_arch = "x86_64")) {
        return vec![call];
    }
    const X32: i64 = 0x4000_0000;
    let own = match call {
        libc::SYS_execve => Some(520),
        libc::SYS_ptrace => Some(521),
        libc::SYS_kexec_load => Some(528),
        libc::SYS_process_vm_readv => Some(539),
        libc::SYS_process_vm_writev => Some(540),
        libc::SYS_execveat => Some(545),
        _ => None,
    };
    [Some(call), Some(call | X32), own.map(|call| call | X32)]
        .into_iter()
        .flatten()
        .collect()
}

/// `socket` with any family but [`FAMILIES`], and any raw or packet socket.
fn sockets() -> Result<Rules, BackendError> {
    let is_not = |family: libc::c_int| {
        let family = u64::from(family.unsigned_abs());
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family)
    };
    let other_family = FAMILIES
        .into_iter()
        .map(is_not)
        .collect::<Result<Vec<_>, _>>()?;
    // The low four bits are the type, the others flags.
    let raw = SeccompCondition::new(
        1,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(0xf),
        u64::from(libc::SOCK_RAW.unsigned_abs()),
    )?;
    let rules = vec![
        SeccompRule::new(other_family)?,
        SeccompRule::new(vec![raw])?,
    ];
    Ok(numbers(libc::SYS_socket)
        .into_iter()
        .map(|number| (number, rules.clone()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    // A filter cannot be taken back, but it holds for the thread that installs it alone.
    #[test]
    fn what_the_worker_needs_still_works_and_the_rest_does_not() {
        std::thread::spawn(|| {
            nix::sys::prctl::set_no_new_privs().unwrap();
            install().unwrap();
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            std::os::unix::net::UnixDatagram::unbound().unwrap();
            std::fs::read("/proc/self/status").unwrap();
            std::thread::spawn(|| ()).join().unwrap();
            let family = rustix::net::AddressFamily::NETLINK;
            let kind = rustix::net::SocketType::DGRAM;
            let netlink = rustix::net::socket(family, kind, None);
            assert_eq!(netlink.unwrap_err(), rustix::io::Errno::AFNOSUPPORT);
            let raw = rustix::net::socket(
                rustix::net::AddressFamily::INET,
                rustix::net::SocketType::RAW,
                rustix::net::Protocol::from_raw(1.try_into().unwrap()).into(),
            );
            assert_eq!(raw.unwrap_err(), rustix::io::Errno::AFNOSUPPORT);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn no_call_is_on_both_lists() {
        assert!(FATAL.iter().all(|call| !REFUSED.contains(call)));
    }
}
