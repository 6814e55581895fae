//! What pods are let do. Fields are known by their names wherever they stand: in a pod, in the template
//! of what makes pods, in a resource of somebody's own that holds one, in a patch of any part of them.
//!
//! A name that means something else there makes a request look like more than it does, never like less.

use serde_json::{Map, Value};

use super::facts::{KubernetesFacts, KubernetesFlag};

/// Members of `metadata` whose content is text of the author's, or nothing that anybody acts on.
const OF_METADATA: [&str; 3] = ["annotations", "labels", "managedFields"];

/// Members of ConfigMaps and Secrets that are the same.
const OF_DATA: [&str; 3] = ["binaryData", "data", "stringData"];

/// Where a value stands: elsewhere, members of these names are like any other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    /// At the top of a ConfigMap or a Secret.
    Data,
    Metadata,
    Other,
}

impl Within {
    fn skips(self, name: &str) -> bool {
        match self {
            Self::Data => OF_DATA.contains(&name),
            Self::Metadata => OF_METADATA.contains(&name),
            Self::Other => false,
        }
    }
}

/// Goes through a body. Its depth is bounded by whoever read it.
pub(super) fn look(facts: &mut KubernetesFacts, value: &Value) {
    let data = facts.group.is_empty() && matches!(&*facts.kind, "configmaps" | "secrets");
    let top = if data { Within::Data } else { Within::Other };
    walk(facts, value, top);
}

fn walk(facts: &mut KubernetesFacts, value: &Value, within: Within) {
    match value {
        Value::Array(items) => {
            for item in items {
                walk(facts, item, Within::Other);
            }
        }
        Value::Object(members) => {
            for (name, value) in members {
                if name == "annotations" {
                    annotations(facts, value);
                }
                if within.skips(name) {
                    continue;
                }
                member(facts, name, value, members);
                let inner = match name.as_str() {
                    "metadata" => Within::Metadata,
                    _ => Within::Other,
                };
                walk(facts, value, inner);
            }
        }
        _ => {}
    }
}

fn member(facts: &mut KubernetesFacts, name: &str, value: &Value, beside: &Map<String, Value>) {
    use KubernetesFlag as F;
    let set = value.as_bool() == Some(true);
    let flag = match name {
        "privileged" | "hostProcess" if set => Some(F::Privileged),
        "allowPrivilegeEscalation" if set => Some(F::Escalation),
        "hostNetwork" if set => Some(F::HostNetwork),
        "hostPID" if set => Some(F::HostPid),
        "hostIPC" if set => Some(F::HostIpc),
        "hostPort" if value.as_f64().is_some_and(|port| port != 0.0) => Some(F::HostPort),
        "runAsUser" if value.as_f64() == Some(0.0) => Some(F::Root),
        "runAsNonRoot" if value.as_bool() == Some(false) => Some(F::Root),
        "procMount" if value == "Unmasked" => Some(F::Unconfined),
        "seccompProfile" | "appArmorProfile" if kind_is(value, "Unconfined") => Some(F::Unconfined),
        "nodeName" if !text(value).is_empty() => Some(F::Node),
        "ephemeralContainers" if value.as_array().is_some_and(|c| !c.is_empty()) => Some(F::Debugs),
        "replicas" if value.as_f64() == Some(0.0) => Some(F::ScalesToZero),
        "externalIPs" if value.as_array().is_some_and(|a| !a.is_empty()) => Some(F::Exposes),
        "type" if matches!(text(value), "LoadBalancer" | "NodePort") => Some(F::Exposes),
        _ => None,
    };
    if let Some(flag) = flag {
        facts.flag(flag);
    }
    match name {
        // Volumes have an object here; a PersistentVolume too.
        "hostPath" => {
            facts.flag(F::HostPath);
            let path = value.get("path").map_or("", text);
            push(&mut facts.host_paths, path);
        }
        "local" if beside.contains_key("nodeAffinity") || beside.contains_key("capacity") => {
            facts.flag(F::HostPath);
            push(&mut facts.host_paths, value.get("path").map_or("", text));
        }
        "image" => push(&mut facts.images, text(value)),
        // An image as a volume.
        "reference" if text(value).contains(['/', ':']) => push(&mut facts.images, text(value)),
        "serviceAccountName" | "serviceAccount" => {
            let account = text(value);
            push(&mut facts.service_accounts, account);
            if !account.is_empty() && account != "default" {
                facts.flag(F::ServiceAccount);
            }
        }
        "capabilities" => {
            let added = value.get("add").and_then(Value::as_array);
            for capability in added.into_iter().flatten() {
                facts.flag(F::Escalation);
                push(&mut facts.capabilities, text(capability));
            }
        }
        "secretName" if !text(value).is_empty() => secret(facts, text(value)),
        // Environment, volumes and projections refer to it by an object.
        "secretRef"
        | "secretKeyRef"
        | "secret"
        | "nodePublishSecretRef"
        | "nodeStageSecretRef"
        | "controllerPublishSecretRef"
        | "controllerExpandSecretRef"
        | "nodeExpandSecretRef"
            // A patch may set another key alone.
            if value.as_object().is_some_and(|reference| !reference.is_empty()) =>
        {
            secret(facts, value.get("name").map_or("", text));
        }
        "secrets" => {
            for reference in value.as_array().into_iter().flatten() {
                secret(facts, reference.get("name").map_or("", text));
            }
        }
        // The kubelet logs in to the registry with it: no container sees it.
        "imagePullSecrets" => {
            for reference in value.as_array().into_iter().flatten() {
                push(&mut facts.secrets, reference.get("name").map_or("", text));
            }
        }
        "configMapRef" | "configMapKeyRef" | "configMap" => {
            push(&mut facts.config_maps, value.get("name").map_or("", text));
        }
        _ => {}
    }
}

/// What a container can read, and print.
fn secret(facts: &mut KubernetesFacts, name: &str) {
    facts.flag(KubernetesFlag::SecretReference);
    push(&mut facts.secrets, name);
}

/// Profiles of containers stood in annotations before they had fields.
fn annotations(facts: &mut KubernetesFacts, value: &Value) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let profile = name.contains("apparmor.security.") || name.contains("seccomp.security.");
        if profile && text(value).contains("unconfined") {
            facts.flag(KubernetesFlag::Unconfined);
        }
    }
}

fn kind_is(profile: &Value, kind: &str) -> bool {
    profile.get("type").is_some_and(|value| value == kind)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn push(list: &mut Vec<String>, name: &str) {
    if !name.is_empty() {
        list.push(name.to_owned());
    }
}
