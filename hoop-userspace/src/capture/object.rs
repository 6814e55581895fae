//! The kernel object: embedded when it was built, and loaded with its maps reopened from pins.

use std::path::{Path, PathBuf};

use aya::programs::Program;
use aya::{Ebpf, EbpfError, EbpfLoader};

use super::CaptureError;

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
    "EVENTS",
    "NAMES",
];

/// Whether this build holds the kernel object.
pub fn embedded() -> bool {
    !OBJECT.is_empty()
}

/// Whether all maps are pinned there.
pub fn are_pinned(maps: &Path) -> bool {
    MAPS.iter().all(|name| maps.join(name).exists())
}

/// Loads every program; maps that are pinned in `maps` are reopened, others made and pinned. Without
/// a folder all are made, and gone with what is returned.
pub fn load(maps: Option<&PathBuf>) -> Result<Ebpf, CaptureError> {
    if !embedded() {
        return Err(CaptureError::NoObject);
    }
    let mut loader = EbpfLoader::new();
    if let Some(maps) = maps {
        for name in MAPS {
            loader.map_pin_path(name, maps.join(name));
        }
    }
    let mut object = loader.load(OBJECT).map_err(|source| match source {
        EbpfError::MapError(source) => CaptureError::Maps {
            source,
            folder: maps.cloned().unwrap_or_default(),
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
