//! A real OpenSSH server with an account of its own, and what clients need to reach it, past hoop
//! or through it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::unistd::{Gid, Uid};

use crate::place::Place;
use crate::{files, ran};

pub const HOST: &str = "web1.prod.internal";
/// The account that exists in the world alone.
pub const ACCOUNT: &str = "deploy";
/// Known to hoop and to the server; no agent has it.
pub const PASSWORD: &str = "wrong horse battery staple";
/// The last number of its address.
pub const ADDRESS: u8 = 30;
const UID: u32 = 47_001;

/// The server, and how it is known.
pub struct Sshd {
    folder: PathBuf,
    pub home: PathBuf,
}

/// Written before the world's mounts are made: an account as the world sees it.
pub fn write_account(folder: &Path) -> Result<()> {
    let home = folder.join("home").join(ACCOUNT);
    std::fs::create_dir_all(&home)?;
    nix::unistd::chown(&home, Some(Uid::from_raw(UID)), Some(Gid::from_raw(UID)))?;
    let mut hash = Command::new("openssl");
    hash.args(["passwd", "-6", PASSWORD]);
    let hash = ran::run(&mut hash, "", Duration::from_secs(10))?
        .ok()?
        .stdout;
    let passwd = files::read(Path::new("/etc/passwd"))?;
    let entry = format!("{ACCOUNT}:x:{UID}:{UID}::{}:/bin/bash\n", home.display());
    files::write(&folder.join("passwd"), passwd + &entry)?;
    let shadow = files::read(Path::new("/etc/shadow"))?;
    let entry = format!("{ACCOUNT}:{}:20000:0:99999:7:::\n", hash.trim());
    files::write_secret(&folder.join("shadow"), shadow + &entry)
}

impl Sshd {
    /// Starts a server at the place's SSH address; it trusts `user_authority` if it is there.
    pub fn start(place: &Place) -> Result<Self> {
        let folder = place.path("sshd");
        std::fs::create_dir_all(&folder)?;
        std::fs::create_dir_all("/run/sshd")?;
        let sshd = Self {
            folder,
            home: place.path("home").join(ACCOUNT),
        };
        for name in ["host", "login"] {
            sshd.keygen(&["-t", "ed25519", "-f", &sshd.path(name), "-C", name])?;
        }
        let keys = files::read(&sshd.folder.join("login.pub"))?;
        files::write(&sshd.folder.join("authorized"), keys)?;
        files::write(&sshd.folder.join("authorities"), "")?;
        files::write(&sshd.folder.join("sshd_config"), sshd.settings(place))?;
        let mut command = place.command("services", None, "/usr/sbin/sshd")?;
        command
            .arg("-D")
            .arg("-f")
            .arg(sshd.folder.join("sshd_config"))
            .arg("-E")
            .arg(sshd.folder.join("log"));
        command.spawn().context("cannot start sshd")?;
        sshd.wait(place)?;
        Ok(sshd)
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// The server's own key, as known hosts write it.
    pub fn host_key(&self) -> Result<String> {
        let text = files::read(&self.folder.join("host.pub"))?;
        let words: Vec<&str> = text.split_whitespace().take(2).collect();
        Ok(words.join(" "))
    }

    /// Has the server believe the certificates of this authority.
    pub fn trust_authority(&self, public_key: &str) -> Result<()> {
        files::write(&self.folder.join("authorities"), public_key)
    }

    /// What the server wrote about itself.
    pub fn log(&self) -> Result<String> {
        files::read(&self.folder.join("log"))
    }

    /// A line as somebody's known hosts would have it before hoop came.
    pub fn known_line(&self) -> Result<String> {
        Ok(format!("{HOST} {}\n", self.host_key()?))
    }

    fn keygen(&self, arguments: &[&str]) -> Result<()> {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-N", ""]).args(arguments);
        ran::run(&mut keygen, "", Duration::from_secs(20))?.ok()?;
        Ok(())
    }

    fn settings(&self, place: &Place) -> String {
        let folder = self.folder.display();
        let address = place.address(ADDRESS);
        format!(
            "ListenAddress {address}\nPort 22\nHostKey {folder}/host\nPidFile {folder}/pid\n\
             AuthorizedKeysFile {folder}/authorized\nTrustedUserCAKeys {folder}/authorities\n\
             UsePAM no\nPasswordAuthentication yes\nStrictModes no\nAllowUsers {ACCOUNT}\n\
             PermitTTY yes\nAcceptEnv LANG LC_* GIT_PROTOCOL\nMaxSessions 200\n\
             MaxStartups 200\nLogLevel VERBOSE\nAllowTcpForwarding yes\nPrintMotd no\n\
             PrintLastLog no\nRekeyLimit 32M\nSubsystem sftp /usr/lib/openssh/sftp-server\n"
        )
    }

    fn wait(&self, place: &Place) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(15);
        while Instant::now() < until {
            if std::net::TcpStream::connect((place.address(ADDRESS), 22)).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("sshd does not listen: {}", self.log().unwrap_or_default())
    }
}

/// What every client of the world is configured with: strict, and nothing of root's own.
pub fn write_client_settings(place: &Place, sshd: &Sshd, known: &Path) -> Result<PathBuf> {
    let users = place.path("sshd/users_known_hosts");
    files::write(&users, sshd.known_line()?)?;
    let settings = place.path("sshd/ssh_config");
    files::write(
        &settings,
        format!(
            "Host *\n  User {ACCOUNT}\n  StrictHostKeyChecking yes\n  BatchMode yes\n  \
             UserKnownHostsFile {}\n  GlobalKnownHostsFile {}\n  LogLevel ERROR\n  \
             IdentitiesOnly yes\n  IdentityFile none\n",
            users.display(),
            known.display(),
        ),
    )?;
    std::fs::set_permissions(&settings, std::fs::Permissions::from_mode(0o644))?;
    Ok(settings)
}
