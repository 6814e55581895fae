//! Kernels of Debian's releases, and a disk for each: the root with the kernel's own modules.
//!
//! They are unpacked and not installed, since a package of another release would want that
//! release's other packages as well.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{cache, mirror, once, root};
use crate::shell;

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kernel {
    /// Too old: the package says so and governs nothing
    #[value(name = "5.10")]
    V5_10,
    /// The oldest that is supported
    #[value(name = "6.1")]
    V6_1,
    #[value(name = "6.12")]
    V6_12,
    /// Whatever Debian's unstable release has today
    #[value(name = "newest")]
    Newest,
}

impl Kernel {
    pub fn name(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::Newest => "newest",
        }
    }

    /// Whether it has what hoop needs.
    pub fn supported(self) -> bool {
        self != Self::V5_10
    }

    /// The release that it is a package of.
    fn release(self) -> &'static str {
        match self {
            Self::V5_10 => "bullseye",
            Self::V6_1 => "bookworm",
            Self::V6_12 => "trixie",
            Self::Newest => "sid",
        }
    }
}

/// The architecture that has a whole host.
const HERE: &str = "amd64";
/// What hoop's program is linked to, and a shell.
const LINKED: [&str; 3] = ["libc6", "libgcc-s1", "busybox-static"];

/// The size of a disk; it is sparse.
const DISK: &str = "6G";

/// The folder with `vmlinuz`, `initrd` and `disk`, made if it is not there.
pub fn ensure(kernel: Kernel, base: &Path) -> Result<PathBuf> {
    let apt = Apt::of(kernel.release(), HERE)?;
    let package = apt.image()?;
    let name = base.file_name().unwrap_or_default().to_string_lossy();
    let folder = cache()?.join(format!("{package}-{name}"));
    once(&folder, |partial| {
        eprintln!("vm: making a disk for {package}");
        let tree = partial.join("unpacked");
        std::fs::create_dir_all(&tree)?;
        for package in apt.parts(&package)? {
            apt.unpack(&package, partial, &tree)?;
        }
        disk(base, &tree, partial)?;
        std::fs::remove_dir_all(&tree).context("cannot remove what was unpacked")
    })?;
    Ok(folder)
}

/// The folder with another architecture's `vmlinuz`, and a `root` with the libraries that hoop's program needs.
pub fn foreign(kernel: Kernel, architecture: &str) -> Result<PathBuf> {
    let apt = Apt::of(kernel.release(), architecture)?;
    let image = apt.image()?;
    let folder = cache()?.join(&image);
    once(&folder, |partial| {
        let tree = partial.join("unpacked");
        std::fs::create_dir_all(&tree)?;
        for package in apt.parts(&image)? {
            apt.unpack(&package, partial, &tree)?;
        }
        let modules = [tree.join("usr/lib/modules"), tree.join("lib/modules")];
        let modules = modules.iter().find(|path| path.is_dir());
        let version = only(modules.context("the kernel's package holds no modules")?)?;
        let places = [
            tree.join(format!("boot/vmlinuz-{version}")),
            tree.join("usr/lib/modules").join(&version).join("vmlinuz"),
        ];
        put(&places, &partial.join("vmlinuz"))?;
        std::fs::remove_dir_all(&tree)?;
        // Of the release that the package is made for.
        let apt = Apt::of(Kernel::V6_1.release(), architecture)?;
        let root = partial.join("root");
        std::fs::create_dir_all(&root)?;
        for package in LINKED {
            apt.unpack(package, partial, &root)?;
        }
        let documents = root.join("usr/share");
        std::fs::remove_dir_all(&documents).context("cannot remove the libraries' documents")
    })?;
    Ok(folder)
}

/// A root of its own for a moment, whose files become the disk's.
fn disk(base: &Path, tree: &Path, folder: &Path) -> Result<()> {
    let root = folder.join("root");
    let mut copy = shell::command("cp");
    shell::quiet(
        copy.args(["-a", "--reflink=auto"])
            .arg(base.join("root"))
            .arg(&root),
    )?;
    // Of kernels from before /lib was a link, and after.
    let modules = [tree.join("usr/lib/modules"), tree.join("lib/modules")];
    let modules = modules.iter().find(|path| path.is_dir());
    let modules = modules.context("the kernel's package holds no modules")?;
    let version = only(modules)?;
    let to = root.join("usr/lib/modules");
    std::fs::create_dir_all(&to)?;
    let mut copy = shell::command("cp");
    shell::quiet(copy.arg("-a").arg(modules.join(&version)).arg(&to))?;
    let beside = modules.join(&version);
    let boot = root.join("boot");
    put(
        &[
            tree.join(format!("boot/vmlinuz-{version}")),
            beside.join("vmlinuz"),
        ],
        &boot.join(format!("vmlinuz-{version}")),
    )?;
    // The newest packages hold no configuration. What makes the initial file system looks there for one thing:
    // which compressions the kernel reads.
    let configuration = boot.join(format!("config-{version}"));
    let kept = [
        tree.join(format!("boot/config-{version}")),
        beside.join("config"),
    ];
    if put(&kept, &configuration).is_err() {
        std::fs::write(&configuration, "CONFIG_RD_GZIP=y\n")?;
    }
    root::inside(
        &root,
        &format!("set -e; depmod {version}; mkinitramfs -o /boot/initrd {version}"),
    )?;
    std::fs::rename(
        boot.join(format!("vmlinuz-{version}")),
        folder.join("vmlinuz"),
    )?;
    std::fs::rename(boot.join("initrd"), folder.join("initrd"))?;
    std::fs::copy(base.join("key"), folder.join("key"))?;
    let disk = folder.join("disk");
    let mut make = shell::command("mke2fs");
    make.args(["-q", "-t", "ext4", "-d"])
        .arg(&root)
        .arg(&disk)
        .arg(DISK);
    shell::quiet(&mut make)?;
    std::fs::remove_dir_all(&root).context("cannot remove the disk's root")
}

/// Copies the first of these that is there.
fn put(places: &[PathBuf], to: &Path) -> Result<()> {
    let place = places.iter().find(|place| place.is_file());
    let place = place
        .with_context(|| format!("the kernel's package holds nothing for {}", to.display()))?;
    std::fs::copy(place, to)?;
    Ok(())
}

/// The one entry of a folder.
fn only(folder: &Path) -> Result<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    ensure!(
        names.len() == 1,
        "{} holds {names:?}, not one",
        folder.display()
    );
    names.pop().context("one was counted")
}

/// apt with lists of its own: this machine's are about this machine's release.
struct Apt {
    options: Vec<String>,
    architecture: String,
}

impl Apt {
    fn of(release: &str, architecture: &str) -> Result<Self> {
        let folder = cache()?
            .join("apt")
            .join(format!("{release}-{architecture}"));
        for part in ["lists/partial", "cache/archives/partial"] {
            std::fs::create_dir_all(folder.join(part))?;
        }
        let sources = folder.join("sources.list");
        let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let line = format!("deb [signed-by={keyring}] {} {release} main\n", mirror()?);
        std::fs::write(&sources, line)?;
        let folder = folder.display();
        let options = vec![
            format!("Dir::State::Lists={folder}/lists"),
            format!("Dir::Cache={folder}/cache"),
            format!("Dir::Etc::SourceList={folder}/sources.list"),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
            format!("APT::Architecture={architecture}"),
            format!("APT::Architectures={architecture}"),
        ];
        let apt = Self {
            options,
            architecture: architecture.to_owned(),
        };
        let mut update = apt.command("apt-get");
        shell::output(update.args(["--quiet", "update"]))
            .with_context(|| format!("no list of the packages of {release}"))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> std::process::Command {
        let mut command = shell::command(program);
        for option in &self.options {
            command.args(["--option", option]);
        }
        command
    }

    /// What the release's own kernel of that kind is called now.
    fn image(&self) -> Result<String> {
        let all = format!("linux-image-cloud-{}", self.architecture);
        let depends = self.depends(&all)?;
        let image = depends
            .into_iter()
            .find(|name| name.starts_with("linux-image-"));
        image.with_context(|| format!("{all} depends on no image"))
    }

    /// The image, and where newer releases keep the kernel and its modules.
    fn parts(&self, image: &str) -> Result<Vec<String>> {
        let mut parts = vec![image.to_owned()];
        let beside = |name: &String| {
            ["linux-binary-", "linux-modules-"]
                .iter()
                .any(|kind| name.starts_with(kind))
        };
        parts.extend(self.depends(image)?.into_iter().filter(beside));
        Ok(parts)
    }

    fn depends(&self, package: &str) -> Result<Vec<String>> {
        let mut show = self.command("apt-cache");
        let shown = shell::output(show.args(["--no-all-versions", "show", package]))?;
        Ok(dependencies(&shown))
    }

    fn unpack(&self, package: &str, folder: &Path, to: &Path) -> Result<()> {
        let mut download = self.command("apt-get");
        download
            .current_dir(folder)
            .args(["--quiet", "download", package]);
        shell::output(&mut download)?;
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|kind| kind == "deb") {
                let mut unpack = shell::command("dpkg-deb");
                shell::quiet(unpack.arg("-x").arg(&path).arg(to))?;
                std::fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

/// Of apt's description of a package, the first alternative of each dependency.
fn dependencies(shown: &str) -> Vec<String> {
    let line = shown
        .lines()
        .find_map(|line| line.strip_prefix("Depends: "));
    let each = line.unwrap_or_default().split(", ");
    let name = |one: &str| one.split([' ', '|']).next().unwrap_or_default().to_owned();
    each.map(name).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_names() {
        let shown = "Package: a\nDepends: dracut | initramfs-tools (>= 0.120), linux-binary-7.2 (= 7.2-1)\nSize: 3\n";
        assert_eq!(dependencies(shown), ["dracut", "linux-binary-7.2"]);
        assert!(dependencies("Package: b\n").is_empty());
    }
}
