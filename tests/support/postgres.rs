//! A real PostgreSQL server with sample data, and a way to ask it past hoop.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::User;

use crate::certificates::Certificate;
use crate::place::Place;
use crate::{files, ran};

pub const HOST: &str = "db.prod.internal";
pub const DATABASE: &str = "shop";
/// The role that hoop logs in with, and that a direct connection uses for comparison.
pub const ROLE: &str = "orders_app";
/// Known to hoop and to direct connections only; no agent has it.
pub const PASSWORD: &str = "correct horse battery staple";

/// The last number of that address.
pub const TRUSTED: u8 = 99;

pub struct Postgres {
    folder: PathBuf,
    tools: PathBuf,
}

const SCHEMA: &str = r"
CREATE TABLE users (
    id serial PRIMARY KEY, name text NOT NULL, ssn text, email text, born date
);
INSERT INTO users (name, ssn, email, born) VALUES
    ('Ada Byron', '078-05-1120', 'ada@shop.example', '1815-12-10'),
    ('Grace Murray', '219-09-9999', 'grace@shop.example', '1906-12-09'),
    ('Alan Mathison', '457-55-5462', 'alan@shop.example', '1912-06-23');
CREATE TABLE orders (
    id serial PRIMARY KEY, user_id int NOT NULL REFERENCES users, item text NOT NULL,
    cents int NOT NULL, placed timestamptz NOT NULL DEFAULT now()
);
INSERT INTO orders (user_id, item, cents) VALUES
    (1, 'analytical engine', 1500000), (2, 'nanosecond wire', 30), (3, 'bombe', 99900);
CREATE TABLE scratch (id int, note text);
RESET ROLE;
CREATE SCHEMA kept;
CREATE TABLE kept.vault (id int);
";

impl Postgres {
    /// Makes and starts a server at the place's database address.
    pub fn start(place: &Place, certificate: &Certificate) -> Result<Self> {
        let user = files::account(&["postgres", "nobody"])?;
        certificate.give(&user)?;
        let folder = place.path("postgres");
        std::fs::create_dir_all(&folder)?;
        files::give(&folder, &user)?;
        let postgres = Self {
            folder,
            tools: tools()?,
        };
        postgres.initialise(place, &user)?;
        files::write(
            &postgres.data().join("hoop.conf"),
            postgres.settings(place, certificate),
        )?;
        files::write(&postgres.data().join("pg_hba.conf"), hba(place))?;
        let conf = postgres.data().join("postgresql.conf");
        files::write(
            &conf,
            format!("{}\ninclude 'hoop.conf'\n", files::read(&conf)?),
        )?;
        let mut start =
            place.command("services", Some(&user.name), postgres.tools.join("pg_ctl"))?;
        start
            .arg("-D")
            .arg(postgres.data())
            .arg("-l")
            .arg(postgres.log());
        start.args(["-w", "-s", "-t", "30", "start"]);
        // pg_ctl's server would keep a pipe of ours open: nothing is collected here.
        let status = start.status().context("cannot start pg_ctl")?;
        anyhow::ensure!(
            status.success(),
            "PostgreSQL does not start: {}",
            files::read(&postgres.log()).unwrap_or_default()
        );
        postgres.fill()?;
        Ok(postgres)
    }

    /// Runs SQL as the server's owner over its own socket, past hoop; one value per line.
    pub fn ask(&self, sql: &str) -> Result<String> {
        self.ask_in(DATABASE, sql)
    }

    /// What the server wrote about statements and errors.
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// A program of the server's own version.
    pub fn tool(&self, name: &str) -> PathBuf {
        self.tools.join(name)
    }

    /// The folder of the socket on which the owner needs no password.
    pub fn socket(&self) -> &Path {
        &self.folder
    }

    /// Puts lines before those of pg_hba.conf.
    pub fn admit(&self, lines: &str) -> Result<()> {
        let hba = self.data().join("pg_hba.conf");
        files::write(&hba, lines.to_owned() + &files::read(&hba)?)?;
        self.ask("SELECT pg_reload_conf()")?;
        Ok(())
    }

    /// The same in another database.
    pub fn ask_in(&self, database: &str, sql: &str) -> Result<String> {
        let mut psql = Command::new(self.tool("psql"));
        psql.arg("-h")
            .arg(&self.folder)
            .args(["-U", "owner", "-d", database]);
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"]);
        psql.env_remove("PGPORT");
        let ran = ran::run(&mut psql, sql, Duration::from_secs(60))?;
        Ok(ran.ok()?.stdout.trim_end().to_owned())
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn initialise(&self, place: &Place, user: &User) -> Result<()> {
        let mut initdb = place.command("services", Some(&user.name), self.tools.join("initdb"))?;
        initdb
            .arg("-D")
            .arg(self.data())
            .args(["-U", "owner", "-A", "trust", "--no-sync"]);
        initdb.args(["-E", "UTF8", "--locale=C"]);
        ran::run(&mut initdb, "", Duration::from_secs(60))?
            .ok()
            .context("initdb failed")?;
        Ok(())
    }

    fn settings(&self, place: &Place, certificate: &Certificate) -> String {
        format!(
            "listen_addresses = '{}'\nport = 5432\nunix_socket_directories = '{}'\n\
             ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\n\
             password_encryption = 'scram-sha-256'\nmax_connections = 200\nmax_prepared_transactions = 16\n\
             fsync = off\nfull_page_writes = off\nshared_buffers = 64MB\n\
             dynamic_shared_memory_type = mmap\n\
             log_line_prefix = '%m [%p] %a '\nlog_statement = all\nlog_connections = on\n",
            place.address(10),
            self.folder.display(),
            certificate.certificate.display(),
            certificate.key.display(),
        )
    }

    fn fill(&self) -> Result<()> {
        self.ask_in(
            "postgres",
            &format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'; CREATE DATABASE {DATABASE} OWNER {ROLE};"),
        )?;
        self.ask(&format!("SET ROLE {ROLE}; {SCHEMA}"))?;
        Ok(())
    }
}

/// One client address is trusted, for the client that speaks message by message.
fn hba(place: &Place) -> String {
    let trusted = place.address(TRUSTED);
    format!(
        "local all all trust\nhost all all {trusted}/32 trust\nhost all all 127.0.0.0/8 scram-sha-256\n"
    )
}

fn tools() -> Result<PathBuf> {
    let installed = std::fs::read_dir("/usr/lib/postgresql")
        .context("no PostgreSQL server is installed: `cargo xtask setup` installs it")?;
    let mut versions: Vec<PathBuf> = installed
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(|folder| folder.join("initdb").exists())
        .collect();
    versions.sort();
    versions
        .pop()
        .context("no initdb is installed: `cargo xtask setup` installs it")
}
