//! hoop's SSH keys: by which clients know it, and with which it vouches for the agents upstream.
//!
//! Two authorities and one key, Ed25519, made at the first start and kept in the state directory
//! in OpenSSH's own form. A host certificate names the destination that the client reached for and
//! lives for a day; a user certificate names the agent's identity and session and lives for
//! minutes, enough to log in with.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::rand::{SecureRandom, SystemRandom};
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::ssh_key::{self, LineEnding};
use russh::keys::{Certificate, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use super::Faces;
use crate::config::SshMinted;
use crate::whole;

/// Below the state directory; each has a `.pub` beside it.
pub const HOST_AUTHORITY: &str = "ssh-host-ca";
pub const USER_AUTHORITY: &str = "ssh-user-ca";
pub const HOST_KEY: &str = "ssh-host";

const HOST_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Clocks of clients and servers may be behind.
const BACKDATED: Duration = Duration::from_secs(10 * 60);
/// A key's file is a few hundred bytes.
const MAX_FILE: u64 = 16 << 10;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(
        "cannot {what} {path}: {source}; the state directory must belong to the worker's account"
    )]
    File {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "{path} may be read by others (mode {mode:o}); run chmod 600, or move it away and hoop makes a new key"
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error(
        "{path} holds no private key of SSH: {why}; move it away and hoop makes a new one, which clients and servers must be given"
    )]
    Unusable { path: PathBuf, why: String },
    #[error("the system has no randomness")]
    NoRandomness,
    #[error("a certificate cannot be made: {0}")]
    Mint(#[from] ssh_key::Error),
}

pub struct Keys {
    host_authority: PrivateKey,
    user_authority: PrivateKey,
    host: PrivateKey,
    random: SystemRandom,
}

impl Keys {
    /// Opens the keys of a state directory, and makes those that are not there.
    pub fn open(state: &Path) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let open = |name, comment| open_key(&state.join(name), comment, &random);
        Ok(Self {
            host_authority: open(HOST_AUTHORITY, "hoop host authority")?,
            user_authority: open(USER_AUTHORITY, "hoop user authority")?,
            host: open(HOST_KEY, "hoop")?,
            random,
        })
    }

    /// The key and certificate for a client that reached for any of these names.
    pub fn faces(&self, names: &[String], now: SystemTime) -> Result<Faces, KeyError> {
        let mut builder = self.builder(self.host.public_key(), now, HOST_LIFE)?;
        builder.cert_type(CertType::Host)?;
        builder.key_id("hoop")?;
        for name in names {
            builder.valid_principal(name)?;
        }
        // Without a name it would be valid for all.
        let certificate = match names.is_empty() {
            true => None,
            false => Some(builder.sign(&self.host_authority)?),
        };
        Ok(Faces {
            key: self.host.clone(),
            certificate,
        })
    }

    /// A key that exists for one login, and a certificate for it.
    pub fn mint(
        &self,
        minted: &SshMinted,
        user: &str,
        key_id: &str,
        now: SystemTime,
    ) -> Result<(Arc<PrivateKey>, Certificate), KeyError> {
        let key = make_key("", &self.random)?;
        let mut builder = self.builder(key.public_key(), now, minted.lifetime)?;
        builder.cert_type(CertType::User)?;
        builder.key_id(key_id)?;
        match &*minted.principals {
            [] => {
                builder.valid_principal(user)?;
            }
            principals => {
                for principal in principals {
                    builder.valid_principal(principal)?;
                }
            }
        }
        if let Some(command) = &minted.force_command {
            builder.critical_option("force-command", command)?;
        }
        if !minted.source_address.is_empty() {
            let nets = minted.source_address.iter().map(ToString::to_string);
            let nets: Vec<_> = nets.collect();
            builder.critical_option("source-address", nets.join(","))?;
        }
        // What a session needs and nothing that reaches back to the agent.
        builder.extension("permit-pty", "")?;
        builder.extension("permit-port-forwarding", "")?;
        let certificate = builder.sign(&self.user_authority)?;
        Ok((Arc::new(key), certificate))
    }

    fn builder(
        &self,
        key: &PublicKey,
        now: SystemTime,
        life: Duration,
    ) -> Result<Builder, KeyError> {
        let nonce: [u8; 32] = random(&self.random)?;
        let serial: [u8; 8] = random(&self.random)?;
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let from = now.saturating_sub(BACKDATED).as_secs();
        let until = (now + life).as_secs();
        let mut builder = Builder::new(nonce, key.key_data().clone(), from, until)?;
        builder.serial(u64::from_be_bytes(serial))?;
        Ok(builder)
    }
}

fn random<const N: usize>(source: &SystemRandom) -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    source
        .fill(&mut bytes)
        .map_err(|_| KeyError::NoRandomness)?;
    Ok(bytes)
}

fn make_key(comment: &str, source: &SystemRandom) -> Result<PrivateKey, KeyError> {
    let seed = Zeroizing::new(random::<32>(source)?);
    let pair = Ed25519Keypair::from_seed(&seed);
    let mut key = PrivateKey::from(pair);
    key.set_comment(comment);
    Ok(key)
}

fn open_key(path: &Path, comment: &str, source: &SystemRandom) -> Result<PrivateKey, KeyError> {
    let failed = |what| {
        let path = path.to_owned();
        move |source| KeyError::File { what, path, source }
    };
    let unusable = |error: ssh_key::Error| KeyError::Unusable {
        path: path.to_owned(),
        why: error.to_string(),
    };
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path);
    let key = match opened {
        Ok(file) => {
            let mode = file.metadata().map_err(failed("read"))?.mode() & 0o777;
            if mode & 0o077 != 0 {
                let path = path.to_owned();
                return Err(KeyError::Exposed { path, mode });
            }
            let mut text = Zeroizing::new(String::new());
            file.take(MAX_FILE)
                .read_to_string(&mut text)
                .map_err(failed("read"))?;
            PrivateKey::from_openssh(text.as_bytes()).map_err(unusable)?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = make_key(comment, source)?;
            let text = key.to_openssh(LineEnding::LF).map_err(unusable)?;
            whole::write(path, text.as_bytes(), 0o600).map_err(failed("write"))?;
            key
        }
        Err(error) => return Err(failed("read")(error)),
    };
    let public = key.public_key().to_openssh().map_err(unusable)?;
    let beside = path.with_extension("pub");
    whole::write(&beside, format!("{public}\n").as_bytes(), 0o644).map_err(failed("write"))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use russh::keys::HashAlg;

    #[test]
    fn keys_are_made_once_and_vouch_for_what_they_name() {
        let state = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let names = ["web1.prod.internal".to_owned(), "10.0.0.7".to_owned()];
        let first = Keys::open(state.path())
            .unwrap()
            .faces(&names, now)
            .unwrap();
        let again = Keys::open(state.path())
            .unwrap()
            .faces(&names, now)
            .unwrap();
        assert_eq!(first.key.public_key(), again.key.public_key());
        let certificate = first.certificate.unwrap();
        let public = std::fs::read_to_string(state.path().join("ssh-host-ca.pub")).unwrap();
        let authority = PublicKey::from_openssh(&public).unwrap();
        let trusted = authority.fingerprint(HashAlg::Sha256);
        certificate.validate(&[trusted]).unwrap();
        assert_eq!(certificate.cert_type(), CertType::Host);
        assert_eq!(certificate.valid_principals(), names);
        let mode = std::fs::metadata(state.path().join(HOST_KEY))
            .unwrap()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_user_certificate_names_one_account_and_the_session() {
        let state = tempfile::tempdir().unwrap();
        let keys = Keys::open(state.path()).unwrap();
        let now = SystemTime::now();
        let mut minted = SshMinted::default();
        let (_, certificate) = keys.mint(&minted, "deploy", "bot 01", now).unwrap();
        assert_eq!(certificate.valid_principals(), ["deploy"]);
        assert_eq!(certificate.key_id(), "bot 01");
        assert_eq!(certificate.cert_type(), CertType::User);
        assert!(
            certificate
                .extensions()
                .get("permit-agent-forwarding")
                .is_none()
        );
        minted.principals = vec!["ops".into(), "web".into()];
        minted.force_command = Some("backup".into());
        minted.source_address = vec!["10.0.0.0/8".parse().unwrap()];
        let (_, certificate) = keys.mint(&minted, "deploy", "bot 01", now).unwrap();
        assert_eq!(certificate.valid_principals(), ["ops", "web"]);
        let options = certificate.critical_options();
        assert_eq!(
            options.get("force-command").map(String::as_str),
            Some("backup")
        );
        assert_eq!(
            options.get("source-address").map(String::as_str),
            Some("10.0.0.0/8")
        );
    }

    #[test]
    fn a_key_that_others_may_read_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let state = tempfile::tempdir().unwrap();
        Keys::open(state.path()).unwrap();
        let path = state.path().join(HOST_AUTHORITY);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            Keys::open(state.path()),
            Err(KeyError::Exposed { .. })
        ));
    }
}
