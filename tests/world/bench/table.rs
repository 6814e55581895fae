//! The results as a Markdown table: medians over the rounds of each round's ratio to direct.

use std::fmt::Write as _;
use std::time::Duration;

use super::Plan;
use super::load::{LOADS, Measured};
use super::routes::Route;

pub fn markdown(
    plan: &Plan,
    routes: &[Route],
    results: &[Vec<Vec<Measured>>],
    took: Duration,
) -> String {
    let mut text = format!(
        "{} rounds of {} s each, interleaved; {} accounts; {} cores; {:.0} s in all.\n\
         Medians; in brackets the ratio to direct in the same round.\n\n| pgbench -S |",
        plan.rounds,
        plan.seconds,
        plan.scale * 100_000,
        std::thread::available_parallelism().map_or(1, usize::from),
        took.as_secs_f64(),
    );
    for route in routes {
        write!(text, " {} |", route.name).ok();
    }
    text += "\n|---|";
    text += &"--:|".repeat(routes.len());
    text.push('\n');
    for (load, of_load) in LOADS.iter().zip(results) {
        write!(text, "| {} |", load.name).ok();
        let direct = of_load.first().map(Vec::as_slice).unwrap_or_default();
        for measured in of_load {
            write!(text, " {} |", cell(measured, direct)).ok();
        }
        text.push('\n');
    }
    text += "\nCPU time of what stands in between, µs for each transaction (ms for the large result):\n\n";
    cpu_table(&mut text, routes, results);
    text
}

fn cell(measured: &[Measured], direct: &[Measured]) -> String {
    let rate = median(measured.iter().map(|m| m.rate));
    let ratio = median(measured.iter().zip(direct).map(|(m, d)| m.rate / d.rate));
    let unit = if rate >= 100_000.0 {
        format!("{:.0}k/s", rate / 1000.0)
    } else {
        format!("{rate:.0}/s")
    };
    format!("{unit} ({ratio:.2})")
}

fn cpu_table(text: &mut String, routes: &[Route], results: &[Vec<Vec<Measured>>]) {
    let between = || {
        routes
            .iter()
            .enumerate()
            .filter(|(_, route)| route.between.is_some())
    };
    *text += "| |";
    for (_, route) in between() {
        write!(text, " {} |", route.name).ok();
    }
    *text += "\n|---|";
    *text += &"--:|".repeat(between().count());
    text.push('\n');
    for (load, of_load) in LOADS.iter().zip(results) {
        write!(text, "| {} |", load.name).ok();
        for (at, _) in between() {
            let measured = of_load.get(at).map(Vec::as_slice).unwrap_or_default();
            let cpu = median(measured.iter().filter_map(|m| m.cpu));
            // Whole results take milliseconds.
            let cpu = if cpu > 10_000.0 { cpu / 1000.0 } else { cpu };
            write!(text, " {cpu:.0} |").ok();
        }
        text.push('\n');
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
