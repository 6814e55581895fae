//! `hoop trust`: gives clients the CA that vouches for hoop, and takes it back.
//!
//! Files in a home are touched with its owner's rights, through no symbolic link, and appended to:
//! what else the owner trusts stays trusted.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::home::{HomeFile, become_owner};
use super::trust_undo::{self, Given};
use crate::config::Bundle;
use crate::terminate::authority::CERTIFICATE_FILE;

/// Where libpq looks, below the home (libpq manual, "SSL Client File Usage").
pub(super) const FILE: HomeFile = HomeFile {
    folder: ".postgresql",
    name: "root.crt",
};

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
    /// Add hoop's SSH authority and key to the known hosts of the system or of one account
    Ssh(super::trust_ssh::Args),
    /// Add the CA to what kubectl and its kin trust for the configured clusters, in ~/.kube/config
    Kubeconfig(super::trust_kube::Args),
    /// Take back from every client what this command gave it
    Undo(super::trust_undo::Args),
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
    #[arg(long, value_name = "FILE", env = "HOOP_CONFIG", default_value = super::DEFAULT_CONFIG)]
    config: PathBuf,
    /// The state directory, where the configuration cannot be read
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Show(show) => print(&show),
        Command::Postgres(postgres) => change(&postgres),
        Command::Ssh(ssh) => super::trust_ssh::run(&ssh),
        Command::Kubeconfig(kubeconfig) => super::trust_kube::run(&kubeconfig),
        Command::Undo(undo) => return super::trust_undo::run(&undo),
    }?;
    Ok(ExitCode::SUCCESS)
}

impl State {
    /// The CA's certificate and where it lies.
    fn read(&self) -> Result<(String, PathBuf)> {
        let state = match &self.state {
            Some(state) => state.clone(),
            None => {
                let config = Bundle::without_secrets(&self.config).context(
                    "the configuration cannot be read, so the state directory is not known; \
                     give it with --state",
                )?;
                config.worker.state
            }
        };
        let path = state.join(CERTIFICATE_FILE);
        let pem = of_state(&path)?;
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
         ssh (OpenSSH, paramiko, …)   known hosts: `hoop trust ssh`\n  \
         kubectl, helm, client-go   the kubeconfig: `hoop trust kubeconfig --home DIR`\n  \
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
    let (pem, path) = args.state.read()?;
    let ours = Ours::of(&pem)?;
    if let (false, Some(state)) = (args.remove, path.parent()) {
        trust_undo::note(state, Given::Postgres, &args.home)?;
    }
    become_owner(&args.home)?;
    let shown = FILE.shown(&args.home);
    let Some(place) = FILE.open(&args.home, !args.remove)? else {
        println!("{} does not exist: nothing to remove", shown.display());
        return Ok(());
    };
    let read = place.read();
    let read = read.with_context(|| format!("cannot read {}", shown.display()))?;
    let (before, kept) = read.unwrap_or_default();
    let others = without(&before, &ours);
    let after = if args.remove {
        others
    } else {
        appended(others, &pem)
    };
    if after == before {
        println!("{} is as it should be already", shown.display());
        return Ok(());
    }
    place
        .write(&after, kept)
        .with_context(|| format!("cannot write {}", shown.display()))?;
    let what = if args.remove {
        "no longer trusts hoop"
    } else {
        "trusts hoop"
    };
    println!("{} {what}", shown.display());
    Ok(())
}

/// How certificates of this host's CA are told from others: by key, because it is kept when the
/// certificate is made anew, and by name, for those from before a lost state directory.
pub struct Ours {
    key: Vec<u8>,
    subject: Vec<u8>,
}

impl Ours {
    /// Of the CA's own file.
    pub fn of(pem: &str) -> Result<Self> {
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

    /// Whether a list of certificates has the CA as it is now: the key that signs what clients are
    /// shown, whatever its name.
    pub fn stand_in(&self, list: &str) -> bool {
        let certificates = blocks(list).into_iter().filter_map(|block| block.der);
        let mut parsed = certificates.filter_map(|der| Self::parse(&der));
        parsed.any(|other| other.key == self.key)
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

pub(super) fn without(text: &str, ours: &Ours) -> String {
    let kept = blocks(text)
        .into_iter()
        .filter(|b| !b.der.as_ref().is_some_and(|d| ours.is(d)));
    kept.map(|b| b.text).collect()
}

pub(super) fn appended(mut text: String, pem: &str) -> String {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text + pem.trim_end() + "\n"
}

/// A file that hoop makes in its state folder, which only root and hoop enter.
pub(super) fn of_state(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| {
        let what = match path.try_exists() {
            Ok(false) => "hoop makes it when it first runs: systemctl start hoop.service",
            _ => "run this as root",
        };
        format!("cannot read {}: {what}", path.display())
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

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
            FILE.shown(self.home.path())
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
        std::fs::create_dir(homes.home.path().join(FILE.folder)).unwrap();
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
        symlink(elsewhere.path(), homes.home.path().join(FILE.folder)).unwrap();
        let error = homes.change(false).unwrap_err();
        assert!(format!("{error:#}").contains("is a link"), "{error:#}");
        std::fs::remove_file(homes.home.path().join(FILE.folder)).unwrap();
        std::fs::create_dir(homes.home.path().join(FILE.folder)).unwrap();
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
