//! The kernel object, and the toolchain that builds it.
//!
//! `core` has no prebuilt form for `bpfel-unknown-none`, so a compiler is needed whose library
//! sources are installed, and a `bpf-linker` of the same LLVM. rustup's nightly with `rust-src` is
//! the ordinary way; where that component is absent, Debian's own compiler and its source package
//! do as well.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{setup, shell};

const TARGET: &str = "bpfel-unknown-none";
const LINKER: &str = "0.13.0";
/// LLVM versions that this bpf-linker can be built for.
const LLVMS: std::ops::RangeInclusive<u32> = 20..=22;
/// The packages of Debian's newer compiler, beside the distribution's own.
const DEBIAN: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];
const DEBIAN_SOURCES: &str = "/usr/lib/rustlib/src/rust/library/core/Cargo.toml";

/// A compiler that can build `core` for the kernel.
pub struct Toolchain {
    kind: Kind,
    /// Major version, which the linker must share.
    llvm: u32,
}

enum Kind {
    Nightly,
    Debian,
}

impl Toolchain {
    fn describe(&self) -> String {
        let compiler = match self.kind {
            Kind::Nightly => "rustup's nightly with rust-src",
            Kind::Debian => "Debian's rustc-web with rust-web-src",
        };
        format!("{compiler}, LLVM {}", self.llvm)
    }

    /// A cargo of this toolchain, in the programs' folder.
    fn cargo(&self) -> Command {
        let mut command = match self.kind {
            Kind::Nightly => {
                let mut command = shell::command("rustup");
                command.args(["run", "nightly", "cargo"]);
                command
            }
            Kind::Debian => {
                let mut command = shell::command("/usr/bin/cargo");
                command
                    .env("RUSTC", "/usr/bin/rustc")
                    .env("RUSTC_BOOTSTRAP", "1");
                command
            }
        };
        command.current_dir(folder());
        // What the cargo above us set is about the host's programs.
        for variable in ["RUSTUP_TOOLCHAIN", "CARGO", "CARGO_TARGET_DIR"] {
            command.env_remove(variable);
        }
        // The object is embedded, and its type information names the files that it was made of: not
        // by where they lie on this machine.
        let mapped = |from: PathBuf, to| format!("--remap-path-prefix={}={to}", from.display());
        let home = cargo_programs().and_then(|bin| Some(bin.parent()?.to_path_buf()));
        let mut flags = vec!["-Cdebuginfo=2".to_owned(), "-Clink-arg=--btf".to_owned()];
        flags.extend(home.map(|home| mapped(home, "/cargo")));
        flags.push(mapped(shell::root(), "/hoop"));
        // A unit separator, so that folders with blanks in their names are one argument.
        command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
        command.env_remove("RUSTFLAGS");
        command.env("PATH", path());
        command
    }
}

/// Finds or installs what builds the kernel object; quick when nothing is missing.
pub fn ensure_ebpf_toolchain() -> Result<Toolchain> {
    let toolchain = match nightly().or_else(debian) {
        Some(toolchain) => toolchain,
        None => install_debian()?,
    };
    linker(toolchain.llvm)?;
    Ok(toolchain)
}

/// Says what [`ensure_ebpf_toolchain`] would use, or that it is missing.
pub fn toolchain_present() -> Option<String> {
    let toolchain = nightly().or_else(debian)?;
    linker_llvm().filter(|llvm| *llvm == toolchain.llvm)?;
    Some(toolchain.describe())
}

/// Builds the object and puts it where `hoop-userspace` embeds it from.
pub fn build(log_lines: bool) -> Result<()> {
    let toolchain = ensure_ebpf_toolchain()?;
    let mut cargo = toolchain.cargo();
    cargo.args([
        "build",
        "--release",
        "--quiet",
        "--locked",
        "--target",
        TARGET,
        "-Zbuild-std=core",
    ]);
    cargo.arg("--target-dir").arg(folder().join("target"));
    if log_lines {
        cargo.args(["--features", "log"]);
    }
    eprintln!("kernel object: {}", toolchain.describe());
    shell::run(&mut cargo).context("the kernel object does not build")?;
    let built = folder()
        .join("target")
        .join(TARGET)
        .join("release/hoop-ebpf");
    publish(&built, &folder().join("object/hoop.bpf.o"))
}

/// Copies only what differs, so that nothing is compiled again for an object that is the same.
fn publish(from: &Path, to: &Path) -> Result<()> {
    let bytes = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if std::fs::read(to).is_ok_and(|held| held == bytes) {
        return Ok(());
    }
    // Renamed into place: a build that runs meanwhile sees the old one or the new one.
    let fresh = to.with_extension("new");
    std::fs::write(&fresh, bytes)
        .and_then(|()| std::fs::rename(&fresh, to))
        .with_context(|| format!("cannot write {}", to.display()))
}

fn folder() -> PathBuf {
    shell::root().join("hoop-ebpf")
}

/// PATH with cargo's own folder of programs, where bpf-linker is installed.
fn path() -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).collect::<Vec<_>>();
    std::env::join_paths(cargo_programs().into_iter().chain(folders)).unwrap_or(path)
}

fn cargo_programs() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))?;
    Some(home.join("bin"))
}

fn nightly() -> Option<Toolchain> {
    let rustc = |arguments: &[&str]| {
        let mut command = shell::command("rustup");
        command.args(["run", "nightly", "rustc"]).args(arguments);
        shell::output(command.env_remove("RUSTUP_TOOLCHAIN")).ok()
    };
    let sysroot = rustc(&["--print", "sysroot"])?;
    let core = Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/Cargo.toml");
    let llvm = llvm_of(&rustc(&["-vV"])?)?;
    (core.exists() && LLVMS.contains(&llvm)).then_some(Toolchain {
        kind: Kind::Nightly,
        llvm,
    })
}

fn debian() -> Option<Toolchain> {
    let version = shell::output(shell::command("/usr/bin/rustc").arg("-vV")).ok()?;
    let llvm = llvm_of(&version)?;
    let complete = Path::new(DEBIAN_SOURCES).exists() && Path::new("/usr/bin/cargo").exists();
    (complete && LLVMS.contains(&llvm)).then_some(Toolchain {
        kind: Kind::Debian,
        llvm,
    })
}

fn install_debian() -> Result<Toolchain> {
    eprintln!(
        "setup: no nightly with rust-src: installing {}",
        DEBIAN.join(" ")
    );
    let installed = setup::apt(DEBIAN);
    if let Some(toolchain) = debian() {
        return Ok(toolchain);
    }
    let hint = "nothing here builds the kernel object; \
                `rustup toolchain install nightly --component rust-src` is the ordinary way";
    match installed {
        Ok(()) => bail!("{hint} (Debian's compiler was installed, but has no usable sources)"),
        Err(error) => Err(error.context(hint)),
    }
}

fn llvm_of(version: &str) -> Option<u32> {
    let line = version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.split('.').next()?.trim().parse().ok()
}

/// Installs bpf-linker unless one of this LLVM is there.
fn linker(llvm: u32) -> Result<()> {
    if linker_llvm() == Some(llvm) {
        return Ok(());
    }
    eprintln!("setup: installing bpf-linker {LINKER} for LLVM {llvm}");
    let prefix = format!("/usr/lib/llvm-{llvm}");
    if !Path::new(&prefix).join("lib/libPolly.a").exists() {
        let versioned = ["llvm-{}-dev", "libpolly-{}-dev", "libclang-{}-dev"];
        let versioned = versioned.map(|name| name.replace("{}", &llvm.to_string()));
        let mut packages: Vec<&str> = versioned.iter().map(String::as_str).collect();
        packages.extend(["zlib1g-dev", "libzstd-dev", "libxml2-dev"]);
        setup::apt(&packages)?;
    }
    let mut install = shell::cargo();
    install.args([
        "install",
        "bpf-linker",
        "--quiet",
        "--locked",
        "--force",
        "--version",
        LINKER,
    ]);
    install.args([
        "--no-default-features",
        "--features",
        &format!("llvm-{llvm}"),
    ]);
    install.env("LLVM_PREFIX", &prefix);
    let programs = std::env::split_paths(&path()).collect::<Vec<_>>();
    let with_llvm = [Path::new(&prefix).join("bin")].into_iter().chain(programs);
    install.env("PATH", std::env::join_paths(with_llvm)?);
    shell::run(&mut install).context("cannot install bpf-linker")?;
    match linker_llvm() {
        Some(found) if found == llvm => Ok(()),
        _ => bail!("bpf-linker was installed, but not for LLVM {llvm}"),
    }
}

/// The LLVM of the bpf-linker that would be used: what it was linked with.
fn linker_llvm() -> Option<u32> {
    let linker = std::env::split_paths(&path())
        .map(|folder| folder.join("bpf-linker"))
        .find(|program| program.is_file())?;
    let libraries = shell::output(shell::command("ldd").arg(linker)).ok()?;
    let version = |library: &str| library.trim().strip_prefix("libLLVM").map(str::to_owned);
    let name = libraries.lines().find_map(version)?;
    let digits = name.trim_start_matches(['.', '-', 's', 'o']);
    digits
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_llvm_is_read_from_the_compilers_own_words() {
        let version = "rustc 1.96.0\nrelease: 1.96.0\nLLVM version: 22.1.8";
        assert_eq!(llvm_of(version), Some(22));
        assert_eq!(llvm_of("rustc 1.96.0"), None);
    }
}
