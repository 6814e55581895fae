//! What is built, in which profile, for the demo, the tests, the bench and the package.

use std::path::PathBuf;

use anyhow::Result;

use crate::{kernel, shell};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    Dev,
    Release,
}

/// The daemon with its kernel programs, and the program that makes the world around it.
pub fn build(profile: Profile) -> Result<()> {
    kernel::build(false)?;
    binaries(profile)
}

/// The same, with whatever kernel object is there.
pub fn binaries(profile: Profile) -> Result<()> {
    let name = match profile {
        Profile::Dev => "hoop",
        Profile::Release => "hoop, optimised",
    };
    // Cargo says nothing meanwhile.
    eprintln!("building {name}: some minutes the first time");
    let mut cargo = shell::cargo();
    // Not xtask, which is what runs.
    cargo.args([
        "build",
        "--quiet",
        "--workspace",
        "--exclude",
        "xtask",
        "--bins",
    ]);
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    shell::run(&mut cargo)
}

/// Where a program of that profile is put.
pub fn program(profile: Profile, name: &str) -> PathBuf {
    let folder = match profile {
        Profile::Dev => "debug",
        Profile::Release => "release",
    };
    shell::target().join(folder).join(name)
}
