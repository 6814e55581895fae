//! The table of suites, tests/compat/suites.json: which, in what version, and how each is run.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// A row of the table, without what only `cargo xtask compat` needs, which fetched it.
#[derive(Clone, Debug, Deserialize)]
pub struct Suite {
    pub name: String,
    /// What its clients speak to.
    #[serde(default)]
    pub server: Server,
    /// The client that it exercises, and how that speaks.
    pub client: String,
    /// What its tests are part of.
    pub package: String,
    pub version: String,
    pub runner: Runner,
    /// SQL that its database needs first.
    #[serde(default)]
    pub prepare: Vec<String>,
    /// A regular expression of what is no part of a test's name.
    #[serde(default)]
    pub strip: String,
    /// More of the environment, where DATABASE stands for the database's name, and THERE for a folder
    /// of the account on the SSH server.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Arguments of the runner, likewise.
    pub arguments: Vec<String>,
    pub excluded: Vec<Excluded>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Server {
    #[default]
    Postgres,
    Ssh,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runner {
    Pytest,
    Libtest,
    Mocha,
    /// OpenSSH's regression tests.
    Regress,
    /// A script of tests/compat/ssh.
    Script,
}

/// What is run on neither side. A test that ends in `*` stands for all that begin so.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Excluded {
    pub test: String,
    pub why: String,
}

pub fn read() -> Result<Vec<Suite>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat/suites.json");
    serde_json::from_str(&super::read(&path)?)
        .with_context(|| format!("{} is not the table of suites", path.display()))
}

pub fn find<'a>(suites: &'a [Suite], name: &str) -> Result<&'a Suite> {
    let named = suites.iter().find(|suite| suite.name == name);
    named.with_context(|| format!("no suite {name:?}"))
}

impl Suite {
    /// The row that excludes the test.
    pub fn excluding(&self, test: &str) -> Option<&Excluded> {
        self.excluded.iter().find(|row| fits(&row.test, test))
    }
}

/// Whether a row's name, which may end in `*`, is the test's.
pub fn fits(pattern: &str, test: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => test.starts_with(start),
        None => test == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        for suite in read().unwrap() {
            assert!(!suite.client.is_empty(), "{}", suite.name);
            for row in &suite.excluded {
                assert!(!row.why.is_empty(), "{}", row.test);
            }
        }
    }
}
