//! SSH over the same routes: much data each way, the echo of a key, short commands. Beside the plain
//! relay stands a jump through another connection (`ssh -W`), as one would use it without hoop.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hoop_tests::sshd::HOST;
use hoop_tests::{WRITER, Who, World};

use super::Plan;
use super::routes::RELAY;
use super::table::median;

pub const NAME: &str = "ssh";
/// Where the plain relay listens for SSH.
pub const RELAY_PORT: u16 = 2222;

/// The agent of the bench may do anything on the host; what it prints is masked all the same.
pub const POLICY: &str = r#"
permit (principal == Agent::"etl-bot", action in Action::"ssh", resource);
permit (principal == Agent::"etl-bot", action == Action::"ssh:unknown", resource);
"#;

const ROUTES: [&str; 4] = ["direct", "relay", "ssh -W", "hoop"];
const KEYS: usize = 200;
const COMMANDS: usize = 5;

struct Row {
    name: &'static str,
    unit: &'static str,
    run: fn(&World, usize, &Plan) -> Result<f64>,
}

const ROWS: [Row; 5] = [
    Row {
        name: "download",
        unit: "MB/s",
        run: download,
    },
    Row {
        name: "upload",
        unit: "MB/s",
        run: upload,
    },
    Row {
        name: "echo of a key, median",
        unit: "µs",
        run: echo,
    },
    Row {
        name: "a short command, with its connection",
        unit: "ms",
        run: command,
    },
    Row {
        name: "a short command, multiplexed",
        unit: "ms",
        run: multiplexed,
    },
];

pub fn run(world: &World, plan: &Plan) -> Result<String> {
    let mut results = vec![vec![Vec::new(); ROUTES.len()]; ROWS.len()];
    for round in 1..=plan.rounds {
        for (row, of_row) in ROWS.iter().zip(&mut results) {
            eprintln!("round {round}/{}: ssh, {}", plan.rounds, row.name);
            for (route, measured) in of_row.iter_mut().enumerate() {
                let one = (row.run)(world, route, plan);
                let name = ROUTES.get(route).copied().unwrap_or_default();
                measured.push(one.with_context(|| format!("{} over {name}", row.name))?);
            }
        }
    }
    let mut text = "\nSSH; in brackets the ratio to direct in the same round.\n\n| |".to_owned();
    for route in ROUTES {
        write!(text, " {route} |").ok();
    }
    text += "\n|---|---|---|---|---|\n";
    for (row, of_row) in ROWS.iter().zip(&results) {
        write!(text, "| {} |", row.name).ok();
        let direct = of_row.first().map(Vec::as_slice).unwrap_or_default();
        for measured in of_row {
            let value = median(measured.iter().copied());
            let ratio = median(measured.iter().zip(direct).map(|(one, d)| one / d));
            write!(text, " {value:.0} {} ({ratio:.2}) |", row.unit).ok();
        }
        text.push('\n');
    }
    Ok(text)
}

/// `ssh` over a route, with these options before the host.
fn ssh(world: &World, route: usize, options: &[&str], script: &str) -> Result<Command> {
    let who = match route {
        3 => Who::Agent(WRITER),
        _ => Who::Direct,
    };
    let mut ssh = world.ssh(who, "ssh")?;
    let relay = world.place.address(RELAY).to_string();
    let alias = format!("HostKeyAlias={HOST}");
    let config = world.place.path("sshd/ssh_config");
    let login = world.place.path("sshd/login");
    let through = format!(
        "ProxyCommand=ssh -F {} -i {} -W %h:%p {HOST}",
        config.display(),
        login.display()
    );
    match route {
        1 => ssh.args(["-p", &RELAY_PORT.to_string(), "-o", &alias]),
        2 => ssh.args(["-o", &through]),
        _ => &mut ssh,
    };
    ssh.args(options);
    ssh.arg(if route == 1 { relay.as_str() } else { HOST });
    ssh.arg(script);
    Ok(ssh)
}

fn megabytes(plan: &Plan) -> usize {
    if plan.seconds > 1 { 256 } else { 64 }
}

fn rate(megabytes: usize, since: Instant) -> f64 {
    megabytes as f64 / since.elapsed().as_secs_f64()
}

fn done(mut child: Child) -> Result<()> {
    let status = child.wait()?;
    ensure!(status.success(), "ssh ended with {status}");
    Ok(())
}

fn download(world: &World, route: usize, plan: &Plan) -> Result<f64> {
    let count = megabytes(plan);
    let script = format!("head -c {count}M /dev/zero");
    let since = Instant::now();
    let child = ssh(world, route, &[], &script)?
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    done(child)?;
    Ok(rate(count, since))
}

fn upload(world: &World, route: usize, plan: &Plan) -> Result<f64> {
    let count = megabytes(plan);
    let since = Instant::now();
    let mut child = ssh(world, route, &[], "cat > /dev/null")?
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let mut input = child.stdin.take().context("no input")?;
    let piece = vec![0; 1 << 20];
    for _ in 0..count {
        input.write_all(&piece)?;
    }
    drop(input);
    done(child)?;
    Ok(rate(count, since))
}

fn echo(world: &World, route: usize, _: &Plan) -> Result<f64> {
    let script = "stty raw -echo; echo ready; exec cat";
    let mut child = ssh(world, route, &["-tt"], script)?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut input = child.stdin.take().context("no input")?;
    let mut output = child.stdout.take().context("no output")?;
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(b"ready\n") {
        output.read_exact(&mut byte)?;
        seen.push(byte[0]);
        ensure!(seen.len() < 4096, "the terminal does not become ready");
    }
    let mut times = Vec::with_capacity(KEYS);
    for key in 0..KEYS + 20 {
        let since = Instant::now();
        input.write_all(b"k")?;
        output.read_exact(&mut byte)?;
        if key >= 20 {
            times.push(since.elapsed().as_secs_f64() * 1e6);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    drop(input);
    child.kill()?;
    child.wait()?;
    Ok(median(times.into_iter()))
}

fn command(world: &World, route: usize, _: &Plan) -> Result<f64> {
    let since = Instant::now();
    for _ in 0..COMMANDS {
        let child = ssh(world, route, &[], "true")?
            .stdin(Stdio::null())
            .spawn()?;
        done(child)?;
    }
    Ok(since.elapsed().as_secs_f64() * 1e3 / COMMANDS as f64)
}

fn multiplexed(world: &World, route: usize, _: &Plan) -> Result<f64> {
    let socket = world.place.path(&format!("mux-{route}"));
    let path = format!("ControlPath={}", socket.display());
    let mut master = ssh(world, route, &["-o", &path, "-M", "-N"], "")?;
    let mut master = master.stdin(Stdio::null()).spawn()?;
    let until = Instant::now() + Duration::from_secs(20);
    while !socket.exists() {
        ensure!(Instant::now() < until, "the master does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    let since = Instant::now();
    let count = COMMANDS * 4;
    for _ in 0..count {
        let child = ssh(world, route, &["-o", &path], "true")?
            .stdin(Stdio::null())
            .spawn()?;
        done(child)?;
    }
    let each = since.elapsed().as_secs_f64() * 1e3 / count as f64;
    master.kill()?;
    master.wait()?;
    std::fs::remove_file(&socket).ok();
    Ok(each)
}
