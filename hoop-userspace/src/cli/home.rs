//! A file that belongs to an account, touched with that account's rights and through no symbolic link.
//!
//! Whoever owns a folder decides what lies in it: root that follows a link there, or looks before it
//! opens, does what the owner wants. So the folder's owner does it, by one open descriptor.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{
    Gid, Uid, UnlinkatFlags, User, geteuid, initgroups, setgid, setgroups, setuid, unlinkat,
};

/// A larger one is not what it should be.
const MAX_FILE: u64 = 4 << 20;
/// Links on the way to a file, as the kernel has it (path_resolution(7)).
pub(super) const MAX_LINKS: usize = 40;
/// Behind the whole name: what a file is made under before it takes its place.
const FRESH: &str = ".hoop-new";

/// Which file, below the home.
#[derive(Clone, Copy, Debug)]
pub struct HomeFile {
    pub folder: &'static str,
    pub name: &'static str,
}

/// A file by its name in a folder that is held open.
pub struct Place {
    folder: OwnedFd,
    name: OsString,
}

/// What a file keeps when it is replaced.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    mode: u32,
    /// Of a file that was there.
    owner: Option<(u32, u32)>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            mode: 0o644,
            owner: None,
        }
    }
}

impl HomeFile {
    pub fn shown(&self, home: &Path) -> PathBuf {
        home.join(self.folder).join(self.name)
    }

    /// Opens the folder; `None` if it does not exist and is not to be made.
    pub fn open(&self, home: &Path, make: bool) -> Result<Option<Place>> {
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
            Ok(folder) => Ok(Some(Place {
                folder,
                name: self.name.into(),
            })),
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
}

impl Place {
    /// The file at a path; `None` if its folder does not exist. Root becomes, for the rest of this
    /// process, whoever may change what the path leads to.
    pub fn at(path: &Path) -> Result<Option<Self>> {
        let path = std::path::absolute(path)?;
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            bail!("{} is no file's path", path.display());
        };
        if let (true, Some((uid, gid))) = (geteuid().is_root(), owner_above(folder)) {
            become_account(uid, gid)?;
        }
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match open(folder, flags, Mode::empty()) {
            Ok(folder) => Ok(Some(Self {
                folder,
                name: name.to_owned(),
            })),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot open {}", folder.display())),
        }
    }

    /// The file's text, and what of it is to be kept; `None` if there is no file.
    pub fn read(&self) -> Result<Option<(String, Kept)>> {
        // Non-blocking: a pipe that lies there in its place must not hold us.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file = match openat(&self.folder, self.name.as_os_str(), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::ELOOP) => bail!("it is a link; hoop follows none"),
            Err(error) => return Err(error.into()),
        };
        let facts = file.metadata()?;
        if !facts.is_file() || facts.len() > MAX_FILE {
            bail!("it is no file of the kind that belongs there");
        }
        let mut text = String::new();
        file.take(MAX_FILE + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_FILE {
            bail!("it is larger than a file of its kind");
        }
        let kept = Kept {
            mode: facts.mode() & 0o777,
            owner: Some((facts.uid(), facts.gid())),
        };
        Ok(Some((text, kept)))
    }

    /// Replaces the file whole, or removes it where nothing is left: libpq fails on an empty one.
    pub fn write(&self, text: &str, kept: Kept) -> Result<()> {
        if text.trim().is_empty() {
            return self.unlink(&self.name);
        }
        let mut fresh = self.name.clone();
        fresh.push(FRESH);
        // One that a crash left behind.
        self.unlink(&fresh)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        let flags = flags | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let made = openat(&self.folder, fresh.as_os_str(), flags, mode)?;
        let mut file = File::from(made);
        file.write_all(text.as_bytes())?;
        if let Some((uid, gid)) = kept.owner {
            match fchown(&file, Some(uid), Some(gid)) {
                // The folder's owner may not give it away. It could have put its own there before.
                Err(error)
                    if error.kind() == io::ErrorKind::PermissionDenied && !geteuid().is_root() =>
                {
                    let group = fchown(&file, None, Some(gid));
                    if group.is_err() && kept.mode & 0o070 != 0 {
                        bail!(
                            "its group ({gid}) reads it, and its folder's owner is not in that group: run this as its owner"
                        );
                    }
                }
                given => given?,
            }
        }
        // Not left to the umask: the mode that the owner chose stays.
        file.set_permissions(Permissions::from_mode(kept.mode))?;
        file.sync_all()?;
        let (folder, name) = (self.folder.as_fd(), self.name.as_os_str());
        renameat(folder, fresh.as_os_str(), folder, name)?;
        Ok(())
    }

    fn unlink(&self, name: &OsStr) -> Result<()> {
        match unlinkat(&self.folder, name, UnlinkatFlags::NoRemoveDir) {
            Err(error) if error != Errno::ENOENT => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// At most so much of a regular file's text, wherever a link leads.
pub fn read_regular(path: &Path) -> Option<String> {
    // Looked at before it is opened: a pipe would have to be waited for, and to open a device does something.
    let mut seen = OpenOptions::new();
    let seen = seen
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_CLOEXEC)
        .open(path)
        .ok()?;
    seen.metadata().ok().filter(Metadata::is_file)?;
    let file = File::open(format!("/proc/self/fd/{}", seen.as_raw_fd())).ok()?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
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
    become_account(facts.uid(), facts.gid())
}

fn become_account(uid: u32, gid: u32) -> Result<()> {
    // With the groups that the account has: what it may give a file to is what it may do.
    let account = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let name = account.and_then(|account| CString::new(account.name).ok());
    match name {
        Some(name) => initgroups(&name, Gid::from_raw(gid)),
        None => setgroups(&[]),
    }
    .context("cannot leave root's groups")?;
    setgid(Gid::from_raw(gid)).context("cannot take the owner's group")?;
    setuid(Uid::from_raw(uid)).context("cannot become the owner")
}

/// The first account but root that a folder on the way belongs to, or a link: it decides where the path
/// leads. `None` if all of it is root's.
fn owner_above(folder: &Path) -> Option<(u32, u32)> {
    let mut ahead: Vec<OsString> = names(folder);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = ahead.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        let step = at.join(&name);
        // What is not there yet nobody has.
        let facts = std::fs::symlink_metadata(&step).ok()?;
        if facts.uid() != 0 {
            return Some((facts.uid(), facts.gid()));
        }
        if !facts.is_symlink() {
            at = step;
            continue;
        }
        links += 1;
        let to = std::fs::read_link(&step)
            .ok()
            .filter(|_| links <= MAX_LINKS)?;
        if to.is_absolute() {
            at = PathBuf::from("/");
        }
        ahead.extend(names(&to));
    }
    None
}

/// The names of a path, the first one at the end.
pub(super) fn names(path: &Path) -> Vec<OsString> {
    let named = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    let mut names: Vec<_> = named.collect();
    names.reverse();
    names
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[test]
    fn whoever_decides_where_a_path_leads_is_the_one_to_go_there() {
        let root = tempfile::tempdir().unwrap();
        // Where tests run in somebody's folder, all of it is that account's already.
        if owner_above(root.path()).is_some() {
            return;
        }
        let (home, below) = (root.path().join("home"), root.path().join("home/roots"));
        std::fs::create_dir_all(&below).unwrap();
        assert_eq!(owner_above(&below), None);
        chown(&home, Some(65534), Some(65533)).unwrap();
        assert_eq!(owner_above(&home), Some((65534, 65533)));
        assert_eq!(owner_above(&below), Some((65534, 65533)));
        let link = root.path().join("link");
        symlink(&below, &link).unwrap();
        assert_eq!(owner_above(&link), Some((65534, 65533)));
        let theirs = home.join("theirs");
        symlink("/etc", &theirs).unwrap();
        assert_eq!(owner_above(&theirs), Some((65534, 65533)));
        // Both ends are root's, and what is between them is not.
        let by_theirs = root.path().join("by-theirs");
        symlink(&theirs, &by_theirs).unwrap();
        assert_eq!(owner_above(&by_theirs), Some((65534, 65533)));
    }

    #[test]
    fn a_file_keeps_mode_and_owner_and_what_a_crash_left_is_no_hindrance() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.crt");
        std::fs::write(&path, "one\n").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let owner = match geteuid().is_root() {
            true => (65534, 65533),
            false => (geteuid().as_raw(), nix::unistd::getegid().as_raw()),
        };
        chown(&path, Some(owner.0), Some(owner.1)).unwrap();
        std::fs::write(folder.path().join("ca.crt.hoop-new"), "left").unwrap();
        std::fs::write(folder.path().join("ca.pem.hoop-new"), "another's").unwrap();
        let place = Place {
            folder: OwnedFd::from(File::open(folder.path()).unwrap()),
            name: "ca.crt".into(),
        };
        let (text, kept) = place.read().unwrap().unwrap();
        place.write(&format!("{text}two\n"), kept).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        let facts = std::fs::metadata(&path).unwrap();
        assert_eq!(facts.mode() & 0o777, 0o640);
        assert_eq!((facts.uid(), facts.gid()), owner);
        assert!(!folder.path().join("ca.crt.hoop-new").exists());
        assert!(folder.path().join("ca.pem.hoop-new").exists());
        std::fs::remove_file(&path).unwrap();
        symlink("/etc/passwd", &path).unwrap();
        let error = place.read().unwrap_err();
        assert!(error.to_string().contains("is a link"), "{error}");
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        assert_eq!(read_regular(&pipe), None);
        assert_eq!(read_regular(Path::new("/dev/zero")), None);
        let place = Place {
            folder: OwnedFd::from(File::open(folder.path()).unwrap()),
            name: "pipe".into(),
        };
        assert!(place.read().is_err());
    }
}
