//! `cargo xtask compat`: the clients' own test suites, direct and through hoop.
//!
//! tests/compat/suites.json pins each by version and hash. They come from where their packages come
//! from, by the ordinary clients of the registries, into the target folder. `hoop-world compat` runs
//! them; docs/COMPATIBILITY.md explains what differs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::products::{self, Profile};
use crate::{setup, shell};

#[derive(Clone, clap::Args)]
pub struct Arguments {
    /// Only this suite; may be given several times
    #[arg(long = "suite", value_name = "NAME")]
    suites: Vec<String>,
    /// The quicker suites
    #[arg(long)]
    quick: bool,
    /// The suites of SSH instead of PostgreSQL's
    #[arg(long)]
    ssh: bool,
    /// Only fetch and build the suites
    #[arg(long)]
    fetch: bool,
    /// Instead of suites: a result of 1 GB, a parameter of 500 MB, and an hour without a word. With
    /// --ssh: the suites with 100,000 files and one of 5 GB
    #[arg(long, conflicts_with_all = ["quick", "fetch"])]
    long: bool,
}

/// What `--long` asks of tests/fidelity.rs.
const LONG: [(&str, &str); 2] = [("HOOP_VOLUME_MB", "1000"), ("HOOP_IDLE_SECONDS", "3600")];

/// A row of the table; the rest of it is for those who run the suite.
#[derive(Clone, Debug, Deserialize)]
struct Suite {
    name: String,
    #[serde(default)]
    server: Server,
    registry: Registry,
    package: String,
    version: String,
    /// Of the archive, in hexadecimal; only what is fetched is pinned.
    #[serde(default)]
    sha256: String,
    quick: bool,
    #[serde(default)]
    rewrite: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Registry {
    Pypi,
    Crates,
    Npm,
    /// `cargo xtask setup` installs it.
    Debian,
    /// A script of tests/compat/ssh.
    Ours,
}

/// What the clients of a suite speak to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Server {
    #[default]
    Postgres,
    Ssh,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::require_root("the compatibility run")?;
    setup::ensure_for_compat()?;
    if arguments.long && !arguments.ssh {
        ensure!(
            arguments.suites.is_empty(),
            "--long runs PostgreSQL's suites as they are; with --ssh it makes those of SSH long"
        );
        return long();
    }
    let suites = chosen(arguments)?;
    let folder = shell::target().join("compat");
    std::fs::create_dir_all(&folder)?;
    for suite in &suites {
        suite.ensure(&folder)?;
    }
    if arguments.fetch {
        return Ok(());
    }
    products::build(Profile::Dev)?;
    let mut world = shell::command(products::program(Profile::Dev, "hoop-world"));
    world.arg("compat").arg("--folder").arg(&folder);
    for suite in suites {
        world.arg("--suite").arg(suite.name);
    }
    if arguments.long {
        world.arg("--long");
    }
    shell::run(&mut world)
}

/// What takes an hour, or memory that not every machine has.
fn long() -> Result<()> {
    products::build(Profile::Dev)?;
    let mut cargo = shell::cargo();
    cargo.args(["test", "--workspace", "--test", "fidelity", "--"]);
    cargo.args(["message_by_message", "results_and_parameters_of_any_size"]);
    shell::run(cargo.envs(LONG))
}

fn chosen(arguments: &Arguments) -> Result<Vec<Suite>> {
    let path = here("suites.json");
    let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let suites: Vec<Suite> = serde_json::from_slice(&text)
        .with_context(|| format!("{} is not the table of suites", path.display()))?;
    for name in &arguments.suites {
        if !suites.iter().any(|suite| suite.name == *name) {
            let known: Vec<_> = suites.iter().map(|suite| suite.name.as_str()).collect();
            bail!("no suite {name:?}; there are {}", known.join(", "));
        }
    }
    let server = match arguments.ssh {
        true => Server::Ssh,
        false => Server::Postgres,
    };
    let named = |suite: &Suite| match arguments.suites.as_slice() {
        [] => (suite.server == server) && (suite.quick || !arguments.quick),
        names => names.contains(&suite.name),
    };
    Ok(suites.into_iter().filter(named).collect())
}

fn here(name: &str) -> PathBuf {
    shell::root().join("tests/compat").join(name)
}

impl Suite {
    /// Fetches it and what it needs, unless this version is there.
    fn ensure(&self, folder: &Path) -> Result<()> {
        if self.server == Server::Ssh {
            // Scripts of ours among them run in it.
            setup::python_environment(&folder.join("python"), &here("requirements.txt"))?;
        }
        match self.registry {
            Registry::Pypi => {
                setup::python_environment(&folder.join("python"), &here("requirements.txt"))?;
            }
            Registry::Npm => node_modules(folder)?,
            Registry::Crates => {}
            Registry::Debian | Registry::Ours => {
                return Ok(std::fs::create_dir_all(folder.join(&self.name))?);
            }
        }
        let place = folder.join(&self.name);
        let stamp = place.join(".hoop-fetched");
        let wanted = format!("{self:?}");
        if std::fs::read_to_string(&stamp).is_ok_and(|held| held == wanted) {
            return Ok(());
        }
        eprintln!("compat: fetching {} {}", self.package, self.version);
        if place.exists() {
            std::fs::remove_dir_all(&place)?;
        }
        std::fs::create_dir_all(&place)?;
        self.fetch(folder, &place)
            .with_context(|| format!("cannot fetch {} {}", self.package, self.version))?;
        std::fs::write(stamp, wanted)?;
        Ok(())
    }

    fn fetch(&self, folder: &Path, place: &Path) -> Result<()> {
        let download = place.join("download");
        std::fs::create_dir_all(&download)?;
        let archive = match self.registry {
            Registry::Pypi => self.pypi_source(folder, &download)?,
            Registry::Crates => self.crates_source(&download)?,
            Registry::Npm => self.npm_source(&download)?,
            Registry::Debian | Registry::Ours => bail!("there is nothing to fetch"),
        };
        self.check(&archive)?;
        let sources = place.join("sources");
        std::fs::create_dir_all(&sources)?;
        shell::run(
            shell::command("tar")
                .args(["--extract", "--gzip", "--strip-components=1", "--file"])
                .arg(&archive)
                .arg("--directory")
                .arg(&sources),
        )?;
        self.rewrite(&sources.join("tests"))?;
        match self.registry {
            Registry::Pypi => python_tests(&sources, place)?,
            Registry::Crates => rust_tests(&sources, place, &folder.join("cargo"))?,
            Registry::Npm => self.node_tests(&sources, place)?,
            Registry::Debian | Registry::Ours => {}
        }
        std::fs::remove_dir_all(download)?;
        Ok(())
    }

    fn check(&self, archive: &Path) -> Result<()> {
        let sum = shell::output(shell::command("sha256sum").arg(archive))?;
        let sum = sum.split_whitespace().next().unwrap_or_default();
        ensure!(
            sum == self.sha256,
            "{} has the hash {sum}, and tests/compat/suites.json pins {}",
            archive.display(),
            self.sha256
        );
        Ok(())
    }

    fn pypi_source(&self, folder: &Path, download: &Path) -> Result<PathBuf> {
        // psycopg2's set-up asks for pg_config before it says its own name.
        let tools = setup::postgres_tools().context("no PostgreSQL tools")?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::env::split_paths(&path).chain([tools]))?;
        shell::run(
            shell::command(folder.join("python/bin/pip"))
                .args(["download", "--quiet", "--disable-pip-version-check"])
                .args(["--no-deps", "--no-binary", &self.package, "--dest"])
                .arg(download)
                .arg(format!("{}=={}", self.package, self.version))
                .env("PATH", path),
        )?;
        only_entry(download)
    }

    fn npm_source(&self, download: &Path) -> Result<PathBuf> {
        shell::run(
            shell::command("npm")
                .args(["pack", "--silent", "--pack-destination"])
                .arg(download)
                .arg(format!("{}@{}", self.package, self.version)),
        )?;
        only_entry(download)
    }

    /// Cargo's own copy of the archive, fetched for a package that depends on it.
    fn crates_source(&self, download: &Path) -> Result<PathBuf> {
        let manifest = format!(
            "[package]\nname = \"fetch\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n\
             [lib]\npath = \"lib.rs\"\n\n[dependencies]\n{} = \"={}\"\n\n[workspace]\n",
            self.package, self.version
        );
        std::fs::write(download.join("Cargo.toml"), manifest)?;
        std::fs::write(download.join("lib.rs"), "")?;
        shell::run(shell::cargo().arg("fetch").current_dir(download))?;
        let metadata = shell::output(
            shell::cargo()
                .args(["metadata", "--format-version", "1", "--offline"])
                .current_dir(download),
        )?;
        let metadata: Value = serde_json::from_str(&metadata)?;
        let packages = metadata.get("packages").and_then(Value::as_array);
        let packages = packages.context("no packages")?;
        let package = packages
            .iter()
            .find(|p| text(p, "/name") == Some(&self.package));
        let manifest = package.and_then(|p| text(p, "/manifest_path"));
        let sources = Path::new(manifest.context("no such package")?)
            .parent()
            .context("no folder")?;
        archive_of(sources).with_context(|| format!("no archive of {}", sources.display()))
    }

    /// Replaces the addresses of the servers that the suite's authors have.
    fn rewrite(&self, folder: &Path) -> Result<()> {
        if self.rewrite.is_empty() {
            return Ok(());
        }
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                self.rewrite(&path)?;
                continue;
            }
            let text = std::fs::read_to_string(&path)?;
            let replace = |text: String, (from, to): &(String, String)| text.replace(from, to);
            std::fs::write(&path, self.rewrite.iter().fold(text, replace))?;
        }
        Ok(())
    }

    /// The tests of an earlier release that still shipped them, for the released package.
    fn node_tests(&self, sources: &Path, place: &Path) -> Result<()> {
        std::fs::rename(sources.join("test"), place.join("test"))?;
        std::fs::remove_dir_all(sources)?;
        // They ask for what is one folder up.
        let index = format!("module.exports = require('{}')\n", self.package);
        Ok(std::fs::write(place.join("index.js"), index)?)
    }
}

/// `registry/src/INDEX/NAME-VERSION` is made of `registry/cache/INDEX/NAME-VERSION.crate`.
fn archive_of(sources: &Path) -> Option<PathBuf> {
    let index = sources.parent()?;
    let registry = index.parent()?.parent()?;
    let file = format!("{}.crate", sources.file_name()?.to_str()?);
    let archive = registry.join("cache").join(index.file_name()?).join(file);
    archive.exists().then_some(archive)
}

/// The tests and what configures them, without the package: they are to import the installed one. Only
/// SQLAlchemy's cannot do without it, which lies in `lib`: the driver below is what they exercise.
fn python_tests(sources: &Path, place: &Path) -> Result<()> {
    for part in ["tests", "test", "lib", "setup.cfg", "pyproject.toml"] {
        if sources.join(part).exists() {
            std::fs::rename(sources.join(part), place.join(part))?;
        }
    }
    Ok(std::fs::remove_dir_all(sources)?)
}

/// Builds the test program, and notes which file that is.
fn rust_tests(sources: &Path, place: &Path, built: &Path) -> Result<()> {
    let manifest = sources.join("Cargo.toml");
    // Else cargo takes it for a forgotten member of this workspace.
    let text = std::fs::read_to_string(&manifest)? + "\n[workspace]\n";
    std::fs::write(&manifest, text)?;
    let mut build = shell::cargo();
    build
        .current_dir(sources)
        .args([
            "test",
            "--locked",
            "--all-features",
            "--no-run",
            "--test",
            "*",
        ])
        .args(["--message-format", "json"])
        .env("CARGO_TARGET_DIR", built)
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    let program = test_program(&shell::output(&mut build)?)?;
    Ok(std::fs::write(place.join("program"), program)?)
}

fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer)?.as_str()
}

fn test_program(messages: &str) -> Result<String> {
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line)?;
        if message.pointer("/profile/test") == Some(&Value::Bool(true))
            && let Some(program) = text(&message, "/executable")
        {
            return Ok(program.to_owned());
        }
    }
    bail!("cargo built no test program")
}

/// What the suites of Node.js need, as the lock file says.
fn node_modules(folder: &Path) -> Result<()> {
    let lock = here("node/package-lock.json");
    setup::stamped(&folder.join("node_modules/.hoop-setup"), &lock, || {
        for file in ["package.json", "package-lock.json"] {
            std::fs::copy(here("node").join(file), folder.join(file))?;
        }
        let mut npm = Command::new("npm");
        npm.current_dir(folder)
            .args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
        shell::run(&mut npm)
    })
}

fn only_entry(folder: &Path) -> Result<PathBuf> {
    let mut entries = std::fs::read_dir(folder)?;
    let first = entries.next().context("nothing was downloaded")??;
    Ok(first.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_is_in_the_table() {
        let all = Arguments {
            suites: Vec::new(),
            quick: false,
            ssh: false,
            fetch: false,
            long: false,
        };
        let count = |ssh| {
            let arguments = Arguments { ssh, ..all.clone() };
            chosen(&arguments).unwrap().len()
        };
        assert!(count(false) > 3 && count(true) > 3);
        let quick = Arguments { quick: true, ..all };
        assert!(!chosen(&quick).unwrap().is_empty());
        let unknown = Arguments {
            suites: vec!["nothing".to_owned()],
            ..quick
        };
        assert!(chosen(&unknown).is_err());
    }
}
