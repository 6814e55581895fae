//! Which Unix sockets agents are kept from, by name; and whether the kernel's LSM programs are wanted.
//!
//! A pattern is something that the kernel can look up in one step: an address or a file's name, whole
//! or by its beginning.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Bytes of a Unix socket's address (unix(7)).
const MOST: usize = 107;
/// Patterns that there may be; the kernel's map holds some more.
pub(super) const MAX_PATTERNS: usize = 256;
/// Stands for all of [`DEFAULT`].
pub(super) const DEFAULT_WORD: &str = "default";

/// What agents are kept from unless the file says otherwise: databases on this host, which hoop does not
/// see through their sockets, and whoever has processes started outside of the agent's cgroup.
pub const DEFAULT: &[&str] = &[
    // PostgreSQL and its poolers, MySQL and MariaDB, Redis and Valkey, MongoDB, Memcached, ClickHouse.
    "*/.s.PGSQL.*",
    "*/mysql*",
    "*/mariadb*",
    "*/redis*",
    "*/valkey*",
    "*/mongodb-*",
    "*/memcached*",
    "*/clickhouse*",
    // Docker, containerd, Podman, CRI-O, BuildKit, LXD and Incus, libvirt.
    "*/docker.sock",
    "*/containerd.sock*",
    "*/podman.sock",
    "*/crio.sock",
    "*/cri-dockerd.sock",
    "*/buildkitd.sock",
    "/run/podman/*",
    "/var/snap/lxd/*",
    "/var/lib/lxd/*",
    "/var/lib/incus/*",
    "*/libvirt-sock*",
    "*/virtqemud-sock*",
    // Service managers, the system's and users', by themselves and by D-Bus.
    "*/private",
    "*/system_bus_socket",
    "*/bus",
];

/// Whether the kernel's LSM programs are wanted: `[capture] lsm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LsmWish {
    /// Where the kernel takes them.
    #[default]
    Auto,
    Off,
    /// The daemon does not start without them.
    Require,
}

/// What of `[capture]` concerns the LSM tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LsmTier {
    pub wish: LsmWish,
    /// `refused_sockets`. Default: [`DEFAULT`].
    pub refused: Vec<SocketPattern>,
    /// `[worker] runtime`: hoop's own sockets stay within reach, whatever they are called.
    pub own: PathBuf,
}

impl LsmTier {
    /// What addresses of hoop's own sockets begin with.
    pub fn own_folder(&self) -> Vec<u8> {
        own_folder(self.own.as_os_str())
    }
}

/// That folder with one slash at its end.
pub(super) fn own_folder(runtime: &OsStr) -> Vec<u8> {
    let mut folder = runtime.as_bytes().to_vec();
    while folder.last() == Some(&b'/') {
        folder.pop();
    }
    folder.push(b'/');
    folder
}

impl Default for LsmTier {
    fn default() -> Self {
        Self {
            wish: LsmWish::Auto,
            refused: default_patterns().collect(),
            own: "/run/hoop".into(),
        }
    }
}

/// What is written in [`DEFAULT`]; a test says that all of it is valid.
pub(super) fn default_patterns() -> impl Iterator<Item = SocketPattern> {
    DEFAULT
        .iter()
        .filter_map(|text| SocketPattern::parse(text).ok())
}

/// Names of Unix sockets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SocketPattern {
    by: By,
    name: Vec<u8>,
    /// Whatever begins so.
    open: bool,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// What the listener bound itself to; of an abstract one, a zero and its name.
    Address,
    /// The name of the socket's file, without its folder.
    File,
}

impl SocketPattern {
    /// `/run/x.sock`, `/run/x/*`, `*/x.sock`, `*/x*`, `@x`, `@x*`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (body, open) = match text.strip_suffix('*') {
            Some(body) => (body, true),
            None => (text, false),
        };
        let (by, name) = match (body.strip_prefix("*/"), body.strip_prefix('@')) {
            (Some(file), _) => (By::File, file.as_bytes().to_vec()),
            (None, Some(name)) => (By::Address, [b"\0", name.as_bytes()].concat()),
            (None, None) => (By::Address, body.as_bytes().to_vec()),
        };
        let fault = if !text.starts_with(['/', '@']) && by == By::Address {
            "begins neither with / nor with @ nor with */"
        } else if body.trim_start_matches("*/").contains('*') {
            "has a * elsewhere than at its end, or before the name of a file"
        } else if name.len() > MOST || text.contains('\0') {
            "is no address of a Unix socket: too long, or with a zero in it"
        } else if by == By::File && (name.contains(&b'/') || name.is_empty() && !open) {
            "names no file after its */"
        } else {
            return Ok(Self { by, name, open });
        };
        Err(format!("{text:?} {fault}"))
    }

    pub fn by(&self) -> By {
        self.by
    }

    /// Whether only addresses are meant that begin with this.
    pub fn is_below(&self, folder: &[u8]) -> bool {
        self.by == By::Address && self.name.starts_with(folder)
    }

    /// The name, or its beginning.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Whether more may follow.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Whether a listener that is bound to that address, with such a file, is meant.
    pub fn fits(&self, address: &[u8], file: Option<&[u8]>) -> bool {
        let Some(name) = (match self.by {
            By::Address => Some(address),
            By::File => file,
        }) else {
            return false;
        };
        match self.open {
            true => name.starts_with(&self.name),
            false => name == self.name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::glob;
    use proptest::prelude::*;

    fn fits(pattern: &str, path: &str) -> bool {
        let file = path.rsplit('/').next().map(str::as_bytes);
        let pattern = SocketPattern::parse(pattern).unwrap();
        match path.strip_prefix('@') {
            Some(name) => pattern.fits(&[b"\0", name.as_bytes()].concat(), None),
            None => pattern.fits(path.as_bytes(), file),
        }
    }

    #[test]
    fn the_default_list_is_valid_and_means_what_it_should() {
        assert_eq!(default_patterns().count(), DEFAULT.len());
        let refused = |path: &str| DEFAULT.iter().any(|pattern| fits(pattern, path));
        for path in [
            "/run/postgresql/.s.PGSQL.5432",
            "/tmp/.s.PGSQL.6432",
            ".s.PGSQL.5432",
            "/run/mysqld/mysqld.sock",
            "/var/run/redis/redis-server.sock",
            "/var/run/docker.sock",
            "/run/containerd/containerd.sock.ttrpc",
            "/run/user/1000/bus",
            "/run/systemd/private",
        ] {
            assert!(refused(path), "{path}");
        }
        for path in [
            "/run/hoop/control.sock",
            "/run/nscd/socket",
            "/run/systemd/journal/socket",
            "/tmp/ssh-XXXX/agent.7",
            "@docker.sock",
        ] {
            assert!(!refused(path), "{path}");
        }
    }

    #[test]
    fn what_the_kernel_could_not_look_up_is_no_pattern() {
        for text in [
            "", "x.sock", "*", "*x", "/run/*/x", "*/a/b", "*/", "*/*x", "/a\0b",
        ] {
            assert!(SocketPattern::parse(text).is_err(), "{text:?}");
        }
        assert!(SocketPattern::parse(&format!("/{}", "x".repeat(MOST))).is_err());
        for text in ["*/*", "/*", "@*", "@", "/run/x"] {
            assert!(SocketPattern::parse(text).is_ok(), "{text:?}");
        }
    }

    proptest! {
        /// The same as the wildcards of the rest of the file, where those mean anything here.
        #[test]
        fn addresses_fit_as_wildcards_do(name in "/[a-z./]{0,8}", open: bool, path in "/[a-z./]{0,10}") {
            let written = if open { format!("{name}*") } else { name };
            prop_assert_eq!(fits(&written, &path), glob::matches(&written, &path));
        }

        #[test]
        fn files_fit_as_wildcards_do(name in "[a-z.]{1,5}", open: bool, file in "[a-z.]{1,7}") {
            let written = if open { format!("{name}*") } else { name };
            let path = format!("/run/{file}");
            prop_assert_eq!(fits(&format!("*/{written}"), &path), glob::matches(&written, &file));
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,130}") {
            let _ = SocketPattern::parse(&text);
        }
    }
}
