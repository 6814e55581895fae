//! Which agent a cgroup belongs to.
//!
//! A pattern covers the cgroup that it names and everything below it. Of several that cover a
//! cgroup the longest wins: first the one with more levels, then the one with more characters
//! that are not wildcards, then the one that asks for more of its container, then the one that stands
//! first in the file. A mapping that picks containers takes those that fit and leaves the others to the
//! next; where it cannot be told whether one fits, nobody gets it.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::attribute::{Container, Looked, Texts};
use crate::config::{Agent, Config, ContainerPick, Mode, Pick, PodPick, Said, glob};

/// Looks up the container that a cgroup is of.
pub type Look<'l> = &'l dyn Fn(&str) -> Looked;

/// Whose a cgroup is.
#[derive(Debug)]
pub enum Choice<'c, T> {
    Of(&'c T),
    /// Nobody vouches for what runs there: refuse it.
    Nobody,
    /// It may be this one's, and that cannot be told: refuse it.
    Unknown {
        perhaps: &'c T,
        why: String,
    },
}

impl<'c, T> Choice<'c, T> {
    pub fn known(self) -> Option<&'c T> {
        match self {
            Self::Of(one) => Some(one),
            Self::Nobody | Self::Unknown { .. } => None,
        }
    }
}

/// How one of several is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'r> {
    pub cgroup: &'r str,
    pub pick: Option<&'r Pick>,
}

/// What has a rule.
pub trait Ruled {
    fn rule(&self) -> Rule<'_>;
}

impl Ruled for Agent {
    fn rule(&self) -> Rule<'_> {
        Rule {
            cgroup: &self.cgroup,
            pick: self.pick.as_ref(),
        }
    }
}

/// The agent that `cgroup` (below the cgroup2 mount; a leading slash does not matter) runs as.
pub fn agent_for<'c>(config: &'c Config, cgroup: &str, look: Look<'_>) -> Choice<'c, Agent> {
    choose(&config.agents, cgroup, look)
}

/// How the kernel is to treat a cgroup; `None`: as the one above it. What only groups containers of
/// agents, or cannot be told, is held as strictly as any of them, because a container's cgroup counts
/// as it does until it is seen.
pub fn mode_for(config: &Config, cgroup: &str, look: Look<'_>) -> Option<Mode> {
    match agent_for(config, cgroup, look) {
        Choice::Unknown { .. } => Some(Mode::Enforce),
        Choice::Nobody => {
            let mut picking = picking(&config.agents, cgroup);
            picking.next().map(|_| Mode::Enforce)
        }
        Choice::Of(agent) if !groups(&config.agents, cgroup, look) => Some(agent.mode),
        Choice::Of(agent) => {
            let modes = picking(&config.agents, cgroup).map(|agent| agent.mode);
            modes
                .chain([agent.mode])
                .max_by_key(|mode| strictness(*mode))
        }
    }
}

/// Whether a cgroup is no container and may hold some that are picked: what holds for it is not for them.
pub fn groups<T: Ruled>(all: &[T], cgroup: &str, look: Look<'_>) -> bool {
    picking(all, cgroup).next().is_some() && matches!(look(cgroup), Ok(None))
}

fn picking<'a, T: Ruled>(all: &'a [T], cgroup: &str) -> impl Iterator<Item = &'a T> {
    all.iter().filter(move |one| {
        let rule = one.rule();
        rule.pick.is_some() && meets(rule.cgroup, cgroup)
    })
}

/// Whether the pattern covers the path, or may cover what lies below it.
fn meets(pattern: &str, cgroup: &str) -> bool {
    let levels = cgroup.split('/').filter(|level| !level.is_empty());
    let mut both = pattern.split('/').zip(levels);
    both.all(|(glob, level)| glob::matches(glob, level))
}

fn strictness(mode: Mode) -> u8 {
    match mode {
        Mode::Discover => 0,
        Mode::Observe => 1,
        Mode::Enforce => 2,
    }
}

/// Of several the one whose rule means the cgroup. Its container is looked up only if a rule asks.
pub fn choose<'a, T: Ruled>(all: &'a [T], cgroup: &str, look: Look<'_>) -> Choice<'a, T> {
    let cgroup = cgroup.trim_start_matches('/');
    let mut covering: Vec<&T> = all
        .iter()
        .filter(|one| covers(one.rule().cgroup, cgroup))
        .collect();
    // Stable: equals stay in the file's order.
    covering.sort_by_key(|one| {
        let Rule { cgroup, pick } = one.rule();
        Reverse((length(cgroup), pick.map_or(0, Pick::conditions)))
    });
    let mut looked = None;
    for one in covering {
        let Some(pick) = one.rule().pick else {
            return Choice::Of(one);
        };
        let fit = match looked.get_or_insert_with(|| look(cgroup)) {
            Err(error) => Fit::Unknown(error.to_string()),
            Ok(container) => fit(pick, container.as_ref()),
        };
        match fit {
            Fit::Yes => return Choice::Of(one),
            Fit::No => {}
            Fit::Unknown(why) => return Choice::Unknown { perhaps: one, why },
        }
    }
    Choice::Nobody
}

/// Whether a container is one that a mapping picks.
#[derive(Debug, PartialEq, Eq)]
enum Fit {
    Yes,
    No,
    Unknown(String),
}

fn fit(pick: &Pick, container: Option<&Arc<Container>>) -> Fit {
    let Some(container) = container else {
        return Fit::No;
    };
    match pick {
        Pick::Container(pick) => fits(pick, container),
        Pick::Pod(pick) => fits_pod(pick, container),
    }
}

fn fits(pick: &ContainerPick, container: &Container) -> Fit {
    let of = container.engine.text();
    let labels = container.labels.as_ref();
    let advice = format!(
        "{of} keeps labels where hoop does not read; pick its containers by name, image or annotation"
    );
    Fit::all([
        is(pick.name.as_ref(), container.name.as_ref(), of, "a name"),
        is(
            pick.image.as_ref(),
            container.image.as_ref(),
            of,
            "an image",
        ),
        say(&pick.annotations, Some(&container.annotations), String::new),
        say(&pick.labels, labels, || advice),
    ])
}

fn fits_pod(pick: &PodPick, container: &Container) -> Fit {
    let of = container.engine.text();
    let Some(pod) = &container.pod else {
        return Fit::No;
    };
    let advice = format!(
        "{of} writes no pod's labels down where hoop reads; pick its pods by namespace, name, container, image or annotation"
    );
    // The sandbox itself is no container of its pod, and runs nobody's program.
    let part = match (&pick.container, &pod.container) {
        (Some(_), None) => Fit::No,
        (pattern, name) => is(pattern.as_ref(), name.as_ref(), of, "a container's name"),
    };
    Fit::all([
        Fit::of(pod.namespace == pick.namespace),
        is(pick.name.as_ref(), Some(&pod.name), of, "a name"),
        part,
        is(
            pick.image.as_ref(),
            container.image.as_ref(),
            of,
            "an image",
        ),
        say(&pick.annotations, Some(&pod.annotations), String::new),
        say(&pick.labels, pod.labels.as_ref(), || advice),
    ])
}

impl Fit {
    fn of(holds: bool) -> Self {
        match holds {
            true => Self::Yes,
            false => Self::No,
        }
    }

    /// One that does not hold settles it; else what cannot be told does.
    fn all<const N: usize>(conditions: [Self; N]) -> Self {
        let mut unknown = None;
        for condition in conditions {
            match condition {
                Self::Yes => {}
                Self::No => return Self::No,
                Self::Unknown(why) => unknown = unknown.or(Some(why)),
            }
        }
        unknown.map_or(Self::Yes, Self::Unknown)
    }
}

fn is(pattern: Option<&String>, text: Option<&String>, of: &str, what: &str) -> Fit {
    match (pattern, text) {
        (None, _) => Fit::Yes,
        (Some(_), None) => Fit::Unknown(format!(
            "{of} has not written {what} of it down where hoop reads"
        )),
        (Some(pattern), Some(text)) => Fit::of(glob::matches(pattern, text)),
    }
}

/// Whether all are among the texts; `None`: those are kept elsewhere.
fn say(asked: &[Said], texts: Option<&Texts>, elsewhere: impl FnOnce() -> String) -> Fit {
    match texts {
        _ if asked.is_empty() => Fit::Yes,
        Some(texts) => Fit::of(asked.iter().all(|said| says(texts, said))),
        None => Fit::Unknown(elsewhere()),
    }
}

fn says(texts: &Texts, said: &Said) -> bool {
    texts.get(&said.key) == Some(&said.value)
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
        let config = config(patterns);
        let agent = agent_for(&config, cgroup, &|_| panic!("nobody asks"));
        agent.known().map(|a| a.name.to_string())
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

    fn picking(agents: &[(&str, &str, &str)]) -> Config {
        let mut text = String::new();
        for (name, pick, mode) in agents {
            text += &format!(
                "[[agent]]\nname = \"{name}\"\ncgroup = \"agents.slice\"\nmode = \"{mode}\"\n{pick}\n"
            );
        }
        Config::from_bundle(&Bundle::from_text(Path::new("t"), &text)).unwrap()
    }

    fn container(labels: Option<&[(&str, &str)]>) -> Container {
        let texts = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            pairs.collect()
        };
        Container {
            id: "a".repeat(64),
            engine: crate::attribute::Engine::Docker,
            name: Some("bot-1".into()),
            image: Some("registry.example/team/bot:1".into()),
            labels: labels.map(texts),
            annotations: texts(&[("note", "x")]),
            pod: None,
            isolated: None,
        }
    }

    fn found(config: &Config, looked: &Looked) -> String {
        match agent_for(config, "agents.slice/x.scope", &|_| looked.clone()) {
            Choice::Of(agent) => agent.name.to_string(),
            Choice::Nobody => "nobody".into(),
            Choice::Unknown { perhaps, .. } => format!("perhaps {}", perhaps.name),
        }
    }

    /// A container counts as what is above it until it is seen.
    #[test]
    fn what_may_hold_picked_containers_is_held_as_strictly_as_they_are() {
        let text = "[[agent]]\nname = \"rest\"\ncgroup = \"agents.slice\"\nmode = \"discover\"\n\
             [[agent]]\nname = \"one\"\ncgroup = \"agents.slice/docker-*.scope\"\nmode = \"observe\"\n\
             container = { label = \"hoop.agent=one\" }\n";
        let config = Config::from_bundle(&Bundle::from_text(Path::new("t"), text)).unwrap();
        let no = |_: &str| Ok(None);
        assert!(groups(&config.agents, "agents.slice", &no));
        assert_eq!(mode_for(&config, "agents.slice", &no), Some(Mode::Observe));
        let other = "agents.slice/cron.service";
        assert_eq!(mode_for(&config, other, &no), Some(Mode::Discover));
    }

    #[test]
    fn what_was_not_written_down_is_nothing_that_does_not_fit() {
        let rest = ("rest", "", "discover");
        let unnamed = Container {
            name: None,
            image: None,
            ..container(Some(&[("hoop.agent", "one")]))
        };
        for (pick, is) in [
            ("container = { name = \"bot-*\" }", "perhaps one"),
            ("container = { image = \"*\" }", "perhaps one"),
            (
                "container = { label = \"hoop.agent=one\", name = \"x\" }",
                "perhaps one",
            ),
            (
                "container = { label = \"hoop.agent=two\", name = \"x\" }",
                "rest",
            ),
            ("container = { label = \"hoop.agent=one\" }", "one"),
            ("pod = { namespace = \"shop\" }", "rest"),
        ] {
            let config = picking(&[rest, ("one", pick, "discover")]);
            let looked = Ok(Some(Arc::new(unnamed.clone())));
            assert_eq!(found(&config, &looked), is, "{pick}");
        }
    }

    #[test]
    fn containers_are_picked_by_what_fits_and_whatever_is_left_goes_to_the_rest() {
        let config = picking(&[
            ("rest", "", "discover"),
            (
                "one",
                "container = { label = \"hoop.agent=one\" }",
                "discover",
            ),
            (
                "both",
                "container = { label = [\"hoop.agent=one\", \"team=a\"], image = \"registry.example/team/*\" }",
                "discover",
            ),
            (
                "named",
                "container = { name = \"bot-?\", annotation = \"note=y\" }",
                "discover",
            ),
        ]);
        let of =
            |labels: &[(&str, &str)]| found(&config, &Ok(Some(container(Some(labels)).into())));
        assert_eq!(of(&[("hoop.agent", "one")]), "one");
        assert_eq!(of(&[("hoop.agent", "one"), ("team", "a")]), "both");
        assert_eq!(of(&[("hoop.agent", "two")]), "rest");
        assert_eq!(of(&[("hoop.agent", "one\nteam=a")]), "rest");
        assert_eq!(found(&config, &Ok(None)), "rest");
    }

    #[test]
    fn what_cannot_be_told_is_nobodys() {
        let config = picking(&[
            ("rest", "", "discover"),
            (
                "one",
                "container = { label = \"hoop.agent=one\" }",
                "discover",
            ),
            (
                "pod",
                "pod = { namespace = \"n\", label = \"a=b\" }",
                "discover",
            ),
        ]);
        let error = crate::attribute::Unreadable::Borrowed { above: "x".into() };
        assert_eq!(found(&config, &Err(error)), "perhaps pod");
        let mut unlabelled = container(None);
        assert_eq!(
            found(&config, &Ok(Some(unlabelled.clone().into()))),
            "perhaps one"
        );
        let pod = |namespace: &str| crate::attribute::Pod {
            namespace: namespace.into(),
            name: "p".into(),
            container: None,
            sandbox: None,
            labels: None,
            annotations: Default::default(),
        };
        unlabelled.labels = Some(Default::default());
        unlabelled.pod = Some(pod("n"));
        assert_eq!(
            found(&config, &Ok(Some(unlabelled.clone().into()))),
            "perhaps pod"
        );
        // Of another namespace: whatever its labels are, they are no reason.
        unlabelled.pod = Some(pod("m"));
        assert_eq!(found(&config, &Ok(Some(unlabelled.into()))), "rest");
    }

    #[test]
    fn the_kernel_is_as_strict_as_any_container_may_need() {
        let agents = |mode| {
            picking(&[
                ("rest", "", "discover"),
                ("one", "container = { label = \"hoop.agent=one\" }", mode),
            ])
        };
        let of = |config: &Config, looked: Looked| {
            mode_for(config, "agents.slice/x", &|_| looked.clone())
        };
        let labelled = |value| Ok(Some(container(Some(&[("hoop.agent", value)])).into()));
        let config = agents("observe");
        assert_eq!(of(&config, labelled("one")), Some(Mode::Observe));
        assert_eq!(of(&config, labelled("two")), Some(Mode::Discover));
        assert_eq!(of(&config, Ok(None)), Some(Mode::Observe), "it groups them");
        let gone = crate::attribute::Unreadable::Borrowed { above: "x".into() };
        assert_eq!(of(&config, Err(gone)), Some(Mode::Enforce));
        let alone = picking(&[("one", "container = { name = \"x\" }", "discover")]);
        assert_eq!(of(&alone, labelled("two")), Some(Mode::Enforce));
        assert_eq!(mode_for(&alone, "other.slice", &|_| Ok(None)), None);
    }
}
