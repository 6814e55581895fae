//! A file in somebody's home, touched with the owner's rights and through no symbolic link.

use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, geteuid, setgid, setgroups, setuid, unlinkat};

/// A larger one is not what it should be.
const MAX_FILE: u64 = 4 << 20;

/// Which file, below the home.
#[derive(Clone, Copy, Debug)]
pub struct HomeFile {
    pub folder: &'static str,
    pub name: &'static str,
    /// What it is made under before it takes its place.
    pub new_name: &'static str,
}

impl HomeFile {
    pub fn shown(&self, home: &Path) -> PathBuf {
        home.join(self.folder).join(self.name)
    }

    /// Opens the folder; `None` if it does not exist and is not to be made.
    pub fn open_folder(&self, home: &Path, make: bool) -> Result<Option<OwnedFd>> {
        let folder = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let home_fd = open(home, folder, Mode::empty())
            .with_context(|| format!("cannot open {}", home.display()))?;
        if make {
            match mkdirat(&home_fd, self.folder, Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("cannot make {} in the home", self.folder));
                }
            }
        }
        let flags = folder | OFlag::O_NOFOLLOW;
        match openat(&home_fd, self.folder, flags, Mode::empty()) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::ENOENT) => Ok(None),
            Err(Errno::ELOOP | Errno::ENOTDIR) => {
                bail!(
                    "{} in {} is a link or no folder; hoop follows none",
                    self.folder,
                    home.display()
                )
            }
            Err(error) => {
                Err(error).with_context(|| format!("cannot open {} in the home", self.folder))
            }
        }
    }

    /// The file's text, empty if there is none, and the mode to keep.
    pub fn read(&self, folder: &OwnedFd) -> Result<(String, Mode)> {
        // Non-blocking: a pipe that lies there in its place must not hold us.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file = match openat(folder, self.name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT) => return Ok((String::new(), Mode::from_bits_truncate(0o644))),
            Err(Errno::ELOOP) => bail!("it is a link; hoop follows none"),
            Err(error) => return Err(error.into()),
        };
        let facts = file.metadata()?;
        if !facts.is_file() || facts.len() > MAX_FILE {
            bail!("it is no file of the kind that belongs there");
        }
        let mut text = String::new();
        file.take(MAX_FILE).read_to_string(&mut text)?;
        Ok((text, Mode::from_bits_truncate(facts.mode() & 0o777)))
    }

    /// Replaces the file whole, or removes it where nothing is left: libpq fails on an empty one.
    pub fn write(&self, folder: &OwnedFd, text: &str, mode: Mode) -> Result<()> {
        if text.trim().is_empty() {
            return match unlinkat(folder, self.name, UnlinkatFlags::NoRemoveDir) {
                Err(error) if error != Errno::ENOENT => Err(error.into()),
                _ => Ok(()),
            };
        }
        let _ = unlinkat(folder, self.new_name, UnlinkatFlags::NoRemoveDir);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        let made = openat(folder, self.new_name, flags | OFlag::O_CLOEXEC, mode)?;
        let mut file = File::from(made);
        file.write_all(text.as_bytes())?;
        // Not left to the umask: the mode that the owner chose stays.
        file.set_permissions(Permissions::from_mode(mode.bits()))?;
        file.sync_all()?;
        renameat(folder.as_fd(), self.new_name, folder.as_fd(), self.name)?;
        Ok(())
    }
}

/// For the rest of this process: whatever links and mounts an account put into its home, they lead
/// nowhere that the account itself could not write.
pub fn become_owner(home: &Path) -> Result<()> {
    let facts =
        std::fs::metadata(home).with_context(|| format!("cannot open {}", home.display()))?;
    let owner = Uid::from_raw(facts.uid());
    if owner == geteuid() {
        return Ok(());
    }
    if !geteuid().is_root() {
        bail!(
            "{} belongs to another account (uid {owner}): run this as it or as root",
            home.display()
        );
    }
    setgroups(&[]).context("cannot leave root's groups")?;
    setgid(Gid::from_raw(facts.gid())).context("cannot take the owner's group")?;
    setuid(owner).context("cannot become the owner")
}
