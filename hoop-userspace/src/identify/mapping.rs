//! Which agent a cgroup belongs to.
//!
//! A pattern covers the cgroup that it names and everything below it. Of several that cover a
//! cgroup the longest wins: first the one with more levels, then the one with more characters
//! that are not wildcards, then the one that stands first in the file.

use crate::config::{Agent, Config, glob};

/// The agent that `cgroup` (below the cgroup2 mount; a leading slash does not matter) runs as.
/// `None` means that nobody vouches for what runs there: refuse it.
pub fn agent_for<'c>(config: &'c Config, cgroup: &str) -> Option<&'c Agent> {
    longest(&config.agents, |agent| &agent.cgroup, cgroup)
}

/// Of several that have a pattern, the one whose longest covers the cgroup.
pub fn longest<'a, T>(all: &'a [T], pattern: impl Fn(&T) -> &str, cgroup: &str) -> Option<&'a T> {
    let cgroup = cgroup.trim_start_matches('/');
    all.iter()
        .filter(|one| covers(pattern(one), cgroup))
        // `max_by_key` keeps the last of equals, so reversing keeps the file's first.
        .rev()
        .max_by_key(|one| length(pattern(one)))
}

/// Whether every level of the pattern fits the same level of the path.
pub fn covers(pattern: &str, cgroup: &str) -> bool {
    let mut levels = cgroup.split('/').filter(|level| !level.is_empty());
    pattern.split('/').all(|glob| {
        levels
            .next()
            .is_some_and(|level| glob::matches(glob, level))
    })
}

/// The instance that a cgroup is, where the agent's mapping tells instances apart.
pub fn instance_of<'c>(agent: &Agent, cgroup: &'c str) -> Option<&'c str> {
    agent.instance_claim.as_ref()?;
    instance(&agent.cgroup, cgroup)
}

/// What the pattern's one `*` stands for in a cgroup that it covers.
fn instance<'c>(pattern: &str, cgroup: &'c str) -> Option<&'c str> {
    let levels = cgroup.split('/').filter(|level| !level.is_empty());
    pattern.split('/').zip(levels).find_map(|(glob, level)| {
        let (before, after) = glob.split_once('*')?;
        level.strip_prefix(before)?.strip_suffix(after)
    })
}

fn length(pattern: &str) -> (usize, usize) {
    let literal = pattern.chars().filter(|c| !matches!(c, '*' | '?' | '/'));
    (pattern.split('/').count(), literal.count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Bundle;
    use std::path::Path;

    fn config(patterns: &[&str]) -> Config {
        let text: String = patterns
            .iter()
            .enumerate()
            .map(|(i, p)| {
                format!("[[agent]]\nname = \"a{i}\"\ncgroup = '{p}'\nmode = \"discover\"\n")
            })
            .collect();
        Config::from_bundle(&Bundle::from_text(Path::new("t"), &text)).unwrap()
    }

    fn chosen(patterns: &[&str], cgroup: &str) -> Option<String> {
        agent_for(&config(patterns), cgroup).map(|a| a.name.to_string())
    }

    #[test]
    fn the_longest_pattern_wins() {
        let patterns = [
            "agents.slice",
            "agents.slice/bot*.service",
            "agents.slice/bot-b*.service",
            "agents.slice/*/inner",
        ];
        for (cgroup, agent) in [
            ("agents.slice", "a0"),
            ("agents.slice/other.service", "a0"),
            ("agents.slice/bot-a.service", "a1"),
            ("agents.slice/bot-a.service/deep/er", "a1"),
            ("/agents.slice/bot-b.service", "a2"),
            ("agents.slice/bot-b.service/inner/x", "a3"),
        ] {
            assert_eq!(
                chosen(&patterns, cgroup).as_deref(),
                Some(agent),
                "{cgroup}"
            );
        }
    }

    #[test]
    fn nothing_else_matches() {
        for cgroup in [
            "",
            "/",
            "agents",
            "agents.slices/x",
            "x/agents.slice",
            "system.slice",
        ] {
            assert_eq!(chosen(&["agents.slice/bot"], cgroup), None, "{cgroup}");
        }
        assert_eq!(chosen(&["agents.slice/bot"], "agents.slice/bot2"), None);
        // A star does not cross levels, and systemd's escapes stand for themselves.
        assert_eq!(chosen(&["agents.slice/a*c"], "agents.slice/a/c"), None);
        assert!(chosen(&["agents.slice/a\\x2db"], "agents.slice/a\\x2db").is_some());
    }

    #[test]
    fn instances() {
        let pattern = "agents.slice/agent-*.service";
        for (cgroup, found) in [
            ("agents.slice/agent-7.service", Some("7")),
            ("/agents.slice/agent-a-b.service/inner/x", Some("a-b")),
            ("agents.slice/agent-.service", Some("")),
            ("agents.slice/agent.service", None),
            ("agents.slice", None),
        ] {
            assert_eq!(instance(pattern, cgroup), found, "{cgroup}");
        }
        assert_eq!(instance("a/*/c", "a/b/c"), Some("b"));
    }

    #[test]
    fn equals_go_to_the_first_of_the_file() {
        let patterns = ["agents.slice/a*", "agents.slice/*a"];
        assert_eq!(chosen(&patterns, "agents.slice/aa").as_deref(), Some("a0"));
    }
}
