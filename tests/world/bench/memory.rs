//! What hoop holds in memory: for each session at rest, and while a large result passes.

use std::time::Duration;

use anyhow::Result;
use hoop_tests::idle::{self, Idle, Memory};
use hoop_tests::{READER, Who, World};

pub const IDLE: &str = "memory of idle sessions";
pub const LARGE: &str = "memory during a 1 GB result";

const SESSIONS: usize = 5_000;

/// A kilobyte in each of a million rows.
const GIGABYTE: &str = "SELECT repeat('x', 1000) FROM generate_series(1, 1000000)";

/// Idle sessions are of a server that only logs them in: PostgreSQL would start a process for each.
pub fn idle(world: &World) -> Result<String> {
    eprintln!("{IDLE}");
    idle::serve(&world.place)?;
    let before = both(world)?;
    let held = Idle::open(world, SESSIONS)?;
    let after = both(world)?;
    drop(held);
    let each =
        |before: u64, after: u64| after.saturating_sub(before) as f64 / SESSIONS as f64 / 1024.0;
    Ok(format!(
        "\n{SESSIONS} idle sessions, of a server that only logs them in: {:.1} KiB each in the worker, \
         {:.1} KiB each in the keeper.\n",
        each(before[0].share, after[0].share),
        each(before[1].share, after[1].share),
    ))
}

pub fn large(world: &World) -> Result<String> {
    eprintln!("{LARGE}");
    let worker = world.daemon.worker()?;
    // What is made once is made before.
    world
        .psql(Who::Agent(READER), &[], "SELECT count(*) FROM orders")?
        .ok()?;
    let rest = Memory::of(worker)?;
    Memory::forget_peak(worker)?;
    let mut psql = world.command(Who::Agent(READER), "psql")?;
    psql.args(["-X", "-A", "-t", "-q", "-o", "/dev/null", "-c", GIGABYTE]);
    hoop_tests::run(&mut psql, "", Duration::from_secs(120))?.ok()?;
    let after = Memory::of(worker)?;
    let megabytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    Ok(format!(
        "\nA result of 1 GB: at most {:.1} MiB above rest in the worker, which has {:.1} MiB at rest.\n",
        megabytes(after.peak.saturating_sub(rest.resident)),
        megabytes(rest.resident),
    ))
}

/// Worker and keeper.
fn both(world: &World) -> Result<[Memory; 2]> {
    Ok([
        Memory::of(world.daemon.worker()?)?,
        Memory::of(world.daemon.keeper())?,
    ])
}
