//! What is measured: pgbench in its three protocols, new connections, one large result.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hoop_tests::World;

use super::Plan;
use super::routes::Route;

pub struct Load {
    pub name: &'static str,
    kind: Kind,
}

enum Kind {
    /// Select-only transactions: the protocol, how many clients.
    Select(&'static str, u32),
    /// A connection for each transaction.
    Connect(u32),
    /// All accounts in one result.
    Large,
}

pub const LOADS: &[Load] = &[
    Load {
        name: "simple, 1 client",
        kind: Kind::Select("simple", 1),
    },
    Load {
        name: "simple, 8 clients",
        kind: Kind::Select("simple", 8),
    },
    Load {
        name: "extended, 1 client",
        kind: Kind::Select("extended", 1),
    },
    Load {
        name: "extended, 8 clients",
        kind: Kind::Select("extended", 8),
    },
    Load {
        name: "prepared, 1 client",
        kind: Kind::Select("prepared", 1),
    },
    Load {
        name: "prepared, 8 clients",
        kind: Kind::Select("prepared", 8),
    },
    Load {
        name: "connection per transaction, 8",
        kind: Kind::Connect(8),
    },
    Load {
        name: "one large result",
        kind: Kind::Large,
    },
];

#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Transactions a second, or rows a second of the large result.
    pub rate: f64,
    /// Microseconds of CPU that what stands in between took for each transaction.
    pub cpu: Option<f64>,
}

impl Load {
    pub fn run(&self, world: &World, route: &Route, plan: &Plan) -> Result<Measured> {
        let before = cpu(route.between.as_deref());
        let (rate, count) = match self.kind {
            Kind::Select(protocol, clients) => {
                pgbench(world, route, plan, protocol, clients, false)?
            }
            Kind::Connect(clients) => pgbench(world, route, plan, "simple", clients, true)?,
            Kind::Large => large(world, route, plan)?,
        };
        let after = cpu(route.between.as_deref());
        let cpu = before
            .zip(after)
            .map(|(before, after)| (after - before) / count);
        Ok(Measured { rate, cpu })
    }
}

/// Transactions a second, and how many there were.
fn pgbench(
    world: &World,
    route: &Route,
    plan: &Plan,
    protocol: &str,
    clients: u32,
    reconnect: bool,
) -> Result<(f64, f64)> {
    let tool = world.postgres.tool("pgbench");
    let mut pgbench = world.state.command(route.who, tool)?;
    pgbench.args(["-n", "-S", "-M", protocol, "-c", &clients.to_string()]);
    pgbench.args([
        "-j",
        if clients > 1 { "2" } else { "1" },
        "-T",
        &plan.seconds.to_string(),
    ]);
    if reconnect {
        pgbench.arg("-C");
    }
    pgbench
        .env("PGHOST", &route.host)
        .env("PGSSLMODE", "disable");
    let ran = hoop_tests::run(&mut pgbench, "", Duration::from_secs(60))?.ok()?;
    let rate = number(&ran.stdout, "tps = ").context("pgbench printed no rate")?;
    let count = number(&ran.stdout, "number of transactions actually processed: ");
    Ok((rate, count.context("pgbench printed no count")?))
}

/// Rows a second, and 1: the CPU time is for the whole result.
fn large(world: &World, route: &Route, plan: &Plan) -> Result<(f64, f64)> {
    let mut psql = world.state.command(route.who, "psql")?;
    psql.args([
        "-X",
        "-A",
        "-t",
        "-o",
        "/dev/null",
        "-c",
        "SELECT * FROM pgbench_accounts",
    ]);
    psql.env("PGHOST", &route.host).env("PGSSLMODE", "disable");
    let started = Instant::now();
    hoop_tests::run(&mut psql, "", Duration::from_secs(120))?.ok()?;
    Ok((
        f64::from(plan.scale) * 100_000.0 / started.elapsed().as_secs_f64(),
        1.0,
    ))
}

fn number(text: &str, before: &str) -> Option<f64> {
    let at = text.rfind(before)? + before.len();
    text.get(at..)?.split([' ', '\n', '/']).next()?.parse().ok()
}

/// CPU time of a cgroup in microseconds.
fn cpu(cgroup: Option<&Path>) -> Option<f64> {
    let text = std::fs::read_to_string(cgroup?.join("cpu.stat")).ok()?;
    number(&text, "usage_usec ")
}
