//! Why capture fails, with the likely cause and the next step.

use std::io;
use std::path::PathBuf;

use aya::maps::MapError;
use aya::programs::ProgramError;

/// Why the kernel programs cannot be put, or kept, in place.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error("this hoop was built without the kernel object; run `cargo xtask build`")]
    NoObject,
    #[error("capture.attach is empty or the root: name a slice for agents, such as agents.slice")]
    RootCgroup,
    #[error(
        "cannot open the cgroup {path}: {source}; does the slice exist (`systemctl start {}`)?",
        path.file_name().unwrap_or_default().to_string_lossy()
    )]
    Slice { path: PathBuf, source: io::Error },
    #[error(
        "{0} is not in a BPF file system; `mount -t bpf bpf /sys/fs/bpf`, or change capture.pins"
    )]
    NoBpffs(PathBuf),
    #[error("cannot use the pins at {path}: {source}; is hoop running as root?")]
    Pins { path: PathBuf, source: io::Error },
    #[error("this kernel lacks: {missing}; hoop needs Linux 6.1 or later")]
    Kernel { missing: String },
    #[error(
        "cannot ask the kernel for {what}: {source}; does hoop have CAP_BPF and CAP_NET_ADMIN?"
    )]
    Probe {
        what: &'static str,
        source: ProgramError,
    },
    #[error("cannot load the kernel object: {0}")]
    Object(#[source] aya::EbpfError),
    #[error("cannot make or reopen the maps in {folder}: {source}")]
    Maps { source: MapError, folder: PathBuf },
    #[error("the kernel refuses the program {name}: {source}")]
    Program { name: String, source: ProgramError },
    #[error("the kernel object has no program {0}; run `cargo xtask build` again")]
    NoProgram(&'static str),
    #[error("the kernel object has no map {0}; run `cargo xtask build` again")]
    NoMap(&'static str),
    #[error("cannot attach {hook}: {source}")]
    Attach {
        hook: &'static str,
        source: io::Error,
    },
    #[error("{hook} is attached to cgroup {to} instead of {slice}")]
    NotAttached {
        hook: &'static str,
        to: u64,
        slice: u64,
    },
    #[error(
        "nothing of this version of hoop is pinned below {0}: either nothing is governed here, or an older hoop governs; is capture.pins the daemon's, and are you root?"
    )]
    NoBypass(PathBuf),
    #[error("`lsm = \"require\"` under [capture], but the LSM tier is off: {why}; {}", why.mend())]
    NoLsm { why: super::LsmOff },
    #[error("cannot change the map {map}: {source}")]
    Map { map: &'static str, source: MapError },
    #[error("more entries for the map {map} than it holds ({most})")]
    TooMany { map: &'static str, most: usize },
    #[error("cannot read a listener's address: {0}")]
    Listener(#[source] io::Error),
    #[error("cannot get random bytes: {0}")]
    Random(#[source] io::Error),
    #[error("the kernel's reports were taken already")]
    EventsTaken,
    #[error("cannot wait for the kernel's reports: {0}")]
    Events(#[source] io::Error),
}
