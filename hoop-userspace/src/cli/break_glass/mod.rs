//! `hoop break-glass`: lets an agent's connections past hoop, in an emergency and for a while.
//!
//! It writes straight into the pinned map and needs no daemon; a daemon that lives is told and
//! writes it down, and where none answers this command does. The kernel ends it by itself.

mod host;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::Uid;

use super::{ConfigArg, since};
use crate::attribute::Proc;
use crate::capture::{Bypasses, boot_now};
use crate::keeper::bypass::{self, Broken, Ended, MOST};
use crate::keeper::cgroups;
use crate::keeper::control::{self, Ask};
use crate::keeper::journal::Entry;
use crate::keeper::people;
use crate::keeper::status::{BypassStatus, stamp};
use crate::keeper::suspended::read_list;
use host::{Daemon, Host};

/// Shorter helps nobody.
const LEAST: Duration = Duration::from_secs(1);
const MAX_REASON: usize = 200;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The agent's name in the configuration
    #[arg(long, required = true)]
    agent: Option<String>,
    /// How long, such as 90s, 30m or 2h; 4h at most
    #[arg(long = "for", value_name = "TIME", required = true, value_parser = lasting)]
    lasts: Option<Duration>,
    /// Why; the ledger keeps it, and everybody sees it
    #[arg(long, required = true)]
    reason: Option<String>,
    #[command(flatten)]
    config: ConfigArg,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show for whom the glass is broken, and until when
    List {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        places: Places,
        /// Print one JSON object for each
        #[arg(long)]
        json: bool,
    },
    /// Govern an agent again, now
    End {
        /// The agent's name in the configuration
        #[arg(long)]
        agent: String,
        /// Why; the ledger keeps it
        #[arg(long, default_value = "no reason was given")]
        reason: String,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        places: Places,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// For a configuration that cannot be read.
#[derive(clap::Args)]
struct Places {
    /// The daemon's state, if the configuration does not say
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The daemon's runtime folder, if the configuration does not say
    #[arg(long, value_name = "DIR")]
    runtime: Option<PathBuf>,
    /// The pinned programs, if the configuration does not say
    #[arg(long, value_name = "DIR")]
    pins: Option<PathBuf>,
}

impl Places {
    fn host(&self, config: &ConfigArg) -> Host {
        Host::read_or_usual(
            &config.config,
            self.state.as_deref(),
            self.runtime.as_deref(),
            self.pins.as_deref(),
        )
    }
}

pub fn run(args: Args) -> Result<ExitCode> {
    // Before the file is read, which others may not.
    ensure!(
        Uid::effective().is_root() || matches!(args.command, Some(Command::List { .. })),
        "only root can break the glass or mend it: that is written into the kernel's map"
    );
    match args.command {
        Some(Command::List {
            config,
            places,
            json,
        }) => list(&places.host(&config), json)?,
        Some(Command::End {
            agent,
            reason,
            config,
            places,
            json,
        }) => end(&places.host(&config), &agent, &shown(&reason), json)?,
        None => {
            let (Some(agent), Some(lasts), Some(reason)) = (args.agent, args.lasts, args.reason)
            else {
                bail!("give --agent, --for and --reason");
            };
            let host = Host::read(&args.config.config)?;
            open(&host, &agent, lasts, &shown(&reason), args.json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn open(host: &Host, agent: &str, lasts: Duration, reason: &str, json: bool) -> Result<()> {
    operator(host)?;
    ensure!(
        !reason.is_empty(),
        "give a reason: it is what others see of this"
    );
    let mapping = host.agent(agent)?;
    ensure!(
        mapping.mode != "discover",
        "{agent} is in discover mode: nothing of it is held back"
    );
    let suspended = read_list(&host.keeper)
        .with_context(|| format!("whether {agent} is suspended cannot be told"))?;
    if suspended.iter().any(|s| s.agent.as_str() == agent) {
        bail!("{agent} is suspended: `hoop agent resume {agent}` first, if that is what you want");
    }
    // Before anything is written down: where nothing is pinned there is no glass.
    let mut map = Bypasses::open(&host.capture)?;
    let broken = Broken::new(agent, lasts, &people::myself(), reason);
    let number = broken.number;
    // Announced: should this end here, nothing passes.
    host.kept.change(|list| list.push(broken.clone()))?;
    let its = host.cgroups_of(agent);
    let entry = Entry::BypassOpened {
        agent: agent.to_owned(),
        by: broken.by.clone(),
        reason: reason.to_owned(),
        since: stamp(broken.since),
        until: stamp(broken.until),
        cgroups: its.values().cloned().collect(),
    };
    let written = match host.write_down(number, &entry) {
        Ok(written) => written,
        Err(error) => {
            host.kept
                .change(|list| list.retain(|b| b.number != number))?;
            return Err(
                error.context("the glass stays whole: what nobody would learn of is not done")
            );
        }
    };
    if its.is_empty() && written.daemon == Daemon::Dead {
        host.kept
            .change(|list| list.retain(|b| b.number != number))?;
        bail!("{agent} has no cgroup now, and no daemon lives that would notice one that comes");
    }
    let set = host.kept.change(|list| {
        let mut own = list.iter_mut();
        // Somebody may have ended it meanwhile.
        let own = own.find(|b| b.number == number && b.is_announced(boot_now()))?;
        own.begun = true;
        let mut ids = its.keys();
        Some(ids.try_for_each(|id| map.extend(*id, broken.entry())))
    });
    match set {
        Ok(Some(Ok(()))) => {}
        Ok(Some(Err(error))) => {
            // A daemon would try again, and let pass what is said to have failed.
            host.kept
                .change(|list| list.retain(|b| b.number != number))?;
            map.forget(number)?;
            return Err(error).context("the kernel's map cannot be written");
        }
        Ok(None) => {
            bail!("{agent} is governed as before: somebody ended or suspended it meanwhile")
        }
        Err(error) => {
            // What is on no list has no number that may stay.
            map.forget(number)?;
            return Err(error.into());
        }
    }
    if written.daemon != Daemon::Dead {
        // So that its status has it at once; it looks by itself every second.
        host.tell_daemon();
    }
    let status = BypassStatus {
        agent: agent.to_owned(),
        since: broken.since,
        until: broken.until,
        left_s: broken.left().as_secs(),
        by: broken.by,
        reason: reason.to_owned(),
        cgroups: its.into_values().collect(),
    };
    if json {
        println!("{}", serde_json::to_string(&status)?);
    } else {
        println!("{}", status.line());
        println!("{}", written.text());
        if written.daemon == Daemon::Dead {
            println!(
                "No daemon answers. The kernel ends this by itself; a cgroup of {agent} that is made \
                 meanwhile (its unit restarts) is governed: run this again for it."
            );
        }
    }
    Ok(())
}

fn end(host: &Host, agent: &str, reason: &str, json: bool) -> Result<()> {
    operator(host)?;
    let mut map = Bypasses::open(&host.capture)?;
    let by = people::myself();
    let now = boot_now();
    // Closed first, written down afterwards: nothing is gained by waiting.
    let changed = host.kept.change(|list| {
        let mut ended = 0;
        let goes_on = |b: &&mut Broken| b.agent == agent && (b.holds(now) || b.is_announced(now));
        for broken in list.iter_mut().filter(goes_on) {
            broken.ended = Some(Ended {
                by: by.clone(),
                reason: reason.to_owned(),
            });
            ended += 1;
        }
        let left = list.iter().filter(|broken| broken.holds(now));
        let left: BTreeSet<u64> = left.map(|broken| broken.number).collect();
        (ended, map.retain(&left))
    });
    let (ended, cut) = match changed {
        Ok(changed) => changed,
        Err(error) => {
            // Closed none the less, and said: a daemon that can read the list opens it again.
            map.remove(&host.cgroups_of(agent).into_keys().collect())?;
            return Err(error).context("closed in the kernel, but the list still has it");
        }
    };
    let cut = cut.context("the kernel's map cannot be written")?;
    if ended == 0 && cut.is_empty() {
        bail!("the glass is not broken for {agent}");
    }
    if ended == 0 {
        bail!(
            "what the kernel's map had is taken away, but the list that was looked at does not name {agent}: a daemon that keeps another one opens it again; say where it is with --state and --runtime"
        );
    }
    let told = host.tell_daemon();
    if !told {
        // The daemon does both where it lives.
        let mut its = host.cgroups_of(agent);
        // A file that is none names no agent, but the map had its cgroups.
        let paths = cgroups::below(&host.mount, &host.capture.attach);
        its.extend(paths.into_iter().filter(|(id, _)| cut.contains(id)));
        let connections =
            bypass::end_connections(&host.mount, &its, &host.ports(), &host.resolvers());
        let entry = Entry::BypassEnded {
            agent: agent.to_owned(),
            by,
            reason: reason.to_owned(),
            connections,
        };
        if let Err(error) = host.write_down_here(&entry) {
            eprintln!("hoop: it has ended, and that is in no ledger: {error:#}");
        }
        // Written down: nobody has to do it again.
        host.kept
            .change(|list| list.retain(|b| b.agent != agent || b.holds(now)))?;
    }
    if json {
        println!(
            "{}",
            serde_json::json!({ "agent": agent, "ended": ended, "daemon": told })
        );
    } else {
        println!("{agent} is governed again");
    }
    Ok(())
}

fn list(host: &Host, json: bool) -> Result<()> {
    let broken: Vec<BypassStatus> = match Uid::effective().is_root() {
        true => host.broken()?,
        // Who may not read the list may still ask the daemon.
        false => serde_json::from_value(control::ask(&host.runtime, &Ask::Bypasses)?)
            .context("the daemon is of another version")?,
    };
    if broken.is_empty() && !json {
        println!("the glass is broken for nobody");
    }
    for one in broken {
        match json {
            true => println!("{}", serde_json::to_string(&one)?),
            false => println!("{}", one.line()),
        }
    }
    Ok(())
}

/// Not from below the governed slice: what is governed does not let itself out.
fn operator(host: &Host) -> Result<()> {
    let cgroup = Proc::of(Path::new("/proc"), std::process::id()).cgroup();
    let cgroup = cgroup.context("it cannot be told in which cgroup this runs")?;
    ensure!(
        !people::is_below(&cgroup, &host.capture.attach),
        "this runs below {}, which is governed: no agent lets itself out",
        host.capture.attach
    );
    Ok(())
}

fn shown(reason: &str) -> String {
    let plain = reason.chars().filter(|c| !c.is_control());
    let text: String = plain.take(MAX_REASON).collect();
    text.trim().to_owned()
}

/// `90s`, `30m`, `2h`, `1h30m`.
fn lasting(text: &str) -> Result<Duration, String> {
    let lasts = since::duration(text)?;
    if lasts < LEAST {
        return Err(since::UNCLEAR.into());
    }
    if lasts > MOST {
        return Err(
            "at most 4h: whoever needs longer says so again, or changes the agent's mode".into(),
        );
    }
    Ok(lasts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_bounded() {
        assert_eq!(lasting("30m"), Ok(Duration::from_secs(1800)));
        assert_eq!(lasting("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(lasting("4h"), Ok(MOST));
        for bad in [
            "",
            "0s",
            "30",
            "m",
            "-1m",
            "5h",
            "3h61m",
            "99999999999999999999h",
            "1d",
            "1é",
        ] {
            assert!(lasting(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_arguments_are_required_without_a_subcommand_alone() {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let parses = |words: &[&str]| Line::try_parse_from(words).is_ok();
        assert!(parses(&[
            "x", "--agent", "a", "--for", "1m", "--reason", "r"
        ]));
        assert!(!parses(&["x", "--agent", "a", "--for", "1m"]));
        assert!(!parses(&[
            "x", "--agent", "a", "--for", "9h", "--reason", "r"
        ]));
        assert!(parses(&["x", "list"]));
        assert!(parses(&["x", "end", "--agent", "a"]));
        assert!(!parses(&["x", "end"]));
    }
}
