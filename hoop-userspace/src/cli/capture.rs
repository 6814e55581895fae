//! `hoop capture load|unload|status`: the kernel programs by hand, where no daemon runs.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::capture::{Capture, HookHealth};
use crate::config;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Attach the programs to a cgroup; without a daemon they refuse every connection of it
    Load {
        #[command(flatten)]
        place: Place,
        /// A resolver whose port 53 stays reachable; may be given several times
        #[arg(long = "resolver", value_name = "ADDRESS")]
        resolvers: Vec<IpAddr>,
    },
    /// Remove every link and map that is pinned: governance ends
    Unload {
        #[command(flatten)]
        place: Place,
    },
    /// Say of each hook whether it is attached to the cgroup as it is now
    Status {
        #[command(flatten)]
        place: Place,
        /// Print one JSON object per hook
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args)]
struct Place {
    /// The cgroup, below the cgroup2 mount; never the root
    #[arg(long)]
    cgroup: String,
    /// Where links and maps are pinned
    #[arg(long, default_value = "/sys/fs/bpf/hoop")]
    pins: PathBuf,
}

impl Place {
    fn config(self, resolvers: Vec<IpAddr>) -> config::Capture {
        let Self { cgroup, pins } = self;
        config::Capture {
            attach: cgroup,
            resolvers,
            port: 0,
            pins,
            lsm: config::LsmTier::default(),
        }
    }
}

/// 1 if any hook is not where it should be.
pub fn run(args: Args) -> Result<ExitCode> {
    match args.what {
        What::Load { place, resolvers } => {
            let config = place.config(resolvers);
            let capture = Capture::load(&config).context("cannot load the kernel programs")?;
            let shown = show(&capture.health(), false);
            println!("LSM tier           {}", capture.lsm().text());
            Ok(shown)
        }
        What::Unload { place } => {
            Capture::unload(&place.config(Vec::new())).context("cannot unload")?;
            Ok(ExitCode::SUCCESS)
        }
        What::Status { place, json } => {
            let config = place.config(Vec::new());
            let shown = show(&Capture::pinned_health(&config)?, json);
            if !json {
                let lsm = Capture::pinned_lsm(&config)?;
                println!("LSM tier           {}", lsm.text());
            }
            Ok(shown)
        }
    }
}

fn show(health: &[HookHealth], json: bool) -> ExitCode {
    for hook in health {
        if json {
            println!("{}", serde_json::json!(hook));
        } else {
            println!("{}", line(hook));
        }
    }
    if health.iter().all(|hook| hook.healthy) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn line(hook: &HookHealth) -> String {
    let state = match hook {
        HookHealth { healthy: true, .. } => format!("attached to cgroup {}", hook.attached_to),
        HookHealth { expected: 0, .. } => "its cgroup does not exist".to_owned(),
        HookHealth { program_id: 0, .. } => "NOT ATTACHED".to_owned(),
        HookHealth { attached_to: 0, .. } => {
            "DEFUNCT: its cgroup was removed; load again".to_owned()
        }
        HookHealth { pinned: false, .. } => "NOT PINNED".to_owned(),
        _ => format!(
            "attached to cgroup {}, NOT {}",
            hook.attached_to, hook.expected
        ),
    };
    format!("{:<18} {state}", hook.hook)
}
