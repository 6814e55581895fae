//! `hoop status`: what is governed now, and whether everything is well.

use std::process::ExitCode;

use super::control::DaemonArg;
use crate::keeper::control::Ask;
use crate::keeper::status::{
    BypassStatus, IdentityStatus, RetiringStatus, Status, SuspendedStatus, stamp,
};
use anyhow::{Context, Result};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    daemon: DaemonArg,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Fails where something is wrong, so that a monitor needs no parsing.
pub fn run(args: Args) -> Result<ExitCode> {
    let answer = args.daemon.ask(&Ask::Status)?;
    let status: Status =
        serde_json::from_value(answer.clone()).context("the daemon is of another version")?;
    if args.json {
        println!("{answer}");
    } else {
        print!("{}", text(&status));
    }
    Ok(if status.well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn text(status: &Status) -> String {
    let mut lines = vec![head(status)];
    if let Some(upgrade) = &status.upgrade {
        let at = stamp(upgrade.at);
        lines.push(format!("upgraded  {at} from hoop {}", upgrade.from));
    }
    lines.extend(status.retiring.iter().map(retiring));
    lines.extend(status.bypasses.iter().map(BypassStatus::line));
    match &status.reload.error {
        None => lines.push(format!(
            "config    {} (epoch {}, {})",
            status.config.display(),
            status.reload.epoch,
            stamp(status.reload.at)
        )),
        Some(error) => lines.push(format!(
            "config    {}: NOT TAKEN, epoch {} is still in force\n          {error}",
            status.config.display(),
            status.reload.epoch,
        )),
    }
    let attached = status.hooks.iter().filter(|h| h.attached).count();
    lines.push(format!(
        "capture   {attached} of {} hooks on {}",
        status.hooks.len(),
        status.attached_to
    ));
    for hook in &status.hooks {
        if let Some(problem) = &hook.problem {
            lines.push(format!("          {}: {problem}", hook.name));
        }
    }
    lines.push(format!("LSM tier  {}", status.lsm.text));
    for agent in &status.agents {
        let cgroups = if agent.cgroups.is_empty() {
            "no cgroup now".into()
        } else {
            agent.cgroups.join(", ")
        };
        lines.push(format!(
            "agent     {} ({}): {cgroups}",
            agent.name, agent.mode
        ));
        lines.extend(agent.suspended.iter().map(suspended));
        lines.extend(agent.identities.iter().map(identity));
    }
    for s in &status.sessions {
        lines.push(format!(
            "session   {} {} ({}) on {}, database {}, pid {} {}",
            s.session,
            s.agent,
            s.identity,
            s.resource,
            s.database,
            s.pid,
            s.executable.as_deref().unwrap_or("?"),
        ));
        if let Some(frozen) = &s.frozen {
            lines.push(format!(
                "          FROZEN by {} until {}: {}; `hoop sessions thaw` lets it go on",
                frozen.by,
                stamp(frozen.until),
                frozen.reason
            ));
        }
    }
    match (&status.approvals.problem, status.approvals.pending) {
        (Some(problem), _) => lines.push(format!("approvals NOBODY CAN BE ASKED: {problem}")),
        (None, 0) => {}
        (None, n) => lines.push(format!("approvals {n} waiting: hoop approvals list")),
    }
    for channel in &status.channels {
        let problem = channel.problem.as_ref();
        let problem = problem.map_or(String::new(), |why| format!(": FAILS: {why}"));
        lines.push(format!(
            "channel   {}: {} delivered, {} waiting, {} given up{problem}",
            channel.name, channel.delivered, channel.waiting, channel.given_up
        ));
    }
    let c = &status.counters;
    lines.push(format!(
        "counters  {} accepted, {} handed over, {} without origin, {} turned away, {} refused by the kernel",
        c.accepted, c.handed_over, c.no_origin, c.busy, c.kernel_refused,
    ));
    lines.join("\n") + "\n"
}

fn retiring(worker: &RetiringStatus) -> String {
    format!(
        "retiring  worker {} of hoop {} since {}: {} sessions, ended at {} at the latest",
        worker.pid,
        worker.version,
        stamp(worker.since),
        worker.sessions,
        stamp(worker.until),
    )
}

fn suspended(suspended: &SuspendedStatus) -> String {
    let instance = of_instance(suspended.instance.as_deref());
    let since = stamp(suspended.since);
    format!(
        "          {instance}SUSPENDED since {since}: {}; `hoop agent resume` lets it go on",
        suspended.why
    )
}

fn identity(identity: &IdentityStatus) -> String {
    let instance = of_instance(identity.instance.as_deref());
    if let Some(why) = &identity.refused {
        let at = stamp(identity.looked_at);
        return format!("          {instance}NOT IDENTIFIED at {at}: {why}");
    }
    let subject = identity.subject.as_deref().unwrap_or("?");
    let until = identity.expires.map_or_else(|| "?".into(), stamp);
    let bound = match identity.revocation_bound_ms {
        Some(bound) => format!(
            "a revocation is noticed within {:.1} s",
            std::time::Duration::from_millis(bound).as_secs_f64()
        ),
        None => "a revocation is not noticed before".into(),
    };
    let note = match &identity.note {
        Some(note) => format!(" ({note})"),
        None => String::new(),
    };
    format!("          {instance}{subject}, token until {until}; {bound}{note}")
}

fn of_instance(instance: Option<&str>) -> String {
    instance.map_or_else(String::new, |instance| format!("{instance}: "))
}

fn head(status: &Status) -> String {
    let worker = match (status.worker.pid, status.worker.ready) {
        (Some(pid), true) => format!("worker {pid}"),
        (Some(pid), false) => format!("worker {pid} not ready"),
        (None, _) => "no worker".into(),
    };
    let restarts = match status.worker.restarts {
        0 => String::new(),
        n => format!(", restarted {n} times"),
    };
    let well = if status.well { "well" } else { "NOT WELL" };
    format!(
        "hoop {} {well}: keeper {}, {worker}{restarts}, since {}",
        status.version,
        status.pid,
        stamp(status.since)
    )
}
