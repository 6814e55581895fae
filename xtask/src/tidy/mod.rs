//! `cargo xtask tidy`: the rules of this repository that the compiler does not check.
//!
//! Each rule is a function from a file's text to complaints, so that each has its own test.

mod direction;
mod named;
mod source;
mod tree;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::shell;

/// What is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Complaint {
    pub file: String,
    /// Counted from 1; 0 means the file as a whole.
    pub line: usize,
    pub what: String,
}

pub fn run() -> Result<()> {
    let files = tracked()?;
    let mut complaints = tree::top_level(&files);
    for file in &files {
        let path = shell::root().join(file);
        // Listed by git but deleted in the work tree, or a link: nothing to read.
        let Ok(bytes) = std::fs::read(&path) else {
            continue;
        };
        let Ok(text) = String::from_utf8(bytes) else {
            continue;
        };
        complaints.extend(tree::places(file, &text));
        let read = |path: &str| std::fs::read_to_string(shell::root().join(path)).ok();
        complaints.extend(named::check(file, &text, read));
        if file.ends_with(".rs") {
            let source = source::Source::new(file, &text);
            complaints.extend(source::check(&source));
            complaints.extend(direction::check(&source));
        }
    }
    for Complaint { file, line, what } in &complaints {
        eprintln!("{file}:{line}: {what}");
    }
    if complaints.is_empty() {
        println!("tidy: {} files, nothing to complain about", files.len());
        return Ok(());
    }
    bail!("tidy: {} complaints", complaints.len())
}

/// What git tracks or would add.
fn tracked() -> Result<Vec<String>> {
    let mut git = shell::command("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let listed = shell::output(&mut git).context("cannot list the repository's files")?;
    let mut files: Vec<String> = listed
        .lines()
        .filter(|line| shell::root().join(PathBuf::from(line)).exists())
        .map(str::to_owned)
        .collect();
    files.sort();
    files.dedup();
    Ok(files)
}
