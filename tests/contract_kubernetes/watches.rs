//! Many watches at once: each sees what one past hoop sees, in the same order, and hoop does not
//! grow.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hoop_tests::{Ran, WRITER, Who, World, kubernetes};
use serde_json::Value;

/// At once, on connections of their own.
const COUNT: usize = 200;
/// How often memory is looked at.
const EVERY: Duration = Duration::from_millis(500);
/// What hoop's processes may take more in the last third than in the first, once buffers are as large
/// as they get, in KiB. Within 30 s some 15,000 events are delivered between the two: 270 bytes that
/// were kept of each would be seen, and 14 in the long run.
const GROWTH: u64 = 4 << 10;
/// What each watch may take of memory with all its buffers, in KiB: TLS and HTTP on both sides, an
/// object that is looked at, a recording that is written.
const EACH: u64 = 400;

/// For how long objects come and go: `HOOP_WATCH_SECONDS`, 30 unless it is said.
fn seconds() -> u64 {
    let said = std::env::var("HOOP_WATCH_SECONDS");
    said.map_or(30, |text| text.parse().expect("a number of seconds"))
}

pub fn compare(world: &World) {
    let cluster = world.kubernetes.as_ref().expect("a cluster");
    let kubectl = |arguments: &[&str]| {
        let ran = cluster.kubectl(&world.place, arguments, "");
        ran.and_then(Ran::ok).expect("kubectl").stdout
    };
    kubectl(&["create", "namespace", "churn"]);
    let version = kubectl(&[
        "get",
        "--raw",
        "/api/v1/namespaces/churn/configmaps?limit=1",
    ]);
    let version: Value = serde_json::from_str(&version).unwrap();
    let version = version["metadata"]["resourceVersion"].as_str().unwrap();
    let before = memory(world);
    let mut through = watch(world, Who::Agent(WRITER), COUNT, version);
    let mut direct = watch(world, Who::Direct, 1, version);
    let open = memory(world);
    let mut churn = script(world, Who::Direct, "churn", &seconds().to_string());
    let limit = Duration::from_secs(seconds() + 60);
    let (made, samples) = sampled(world, || hoop_tests::run(&mut churn, "", limit));
    let made = made.and_then(Ran::ok).expect("churn").json_lines();
    let made = made.expect("how many objects").remove(0);
    let expected = direct.seen(1).remove(0);
    let seen = through.seen(COUNT);
    let after = memory(world);
    let same = seen.iter().filter(|one| **one == expected).count();
    let events = expected["count"].as_u64().unwrap();
    let (first, last) = thirds(&samples);
    println!(
        "{} objects in {} s: {events} events, {same} of {COUNT} watches saw all of them in order",
        made["objects"],
        seconds(),
    );
    println!(
        "memory in KiB: {before} before, {open} with all open, {first} in the first third, \
         {last} in the last, {after} after"
    );
    let tenth = (samples.len() / 10).max(1);
    let shown: Vec<u64> = samples.iter().step_by(tenth).copied().collect();
    println!("memory meanwhile: {shown:?}");
    assert!(events > 50 && samples.len() > 20, "{expected}");
    for one in seen {
        assert_eq!(one, expected);
    }
    assert!(last < first + GROWTH, "it grew: {samples:?}");
    let each = after.saturating_sub(before) / COUNT as u64;
    assert!(each < EACH, "{each} KiB for each watch");
}

/// What `work` gives, and hoop's memory meanwhile.
fn sampled<T>(world: &World, work: impl FnOnce() -> T) -> (T, Vec<u64>) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sampling = scope.spawn(|| {
            let mut samples = Vec::new();
            while !over.load(Ordering::Relaxed) {
                samples.push(memory(world));
                std::thread::sleep(EVERY);
            }
            samples
        });
        let made = work();
        over.store(true, Ordering::Relaxed);
        (made, sampling.join().expect("samples"))
    })
}

/// The medians of the first and of the last third, without the first quarter, in which buffers are
/// made that stay.
fn thirds(samples: &[u64]) -> (u64, u64) {
    let warm = &samples[samples.len() / 4..];
    let third = warm.len() / 3;
    assert!(third > 2, "{samples:?} are too few to tell");
    let median = |samples: &[u64]| {
        let mut samples = samples.to_vec();
        samples.sort_unstable();
        samples[samples.len() / 2]
    };
    (median(&warm[..third]), median(&warm[warm.len() - third..]))
}

#[test]
fn growth_is_told_from_buffers_that_stay() {
    let growth = |at: fn(u64) -> u64| {
        let samples: Vec<u64> = (0..60).map(|n| 150_000 + at(n)).collect();
        let (first, last) = thirds(&samples);
        last.saturating_sub(first)
    };
    // Buffers are made in the first seconds; one sample is far off.
    assert!(growth(|n| 50_000.min(n * 5_000)) < GROWTH);
    assert!(growth(|n| if n == 50 { 90_000 } else { 0 }) < GROWTH);
    // 300 KiB each half second, from the beginning and from the middle.
    assert!(growth(|n| n * 300) > GROWTH);
    assert!(growth(|n| n.saturating_sub(30) * 500) > GROWTH);
}

struct Watches {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

fn watch(world: &World, who: Who<'_>, count: usize, version: &str) -> Watches {
    let mut command = script(world, who, "watch", &count.to_string());
    command.arg(format!("--version={version}"));
    let mut child = command.stdout(Stdio::piped()).spawn().expect("watches");
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut watches = Watches { child, lines };
    assert_eq!(watches.lines.next().unwrap().unwrap(), "ready");
    watches
}

impl Watches {
    fn seen(&mut self, count: usize) -> Vec<Value> {
        let lines = self.lines.by_ref().take(count);
        let seen = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap());
        let seen: Vec<Value> = seen.collect();
        assert!(self.child.wait().unwrap().success());
        assert_eq!(seen.len(), count);
        seen
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        // Where a test has failed it still watches.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn script(world: &World, who: Who<'_>, what: &str, number: &str) -> Command {
    let mut command = world.command(who, "/usr/bin/python3").unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("contract_kubernetes/watches.py");
    command.arg(here).args([what, number, "--namespace=churn"]);
    command.arg(format!("--host={}", kubernetes::HOST));
    command.arg(format!("--port={}", kubernetes::PORT));
    // The one watch past hoop is not waited for.
    let progress = match (who, what) {
        (Who::Direct, "watch") => "progress-direct",
        _ => "progress",
    };
    let progress = world.place.path(progress);
    command.arg(format!("--progress={}", progress.display()));
    let certificates = world.place.path("kubernetes/certificates");
    match who {
        Who::Direct => {
            let path = |name: &str| certificates.join(name).display().to_string();
            command.arg(format!("--ca={}", path("ca.pem")));
            command.arg(format!("--certificate={}", path("admin.pem")));
            command.arg(format!("--key={}", path("admin.key")));
        }
        Who::Agent(_) => {
            let ca = world.place.path("state/ca.pem");
            command.arg(format!("--ca={}", ca.display()));
        }
    }
    command
}

/// What all of hoop's processes have in memory that no file backs, in KiB: pages of their program are
/// read as they are needed, which is no growth.
fn memory(world: &World) -> u64 {
    let of = |pid: &String| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or_default()
    };
    world.daemon_processes().iter().map(of).sum()
}
