//! What a cgroup's path says: the systemd unit and the container.
//!
//! The outermost name counts. What lies deeper may have been made by the agent itself, where its
//! unit delegates the subtree to it, and would let it borrow another's name.

const UNIT_KINDS: [&str; 7] = [
    ".service", ".scope", ".socket", ".mount", ".swap", ".timer", ".path",
];
const SCOPES: [(&str, Named); 6] = [
    ("docker-", Named::Docker),
    // What Podman makes within a unit of its own (`--cgroups=split`, Quadlet).
    ("libpod-payload-", Named::Storage),
    ("libpod-", Named::Storage),
    ("crio-", Named::Storage),
    ("cri-containerd-", Named::Containerd),
    ("nerdctl-", Named::Containerd),
];

/// The unit: the first level that is no slice, as systemd itself reads such paths.
pub(crate) fn unit(cgroup: &str) -> Option<String> {
    let level = cgroup.split('/').find(|level| !is_slice(level))?;
    let name = unescape(level);
    is_unit(name).then(|| name.to_owned())
}

/// Who names a container's cgroup like that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Docker,
    /// Podman and CRI-O, whose containers are in containers-storage.
    Storage,
    Containerd,
    /// The id alone, as several do with the cgroupfs driver.
    Bare,
}

/// The level of a path that is a container's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Level<'c> {
    /// 64 lower-case hexadecimal digits.
    pub id: String,
    pub named: Named,
    /// The path above it, without a final slash; empty for the mount itself.
    pub above: &'c str,
}

/// The outermost level that names a container: 64 hexadecimal digits, bare (the cgroupfs driver) or in
/// a scope's name (the systemd driver).
pub(super) fn level(cgroup: &str) -> Option<Level<'_>> {
    let mut start = 0;
    for name in cgroup.split('/') {
        if let Some((id, named)) = identified(name) {
            let above = cgroup.get(..start).unwrap_or_default();
            return Some(Level {
                id,
                named,
                above: above.trim_end_matches('/'),
            });
        }
        start += name.len() + 1;
    }
    None
}

fn identified(level: &str) -> Option<(String, Named)> {
    let name = level.strip_suffix(".scope").unwrap_or(level);
    let scope = SCOPES
        .iter()
        .find_map(|(prefix, named)| Some((name.strip_prefix(prefix)?, *named)));
    let (id, named) = match scope {
        Some(scope) => scope,
        // containerd's CRI writes "POD:cri-containerd:ID" where its runtime uses that form.
        None => match name.rsplit_once(':') {
            Some((_, id)) => (id, Named::Containerd),
            None => (name, Named::Bare),
        },
    };
    if is_id(id) {
        return Some((id.to_ascii_lowercase(), named));
    }
    // Of another engine, or in a form that is not known: a container all the same, but for the process
    // that watches over one.
    let (before, id) = name.split_at_checked(name.len().checked_sub(64)?)?;
    let is = is_id(id) && before.ends_with(['-', '_']) && !before.contains("conmon");
    is.then(|| (id.to_ascii_lowercase(), Named::Bare))
}

/// Whether a text can be a container's id, and so a name in a runtime's folders.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The container id.
pub(super) fn container(cgroup: &str) -> Option<String> {
    level(cgroup).map(|level| level.id)
}

/// The part of the path within which ancestors are told: the unit's, else the whole.
pub(super) fn edge(cgroup: &str) -> &str {
    let mut end = 0;
    for level in cgroup.split('/') {
        end += level.len() + 1;
        if !is_slice(level) {
            let whole = cgroup.get(..end - 1).filter(|_| is_unit(unescape(level)));
            return whole.unwrap_or(cgroup);
        }
    }
    cgroup
}

fn is_slice(level: &str) -> bool {
    level.ends_with(".slice")
}

fn is_unit(name: &str) -> bool {
    UNIT_KINDS
        .iter()
        .any(|kind| name.strip_suffix(kind).is_some_and(|stem| !stem.is_empty()))
}

/// systemd puts `_` before a name that could be taken for a file of the cgroup file system.
fn unescape(level: &str) -> &str {
    level.strip_prefix('_').unwrap_or(level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_of_other_engines_are_containers_too() {
        let id = "a".repeat(64);
        let of = |name: &str| level(name).map(|level| (level.id, level.named));
        for (name, named) in [
            (format!("x.service/libpod-payload-{id}"), Named::Storage),
            (format!("libpod-{id}.scope"), Named::Storage),
            (format!("other-{id}.scope"), Named::Bare),
            (format!("engine_{id}"), Named::Bare),
        ] {
            assert_eq!(of(&name), Some((id.clone(), named)), "{name}");
        }
        for name in [
            format!("libpod-conmon-{id}.scope"),
            format!("crio-conmon-{id}.scope"),
            format!("a{id}"),
            "ü".repeat(40),
        ] {
            assert_eq!(of(&name), None, "{name}");
        }
    }

    #[test]
    fn units() {
        for (cgroup, expected) in [
            (
                "agents.slice/billing-bot.service",
                Some("billing-bot.service"),
            ),
            (
                "a.slice/a-b.slice/x@1\\x2d2.service/inner",
                Some("x@1\\x2d2.service"),
            ),
            (
                "agents.slice/bot.service/other.service",
                Some("bot.service"),
            ),
            ("a.slice/_cgroup.service", Some("cgroup.service")),
            (
                "user.slice/user-1000.slice/session-3.scope",
                Some("session-3.scope"),
            ),
            ("agents.slice", None),
            ("agents.slice/plain", None),
            ("agents.slice/.service", None),
            ("", None),
        ] {
            assert_eq!(unit(cgroup).as_deref(), expected, "{cgroup}");
        }
    }

    #[test]
    fn containers() {
        let id = "0123456789abcdef".repeat(4);
        for cgroup in [
            format!("system.slice/docker-{id}.scope"),
            format!("docker/{id}"),
            format!("machine.slice/libpod-{id}.scope/container"),
            format!(
                "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-{id}.scope"
            ),
            format!("kubepods.slice/kubepods-pod1.slice/crio-{id}.scope"),
            format!("kubepods/besteffort/pod11111111-2222-3333-4444-555555555555/{id}"),
            format!("system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{id}"),
        ] {
            assert_eq!(container(&cgroup), Some(id.clone()), "{cgroup}");
        }
        for cgroup in [
            format!("machine.slice/libpod-conmon-{id}.scope"),
            format!("docker/{}", &id[1..]),
            "agents.slice/bot.service".to_owned(),
        ] {
            assert_eq!(container(&cgroup), None, "{cgroup}");
        }
    }

    #[test]
    fn the_outermost_container_counts_and_what_is_above_it_is_told() {
        let (outer, inner) = ("a".repeat(64), "b".repeat(64));
        let path = format!("agents.slice/docker-{outer}.scope/docker-{inner}.scope");
        let found = level(&path).unwrap();
        assert_eq!((found.id, found.above), (outer.clone(), "agents.slice"));
        let bare = format!("{outer}/x");
        let found = level(&bare).unwrap();
        assert_eq!((found.named, found.above), (Named::Bare, ""));
        let capital = format!("crio-{}.scope", outer.to_uppercase());
        assert_eq!(level(&capital).unwrap().id, outer);
    }

    #[test]
    fn edges() {
        assert_eq!(edge("a.slice/b.service/c/d"), "a.slice/b.service");
        assert_eq!(edge("a.slice/plain/c"), "a.slice/plain/c");
        assert_eq!(edge("a.slice"), "a.slice");
        assert_eq!(edge(""), "");
    }

    proptest::proptest! {
        #[test]
        fn what_is_found_can_be_part_of_a_path(
            path in "([a-f0-9]{60,68}|docker-[a-f0-9./]{60,70}|[./:a-zA-Z\n-]{0,9}){0,4}"
        ) {
            if let Some(level) = level(&path) {
                proptest::prop_assert!(is_id(&level.id), "{:?}", level);
                proptest::prop_assert!(path.starts_with(level.above));
                let after = path.get(level.above.len()..).unwrap();
                let first = after.trim_start_matches('/').split('/').next().unwrap();
                proptest::prop_assert!(first.to_ascii_lowercase().contains(&level.id));
            }
        }

        #[test]
        fn an_id_is_found_under_each_name(
            id in "[a-f0-9]{64}",
            kind in 0..SCOPES.len(),
            above in "[a-z]{1,8}\\.slice(/[a-z]{1,8}\\.slice){0,2}",
            below in "(/[a-z]{1,6}){0,2}",
        ) {
            let (prefix, named) = SCOPES[kind];
            let path = format!("{above}/{prefix}{id}.scope{below}");
            let found = level(&path).unwrap();
            proptest::prop_assert_eq!(found.above, above.as_str());
            proptest::prop_assert_eq!((found.id, found.named), (id.clone(), named));
            let bare = format!("{above}/{id}{below}");
            proptest::prop_assert_eq!(level(&bare).unwrap().named, Named::Bare);
        }

        #[test]
        fn no_path_panics(path in ".{0,80}") {
            unit(&path);
            container(&path);
            edge(&path);
        }
    }
}
