//! Scripts of tests/compat/ssh, which tell what became of each case as tests/compat/ssh/told.py writes it.

use std::path::Path;

use anyhow::{Context, Result};

use super::{Outcome, Run, Told, bounded, pytest};

pub fn run(run: &Run<'_>) -> Result<Told> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat/ssh");
    let name = run.suite.arguments.first().context("no script")?;
    let lines = run.file("outcomes");
    std::fs::write(&lines, "")?;
    let mut command = match name.ends_with(".py") {
        true => {
            let mut python = run.command(&run.folder.join("python/bin/python"))?;
            python.arg("-B");
            python
        }
        false => run.command(Path::new("bash"))?,
    };
    command.current_dir(run.hosts()?.work(&run.suite.name));
    command.arg(folder.join(name)).env("HOOP_OUTCOMES", &lines);
    bounded(&mut command, &run.file("out"), &run.file("err"))?;
    let mut told = Told::default();
    if let Some(begun) = pytest::take(&super::super::read(&lines)?, &mut told)? {
        let hung = Outcome::new("hung", "the script ended with it, or did not end");
        told.outcomes.insert(begun, hung);
    }
    // Cases follow from each other, so the script runs as a whole.
    told.outcomes.retain(|test, _| run.wanted(test));
    Ok(told)
}
