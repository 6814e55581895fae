//! `cargo xtask test`: everything that must hold, in tiers from the quickest to the slowest.
//!
//! Nothing is ever skipped: what cannot run here fails and names the missing piece. One tier is not
//! among those that run by themselves, since what it needs takes half an hour to build: a real
//! Kubernetes cluster.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::products::{self, Profile};
use crate::{kernel, kubernetes, setup, shell, tidy};

#[derive(clap::Args)]
pub struct Arguments {
    /// Only this tier; may be given several times
    #[arg(long = "tier", value_name = "NAME")]
    tiers: Vec<String>,
    /// The tier that needs a real Kubernetes API server, which is built from source the first time
    #[arg(long)]
    kubernetes: bool,
}

struct Tier {
    name: &'static str,
    what: &'static str,
    /// It runs where none is named.
    always: bool,
    run: fn() -> Result<()>,
}

/// The tier of `--kubernetes`.
const KUBERNETES: &str = "kubernetes";
/// Its test programs.
const CLUSTERS: [&str; 2] = ["kubernetes", "contract_kubernetes"];

const TIERS: &[Tier] = &[
    Tier {
        name: "tidy",
        what: "format, and the rules of xtask/src/tidy",
        always: true,
        run: format_and_tidy,
    },
    Tier {
        name: "lint",
        what: "clippy, warnings are errors",
        always: true,
        run: lint,
    },
    Tier {
        name: "unit",
        what: "unit, property, snapshot and compile-fail tests",
        always: true,
        run: unit,
    },
    Tier {
        name: "doc",
        what: "documentation tests",
        always: true,
        run: doc,
    },
    Tier {
        name: "scenario",
        what: "whole system, with real servers and clients",
        always: true,
        run: scenario,
    },
    Tier {
        name: KUBERNETES,
        what: "real Kubernetes API servers and clients, past hoop and through it",
        always: false,
        run: clusters,
    },
];

pub fn run(arguments: &Arguments) -> Result<()> {
    let mut names = arguments.tiers.clone();
    names.extend(arguments.kubernetes.then(|| KUBERNETES.to_owned()));
    let wanted = chosen(&names)?;
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
    println!("=== these tiers passed:");
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
    let wanted = |tier: &&Tier| match names {
        [] => tier.always,
        names => names.iter().any(|name| name == tier.name),
    };
    Ok(TIERS.iter().filter(wanted).collect())
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
    let mut names = programs()?;
    names.retain(|name| !CLUSTERS.contains(&name.as_str()));
    whole_system(&names)
}

fn clusters() -> Result<()> {
    setup::require_root("the Kubernetes tier")?;
    kubernetes::ensure()?;
    whole_system(&CLUSTERS.map(str::to_owned))
}

/// Test programs that make worlds.
fn whole_system(names: &[String]) -> Result<()> {
    products::build(Profile::Dev)?;
    let mut cargo = shell::cargo();
    cargo.args(["test", "--workspace", "--no-fail-fast"]);
    for name in names {
        cargo.args(["--test", name]);
    }
    let tests = shell::run(&mut cargo);
    // Each test program's world goes away by itself, shortly after it.
    let world = products::program(Profile::Dev, "hoop-world");
    shell::run(shell::command(world).arg("settle"))?;
    tests
}

/// All test programs of the workspace, as cargo knows them: none is forgotten in a list of ours.
fn programs() -> Result<Vec<String>> {
    let mut cargo = shell::cargo();
    cargo.args(["metadata", "--format-version=1", "--no-deps"]);
    let answer: Metadata = serde_json::from_str(&shell::output(&mut cargo)?)?;
    let targets = answer.packages.into_iter().flat_map(|p| p.targets);
    let tests = targets.filter(|target| target.kind.iter().any(|kind| kind == "test"));
    Ok(tests.map(|target| target.name).collect())
}

#[derive(serde::Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(serde::Deserialize)]
struct Package {
    targets: Vec<Target>,
}

#[derive(serde::Deserialize)]
struct Target {
    kind: Vec<String>,
    name: String,
}
