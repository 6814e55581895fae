//! A whole world, made in order and removed in the opposite one.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::agent::Who;
use crate::certificates::Authority;
use crate::daemon::{self, Daemon};
use crate::files;
use crate::issuer::Issuer;
use crate::kubernetes::{self, Kubernetes};
use crate::place::Place;
use crate::postgres::{DATABASE, HOST, PASSWORD, Postgres, ROLE};
use crate::ran::{self, Ran};
use crate::recording::Recording;
use crate::settings::Settings;
use crate::sshd::{self, Sshd};
use crate::state::State;

/// Fields fall in this order: the daemon first, the place with everything left in it last.
pub struct World {
    pub daemon: Daemon,
    pub issuer: Issuer,
    pub postgres: Postgres,
    pub sshd: Option<Sshd>,
    pub kubernetes: Option<Kubernetes>,
    pub authority: Authority,
    pub state: State,
    pub settings: Settings,
    pub place: Place,
}

/// Longer than anything here takes on a slow machine; only a hang meets it.
pub const PATIENCE: Duration = Duration::from_secs(60);

impl World {
    pub fn start(settings: Settings) -> Result<Self> {
        Self::start_in(Place::make()?, settings)
    }

    pub fn start_in(place: Place, settings: Settings) -> Result<Self> {
        let authority = Authority::make(&place.path("servers"))?;
        let postgres = Postgres::start(&place, &authority.sign(HOST)?)?;
        let sshd = settings.ssh.map(|_| Sshd::start(&place)).transpose()?;
        if let Some(sshd) = &sshd {
            sshd::write_client_settings(&place, sshd, &place.path("known_hosts"))?;
        }
        let cluster = settings.kubernetes.map(|_| Kubernetes::start(&place));
        let kubernetes = cluster.transpose()?;
        if let Some(kubernetes) = &kubernetes {
            kubernetes.let_hoop_in(&place)?;
        }
        let issuer = Issuer::start(&place, &settings)?;
        let mut agents = BTreeMap::new();
        for agent in &settings.agents {
            issuer.give_token(&place, agent)?;
            let below = format!("agents.slice/{}.service", agent.name);
            agents.insert(agent.name.to_owned(), place.make_cgroup(&below)?);
        }
        let written = settings.write(&place, issuer.url())?;
        let daemon = Daemon::start(&place, &written.config, settings.log)?;
        let roots = place.path("roots.pem").display().to_string();
        trust(&place, &authority)?;
        if sshd.is_some() {
            let known = place.path("known_hosts").display().to_string();
            let arguments = ["trust", "ssh", "--system", &known];
            ran::run(
                &mut daemon::hoop(&place.mounts, &written.config, &arguments)?,
                "",
                PATIENCE,
            )?
            .ok()?;
        }
        if let Some(kubernetes) = &kubernetes {
            let home = kubernetes.agent_home()?.display().to_string();
            let arguments = ["trust", "kubeconfig", "--home", &home];
            let mut hoop = daemon::hoop(&place.mounts, &written.config, &arguments)?;
            ran::run(&mut hoop, "", PATIENCE)?.ok()?;
        }
        let environment = [
            ("PGHOST", HOST.to_owned()),
            ("PGDATABASE", DATABASE.to_owned()),
            ("PGUSER", ROLE.to_owned()),
            ("PGSSLMODE", "verify-full".to_owned()),
            ("PGSSLROOTCERT", roots.clone()),
            // Drivers of Node.js read no root certificate of PostgreSQL's.
            ("NODE_EXTRA_CA_CERTS", roots),
        ];
        let state = State {
            folder: place.folder.clone(),
            mounts: place.mounts.clone(),
            agents,
            outside: place.cgroup.join("outside"),
            environment: environment.map(|(k, v)| (k.to_owned(), v)).into(),
            password: PASSWORD.to_owned(),
            config: written.config,
        };
        Ok(Self {
            daemon,
            issuer,
            postgres,
            sshd,
            kubernetes,
            authority,
            state,
            settings,
            place,
        })
    }

    /// The one world of a test program. Nothing drops it: the janitor removes it at the end.
    pub fn shared() -> &'static Self {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(|| Self::start(Settings::default()).expect("a world for the scenarios"))
    }

    /// Stops the daemon and starts it with other settings; the servers stay.
    pub fn restart(&mut self, settings: Settings) -> Result<()> {
        self.daemon.stop()?;
        self.settings = settings;
        self.settings.write(&self.place, self.issuer.url())?;
        self.start_daemon()
    }

    pub fn start_daemon(&mut self) -> Result<()> {
        self.daemon = Daemon::start(&self.place, &self.state.config, self.settings.log)?;
        Ok(())
    }

    /// A command as that one would start it.
    pub fn command(&self, who: Who<'_>, program: &str) -> Result<Command> {
        self.state.command(who, program)
    }

    /// psql without its start-up file, aligned output or prompts; the SQL comes by standard input.
    pub fn psql(&self, who: Who<'_>, options: &[&str], sql: &str) -> Result<Ran> {
        let mut psql = self.command(who, "psql")?;
        psql.args(["-X", "-A", "-t", "-q"]).args(options);
        ran::run(&mut psql, sql, PATIENCE)
    }

    /// A program of OpenSSH with this world's settings; a direct connection has the server's key.
    pub fn ssh(&self, who: Who<'_>, program: &str) -> Result<Command> {
        let mut command = self.command(who, program)?;
        command.arg("-F").arg(self.place.path("sshd/ssh_config"));
        if who == Who::Direct {
            command.arg("-i").arg(self.place.path("sshd/login"));
        }
        Ok(command)
    }

    /// A client of Kubernetes: past hoop with a certificate of the cluster's, as an agent with a
    /// kubeconfig whose credential nobody knows.
    pub fn kubernetes(&self, who: Who<'_>, client: &str) -> Result<Command> {
        let cluster = self.kubernetes.as_ref().context("no cluster")?;
        if who == Who::Direct {
            return cluster.command(&self.place, client);
        }
        let (program, script) = kubernetes::client(client)?;
        let mut command = self.state.command(who, program)?;
        command.args(script);
        command.env_remove("KUBECONFIG");
        command.env("HOME", cluster.agent_home()?);
        Ok(command)
    }

    /// `hoop SUBCOMMAND …` with this world's configuration.
    pub fn hoop(&self, arguments: &[&str]) -> Result<Ran> {
        ran::run(&mut self.hoop_command(arguments)?, "", PATIENCE)
    }

    /// `hoop approvals …` as one of this host's accounts, whom the configuration makes a person.
    pub fn approvals(&self, account: &str, arguments: &[&str]) -> Result<Ran> {
        let mut setpriv = self.place.command("outside", None, "setpriv")?;
        let becoming = [
            "--reuid",
            account,
            "--regid",
            "nogroup",
            "--clear-groups",
            "--",
        ];
        setpriv.args(becoming).arg(files::program("hoop")?);
        setpriv.arg("approvals").args(arguments);
        setpriv.env("HOOP_CONFIG", &self.state.config);
        ran::run(&mut setpriv, "", PATIENCE)
    }

    pub fn hoop_command(&self, arguments: &[&str]) -> Result<Command> {
        daemon::hoop(&self.place.mounts, &self.state.config, arguments)
    }

    /// The processes of the daemon that live.
    pub fn daemon_processes(&self) -> Vec<String> {
        let procs = self.place.cgroup.join("hoop/cgroup.procs");
        let text = std::fs::read_to_string(procs).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Where the kernel sends an agent's connections, by the daemon's own sockets.
    pub fn capture_port(&self) -> Result<u16> {
        let mut ss = Command::new("ss");
        let ran = ran::run(ss.args(["-H", "-l", "-t", "-n", "-p", "-4"]), "", PATIENCE)?.ok()?;
        let pid = format!("pid={},", self.daemon.keeper());
        let line = ran
            .stdout
            .lines()
            .find(|line| line.contains(&pid))
            .context("no listener")?;
        let address = line.split_whitespace().nth(3).context("no address")?;
        Ok(address.rsplit(':').next().unwrap_or_default().parse()?)
    }

    /// The sessions that were recorded, oldest first.
    pub fn sessions(&self) -> Result<Vec<Value>> {
        self.hoop(&["sessions", "--json"])?.ok()?.json_lines()
    }

    /// The newest recording that holds the statement.
    pub fn recording_of(&self, statement: &str) -> Result<Recording> {
        for session in self.sessions()?.iter().rev() {
            let recording = Recording::read(self, session)?;
            if recording
                .statements()
                .iter()
                .any(|s| s.text.contains(statement))
            {
                return Ok(recording);
            }
        }
        anyhow::bail!("{statement:?} is in no recording")
    }

    /// What the daemon wrote down beside sessions: refused connections, reloads, its own health.
    pub fn events(&self) -> Result<Vec<Value>> {
        self.hoop(&["events", "--json"])?.ok()?.json_lines()
    }

    /// The recording of the newest session that satisfies the condition, once it is complete.
    pub fn recording(&self, wanted: impl Fn(&Value) -> bool) -> Result<Recording> {
        let sessions = self.sessions()?;
        let found = sessions.iter().rev().find(|session| wanted(session));
        let session = found.with_context(|| format!("no such session among {sessions:#?}"))?;
        Recording::read(self, session)
    }
}

/// What `hoop trust` would install for libpq: hoop's authority beside the server's own, so that the
/// same settings serve the agent and a direct connection.
fn trust(place: &Place, servers: &Authority) -> Result<()> {
    let ours = files::read(&place.path("state/ca.pem"))
        .context("the daemon made no authority for its clients to trust")?;
    let bundle = files::read(&servers.pem())? + &ours;
    files::write(&place.path("roots.pem"), bundle)
}
