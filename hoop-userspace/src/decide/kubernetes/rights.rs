//! Rights that a body gives: rules of roles, and who is bound to which.

use serde_json::Value;

use super::facts::{KubernetesFacts, KubernetesFlag};

const RBAC: &str = "rbac.authorization.k8s.io";

/// Verbs that give what the holder does not have (Kubernetes, "Privilege escalation prevention").
const TAKING: [&str; 4] = ["escalate", "bind", "impersonate", "approve"];

/// Resources whose use is somebody else's rights.
const POWERFUL: [&str; 6] = [
    "nodes/proxy",
    "pods/attach",
    "pods/exec",
    "pods/ephemeralcontainers",
    "serviceaccounts/token",
    "certificatesigningrequests/approval",
];

/// Groups that are everybody, or above every rule.
const EVERYBODY: [&str; 5] = [
    "system:authenticated",
    "system:masters",
    "system:serviceaccounts",
    "system:unauthenticated",
    "system:nodes",
];

const KINDS: [&str; 4] = ["Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"];

/// Looks at what is written to the group of RBAC, and for its objects within others: an operator
/// may make them of a resource of its own.
pub(super) fn look(facts: &mut KubernetesFacts, value: &Value) {
    match facts.group == RBAC {
        true => each(facts, value),
        false => within(facts, value),
    }
}

fn within(facts: &mut KubernetesFacts, value: &Value) {
    match value {
        Value::Array(items) => {
            for item in items {
                within(facts, item);
            }
        }
        Value::Object(members) => {
            // What has only a kind and a name refers to one.
            let of_kind = KINDS.contains(&text(members.get("kind")))
                && ["rules", "aggregationRule", "subjects"]
                    .iter()
                    .any(|name| members.contains_key(*name));
            if of_kind || members.contains_key("roleRef") {
                facts.flag(KubernetesFlag::Grants);
                return each(facts, value);
            }
            for member in members.values() {
                within(facts, member);
            }
        }
        _ => {}
    }
}

fn each(facts: &mut KubernetesFacts, value: &Value) {
    match value {
        Value::Array(items) => {
            for item in items {
                each(facts, item);
            }
        }
        Value::Object(members) => {
            for (name, value) in members {
                match name.as_str() {
                    "verbs" | "resources" | "apiGroups" | "nonResourceURLs" => rule(facts, value),
                    "roleRef" => bound(facts, value),
                    "subjects" => subjects(facts, value),
                    // Whatever other roles bear these labels is in it.
                    "aggregationRule" => facts.flag(KubernetesFlag::Wildcard),
                    "labels" => labels(facts, value),
                    _ => {}
                }
                each(facts, value);
            }
        }
        _ => {}
    }
}

fn rule(facts: &mut KubernetesFacts, words: &Value) {
    // A step of a patch may set one word alone.
    let one = std::slice::from_ref(words);
    let words = words.as_array().map_or(one, Vec::as_slice);
    for word in words.iter().filter_map(Value::as_str) {
        if word.contains('*') {
            facts.flag(KubernetesFlag::Wildcard);
        }
        if TAKING.contains(&word) || POWERFUL.contains(&word) {
            facts.flag(KubernetesFlag::Escalates);
        }
    }
}

fn bound(facts: &mut KubernetesFacts, role: &Value) {
    let name = text(role.get("name"));
    // A patch of the name alone.
    let name = role.as_str().unwrap_or(name);
    if name == "cluster-admin" || name.starts_with("system:") {
        facts.flag(KubernetesFlag::Escalates);
    }
    if !name.is_empty() {
        facts
            .roles
            .push(format!("{}/{name}", text(role.get("kind"))));
    }
}

fn subjects(facts: &mut KubernetesFacts, subjects: &Value) {
    let one = std::slice::from_ref(subjects);
    let subjects = subjects.as_array().map_or(one, Vec::as_slice);
    for subject in subjects {
        let (kind, name) = (text(subject.get("kind")), text(subject.get("name")));
        let everybody = EVERYBODY.iter().any(|group| name.starts_with(group));
        if everybody || name == "system:anonymous" {
            facts.flag(KubernetesFlag::Escalates);
        }
        let namespace = text(subject.get("namespace"));
        facts.subjects.push(match namespace {
            "" => format!("{kind}/{name}"),
            namespace => format!("{kind}/{namespace}/{name}"),
        });
    }
}

fn labels(facts: &mut KubernetesFacts, labels: &Value) {
    let mut names = labels.as_object().into_iter().flat_map(|l| l.keys());
    if names.any(|name| name.starts_with("rbac.authorization.k8s.io/aggregate-to-")) {
        facts.flag(KubernetesFlag::Escalates);
    }
}

fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}
