//! `hoop replay`: one session, as it happened.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use super::sessions::DirectoryArg;
use crate::replay::{Reader, Story, Told, Transcript, find};

/// How often a live recording is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

#[derive(clap::Args)]
pub struct Args {
    /// The session's id, or how it begins
    session: String,
    #[command(flatten)]
    directory: DirectoryArg,
    /// Go on as the session does, until it ends
    #[arg(long)]
    follow: bool,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let path = find(&args.directory.directory()?, &args.session)?;
    let mut reader = Reader::open(&path)?;
    let (mut story, mut transcript) = (Story::default(), Transcript::default());
    let mut over = false;
    loop {
        while let Some(event) = reader.next_event()? {
            over |= matches!(event.told, Told::Seal(..));
            for line in story.tell(event) {
                match args.json {
                    true => println!("{}", serde_json::to_string(&line)?),
                    false => print!("{}", transcript.line(&line)),
                }
            }
        }
        if over || !args.follow {
            break;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    if !over && !args.json {
        println!("(the recording is open: the session goes on, or its worker was killed)");
    }
    Ok(ExitCode::SUCCESS)
}
