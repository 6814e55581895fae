//! `hoop trust`: gives clients the CA that vouches for hoop, and takes it back.
//!
//! Files in a home are touched with its owner's rights, through no symbolic link, and appended to:
//! what else the owner trusts stays trusted.

use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, geteuid, setgid, setgroups, setuid, unlinkat};

use crate::config::Bundle;
use crate::terminate::authority::CERTIFICATE_FILE;

const DEFAULT_CONFIG: &str = "/etc/hoop/hoop.toml";

/// Where libpq looks, below the home (libpq manual, "SSL Client File Usage").
const FOLDER: &str = ".postgresql";
const FILE: &str = "root.crt";
const NEW_FILE: &str = "root.crt.hoop-new";

/// A list of certificates larger than this is none.
const MAX_FILE: u64 = 4 << 20;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Print the CA's certificate, and on standard error where clients look for it
    Show(Show),
    /// Add the CA to what libpq trusts for one account, in ~/.postgresql/root.crt
    Postgres(Postgres),
}

#[derive(clap::Args)]
struct Show {
    #[command(flatten)]
    state: State,
    /// One JSON object instead
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Postgres {
    /// The account's home; the file is written with the rights of whoever owns it
    #[arg(long, value_name = "DIR")]
    home: PathBuf,
    /// Take the CA out again
    #[arg(long)]
    remove: bool,
    #[command(flatten)]
    state: State,
}

#[derive(clap::Args)]
struct State {
    /// The configuration file, which names the state directory
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// The state directory, where the configuration cannot be read
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Show(show) => print(&show),
        Command::Postgres(postgres) => change(&postgres),
    }?;
    Ok(ExitCode::SUCCESS)
}

impl State {
    /// The CA's certificate and where it lies.
    fn read(&self) -> Result<(String, PathBuf)> {
        let state = match &self.state {
            Some(state) => state.clone(),
            None => {
                let (_, config) = Bundle::gather_and_parse(&self.config);
                let config = config.context(
                    "the configuration cannot be read, so the state directory is not known; \
                     give it with --state",
                )?;
                config.worker.state
            }
        };
        let path = state.join(CERTIFICATE_FILE);
        let pem = std::fs::read_to_string(&path).with_context(|| {
            format!(
                "cannot read {}; hoop makes it when it first runs",
                path.display()
            )
        })?;
        Ok((pem, path))
    }
}

fn print(show: &Show) -> Result<()> {
    let (pem, path) = show.state.read()?;
    let mut out = std::io::stdout().lock();
    if show.json {
        let object = serde_json::json!({ "path": path, "pem": pem });
        writeln!(out, "{object}")?;
        return Ok(());
    }
    out.write_all(pem.as_bytes())?;
    eprintln!(
        "This is {}. Clients look for it here:\n  \
         libpq (psql, psycopg, …)   ~/.postgresql/root.crt, or sslrootcert: \
         `hoop trust postgres --home DIR`\n  \
         sslrootcert=system, Go, Rust, curl   the system's list: \
         /usr/local/share/ca-certificates/hoop.crt, then `update-ca-certificates`\n  \
         Node.js   NODE_EXTRA_CA_CERTS={0}\n  \
         Python's requests   REQUESTS_CA_BUNDLE (a list that replaces the default)\n  \
         Java      its own list: `keytool -importcert -cacerts -file {0}`; the PostgreSQL driver \
         also reads ~/.postgresql/root.crt",
        path.display()
    );
    Ok(())
}

fn change(args: &Postgres) -> Result<()> {
    let (pem, _) = args.state.read()?;
    let ours = Ours::of(&pem)?;
    become_owner(&args.home)?;
    let shown = args.home.join(FOLDER).join(FILE);
    let Some(folder) = open_folder(&args.home, !args.remove)? else {
        println!("{} does not exist: nothing to remove", shown.display());
        return Ok(());
    };
    let (before, mode) =
        read(&folder).with_context(|| format!("cannot read {}", shown.display()))?;
    let kept = without(&before, &ours);
    let after = if args.remove {
        kept
    } else {
        appended(kept, &pem)
    };
    if after == before {
        println!("{} is as it should be already", shown.display());
        return Ok(());
    }
    write(&folder, &after, mode).with_context(|| format!("cannot write {}", shown.display()))?;
    let what = if args.remove {
        "no longer trusts hoop"
    } else {
        "trusts hoop"
    };
    println!("{} {what}", shown.display());
    Ok(())
}

/// For the rest of this process: whatever links and mounts an account put into its home, they lead
/// nowhere that the account itself could not write.
fn become_owner(home: &Path) -> Result<()> {
    let facts =
        std::fs::metadata(home).with_context(|| format!("cannot open {}", home.display()))?;
    let owner = Uid::from_raw(facts.uid());
    if owner == geteuid() {
        return Ok(());
    }
    if !geteuid().is_root() {
        bail!(
            "{} belongs to another account (uid {owner}): run this as it or as root",
            home.display()
        );
    }
    setgroups(&[]).context("cannot leave root's groups")?;
    setgid(Gid::from_raw(facts.gid())).context("cannot take the owner's group")?;
    setuid(owner).context("cannot become the owner")
}

/// Opens `.postgresql`; `None` if it does not exist and is not to be made.
fn open_folder(home: &Path, make: bool) -> Result<Option<OwnedFd>> {
    let folder = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let home_fd = open(home, folder, Mode::empty())
        .with_context(|| format!("cannot open {}", home.display()))?;
    if make {
        match mkdirat(&home_fd, FOLDER, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(error).context("cannot make .postgresql in the home"),
        }
    }
    match openat(&home_fd, FOLDER, folder | OFlag::O_NOFOLLOW, Mode::empty()) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENOENT) => Ok(None),
        Err(Errno::ELOOP | Errno::ENOTDIR) => {
            bail!(
                "{FOLDER} in {} is a link or no folder; hoop follows none",
                home.display()
            )
        }
        Err(error) => Err(error).context("cannot open .postgresql in the home"),
    }
}

/// The file's text, empty if there is none, and the mode to keep.
fn read(folder: &OwnedFd) -> Result<(String, Mode)> {
    // Non-blocking: a pipe that lies there in its place must not hold us.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let file = match openat(folder, FILE, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::ENOENT) => return Ok((String::new(), Mode::from_bits_truncate(0o644))),
        Err(Errno::ELOOP) => bail!("it is a link; hoop follows none"),
        Err(error) => return Err(error.into()),
    };
    let facts = file.metadata()?;
    if !facts.is_file() || facts.len() > MAX_FILE {
        bail!("it is no file of certificates");
    }
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text)?;
    Ok((text, Mode::from_bits_truncate(facts.mode() & 0o777)))
}

/// Replaces the file whole, or removes it where nothing is left: libpq fails on an empty one.
fn write(folder: &OwnedFd, text: &str, mode: Mode) -> Result<()> {
    if text.trim().is_empty() {
        return match unlinkat(folder, FILE, UnlinkatFlags::NoRemoveDir) {
            Err(error) if error != Errno::ENOENT => Err(error.into()),
            _ => Ok(()),
        };
    }
    let _ = unlinkat(folder, NEW_FILE, UnlinkatFlags::NoRemoveDir);
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
    let mut file = File::from(openat(folder, NEW_FILE, flags | OFlag::O_CLOEXEC, mode)?);
    file.write_all(text.as_bytes())?;
    // Not left to the umask: the mode that the owner chose stays.
    file.set_permissions(Permissions::from_mode(mode.bits()))?;
    file.sync_all()?;
    renameat(folder.as_fd(), NEW_FILE, folder.as_fd(), FILE)?;
    Ok(())
}

/// How certificates of this host's CA are told from others: by key, because it is kept when the
/// certificate is made anew, and by name, for those from before a lost state directory.
struct Ours {
    key: Vec<u8>,
    subject: Vec<u8>,
}

impl Ours {
    fn of(pem: &str) -> Result<Self> {
        let block = blocks(pem).into_iter().find_map(|b| b.der);
        let der = block.context("the CA's file holds no certificate")?;
        Self::parse(&der).context("the CA's certificate is damaged")
    }

    fn parse(der: &[u8]) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
        Some(Self {
            key: parsed.public_key().raw.to_vec(),
            subject: parsed.subject().as_raw().to_vec(),
        })
    }

    fn is(&self, der: &[u8]) -> bool {
        Self::parse(der).is_some_and(|o| o.key == self.key || o.subject == self.subject)
    }
}

/// A stretch of the file: one certificate, or the text between two.
struct Block<'a> {
    text: &'a str,
    der: Option<Vec<u8>>,
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((before, body)) = rest.split_once(BEGIN) {
        let Some((encoded, after)) = body.split_once(END) else {
            break;
        };
        let start = before.len();
        let end = rest.len() - after.len();
        let end = end + after.strip_prefix('\n').map_or(0, |_| 1);
        blocks.push(Block {
            text: before,
            der: None,
        });
        let encoded: String = encoded.split_ascii_whitespace().collect();
        let text = rest.get(start..end).unwrap_or_default();
        blocks.push(Block {
            text,
            der: BASE64.decode(encoded).ok(),
        });
        rest = rest.get(end..).unwrap_or_default();
    }
    blocks.push(Block {
        text: rest,
        der: None,
    });
    blocks
}

fn without(text: &str, ours: &Ours) -> String {
    let kept = blocks(text)
        .into_iter()
        .filter(|b| !b.der.as_ref().is_some_and(|d| ours.is(d)));
    kept.map(|b| b.text).collect()
}

fn appended(mut text: String, pem: &str) -> String {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text + pem.trim_end() + "\n"
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::forward::fixture::{config, resource};
    use crate::terminate::authority::{Authority, Destinations};

    fn make_ca(state: &Path, host: &str) -> String {
        let config = config(vec![resource("orders", &[host])]);
        Authority::open(state, &Destinations::of(&config))
            .unwrap()
            .ca_pem()
    }

    struct Homes {
        state: tempfile::TempDir,
        home: tempfile::TempDir,
    }

    impl Homes {
        fn new() -> Self {
            Self {
                state: tempfile::tempdir().unwrap(),
                home: tempfile::tempdir().unwrap(),
            }
        }

        fn file(&self) -> PathBuf {
            self.home.path().join(FOLDER).join(FILE)
        }

        fn change(&self, remove: bool) -> Result<()> {
            let state = Some(self.state.path().into());
            let state = State {
                config: PathBuf::new(),
                state,
            };
            change(&Postgres {
                home: self.home.path().into(),
                remove,
                state,
            })
        }
    }

    #[test]
    fn added_once_replaced_when_made_anew_and_removed_without_trace() {
        let homes = Homes::new();
        let first = make_ca(homes.state.path(), "db.internal");
        homes.change(false).unwrap();
        homes.change(false).unwrap();
        assert_eq!(
            std::fs::read_to_string(homes.file()).unwrap().trim(),
            first.trim()
        );
        let second = make_ca(homes.state.path(), "other.internal");
        assert_ne!(first, second);
        homes.change(false).unwrap();
        assert_eq!(
            std::fs::read_to_string(homes.file()).unwrap().trim(),
            second.trim()
        );
        homes.change(true).unwrap();
        assert!(!homes.file().exists());
        homes.change(true).unwrap();
    }

    #[test]
    fn what_else_is_trusted_stays_as_it_was() {
        let homes = Homes::new();
        make_ca(homes.state.path(), "db.internal");
        let key = rcgen::KeyPair::generate().unwrap();
        let other = rcgen::CertificateParams::new(vec!["x".into()]).unwrap();
        let other = other.self_signed(&key).unwrap().pem();
        let before = format!("# the company's\r\n{other}# end, no newline");
        std::fs::create_dir(homes.home.path().join(FOLDER)).unwrap();
        std::fs::write(homes.file(), &before).unwrap();
        std::fs::set_permissions(homes.file(), PermissionsExt::from_mode(0o600)).unwrap();
        homes.change(false).unwrap();
        let with = std::fs::read_to_string(homes.file()).unwrap();
        assert!(
            with.starts_with(&before) && with.matches(BEGIN).count() == 2,
            "{with}"
        );
        let mode = std::fs::metadata(homes.file()).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        homes.change(true).unwrap();
        let after = std::fs::read_to_string(homes.file()).unwrap();
        assert_eq!(after.trim_end(), before);
    }

    #[test]
    fn links_are_not_followed() {
        let homes = Homes::new();
        make_ca(homes.state.path(), "db.internal");
        let elsewhere = tempfile::tempdir().unwrap();
        let victim = elsewhere.path().join("victim");
        std::fs::write(&victim, "untouched").unwrap();
        symlink(elsewhere.path(), homes.home.path().join(FOLDER)).unwrap();
        let error = homes.change(false).unwrap_err();
        assert!(format!("{error:#}").contains("is a link"), "{error:#}");
        std::fs::remove_file(homes.home.path().join(FOLDER)).unwrap();
        std::fs::create_dir(homes.home.path().join(FOLDER)).unwrap();
        symlink(&victim, homes.file()).unwrap();
        for remove in [false, true] {
            let error = homes.change(remove).unwrap_err();
            assert!(format!("{error:#}").contains("is a link"), "{error:#}");
        }
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
    }

    #[test]
    fn a_damaged_list_is_kept_as_it_is() {
        let text = format!("{BEGIN}\nnot base64 !\n{END}\ntail {BEGIN} no end");
        let joined: String = blocks(&text).iter().map(|b| b.text).collect();
        assert_eq!(joined, text);
        assert_eq!(appended("a".into(), "b"), "a\nb\n");
    }
}
