//! Where things are: the repository, what cargo built, and small writes with a good error.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::unistd::{Gid, Uid, User};

/// The repository's top level.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default()
}

/// The folder that cargo built the running program into: `target/debug` or `target/release`.
pub fn built() -> Result<PathBuf> {
    let running = std::env::current_exe().context("cannot tell which program this is")?;
    let folder = running.parent().context("this program lies in no folder")?;
    let folder = if folder.ends_with("deps") {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    };
    Ok(folder.to_path_buf())
}

/// Cargo's target folder.
pub fn target() -> Result<PathBuf> {
    let built = built()?;
    Ok(built.parent().unwrap_or(&built).to_path_buf())
}

/// A program that cargo built beside this one.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = built()?.join(name);
    if path.exists() {
        return Ok(path);
    }
    bail!(
        "{} is missing: `cargo xtask test` and `cargo xtask demo` build it",
        path.display()
    )
}

pub fn write(path: &Path, text: impl AsRef<[u8]>) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes what nobody else may read: hoop takes no secret from a file that everybody can.
pub fn write_secret(path: &Path, text: impl AsRef<[u8]>) -> Result<()> {
    write(path, "")?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot protect {}", path.display()))?;
    write(path, text)
}

pub fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Gives a file or folder to an account.
pub fn give(path: &Path, user: &User) -> Result<()> {
    nix::unistd::chown(path, Some(user.uid), Some(user.gid))
        .with_context(|| format!("cannot give {} to {}", path.display(), user.name))
}

/// The first of these accounts that exists.
pub fn account(names: &[&str]) -> Result<User> {
    for name in names {
        if let Some(user) = User::from_name(name).context("cannot read the account database")? {
            return Ok(user);
        }
    }
    bail!("none of the accounts {names:?} exists")
}

/// Becomes the account for good: groups first, since they need the privilege that goes last.
pub fn become_user(name: &str) -> Result<()> {
    let user = account(&[name])?;
    let c_name = std::ffi::CString::new(name)?;
    let (uid, gid): (Uid, Gid) = (user.uid, user.gid);
    nix::unistd::initgroups(&c_name, gid).context("cannot set the supplementary groups")?;
    nix::unistd::setgid(gid).context("cannot set the group")?;
    nix::unistd::setuid(uid).context("cannot set the user")
}
