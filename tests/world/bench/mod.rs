//! The bench: the same load over every route, in interleaved rounds of one run.
//!
//! Absolute figures drift with the machine's other work; ratios within a round do not, so ratios
//! are what the table shows.

pub mod console;
pub mod kubernetes;
mod load;
mod memory;
mod routes;
mod ssh;
mod table;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hoop_tests::{Interrupt, Place, Settings, World, idle};

use load::{LOADS, Load, Measured};
use routes::Route;

#[derive(clap::Args)]
pub struct Arguments {
    /// Three short rounds instead of five longer ones
    #[arg(long)]
    quick: bool,
    #[arg(long)]
    rounds: Option<usize>,
    /// How long each load runs over each route
    #[arg(long)]
    seconds: Option<u32>,
    /// Only loads whose names hold this; `memory`, `1 GB` and `ssh` are three more
    #[arg(long)]
    load: Vec<String>,
    /// Only these routes
    #[arg(long)]
    route: Vec<String>,
}

pub struct Plan {
    pub rounds: usize,
    pub seconds: u32,
    /// pgbench's scale: 100,000 accounts each.
    pub scale: u32,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let interrupt = Interrupt::hold()?;
    let (rounds, seconds, scale) = if arguments.quick {
        (3, 1, 2)
    } else {
        (5, 3, 4)
    };
    let plan = Plan {
        rounds: arguments.rounds.unwrap_or(rounds).max(1),
        seconds: arguments.seconds.unwrap_or(seconds).max(1),
        scale,
    };
    let wanted = |name: &str| {
        arguments.load.is_empty() || arguments.load.iter().any(|part| name.contains(&**part))
    };
    let loads: Vec<&Load> = LOADS.iter().filter(|load| wanted(load.name)).collect();
    let place = Place::make()?;
    interrupt.end_process(place.janitor());
    let at_rest = idle::Resource::of(&place);
    place.set_hosts(&(routes::hosts(&place) + &at_rest.hosts))?;
    let mut settings = Settings {
        upstream_tls: "disable",
        log: "warn",
        more: routes::resource(&place) + &at_rest.config,
        ssh: Some(r#"{ user = "deploy", key = { file = "FOLDER/sshd/login" } }"#),
        ..Settings::default()
    };
    settings
        .policies
        .push(("ssh.cedar", ssh::POLICY.to_owned()));
    let world = World::start_in(place, settings)?;
    fill(&world, &plan).context("cannot prepare pgbench's tables")?;
    let mut routes = routes::start(&world)?;
    routes.retain(|r| {
        arguments.route.is_empty() || arguments.route.iter().any(|name| *name == r.name)
    });
    ensure!(!routes.is_empty(), "there is no such route");
    let started = Instant::now();
    let results = measure(&world, &routes, &loads, &plan)?;
    let mut text = table::markdown(&plan, &routes, &loads, &results, started.elapsed());
    if wanted(memory::IDLE) {
        text += &memory::idle(&world)?;
    }
    if wanted(memory::LARGE) {
        text += &memory::large(&world)?;
    }
    if wanted(ssh::NAME) {
        text += &ssh::run(&world, &plan)?;
    }
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
    load::prepare(world)
}

/// `results[load][route]` holds one measurement for each round.
fn measure(
    world: &World,
    routes: &[Route],
    loads: &[&Load],
    plan: &Plan,
) -> Result<Vec<Vec<Vec<Measured>>>> {
    let mut results = vec![vec![Vec::new(); routes.len()]; loads.len()];
    for round in 1..=plan.rounds {
        for (load, of_load) in loads.iter().zip(&mut results) {
            eprintln!("round {round}/{}: {}", plan.rounds, load.name);
            for (route, measured) in routes.iter().zip(of_load) {
                let one = load.run(world, route, plan);
                measured.push(one.with_context(|| format!("{} over {}", load.name, route.name))?);
            }
        }
    }
    Ok(results)
}
