//! `hoop discover`: what agents in discover mode reached, and what the kernel refused to others; with
//! `--host` what everything on the host reaches, without a daemon: the material from which an operator
//! writes resources and `egress_allow`, or has them written (`--toml`).

mod draft;
mod host;
mod line;
mod merge;
mod names;
mod probe;
mod protocol;

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use super::control::DaemonArg;
use super::since;
use crate::attribute::cgroup2_mount;
use crate::keeper::control::Ask;
use crate::keeper::seen::{Row, Verdict};
use crate::keeper::status::stamp;
use host::Watching;
use line::{Line, clean};
use merge::Tally;
use names::Names;
use protocol::By;

const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Cgroups of the slice that are listed for a configuration.
const MOST_EXISTING: usize = 10_000;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    daemon: DaemonArg,
    /// Only this agent
    #[arg(long, conflicts_with = "host")]
    agent: Option<String>,
    /// Watch everything on this host, without daemon, configuration or kernel program
    #[arg(long)]
    host: bool,
    /// How long to watch, such as 60s, 15m or 2h; an interrupt ends it sooner, and prints
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = lasting, requires = "host")]
    lasts: Duration,
    /// Do not ask resolvers for the names of addresses
    #[arg(long, requires = "host")]
    no_names: bool,
    /// Ask up to 64 of the destinations what they speak: opens a connection or two to each
    #[arg(long, requires = "host")]
    probe: bool,
    /// Print a configuration that only watches, with what was seen
    #[arg(long, conflicts_with = "json")]
    toml: bool,
    /// In the configuration, the unit of an agent; may be given several times
    #[arg(long = "agent-unit", value_name = "NAME", requires = "toml")]
    units: Vec<String>,
    /// In the configuration, the slice of agents, below the cgroup2 mount [default: the daemon's, or
    /// agents.slice]
    #[arg(long, value_name = "CGROUP", requires = "toml")]
    slice: Option<String>,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<ExitCode> {
    match args.host {
        true => of_host(&args),
        false => of_daemon(&args),
    }
}

fn of_daemon(args: &Args) -> Result<ExitCode> {
    let mut rows = rows(&args.daemon)?;
    rows.retain(|row| args.agent.is_none() || row.key.agent == args.agent);
    if args.toml {
        // Of Unix and other sockets a configuration has nothing to say for one agent.
        let internet = |row: &&Row| !matches!(row.key.how.as_str(), "unix" | "socket");
        let lines = rows.iter().filter(internet).map(|row| {
            let key = &row.key;
            Line::of_daemon(
                row,
                protocol::guess(None, &key.executable, key.destination.port()),
            )
        });
        let lines = lines.collect();
        print!(
            "{}",
            configuration(args, lines, "from what the daemon saw".into(), Vec::new())?
        );
        return Ok(ExitCode::SUCCESS);
    }
    for row in &rows {
        if args.json {
            println!("{}", serde_json::to_string(row)?);
        } else {
            println!("{}", shown(row));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(daemon: &DaemonArg) -> Result<Vec<Row>> {
    let answer = daemon.ask(&Ask::Discover)?;
    serde_json::from_value(answer).context("the daemon is of another version")
}

fn of_host(args: &Args) -> Result<ExitCode> {
    let lasts = args.lasts.as_secs();
    let watching = host::watch(args.lasts, || {
        eprintln!("watching this host for {lasts} s; an interrupt (Ctrl-C) ends it, and prints");
    })?;
    // A daemon that watches agents knows names that nobody else does; there need be none.
    let mut names = Names::known(&rows(&args.daemon).unwrap_or_default());
    if !args.no_names {
        let tallies = watching.tallies.iter();
        names.ask(tallies.map(|tally| (&*tally.owner.cgroup, tally.destination)));
    }
    let mut lines: Vec<Line> = watching
        .tallies
        .iter()
        .map(|tally| of_tally(tally, &watching, &names))
        .collect();
    if args.probe {
        ask(&mut lines, &watching);
    }
    let lasted = watching.lasted.as_secs();
    if args.toml {
        let origin = format!("after watching the host for {lasted} s");
        print!("{}", configuration(args, lines, origin, watching.limits)?);
        return Ok(ExitCode::SUCCESS);
    }
    for limit in &watching.limits {
        eprintln!("warning: {limit}");
    }
    if args.json {
        for line in &lines {
            println!("{}", serde_json::to_string(line)?);
        }
    } else if lines.is_empty() {
        println!("nothing on this host had a connection within {lasted} s");
    } else {
        print!("{}", line::table(&lines));
    }
    Ok(ExitCode::SUCCESS)
}

fn of_tally(tally: &Tally, watching: &Watching, names: &Names) -> Line {
    let destination = tally.destination;
    let server = watching.servers.get(&(tally.namespace, destination));
    let executable = &tally.owner.executable;
    let guess = protocol::guess(server.map(String::as_str), executable, destination.port());
    Line {
        cgroup: tally.owner.cgroup.clone(),
        unit: crate::attribute::unit(&tally.owner.cgroup),
        executable: executable.clone(),
        namespace: tally.namespace,
        own_namespace: watching
            .doors
            .get(&tally.namespace)
            .is_some_and(Option::is_none),
        how: if tally.udp { "udp" } else { "tcp" },
        destination,
        names: names.of_address(&tally.owner.cgroup, destination.ip()),
        reverse_name: names.reverse_of(destination.ip()),
        protocol: guess.map(|(protocol, _)| protocol),
        protocol_by: guess.map(|(_, by)| by),
        connections: tally.connections,
        open: tally.open,
        inferred: tally.inferred,
        unanswered: tally.unanswered,
        sent: tally.sent,
        received: tally.received,
        first: tally.first,
        last: tally.last,
        agent: None,
        why: None,
    }
}

/// Asks each destination once, however many connected to it.
fn ask(lines: &mut [Line], watching: &Watching) {
    let mut places = HashMap::new();
    let mut asked = Vec::new();
    for line in lines.iter().filter(|line| line.how == "tcp") {
        let place = (line.namespace, line.destination);
        // Of a namespace that is gone nobody can be asked.
        let Some(door) = watching.doors.get(&line.namespace) else {
            continue;
        };
        places.entry(place).or_insert_with(|| {
            asked.push(probe::Asked {
                destination: line.destination,
                door: door.clone(),
            });
            asked.len() - 1
        });
    }
    if let Some(more) = asked
        .len()
        .checked_sub(probe::MOST)
        .filter(|more| *more > 0)
    {
        eprintln!(
            "warning: {more} destinations are not asked, only the first {}",
            probe::MOST
        );
    }
    let answers = probe::probe(&asked);
    for line in lines.iter_mut().filter(|line| line.how == "tcp") {
        let place = places.get(&(line.namespace, line.destination));
        if let Some(Some(protocol)) = place.and_then(|index| answers.get(*index)) {
            line.protocol = Some(protocol);
            line.protocol_by = Some(By::Probe);
        }
    }
}

fn configuration(
    args: &Args,
    lines: Vec<Line>,
    origin: String,
    limits: Vec<String>,
) -> Result<String> {
    let given = args.slice.clone();
    let slice = given.unwrap_or_else(|| args.daemon.attach());
    let slice = slice.trim_matches('/').to_owned();
    let existing = existing(&cgroup2_mount(), &slice);
    draft::text(&draft::Plan {
        lines,
        slice,
        existing,
        units: args.units.clone(),
        origin,
        limits,
    })
}

/// The cgroups of the slice that agents may be, whether or not they reached anything.
fn existing(mount: &Path, slice: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![slice.to_owned()];
    while let Some(parent) = open.pop() {
        let entries = std::fs::read_dir(mount.join(&parent)).into_iter().flatten();
        for entry in entries.flatten() {
            let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let name = entry.file_name().into_string();
            let (true, Ok(name), true) = (folder, name, found.len() < MOST_EXISTING) else {
                continue;
            };
            let path = format!("{parent}/{name}");
            match name.ends_with(".slice") {
                true => open.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    found
}

fn lasting(text: &str) -> Result<Duration, String> {
    let lasts = since::duration(text)?;
    match lasts.is_zero() || lasts > LONGEST {
        true => Err(format!("{}, 24h at most", since::UNCLEAR)),
        false => Ok(lasts),
    }
}

fn shown(row: &Row) -> String {
    let verdict = match row.key.verdict {
        Verdict::Passed => "passed ",
        Verdict::Refused => "refused",
    };
    let names = if row.names.is_empty() {
        String::new()
    } else {
        format!(" ({})", row.names.join(", "))
    };
    let why = row
        .key
        .why
        .as_ref()
        .map(|why| format!(": {why}"))
        .unwrap_or_default();
    let who = row.key.agent.as_deref().unwrap_or(&row.key.cgroup);
    format!(
        "{verdict} {:>6}x  {}  {}  {} {}{names}{why}  last {}",
        row.count,
        clean(who),
        clean(&row.key.executable),
        row.key.how,
        match row.key.how.as_str() {
            "unix" | "socket" => String::new(),
            _ => row.key.destination.to_string(),
        },
        stamp(row.last),
    )
}
