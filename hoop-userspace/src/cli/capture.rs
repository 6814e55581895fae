//! `hoop capture load|unload|status`: the kernel programs by hand, where no daemon runs.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::written::Written;
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
        /// The cgroup, below the cgroup2 mount; never the root
        #[arg(long)]
        cgroup: String,
        #[command(flatten)]
        place: Place,
        /// A resolver whose port 53 stays reachable; may be given several times
        #[arg(long = "resolver", value_name = "ADDRESS")]
        resolvers: Vec<IpAddr>,
    },
    /// Remove every link and map that is pinned: governance ends
    Unload {
        /// Not needed: what is pinned says where it is attached
        #[arg(long, hide = true)]
        cgroup: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Say of each hook whether it is attached to the cgroup as it is now; fail if one is not
    Status {
        /// The cgroup, where it is not the configuration's
        #[arg(long)]
        cgroup: Option<String>,
        #[command(flatten)]
        place: Place,
        /// Only name hooks that are not attached
        #[arg(long, conflicts_with = "json")]
        quiet: bool,
        /// Print one JSON object per hook
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args)]
struct Place {
    /// Where links and maps are pinned, where it is not as the configuration says
    #[arg(long, value_name = "DIR")]
    pins: Option<PathBuf>,
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "HOOP_CONFIG", default_value = super::DEFAULT_CONFIG)]
    config: PathBuf,
}

impl Place {
    fn pins(&self) -> Result<PathBuf> {
        match &self.pins {
            Some(pins) => Ok(pins.clone()),
            None => {
                let why = "where the programs are pinned is not known; say it with --pins";
                Ok(Written::read(&self.config).context(why)?.pins)
            }
        }
    }

    fn attach(&self) -> Result<String> {
        let why = "to which cgroup they are to be attached is not known; say it with --cgroup";
        Ok(Written::read(&self.config).context(why)?.attach)
    }
}

fn at(attach: String, pins: PathBuf, resolvers: Vec<IpAddr>) -> config::Capture {
    config::Capture {
        attach,
        resolvers,
        port: 0,
        pins,
        lsm: config::LsmTier::default(),
    }
}

/// 1 if any hook is not where it should be.
pub fn run(args: Args) -> Result<ExitCode> {
    match args.what {
        What::Load {
            cgroup,
            place,
            resolvers,
        } => {
            let config = at(cgroup, place.pins()?, resolvers);
            let capture = Capture::load(&config).context("cannot load the kernel programs")?;
            let shown = show(&capture.health(), line);
            println!("LSM tier           {}", capture.lsm().text());
            Ok(shown)
        }
        What::Unload { cgroup: _, place } => {
            let pins = place.pins()?;
            if Capture::unload(&pins).context("cannot unload")? {
                let pins = pins.display();
                println!("{pins} is removed: agents that go on running are governed no longer");
            }
            Ok(ExitCode::SUCCESS)
        }
        What::Status {
            cgroup,
            place,
            quiet,
            json,
        } => {
            let cgroup = match cgroup {
                Some(cgroup) => cgroup,
                None => place.attach()?,
            };
            let config = at(cgroup, place.pins()?, Vec::new());
            let health = Capture::pinned_health(&config)?;
            if quiet {
                let unwell: Vec<_> = health.into_iter().filter(|hook| !hook.healthy).collect();
                return Ok(show(&unwell, line));
            }
            if json {
                return Ok(show(&health, |hook| serde_json::json!(hook).to_string()));
            }
            let shown = show(&health, line);
            println!(
                "LSM tier           {}",
                Capture::pinned_lsm(&config)?.text()
            );
            Ok(shown)
        }
    }
}

fn show(health: &[HookHealth], line: impl Fn(&HookHealth) -> String) -> ExitCode {
    for hook in health {
        println!("{}", line(hook));
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
