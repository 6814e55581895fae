//! The command line: one file per subcommand, each with its `Args` and its `run`.
//!
//! It is a contract: every subcommand prints for people, and with `--json` one object per line
//! whose keys are kept. Exit codes: 0 done or allowed, 1 failed, 2 wrong usage, 3 refused,
//! 4 would ask a human.

mod agent;
mod approvals;
mod break_glass;
mod capture;
mod check;
mod console;
mod control;
mod discover;
mod doctor;
mod events;
mod exec;
mod generate;
mod home;
mod log;
mod mask;
mod metrics;
mod pipe;
mod policy;
mod policy_expect;
mod policy_replay;
mod replay;
mod report;
mod run;
mod sessions;
mod since;
mod status;
mod trust;
mod trust_kube;
mod trust_ssh;
mod trust_undo;
mod upgrade;
mod verify;
mod visible;
mod whoami;
mod worker;
mod written;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Where the configuration is, unless `--config` says otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/hoop/hoop.toml";

#[derive(Parser)]
#[command(
    name = "hoop",
    version,
    about = "Enforcement point between AI agents and the systems they reach",
    after_help = "The guide is /usr/share/doc/hoop/docs/OPERATOR.md."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon in the foreground, as a service manager wants it
    Run(run::Args),
    /// Say whether a configuration would be taken, and what is wrong with it
    Check(check::Args),
    /// Say as whom hoop takes a cgroup or a process, or exactly why it does not
    Whoami(whoami::Args),
    /// Ask the policies about a request, without touching any server
    Policy(policy::Args),
    /// Show what the daemon governs, and whether it is well
    Status(status::Args),
    /// Look for whatever keeps hoop from holding agents back, with the command that mends it
    Doctor(doctor::Args),
    /// List what agents in discover mode reached, and what was refused to others
    Discover(discover::Args),
    /// What the masks leave of a value or a result, without touching any server
    Mask(mask::Args),
    /// Suspend an agent, or let it go on
    Agent(agent::Args),
    /// Print the daemon's counters in Prometheus' text format
    Metrics(metrics::Args),
    /// List what was recorded, or end what goes on now
    Sessions(sessions::Args),
    /// Show one session as it happened
    Replay(replay::Args),
    /// Count what was refused, asked about or masked, with what would let it through
    Report(report::Args),
    /// Say whether recordings are as they were written
    Verify(verify::Args),
    /// Show what the daemon noted outside any session
    Events(events::Args),
    /// Answer what agents may do only with somebody's approval
    Approvals(approvals::Args),
    /// Sign in at the console as the account that runs this
    Console(console::Args),
    /// Have another build take over from the running daemon, without ending a session
    Upgrade(upgrade::Args),
    /// Let an agent's connections past hoop for a while, in an emergency
    BreakGlass(break_glass::Args),
    /// Start a program by hand in an agent's cgroup
    Exec(exec::Args),
    /// Give clients the CA that vouches for hoop, and take it back
    Trust(trust::Args),
    /// Print what completes this command line in a shell
    Completions(generate::Completions),
    /// Write the manual's pages; the package holds them
    #[command(hide = true)]
    Manual(generate::Manual),
    /// The kernel programs by hand, where no daemon runs
    Capture(capture::Args),
    /// The unprivileged half of the daemon; `hoop run` starts it
    #[command(hide = true)]
    Worker(worker::Args),
    /// The process that serves the console; `hoop run` starts it
    #[command(hide = true)]
    ServeConsole(worker::Args),
}

/// Which configuration a subcommand reads.
#[derive(clap::Args, Clone, Debug)]
pub struct ConfigArg {
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "HOOP_CONFIG", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
}

/// Runs the command line that the process was started with.
pub fn main() -> ExitCode {
    let command = Arguments::parse().command;
    let serves = matches!(
        command,
        Command::Run(_) | Command::Worker(_) | Command::ServeConsole(_)
    );
    if !serves {
        pipe::end_with_the_reader();
    }
    let outcome = match command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Whoami(args) => whoami::run(args),
        Command::Policy(args) => policy::run(args),
        Command::Status(args) => status::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Discover(args) => discover::run(args),
        Command::Mask(args) => mask::run(args),
        Command::Agent(args) => agent::run(args),
        Command::Metrics(args) => metrics::run(args),
        Command::Sessions(args) => sessions::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Report(args) => report::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Events(args) => events::run(args),
        Command::Approvals(args) => approvals::run(args),
        Command::Console(args) => console::run(args),
        Command::Upgrade(args) => upgrade::run(args),
        Command::BreakGlass(args) => break_glass::run(args),
        Command::Exec(args) => exec::run(args),
        Command::Trust(args) => trust::run(args),
        Command::Completions(args) => generate::completions(&args, Arguments::command()),
        Command::Manual(args) => generate::manual(&args, Arguments::command()),
        Command::Capture(args) => capture::run(args),
        Command::Worker(args) => worker::run(args),
        Command::ServeConsole(args) => worker::serve_console(args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("hoop: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
