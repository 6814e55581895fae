//! `hoop exec --agent A -- COMMAND`: starts a program by hand in that agent's cgroup.
//!
//! The move comes before the exec, so every socket of the program is born governed; descriptors
//! that would carry an ungoverned one in are closed. Environment and standard streams are kept.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::{User, initgroups, setgid, setuid};

use super::ConfigArg;
use crate::keeper::cgroups::BY_HAND;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArg,
    /// The agent, as `[[agent]] name` has it
    #[arg(long)]
    agent: String,
    /// The account to run as; default: the present one
    #[arg(long)]
    user: Option<String>,
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let pattern = pattern_of(&args.config.config, &args.agent)?;
    let mount = crate::attribute::cgroup2_mount();
    let cgroup = cgroup_for(&mount, &pattern, std::process::id())?;
    enter(&cgroup)?;
    if let Some(user) = &args.user {
        become_user(user)?;
    }
    crate::capture::close_inherited_on_exec().context("cannot close inherited descriptors")?;
    let (program, rest) = args.command.split_first().context("no command")?;
    let error = std::process::Command::new(program).args(rest).exec();
    Err(error).with_context(|| format!("cannot start {}", program.to_string_lossy()))
}

fn pattern_of(config: &Path, agent: &str) -> Result<String> {
    let text = std::fs::read_to_string(config)
        .with_context(|| format!("cannot read {}", config.display()))?;
    let table: toml::Table =
        toml::from_str(&text).with_context(|| format!("{} is not valid", config.display()))?;
    let agents = table
        .get("agent")
        .and_then(|a| a.as_array())
        .cloned()
        .unwrap_or_default();
    let text = |agent: &toml::Value, key: &str| Some(agent.get(key)?.as_str()?.to_owned());
    let named = agents
        .iter()
        .find(|a| text(a, "name").as_deref() == Some(agent));
    let Some(named) = named else {
        let known: Vec<_> = agents.iter().filter_map(|a| text(a, "name")).collect();
        bail!(
            "no agent {agent:?} in {}; there are: {}",
            config.display(),
            known.join(", ")
        );
    };
    ensure!(
        named.get("container").is_none() && named.get("pod").is_none(),
        "agent {agent:?} is picked among containers: start the program in one of them (docker exec, kubectl exec)"
    );
    text(named, "cgroup").with_context(|| format!("agent {agent:?} has no cgroup"))
}

/// A new cgroup that the agent's pattern covers. A pattern with a star in its last part gets a
/// sibling of the agent's own services; below one without, the cgroup is made as a child.
fn cgroup_for(mount: &Path, pattern: &str, pid: u32) -> Result<PathBuf> {
    let pattern = pattern.trim_matches('/');
    let (parents, last) = pattern.rsplit_once('/').unwrap_or(("", pattern));
    let special = |part: &str| part.contains(['?', '[', ']', '{', '}', '\\']);
    ensure!(
        !special(pattern) && !parents.contains('*') && !pattern.is_empty(),
        "the cgroup pattern {pattern:?} stands for too many places; start the program with a unit in one of them"
    );
    let by_hand = format!("{BY_HAND}{pid}");
    let below = if last.contains('*') {
        let mut filled = last.replacen('*', &format!("-{by_hand}"), 1);
        filled = filled.replace('*', "");
        Path::new(parents).join(filled)
    } else {
        Path::new(parents).join(last).join(by_hand)
    };
    ensure!(
        below
            .components()
            .all(|c| matches!(c, std::path::Component::Normal(_))),
        "the cgroup pattern {pattern:?} leaves the cgroup tree"
    );
    Ok(mount.join(below))
}

fn enter(cgroup: &Path) -> Result<()> {
    let make = || format!("cannot make the cgroup {}; only root can", cgroup.display());
    std::fs::create_dir_all(cgroup).with_context(make)?;
    // 0 is whoever writes.
    std::fs::write(cgroup.join("cgroup.procs"), "0")
        .with_context(|| format!("cannot enter the cgroup {}", cgroup.display()))
}

fn become_user(name: &str) -> Result<()> {
    let user = User::from_name(name)?.with_context(|| format!("there is no account {name:?}"))?;
    let c_name = std::ffi::CString::new(name)?;
    initgroups(&c_name, user.gid).context("cannot take the account's groups")?;
    setgid(user.gid).context("cannot take the account's group")?;
    setuid(user.uid).with_context(|| format!("cannot become {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(pattern: &str) -> Result<String> {
        Ok(cgroup_for(Path::new("/cg"), pattern, 7)?
            .display()
            .to_string())
    }

    #[test]
    fn the_cgroup_is_one_that_the_pattern_covers() {
        assert_eq!(
            made("agents.slice/bot*.service").unwrap(),
            "/cg/agents.slice/bot-hoop-exec-7.service"
        );
        assert_eq!(
            made("agents.slice/bot.service").unwrap(),
            "/cg/agents.slice/bot.service/hoop-exec-7"
        );
        assert_eq!(
            made("/agents.slice/").unwrap(),
            "/cg/agents.slice/hoop-exec-7"
        );
    }

    #[test]
    fn a_pattern_that_says_too_little_or_leaves_the_tree_is_refused() {
        for pattern in [
            "*/bot.service",
            "agents.slice/b?t",
            "../x",
            "",
            "agents.slice/{a,b}",
        ] {
            assert!(made(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn an_unknown_agent_is_answered_with_those_that_exist() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hoop.toml");
        std::fs::write(
            &file,
            "[[agent]]\nname = \"bot\"\ncgroup = \"agents.slice/bot\"\n",
        )
        .unwrap();
        assert_eq!(pattern_of(&file, "bot").unwrap(), "agents.slice/bot");
        let text = "[[agent]]\nname = \"bot\"\ncgroup = \"a\"\ncontainer = { name = \"x\" }\n";
        std::fs::write(folder.path().join("picked.toml"), text).unwrap();
        let error = pattern_of(&folder.path().join("picked.toml"), "bot").unwrap_err();
        assert!(error.to_string().contains("docker exec"), "{error}");
        let error = pattern_of(&file, "bto").unwrap_err().to_string();
        assert!(error.contains("there are: bot"), "{error}");
    }
}
