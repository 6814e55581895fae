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

    /// For a server of that name.
    pub fn sign(&self, name: &str) -> Result<Certificate> {
        let alternative = format!("subjectAltName=DNS:{name}");
        let extensions = [&alternative, "extendedKeyUsage=serverAuth"];
        self.sign_with(name, &format!("/CN={name}"), &extensions)
    }

    /// For a client whose certificate says who it is, `/O=group/CN=name`.
    pub fn sign_client(&self, file: &str, subject: &str) -> Result<Certificate> {
        self.sign_with(file, subject, &["extendedKeyUsage=clientAuth"])
    }

    /// With any subject and extensions, in the words of openssl.
    pub fn sign_with(&self, file: &str, subject: &str, extensions: &[&str]) -> Result<Certificate> {
        let made = Certificate {
            certificate: self.folder.join(format!("{file}.pem")),
            key: self.folder.join(format!("{file}.key")),
        };
        let mut openssl = Command::new("openssl");
        openssl
            .args(["req", "-x509", "-days", "30"])
            .args(["-subj", subject]);
        openssl
            .args(KEY)
            .arg("-CA")
            .arg(self.pem())
            .arg("-CAkey")
            .arg(self.folder.join("ca.key"));
        for extension in extensions {
            openssl.args(["-addext", extension]);
        }
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
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
