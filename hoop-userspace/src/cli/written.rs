//! Where the configuration says that hoop's things lie, read without judging the rest of it: what ends
//! hoop on a host must not need a configuration that hoop would start with.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The places that a file names, or those of the documentation.
#[derive(Debug, PartialEq, Eq)]
pub struct Written {
    /// `[worker] state`
    pub state: PathBuf,
    /// `[capture] pins`
    pub pins: PathBuf,
    /// `[capture] attach`
    pub attach: String,
}

impl Written {
    /// Fails where there is a file that cannot be read: the places may be others than the usual ones.
    pub fn read(path: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            text => text.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let table: toml::Table =
            toml::from_str(&text).with_context(|| format!("{} is no TOML", path.display()))?;
        let text = |section: &str, key: &str, default: &str| {
            let found = table.get(section).and_then(|s| s.get(key)?.as_str());
            found.unwrap_or(default).to_owned()
        };
        Ok(Self {
            state: text("worker", "state", "/var/lib/hoop").into(),
            pins: text("capture", "pins", "/sys/fs/bpf/hoop").into(),
            attach: text("capture", "attach", "agents.slice"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_in_a_file_that_hoop_would_not_take() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hoop.toml");
        let usual = Written::read(&path).unwrap();
        assert_eq!(usual.pins, Path::new("/sys/fs/bpf/hoop"));
        assert_eq!(usual.state, Path::new("/var/lib/hoop"));
        let text =
            "odd = 1\n[worker]\nstate = \"/srv/hoop\"\n[capture]\npins = \"/sys/fs/bpf/x\"\n";
        std::fs::write(&path, text).unwrap();
        let written = Written::read(&path).unwrap();
        assert_eq!(written.state, Path::new("/srv/hoop"));
        assert_eq!(written.pins, Path::new("/sys/fs/bpf/x"));
        assert_eq!(written.attach, "agents.slice");
        std::fs::write(&path, "[worker\n").unwrap();
        assert!(Written::read(&path).is_err());
    }
}
