//! `cargo xtask vm KERNEL`: hoop's package on a whole Debian host, in a virtual machine.
//!
//! What a process can see of hoop in a container or a namespace is not what an administrator sees of
//! it on a host that boots: units, slices, reboots, upgrades by dpkg, other kernels. The machine is
//! Debian's own root and kernel under QEMU, by plain emulation unless KVM is asked for.
//! What is downloaded and made lies in the user's cache folder, so that it is made once.

mod containers;
mod doors;
mod foreign;
mod kernels;
mod machine;
mod outside;
mod root;
mod site;
mod steps;
mod tier;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use self::kernels::Kernel;
use self::machine::Machine;
use self::site::Site;
use crate::package::Architecture;
use crate::{package, setup, shell};

#[derive(clap::Args)]
pub struct Arguments {
    /// The kernels to do it with, one after the other
    #[arg(required = true, value_enum)]
    kernels: Vec<Kernel>,
    /// This package instead of one that is built now
    #[arg(long, value_name = "FILE")]
    package: Option<PathBuf>,
    /// Only start it, with the package inside, and leave it up until interrupted
    #[arg(long)]
    stay: bool,
    /// Only the LSM tier: the programs attached by hand, and what they close; some two minutes
    #[arg(long, conflicts_with = "stay")]
    tier: bool,
    /// Another processor's kernel with the package's program alone: whether its programs hold there
    #[arg(long, value_name = "ARCHITECTURE", conflicts_with_all = ["stay", "tier", "kvm"])]
    arch: Option<Architecture>,
    /// By KVM instead of plain emulation, where it works: many times faster
    #[arg(long)]
    kvm: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::require_root("making a machine's root")?;
    setup::ensure_for_vm()?;
    let package = match &arguments.package {
        Some(given) => given.canonicalize().context("no such package")?,
        None => package::release(arguments.arch)?,
    };
    if let Some(architecture) = arguments.arch {
        for kernel in &arguments.kernels {
            let folder = Folder::make()?;
            foreign::run(*kernel, architecture, &package, &folder.0)?;
        }
        return Ok(());
    }
    let root = root::ensure()?;
    for kernel in &arguments.kernels {
        let started = Instant::now();
        let disk = kernels::ensure(*kernel, &root)?;
        let folder = Folder::make()?;
        if arguments.tier {
            let machine = Machine::start(&disk, &folder.0, arguments.kvm)?;
            tier::alone(&machine, kernel.name(), &package)?;
            continue;
        }
        let mut site = Site::make(&disk, &folder.0, arguments.kvm)?;
        if arguments.stay {
            site.machine.put(&package, "/var/tmp/hoop.deb")?;
            println!(
                "vm: {}: /var/tmp/hoop.deb is there; Ctrl-C ends it",
                kernel.name()
            );
            println!("vm: {}", site.machine.command_line());
            interrupted()?;
            return Ok(());
        }
        match kernel.supported() {
            true => steps::all(&mut site, kernel.name(), &package)?,
            false => steps::refused(&mut site, kernel.name(), &package)?,
        }
        println!(
            "vm: {}: done in {} s",
            kernel.name(),
            started.elapsed().as_secs()
        );
    }
    Ok(())
}

/// What belongs to one machine, and ends with it.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("hoop-vm-{}", std::process::id()));
        std::fs::create_dir(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Until somebody presses Ctrl-C, which must not end the machine before its folder is gone.
fn interrupted() -> Result<()> {
    use nix::sys::signal::{SigSet, Signal};
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    signals.wait()?;
    Ok(())
}

/// Where what is made once is kept.
fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let folder = base.context("neither XDG_CACHE_HOME nor HOME is set")?;
    let folder = folder.join("hoop/vm");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Makes a folder whole or not at all: what is cut short is begun anew the next time.
fn once(folder: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if folder.exists() {
        return Ok(());
    }
    let parent = folder
        .parent()
        .context("a folder of the cache has a parent")?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let partial = parent.join(format!("{name}.partial"));
    if partial.exists() {
        std::fs::remove_dir_all(&partial)
            .with_context(|| format!("cannot remove {}", partial.display()))?;
    }
    std::fs::create_dir_all(&partial)?;
    make(&partial)?;
    std::fs::rename(&partial, folder).with_context(|| format!("cannot finish {}", folder.display()))
}

/// Where Debian's packages come from on this machine.
fn mirror() -> Result<String> {
    let mut targets = shell::command("apt-get");
    targets.args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(ORIGIN) $(CODENAME)",
    ]);
    let listed = shell::output(&mut targets)?;
    let mut repositories = listed.lines().filter_map(|line| line.split_once(' '));
    let Some((mirror, _)) =
        repositories.find(|(_, rest)| rest.starts_with("Debian ") && !rest.contains('-'))
    else {
        bail!("apt knows no repository of Debian's own: run `apt-get update`, or add one")
    };
    Ok(mirror.trim_end_matches('/').to_owned())
}
