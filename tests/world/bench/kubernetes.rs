//! Kubernetes over the same routes: an object, lists, a watch, a command in a pod. Beside hoop stands
//! `kubectl proxy`, which ends the client's connection as well and neither decides nor records.

use std::fmt::Write as _;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hoop_tests::{Interrupt, Kubernetes, Place, Settings, WRITER, Who, World};
use serde_json::Value;

use super::table::median;

#[derive(clap::Args)]
pub struct Arguments {
    /// Three short rounds instead of five longer ones
    #[arg(long)]
    quick: bool,
}

/// The agent of the bench may do anything in the cluster.
const POLICY: &str = r#"permit (principal == Agent::"etl-bot", action, resource);"#;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    Direct,
    Proxy,
    Hoop,
}

const ROUTES: [(Route, &str); 3] = [
    (Route::Direct, "direct"),
    (Route::Proxy, "kubectl proxy"),
    (Route::Hoop, "hoop"),
];

/// What is measured by whom: the script's keys, and a command in a pod by kubectl.
const ROWS: [(&str, &str, &str); 5] = [
    ("get", "an object", "µs"),
    ("list", "a list of 100 objects", "ms"),
    ("large", "a list of 10 MB", "MB/s"),
    ("watch", "a change, until a watch tells of it", "ms"),
    ("exec", "a command in a pod, with kubectl's start", "ms"),
];

const EXECS: u32 = 5;
/// The last number of the address where `kubectl proxy` listens.
const PROXY: u8 = 43;
const PROXY_PORT: u16 = 8001;
const PATIENCE: Duration = Duration::from_secs(300);

pub fn run(arguments: &Arguments) -> Result<()> {
    let interrupt = Interrupt::hold()?;
    let (rounds, gets) = if arguments.quick { (3, 50) } else { (5, 300) };
    let place = Place::make()?;
    interrupt.end_process(place.janitor());
    let settings = Settings {
        log: "warn",
        kubernetes: Some(""),
        policies: vec![("bench.cedar", POLICY.to_owned())],
        ..Settings::default()
    };
    let world = World::start_in(place, settings)?;
    fill(&world)?;
    let _proxy = Proxy::start(&world)?;
    let mut results = vec![vec![Vec::new(); ROUTES.len()]; ROWS.len()];
    for round in 1..=rounds {
        for (at, (route, name)) in ROUTES.iter().enumerate() {
            eprintln!("round {round}/{rounds}: {name}");
            let measured = measure(&world, *route, gets).with_context(|| format!("over {name}"))?;
            for (of_row, value) in results.iter_mut().zip(measured) {
                if let Some(of_route) = of_row.get_mut(at) {
                    of_route.push(value);
                }
            }
        }
    }
    let text = table(rounds, &results);
    println!("{text}");
    let file = hoop_tests::target()?.join("bench-kubernetes.md");
    std::fs::write(&file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    eprintln!("written to {}", file.display());
    Ok(())
}

fn table(rounds: usize, results: &[Vec<Vec<f64>>]) -> String {
    let mut text = format!(
        "{rounds} interleaved rounds; medians; in brackets the ratio to direct in the same round.\n\n| |"
    );
    for (_, name) in ROUTES {
        write!(text, " {name} |").ok();
    }
    text += "\n|---|---|---|---|\n";
    for ((_, name, unit), of_row) in ROWS.iter().zip(results) {
        write!(text, "| {name} |").ok();
        let direct = of_row.first().map(Vec::as_slice).unwrap_or_default();
        for measured in of_row {
            let value = median(measured.iter().copied());
            let ratio = median(measured.iter().zip(direct).map(|(one, d)| one / d));
            write!(text, " {value:.1} {unit} ({ratio:.2}) |").ok();
        }
        text.push('\n');
    }
    text
}

/// One value for each row.
fn measure(world: &World, route: Route, gets: u32) -> Result<Vec<f64>> {
    let mut python = script(world, route, "measure")?;
    python.arg(format!("--gets={gets}"));
    let said = hoop_tests::run(&mut python, "", PATIENCE)?.ok()?;
    let said: Value = serde_json::from_str(&said.stdout).context("the script prints no JSON")?;
    let mut values = Vec::with_capacity(ROWS.len());
    for (key, _, _) in ROWS {
        values.push(match key {
            "exec" => exec(world, route)?,
            key => said[key]
                .as_f64()
                .with_context(|| format!("no {key} in {said}"))?,
        });
    }
    Ok(values)
}

fn exec(world: &World, route: Route) -> Result<f64> {
    let started = Instant::now();
    for _ in 0..EXECS {
        let mut kubectl = kubectl(world, route)?;
        kubectl.args(["exec", "bench", "--", "true"]);
        hoop_tests::run(&mut kubectl, "", PATIENCE)?.ok()?;
    }
    Ok(started.elapsed().as_secs_f64() * 1e3 / f64::from(EXECS))
}

fn kubectl(world: &World, route: Route) -> Result<Command> {
    let who = match route {
        Route::Hoop => Who::Agent(WRITER),
        Route::Direct | Route::Proxy => Who::Direct,
    };
    let mut kubectl = world.kubernetes(who, "kubectl")?;
    if route == Route::Proxy {
        kubectl.env_remove("KUBECONFIG");
        kubectl.arg(format!("--server={}", proxy_url(world)));
    }
    Ok(kubectl)
}

fn proxy_url(world: &World) -> String {
    format!("http://{}:{PROXY_PORT}", world.place.address(PROXY))
}

fn script(world: &World, route: Route, what: &str) -> Result<Command> {
    let who = match route {
        Route::Hoop => Who::Agent(WRITER),
        Route::Direct | Route::Proxy => Who::Direct,
    };
    let mut python = world.command(who, "/usr/bin/python3")?;
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    python.arg(here.join("world/bench/kubernetes.py")).arg(what);
    let certificates = world.place.path("kubernetes/certificates");
    match route {
        Route::Direct => {
            python.arg(Kubernetes::url());
            for (option, file) in [
                ("ca", "ca.pem"),
                ("certificate", "admin.pem"),
                ("key", "admin.key"),
            ] {
                python.arg(format!("--{option}={}", certificates.join(file).display()));
            }
        }
        Route::Proxy => {
            python.arg(proxy_url(world));
        }
        Route::Hoop => {
            let ca = world.place.path("state/ca.pem");
            python
                .arg(Kubernetes::url())
                .arg(format!("--ca={}", ca.display()));
        }
    }
    Ok(python)
}

/// The objects, and a pod that runs.
fn fill(world: &World) -> Result<()> {
    hoop_tests::run(&mut script(world, Route::Direct, "fill")?, "", PATIENCE)?.ok()?;
    let cluster = world.kubernetes.as_ref().context("no cluster")?;
    let run = [
        "run",
        "bench",
        "--image=test",
        "--restart=Never",
        "--command",
        "--",
        "sleep",
        "7200",
    ];
    cluster.kubectl(&world.place, &run, "")?.ok()?;
    let until = Instant::now() + PATIENCE;
    let phase = ["get", "pod", "bench", "-o", "jsonpath={.status.phase}"];
    while cluster.kubectl(&world.place, &phase, "")?.ok()?.stdout != "Running" {
        ensure!(Instant::now() < until, "the pod never runs");
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// `kubectl proxy`, which refuses commands in pods unless it is told not to.
struct Proxy(Child);

impl Proxy {
    fn start(world: &World) -> Result<Self> {
        let mut kubectl = world.kubernetes(Who::Direct, "kubectl")?;
        let address = world.place.address(PROXY);
        kubectl.args(["proxy", "--disable-filter"]);
        kubectl
            .arg(format!("--address={address}"))
            .arg(format!("--port={PROXY_PORT}"));
        kubectl
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut proxy = Self(kubectl.spawn().context("cannot start kubectl proxy")?);
        let until = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect((address, PROXY_PORT)).is_err() {
            if let Some(status) = proxy.0.try_wait()? {
                bail!("kubectl proxy ended: {status}");
            }
            ensure!(Instant::now() < until, "kubectl proxy does not listen");
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(proxy)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
