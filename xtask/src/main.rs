//! `cargo xtask …`: the one front door for people and for CI; one file per command.

mod agent;
mod bench;
mod build;
mod compat;
mod demo;
mod fuzz;
mod kernel;
mod kubernetes;
mod load;
mod package;
mod products;
mod setup;
mod shell;
mod test;
mod tidy;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Everything that is done with this repository",
    version
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing for building, the demo and the tests, and say what was chosen
    Setup(setup::Arguments),
    /// Build the kernel object, then the `hoop` binary that embeds it
    Build(build::Arguments),
    /// Attach the kernel programs to a cgroup, without a daemon
    Load(load::Arguments),
    /// Remove them again
    Unload(load::Arguments),
    /// Say of each hook whether it is attached
    Status(load::Arguments),
    /// Show hoop at work: a real server, issuer, daemon and agent
    Demo(demo::Arguments),
    /// Run a command as the agent of a world that `demo --stay` left up
    Agent(agent::Arguments),
    /// Check everything: format, tidy, lints, unit and whole-system tests
    Test(test::Arguments),
    /// Compare hoop with a direct connection, a plain relay and pgbouncer
    Bench(bench::Arguments),
    /// Run the clients' own test suites, direct and through hoop, and explain what differs
    Compat(compat::Arguments),
    /// Check the rules that the compiler does not
    Tidy,
    /// Run the fuzz targets for a bounded time
    Fuzz(fuzz::Arguments),
    /// Make the Debian package
    Package(package::Arguments),
    /// Install it on a whole Debian host with another kernel, in QEMU: every step from install to removal
    Vm(vm::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Setup(arguments) => setup::run(&arguments),
        Command::Build(arguments) => build::run(&arguments),
        Command::Load(arguments) => load::run("load", &arguments),
        Command::Unload(arguments) => load::run("unload", &arguments),
        Command::Status(arguments) => load::run("status", &arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Agent(arguments) => agent::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Compat(arguments) => compat::run(&arguments),
        Command::Tidy => tidy::run(),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Package(arguments) => package::run(&arguments),
        Command::Vm(arguments) => vm::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
