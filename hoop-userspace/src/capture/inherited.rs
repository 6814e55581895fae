//! Descriptors that a governed program must not start with: a socket that was made outside its
//! cgroup stays outside of every hook.

use std::io;

/// From the next exec on, only the standard streams are left.
pub fn close_inherited_on_exec() -> io::Result<()> {
    const FIRST: libc::c_uint = 3;
    // SAFETY: no memory is passed, and descriptors are only marked, so none that Rust owns is
    // closed under its owner.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
