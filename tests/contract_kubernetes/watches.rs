//! Many watches at once: each sees what one past hoop sees, in the same order, and hoop does not
//! grow.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hoop_tests::{Ran, WRITER, Who, World, kubernetes};
use serde_json::Value;

/// At once, on connections of their own.
const COUNT: usize = 200;
/// What hoop's processes may take more at the end than when all watches were open, in KiB.
const GROWTH: u64 = 32 << 10;

/// For how long objects come and go: `HOOP_WATCH_SECONDS`, 15 unless it is said.
fn seconds() -> u64 {
    let said = std::env::var("HOOP_WATCH_SECONDS");
    said.map_or(15, |text| text.parse().expect("a number of seconds"))
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
    let mut through = watch(world, Who::Agent(WRITER), COUNT, version);
    let mut direct = watch(world, Who::Direct, 1, version);
    let before = memory(world);
    let mut churn = script(world, Who::Direct, "churn", &seconds().to_string());
    let limit = Duration::from_secs(seconds() + 60);
    let made = hoop_tests::run(&mut churn, "", limit);
    println!("{}", made.and_then(Ran::ok).expect("churn").stdout);
    let expected = direct.seen(1).remove(0);
    let seen = through.seen(COUNT);
    let after = memory(world);
    println!("{expected}, {before} KiB before, {after} KiB after");
    assert!(expected["count"].as_u64().unwrap() > 50, "{expected}");
    for one in seen {
        assert_eq!(one, expected);
    }
    assert!(after < before + GROWTH, "{before} KiB, then {after} KiB");
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

/// What all of hoop's processes have in memory, in KiB.
fn memory(world: &World) -> u64 {
    let of = |pid: &String| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or_default()
    };
    world.daemon_processes().iter().map(of).sum()
}
