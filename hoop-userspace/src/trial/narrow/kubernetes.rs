//! Permits for requests to API servers.

use std::collections::BTreeSet;

use super::{NAMED, conditioned, head, joined, quoted, subset};
use crate::decide::{KubernetesAction, KubernetesFacts, KubernetesFlag, ShellFacts, Subject};
use crate::terminate::KubernetesAsked;

/// What requests of one shape named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Objects {
    names: BTreeSet<String>,
    commands: BTreeSet<String>,
    proxy_paths: BTreeSet<String>,
    /// Of bodies, in the order of [`sets`].
    sets: [BTreeSet<String>; 8],
}

/// What a body names, by what the context calls it.
fn sets(facts: &KubernetesFacts) -> [(&'static str, &[String]); 8] {
    [
        ("images", &facts.images),
        ("service_accounts", &facts.service_accounts),
        ("secrets", &facts.secrets),
        ("config_maps", &facts.config_maps),
        ("host_paths", &facts.host_paths),
        ("capabilities", &facts.capabilities),
        ("roles", &facts.roles),
        ("subjects", &facts.subjects),
    ]
}

impl Objects {
    /// Adds what one more of the shape names.
    pub fn add(&mut self, facts: &KubernetesFacts) {
        put(&mut self.names, &facts.name);
        put(&mut self.proxy_paths, &facts.proxy_path);
        let line = facts.command.as_ref().and_then(line);
        put(&mut self.commands, line.unwrap_or_default());
        for (set, (_, more)) in self.sets.iter_mut().zip(sets(facts)) {
            more.iter().for_each(|one| put(set, one));
        }
    }
}

/// One more than is named at most tells that there were more.
fn put(set: &mut BTreeSet<String>, one: &str) {
    if set.len() <= NAMED {
        set.insert(one.to_owned());
    }
}

/// `context.command`, of what has one.
fn line(facts: &ShellFacts) -> Option<&str> {
    let [command] = facts.commands.as_slice() else {
        return None;
    };
    command.exact_line()
}

/// A permit for what was seen of this shape, or why there is none.
pub(super) fn body(
    subject: &Subject,
    asked: &KubernetesAsked,
    facts: &KubernetesFacts,
    seen: &Objects,
) -> Result<String, String> {
    use KubernetesAction as A;
    let opaque = facts.command.as_ref().is_some_and(|c| c.opaque);
    if facts.has(KubernetesFlag::Opaque) || opaque || facts.action == A::Unknown {
        return Err(
            "hoop does not understand all of it: permit it as `k8s:unknown` by hand, if at all"
                .into(),
        );
    }
    let cluster = subject.resource.as_str();
    let group = match facts.group.as_str() {
        "" => "core",
        group => group,
    };
    let kind = [cluster, &facts.namespace, group, &facts.kind];
    let mut when = Vec::new();
    let scope = if facts.action == A::NonResource || facts.kind.is_empty() {
        let id = joined(&[cluster, &facts.path]);
        format!("resource == ApiPath::{}", quoted(&id))
    } else {
        when.push(format!(
            "context.subresource == {}",
            quoted(&facts.subresource)
        ));
        let kind_id = quoted(&joined(&kind));
        match (facts.name.is_empty(), seen.names.len()) {
            (true, _) => format!("resource == Kind::{kind_id}"),
            (false, 0 | 1) => {
                let [one, two, three, four] = kind;
                let id = joined(&[one, two, three, four, &facts.name]);
                format!("resource == KubernetesObject::{}", quoted(&id))
            }
            (false, some) => {
                if some <= NAMED {
                    when.push(among(&seen.names, "context.name"));
                }
                format!("resource in Kind::{kind_id}")
            }
        }
    };
    let mut flags: Vec<&str> = facts.flags.iter().map(|flag| flag.as_str()).collect();
    let streams = matches!(facts.action, A::Exec | A::Attach | A::PortForward);
    let upgrade = KubernetesFlag::Upgrade.as_str();
    if streams && !flags.contains(&upgrade) {
        flags.push(upgrade);
    }
    when.push(subset("context.flags", &flags));
    // Of both an action says nothing of the method.
    if matches!(facts.action, A::Proxy | A::NonResource) {
        when.push(format!("context.verb == {}", quoted(&facts.verb)));
    }
    if matches!(facts.action, A::Create | A::Update | A::Patch) {
        for ((field, _), seen) in sets(facts).iter().zip(&seen.sets) {
            if seen.len() > NAMED {
                return Err(format!(
                    "it named more than {NAMED} {}",
                    field.replace('_', " ")
                ));
            }
            let all: Vec<&str> = seen.iter().map(String::as_str).collect();
            when.push(subset(&format!("context.{field}"), &all));
        }
    }
    if facts.dry_run {
        when.push("context.dry_run".to_owned());
    }
    match facts.action {
        A::Exec => {
            // An empty one is of what has no line.
            if seen.commands.len() > NAMED || seen.commands.contains("") {
                return Err("which commands it ran is not known, or they were too many".into());
            }
            when.push(among(&seen.commands, "context.command"));
        }
        A::Proxy => {
            if seen.proxy_paths.len() > NAMED {
                return Err(format!(
                    "it asked for more than {NAMED} paths behind the proxy"
                ));
            }
            when.push(among(&seen.proxy_paths, "context.proxy_path"));
        }
        _ => {}
    }
    if matches!(facts.action, A::Exec | A::Attach) {
        let streams = [
            (asked.options.stdin, "!context.stdin"),
            (asked.options.tty, "!context.tty"),
        ];
        let without = streams.into_iter().filter(|(asked, _)| !asked);
        when.extend(without.map(|(_, word)| word.to_owned()));
    }
    let head = head(subject, facts.action.as_str(), &scope);
    Ok(conditioned(&head, &when))
}

/// That the context's text is one of these.
fn among(all: &BTreeSet<String>, what: &str) -> String {
    let quoted: Vec<String> = all.iter().map(|one| quoted(one)).collect();
    match quoted.as_slice() {
        [one] => format!("{what} == {one}"),
        all => format!("[{}].contains({what})", all.join(", ")),
    }
}
