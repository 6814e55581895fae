//! Who it is that speaks on the control socket, as the kernel says: the account, and for root the
//! account that became root.

use std::ffi::CString;
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use crate::ask::Voter;
use crate::attribute::Proc;
use crate::config::Config;

/// The other end of the control socket (SO_PEERCRED).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub uid: u32,
    pub pid: Option<i32>,
}

/// The group that root is in unless `[[approver]]` says otherwise, and that the packs ask.
const DEFAULT: &str = "hoop-approvers";

/// The kernel's mark for a process that nobody logged in to start.
const NOBODY: u32 = u32::MAX;

/// Why somebody may not speak about approvals at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPerson {
    #[error(
        "what runs below {0} is governed, and may neither see questions nor answer them, nor stop or resume anybody"
    )]
    Governed(String),
    #[error("it cannot be told where the process that asks runs")]
    Unknown,
    #[error("account {0} cannot be looked up: {1}")]
    Account(u32, nix::errno::Errno),
}

/// An account of this host that somebody speaks with. What follows from it is looked up at every
/// use: a reload, or a change of the host's groups, counts at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Account {
    /// For root: who became it, where that is known.
    pub uid: u32,
    pub root: bool,
}

/// The person behind a connection. Looks accounts up, which may block.
pub fn voter(config: &Config, peer: Peer) -> Result<Voter, NoPerson> {
    person(config, behind(config, peer)?)
}

/// The account behind a connection.
pub fn behind(config: &Config, peer: Peer) -> Result<Account, NoPerson> {
    let proc = ungoverned(config, peer)?;
    let root = peer.uid == 0;
    let uid = match root {
        true => login(proc).unwrap_or(0),
        false => peer.uid,
    };
    Ok(Account { uid, root })
}

/// The person whose account that is. May block.
pub fn person(config: &Config, who: Account) -> Result<Voter, NoPerson> {
    let Account { uid: behind, root } = who;
    let account = account(behind)?;
    let mut groups = groups(config, behind, &account);
    if root && behind != 0 {
        groups.extend(self::groups(config, 0, &self::account(0)?));
    }
    groups.sort();
    groups.dedup();
    Ok(Voter {
        name: called(config, account),
        groups,
        root,
        via: "control",
    })
}

/// The process behind a connection, unless it is an agent's: what is governed has no say over
/// itself, whatever account it has.
pub fn ungoverned(config: &Config, peer: Peer) -> Result<u32, NoPerson> {
    let pid = peer.pid.and_then(|pid| u32::try_from(pid).ok());
    let proc = pid.filter(|pid| *pid > 0).ok_or(NoPerson::Unknown)?;
    let cgroup = Proc::of(Path::new("/proc"), proc).cgroup();
    let cgroup = cgroup.ok_or(NoPerson::Unknown)?;
    let attach = config.capture.attach.as_str();
    match is_below(&cgroup, attach) {
        true => Err(NoPerson::Governed(attach.to_owned())),
        false => Ok(proc),
    }
}

/// How an account is called where people approve: by `[[approver]]`, or by its own name.
pub fn called(config: &Config, account: String) -> String {
    let known = config.approvers.iter().find(|a| a.user == account);
    known.map_or(account, |approver| approver.name.clone())
}

/// The account's name on this host. That it has none is an answer, that none can be had is not:
/// another name than its own would let somebody approve for themselves. May block.
pub fn account(uid: u32) -> Result<String, NoPerson> {
    let user = User::from_uid(Uid::from_raw(uid));
    let user = user.map_err(|error| NoPerson::Account(uid, error))?;
    Ok(user.map_or_else(|| format!("uid {uid}"), |user| user.name))
}

/// Whether a cgroup is the governed slice or below it.
pub fn is_below(cgroup: &str, attach: &str) -> bool {
    let rest = cgroup.trim_start_matches('/').strip_prefix(attach);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Who runs this process, for the record: the account, and behind root's who became it. May block.
pub fn myself() -> String {
    let uid = Uid::effective().as_raw();
    let own = account(uid).unwrap_or_else(|_| format!("uid {uid}"));
    match login(std::process::id()).filter(|behind| *behind != uid) {
        Some(behind) => {
            let behind = account(behind).unwrap_or_else(|_| format!("uid {behind}"));
            format!("{behind} (as {own})")
        }
        None => own,
    }
}

/// Who logged in and then became root: two people who use sudo are two people.
fn login(pid: u32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/loginuid")).ok()?;
    let uid = text.trim().parse().ok()?;
    (uid != NOBODY).then_some(uid)
}

fn groups(config: &Config, uid: u32, account: &str) -> Vec<String> {
    let listed = config.approvers.iter().find(|a| a.user == account);
    let mut groups = match listed {
        Some(approver) => approver.groups.clone(),
        None if uid == 0 => vec![DEFAULT.to_owned()],
        None => Vec::new(),
    };
    if !config.approvals.groups.is_empty() {
        let host = host_groups(uid);
        let of_host = config.approvals.groups.iter();
        let of_host = of_host.filter(|(_, names)| names.iter().any(|name| host.contains(name)));
        groups.extend(of_host.map(|(group, _)| group.clone()));
    }
    groups
}

/// Whether an account is in a group, by itself or as a member. May block.
pub fn is_in(user: &User, group: Gid) -> bool {
    let name = CString::new(user.name.as_str());
    // What cannot be told is taken for the worse.
    let groups = name
        .ok()
        .and_then(|name| getgrouplist(&name, user.gid).ok());
    user.gid == group || groups.is_none_or(|groups| groups.contains(&group))
}

/// The names of the groups that the account is in on this host.
fn host_groups(uid: u32) -> Vec<String> {
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else {
        return Vec::new();
    };
    let Ok(name) = CString::new(user.name) else {
        return Vec::new();
    };
    let gids = getgrouplist(&name, user.gid).unwrap_or_default();
    let groups = gids
        .into_iter()
        .filter_map(|gid| Group::from_gid(gid).ok()?);
    groups.map(|group| group.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Bundle;

    fn config(text: &str) -> Config {
        Config::from_bundle(&Bundle::from_text("hoop.toml".as_ref(), text)).unwrap()
    }

    #[test]
    fn what_is_governed_answers_nothing() {
        assert!(is_below("agents.slice", "agents.slice"));
        assert!(is_below("/agents.slice/bot.service", "agents.slice"));
        assert!(!is_below("/agents.slices/bot.service", "agents.slice"));
        assert!(!is_below("/user.slice", "agents.slice"));
    }

    #[test]
    fn accounts_and_groups_of_the_host_become_people_and_their_groups() {
        let config = config(
            "[[approver]]\nname = \"alice\"\nuser = \"daemon\"\ngroups = [\"dba\"]\n\
             [approvals]\nwait = \"10m\"\n[approvals.groups]\noncall = [\"root\", \"bin\"]\n",
        );
        let called = |uid| called(&config, account(uid).unwrap());
        let groups = |uid| groups(&config, uid, &account(uid).unwrap());
        assert_eq!(called(1), "alice");
        assert_eq!(groups(1), ["dba"]);
        assert_eq!(called(0), "root");
        assert_eq!(groups(0), [DEFAULT, "oncall"]);
        assert_eq!(called(3_999_999), "uid 3999999");
        assert!(groups(3_999_999).is_empty());
    }
}
