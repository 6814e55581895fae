//! Finding an agent's token: in a file, in the environment of the process that connects, or from a
//! command. Runs in the keeper, which alone may read either; what it finds is a claim until it is
//! verified.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::exec::Commands;
use crate::attribute::{Proc, Process};
use crate::config::{Agent, Config, KubernetesCredential, Resource, TokenSource, credentials};
use crate::handover::TokenText;
use crate::ids::AgentName;

/// A token's longest length; Okta's with a hundred groups have some 8 KiB.
pub(super) const MAX_TOKEN: usize = 16 << 10;
/// A SAML assertion's longest length; it carries its signer's certificate.
const MAX_ASSERTION: usize = 64 << 10;
/// What is looked at of an environment; the kernel allows a megabyte and more.
const MAX_ENVIRONMENT: u64 = 1 << 20;

/// Finds tokens; keeps what commands printed, nothing else.
#[derive(Default)]
pub struct Tokens(Commands);

impl Tokens {
    /// Files and environments are read anew for every connection: that costs no more than asking
    /// whether they changed, and a rotated token is seen at once. May block as long as the agent's
    /// command may run.
    pub fn read(&self, agent: &Agent, process: &Process) -> TokenText {
        self.read_from(Path::new("/proc"), agent, process)
    }

    /// The same without a process: a source that is in a process's environment has nothing to give.
    pub fn read_again(&self, agent: &Agent) -> TokenText {
        match &agent.token {
            Some(TokenSource::Env(name)) => {
                TokenText::Missing(format!("${name} is read when a process connects"))
            }
            _ => self.read(agent, &Process::default()),
        }
    }

    /// The token that hoop itself has for a resource. May block as [`Tokens::read`] does.
    pub fn of_login(&self, resource: &Resource) -> TokenText {
        let Some(KubernetesCredential::Token(source)) =
            resource.kubernetes.as_ref().map(|k| &k.credential)
        else {
            return TokenText::Missing("the resource's login has no token".into());
        };
        // No agent is called so: a name has no space.
        let name = AgentName::from(format!("login of {}", resource.name).as_str());
        let found = match source {
            TokenSource::File(path) => from_file(path, MAX_TOKEN),
            TokenSource::Credential(name) => from_credential(credentials::folder(), name),
            TokenSource::Exec(exec) => self.0.token(&name, exec),
            TokenSource::Env(_)
            | TokenSource::ClientCredentials { .. }
            | TokenSource::Saml { .. } => {
                Err("a login's token comes from file, credential or exec".to_owned())
            }
        };
        match found {
            Ok(token) => TokenText::Found(token),
            Err(why) => TokenText::Missing(why),
        }
    }

    fn read_from(&self, proc: &Path, agent: &Agent, process: &Process) -> TokenText {
        let found = match &agent.token {
            None => Err("its configuration names no token".to_owned()),
            Some(TokenSource::File(path)) => from_file(path, MAX_TOKEN),
            Some(TokenSource::Credential(name)) => from_credential(credentials::folder(), name),
            Some(TokenSource::Env(name)) => from_environment(proc, name, process),
            Some(TokenSource::Exec(exec)) => self.0.token(&agent.name, exec),
            Some(TokenSource::ClientCredentials { .. }) => return TokenText::Obtained,
            Some(TokenSource::Saml { file, .. }) => match from_file(file, MAX_ASSERTION) {
                Ok(assertion) => return TokenText::Assertion(assertion),
                Err(why) => Err(why),
            },
        };
        match found {
            Ok(token) => TokenText::Found(token),
            Err(why) => TokenText::Missing(why),
        }
    }
}

/// How long [`Tokens::read`] may take beyond what reading files takes.
pub fn longest(config: &Config) -> Duration {
    let timeouts = config.agents.iter().filter_map(|agent| match &agent.token {
        Some(TokenSource::Exec(exec)) => Some(exec.timeout),
        _ => None,
    });
    timeouts.max().unwrap_or_default()
}

fn from_credential(folder: Option<PathBuf>, name: &str) -> Result<Zeroizing<String>, String> {
    let folder = folder.ok_or_else(|| credentials::missing(name, "token = { file = … }"))?;
    from_file(&folder.join(name), MAX_TOKEN)
}

fn from_file(path: &Path, most: usize) -> Result<Zeroizing<String>, String> {
    let shown = path.display();
    let cannot = |e: std::io::Error| format!("cannot read the token file {shown}: {e}");
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .map_err(cannot)?;
    let meta = file.metadata().map_err(cannot)?;
    if !meta.is_file() {
        return Err(format!("the token file {shown} is not a regular file"));
    }
    if meta.mode() & 0o006 != 0 {
        return Err(format!(
            "everybody may read or write the token file {shown}: chmod o-rw it"
        ));
    }
    // Of full size at once, so that growing leaves no copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(most + 64));
    let limit = most as u64 + 2;
    file.take(limit).read_to_end(&mut bytes).map_err(cannot)?;
    bounded(&bytes, &format!("the token file {shown}"), most)
}

fn from_environment(
    proc: &Path,
    name: &str,
    process: &Process,
) -> Result<Zeroizing<String>, String> {
    let proc = Proc::of(proc, process.pid);
    // The cgroup is asked after the reading, so this is the environment of one of the agent's
    // own processes or nothing.
    let environment = proc
        .steady(&process.cgroup, |proc| proc.bytes("environ", MAX_ENVIRONMENT))
        .map_err(|_| {
            format!("the process that connected has ended, and ${name} with it: keep it running until its connection is answered, or use token = {{ file = … }}")
        })?
        .ok_or_else(|| "the environment of the process cannot be read".to_owned())?;
    let environment = Zeroizing::new(environment);
    let value = environment
        .split(|b| *b == 0)
        .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        .ok_or_else(|| {
            format!("${name} is not in the environment that the process was started with")
        })?;
    token(value, &format!("${name}"))
}

pub(super) fn token(bytes: &[u8], whence: &str) -> Result<Zeroizing<String>, String> {
    bounded(bytes, whence, MAX_TOKEN)
}

fn bounded(bytes: &[u8], whence: &str, most: usize) -> Result<Zeroizing<String>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| format!("{whence} holds no token"))?;
    let text = text.trim();
    match text.len() {
        0 => Err(format!("{whence} is empty")),
        n if n > most => Err(format!("{whence} holds more than {most} bytes")),
        _ => Ok(Zeroizing::new(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn found(text: TokenText) -> Result<String, String> {
        match text {
            TokenText::Found(token) => Ok(token.to_string()),
            TokenText::Missing(why) => Err(why),
            other => panic!("{other:?}"),
        }
    }

    fn agent(source: TokenSource) -> Agent {
        let text = "[[agent]]\nname = \"a\"\ncgroup = \"agents.slice/a\"\nmode = \"observe\"\n";
        let bundle = crate::config::Bundle::from_text(Path::new("t"), text);
        let mut agent = Config::from_bundle(&bundle).unwrap().agents.remove(0);
        agent.token = Some(source);
        agent
    }

    fn read(source: TokenSource, process: &Process) -> TokenText {
        Tokens::default().read(&agent(source), process)
    }

    #[test]
    fn credentials() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bot");
        fs::write(&path, "abc\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        let found = from_credential(Some(dir.path().into()), "bot").unwrap();
        assert_eq!(found.as_str(), "abc");
        let error = from_credential(None, "bot").unwrap_err();
        assert!(error.contains("LoadCredential=bot:"), "{error}");
    }

    fn file(text: &str, mode: u32) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        found(read(TokenSource::File(path), &Process::default()))
    }

    #[test]
    fn files() {
        assert_eq!(file(" abc\n", 0o600).as_deref(), Ok("abc"));
        assert_eq!(file("abc", 0o640).as_deref(), Ok("abc"));
        assert!(file("abc", 0o644).is_err_and(|why| why.contains("chmod") && !why.contains("abc")));
        assert!(file("\n", 0o600).is_err_and(|why| why.contains("is empty")));
        assert!(file(&"a".repeat(MAX_TOKEN + 1), 0o600).is_err());
        let none = TokenSource::File("/nonexistent/token".into());
        assert!(found(read(none, &Process::default())).is_err());
    }

    /// `environ` of a made-up process in the cgroup `a`.
    fn environ(environment: &[u8], cgroup: &str) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let proc = dir.path().join("5");
        fs::create_dir(&proc).unwrap();
        fs::write(
            proc.join("stat"),
            "5 (x) S 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 9 0",
        )
        .unwrap();
        fs::write(proc.join("cgroup"), "0::/a\n").unwrap();
        fs::write(proc.join("environ"), environment).unwrap();
        let process = Process {
            pid: 5,
            cgroup: cgroup.to_owned(),
            ..Process::default()
        };
        let agent = agent(TokenSource::Env("TOKEN".into()));
        found(Tokens::default().read_from(dir.path(), &agent, &process))
    }

    #[test]
    fn environments() {
        assert_eq!(environ(b"A=1\0TOKEN=abc\0B=2\0", "a").as_deref(), Ok("abc"));
        assert!(environ(b"TOKENS=abc\0XTOKEN=abc\0", "a").is_err());
        assert!(environ(b"TOKEN=\0", "a").is_err());
        assert!(environ(b"TOKEN=\xff\0", "a").is_err());
        assert!(environ(b"", "a").is_err());
        // The pid has passed to a process of another cgroup: its token is not taken.
        assert!(environ(b"TOKEN=abc\0", "b").is_err_and(|why| why.contains("has ended")));
    }
}
