//! `hoop doctor`: everything that must hold for hoop to hold agents back, looked at one by one.
//!
//! It needs neither a daemon nor root, and says `unknown` where they would be needed. What it
//! cannot tell it never takes for well. One file for each family of checks.

mod cgroups;
mod clients;
mod clock;
mod containers;
mod daemon;
mod disk;
mod doors;
mod finding;
mod hooks;
mod host;
mod issuers;
mod kernel;
mod processes;
mod reach;
mod sharing;
mod units;
mod upstreams;
mod views;

use std::process::ExitCode;

use anyhow::Result;

use super::ConfigArg;
use finding::{Finding, Summary};
use host::Host;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArg,
    /// Ask neither issuers nor servers
    #[arg(long)]
    offline: bool,
    /// Print one JSON object per finding, then one that counts them
    #[arg(long)]
    json: bool,
}

/// 0 without failures, 1 with some.
pub fn run(args: Args) -> Result<ExitCode> {
    let findings = examine(&args)?;
    let summary = Summary::of(&findings);
    if args.json {
        for finding in &findings {
            println!("{}", serde_json::to_string(finding)?);
        }
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        print!("{}", finding::text(&findings));
    }
    Ok(match summary.fail {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn examine(args: &Args) -> Result<Vec<Finding>> {
    let host = Host::look(&args.config.config);
    let mut findings = host.configuration();
    findings.extend(kernel::check(&host));
    findings.extend(cgroups::check(&host));
    findings.extend(daemon::check(&host));
    findings.extend(hooks::check(&host));
    findings.extend(sharing::check(&host));
    findings.extend(doors::check(&host));
    findings.extend(containers::check(&host));
    findings.push(clock::check());
    findings.extend(disk::check(&host));
    findings.extend(clients::check(&host));
    if !args.offline {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            findings.extend(issuers::check(&host).await);
            findings.extend(upstreams::check(&host).await);
        });
        // A look-up that hangs must not hold the answer.
        runtime.shutdown_background();
    }
    Ok(findings)
}
