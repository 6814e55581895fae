//! What a container's runtime wrote down of it: name, image, labels, the pod that it belongs to.
//!
//! The kernel's cgroup says which container a process is in, and only what root alone can write says
//! what that container is: the folders in which Docker, containerd, Podman and CRI-O keep their state.
//! No daemon is asked, so none has to answer while an agent waits. What cannot be read is an error and
//! never an empty answer: whoever maps by labels must not take "unknown" for "has none".

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;
use serde::Serialize;

use super::Process;
use super::names::{self, Level, Named};
use crate::config;

mod isolation;
mod lists;
mod read;
mod shapes;
#[cfg(test)]
mod tests;

pub use isolation::{Isolated, Isolation};
use lists::Lists;
use read::{Content, Folder, Stamp};

/// Keys and values: labels or annotations.
pub type Texts = BTreeMap<String, String>;

/// Of one container's file.
const MAX_FILE: u64 = 1 << 20;
const CACHED: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
/// What could not be told is not looked for again sooner: whoever is refused may try without end.
const FAILED: Duration = match cfg!(test) {
    true => Duration::ZERO,
    false => Duration::from_secs(1),
};
/// Namespaces of containerd's that are looked into.
const MAX_NAMESPACES: usize = 64;
/// Drivers of containers-storage, after which its folders are called.
const DRIVERS: [&str; 4] = ["overlay", "btrfs", "zfs", "vfs"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    Docker,
    Containerd,
    Podman,
    #[serde(rename = "cri-o")]
    Crio,
}

impl Engine {
    pub fn text(self) -> &'static str {
        match self {
            Self::Docker => "Docker",
            Self::Containerd => "containerd",
            Self::Podman => "Podman",
            Self::Crio => "CRI-O",
        }
    }
}

/// A container as its runtime wrote it down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Container {
    pub id: String,
    pub engine: Engine,
    pub name: Option<String>,
    /// As whoever started it named it, with the registry where that was given.
    pub image: Option<String>,
    /// `None`: this runtime keeps them where hoop does not read. An image's own labels are among them.
    pub labels: Option<Texts>,
    pub annotations: Texts,
    pub pod: Option<Pod>,
    /// `None`: nothing was written down that shows it.
    pub isolated: Option<Isolated>,
}

/// The Kubernetes pod that a container belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    /// `None` for the pod's sandbox itself.
    pub container: Option<String>,
    /// The id of the sandbox.
    pub sandbox: Option<String>,
    /// `None`: this runtime keeps them where hoop does not read.
    pub labels: Option<Texts>,
    /// Of containerd's, those that its configuration passes on.
    pub annotations: Texts,
}

/// Why nothing is known of a container.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("{path} cannot be read: {why}")]
    File { path: PathBuf, why: String },
    #[error("{path} can be changed by others than root, so what is in it proves nothing")]
    Shared { path: PathBuf },
    #[error("{path} has more than {most} bytes")]
    Large { path: PathBuf, most: u64 },
    #[error("{path} is not as its runtime writes it: {why}")]
    Shape { path: PathBuf, why: String },
    #[error("no runtime has written down what the container {id} is; looked in {places}")]
    Nowhere { id: String, places: String },
    #[error(
        "the cgroup {above:?} can be changed by others than root, so a container's name below it proves nothing"
    )]
    Borrowed { above: String },
}

impl Unreadable {
    fn file(path: &Path, error: &io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            why: error.to_string(),
        }
    }

    fn shape(path: &Path, why: String) -> Self {
        Self::Shape {
            path: path.to_owned(),
            why,
        }
    }
}

/// `Ok(None)`: the cgroup is no container's.
pub type Looked = Result<Option<Arc<Container>>, Unreadable>;

/// The containers that were looked up, each for as long as the files that told of it stay as they are.
pub struct Containers {
    /// Of cgroup2.
    mount: PathBuf,
    kept: Mutex<LruCache<String, Kept>>,
    lists: Lists,
    /// By cgroup.
    failed: Mutex<LruCache<String, Failed>>,
}

struct Failed {
    since: Instant,
    roots: config::Containers,
    why: Unreadable,
}

struct Kept {
    /// Another name of the same id is looked for elsewhere.
    named: Named,
    roots: config::Containers,
    stamps: Vec<Stamp>,
    container: Arc<Container>,
}

impl Containers {
    pub fn new(mount: PathBuf) -> Self {
        Self {
            mount,
            kept: Mutex::new(LruCache::new(CACHED)),
            lists: Lists::default(),
            failed: Mutex::new(LruCache::new(CACHED)),
        }
    }

    /// The container that a cgroup below the mount is of.
    pub fn of(&self, roots: &config::Containers, cgroup: &str) -> Looked {
        let Some(level) = names::level(cgroup.trim_start_matches('/')) else {
            return Ok(None);
        };
        if let Some(why) = self.failed(roots, cgroup) {
            return Err(why);
        }
        let looked = self.look(roots, level);
        if let Err(why) = &looked {
            let failed = Failed {
                since: Instant::now(),
                roots: roots.clone(),
                why: why.clone(),
            };
            let mut all = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            all.put(cgroup.to_owned(), failed);
        }
        looked.map(Some)
    }

    /// Whether what runs in a cgroup is cut off from the kernel's hooks, and what shows it: the process
    /// that is asked about, or without one all that run there; else what its runtime wrote down. A word
    /// that cannot be had shows nothing.
    pub fn isolated(
        &self,
        roots: &config::Containers,
        cgroup: &str,
        process: Option<&Process>,
    ) -> Option<Isolated> {
        let shown = isolation::of_name(cgroup).or_else(|| match process {
            Some(process) => isolation::of_process(process),
            None => isolation::of_cgroup(&self.mount, cgroup),
        });
        shown.or_else(|| self.of(roots, cgroup).ok().flatten()?.isolated.clone())
    }

    fn failed(&self, roots: &config::Containers, cgroup: &str) -> Option<Unreadable> {
        let mut all = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = all.get(cgroup)?;
        let holds = failed.since.elapsed() < FAILED && failed.roots == *roots;
        holds.then(|| failed.why.clone())
    }

    fn look(
        &self,
        roots: &config::Containers,
        level: Level<'_>,
    ) -> Result<Arc<Container>, Unreadable> {
        self.unborrowed(&level)?;
        if let Some(container) = self.kept(roots, &level) {
            return Ok(container);
        }
        let mut reading = Reading {
            lists: &self.lists,
            stamps: Vec::new(),
            unsettled: false,
        };
        let container = Arc::new(reading.find(roots, &level)?);
        if reading.unsettled {
            return Ok(container);
        }
        let kept = Kept {
            named: level.named,
            roots: roots.clone(),
            stamps: reading.stamps,
            container: container.clone(),
        };
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        all.put(level.id, kept);
        Ok(container)
    }

    fn kept(&self, roots: &config::Containers, level: &Level<'_>) -> Option<Arc<Container>> {
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = all.get(&level.id)?;
        let holds = kept.named == level.named
            && kept.roots == *roots
            && kept.stamps.iter().all(Stamp::holds);
        holds.then(|| kept.container.clone())
    }

    /// Where a cgroup was handed to an agent, the agent makes cgroups of any name below it.
    fn unborrowed(&self, level: &Level<'_>) -> Result<(), Unreadable> {
        let mut path = self.mount.clone();
        let above = level.above.split('/').filter(|name| !name.is_empty());
        for name in std::iter::once("").chain(above) {
            path.push(name);
            let metadata = std::fs::symlink_metadata(&path);
            let metadata = metadata.map_err(|error| Unreadable::file(&path, &error))?;
            if !read::is_roots(&metadata) {
                let above = level.above.to_owned();
                return Err(Unreadable::Borrowed { above });
            }
        }
        Ok(())
    }
}

/// One look through the runtimes' folders.
struct Reading<'l> {
    lists: &'l Lists,
    stamps: Vec<Stamp>,
    /// Something may still be written beside these files.
    unsettled: bool,
}

impl Reading<'_> {
    fn find(
        &mut self,
        roots: &config::Containers,
        level: &Level<'_>,
    ) -> Result<Container, Unreadable> {
        let (id, named) = (level.id.as_str(), level.named);
        let mut places = Vec::new();
        if matches!(named, Named::Docker | Named::Bare) {
            if let Some(found) = self.docker(&roots.docker, id)? {
                return Ok(found);
            }
            places.push(roots.docker.display().to_string());
        }
        if matches!(named, Named::Containerd | Named::Bare) {
            if let Some(found) = self.containerd(&roots.containerd, id)? {
                return Ok(found);
            }
            places.push(roots.containerd.display().to_string());
        }
        if matches!(named, Named::Storage | Named::Bare) {
            if let Some(found) = self.stored(&roots.storage, id)? {
                return Ok(found);
            }
            places.push(roots.storage.display().to_string());
        }
        Err(Unreadable::Nowhere {
            id: id.to_owned(),
            places: places.join(", "),
        })
    }

    fn docker(&mut self, root: &Path, id: &str) -> Result<Option<Container>, Unreadable> {
        let Some(folder) = below(root, &["containers", id])? else {
            return Ok(None);
        };
        let Some(config) = folder.read("config.v2.json", MAX_FILE)? else {
            return Ok(None);
        };
        let path = root.join("containers").join(id);
        let Some(host) = folder.read("hostconfig.json", MAX_FILE)? else {
            let why = "it has no hostconfig.json".to_owned();
            return Err(Unreadable::shape(&path, why));
        };
        let read = shapes::docker(id, &config.bytes, &host.bytes);
        self.stamps.extend([config.stamp, host.stamp]);
        read.map(Some).map_err(|why| Unreadable::shape(&path, why))
    }

    /// The bundle that a shim was given, in whichever of containerd's namespaces.
    fn containerd(&mut self, root: &Path, id: &str) -> Result<Option<Container>, Unreadable> {
        const BUNDLES: &str = "io.containerd.runtime.v2.task";
        let Some(bundles) = below(root, &[BUNDLES])? else {
            return Ok(None);
        };
        for namespace in bundles.names(MAX_NAMESPACES) {
            let Some(of_namespace) = bundles.enter(&namespace)? else {
                continue;
            };
            let Some(bundle) = of_namespace.enter(id)? else {
                continue;
            };
            let Some(spec) = bundle.read("config.json", MAX_FILE)? else {
                continue;
            };
            let path = root.join(BUNDLES).join(namespace).join(id);
            let read = shapes::containerd(id, &spec.bytes);
            let mut found = read.map_err(|why| Unreadable::shape(&path, why))?;
            self.stamps.push(spec.stamp);
            let sandbox = found.pod.as_ref().and_then(|pod| pod.sandbox.clone());
            let shim = match shim(&bundle)? {
                Some(shim) => Some(shim),
                // The containers of a pod may share the sandbox's.
                None => match sandbox.map(|id| of_namespace.enter(&id)).transpose()? {
                    Some(Some(sandbox)) => shim(&sandbox)?,
                    _ => None,
                },
            };
            // It is written after the bundle, and not at all before containerd 1.6.
            self.unsettled = shim.is_none();
            found.isolated = shim.as_deref().and_then(isolation::of_runtime);
            return Ok(Some(found));
        }
        Ok(None)
    }

    /// Podman's or CRI-O's: the list says what it is called, its bundle has annotations, and the bundle
    /// of a pod's sandbox has the pod's labels.
    fn stored(&mut self, root: &Path, id: &str) -> Result<Option<Container>, Unreadable> {
        for driver in DRIVERS {
            let containers = format!("{driver}-containers");
            let Some(folder) = below(root, &[&containers])? else {
                continue;
            };
            let path = root.join(&containers);
            // The second holds those that do not outlive a restart of the host.
            for list in ["containers.json", "volatile-containers.json"] {
                let Some(list) = self.lists.read(&folder, list)? else {
                    continue;
                };
                let Some(stored) = list.entries.get(id) else {
                    continue;
                };
                let shape = |why| Unreadable::shape(&path, why);
                let mut found = stored.container().map_err(shape)?;
                self.stamps.push(list.stamp.clone());
                self.bundle(&folder, &path, &mut found)?;
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn bundle(
        &mut self,
        folder: &Folder,
        path: &Path,
        found: &mut Container,
    ) -> Result<(), Unreadable> {
        let spec = self.spec(folder, path, &found.id)?;
        let shape = |why| Unreadable::shape(path, why);
        found.annotations = shapes::annotations(&spec).map_err(shape)?;
        match &mut found.pod {
            None => {}
            Some(pod) => {
                let Some(id) = pod.sandbox.clone() else {
                    return Err(shape("a pod's sandbox has no id".into()));
                };
                let spec = self.spec(folder, path, &id)?;
                let sandbox = shapes::sandbox(&spec).map_err(shape)?;
                pod.labels = Some(sandbox.labels);
                pod.annotations = sandbox.annotations;
                found.isolated = sandbox.isolated;
            }
        }
        Ok(())
    }

    fn spec(&mut self, folder: &Folder, path: &Path, id: &str) -> Result<Vec<u8>, Unreadable> {
        let data = match folder.enter(id)? {
            Some(own) => own.enter("userdata")?,
            None => None,
        };
        let content = match data {
            Some(data) => data.read("config.json", MAX_FILE)?,
            None => None,
        };
        let Some(Content { bytes, stamp }) = content else {
            let why = format!("it has no {id}/userdata/config.json");
            return Err(Unreadable::shape(path, why));
        };
        self.stamps.push(stamp);
        Ok(bytes)
    }
}

/// The path of the shim that runs a bundle's container.
fn shim(bundle: &Folder) -> Result<Option<String>, Unreadable> {
    let content = bundle.read("shim-binary-path", MAX_FILE)?;
    Ok(content.map(|content| String::from_utf8_lossy(&content.bytes).into_owned()))
}

/// A folder some levels below a root; `None` if there is none.
fn below(root: &Path, names: &[&str]) -> Result<Option<Folder>, Unreadable> {
    let mut folder = Folder::root(root)?;
    for name in names {
        folder = match folder {
            Some(folder) => folder.enter(name)?,
            None => return Ok(None),
        };
    }
    Ok(folder)
}
