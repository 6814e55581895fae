//! `cargo xtask bench`: direct, plain relay, pgbouncer and hoop side by side, in one run; with
//! `--console` how long the console's pages take.

use anyhow::Result;

use crate::products::{self, Profile};
use crate::{setup, shell};

#[derive(clap::Args)]
pub struct Arguments {
    /// Of the bench itself: see `cargo xtask bench -- --help`
    #[arg(last = true)]
    more: Vec<String>,
    /// Three short rounds instead of five longer ones
    #[arg(long)]
    quick: bool,
    /// The console instead: its start and each of its pages, with 100,000 recorded sessions
    #[arg(long, conflicts_with = "quick")]
    console: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::require_root("the bench")?;
    match arguments.console {
        true => setup::ensure()?,
        false => setup::ensure_for_bench()?,
    }
    products::build(Profile::Release)?;
    let mut world = shell::command(products::program(Profile::Release, "hoop-world"));
    world.arg(match arguments.console {
        true => "bench-console",
        false => "bench",
    });
    world.args(&arguments.more);
    if arguments.quick {
        world.arg("--quick");
    }
    shell::become_it(&mut world)
}
