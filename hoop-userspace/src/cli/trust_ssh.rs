//! `hoop trust ssh`: lines of known hosts, so that clients take hoop for the servers behind it.
//!
//! OpenSSH prefers a host certificate whose authority it knows to a plain key, so a line that an
//! account has for the server's own key stays, and goes on serving direct connections. Clients
//! that know no certificates find hoop's plain key.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;

use super::home::{HomeFile, Place, become_owner};
use super::trust::of_state;
use super::trust_undo::{self, Given};
use crate::config::{Bundle, Config, Host, Resource};
use crate::terminate::ssh::keys::{HOST_AUTHORITY, HOST_KEY};

/// The hosts that every account of this host knows (sshd(8)).
pub(super) const SYSTEM: &str = "/etc/ssh/ssh_known_hosts";
pub(super) const FILE: HomeFile = HomeFile {
    folder: ".ssh",
    name: "known_hosts",
};
/// Ends the lines that hoop writes, or comments that name the key in them; by it those from before a
/// lost state directory are found too.
const MARK: &str = "hoop-trust";

#[derive(clap::Args)]
pub struct Args {
    /// One account's home instead of the whole system; its file is written with the owner's rights
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
    /// The system's file, where it is not the usual one
    #[arg(long, value_name = "FILE", default_value = SYSTEM, conflicts_with = "home")]
    system: PathBuf,
    /// Take the lines out again
    #[arg(long)]
    remove: bool,
    /// Only print the lines
    #[arg(long, conflicts_with = "remove")]
    show: bool,
    /// The configuration file, which names the hosts and the state directory
    #[arg(long, value_name = "FILE", env = "HOOP_CONFIG", default_value = super::DEFAULT_CONFIG)]
    config: PathBuf,
}

pub fn run(args: &Args) -> Result<()> {
    let ours = match args.remove {
        true => String::new(),
        false => lines(&args.config)?,
    };
    if args.show {
        std::io::stdout().lock().write_all(ours.as_bytes())?;
        return Ok(());
    }
    if !args.remove {
        let state = Bundle::without_secrets(&args.config)?.worker.state;
        let (given, place) = match &args.home {
            Some(home) => (Given::Ssh, home),
            None => (Given::SshSystem, &args.system),
        };
        trust_undo::note(&state, given, place)?;
    }
    match &args.home {
        Some(home) => in_home(home, &ours),
        None => in_system(&args.system, &ours),
    }
}

fn in_home(home: &Path, ours: &str) -> Result<()> {
    become_owner(home)?;
    put(FILE.open(home, !ours.is_empty())?, &FILE.shown(home), ours)
}

fn in_system(path: &Path, ours: &str) -> Result<()> {
    put(Place::at(path)?, path, ours)
}

fn put(place: Option<Place>, shown: &Path, ours: &str) -> Result<()> {
    let Some(place) = place else {
        if !ours.is_empty() {
            bail!("the folder of {} does not exist", shown.display());
        }
        println!("{} does not exist: nothing to remove", shown.display());
        return Ok(());
    };
    let read = place.read();
    let read = read.with_context(|| format!("cannot read {}", shown.display()))?;
    let (before, kept) = read.unwrap_or_default();
    let after = changed(&before, ours);
    if after != before {
        let written = place.write(&after, kept);
        written.with_context(|| format!("cannot write {}", shown.display()))?;
    }
    say(shown, ours);
    Ok(())
}

fn say(path: &Path, ours: &str) {
    match ours.is_empty() {
        true => println!("{} no longer knows hoop", path.display()),
        false => println!("{} knows hoop", path.display()),
    }
}

/// Without the lines that are hoop's, then with these.
fn changed(before: &str, ours: &str) -> String {
    let marked = |line: &str| line.trim_end().ends_with(MARK);
    // Of lines that bear no mark, a comment names the key.
    let named = before.lines().filter(|line| marked(line));
    let keys: Vec<&str> = named
        .filter_map(|line| line.strip_prefix("# ")?.strip_suffix(MARK))
        .map(str::trim)
        .filter(|key| !key.is_empty())
        .collect();
    let is_plain = |line: &str| {
        let (_, key) = line.trim_end().split_once(' ').unwrap_or_default();
        keys.contains(&key)
    };
    let hoops = |line: &&str| marked(line) || is_plain(line);
    let mut text: String = before.split_inclusive('\n').filter(|l| !hoops(l)).collect();
    if !ours.is_empty() && !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text + ours
}

fn lines(config: &Path) -> Result<String> {
    let config = Bundle::without_secrets(config).context("the configuration cannot be read")?;
    let patterns = patterns(&config);
    if patterns.is_empty() {
        bail!("no resource has protocol = \"ssh\": there is nothing to trust hoop for");
    }
    let key = |name: &str| -> Result<String> {
        let path = config.worker.state.join(name).with_extension("pub");
        let text = of_state(&path)?;
        // Type and key; the comment is ours to write.
        let words: Vec<&str> = text.split_whitespace().take(2).collect();
        Ok(words.join(" "))
    };
    let (authority, plain) = (key(HOST_AUTHORITY)?, key(HOST_KEY)?);
    Ok(known(&patterns, &authority, &plain))
}

/// Clients that know no certificates are simple: dropbear's takes a line for one name, and nothing
/// behind the key. So the plain lines bear no mark, and a comment before them names their key.
fn known(patterns: &[String], authority: &str, plain: &str) -> String {
    let hosts = patterns.join(",");
    let mut text = format!("@cert-authority {hosts} {authority} {MARK}\n# {plain} {MARK}\n");
    for host in patterns {
        text.extend([host.as_str(), " ", plain, "\n"]);
    }
    text
}

/// What the configured hosts are as patterns of known hosts (sshd(8), SSH_KNOWN_HOSTS).
fn patterns(config: &Config) -> Vec<String> {
    patterns_of(config.resources.iter())
}

/// The same for some of them; what is no SSH resource has none.
pub fn patterns_of<'r>(resources: impl Iterator<Item = &'r Resource>) -> Vec<String> {
    let mut found = Vec::new();
    for resource in resources.filter(|resource| resource.ssh.is_some()) {
        for host in &resource.hosts {
            let name = match host {
                Host::Name(name) => name.clone(),
                Host::Net(net) => of_net(net),
            };
            found.push(match resource.port {
                22 => name,
                port => format!("[{name}]:{port}"),
            });
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The narrowest pattern that holds a network: patterns end at whole numbers of an address.
fn of_net(net: &IpNet) -> String {
    let (bits, separator, count) = match net {
        IpNet::V4(_) => (8, '.', 4),
        IpNet::V6(_) => (16, ':', 8),
    };
    let whole = usize::from(net.prefix_len()) / bits;
    if whole >= count {
        return net.addr().to_string();
    }
    let numbers: Vec<String> = match net {
        IpNet::V4(net) => net.network().octets().iter().map(u8::to_string).collect(),
        IpNet::V6(net) => net
            .network()
            .segments()
            .iter()
            .map(|s| format!("{s:x}"))
            .collect(),
    };
    let mut pattern: String = numbers
        .iter()
        .take(whole)
        .map(|number| format!("{number}{separator}"))
        .collect();
    pattern.push('*');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn lines_come_once_and_go_without_trace() {
        let before = "web1 ssh-ed25519 AAAA me\n# mine, no newline";
        let ours = "@cert-authority web1 ssh-ed25519 BBBB hoop-trust\n";
        let with = changed(before, ours);
        assert_eq!(with, format!("{before}\n{ours}"));
        assert_eq!(changed(&with, ours), with);
        let newer = "@cert-authority web1,web2 ssh-ed25519 CCCC hoop-trust\n";
        assert!(!changed(&with, newer).contains("BBBB"));
        assert_eq!(changed(&with, "").trim_end(), before);
    }

    #[test]
    fn plain_lines_have_one_name_and_nothing_behind_the_key() {
        let patterns = ["web1".to_owned(), "[web2]:2222".to_owned()];
        let ours = known(&patterns, "ssh-ed25519 AAAA", "ssh-ed25519 BBBB");
        assert!(ours.ends_with("\nweb1 ssh-ed25519 BBBB\n[web2]:2222 ssh-ed25519 BBBB\n"));
        let before = "web1 ssh-ed25519 DDDD\nweb3\n";
        let with = changed(before, &ours);
        assert_eq!(with, format!("{before}{ours}"));
        assert_eq!(changed(&with, &ours), with);
        let newer = known(&patterns, "ssh-ed25519 CCCC", "ssh-ed25519 EEEE");
        assert_eq!(changed(&with, &newer), format!("{before}{newer}"));
        assert_eq!(changed(&with, ""), before);
    }

    #[test]
    fn networks_are_patterns() {
        for (net, pattern) in [
            ("10.20.0.0/24", "10.20.0.*"),
            ("10.20.0.0/22", "10.20.*"),
            ("10.1.2.3/32", "10.1.2.3"),
            ("0.0.0.0/0", "*"),
            ("2001:db8:1::/48", "2001:db8:1:*"),
        ] {
            assert_eq!(of_net(&net.parse().unwrap()), pattern);
        }
    }

    #[test]
    fn a_home_is_written_through_no_link() {
        let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(elsewhere.path(), home.path().join(".ssh")).unwrap();
        let error = in_home(home.path(), "x hoop-trust\n").unwrap_err();
        assert!(format!("{error:#}").contains("is a link"), "{error:#}");
        std::fs::remove_file(home.path().join(".ssh")).unwrap();
        in_home(home.path(), "x hoop-trust\n").unwrap();
        let written = std::fs::read_to_string(home.path().join(".ssh/known_hosts")).unwrap();
        assert_eq!(written, "x hoop-trust\n");
        in_home(home.path(), "").unwrap();
        assert!(!home.path().join(".ssh/known_hosts").exists());
    }

    #[test]
    fn the_systems_file_is_no_link_and_keeps_its_mode() {
        use std::os::unix::fs::PermissionsExt;
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = folder.path().join("ssh_known_hosts");
        let victim = elsewhere.path().join("victim");
        std::fs::write(&victim, "secret\n").unwrap();
        symlink(&victim, &path).unwrap();
        let error = in_system(&path, "x hoop-trust\n").unwrap_err();
        assert!(format!("{error:#}").contains("is a link"), "{error:#}");
        assert!(path.is_symlink());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "mine\n").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        in_system(&path, "x hoop-trust\n").unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "mine\nx hoop-trust\n"
        );
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        in_system(&path, "").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine\n");
    }
}
