//! `hoop-world`: makes the world, shows it, measures in it; `cargo xtask` starts this program.

mod bench;
mod compat;
mod demo;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use hoop_tests::{State, Who, enter, idle, janitor};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show an agent at work, captured, decided, masked and recorded
    Demo {
        /// Leave everything up until interrupted
        #[arg(long)]
        stay: bool,
    },
    /// Compare with direct connections and other proxies
    Bench(bench::Arguments),
    /// Measure the console's start, and each of its pages, with many recorded sessions
    BenchConsole(bench::console::Arguments),
    /// Measure requests of Kubernetes, direct, through `kubectl proxy` and through hoop
    BenchKubernetes(bench::kubernetes::Arguments),
    /// Open idle sessions, say so, and hold them until standard input ends
    Hold { count: usize },
    /// Run the clients' own test suites, direct and through hoop
    Compat(compat::Arguments),
    /// Run a command as an agent of the world that stays
    Agent {
        #[arg(long)]
        direct: bool,
        #[arg(long, default_value = "billing-bot")]
        agent: String,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Become a command at a certain place
    Enter(enter::Arguments),
    /// Hold a world's mounts, and remove it when its owner is gone
    Janitor { folder: PathBuf },
    /// Wait until worlds whose owners ended are gone
    Settle,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Demo { stay } => demo::run(stay),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::BenchConsole(arguments) => bench::console::run(&arguments),
        Command::BenchKubernetes(arguments) => bench::kubernetes::run(&arguments),
        Command::Hold { count } => idle::hold(count),
        Command::Compat(arguments) => compat::run(&arguments),
        Command::Agent {
            direct,
            agent,
            command,
        } => as_agent(direct, &agent, &command),
        Command::Enter(arguments) => enter::run(&arguments),
        Command::Janitor { folder } => janitor::run(&folder),
        Command::Settle => janitor::settle(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hoop-world: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Becomes the command: its exit status, input and output are the caller's own.
fn as_agent(direct: bool, agent: &str, command: &[OsString]) -> Result<()> {
    let state = State::load()?;
    let (program, rest) = command.split_first().context("no command")?;
    let who = if direct {
        Who::Direct
    } else {
        Who::Agent(agent)
    };
    let error = state.command(who, program)?.args(rest).exec();
    Err(error).context("cannot start the command")
}
