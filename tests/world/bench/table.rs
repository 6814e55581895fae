//! The results as a Markdown table: medians over the rounds of each round's ratio to direct.

use std::fmt::Write as _;
use std::time::Duration;

use super::Plan;
use super::load::{Load, Measured};
use super::routes::Route;

pub fn markdown(
    plan: &Plan,
    routes: &[Route],
    loads: &[&Load],
    results: &[Vec<Vec<Measured>>],
    took: Duration,
) -> String {
    let mut text = format!(
        "{} rounds of {} s each, interleaved; {} accounts; {} cores; {:.0} s in all.\n\
         Medians; in brackets the ratio to {} in the same round.\n\n",
        plan.rounds,
        plan.seconds,
        plan.scale * 100_000,
        std::thread::available_parallelism().map_or(1, usize::from),
        took.as_secs_f64(),
        routes.first().map_or("nothing", |route| route.name),
    );
    heading(&mut text, routes.iter().map(|route| route.name));
    for (load, of_load) in loads.iter().zip(results) {
        write!(text, "| {} |", load.name).ok();
        let direct = of_load.first().map(Vec::as_slice).unwrap_or_default();
        for measured in of_load {
            write!(text, " {} |", cell(measured, direct)).ok();
        }
        text.push('\n');
    }
    text += "\nCPU time of what stands in between, µs for each transaction (ms for whole results and COPY):\n\n";
    cpu_table(&mut text, routes, loads, results);
    text += "\nhoop beside the others, medians of the ratios within a round:\n\n";
    ratio_table(&mut text, routes, loads, results);
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

fn cpu_table(text: &mut String, routes: &[Route], loads: &[&Load], results: &[Vec<Vec<Measured>>]) {
    let between: Vec<usize> = (0..routes.len())
        .filter(|at| has_cpu(*at, results))
        .collect();
    heading(
        text,
        between
            .iter()
            .filter_map(|at| routes.get(*at))
            .map(|r| r.name),
    );
    for (load, of_load) in loads.iter().zip(results) {
        write!(text, "| {} |", load.name).ok();
        for at in &between {
            let measured = of_load.get(*at).map(Vec::as_slice).unwrap_or_default();
            let cpu = median(measured.iter().filter_map(|m| m.cpu));
            let cpu = if load.is_whole() { cpu / 1000.0 } else { cpu };
            write!(text, " {cpu:.0} |").ok();
        }
        text.push('\n');
    }
}

/// Rates and CPU times of hoop, which is the last route, over those of each other route.
fn ratio_table(
    text: &mut String,
    routes: &[Route],
    loads: &[&Load],
    results: &[Vec<Vec<Measured>>],
) {
    let Some((_, others)) = routes.split_last() else {
        return;
    };
    let cpu: Vec<usize> = (0..others.len())
        .filter(|at| has_cpu(*at, results))
        .collect();
    let rates = others.iter().map(|route| format!("rate ÷ {}", route.name));
    let times = cpu
        .iter()
        .filter_map(|at| others.get(*at))
        .map(|route| format!("CPU ÷ {}", route.name));
    heading(text, rates.chain(times));
    for (load, of_load) in loads.iter().zip(results) {
        write!(text, "| {} |", load.name).ok();
        let Some((hoop, others)) = of_load.split_last() else {
            return;
        };
        for other in others {
            let ratio = median(hoop.iter().zip(other).map(|(h, o)| h.rate / o.rate));
            write!(text, " {ratio:.2} |").ok();
        }
        for other in cpu.iter().filter_map(|at| others.get(*at)) {
            let both = hoop.iter().zip(other);
            let ratio = median(both.filter_map(|(h, o)| Some(h.cpu? / o.cpu?)));
            write!(text, " {ratio:.2} |").ok();
        }
        text.push('\n');
    }
}

fn has_cpu(at: usize, results: &[Vec<Vec<Measured>>]) -> bool {
    let of_route = results.iter().filter_map(|of_load| of_load.get(at));
    of_route.flatten().any(|m| m.cpu.is_some())
}

fn heading(text: &mut String, columns: impl Iterator<Item = impl std::fmt::Display>) {
    *text += "| |";
    let mut rule = "\n|---|".to_owned();
    for column in columns {
        write!(text, " {column} |").ok();
        rule += "--:|";
    }
    *text += &rule;
    text.push('\n');
}

pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
