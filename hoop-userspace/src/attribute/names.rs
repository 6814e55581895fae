//! What a cgroup's path says: the systemd unit and the container.
//!
//! The outermost name counts. What lies deeper may have been made by the agent itself, where its
//! unit delegates the subtree to it, and would let it borrow another's name.

const UNIT_KINDS: [&str; 7] = [
    ".service", ".scope", ".socket", ".mount", ".swap", ".timer", ".path",
];
const SCOPE_PREFIXES: [&str; 5] = ["docker-", "libpod-", "crio-", "cri-containerd-", "nerdctl-"];

/// The unit: the first level that is no slice, as systemd itself reads such paths.
pub(crate) fn unit(cgroup: &str) -> Option<String> {
    let level = cgroup.split('/').find(|level| !is_slice(level))?;
    let name = unescape(level);
    is_unit(name).then(|| name.to_owned())
}

/// The container id: 64 hexadecimal digits, bare (Docker's and containerd's cgroupfs driver,
/// kubepods) or in a scope's name (the systemd driver).
pub(super) fn container(cgroup: &str) -> Option<String> {
    cgroup.split('/').find_map(|level| {
        let name = level.strip_suffix(".scope").unwrap_or(level);
        let id = SCOPE_PREFIXES
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix))
            // containerd's CRI writes "POD:cri-containerd:ID" where its runtime uses that form.
            .or_else(|| name.rsplit(':').next())?;
        let hex = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
        hex.then(|| id.to_ascii_lowercase())
    })
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
    fn edges() {
        assert_eq!(edge("a.slice/b.service/c/d"), "a.slice/b.service");
        assert_eq!(edge("a.slice/plain/c"), "a.slice/plain/c");
        assert_eq!(edge("a.slice"), "a.slice");
        assert_eq!(edge(""), "");
    }

    proptest::proptest! {
        #[test]
        fn no_path_panics(path in ".{0,80}") {
            unit(&path);
            container(&path);
            edge(&path);
        }
    }
}
