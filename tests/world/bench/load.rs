//! What is measured: pgbench in its three protocols, new connections, large results, COPY.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hoop_tests::World;

use super::Plan;
use super::routes::{Route, Way};

pub struct Load {
    pub name: &'static str,
    kind: Kind,
    pub way: Way,
}

enum Kind {
    /// Select-only transactions: the protocol, how many clients.
    Select(&'static str, u32),
    /// A connection for each transaction.
    Connect(u32),
    /// All accounts in one result.
    Large,
    /// All accounts out, and in again.
    CopyOut,
    CopyIn,
}

const fn load(name: &'static str, kind: Kind, way: Way) -> Load {
    Load { name, kind, way }
}

pub const LOADS: &[Load] = &[
    load("simple, 1 client", Kind::Select("simple", 1), Way::Plain),
    load("simple, 8 clients", Kind::Select("simple", 8), Way::Plain),
    load(
        "extended, 1 client",
        Kind::Select("extended", 1),
        Way::Plain,
    ),
    load(
        "extended, 8 clients",
        Kind::Select("extended", 8),
        Way::Plain,
    ),
    load(
        "prepared, 1 client",
        Kind::Select("prepared", 1),
        Way::Plain,
    ),
    load(
        "prepared, 8 clients",
        Kind::Select("prepared", 8),
        Way::Plain,
    ),
    load(
        "prepared over TLS, 1 client",
        Kind::Select("prepared", 1),
        Way::Tls,
    ),
    load(
        "prepared over TLS, 8 clients",
        Kind::Select("prepared", 8),
        Way::Tls,
    ),
    load(
        "connection per transaction, 8",
        Kind::Connect(8),
        Way::Plain,
    ),
    load("the same over TLS", Kind::Connect(8), Way::Tls),
    load("one large result", Kind::Large, Way::Plain),
    load("one large result over TLS", Kind::Large, Way::Tls),
    load("COPY out", Kind::CopyOut, Way::Plain),
    load("COPY in", Kind::CopyIn, Way::Writer),
];

#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Transactions a second, or rows a second of the large result.
    pub rate: f64,
    /// Microseconds of CPU that what stands in between took for each transaction.
    pub cpu: Option<f64>,
}

impl Load {
    /// Whether the CPU time is that of a whole run and not of one transaction.
    pub fn is_whole(&self) -> bool {
        matches!(self.kind, Kind::Large | Kind::CopyOut | Kind::CopyIn)
    }

    pub fn run(&self, world: &World, route: &Route, plan: &Plan) -> Result<Measured> {
        let between = route.between(self.way);
        let before = cpu(between);
        let (rate, count) = match self.kind {
            Kind::Select(protocol, clients) => {
                let clients = (protocol, clients, false);
                self.pgbench(world, route, plan, clients)?
            }
            Kind::Connect(clients) => {
                self.pgbench(world, route, plan, ("simple", clients, true))?
            }
            Kind::Large => self.psql(world, route, plan, "SELECT * FROM pgbench_accounts")?,
            Kind::CopyOut => self.psql(world, route, plan, "COPY pgbench_accounts TO STDOUT")?,
            Kind::CopyIn => {
                world.postgres.ask("TRUNCATE bench_copies")?;
                let from = copied(world);
                let copy = format!("\\copy bench_copies FROM '{}'", from.display());
                self.psql(world, route, plan, &copy)?
            }
        };
        let after = cpu(between);
        let cpu = before
            .zip(after)
            .map(|(before, after)| (after - before) / count);
        Ok(Measured { rate, cpu })
    }

    /// Transactions a second, and how many there were.
    fn pgbench(
        &self,
        world: &World,
        route: &Route,
        plan: &Plan,
        (protocol, clients, reconnect): (&str, u32, bool),
    ) -> Result<(f64, f64)> {
        let mut pgbench = self.client(world, route, world.postgres.tool("pgbench"))?;
        pgbench.args(["-n", "-S", "-M", protocol, "-c", &clients.to_string()]);
        let threads = if clients > 1 { "2" } else { "1" };
        pgbench.args(["-j", threads, "-T", &plan.seconds.to_string()]);
        if reconnect {
            pgbench.arg("-C");
        }
        let ran = hoop_tests::run(&mut pgbench, "", Duration::from_secs(60))?.ok()?;
        let rate = number(&ran.stdout, "tps = ").context("pgbench printed no rate")?;
        let count = number(&ran.stdout, "number of transactions actually processed: ");
        Ok((rate, count.context("pgbench printed no count")?))
    }

    /// Rows a second, and 1: the CPU time is for all of them.
    fn psql(&self, world: &World, route: &Route, plan: &Plan, sql: &str) -> Result<(f64, f64)> {
        let mut psql = self.client(world, route, "psql".into())?;
        psql.args(["-X", "-A", "-t", "-q", "-o", "/dev/null", "-c", sql]);
        let started = Instant::now();
        hoop_tests::run(&mut psql, "", Duration::from_secs(120))?.ok()?;
        let rows = f64::from(plan.scale) * 100_000.0;
        Ok((rows / started.elapsed().as_secs_f64(), 1.0))
    }

    fn client(&self, world: &World, route: &Route, program: PathBuf) -> Result<Command> {
        let mut client = world.state.command(route.who(self.way), program)?;
        // No route's certificate is verified: a relay's is for another name.
        let tls = if self.way == Way::Tls {
            "require"
        } else {
            "disable"
        };
        client
            .env("PGHOST", route.host(self.way))
            .env("PGSSLMODE", tls)
            .env_remove("PGSSLROOTCERT");
        Ok(client)
    }
}

/// What COPY in sends.
fn copied(world: &World) -> PathBuf {
    world.place.path("accounts.copy")
}

/// Makes what COPY reads and writes.
pub fn prepare(world: &World) -> Result<()> {
    let ask = |sql: &str| world.postgres.ask(sql);
    ask("CREATE UNLOGGED TABLE bench_copies (LIKE pgbench_accounts);
         GRANT ALL ON bench_copies TO orders_app")?;
    // pgbench fills with blanks, of which the last are lost with the end of the text.
    let rows =
        ask("COPY (SELECT aid, bid, abalance, repeat('x', 84) FROM pgbench_accounts) TO STDOUT")?;
    std::fs::write(copied(world), rows + "\n").context("cannot write what COPY shall read")
}

pub fn number(text: &str, before: &str) -> Option<f64> {
    let at = text.rfind(before)? + before.len();
    text.get(at..)?.split([' ', '\n', '/']).next()?.parse().ok()
}

/// CPU time of a cgroup in microseconds.
fn cpu(cgroup: Option<&Path>) -> Option<f64> {
    let text = std::fs::read_to_string(cgroup?.join("cpu.stat")).ok()?;
    number(&text, "usage_usec ")
}
