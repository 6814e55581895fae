//! The kernel object: embedded when it was built, and loaded with its maps reopened from pins.

use std::path::Path;

use aya::programs::Program;
use aya::{Ebpf, EbpfError, EbpfLoader};
use hoop_common::Fields;

use super::CaptureError;
use super::lsm::names;

#[cfg(hoop_object)]
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("HOOP_EBPF_OBJECT_PATH"));
#[cfg(not(hoop_object))]
static OBJECT: &[u8] = &[];

/// Maps that outlive the daemon, by their names in the object.
pub const MAPS: &[&str] = &[
    "SOCKETS",
    "FLOWS",
    "MODES",
    "PROXIES",
    "RESOLVERS",
    "LISTEN",
    "BYPASS",
    names::MAP,
    "EVENTS",
    "NAMES",
];

/// Whether this build holds the kernel object.
pub fn embedded() -> bool {
    !OBJECT.is_empty()
}

/// Which maps are reopened.
#[derive(Clone, Copy)]
pub enum Maps<'p> {
    /// None: all are made, and gone with what is returned.
    Own,
    /// Those that are pinned there; others are made, and not pinned.
    Pinned(&'p Path),
    /// Those that are pinned there; others are made and pinned.
    Kept(&'p Path),
}

/// Loads every program but those of the LSM tier, which are ready to be where `fields` are given.
pub fn load(maps: Maps<'_>, fields: Option<&Fields>) -> Result<Ebpf, CaptureError> {
    if !embedded() {
        return Err(CaptureError::NoObject);
    }
    let mut loader = EbpfLoader::new();
    let folder = match maps {
        Maps::Own => None,
        Maps::Pinned(folder) | Maps::Kept(folder) => Some(folder),
    };
    for name in MAPS {
        let path = folder.map(|folder| folder.join(name));
        let reopened = |path: &std::path::PathBuf| matches!(maps, Maps::Kept(_)) || path.exists();
        if let Some(path) = path.filter(reopened) {
            loader.map_pin_path(name, path);
        }
    }
    if let Some(fields) = fields {
        loader.override_global("FIELDS", fields, true);
    }
    let mut object = loader.load(OBJECT).map_err(|source| match source {
        EbpfError::MapError(source) => CaptureError::Maps {
            source,
            folder: folder.map(Path::to_owned).unwrap_or_default(),
        },
        source => CaptureError::Object(source),
    })?;
    for (name, program) in object.programs_mut() {
        let name = name.to_owned();
        let loaded = match program {
            Program::CgroupSockAddr(program) => program.load(),
            Program::CgroupSock(program) => program.load(),
            Program::CgroupSkb(program) => program.load(),
            Program::SockOps(program) => program.load(),
            _ => continue,
        };
        loaded.map_err(|source| CaptureError::Program { name, source })?;
    }
    Ok(object)
}

/// Lines that the programs log at debug level, where the object was built with them.
pub fn log_lines(object: &mut Ebpf) {
    match aya_log::EbpfLogger::init(object) {
        Ok(_) => tracing::info!("the kernel programs log at debug level"),
        Err(error) => tracing::trace!(%error, "the kernel programs were built without log lines"),
    }
}
