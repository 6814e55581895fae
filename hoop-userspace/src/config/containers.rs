//! Containers: where their runtimes keep what they are, and which of them an agent is.

use std::path::PathBuf;

/// `[containers]`: the state of the runtimes, which only root may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Containers {
    /// Docker's data root. Default `/var/lib/docker`.
    pub docker: PathBuf,
    /// containerd's state. Default `/run/containerd`.
    pub containerd: PathBuf,
    /// The graph root of containers-storage, which Podman and CRI-O share. Default
    /// `/var/lib/containers/storage`.
    pub storage: PathBuf,
}

impl Default for Containers {
    fn default() -> Self {
        Self {
            docker: "/var/lib/docker".into(),
            containerd: "/run/containerd".into(),
            storage: "/var/lib/containers/storage".into(),
        }
    }
}

/// `container` or `pod` of `[[agent]]`: all that is given must hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pick {
    Container(ContainerPick),
    Pod(PodPick),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ContainerPick {
    /// Patterns (`*`, `?`) for the whole of it.
    pub name: Option<String>,
    pub image: Option<String>,
    pub labels: Vec<Said>,
    pub annotations: Vec<Said>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodPick {
    /// Exactly: who may make pods in another one may give them any name and label.
    pub namespace: String,
    /// Patterns (`*`, `?`) for the whole of it.
    pub name: Option<String>,
    /// Of the container in the pod.
    pub container: Option<String>,
    pub image: Option<String>,
    pub labels: Vec<Said>,
    pub annotations: Vec<Said>,
}

/// `key=value`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Said {
    pub key: String,
    pub value: String,
}

impl Pick {
    /// How many things it asks for: of two that hold, the one that asks for more is meant.
    pub fn conditions(&self) -> usize {
        let given = |pattern: &Option<String>| usize::from(pattern.is_some());
        match self {
            Self::Container(pick) => {
                given(&pick.name) + given(&pick.image) + pick.labels.len() + pick.annotations.len()
            }
            Self::Pod(pick) => {
                1 + given(&pick.name)
                    + given(&pick.container)
                    + given(&pick.image)
                    + pick.labels.len()
                    + pick.annotations.len()
            }
        }
    }
}

impl std::fmt::Display for Pick {
    /// In words for people: `container image="x" label="k=v"`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, patterns, labels, annotations) = match self {
            Self::Container(pick) => (
                "container",
                vec![("name", &pick.name), ("image", &pick.image)],
                &pick.labels,
                &pick.annotations,
            ),
            Self::Pod(pick) => (
                "pod",
                vec![
                    ("name", &pick.name),
                    ("container", &pick.container),
                    ("image", &pick.image),
                ],
                &pick.labels,
                &pick.annotations,
            ),
        };
        f.write_str(kind)?;
        if let Self::Pod(pick) = self {
            write!(f, " namespace={:?}", pick.namespace)?;
        }
        for (key, pattern) in patterns {
            if let Some(pattern) = pattern {
                write!(f, " {key}={pattern:?}")?;
            }
        }
        for (kind, said) in [("label", labels), ("annotation", annotations)] {
            for Said { key, value } in said {
                write!(f, " {kind}={:?}", format!("{key}={value}"))?;
            }
        }
        Ok(())
    }
}
