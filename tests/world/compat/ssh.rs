//! Where suites of SSH run: hosts by their names, a folder here and one there for each run, and what the
//! clients are told.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use hoop_tests::sshd::{ACCOUNT, HOST, PASSWORD};
use hoop_tests::{PATIENCE, Place, Who, World};

/// The servers of OpenSSH's scripts: the one that they have at the end of a pipe, and the one that
/// they start. Not 22: nobody there is root.
pub const PROXIED: &str = "proxied.prod.internal";
pub const STARTED: &str = "started.prod.internal";
pub const REGRESS_PORT: u16 = 4242;
/// `fleet1.prod.internal` and so on, for ansible.
const FLEET: u8 = 20;
/// What is reached from the server: it says one line.
const ECHO: &str = "echo.prod.internal";
const ECHO_PORT: u16 = 7000;

/// The last numbers of addresses.
const AT_PROXIED: u8 = 31;
const AT_STARTED: u8 = 32;
const AT_ECHO: u8 = 40;
const AT_FLEET: u8 = 100;

/// Ports at which OpenSSH's scripts listen themselves, to forward them.
pub fn forwarded() -> impl Iterator<Item = u16> {
    let next = (REGRESS_PORT + 1)..=(REGRESS_PORT + 4);
    next.chain(3300..=3323).chain(3350..=3373)
}

pub struct Hosts {
    folder: PathBuf,
    key: PathBuf,
    long: bool,
}

impl Hosts {
    /// Before the world: the key of the hosts beside the world's own, which is the login to them too, and
    /// the part of the configuration that names them.
    pub fn configured(place: &Place) -> Result<String> {
        let folder = place.path("compat");
        std::fs::create_dir_all(&folder)?;
        let key = folder.join("key");
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "key", "-f"]);
        hoop_tests::run(keygen.arg(&key), "", PATIENCE)?.ok()?;
        let public = super::read(&key.with_extension("pub"))?;
        let words: Vec<&str> = public.split_whitespace().take(2).collect();
        place.set_hosts(&names(place))?;
        let resource = |name: &str, hosts: &[String], port: u16| {
            format!(
                "[[resource]]\nname = \"{name}\"\nprotocol = \"ssh\"\nhosts = {hosts:?}\nport = {port}\n\
                 host_keys = [\"{}\"]\n\
                 login = {{ user = \"{ACCOUNT}\", key = {{ file = \"{}\" }} }}\n\n",
                words.join(" "),
                key.display(),
            )
        };
        let regress = [PROXIED, STARTED].map(str::to_owned);
        let fleet: Vec<String> = (1..=FLEET).map(fleet).collect();
        Ok(resource("regress", &regress, REGRESS_PORT) + &resource("fleet", &fleet, 22))
    }

    /// Starts what is behind the names.
    pub fn start(world: &World, long: bool) -> Result<Self> {
        let place = &world.place;
        let hosts = Self {
            folder: place.path("compat"),
            key: place.path("compat/key"),
            long,
        };
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat/ssh");
        // The account cannot read where this is built.
        let serve = hosts.folder.join("serve.sh");
        std::fs::copy(ours.join("serve.sh"), &serve)?;
        let at = |host: u8, port| SocketAddr::from((place.address(host), port));
        let own = SocketAddr::from(([127, 0, 0, 1], REGRESS_PORT));
        for (address, which) in [
            (at(AT_PROXIED, REGRESS_PORT), "proxy"),
            (at(AT_STARTED, REGRESS_PORT), "config"),
            (own, "config"),
        ] {
            let mut words = vec!["sh".to_owned(), serve.display().to_string()];
            words.extend([hosts.regress().display().to_string(), which.to_owned()]);
            serve_each(world, address, Some(ACCOUNT), words)?;
        }
        let echo = ["sh", "-c", "echo by way of the server"].map(str::to_owned);
        serve_each(world, at(AT_ECHO, ECHO_PORT), Some(ACCOUNT), echo.to_vec())?;
        let config = hosts.folder.join("sshd_config");
        std::fs::write(&config, hosts.server_settings())?;
        let sshd = format!("/usr/sbin/sshd -i -f {}", config.display());
        for n in 1..=FLEET {
            let words = sshd.split(' ').map(str::to_owned).collect();
            serve_each(world, at(AT_FLEET + n, 22), None, words)?;
        }
        hosts.write_known(world)?;
        Ok(hosts)
    }

    pub fn key(&self) -> &Path {
        &self.key
    }

    /// Whether suites run in full sizes.
    pub fn is_long(&self) -> bool {
        self.long
    }

    /// Where OpenSSH's scripts lie, and the servers that they configure.
    pub fn regress(&self) -> PathBuf {
        self.folder.join("regress")
    }

    /// The account, as chown has it.
    pub fn owner(&self) -> &'static str {
        "47001:47001"
    }

    /// The folder here of a suite.
    pub fn work(&self, suite: &str) -> PathBuf {
        self.folder.join("work").join(suite)
    }

    /// Empties the folders of a suite, here and there: both sides find the same.
    pub fn fresh(&self, suite: &str) -> Result<()> {
        let there = PathBuf::from(self.there(suite));
        for folder in [&self.work(suite), &there] {
            if folder.exists() {
                std::fs::remove_dir_all(folder)
                    .with_context(|| format!("cannot remove {}", folder.display()))?;
            }
            std::fs::create_dir_all(folder)?;
        }
        let mut chown = Command::new("chown");
        hoop_tests::run(chown.arg(self.owner()).arg(there), "", PATIENCE)?.ok()?;
        Ok(())
    }

    /// What a suite's clients are told; tests/compat/ssh/cases.sh says what each is.
    pub fn environment(&self, who: Who<'_>, suite: &str) -> Result<Vec<(&'static str, String)>> {
        let work = self.work(suite).display().to_string();
        let tools = hoop_tests::target()?.join("python/bin");
        let known = match who {
            Who::Direct => "known-servers",
            Who::Agent(_) => "known-hoop",
        };
        let path = |name: &str| self.folder.join(name).display().to_string();
        Ok(vec![
            ("HOME", work.clone()),
            ("WORK", work),
            ("THERE", self.there(suite)),
            ("SSH_HOST", HOST.to_owned()),
            ("SSH_ACCOUNT", ACCOUNT.to_owned()),
            ("SSH_KEY", path("login")),
            ("SSH_PASSWORD", PASSWORD.to_owned()),
            ("SSH_KNOWN", path(known)),
            ("SSH_CONFIG", path("ssh_config")),
            ("SSH_ECHO", format!("{ECHO}:{ECHO_PORT}")),
            ("FLEET_COUNT", FLEET.to_string()),
            ("TOOLS", tools.display().to_string()),
            ("LONG", u8::from(self.long).to_string()),
        ])
    }

    /// A command as an account, on one of the sides.
    pub fn command(
        &self,
        world: &World,
        who: Who<'_>,
        account: &str,
        program: &str,
    ) -> Result<Command> {
        let cgroup = match who {
            Who::Agent(name) => format!("agents.slice/{name}.service"),
            Who::Direct => "outside".to_owned(),
        };
        world.place.command(&cgroup, Some(account), program)
    }

    /// The folder there of a suite.
    pub fn there(&self, suite: &str) -> String {
        let world = self.folder.parent().unwrap_or(&self.folder);
        let home = world.join("home").join(ACCOUNT);
        home.join(suite).display().to_string()
    }

    fn server_settings(&self) -> String {
        let key = self.key.display();
        format!(
            "HostKey {key}\nAuthorizedKeysFile {key}.pub\nPidFile none\nUsePAM no\nStrictModes no\n\
             AllowUsers {ACCOUNT}\nAcceptEnv LANG LC_* GIT_PROTOCOL\nMaxSessions 200\nPrintMotd no\n\
             PrintLastLog no\nSubsystem sftp /usr/lib/openssh/sftp-server\n"
        )
    }

    /// What clients know: the servers' own keys, hoop's plain key, and for OpenSSH's programs both.
    fn write_known(&self, world: &World) -> Result<()> {
        let sshd = world.sshd.as_ref().context("no SSH server")?;
        let own = super::read(&self.key.with_extension("pub"))?;
        let mut servers = sshd.known_line()?;
        for host in (1..=FLEET).map(fleet) {
            servers += &format!("{host} {own}");
        }
        std::fs::write(self.folder.join("known-servers"), servers)?;
        let all = world.place.path("known_hosts");
        let plain = super::read(&all)?;
        let plain: Vec<&str> = plain.lines().filter(|l| !l.starts_with('@')).collect();
        std::fs::write(self.folder.join("known-hoop"), plain.join("\n") + "\n")?;
        // The same login for every host, so that clients need one key.
        for suffix in ["", ".pub"] {
            let from = format!("{}{suffix}", sshd.path("login"));
            std::fs::copy(from, self.folder.join(format!("login{suffix}")))?;
        }
        let settings = format!(
            "Host *\n  User {ACCOUNT}\n  IdentityFile {login}\n  IdentityFile {key}\n  IdentitiesOnly yes\n  \
             StrictHostKeyChecking yes\n  BatchMode yes\n  UserKnownHostsFile {servers}\n  \
             GlobalKnownHostsFile {all}\n  LogLevel ERROR\n",
            login = self.folder.join("login").display(),
            key = self.key.display(),
            servers = self.folder.join("known-servers").display(),
            all = all.display(),
        );
        Ok(std::fs::write(self.folder.join("ssh_config"), settings)?)
    }
}

fn fleet(n: u8) -> String {
    format!("fleet{n}.prod.internal")
}

fn names(place: &Place) -> String {
    let named = [
        (AT_PROXIED, PROXIED.to_owned()),
        (AT_STARTED, STARTED.to_owned()),
        (AT_ECHO, ECHO.to_owned()),
    ];
    let fleet = (1..=FLEET).map(|n| (AT_FLEET + n, fleet(n)));
    let all = named.into_iter().chain(fleet);
    all.map(|(host, name)| format!("{} {name}\n", place.address(host)))
        .collect()
}

/// Each connection is served by a program of its own, in the cgroup of the servers: its standard input
/// and output are the socket.
fn serve_each(
    world: &World,
    address: SocketAddr,
    user: Option<&str>,
    words: Vec<String>,
) -> Result<()> {
    let listener =
        TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    let (program, arguments) = words.split_first().context("no program")?;
    // Made once, to know that it can be.
    let mut command = world.place.command("services", user, program)?;
    command.args(arguments).stderr(Stdio::null());
    std::thread::spawn(move || {
        let mut children: Vec<Child> = Vec::new();
        for stream in listener.incoming() {
            children.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
            let started = stream.and_then(|stream| {
                let input = OwnedFd::from(stream.try_clone()?);
                command.stdin(input).stdout(OwnedFd::from(stream));
                let child = command.spawn();
                // Else the last connection stays open with it.
                command.stdin(Stdio::null()).stdout(Stdio::null());
                child
            });
            match started {
                Ok(child) => children.push(child),
                Err(error) => eprintln!("compat: {address}: {error}"),
            }
        }
    });
    Ok(())
}
