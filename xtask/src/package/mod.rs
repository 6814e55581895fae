//! `cargo xtask package`: a Debian package, the same bytes for the same commit.
//!
//! Built with paths mapped away, in a target folder of its own, and packed by dpkg-deb under
//! SOURCE_DATE_EPOCH. docs/adr/the-package-by-dpkg-deb.md says why not by a tool of cargo's.

mod build;
mod control;
mod machine;
mod stage;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::shell;

pub use machine::Machine as Architecture;
use machine::Machine;

#[derive(clap::Args)]
pub struct Arguments {
    /// Where the package is put
    #[arg(long, default_value = "target/package", value_name = "DIR")]
    to: PathBuf,
    /// For which machines; for others than this one it is built by a cross compiler, and its program is run by QEMU
    #[arg(long, value_name = "ARCHITECTURE")]
    arch: Option<Machine>,
    /// Of an unoptimised build, for trying the package out; it holds paths of this machine
    #[arg(long, conflicts_with = "arch")]
    debug: bool,
    /// With --debug: of what was built before
    #[arg(long, requires = "debug")]
    no_build: bool,
    /// Build all of it a second time, elsewhere, and compare the bytes
    #[arg(long, conflicts_with = "no_build")]
    verify: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    if let Some(machine) = arguments.arch {
        machine.ensure()?;
    }
    let folder = shell::root().join(&arguments.to);
    let epoch = epoch()?;
    let first = make(arguments, &folder, "build", &epoch)?;
    println!("package: {}", first.display());
    if arguments.verify {
        let again = make(arguments, &folder.join("again"), "build-again", &epoch)?;
        same(&first, &again)?;
        println!("package: built twice, with the same bytes");
    }
    Ok(())
}

/// The package as it is released, made if need be.
pub fn release(arch: Option<Architecture>) -> Result<PathBuf> {
    if let Some(machine) = arch {
        machine.ensure()?;
    }
    let folder = shell::target().join("package");
    let arguments = Arguments {
        to: folder.clone(),
        arch,
        debug: false,
        no_build: false,
        verify: false,
    };
    make(&arguments, &folder, "build", &epoch()?)
}

fn make(arguments: &Arguments, folder: &Path, built: &str, epoch: &str) -> Result<PathBuf> {
    let machine = match arguments.arch {
        Some(machine) => machine,
        None => Machine::this()?,
    };
    let program = match (arguments.debug, arguments.no_build) {
        (true, false) => build::debug()?,
        (true, true) => build::debug_program(),
        (false, _) => build::release(machine, &shell::target().join("package").join(built))?,
    };
    let tree = folder.join("tree");
    if tree.exists() {
        std::fs::remove_dir_all(&tree).context("cannot clear the last package's tree")?;
    }
    stage::stage(&tree, machine, &program, epoch, arguments.debug)?;
    control::control(&tree, machine)?;
    if !arguments.debug {
        stage::names_no_path_of_this_machine(&tree)?;
    }
    let package = folder.join(control::file_name(machine));
    let mut pack = command("dpkg-deb");
    pack.args(["--root-owner-group", "--threads-max=2"]);
    // Of an unoptimised program nobody waits for the smallest form.
    pack.args(match arguments.debug {
        true => ["-Zgzip", "-z1"],
        false => ["-Zxz", "-z6"],
    });
    pack.arg("--build").arg(&tree).arg(&package);
    shell::run(pack.env("SOURCE_DATE_EPOCH", epoch))?;
    Ok(package)
}

/// The commit's time unless the environment says otherwise, so that the bytes can be made again.
fn epoch() -> Result<String> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(given) if !given.is_empty() && given.bytes().all(|b| b.is_ascii_digit()) => Ok(given),
        Ok(given) => bail!("SOURCE_DATE_EPOCH is {given:?}: seconds since 1970 are meant"),
        Err(_) => shell::output(shell::command("git").args(["log", "-1", "--format=%ct"])),
    }
}

/// A program whose output does not depend on whoever runs it.
fn command(program: impl AsRef<std::ffi::OsStr>) -> std::process::Command {
    let mut command = shell::command(program);
    command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
    command.env_remove("HOOP_CONFIG");
    command
}

fn same(first: &Path, again: &Path) -> Result<()> {
    let read = |path: &Path| {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    if read(first)? == read(again)? {
        return Ok(());
    }
    let listed = |path: &Path| -> Result<String> {
        let sums = "dpkg-deb --ctrl-tarfile \"$1\" | tar --to-command='sha256sum | tr - \" \" ; echo $TAR_FILENAME' -xf -; \
            dpkg-deb --fsys-tarfile \"$1\" | tar --to-command='sha256sum | tr - \" \" ; echo $TAR_FILENAME' -xf -";
        shell::output(command("sh").args(["-c", sums, "sh"]).arg(path))
    };
    let (one, other) = (listed(first)?, listed(again)?);
    let differ: Vec<&str> = one
        .lines()
        .zip(other.lines())
        .filter(|(a, b)| a != b)
        .map(|(a, _)| a)
        .collect();
    bail!(
        "{} and {} differ{}",
        first.display(),
        again.display(),
        match differ.is_empty() {
            true =>
                " in order, times or modes alone: compare them with `dpkg-deb --contents`".into(),
            false => format!(":\n{}", differ.join("\n")),
        }
    )
}
