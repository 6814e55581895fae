//! The ways from pgbench to the server: direct, a plain relay, pgbouncer, hoop; each in plain text
//! and with TLS on every leg.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hoop_tests::{Place, READER, WRITER, Who, World};

/// How a load goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Plain,
    /// TLS from the client to what stands in between, and from there to the server.
    Tls,
    /// In plain text, as an agent that may write.
    Writer,
}

pub struct Route {
    pub name: &'static str,
    host: String,
    tls_host: String,
    agent: bool,
    /// The cgroups of what stands in between, for its CPU time: plain, TLS.
    between: Option<[PathBuf; 2]>,
}

impl Route {
    /// What the client is told to connect to.
    pub fn host(&self, way: Way) -> &str {
        match way {
            Way::Plain | Way::Writer => &self.host,
            Way::Tls => &self.tls_host,
        }
    }

    pub fn who(&self, way: Way) -> Who<'static> {
        match (self.agent, way) {
            (false, _) => Who::Direct,
            (true, Way::Writer) => Who::Agent(WRITER),
            (true, _) => Who::Agent(READER),
        }
    }

    pub fn between(&self, way: Way) -> Option<&Path> {
        let [plain, tls] = self.between.as_ref()?;
        let between = if way == Way::Tls { tls } else { plain };
        Some(between.as_path())
    }
}

const SERVER: u8 = 10;
pub const RELAY: u8 = 30;
const POOLER: u8 = 31;
const TLS_POOLER: u8 = 32;
/// Nothing listens there: hoop's resources are dialled elsewhere.
const TLS_RESOURCE: u8 = 33;
const TLS_HOST: &str = "tls.prod.internal";

/// The name of the other resource.
pub fn hosts(place: &Place) -> String {
    format!("{} {TLS_HOST}\n", place.address(TLS_RESOURCE))
}

/// A resource beside the world's own: the same server over TLS, with the same masks.
pub fn resource(place: &Place) -> String {
    let folder = place.folder.display();
    let server = place.address(SERVER);
    let mask = |columns: &str| {
        format!(
            "[[mask]]\nresource = \"over-tls\"\ncolumns = [\"{columns}\"]\nhow = \"redact\"\n\n"
        )
    };
    format!(
        "\n[[resource]]\nname = \"over-tls\"\nprotocol = \"postgres\"\nhosts = [\"{TLS_HOST}\"]\nport = 5432\n\
         tls = \"verify-ca\"\nca = \"{folder}/servers/ca.pem\"\nupstream = \"{server}:5432\"\n\
         login = {{ user = \"orders_app\", password = {{ file = \"{folder}/etc/orders-password\" }} }}\n\n{}{}",
        mask("public.users.ssn"),
        mask("*.*.email"),
    )
}

pub fn start(world: &World) -> Result<Vec<Route>> {
    let cgroup = |name: &str| world.place.cgroup.join(name);
    let direct = |name, host: Ipv4Addr, tls_host: Ipv4Addr, between| Route {
        name,
        host: host.to_string(),
        tls_host: tls_host.to_string(),
        agent: false,
        between,
    };
    let address = |host| world.place.address(host);
    relay(world).context("haproxy")?;
    pooler(world, POOLER, "pgbouncer", "").context("pgbouncer")?;
    let tls = tls_settings(world);
    pooler(world, TLS_POOLER, "pgbouncer-tls", &tls).context("pgbouncer with TLS")?;
    let poolers = [cgroup("pgbouncer"), cgroup("pgbouncer-tls")];
    let relays = [cgroup("relay"), cgroup("relay")];
    Ok(vec![
        direct("direct", address(SERVER), address(SERVER), None),
        direct("relay", address(RELAY), address(RELAY), Some(relays)),
        direct(
            "pgbouncer",
            address(POOLER),
            address(TLS_POOLER),
            Some(poolers),
        ),
        Route {
            name: "hoop",
            host: "db.prod.internal".to_owned(),
            tls_host: TLS_HOST.to_owned(),
            agent: true,
            between: Some([cgroup("hoop"), cgroup("hoop")]),
        },
    ])
}

/// haproxy in TCP mode, one thread for each core, as one would set it up for two cores. TLS passes
/// it by: it has neither end of it.
fn relay(world: &World) -> Result<()> {
    let config = world.place.path("haproxy.cfg");
    let text = format!(
        "global\n  maxconn 1000\n  nbthread 2\ndefaults\n  mode tcp\n  timeout connect 5s\n  \
         timeout client 300s\n  timeout server 300s\nlisten db\n  bind {relay}:5432\n  server db {}:5432\n\
         listen ssh\n  bind {relay}:{}\n  server ssh {}:22\n",
        world.place.address(SERVER),
        super::ssh::RELAY_PORT,
        world.place.address(hoop_tests::sshd::ADDRESS),
        relay = world.place.address(RELAY),
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

fn tls_settings(world: &World) -> String {
    let servers = world.place.path("servers");
    let servers = servers.display();
    format!(
        "client_tls_sslmode = require\nclient_tls_cert_file = {servers}/db.prod.internal.pem\n\
         client_tls_key_file = {servers}/db.prod.internal.key\n\
         server_tls_sslmode = verify-ca\nserver_tls_ca_file = {servers}/ca.pem\n"
    )
}

fn pooler(world: &World, host: u8, name: &str, more: &str) -> Result<()> {
    let config = world.place.path(&format!("{name}.ini"));
    let text = format!(
        "[databases]\n* = host={} port=5432 user={} password='{}'\n[pgbouncer]\n\
         listen_addr = {}\nlisten_port = 5432\nunix_socket_dir =\nauth_type = any\n\
         pool_mode = session\ndefault_pool_size = 50\nmax_client_conn = 500\n\
         ignore_startup_parameters = extra_float_digits\nlog_connections = 0\nlog_disconnections = 0\n{more}",
        world.place.address(SERVER),
        world.state.environment.get("PGUSER").context("no role")?,
        world.state.password,
        world.place.address(host),
    );
    std::fs::write(&config, text)?;
    world.place.make_cgroup(name)?;
    let mut pgbouncer = world
        .place
        .command(name, Some("postgres"), "/usr/sbin/pgbouncer")?;
    pgbouncer.arg(&config).stdin(Stdio::null());
    let log_name = format!("{name}.log");
    pgbouncer
        .stdout(log(world, &log_name)?)
        .stderr(log(world, &log_name)?)
        .spawn()?;
    wait_for(world, host)
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
