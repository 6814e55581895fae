//! `hoop events`: what the daemon noted outside any session.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use super::ConfigArg;
use crate::config::Bundle;
use crate::replay::{Reader, Story, Transcript, ledgers};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArg,
    /// The ledgers' directory, instead of the configuration's
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let directory = match args.directory {
        Some(directory) if !directory.is_dir() => {
            bail!("there is no directory {}", directory.display())
        }
        Some(directory) => directory,
        None => {
            let config = Bundle::without_secrets(&args.config.config)
                .context("the configuration says where ledgers are; or give --directory")?;
            config.worker.state.join(crate::keeper::folders::KEEPER)
        }
    };
    for path in ledgers(&directory) {
        let mut reader = Reader::open(&path)?;
        let (mut story, mut transcript) = (Story::default(), Transcript::default());
        while let Some(event) = reader.next_event()? {
            for line in story.tell(event) {
                match args.json {
                    true => println!("{}", serde_json::to_string(&line)?),
                    false => print!("{}", transcript.line(&line)),
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
