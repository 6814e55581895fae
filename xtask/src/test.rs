//! `cargo xtask test`: everything that must hold, in tiers from the quickest to the slowest.
//!
//! Nothing is ever skipped: what cannot run here fails and names the missing piece.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::products::{self, Profile};
use crate::{kernel, kubernetes, setup, shell, tidy};

#[derive(clap::Args)]
pub struct Arguments {
    /// Only this tier; may be given several times
    #[arg(long = "tier", value_name = "NAME")]
    tiers: Vec<String>,
}

struct Tier {
    name: &'static str,
    what: &'static str,
    run: fn() -> Result<()>,
}

const TIERS: &[Tier] = &[
    Tier {
        name: "tidy",
        what: "format, and the rules of xtask/src/tidy",
        run: format_and_tidy,
    },
    Tier {
        name: "lint",
        what: "clippy, warnings are errors",
        run: lint,
    },
    Tier {
        name: "unit",
        what: "unit, property, snapshot and compile-fail tests",
        run: unit,
    },
    Tier {
        name: "doc",
        what: "documentation tests",
        run: doc,
    },
    Tier {
        name: "scenario",
        what: "whole system, with real servers and clients",
        run: scenario,
    },
];

pub fn run(arguments: &Arguments) -> Result<()> {
    let wanted = chosen(&arguments.tiers)?;
    setup::ensure()?;
    // First of all: `hoop-userspace` embeds it, and would be compiled again for a later one.
    kernel::build(false)?;
    let mut times = Vec::new();
    for tier in wanted {
        println!("=== {}: {}", tier.name, tier.what);
        let started = Instant::now();
        (tier.run)().map_err(|error| error.context(format!("tier {} failed", tier.name)))?;
        times.push((tier.name, started.elapsed()));
    }
    println!("=== all tiers passed");
    for (name, time) in times {
        println!("{name:>10} {:>6.1} s", time.as_secs_f64());
    }
    Ok(())
}

fn chosen(names: &[String]) -> Result<Vec<&'static Tier>> {
    let known = || {
        TIERS
            .iter()
            .map(|tier| tier.name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    for name in names {
        if !TIERS.iter().any(|tier| tier.name == name) {
            bail!("no tier {name:?}; there are {}", known());
        }
    }
    let all = names.is_empty();
    Ok(TIERS
        .iter()
        .filter(|tier| all || names.iter().any(|n| n == tier.name))
        .collect())
}

fn format_and_tidy() -> Result<()> {
    shell::run(shell::cargo().args(["fmt", "--all", "--check"]))?;
    for manifest in ["hoop-ebpf/Cargo.toml", "hoop-userspace/fuzz/Cargo.toml"] {
        if shell::root().join(manifest).exists() {
            shell::run(shell::cargo().args(["fmt", "--check", "--manifest-path", manifest]))?;
        }
    }
    tidy::run()
}

fn lint() -> Result<()> {
    shell::run(shell::cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))
}

// Always the whole workspace: another selection of packages has other features, and cargo would
// build the dependencies once more.

fn unit() -> Result<()> {
    shell::run(shell::cargo().args(["test", "--workspace", "--lib", "--bins", "--no-fail-fast"]))
}

fn doc() -> Result<()> {
    shell::run(shell::cargo().args(["test", "--workspace", "--doc"]))
}

fn scenario() -> Result<()> {
    setup::require_root("the scenario tier")?;
    kubernetes::ensure()?;
    products::build(Profile::Dev)?;
    let tests =
        shell::run(shell::cargo().args(["test", "--workspace", "--test", "*", "--no-fail-fast"]));
    // Each test program's world goes away by itself, shortly after it.
    let world = products::program(Profile::Dev, "hoop-world");
    shell::run(shell::command(world).arg("settle"))?;
    tests
}
