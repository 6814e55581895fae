//! The program of the package: optimised, without any path of the machine that built it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Machine;
use crate::products::{self, Profile};
use crate::{kernel, shell};

/// What stands in the program for the folders that it was built in.
const MAPPED: [&str; 3] = ["/hoop", "/cargo", "/build"];

/// Optimised, in a target folder of its own: other flags would have everything built again in the
/// ordinary one.
pub fn release(machine: Machine, target: &Path) -> Result<PathBuf> {
    kernel::build(false)?;
    let folders = folders(target)?;
    let pairs: Vec<_> = folders.iter().zip(MAPPED).collect();
    // The last one that fits counts, and the target folder lies in the repository.
    let rust: Vec<_> = pairs
        .iter()
        .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
        .collect();
    let c: Vec<_> = pairs
        .iter()
        .map(|(from, to)| format!("-ffile-prefix-map={}={to}", from.display()))
        .collect();
    let mut cargo = shell::cargo();
    cargo.args(["build", "--release", "--locked", "--package"]);
    cargo.args(["hoop-userspace", "--bin", "hoop", "--target-dir"]);
    cargo.arg(target);
    let mut made = target.to_path_buf();
    if !machine.is_this() {
        cargo.args(["--target", machine.rust()]);
        cargo.envs(machine.cross());
        made.push(machine.rust());
    }
    // A unit separator, so that folders with blanks in their names are one argument.
    cargo.env_remove("RUSTFLAGS");
    cargo.env("CARGO_ENCODED_RUSTFLAGS", rust.join("\u{1f}"));
    cargo.env("CFLAGS", c.join(" "));
    cargo.env("CARGO_INCREMENTAL", "0");
    // Names of functions stay for backtraces; their lines would be half of the package.
    cargo.env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo");
    shell::run(&mut cargo)?;
    Ok(made.join("release/hoop"))
}

/// As it is built for tests.
pub fn debug() -> Result<PathBuf> {
    products::build(Profile::Dev)?;
    Ok(debug_program())
}

pub fn debug_program() -> PathBuf {
    products::program(Profile::Dev, "hoop")
}

/// The repository, cargo's own folder, and where this build is put.
pub fn folders(target: &Path) -> Result<[PathBuf; 3]> {
    Ok([shell::root(), cargo_home()?, target.to_path_buf()])
}

pub fn cargo_home() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("CARGO_HOME") {
        return Ok(folder.into());
    }
    let home = std::env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cargo"))
}
