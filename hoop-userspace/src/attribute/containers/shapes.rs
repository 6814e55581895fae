//! What the runtimes write, as far as it is needed: Docker's `config.v2.json` and `hostconfig.json`, the
//! `config.json` of an OCI bundle (runtime-spec, "Annotations"), and the lists of containers-storage.
//!
//! These files hold secrets beside what is read here (environments), so no error quotes them.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Container, Engine, Pod, Texts, isolation, names};

/// Annotations that containerd's CRI plugin writes itself, after everything that a pod brings.
const CRI: &str = "io.kubernetes.cri.";
/// Those of CRI-O. A pod's own annotations come after them, and may have replaced them.
const CRIO: &str = "io.kubernetes.cri-o.";

/// Where and why a file is not of its shape, without a word of what stands there.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| {
        let kind = match error.classify() {
            serde_json::error::Category::Data => "something else is expected",
            _ => "it is no whole JSON",
        };
        format!("{kind} at line {}, column {}", error.line(), error.column())
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Docker {
    #[serde(rename = "ID")]
    id: String,
    name: Option<String>,
    config: DockerConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerConfig {
    image: Option<String>,
    labels: Option<Texts>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerHost {
    runtime: Option<String>,
    annotations: Option<Texts>,
}

/// Docker's two files of a container.
pub(super) fn docker(id: &str, config: &[u8], host: &[u8]) -> Result<Container, String> {
    let docker: Docker = parse(config)?;
    let host: DockerHost = parse(host)?;
    if docker.id != id {
        return Err("it is about another container".into());
    }
    let name = docker.name.as_deref();
    Ok(Container {
        id: id.to_owned(),
        engine: Engine::Docker,
        name: name.map(|name| name.trim_start_matches('/').to_owned()),
        image: docker.config.image,
        labels: Some(docker.config.labels.unwrap_or_default()),
        annotations: host.annotations.unwrap_or_default(),
        pod: None,
        isolated: host.runtime.as_deref().and_then(isolation::of_runtime),
    })
}

#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    annotations: Option<Texts>,
}

/// The annotations of an OCI bundle.
pub(super) fn annotations(spec: &[u8]) -> Result<Texts, String> {
    let spec: Spec = parse(spec)?;
    Ok(spec.annotations.unwrap_or_default())
}

/// A container of containerd's, by its bundle.
pub(super) fn containerd(id: &str, spec: &[u8]) -> Result<Container, String> {
    let all = annotations(spec)?;
    let said = |name: &str| all.get(&format!("{CRI}{name}")).cloned();
    let annotations: Texts = all
        .iter()
        .filter(|(key, _)| !key.starts_with(CRI))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let pod = match (said("sandbox-namespace"), said("sandbox-name")) {
        (Some(namespace), Some(name)) => Some(Pod {
            namespace,
            name,
            container: said("container-name"),
            sandbox: said("sandbox-id").filter(|id| names::is_id(id)),
            labels: None,
            annotations: annotations.clone(),
        }),
        // Older releases write less of a pod down than tells which one it is.
        _ if said("container-type").is_some() || said("sandbox-id").is_some() => {
            return Err("it is of a pod, and does not say of which".into());
        }
        _ => None,
    };
    Ok(Container {
        id: id.to_owned(),
        engine: Engine::Containerd,
        name: said("container-name"),
        image: said("image-name"),
        labels: None,
        annotations,
        pod,
        isolated: None,
    })
}

/// One entry of `containers.json` or `volatile-containers.json`.
#[derive(Deserialize)]
pub(super) struct Stored {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    /// JSON of the engine's own.
    #[serde(default)]
    metadata: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Metadata {
    image_name: Option<String>,
    /// Of CRI-O.
    pod_id: Option<String>,
}

/// A list's containers by their ids; of one that stands there twice, the first.
pub(super) fn stored(list: &[u8]) -> Result<HashMap<String, Stored>, String> {
    let all: Vec<Stored> = parse(list)?;
    let mut by_id = HashMap::with_capacity(all.len());
    for one in all {
        by_id.entry(one.id.clone()).or_insert(one);
    }
    Ok(by_id)
}

impl Stored {
    /// A container of Podman's or CRI-O's as its storage has it, without what its bundle says.
    pub(super) fn container(&self) -> Result<Container, String> {
        let metadata: Metadata = parse(self.metadata.as_bytes())?;
        let name = self.names.iter().flatten().next();
        let pod = match (&metadata.pod_id, name) {
            (Some(sandbox), Some(name)) => Some(crios_pod(sandbox, name)?),
            (Some(_), None) => return Err("a container of a pod has no name".into()),
            (None, _) => None,
        };
        Ok(Container {
            id: self.id.clone(),
            engine: match pod {
                Some(_) => Engine::Crio,
                None => Engine::Podman,
            },
            name: match &pod {
                Some(pod) => pod.container.clone(),
                None => name.cloned(),
            },
            image: metadata.image_name,
            labels: None,
            annotations: Texts::new(),
            pod,
            isolated: None,
        })
    }
}

/// `k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT`: no name of Kubernetes' has an underscore. The annotations
/// say the same, and a pod's author could say something else there.
fn crios_pod(sandbox: &str, name: &str) -> Result<Pod, String> {
    let parts: Vec<&str> = name.split('_').collect();
    let ["k8s", container, pod, namespace, _uid, _attempt] = parts[..] else {
        return Err("a container of a pod has a name that CRI-O does not give".into());
    };
    Ok(Pod {
        namespace: namespace.to_owned(),
        name: pod.to_owned(),
        container: (container != "POD").then(|| container.to_owned()),
        sandbox: names::is_id(sandbox).then(|| sandbox.to_owned()),
        labels: None,
        annotations: Texts::new(),
    })
}

/// What the bundle of a CRI-O pod's sandbox says of the pod: labels, annotations, and the runtime.
pub(super) struct Sandbox {
    pub labels: Texts,
    pub annotations: Texts,
    pub isolated: Option<isolation::Isolated>,
}

pub(super) fn sandbox(spec: &[u8]) -> Result<Sandbox, String> {
    let all = annotations(spec)?;
    let said = |name: &str| all.get(&format!("{CRIO}{name}"));
    let json = |name: &str| match said(name) {
        Some(json) => parse::<Option<Texts>>(json.as_bytes()).map(Option::unwrap_or_default),
        None => Err(format!("it has no {CRIO}{name}")),
    };
    Ok(Sandbox {
        labels: json("Labels")?,
        annotations: json("Annotations")?,
        isolated: said("RuntimeHandler").and_then(|name| isolation::of_runtime(name)),
    })
}
