//! `cargo xtask demo`: hoop at work, with nothing pretended.

use anyhow::Result;

use crate::products::{self, Profile};
use crate::{setup, shell};

#[derive(clap::Args)]
pub struct Arguments {
    /// Leave everything up until interrupted; use `cargo xtask agent` meanwhile
    #[arg(long)]
    stay: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::require_root("the demo")?;
    setup::ensure()?;
    products::build(Profile::Dev)?;
    let mut world = shell::command(products::program(Profile::Dev, "hoop-world"));
    world.arg("demo");
    if arguments.stay {
        world.arg("--stay");
    }
    shell::become_it(&mut world)
}
