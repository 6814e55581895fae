//! A PostgreSQL server of our own, with a login per way to authenticate.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};

use nix::unistd::User;
use tempfile::TempDir;

/// What the server's certificate says.
pub const HOST: &str = "db.prod.internal";
pub const PASSWORD: &str = "correct horse battery staple";

const HBA: &str = "local all all trust
hostssl all certified 127.0.0.1/32 cert
host all md5 127.0.0.1/32 md5
host all cleartext 127.0.0.1/32 password
host all scram 127.0.0.1/32 scram-sha-256
";

const SCHEMA: &str = r#"
create role certified login;
create role cleartext login password 'correct horse battery staple';
create role scram login password 'correct horse battery staple';
set password_encryption = 'md5';
create role md5 login password 'correct horse battery staple';
create table users (id int, gone int, ssn text, email text) partition by range (id);
alter table users drop column gone;
create table users_low partition of users for values from (0) to (100);
create view contacts as select email from users;
create materialized view "Deep View" as select * from contacts;
create function f() returns int language sql as 'select 1';
create view calls as select f();
"#;

pub struct Server {
    folder: TempDir,
    pub port: u16,
    account: Option<User>,
}

/// Shared while any test holds it, so that the last one stops it.
static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());

impl Server {
    pub fn shared() -> Arc<Self> {
        let mut shared = SHARED
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start("server"));
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// `certificate`: `server`, `expired`, or `none` for a server without TLS.
    pub fn start(certificate: &str) -> Self {
        // PostgreSQL refuses to run as root.
        let account = nix::unistd::geteuid().is_root().then(|| {
            let found = User::from_name("postgres").expect("the account database");
            found.expect("the account `postgres` is missing: `cargo xtask setup` installs it")
        });
        let folder = tempfile::Builder::new()
            .prefix("hoop-forward-")
            .tempdir()
            .expect("a folder");
        let port = free_port();
        let server = Self {
            folder,
            port,
            account,
        };
        server.make_certificates();
        server.give_all();
        server.run(
            "initdb",
            &[
                "-A",
                "trust",
                "-U",
                "postgres",
                "-E",
                "UTF8",
                "--no-sync",
                "-D",
                "data",
            ],
        );
        server.write("data/pg_hba.conf", HBA);
        let ssl = if certificate == "none" { "off" } else { "on" };
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{folder}'\n\
             fsync = off\nshared_buffers = 16MB\ndynamic_shared_memory_type = mmap\n\
             ssl = {ssl}\nssl_ca_file = '{folder}/ca.pem'\n\
             ssl_cert_file = '{folder}/{certificate}.pem'\nssl_key_file = '{folder}/{certificate}.key'\n",
            folder = server.folder.path().display(),
        );
        server.write("data/postgresql.auto.conf", &settings);
        server.give_all();
        server.run(
            "pg_ctl",
            &["-D", "data", "-l", "log", "-w", "-s", "-t", "30", "start"],
        );
        server.sql(SCHEMA);
        server
    }

    /// As the server's owner.
    pub fn sql(&self, sql: &str) {
        let socket = self.folder.path().display().to_string();
        let port = self.port.to_string();
        let quiet = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres"];
        self.run(
            "psql",
            &[&quiet[..], &["-h", &socket, "-p", &port, "-c", sql]].concat(),
        );
    }

    pub fn ca(&self) -> String {
        self.read("ca.pem")
    }

    pub fn other_ca(&self) -> String {
        self.read("other.pem")
    }

    /// Certificate and key of the login `certified`.
    pub fn client_certificate(&self) -> (String, String) {
        (self.read("certified.pem"), self.read("certified.key"))
    }

    /// The certificate's hash by the hash function of its signature, which is SHA-384.
    pub fn fingerprint(&self) -> Vec<u8> {
        let mut openssl = Command::new("openssl");
        openssl.args([
            "x509",
            "-in",
            "server.pem",
            "-noout",
            "-fingerprint",
            "-sha384",
        ]);
        let ran = openssl
            .current_dir(self.folder.path())
            .output()
            .expect("openssl runs");
        let text = String::from_utf8(ran.stdout).expect("text");
        let (_, hex) = text.trim().split_once('=').expect("a fingerprint");
        hex.split(':')
            .map(|byte| u8::from_str_radix(byte, 16).expect("hex"))
            .collect()
    }

    /// By openssl: nothing of hoop's own makes what hoop must check.
    fn make_certificates(&self) {
        self.authority("ca");
        self.authority("other");
        self.sign("server", &format!("subjectAltName=DNS:{HOST}"), "30");
        self.sign("expired", &format!("subjectAltName=DNS:{HOST}"), "-1");
        self.sign("certified", "extendedKeyUsage=clientAuth", "30");
    }

    fn authority(&self, name: &str) {
        let (key, pem) = (format!("{name}.key"), format!("{name}.pem"));
        let subject = format!("/CN=test {name}");
        let new = [
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-batch", "-days", "30",
        ];
        let rest = ["-subj", &subject, "-keyout", &key, "-out", &pem];
        self.openssl(
            &[
                &new[..],
                &rest,
                &["-addext", "keyUsage=critical,keyCertSign"],
            ]
            .concat(),
        );
    }

    fn sign(&self, name: &str, extension: &str, days: &str) {
        let file = |ending: &str| format!("{name}.{ending}");
        self.write(
            &file("ext"),
            &format!("{extension}\nbasicConstraints=CA:FALSE\n"),
        );
        let subject = format!("/CN={name}");
        self.openssl(&[
            "req",
            "-new",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-batch",
            "-subj",
            &subject,
            "-keyout",
            &file("key"),
            "-out",
            &file("csr"),
        ]);
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            &file("csr"),
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-sha384",
            "-days",
            days,
            "-extfile",
            &file("ext"),
            "-out",
            &file("pem"),
        ]);
        let key = self.folder.path().join(file("key"));
        fs::set_permissions(key, fs::Permissions::from_mode(0o600)).expect("the key's mode");
    }

    fn openssl(&self, arguments: &[&str]) {
        let mut command = Command::new("openssl");
        finish(command.args(arguments).current_dir(self.folder.path()));
    }

    fn run(&self, tool: &str, arguments: &[&str]) {
        let mut command = Command::new(tools().join(tool));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("LC_ALL", "C");
        if let Some(account) = &self.account {
            command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
        }
        finish(&mut command);
    }

    /// Everything belongs to the server's account.
    fn give_all(&self) {
        let Some(account) = &self.account else { return };
        let root = self.folder.path().to_path_buf();
        let files = fs::read_dir(&root)
            .expect("the folder")
            .flatten()
            .map(|e| e.path());
        for path in files
            .chain([root])
            .chain([self.folder.path().join("data/pg_hba.conf")])
        {
            if path.exists() {
                nix::unistd::chown(&path, Some(account.uid), Some(account.gid)).expect("chown");
            }
        }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).expect("a file of the server")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).expect("a file of the server");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.run(
            "pg_ctl",
            &["-D", "data", "-m", "immediate", "-s", "-w", "stop"],
        );
    }
}

#[expect(
    clippy::panic,
    reason = "a fixture that cannot stand fails its test, and says why"
)]
fn finish(command: &mut Command) {
    // Files, not pipes: the server that pg_ctl starts would keep a pipe open.
    let log = tempfile::tempfile().expect("a file");
    let errors = log.try_clone().expect("a file");
    let status = command
        .stdin(std::process::Stdio::null())
        .stdout(log)
        .stderr(errors.try_clone().expect("a file"))
        .status();
    let status = status.unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    if !status.success() {
        use std::io::{Read, Seek};
        let (mut errors, mut text) = (errors, String::new());
        errors.rewind().expect("a file");
        errors.read_to_string(&mut text).expect("a file");
        panic!("{command:?} failed ({status}): {text}");
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its number").port()
}

/// The newest installed server's programs.
fn tools() -> PathBuf {
    let missing = "no PostgreSQL server is installed: `cargo xtask setup` installs it";
    let installed = fs::read_dir("/usr/lib/postgresql")
        .expect(missing)
        .flatten();
    let mut found: Vec<_> = installed.map(|e| e.path().join("bin")).collect();
    found.retain(|bin: &PathBuf| Path::new(bin).join("initdb").exists());
    found.sort();
    found.pop().expect(missing)
}
