//! `cargo xtask compat`: the clients' own test suites, direct and through hoop.
//!
//! The suites come from where their packages come from, in pinned versions, by the ordinary clients
//! of the registries. `hoop-world compat` runs them; docs/COMPATIBILITY.md explains what differs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::products::{self, Profile};
use crate::{setup, shell};

#[derive(clap::Args)]
pub struct Arguments {
    /// Only this suite; may be given several times
    #[arg(long = "suite", value_name = "NAME")]
    suites: Vec<String>,
    /// What CI runs: the quicker suites
    #[arg(long)]
    quick: bool,
}

/// One client's suite: how its source gets into a folder of that name.
struct Suite {
    name: &'static str,
    version: &'static str,
    quick: bool,
}

const SUITES: &[Suite] = &[
    Suite {
        name: "psycopg2",
        version: "2.9.13",
        quick: true,
    },
    Suite {
        name: "asyncpg",
        version: "0.32.0",
        quick: true,
    },
    Suite {
        name: "pg8000",
        version: "1.31.6",
        quick: false,
    },
];

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::require_root("the compatibility run")?;
    setup::ensure()?;
    let suites = chosen(arguments)?;
    let folder = shell::target().join("compat");
    std::fs::create_dir_all(&folder)?;
    setup::python_environment(
        &folder.join("python"),
        &shell::root().join("tests/compat/requirements.txt"),
    )?;
    for suite in &suites {
        suite.ensure(&folder)?;
    }
    products::build(Profile::Dev)?;
    let mut world = shell::command(products::program(Profile::Dev, "hoop-world"));
    world.arg("compat").arg("--folder").arg(&folder);
    for suite in suites {
        world
            .arg("--suite")
            .arg(format!("{}={}", suite.name, suite.version));
    }
    shell::run(&mut world)
}

/// The bounded form that `cargo xtask test` runs.
pub fn quick() -> Result<()> {
    run(&Arguments {
        suites: Vec::new(),
        quick: true,
    })
}

fn chosen(arguments: &Arguments) -> Result<Vec<&'static Suite>> {
    for name in &arguments.suites {
        if !SUITES.iter().any(|suite| suite.name == name) {
            let known: Vec<_> = SUITES.iter().map(|suite| suite.name).collect();
            bail!("no suite {name:?}; there are {}", known.join(", "));
        }
    }
    let named = |suite: &Suite| match arguments.suites.as_slice() {
        [] => suite.quick || !arguments.quick,
        names => names.iter().any(|name| name == suite.name),
    };
    Ok(SUITES.iter().filter(|suite| named(suite)).collect())
}

impl Suite {
    fn ensure(&self, folder: &Path) -> Result<()> {
        let place = folder.join(self.name);
        let stamp = place.join(".hoop-version");
        if std::fs::read_to_string(&stamp).is_ok_and(|held| held == self.version) {
            return Ok(());
        }
        eprintln!("compat: fetching {} {}", self.name, self.version);
        if place.exists() {
            std::fs::remove_dir_all(&place)?;
        }
        std::fs::create_dir_all(&place)?;
        python_source(self, &place)
            .with_context(|| format!("cannot fetch {} {}", self.name, self.version))?;
        std::fs::write(stamp, self.version)?;
        Ok(())
    }
}

/// The tests of a Python package's source distribution. Its package itself is left out: the tests
/// are to import the one that is installed.
fn python_source(suite: &Suite, place: &Path) -> Result<()> {
    let download = place.join("download");
    // psycopg2's set-up asks for it before it says its own name.
    let tools = setup::postgres_tools().context("no PostgreSQL tools")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::env::split_paths(&path).chain([tools]))?;
    let pip = shell::target().join("compat/python/bin/pip");
    shell::run(
        shell::command(pip)
            .args(["download", "--quiet", "--disable-pip-version-check"])
            .args(["--no-deps", "--no-binary", suite.name, "--dest"])
            .arg(&download)
            .arg(format!("{}=={}", suite.name, suite.version))
            .env("PATH", path),
    )?;
    let archive = only_entry(&download)?;
    shell::run(
        shell::command("tar")
            .arg("--extract")
            .args(["--strip-components=1", "--file"])
            .arg(archive)
            .arg("--directory")
            .arg(&download),
    )?;
    for tests in ["tests", "test"] {
        if download.join(tests).exists() {
            std::fs::rename(download.join(tests), place.join(tests))?;
        }
    }
    std::fs::remove_dir_all(download)?;
    Ok(())
}

fn only_entry(folder: &Path) -> Result<PathBuf> {
    let mut entries = std::fs::read_dir(folder)?;
    let first = entries.next().context("nothing was downloaded")??;
    Ok(first.path())
}
