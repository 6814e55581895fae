//! Finding an agent's token: in a file, or in the environment of the process that connects. Runs
//! in the keeper, which alone may read either; what it finds is a claim until it is verified.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::attribute::{Proc, Process};
use crate::config::TokenSource;
use crate::handover::TokenText;

/// A token's longest length; Okta's with a hundred groups have some 8 KiB.
pub(super) const MAX_TOKEN: usize = 16 << 10;
/// What is looked at of an environment; the kernel allows a megabyte and more.
const MAX_ENVIRONMENT: u64 = 1 << 20;

/// Reads it anew for every connection: that costs no more than asking whether the file changed,
/// and a rotated token is seen at once.
pub fn read(source: &TokenSource, process: &Process) -> TokenText {
    read_from(Path::new("/proc"), source, process)
}

fn read_from(proc: &Path, source: &TokenSource, process: &Process) -> TokenText {
    let found = match source {
        TokenSource::File(path) => from_file(path),
        TokenSource::Env(name) => from_environment(proc, name, process),
    };
    match found {
        Ok(token) => TokenText::Found(token),
        Err(why) => TokenText::Missing(why),
    }
}

fn from_file(path: &Path) -> Result<String, String> {
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
    let mut bytes = Vec::new();
    let limit = MAX_TOKEN as u64 + 2;
    file.take(limit).read_to_end(&mut bytes).map_err(cannot)?;
    token(bytes, &format!("the token file {shown}"))
}

fn from_environment(proc: &Path, name: &str, process: &Process) -> Result<String, String> {
    let proc = Proc::of(proc, process.pid);
    // The cgroup is asked after the reading, so this is the environment of one of the agent's
    // own processes or nothing.
    let environment = proc
        .steady(&process.cgroup, |proc| proc.bytes("environ", MAX_ENVIRONMENT))
        .map_err(|_| {
            format!("the process that connected has ended, and ${name} with it: keep it running until its connection is answered, or use token = {{ file = … }}")
        })?
        .ok_or_else(|| "the environment of the process cannot be read".to_owned())?;
    let value = environment
        .split(|b| *b == 0)
        .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        .ok_or_else(|| {
            format!("${name} is not in the environment that the process was started with")
        })?;
    token(value.to_vec(), &format!("${name}"))
}

fn token(bytes: Vec<u8>, whence: &str) -> Result<String, String> {
    let text = String::from_utf8(bytes).map_err(|_| format!("{whence} holds no token"))?;
    let text = text.trim();
    match text.len() {
        0 => Err(format!("{whence} is empty")),
        n if n > MAX_TOKEN => Err(format!("{whence} holds more than {MAX_TOKEN} bytes")),
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn found(text: TokenText) -> Result<String, String> {
        match text {
            TokenText::Found(token) => Ok(token),
            TokenText::Missing(why) => Err(why),
        }
    }

    fn file(text: &str, mode: u32) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        found(read(&TokenSource::File(path), &Process::default()))
    }

    #[test]
    fn files() {
        assert_eq!(file(" abc\n", 0o600).as_deref(), Ok("abc"));
        assert_eq!(file("abc", 0o640).as_deref(), Ok("abc"));
        assert!(file("abc", 0o644).is_err_and(|why| why.contains("chmod") && !why.contains("abc")));
        assert!(file("\n", 0o600).is_err_and(|why| why.contains("is empty")));
        assert!(file(&"a".repeat(MAX_TOKEN + 1), 0o600).is_err());
        let none = TokenSource::File("/nonexistent/token".into());
        assert!(found(read(&none, &Process::default())).is_err());
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
        found(read_from(
            dir.path(),
            &TokenSource::Env("TOKEN".into()),
            &process,
        ))
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
