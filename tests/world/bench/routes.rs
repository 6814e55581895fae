//! The ways from pgbench to the server: direct, a plain relay, pgbouncer, hoop.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hoop_tests::{Who, World};

use super::AGENT;

pub struct Route {
    pub name: &'static str,
    /// What the client is told to connect to.
    pub host: String,
    pub who: Who<'static>,
    /// The cgroup of what stands in between, for its CPU time.
    pub between: Option<PathBuf>,
}

const RELAY: u8 = 30;
const POOLER: u8 = 31;

pub fn start(world: &World) -> Result<Vec<Route>> {
    let cgroup = |name: &str| world.place.cgroup.join(name);
    let direct = |name, host: Ipv4Addr, between| Route {
        name,
        host: host.to_string(),
        who: Who::Direct,
        between,
    };
    relay(world).context("haproxy")?;
    pooler(world).context("pgbouncer")?;
    Ok(vec![
        direct("direct", world.place.address(10), None),
        direct("relay", world.place.address(RELAY), Some(cgroup("relay"))),
        direct(
            "pgbouncer",
            world.place.address(POOLER),
            Some(cgroup("pgbouncer")),
        ),
        Route {
            name: "hoop",
            host: "db.prod.internal".to_owned(),
            who: Who::Agent(AGENT),
            between: Some(cgroup("hoop")),
        },
    ])
}

/// haproxy in TCP mode, one thread, as one would set it up for two cores.
fn relay(world: &World) -> Result<()> {
    let config = world.place.path("haproxy.cfg");
    let text = format!(
        "global\n  maxconn 1000\n  nbthread 2\ndefaults\n  mode tcp\n  timeout connect 5s\n  \
         timeout client 300s\n  timeout server 300s\nlisten db\n  bind {}:5432\n  server db {}:5432\n",
        world.place.address(RELAY),
        world.place.address(10),
    );
    std::fs::write(&config, text)?;
    world.place.make_cgroup("relay")?;
    let mut haproxy = world.place.command("relay", None, "haproxy")?;
    haproxy
        .arg("-db")
        .arg("-f")
        .arg(&config)
        .stdin(Stdio::null());
    haproxy
        .stdout(log(world, "haproxy.log")?)
        .stderr(log(world, "haproxy.log")?)
        .spawn()?;
    wait_for(world, RELAY)
}

fn pooler(world: &World) -> Result<()> {
    let config = world.place.path("pgbouncer.ini");
    let text = format!(
        "[databases]\n* = host={} port=5432 user={} password='{}'\n[pgbouncer]\n\
         listen_addr = {}\nlisten_port = 5432\nunix_socket_dir =\nauth_type = any\n\
         pool_mode = session\ndefault_pool_size = 50\nmax_client_conn = 500\n\
         ignore_startup_parameters = extra_float_digits\nlog_connections = 0\nlog_disconnections = 0\n",
        world.place.address(10),
        world.state.environment.get("PGUSER").context("no role")?,
        world.state.password,
        world.place.address(POOLER),
    );
    std::fs::write(&config, text)?;
    world.place.make_cgroup("pgbouncer")?;
    let mut pgbouncer =
        world
            .place
            .command("pgbouncer", Some("postgres"), "/usr/sbin/pgbouncer")?;
    pgbouncer.arg(&config).stdin(Stdio::null());
    pgbouncer
        .stdout(log(world, "pgbouncer.log")?)
        .stderr(log(world, "pgbouncer.log")?)
        .spawn()?;
    wait_for(world, POOLER)
}

fn log(world: &World, name: &str) -> Result<std::fs::File> {
    Ok(std::fs::File::options()
        .create(true)
        .append(true)
        .open(world.place.path(name))?)
}

fn wait_for(world: &World, host: u8) -> Result<()> {
    let address = SocketAddr::from((world.place.address(host), 5432));
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("nothing listens on {address}")
}
