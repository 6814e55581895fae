//! `cargo xtask fuzz`: every fuzz target for a bounded time.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::shell;

const FOLDER: &str = "hoop-userspace/fuzz";

#[derive(clap::Args)]
pub struct Arguments {
    /// Seconds for each target
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// Only the target of that name
    target: Option<String>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let folder = shell::root().join(FOLDER);
    let targets = targets(&folder)?;
    let wanted: Vec<&String> = targets
        .iter()
        .filter(|name| arguments.target.as_ref().is_none_or(|only| only == *name))
        .collect();
    if wanted.is_empty() {
        bail!("no such fuzz target; there are {}", targets.join(", "));
    }
    if !shell::found("cargo-fuzz") {
        println!("setup: installing cargo-fuzz");
        shell::run(shell::command("cargo").args(["install", "--locked", "--quiet", "cargo-fuzz"]))
            .context("cargo-fuzz cannot be installed")?;
    }
    for name in &wanted {
        let limit = format!("-max_total_time={}", arguments.seconds);
        let mut fuzz = shell::command("cargo");
        // The sanitizer's flags are not for a stable compiler.
        fuzz.env("RUSTUP_TOOLCHAIN", "nightly")
            .env_remove("CARGO")
            .env_remove("RUSTC");
        fuzz.args([
            "fuzz",
            "run",
            "--fuzz-dir",
            FOLDER,
            name,
            "--",
            &limit,
            "-timeout=10",
        ]);
        shell::run(&mut fuzz).with_context(|| format!("fuzz target {name}"))?;
    }
    println!(
        "fuzz: {} targets, {} s each, nothing found",
        wanted.len(),
        arguments.seconds
    );
    Ok(())
}

fn targets(folder: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder.join("fuzz_targets"))
        .with_context(|| format!("no fuzz targets in {}", folder.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    Ok(names)
}
