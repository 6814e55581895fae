//! The demo: unmodified psql in an agent's cgroup, what it saw, and what hoop recorded.
//!
//! It succeeds only if everything that it claims was really seen.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use hoop_tests::{Interrupt, Place, Ran, Recording, Settings, Who, World};

const AGENT: Who<'static> = Who::Agent("billing-bot");

const ALLOWED: &str = "SELECT name, ssn, email FROM users ORDER BY id;";
const REFUSED: &str = "DROP TABLE users;";
const FOLLOWING: &str = "SELECT count(*) AS orders FROM orders;";

pub fn run(stay: bool) -> Result<()> {
    let interrupt = Interrupt::hold()?;
    let started = Instant::now();
    eprintln!(
        "making a PostgreSQL server, an OpenID provider, the agents' cgroups; starting hoop …"
    );
    if stay {
        return leave_up(&World::start(Settings::default())?, &interrupt);
    }
    let place = Place::make()?;
    interrupt.end_process(place.janitor());
    let world = World::start_in(place, Settings::default())?;
    eprintln!("ready after {:.1} s", started.elapsed().as_secs_f64());
    show(&world)
}

fn leave_up(world: &World, interrupt: &Interrupt) -> Result<()> {
    world.state.save()?;
    println!("The world is up. In another terminal:\n");
    println!(
        "  cargo xtask agent -- psql                     as the agent billing-bot, who may read"
    );
    println!("  cargo xtask agent --agent etl-bot -- psql     as etl-bot, who may write");
    println!("  cargo xtask agent --direct -- psql            past hoop, for comparison\n");
    println!("hoop's configuration: {}", world.state.config.display());
    println!(
        "hoop's log:           {}",
        world.state.path("hoop.log").display()
    );
    println!("\nCtrl-C removes it.");
    let signal = interrupt.wait()?;
    world.state.forget();
    eprintln!("ended by {signal}: removing the world");
    Ok(())
}

fn show(world: &World) -> Result<()> {
    let script = format!("{ALLOWED}\n{REFUSED}\n{FOLLOWING}\n");
    // The shell only joins the two outputs, so that they are shown in order.
    let mut psql = world.command(AGENT, "sh")?;
    psql.args(["-c", "exec psql -X -e -v VERBOSITY=verbose 2>&1"]);
    let ran = hoop_tests::run(&mut psql, &script, hoop_tests::PATIENCE)?;
    heading("What the agent saw: psql, unmodified, at db.prod.internal:5432");
    print!("{}", ran.stdout);
    agent_saw(&ran)?;

    let direct = world.psql(Who::Direct, &[], ALLOWED)?.ok()?;
    heading("What is really there: the same query past hoop");
    print!("{}", direct.stdout);
    ensure!(
        direct.stdout.contains("078-05-1120"),
        "the real value is not there"
    );
    ensure!(
        world.postgres.ask("SELECT count(*) FROM users")? == "3",
        "the table was dropped"
    );

    let recording = world.recording(|session| session["agent"] == "billing-bot")?;
    heading("What was recorded: hoop sessions, hoop replay");
    print!("{}", world.hoop(&["sessions"])?.ok()?.stdout);
    print!("{}", recording.shown);
    recorded(&recording)?;

    heading("Whether the recording is what was written: hoop verify");
    print!("{}", recording.verified.stdout);
    ensure!(
        recording.verified.code == Some(0),
        "the recording does not verify"
    );
    println!(
        "\nSeen: a masked row, a refused DROP TABLE, a statement after it, and the recording of all three."
    );
    Ok(())
}

/// The agent's side: a masked value, PostgreSQL's own error form, and a session that goes on.
fn agent_saw(ran: &Ran) -> Result<()> {
    let out = &ran.stdout;
    ensure!(
        out.contains("Ada Byron"),
        "the allowed query did not answer"
    );
    ensure!(
        !out.contains("078-05-1120") && out.contains("1120"),
        "the ssn was not masked in part"
    );
    ensure!(
        !out.contains("ada@shop.example"),
        "the e-mail address was not masked"
    );
    ensure!(
        out.contains("ERROR:  42501"),
        "DROP TABLE was not refused as insufficient_privilege"
    );
    let detail = out.lines().find_map(|line| line.strip_prefix("DETAIL:  "));
    let detail: serde_json::Value = serde_json::from_str(detail.context("no DETAIL line")?)
        .context("the DETAIL line is not JSON")?;
    ensure!(
        ["code", "retry"]
            .iter()
            .all(|key| detail.get(key).is_some_and(|v| v.is_string())),
        "the JSON line is incomplete"
    );
    ensure!(
        out.contains("HINT:  "),
        "the refusal says nothing about what to do next"
    );
    ensure!(
        out.contains("orders") && out.contains("(1 row)"),
        "the following statement did not work"
    );
    ensure!(ran.code == Some(0), "psql ended with {:?}", ran.code);
    Ok(())
}

/// The operator's side of the same.
fn recorded(recording: &Recording) -> Result<()> {
    let statements = recording.statements();
    let verdict = |sql: &str| {
        let wanted = sql.trim_end_matches(';');
        let found = statements
            .iter()
            .find(|s| s.text.trim().trim_end_matches(';') == wanted);
        found
            .map(|s| s.verdict.clone())
            .with_context(|| format!("{sql} was not recorded"))
    };
    ensure!(
        verdict(ALLOWED)? == "allow",
        "the query's verdict is {}",
        verdict(ALLOWED)?
    );
    ensure!(
        verdict(REFUSED)? == "refuse",
        "the DROP's verdict is {}",
        verdict(REFUSED)?
    );
    ensure!(
        verdict(FOLLOWING)? == "allow",
        "the last verdict is {}",
        verdict(FOLLOWING)?
    );
    ensure!(
        !recording.raw.contains("078-05-1120"),
        "the recording holds what the agent may not see"
    );
    Ok(())
}

fn heading(text: &str) {
    println!("\n━━ {text}\n");
}
