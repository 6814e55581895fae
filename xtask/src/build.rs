//! `cargo xtask build`: the kernel object, then the `hoop` binary that embeds it.

use anyhow::Result;

use crate::kernel;
use crate::products::{self, Profile};

#[derive(clap::Args)]
pub struct Arguments {
    /// Optimised, as for the package
    #[arg(long)]
    release: bool,
    /// Let the kernel programs log at debug level
    #[arg(long)]
    kernel_log: bool,
    /// Only the kernel object
    #[arg(long)]
    kernel_only: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    kernel::build(arguments.kernel_log)?;
    if arguments.kernel_only {
        return Ok(());
    }
    let profile = if arguments.release {
        Profile::Release
    } else {
        Profile::Dev
    };
    products::binaries(profile)?;
    println!("{}", products::program(profile, "hoop").display());
    Ok(())
}
