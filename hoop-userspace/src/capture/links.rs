//! The links between programs and the cgroup: made or taken over, pinned, and watched.
//!
//! Removing a cgroup leaves its links defunct, and a new one of the same path ungoverned; services
//! that restart do that to their own cgroup. That is why the programs are attached to a slice that
//! stays, and why each link is compared with the folder's present id.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::Ebpf;

use super::{CaptureError, sys};

/// A program, and where it attaches (`enum bpf_attach_type`).
pub struct Hook {
    pub program: &'static str,
    attach_type: u32,
}

const fn hook(program: &'static str, attach_type: u32) -> Hook {
    Hook {
        program,
        attach_type,
    }
}

/// In the order of attaching: what refuses or publishes comes before what redirects.
pub const HOOKS: &[Hook] = &[
    hook("hoop_create", 2),
    hook("hoop_flows", 3),
    hook("hoop_getpeername4", 29),
    hook("hoop_getpeername6", 30),
    hook("hoop_ingress", 0),
    hook("hoop_connect4", 10),
    hook("hoop_connect6", 11),
    hook("hoop_sendmsg4", 14),
    hook("hoop_sendmsg6", 15),
    hook("hoop_egress", 1),
];

/// The LSM tier's, which are programs of a cgroup as well.
pub const LSM_HOOKS: &[Hook] = &[
    hook("hoop_lsm_create", LSM_CGROUP),
    hook("hoop_lsm_receive", LSM_CGROUP),
    hook("hoop_lsm_unix", LSM_CGROUP),
    hook("hoop_lsm_unix_send", LSM_CGROUP),
];
const LSM_CGROUP: u32 = 43;

/// Whether one hook is where it should be.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct HookHealth {
    pub hook: &'static str,
    /// Attached to the slice as it is now, and pinned.
    pub healthy: bool,
    /// The cgroup that the link is attached to; 0 if that was removed, or there is no link.
    pub attached_to: u64,
    /// The slice's present id; 0 if it does not exist.
    pub expected: u64,
    pub pinned: bool,
    /// The kernel's id of the program; 0 if there is no link.
    pub program_id: u32,
}

/// The slice's folder, opened, and its id.
pub struct Slice {
    folder: File,
    id: u64,
}

impl Slice {
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let missing = |source| CaptureError::Slice {
            path: path.to_owned(),
            source,
        };
        let folder = File::open(path).map_err(missing)?;
        let id = sys::cgroup_id(&folder).map_err(missing)?;
        Ok(Self { folder, id })
    }
}

/// All links, in the order of [`HOOKS`] and [`LSM_HOOKS`].
pub struct Links {
    folder: PathBuf,
    links: Vec<(&'static Hook, OwnedFd)>,
}

impl Links {
    /// Takes over pinned links that are attached to this slice, and makes the others.
    pub fn establish(object: &Ebpf, slice: &Slice, folder: PathBuf) -> Result<Self, CaptureError> {
        let mut links = Vec::with_capacity(HOOKS.len());
        for hook in HOOKS {
            let link = establish(object, hook, slice, &folder)?;
            links.push((hook, link));
        }
        Ok(Self { folder, links })
    }

    /// The same for the LSM tier: all of it, or none.
    pub fn establish_lsm(&mut self, object: &Ebpf, slice: &Slice) -> Result<usize, CaptureError> {
        let mut made = Vec::with_capacity(LSM_HOOKS.len());
        for hook in LSM_HOOKS {
            made.push((hook, establish(object, hook, slice, &self.folder)?));
        }
        self.links.extend(made);
        Ok(LSM_HOOKS.len())
    }

    /// Whether an earlier daemon left something of the LSM tier.
    pub fn any_lsm(&self) -> bool {
        let there = |hook: &Hook| self.folder.join(hook.program).exists();
        LSM_HOOKS.iter().any(there)
    }

    /// Ends what an earlier daemon, or a failed attempt, left of the LSM tier.
    pub fn without_lsm(&mut self) -> Result<(), CaptureError> {
        for hook in LSM_HOOKS {
            let path = self.folder.join(hook.program);
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(CaptureError::Pins { path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub fn health(&self, slice: Option<&Slice>) -> Vec<HookHealth> {
        let expected = slice.map_or(0, |slice| slice.id);
        let one = |(hook, link): &(&'static Hook, OwnedFd)| {
            let pinned = open(&self.folder, hook).and_then(|pinned| sys::link_info(pinned.as_fd()));
            health(
                hook,
                sys::link_info(link.as_fd()).ok(),
                pinned.ok(),
                expected,
            )
        };
        self.links.iter().map(one).collect()
    }

    /// Attaches anew what is not attached to the slice as it is now. Returns how many.
    pub fn repair(&mut self, object: &Ebpf, slice: &Slice) -> Result<usize, CaptureError> {
        let mut repaired = 0;
        let health = self.health(Some(slice));
        for ((hook, link), health) in self.links.iter_mut().zip(health) {
            if !health.healthy {
                *link = establish(object, hook, slice, &self.folder)?;
                repaired += 1;
            }
        }
        Ok(repaired)
    }
}

fn open(folder: &Path, hook: &Hook) -> std::io::Result<OwnedFd> {
    sys::open_pinned(&folder.join(hook.program))
}

/// What pinned links say, for the command line when no daemon runs.
pub fn pinned_health(folder: &Path, slice: Option<&Slice>) -> Vec<HookHealth> {
    let expected = slice.map_or(0, |slice| slice.id);
    let one = |hook: &'static Hook| {
        let info = open(folder, hook)
            .and_then(|link| sys::link_info(link.as_fd()))
            .ok();
        health(hook, info, info, expected)
    };
    // Of the tier that may be off, what is there.
    let lsm = LSM_HOOKS
        .iter()
        .filter(|hook| folder.join(hook.program).exists());
    HOOKS.iter().chain(lsm).map(one).collect()
}

/// Hooks of the LSM tier that are attached to the slice, as their pins say.
pub fn pinned_lsm(folder: &Path, slice: Option<&Slice>) -> usize {
    healthy_lsm(&pinned_health(folder, slice))
}

/// Those of the LSM tier that are where they should be.
pub fn healthy_lsm(health: &[HookHealth]) -> usize {
    let of_tier = |hook: &&HookHealth| LSM_HOOKS.iter().any(|known| known.program == hook.hook);
    let of_tier = health.iter().filter(of_tier);
    of_tier.filter(|hook| hook.healthy).count()
}

fn health(
    hook: &'static Hook,
    link: Option<sys::LinkInfo>,
    pinned: Option<sys::LinkInfo>,
    expected: u64,
) -> HookHealth {
    let info = link.unwrap_or_default();
    let pinned = link.is_some() && pinned.is_some_and(|pinned| pinned.id == info.id);
    HookHealth {
        hook: hook.program,
        healthy: pinned && expected != 0 && info.cgroup_id == expected,
        attached_to: info.cgroup_id,
        expected,
        pinned,
        program_id: info.program,
    }
}

fn establish(
    object: &Ebpf,
    hook: &Hook,
    slice: &Slice,
    folder: &Path,
) -> Result<OwnedFd, CaptureError> {
    let name = hook.program;
    let failed = |source| CaptureError::Attach { hook: name, source };
    let program = object.program(name).ok_or(CaptureError::NoProgram(name))?;
    let program = program.fd().map_err(|source| CaptureError::Program {
        name: name.to_owned(),
        source,
    })?;
    if let Ok(link) = open(folder, hook)
        && sys::link_info(link.as_fd()).is_ok_and(|info| info.cgroup_id == slice.id)
    {
        sys::swap(link.as_fd(), program.as_fd()).map_err(failed)?;
        return Ok(link);
    }
    let link =
        sys::attach(program.as_fd(), slice.folder.as_fd(), hook.attach_type).map_err(failed)?;
    let path = folder.join(name);
    sys::pin(link.as_fd(), &path).map_err(|source| CaptureError::Pins { path, source })?;
    let info = sys::link_info(link.as_fd()).map_err(failed)?;
    if info.cgroup_id != slice.id {
        return Err(CaptureError::NotAttached {
            hook: name,
            to: info.cgroup_id,
            slice: slice.id,
        });
    }
    Ok(link)
}
