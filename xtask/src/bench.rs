//! `cargo xtask bench`: direct, plain relay, pgbouncer and hoop side by side, in one run; with
//! `--console` how long the console's pages take, with `--kubernetes` requests to a cluster.

use anyhow::Result;

use crate::products::{self, Profile};
use crate::{kubernetes, setup, shell};

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
    /// Kubernetes instead: a real API server, direct, through `kubectl proxy` and through hoop
    #[arg(long, conflicts_with = "console")]
    kubernetes: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::require_root("the bench")?;
    let world = match (arguments.console, arguments.kubernetes) {
        (true, _) => "bench-console",
        (_, true) => "bench-kubernetes",
        (false, false) => "bench",
    };
    match world {
        "bench" => setup::ensure_for_bench()?,
        _ => setup::ensure()?,
    }
    if arguments.kubernetes {
        kubernetes::ensure()?;
    }
    products::build(Profile::Release)?;
    let mut program = shell::command(products::program(Profile::Release, "hoop-world"));
    program.arg(world);
    program.args(&arguments.more);
    if arguments.quick {
        program.arg("--quick");
    }
    shell::become_it(&mut program)
}
