//! `hoop completions` and the manual's pages: what the command line says of itself.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Command;
use clap_complete::Shell;

#[derive(clap::Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

#[derive(clap::Args)]
pub struct Manual {
    /// The folder to write to
    folder: PathBuf,
}

pub fn completions(args: &Completions, mut command: Command) -> Result<ExitCode> {
    // Into memory: what writes to a closed pipe there would panic.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, "hoop", &mut text);
    std::io::stdout().lock().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}

pub fn manual(args: &Manual, command: Command) -> Result<ExitCode> {
    clap_mangen::generate_to(command, &args.folder)
        .with_context(|| format!("cannot write to {}", args.folder.display()))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_that_people_use_has_a_page_and_hidden_ones_have_none() {
        let folder = tempfile::tempdir().unwrap();
        let args = Manual {
            folder: folder.path().to_owned(),
        };
        let command = super::super::Arguments::command();
        manual(&args, command.clone()).unwrap();
        for sub in command.get_subcommands() {
            let page = folder.path().join(format!("hoop-{}.1", sub.get_name()));
            assert_eq!(page.exists(), !sub.is_hide_set(), "{}", page.display());
        }
        assert!(folder.path().join("hoop-policy-replay.1").exists());
        let text = std::fs::read_to_string(folder.path().join("hoop.1")).unwrap();
        assert!(
            text.starts_with(".ie") || text.contains(".TH hoop 1"),
            "{text}"
        );
    }
}
