//! The LSM tier: programs that the kernel runs only where BPF is one of its security modules.
//!
//! All of them, or none: a tier that is partly there would be reported as neither. What keeps it off is
//! said, and everything else works without it.

use aya::Ebpf;
use aya::programs::{Program, ProgramError};
use hoop_common::Fields;

use crate::config::LsmWish;

mod btf;
mod fields;
pub(super) mod names;

/// Security modules that run, in their order; in securityfs (Documentation/admin-guide/LSM).
const LIST: &str = "/sys/kernel/security/lsm";
const TYPES: &str = "/sys/kernel/btf/vmlinux";

/// Programs, and the hooks that they are for.
const PROGRAMS: &[(&str, &str)] = &[
    ("hoop_lsm_create", "socket_create"),
    ("hoop_lsm_receive", "file_receive"),
    ("hoop_lsm_unix", "unix_stream_connect"),
    ("hoop_lsm_unix_send", "unix_may_send"),
];

/// Whether the tier is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lsm {
    /// With so many hooks attached.
    On(usize),
    Off(LsmOff),
}

impl Lsm {
    /// The tier with so many of its hooks attached: all of them, or it is off.
    pub fn of_hooks(hooks: usize) -> Self {
        match hooks {
            0 => Self::Off(LsmOff::NotAttached),
            some if some < PROGRAMS.len() => Self::Off(LsmOff::Partly(some)),
            all => Self::On(all),
        }
    }

    /// One line for people.
    pub fn text(&self) -> String {
        match self {
            Self::On(hooks) => format!("on ({hooks} of {} hooks)", PROGRAMS.len()),
            Self::Off(why) => format!("off: {why}"),
        }
    }
}

/// What keeps the tier off.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LsmOff {
    #[error("`lsm = \"off\"` under [capture]")]
    NotWanted,
    #[error("BPF is not among this kernel's security modules ({0})")]
    NotListed(String),
    #[error("securityfs is not mounted, so whether BPF is a security module here is not known")]
    NoList,
    #[error("this kernel does not describe its types: {0}")]
    NoTypes(String),
    #[error("this kernel's types have no field {0} of the kind that is expected")]
    NoField(&'static str),
    #[error("the kernel refuses {program}: {why}")]
    Refused { program: &'static str, why: String },
    #[error("its list of sockets cannot be set: {0}")]
    NoNames(String),
    #[error("its programs are not attached")]
    NotAttached,
    #[error("only {0} of {all} hooks are attached", all = PROGRAMS.len())]
    Partly(usize),
}

impl LsmOff {
    /// What an operator can do about it.
    pub fn mend(&self) -> String {
        match self {
            Self::NotWanted => "lsm = \"auto\" under [capture], and restart hoop".into(),
            Self::NotListed(list) => format!(
                "add lsm={list},bpf to the kernel's command line (its `capability` may stand there or not), and reboot"
            ),
            Self::NoList => {
                "mount -t securityfs securityfs /sys/kernel/security, and restart hoop".into()
            }
            Self::NoTypes(_) | Self::NoField(_) => {
                "start a kernel with CONFIG_DEBUG_INFO_BTF, as distributions build it".into()
            }
            Self::Refused { .. } => {
                "a kernel with CONFIG_BPF_LSM, on a machine that does not forbid it; until then the unit's settings must close these ways (agent.service.d-hoop.conf)".into()
            }
            Self::NoNames(_) => {
                "fewer refused_sockets under [capture], or more memory, and restart hoop".into()
            }
            Self::NotAttached | Self::Partly(_) => "systemctl restart hoop.service".into(),
        }
    }
}

/// Whether the kernel would run such programs, and where they would find what they look at.
pub fn ready(wish: LsmWish) -> Result<Fields, LsmOff> {
    if wish == LsmWish::Off {
        return Err(LsmOff::NotWanted);
    }
    listed(std::fs::read_to_string(LIST).ok().as_deref())?;
    let types = std::fs::read(TYPES).map_err(|error| LsmOff::NoTypes(error.to_string()))?;
    fields::find(&types)
}

fn listed(list: Option<&str>) -> Result<(), LsmOff> {
    let list = list.ok_or(LsmOff::NoList)?.trim();
    match list.split(',').any(|name| name == "bpf") {
        true => Ok(()),
        false => Err(LsmOff::NotListed(list.to_owned())),
    }
}

/// Has the kernel verify each program.
pub fn load(object: &mut Ebpf) -> Result<(), LsmOff> {
    let types = aya::Btf::from_sys_fs().map_err(|error| LsmOff::NoTypes(error.to_string()))?;
    for &(name, hook) in PROGRAMS {
        let refused = |why: String| LsmOff::Refused { program: name, why };
        match object.program_mut(name) {
            Some(Program::LsmCgroup(program)) => program
                .load(hook, &types)
                .map_err(|error| refused(brief(&error)))?,
            _ => return Err(refused("the object does not hold it".into())),
        }
    }
    Ok(())
}

pub fn program_count() -> usize {
    PROGRAMS.len()
}

/// The verifier's last word instead of all of them, which go to the log.
fn brief(error: &ProgramError) -> String {
    let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    else {
        return error.to_string();
    };
    let log = verifier_log.to_string();
    tracing::debug!(%log, "what the verifier says of an LSM program");
    // Its last lines count instructions.
    let word = |line: &&str| !line.trim().is_empty() && !line.starts_with("processed ");
    match log.lines().rfind(word) {
        Some(last) => format!("{io_error} ({})", last.trim()),
        None => io_error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_bpf_is_a_module_is_read_and_not_guessed() {
        assert_eq!(listed(Some("lockdown,capability,bpf\n")), Ok(()));
        assert_eq!(
            listed(Some("lockdown,capability,bpfx\n")),
            Err(LsmOff::NotListed("lockdown,capability,bpfx".into()))
        );
        assert_eq!(listed(None), Err(LsmOff::NoList));
        assert_eq!(ready(LsmWish::Off), Err(LsmOff::NotWanted));
    }

    #[test]
    fn what_keeps_it_off_is_said_with_what_to_do() {
        let off = LsmOff::NotListed("capability,yama".into());
        insta::assert_snapshot!(Lsm::Off(off.clone()).text(), @"off: BPF is not among this kernel's security modules (capability,yama)");
        assert!(off.mend().contains("lsm=capability,yama,bpf"));
        insta::assert_snapshot!(Lsm::of_hooks(4).text(), @"on (4 of 4 hooks)");
        insta::assert_snapshot!(Lsm::of_hooks(3).text(), @"off: only 3 of 4 hooks are attached");
        assert_eq!(Lsm::of_hooks(0), Lsm::Off(LsmOff::NotAttached));
    }
}
