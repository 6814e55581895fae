//! Names in `known_hosts`, and hoop's own such file for keys that are trusted on first use.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ring::hmac;
use russh::keys::ssh_key::known_hosts::{HostPatterns, KnownHosts};
use russh::keys::{Algorithm, PublicKey};

/// Below the state directory.
const FILE: &str = "ssh-known-hosts";

/// Whether a line is about a name, which is `name` or `[name]:port` (sshd(8), SSH_KNOWN_HOSTS).
pub fn matches(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::Patterns(patterns) => {
            let mut found = false;
            for pattern in patterns {
                match pattern.strip_prefix('!') {
                    Some(not) if glob(not, name) => return false,
                    Some(_) => {}
                    None => found |= glob(pattern, name),
                }
            }
            found
        }
        HostPatterns::HashedName { salt, hash } => {
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
            hmac::verify(&key, name.as_bytes(), hash).is_ok()
        }
    }
}

/// `*` and `?`; names do not differ in case. Linear: only the last `*` is ever gone back to.
fn glob(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while let Some(character) = name.get(n) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(b'?') => {
                p += 1;
                n += 1;
            }
            Some(other) if other.eq_ignore_ascii_case(character) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|rest| *rest == b'*')
}

/// The keys that were seen first.
#[derive(Debug)]
pub struct FirstUse {
    path: PathBuf,
    learns: bool,
    writing: Mutex<()>,
}

/// What a key is to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    First,
    Before,
    /// Another key was seen before.
    Other,
}

impl FirstUse {
    pub fn new(state: &Path) -> Self {
        Self {
            path: state.join(FILE),
            learns: true,
            writing: Mutex::new(()),
        }
    }

    /// Compares with what was seen, and keeps nothing.
    pub fn that_learns_nothing(state: &Path) -> Self {
        Self {
            learns: false,
            ..Self::new(state)
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks a key up, and keeps it if there is none for any of these names.
    pub fn see(&self, names: &[String], key: &PublicKey) -> io::Result<Seen> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.keys(names)?;
        if known.iter().any(|k| k.key_data() == key.key_data()) {
            return Ok(Seen::Before);
        }
        if !known.is_empty() {
            return Ok(Seen::Other);
        }
        if !self.learns {
            return Ok(Seen::First);
        }
        let public = key.to_openssh().map_err(io::Error::other)?;
        let line = format!("{} {public}\n", names.join(","));
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&self.path)?;
        file.write_all(line.as_bytes())?;
        file.sync_data()?;
        Ok(Seen::First)
    }

    /// Of the keys that are known for these names. What cannot be read is found out when the key
    /// is looked up.
    pub fn algorithms(&self, names: &[String]) -> Vec<Algorithm> {
        let keys = self.keys(names).unwrap_or_default();
        keys.iter().map(PublicKey::algorithm).collect()
    }

    fn keys(&self, names: &[String]) -> io::Result<Vec<PublicKey>> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in KnownHosts::new(&text) {
            let entry = entry.map_err(io::Error::other)?;
            if names
                .iter()
                .any(|name| matches(entry.host_patterns(), name))
            {
                found.push(entry.public_key().clone());
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_openssh() {
        for (pattern, name, matching) in [
            ("*", "a", true),
            ("*.b", "a.b", true),
            ("*.b", "b", false),
            ("a?c", "abc", true),
            ("A.B", "a.b", true),
            ("a*b*c", "aXbYbc", true),
            ("a*b*c", "aXbYb", false),
            ("", "a", false),
        ] {
            assert_eq!(glob(pattern, name), matching, "{pattern} {name}");
        }
    }

    #[test]
    fn a_hashed_name_is_recognised() {
        let salt = vec![7; 20];
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
        let hash = hmac::sign(&key, b"web1").as_ref().try_into().unwrap();
        let patterns = HostPatterns::HashedName { salt, hash };
        assert!(matches(&patterns, "web1") && !matches(&patterns, "web2"));
    }
}
