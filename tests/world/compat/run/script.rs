//! Scripts of tests/compat/ssh, which tell what became of each case as tests/compat/ssh/told.py writes it.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use hoop_tests::Who;

use super::{Outcome, Run, Told, pytest};

/// What told.py tells last.
const END: &str = "the end";

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
    run.bounded(&mut command, "out", "err")?;
    let mut told = Told::default();
    if let Some(begun) = pytest::take(&super::super::read(&lines)?, &mut told)? {
        let hung = Outcome::new("hung", "the script ended with it, or did not end");
        told.outcomes.insert(begun, hung);
    }
    if !told.outcomes.contains_key(END) {
        // Else what both sides leave out would go unnoticed.
        ensure!(
            run.who != Who::Direct,
            "{name} did not come to its end past hoop: see {}",
            run.file("err").display()
        );
        let short = Outcome::new("hung", "the script did not come to its end");
        told.outcomes.insert(END.to_owned(), short);
    }
    // Cases follow from each other, so the script runs as a whole.
    told.outcomes.retain(|test, _| run.wanted(test));
    Ok(told)
}
