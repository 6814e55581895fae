//! Certificates of the test servers, by openssl: nothing of hoop's own makes what hoop must check.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{files, ran};

/// A certificate authority for the servers of one world.
pub struct Authority {
    folder: PathBuf,
}

/// A server's certificate and key, as PEM files.
pub struct Certificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

const KEY: [&str; 6] = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
    "-batch",
];

impl Authority {
    pub fn make(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let authority = Self {
            folder: folder.to_path_buf(),
        };
        let mut openssl = Command::new("openssl");
        openssl
            .args(["req", "-x509", "-days", "30", "-subj", "/CN=test servers"])
            .args(KEY);
        openssl.args(["-addext", "basicConstraints=critical,CA:TRUE"]);
        openssl.args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"]);
        openssl
            .arg("-keyout")
            .arg(folder.join("ca.key"))
            .arg("-out")
            .arg(authority.pem());
        finish(&mut openssl)?;
        Ok(authority)
    }

    /// The authority's own certificate.
    pub fn pem(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    pub fn sign(&self, name: &str) -> Result<Certificate> {
        let made = Certificate {
            certificate: self.folder.join(format!("{name}.pem")),
            key: self.folder.join(format!("{name}.key")),
        };
        let mut openssl = Command::new("openssl");
        openssl
            .args(["req", "-x509", "-days", "30"])
            .arg("-subj")
            .arg(format!("/CN={name}"));
        openssl
            .args(KEY)
            .arg("-CA")
            .arg(self.pem())
            .arg("-CAkey")
            .arg(self.folder.join("ca.key"));
        openssl.args(["-addext", &format!("subjectAltName=DNS:{name}")]);
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        openssl.args(["-addext", "extendedKeyUsage=serverAuth"]);
        openssl
            .arg("-keyout")
            .arg(&made.key)
            .arg("-out")
            .arg(&made.certificate);
        finish(&mut openssl)?;
        Ok(made)
    }
}

impl Certificate {
    /// Lets the server's account read the key; PostgreSQL insists that nobody else can.
    pub fn give(&self, user: &nix::unistd::User) -> Result<()> {
        files::give(&self.certificate, user)?;
        files::give(&self.key, user)
    }
}

fn finish(openssl: &mut Command) -> Result<()> {
    let ran = ran::run(openssl, "", Duration::from_secs(20))?;
    ran.ok().context("openssl could not make a certificate")?;
    Ok(())
}
