//! First thing in the worker: give up everything that being started as root gave it.
//!
//! It happens before any thread exists and before a byte is read from anywhere, in the worker
//! rather than between fork and exec in the keeper, because emptying the bounding set needs a
//! capability that changing the account takes away.

use std::io;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Uid, User, geteuid, setgroups, setresgid, setresuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use super::seccomp;

/// Why the worker cannot become what it must be. It does not run then.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    #[error(
        "there is no account {0}: create it (`systemd-sysusers`, or `useradd --system {0}`), or name another with `user` in [worker] or [console]"
    )]
    NoAccount(String),
    #[error("the account must not be root: name another with `user` in [worker] or [console]")]
    Root,
    #[error("this process must be started by the keeper, as root")]
    NotRoot,
    #[error("{0} failed: {1}")]
    Call(&'static str, #[source] io::Error),
    #[error("after giving up all privileges, some are left: {0}")]
    Left(String),
    #[error(transparent)]
    Seccomp(#[from] seccomp::SeccompError),
}

/// The account of that name.
pub fn account(name: &str) -> Result<User, PrivilegeError> {
    let user = User::from_name(name).map_err(called("looking up the account"))?;
    let user = user.ok_or_else(|| PrivilegeError::NoAccount(name.into()))?;
    if user.uid.is_root() {
        return Err(PrivilegeError::Root);
    }
    Ok(user)
}

/// Becomes the account, for good.
pub fn drop_all(name: &str) -> Result<(), PrivilegeError> {
    let user = account(name)?;
    if !geteuid().is_root() {
        return Err(PrivilegeError::NotRoot);
    }
    limits()?;
    for capability in CapabilitySet::all().iter() {
        // EINVAL: this kernel does not know it.
        match remove_capability_from_bounding_set(capability) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(errno) => {
                return Err(PrivilegeError::Call(
                    "emptying the bounding set",
                    errno.into(),
                ));
            }
        }
    }
    setgroups(&[]).map_err(called("setgroups"))?;
    setresgid(user.gid, user.gid, user.gid).map_err(called("setresgid"))?;
    setresuid(user.uid, user.uid, user.uid).map_err(called("setresuid"))?;
    clear_ambient_capability_set()
        .map_err(|e| PrivilegeError::Call("clearing ambient capabilities", e.into()))?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).map_err(|e| PrivilegeError::Call("capset", e.into()))?;
    prctl::set_no_new_privs().map_err(called("no_new_privs"))?;
    // Nobody of the same account attaches to us or reads our memory, and no core holds it.
    prctl::set_dumpable(false).map_err(called("PR_SET_DUMPABLE"))?;
    std::env::set_current_dir("/").map_err(|e| PrivilegeError::Call("chdir", e))?;
    seccomp::install()?;
    nothing_is_left(user.uid)
}

fn limits() -> Result<(), PrivilegeError> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(called("RLIMIT_CORE"))?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(called("RLIMIT_NOFILE"))?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(called("RLIMIT_NOFILE"))
}

/// Believes the kernel rather than the calls' return values.
fn nothing_is_left(uid: Uid) -> Result<(), PrivilegeError> {
    let status = std::fs::read_to_string("/proc/thread-self/status")
        .map_err(|e| PrivilegeError::Call("reading /proc/thread-self/status", e))?;
    let uids = format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}");
    let zero = |key| format!("{key}:\t0000000000000000");
    let wanted = [
        uids,
        zero("CapInh"),
        zero("CapPrm"),
        zero("CapEff"),
        zero("CapBnd"),
        zero("CapAmb"),
        "NoNewPrivs:\t1".into(),
        "Seccomp:\t2".into(),
    ];
    let missing: Vec<_> = wanted
        .iter()
        .filter(|line| !status.lines().any(|l| l == line.as_str()))
        .cloned()
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(PrivilegeError::Left(missing.join(", ")))
    }
}

fn called(what: &'static str) -> impl Fn(nix::errno::Errno) -> PrivilegeError {
    move |errno| PrivilegeError::Call(what, errno.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_account_is_named_with_what_to_do() {
        let error = account("nobody-of-this-name").unwrap_err().to_string();
        assert!(
            error.contains("useradd --system nobody-of-this-name"),
            "{error}"
        );
        assert!(matches!(account("root"), Err(PrivilegeError::Root)));
    }
}
