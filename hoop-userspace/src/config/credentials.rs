//! Where systemd puts a unit's credentials.

use std::path::{Path, PathBuf};

/// The credentials of the package's unit while it runs (systemd.exec(5), `LoadCredential=`).
const OF_THE_UNIT: &str = "/run/credentials/hoop.service";
/// What [`missing`] begins with.
const MISSING: &str = "no systemd credential can be read";

/// Their folder: as the unit is told, or for a command that is run by hand that of the unit that runs.
pub fn folder() -> Option<PathBuf> {
    if let Some(told) = std::env::var_os("CREDENTIALS_DIRECTORY") {
        return Some(told.into());
    }
    let unit = Path::new(OF_THE_UNIT);
    unit.is_dir().then(|| unit.to_owned())
}

/// Why one cannot be read where there is no folder; `instead` is what to write for it in the file.
pub fn missing(name: &str, instead: &str) -> String {
    format!(
        "{MISSING}, since hoop.service does not run, or was started without any, and $CREDENTIALS_DIRECTORY is not set: \
         add LoadCredential={name}:… to the unit and restart it, or use {instead}"
    )
}

/// Whether a problem is one that goes away when the unit starts.
pub fn is_missing(problem: &str) -> bool {
    problem.contains(MISSING)
}
