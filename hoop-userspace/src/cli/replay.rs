//! `hoop replay`: one session, as it happened.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use super::sessions::DirectoryArg;
use crate::replay::{Cast, Reader, Story, Told, Transcript, find};

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
    #[arg(long, conflicts_with_all = ["play", "cast"])]
    json: bool,
    /// Play a terminal session as it looked
    #[arg(long, conflicts_with = "follow")]
    play: bool,
    /// How many times as fast
    #[arg(long, requires = "play", default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// The second to begin at
    #[arg(long, requires = "play", default_value_t = 0)]
    from: u64,
    /// Write a terminal session as asciicast (version 2)
    #[arg(long, conflicts_with_all = ["play", "follow"])]
    cast: bool,
}

/// Nobody looks at a screen on which nothing happens for longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| "a number is meant".to_owned())?;
    match (0.01..=1000.0).contains(&speed) {
        true => Ok(speed),
        false => Err("a number from 0.01 to 1000 is meant".into()),
    }
}

pub fn run(args: Args) -> Result<ExitCode> {
    let path = find(&args.directory.directory()?, &args.session)?;
    let mut reader = Reader::open(&path)?;
    if args.play || args.cast {
        return terminal(&mut reader, &args);
    }
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

fn terminal(reader: &mut Reader, args: &Args) -> Result<ExitCode> {
    let mut cast = Cast::default();
    while let Some(event) = reader.next_event()? {
        cast.tell(&event);
    }
    let mut out = std::io::stdout().lock();
    if args.cast {
        cast.write(&mut out)?;
    } else {
        let from = Duration::from_secs(args.from);
        cast.play(
            &mut out,
            args.speed,
            from,
            LONGEST_PAUSE,
            std::thread::sleep,
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
