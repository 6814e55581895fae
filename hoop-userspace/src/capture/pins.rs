//! Where links and maps are pinned: `<pins>/v<layout>/{links,maps}` in the BPF file system.
//!
//! Pins are what keeps enforcement in place while no daemon runs. The version in the path changes
//! with the layout of the maps, so that an upgrade never reopens maps of another layout.
//!
//! `<pins>/attached` is there from the last link on and as long as all of them are: units of agents
//! ask for it before they start (`AssertPathExists=`), which the folders alone would not answer.

use std::io;
use std::path::{Path, PathBuf};

use super::{CaptureError, sys};

const BPFFS: &str = "/sys/fs/bpf";
const MARK: &str = "attached";

/// The folders of one version.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
    version: PathBuf,
}

impl Pins {
    /// Names the folders, without making them.
    pub fn at(root: &Path) -> Self {
        let version = root.join(format!("v{}", hoop_common::LAYOUT));
        Self {
            root: root.to_owned(),
            version,
        }
    }

    pub fn links(&self) -> PathBuf {
        self.version.join("links")
    }

    pub fn maps(&self) -> PathBuf {
        self.version.join("maps")
    }

    /// Makes the folders; mounts the BPF file system at its usual place if that was left out.
    pub fn make(&self) -> Result<(), CaptureError> {
        if !under_bpffs(&self.root) && self.root.starts_with(BPFFS) {
            mount().map_err(|source| CaptureError::Pins {
                path: BPFFS.into(),
                source,
            })?;
        }
        if !under_bpffs(&self.root) {
            return Err(CaptureError::NoBpffs(self.root.clone()));
        }
        for folder in [self.links(), self.maps()] {
            std::fs::create_dir_all(&folder).map_err(|source| CaptureError::Pins {
                path: folder,
                source,
            })?;
        }
        Ok(())
    }

    /// Says to whoever looks that every hook is attached.
    pub fn mark(&self) -> Result<(), CaptureError> {
        let path = self.root.join(MARK);
        match std::fs::create_dir(&path) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                Err(CaptureError::Pins { path, source })
            }
            _ => Ok(()),
        }
    }

    /// Takes that back.
    pub fn unmark(&self) -> Result<(), CaptureError> {
        let path = self.root.join(MARK);
        removed(&path, std::fs::remove_dir(&path))
    }

    /// Removes what other versions have pinned; to be called once this one is attached.
    pub fn remove_others(&self) -> Result<(), CaptureError> {
        for version in versions(&self.root) {
            if version != self.version {
                remove(&version)?;
            }
        }
        Ok(())
    }

    /// Removes all pins of all versions, and thereby all links: enforcement ends. Says whether there
    /// was anything.
    pub fn remove_all(&self) -> Result<bool, CaptureError> {
        // First of all: nobody may start on the word of a mark whose links are going.
        self.unmark()?;
        let versions = versions(&self.root);
        for version in &versions {
            remove(version)?;
        }
        removed(&self.root, std::fs::remove_dir(&self.root))?;
        Ok(!versions.is_empty())
    }
}

/// Whether the nearest existing ancestor is in a BPF file system.
pub fn under_bpffs(path: &Path) -> bool {
    path.ancestors()
        .find(|p| p.exists())
        .is_some_and(sys::is_bpffs)
}

fn mount() -> io::Result<()> {
    let flags = nix::mount::MsFlags::MS_NOSUID
        | nix::mount::MsFlags::MS_NODEV
        | nix::mount::MsFlags::MS_NOEXEC;
    nix::mount::mount(Some("bpf"), BPFFS, Some("bpf"), flags, Some("mode=700"))?;
    Ok(())
}

fn versions(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let is_version = |path: &PathBuf| {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        name.strip_prefix('v')
            .is_some_and(|n| n.parse::<u32>().is_ok())
    };
    entries
        .map(|entry| entry.path())
        .filter(is_version)
        .collect()
}

fn remove(version: &Path) -> Result<(), CaptureError> {
    // Links first: programs without their maps would still run, maps without links do nothing.
    for folder in ["links", "maps"].map(|name| version.join(name)) {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            removed(&path, std::fs::remove_file(&path))?;
        }
        removed(&folder, std::fs::remove_dir(&folder))?;
    }
    removed(version, std::fs::remove_dir(version))
}

/// What is gone already is as it should be.
fn removed(path: &Path, result: io::Result<()>) -> Result<(), CaptureError> {
    match result {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(CaptureError::Pins {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}
