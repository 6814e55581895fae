//! Gathering what a configuration refers to, and carrying it to the worker, which may read none
//! of it: the file, the policies, the secrets, the certificates.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Spanned;
use zeroize::Zeroizing;

use super::problem::{ConfigError, Problem, Problems};
use super::raw::{self, SecretRef};
use super::{Config, PolicyFile, credentials, parse};
use crate::secret::Secret;

/// Bounds on everything that is read, so that a mistaken path exhausts no memory.
const MAX_CONFIG: u64 = 1 << 20;
const MAX_POLICY: u64 = 1 << 20;
const MAX_POLICIES: usize = 256;
const MAX_POLICIES_TOTAL: usize = 8 << 20;
const MAX_SECRET: u64 = 64 << 10;
const MAX_CERTIFICATES: u64 = 1 << 20;
const MAX_WORDS: u64 = 1 << 20;

/// Everything a configuration consists of, read but not yet parsed.
#[derive(Clone, Debug, Default)]
pub struct Bundle {
    pub path: PathBuf,
    pub text: String,
    pub policies: Vec<PolicyFile>,
    /// `credential:NAME` for a systemd credential, `file:PATH` (as the text writes it) for a file.
    pub secrets: BTreeMap<String, Secret>,
    /// Of the host, from `/etc/resolv.conf`; used where `[capture] resolvers` is absent.
    pub resolvers: Vec<IpAddr>,
}

/// A message from the keeper was no bundle.
#[derive(Debug, thiserror::Error)]
#[error("the configuration from the keeper does not decode: it is of another build")]
pub struct BadBundle;

impl Bundle {
    /// Reads the file and all that it names; relative paths are relative to the file.
    /// On failure every problem is reported, those of [`Config::from_bundle`] too.
    pub fn gather(path: &Path) -> Result<Self, ConfigError> {
        match Self::gather_and_parse(path) {
            (bundle, Ok(_)) => Ok(bundle),
            (_, Err(error)) => Err(error),
        }
    }

    /// [`Bundle::gather`] and [`Config::from_bundle`] in one, for `hoop check`.
    pub fn gather_and_parse(path: &Path) -> (Self, Result<Config, ConfigError>) {
        Self::gathered(path, Secrets::Needed)
    }

    /// The configuration for tools that reach nothing: a secret that may not be read is replaced
    /// by a text that opens nothing.
    pub fn without_secrets(path: &Path) -> Result<Config, ConfigError> {
        Self::gathered(path, Secrets::Spared).1
    }

    fn gathered(path: &Path, secrets: Secrets) -> (Self, Result<Config, ConfigError>) {
        let (bundle, mut found) = Self::collect(path, secrets);
        let (config, problems) = parse::config(&bundle, parse::Missing::Known);
        found.extend(problems);
        found.sort_by_key(|p| (p.line, p.column));
        // Both halves read the file, so both find what is wrong with its syntax.
        found.dedup();
        match config {
            Some(config) if found.is_empty() => (bundle, Ok(config)),
            _ => (bundle, Err(ConfigError { problems: found })),
        }
    }

    /// The policies of a directory, sorted by name.
    pub fn policies_of(directory: &Path) -> Result<Vec<PolicyFile>, String> {
        policies(directory)
    }

    /// A configuration that refers to nothing outside itself.
    pub fn from_text(path: &Path, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            ..Self::default()
        }
    }

    /// The form that crosses the socket between the two processes. It holds the secrets in the
    /// clear, so it is wiped when dropped.
    pub fn to_wire(&self) -> Zeroizing<Vec<u8>> {
        let wire = Wire {
            path: self.path.clone(),
            text: self.text.clone(),
            policies: self.policies.clone(),
            secrets: self
                .secrets
                .iter()
                .map(|(name, secret)| (name.clone(), Zeroizing::new(secret.expose().to_owned())))
                .collect(),
            resolvers: self.resolvers.clone(),
        };
        // Plain data serialises into memory without fail; an empty message would be refused.
        Zeroizing::new(serde_json::to_vec(&wire).unwrap_or_default())
    }

    /// Whether this is what an operator configured there. What the host says by itself of its
    /// resolvers may have changed meanwhile.
    pub fn is_as_configured(&self, wire: &[u8]) -> bool {
        let Ok(mut other) = Self::from_wire(wire) else {
            return false;
        };
        other.resolvers.clone_from(&self.resolvers);
        *other.to_wire() == *self.to_wire()
    }

    pub fn from_wire(bytes: &[u8]) -> Result<Self, BadBundle> {
        let wire: Wire = serde_json::from_slice(bytes).map_err(|_| BadBundle)?;
        Ok(Self {
            path: wire.path,
            text: wire.text,
            policies: wire.policies,
            secrets: wire
                .secrets
                .into_iter()
                .map(|(name, mut text)| (name, Secret::new(std::mem::take(&mut *text))))
                .collect(),
            resolvers: wire.resolvers,
        })
    }

    /// The same for the console's process: without any secret but its own.
    pub fn for_console(&self) -> Self {
        let file = raw::File::read(&self.text, &mut Problems::new(&self.path, &self.text));
        let own: Vec<String> = of_console(&file)
            .into_iter()
            .map(|secret| key(secret.get_ref()))
            .collect();
        let mut bundle = self.clone();
        for reference in references(&file) {
            if let Reference::Secret(secret) = reference.get_ref() {
                let name = key(secret);
                if !own.contains(&name) {
                    bundle.secrets.insert(name, Secret::new(UNREAD.to_owned()));
                }
            }
        }
        bundle
    }

    pub(super) fn secret(&self, reference: &SecretRef) -> Option<&Secret> {
        self.secrets.get(&key(reference))
    }

    pub(super) fn file(&self, path: &str) -> Option<&Secret> {
        self.secrets.get(&file_key(path))
    }

    fn collect(path: &Path, secrets: Secrets) -> (Self, Vec<Problem>) {
        let mut bundle = Self::from_text(path, "");
        match read_text(path, MAX_CONFIG, Privacy::Public) {
            Ok(text) => bundle.text = text,
            Err(why) => return (bundle, vec![Problem::of_file(path, why)]),
        }
        let text = bundle.text.clone();
        let mut problems = Problems::new(path, &text);
        let file = raw::File::read(&text, &mut Problems::new(path, &text));
        for reference in references(&file) {
            bundle.take(&reference, secrets, &mut problems);
        }
        if let Some(directory) = &file.policy.directory {
            match policies(&relative(path, directory.get_ref())) {
                Ok(policies) => bundle.policies = policies,
                Err(why) => problems.add(directory.span(), why),
            }
        }
        if file.capture.resolvers.is_none() {
            bundle.resolvers = host_resolvers(Path::new("/etc/resolv.conf"));
        }
        (bundle, problems.into_found())
    }

    fn take(
        &mut self,
        reference: &Spanned<Reference>,
        secrets: Secrets,
        problems: &mut Problems<'_>,
    ) {
        let (name, read) = match reference.get_ref() {
            Reference::Secret(secret) => (key(secret), read_secret(&self.path, secret)),
            Reference::Certificates(path) => (
                file_key(path),
                read_text(
                    &relative(&self.path, path),
                    MAX_CERTIFICATES,
                    Privacy::Public,
                ),
            ),
            Reference::Words(path) => (
                file_key(path),
                read_text(&relative(&self.path, path), MAX_WORDS, Privacy::Public),
            ),
        };
        match read {
            Ok(text) => {
                self.secrets.insert(name, Secret::new(text));
            }
            Err(_) if secrets == Secrets::Spared && is_secret(reference.get_ref()) => {
                self.secrets.insert(name, Secret::new(UNREAD.to_owned()));
            }
            Err(why) => problems.add(reference.span(), why),
        }
    }
}

/// Stands for a secret that was not read; it passes for a key as well.
pub(super) const UNREAD: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Secrets {
    Needed,
    Spared,
}

fn is_secret(reference: &Reference) -> bool {
    matches!(reference, Reference::Secret(_))
}

/// The wire form: secrets in the clear, hence no `Debug`. A worker of another build may read it: what
/// is added has a default there, and what is not known is passed over.
#[derive(Serialize, Deserialize)]
struct Wire {
    path: PathBuf,
    text: String,
    policies: Vec<PolicyFile>,
    secrets: Vec<(String, Zeroizing<String>)>,
    resolvers: Vec<IpAddr>,
}

enum Reference {
    Secret(SecretRef),
    Certificates(String),
    Words(String),
}

fn references(file: &raw::File) -> Vec<Spanned<Reference>> {
    let mut found = Vec::new();
    let mut certificates = |text: &Option<raw::Text>| {
        let file = |text: &&raw::Text| !is_pem(text.get_ref()) && text.get_ref() != MINTED;
        if let Some(text) = text.as_ref().filter(file) {
            let reference = Reference::Certificates(text.get_ref().clone());
            found.push(Spanned::new(text.span(), reference));
        }
    };
    for (_, issuer) in &file.issuers {
        certificates(&issuer.get_ref().ca);
    }
    for resource in &file.resources {
        certificates(&resource.get_ref().ca);
        certificates(&resource.get_ref().known_hosts);
        certificates(&resource.get_ref().login.get_ref().certificate);
    }
    let console = file.console.as_ref().map(Spanned::get_ref);
    if let Some(console) = console {
        certificates(&console.certificate);
    }
    for channel in &file.channels {
        certificates(&channel.get_ref().ca);
    }
    let hooks = file.issuers.iter().map(|(_, i)| &i.get_ref().events.hook);
    let slack = console.and_then(|console| console.slack.as_ref());
    let slack = slack.map(|slack| &slack.get_ref().signing_secret);
    for secret in hooks.flatten().chain(of_console(file)).chain(slack) {
        let reference = Reference::Secret(secret.get_ref().clone());
        found.push(Spanned::new(secret.span(), reference));
    }
    for (_, detector) in &file.detectors {
        if let Some(path) = &detector.get_ref().words_file {
            let reference = Reference::Words(path.get_ref().clone());
            found.push(Spanned::new(path.span(), reference));
        }
    }
    let secrets = file.resources.iter().flat_map(|resource| {
        let resource = resource.get_ref();
        let login = resource.login.get_ref();
        [&login.password, &login.key, &resource.agent_password]
    });
    for secret in secrets.flatten() {
        let reference = Reference::Secret(secret.get_ref().clone());
        found.push(Spanned::new(secret.span(), reference));
    }
    let answers = file.resources.iter().filter_map(|resource| {
        let login = resource.get_ref().login.get_ref();
        login.answers.as_ref()
    });
    for answer in answers.flatten() {
        let secret = &answer.get_ref().answer;
        let reference = Reference::Secret(secret.get_ref().clone());
        found.push(Spanned::new(secret.span(), reference));
    }
    for channel in &file.channels {
        let secret = &channel.get_ref().secret;
        let reference = Reference::Secret(secret.get_ref().clone());
        found.push(Spanned::new(secret.span(), reference));
    }
    let of_agents = file.agents.iter().filter_map(|agent| {
        let token = agent.get_ref().token.as_ref()?;
        Some(token.get_ref().secrets())
    });
    let of_issuers = file.issuers.iter().filter_map(|(_, issuer)| {
        let introspection = issuer.get_ref().introspection.as_ref()?;
        Some(introspection.get_ref().secrets())
    });
    for secret in of_agents.chain(of_issuers).flatten() {
        let reference = Reference::Secret(secret.get_ref().clone());
        found.push(Spanned::new(secret.span(), reference));
    }
    found
}

/// The secrets that the console's own process needs. Slack's is not among them: the keeper checks
/// what Slack signed.
fn of_console(file: &raw::File) -> Vec<&Spanned<SecretRef>> {
    let console = file.console.as_ref().map(Spanned::get_ref);
    let own = console.map(|console| [console.key.as_ref(), console.secret.as_ref()]);
    own.into_iter().flatten().flatten().collect()
}

/// The `certificate` of a login that hoop signs itself: no file.
pub(super) const MINTED: &str = "minted";

/// Whether a `ca` or `certificate` holds the certificate itself rather than a path.
pub(super) fn is_pem(text: &str) -> bool {
    text.contains("-----BEGIN")
}

fn key(reference: &SecretRef) -> String {
    match reference {
        SecretRef::File(path) => file_key(path),
        SecretRef::Credential(name) => format!("credential:{name}"),
    }
}

fn file_key(path: &str) -> String {
    format!("file:{path}")
}

fn relative(config: &Path, path: &str) -> PathBuf {
    config.parent().unwrap_or(Path::new("")).join(path)
}

fn read_secret(config: &Path, reference: &SecretRef) -> Result<String, String> {
    let text = match reference {
        SecretRef::File(path) => read_text(&relative(config, path), MAX_SECRET, Privacy::Secret)?,
        SecretRef::Credential(name) if !super::text::is_name(name) => {
            return Err(format!("{name:?} is no credential name"));
        }
        SecretRef::Credential(name) => {
            let directory =
                credentials::folder().ok_or_else(|| credentials::missing(name, "{ file = … }"))?;
            read_text(&directory.join(name), MAX_SECRET, Privacy::Secret)?
        }
    };
    let text = Zeroizing::new(text);
    // Editors end files with a newline that is no part of a password.
    let trimmed = text.strip_suffix('\n').unwrap_or(&text);
    let trimmed = trimmed.strip_suffix('\r').unwrap_or(trimmed);
    if trimmed.is_empty() {
        return Err("the secret is empty".to_owned());
    }
    Ok(trimmed.to_owned())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Privacy {
    Public,
    /// Refused if others than owner and group may read or write it.
    Secret,
}

/// Reads a regular file of bounded size, without blocking on a pipe that took its place.
fn read_text(path: &Path, limit: u64, privacy: Privacy) -> Result<String, String> {
    let shown = path.display();
    let cannot = |e: std::io::Error| format!("cannot read {shown}: {e}");
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .map_err(cannot)?;
    // Asked of the descriptor, so that what is checked is what is read.
    let meta = file.metadata().map_err(cannot)?;
    if !meta.is_file() {
        return Err(format!("{shown} is not a regular file"));
    }
    if privacy == Privacy::Secret && meta.mode() & 0o006 != 0 {
        return Err(format!(
            "{shown} holds a secret and everybody may read or write it: chmod o-rw it, and change the secret"
        ));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(limit + 1)
        .read_to_string(&mut text)
        .map_err(cannot)?;
    if text.len() as u64 > limit {
        return Err(format!("{shown} is larger than {limit} bytes"));
    }
    Ok(std::mem::take(&mut text))
}

/// The directory's `*.cedar` files, sorted by name.
fn policies(directory: &Path) -> Result<Vec<PolicyFile>, String> {
    let cannot = |e: std::io::Error| format!("cannot read {}: {e}", directory.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(cannot)? {
        let name = entry.map_err(cannot)?.file_name();
        let name = name
            .into_string()
            .map_err(|name| format!("{name:?} is no file name in UTF-8"))?;
        if name.ends_with(".cedar") && !name.starts_with('.') {
            names.push(name);
        }
        if names.len() > MAX_POLICIES {
            return Err(format!(
                "{} holds more than {MAX_POLICIES} policies",
                directory.display()
            ));
        }
    }
    names.sort();
    let mut total = 0;
    let mut files = Vec::new();
    for name in names {
        let text = read_text(&directory.join(&name), MAX_POLICY, Privacy::Public)?;
        total += text.len();
        if total > MAX_POLICIES_TOTAL {
            return Err(format!(
                "the policies of {} hold more than {MAX_POLICIES_TOTAL} bytes",
                directory.display()
            ));
        }
        files.push(PolicyFile { name, text });
    }
    Ok(files)
}

/// `nameserver` lines; scoped addresses (`fe80::1%eth0`) lose their scope, as sockets see them.
pub(crate) fn host_resolvers(path: &Path) -> Vec<IpAddr> {
    let text = read_text(path, MAX_SECRET, Privacy::Public).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.strip_prefix("nameserver"))
        .filter(|rest| rest.starts_with(char::is_whitespace))
        .filter_map(|rest| rest.split_whitespace().next())
        .filter_map(|address| address.split('%').next()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn write(path: &Path, text: &str, mode: u32) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    const RESOURCE: &str = "[[resource]]\nname = \"o\"\nprotocol = \"postgres\"\nhosts = [\"db\"]\n\
        login = { user = \"u\", password = { file = \"pw\" } }\n";

    #[test]
    fn gathers_relative_to_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hoop.toml");
        write(
            &path,
            &format!("{RESOURCE}[policy]\ndirectory = \"p\"\n"),
            0o644,
        );
        write(&dir.path().join("pw"), "s3cret\n", 0o600);
        std::fs::create_dir(dir.path().join("p")).unwrap();
        for name in ["b.cedar", "a.cedar", "notes.txt"] {
            write(&dir.path().join("p").join(name), "// x", 0o644);
        }
        let bundle = Bundle::gather(&path).unwrap();
        let mut later = bundle.clone();
        later.resolvers.push([192, 0, 2, 53].into());
        assert!(later.is_as_configured(&bundle.to_wire()));
        later.text.push('#');
        assert!(!later.is_as_configured(&bundle.to_wire()));
        assert!(!later.is_as_configured(b"{}"));
        assert_eq!(bundle.secrets["file:pw"].expose(), "s3cret");
        let names: Vec<_> = bundle.policies.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["a.cedar", "b.cedar"]);
        assert!(!format!("{bundle:?}").contains("s3cret"));

        let back = Bundle::from_wire(&bundle.to_wire()).unwrap();
        assert_eq!(back.secrets, bundle.secrets);
        assert_eq!((back.text, back.policies), (bundle.text, bundle.policies));
        let config = Config::from_bundle(&Bundle::gather(&path).unwrap()).unwrap();
        let password = config.resources[0].login.password.as_ref().unwrap();
        assert_eq!(password.expose(), "s3cret");
    }

    #[test]
    fn secrets_that_everybody_may_read_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hoop.toml");
        write(&path, RESOURCE, 0o644);
        write(&dir.path().join("pw"), "s3cret", 0o644);
        let error = Bundle::gather(&path).unwrap_err().to_string();
        assert!(error.contains(":5:") && error.contains("chmod"), "{error}");
        assert!(!error.contains("s3cret"));
        std::fs::remove_file(dir.path().join("pw")).unwrap();
        let error = Bundle::gather(&path).unwrap_err();
        assert_eq!(error.problems.len(), 1, "{error}");
    }

    #[test]
    fn no_bytes_panic() {
        assert!(Bundle::from_wire(b"").is_err());
        assert!(Bundle::from_wire(&[0xff; 64]).is_err());
    }

    #[test]
    fn resolvers_of_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        write(
            &path,
            "# x\nnameserver 10.0.0.2\nnameserver\tfe80::1%eth0\nnameserverx 1.1.1.1\nsearch a\n",
            0o644,
        );
        let found: Vec<_> = host_resolvers(&path)
            .iter()
            .map(IpAddr::to_string)
            .collect();
        assert_eq!(found, ["10.0.0.2", "fe80::1"]);
        assert!(host_resolvers(&dir.path().join("none")).is_empty());
    }
}
