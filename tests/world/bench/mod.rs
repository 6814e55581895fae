//! The bench: the same load over every route, in interleaved rounds of one run.
//!
//! Absolute figures drift with the machine's other work; the ratio to the direct connection of the
//! same round does not, so ratios are what the table shows.

mod load;
mod routes;
mod table;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hoop_tests::{Interrupt, Place, READER, Settings, World};

use load::{LOADS, Measured};
use routes::Route;

pub struct Plan {
    pub rounds: usize,
    pub seconds: u32,
    /// pgbench's scale: 100,000 accounts each.
    pub scale: u32,
}

pub fn run(quick: bool) -> Result<()> {
    let interrupt = Interrupt::hold()?;
    let plan = if quick {
        Plan {
            rounds: 3,
            seconds: 1,
            scale: 2,
        }
    } else {
        Plan {
            rounds: 5,
            seconds: 3,
            scale: 4,
        }
    };
    let place = Place::make()?;
    interrupt.end_process(place.janitor());
    let settings = Settings {
        upstream_tls: "disable",
        log: "warn",
        ..Settings::default()
    };
    let world = World::start_in(place, settings)?;
    fill(&world, &plan).context("cannot prepare pgbench's tables")?;
    let routes = routes::start(&world)?;
    let started = Instant::now();
    let results = measure(&world, &routes, &plan)?;
    let text = table::markdown(&plan, &routes, &results, started.elapsed());
    println!("{text}");
    let file = hoop_tests::target()?.join("bench.md");
    std::fs::write(&file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    eprintln!("written to {}", file.display());
    Ok(())
}

fn fill(world: &World, plan: &Plan) -> Result<()> {
    world
        .postgres
        .ask("ALTER SYSTEM SET log_statement = 'none'; SELECT pg_reload_conf()")?;
    let mut pgbench = std::process::Command::new(world.postgres.tool("pgbench"));
    pgbench
        .arg("-h")
        .arg(world.postgres.socket())
        .args(["-U", "owner", "-i", "-q", "-s"]);
    pgbench.arg(plan.scale.to_string()).arg("shop");
    hoop_tests::run(&mut pgbench, "", Duration::from_secs(120))?.ok()?;
    world
        .postgres
        .ask("GRANT SELECT ON ALL TABLES IN SCHEMA public TO orders_app")?;
    Ok(())
}

/// `results[load][route]` holds one measurement for each round.
fn measure(world: &World, routes: &[Route], plan: &Plan) -> Result<Vec<Vec<Vec<Measured>>>> {
    let mut results = vec![vec![Vec::new(); routes.len()]; LOADS.len()];
    for round in 1..=plan.rounds {
        for (load, of_load) in LOADS.iter().zip(&mut results) {
            eprintln!("round {round}/{}: {}", plan.rounds, load.name);
            for (route, measured) in routes.iter().zip(of_load) {
                let one = load.run(world, route, plan);
                measured.push(one.with_context(|| format!("{} over {}", load.name, route.name))?);
            }
        }
    }
    Ok(results)
}

/// The agent whose way the loads take through hoop.
const AGENT: &str = READER;
