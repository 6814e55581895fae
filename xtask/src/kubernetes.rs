//! `cargo xtask setup --kubernetes`: a real API server and what goes with it, built from source, and
//! the client libraries that are tested with it.
//!
//! No container engine is needed, and nothing is installed: the programs lie in the user's cache
//! folder, each under its version, so that every checkout shares them and `cargo clean` leaves them
//! alone. `target/kubernetes` has a link to each, which is where the tests look.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{setup, shell};

/// Kubernetes' own version; `tests/kubernetes/go.mod` requires the same.
const KUBERNETES: &str = "1.37.2";

/// The scripts that speak through client libraries, and which versions of these.
const CLIENTS: &str = "tests/contract_kubernetes/clients";

/// What the programs and Go's build cache take together, in GiB, and some more.
const ROOM: u64 = 12;

/// One program, under the name that the tests know it by.
struct Part {
    name: &'static str,
    version: &'static str,
    /// What the program of this version prints for `asked`.
    asked: &'static [&'static str],
    says: &'static str,
    /// On two cores that do nothing else.
    takes: &'static str,
    source: Source,
}

enum Source {
    /// A package that `tests/kubernetes/go.mod` pins.
    Pinned(&'static str),
    /// A module of its own, which may not have `replace` lines.
    Module(&'static str),
    /// Debian's package, unpacked and not installed.
    Debian(&'static str, &'static str),
    /// A folder below `tests/kubernetes`.
    Ours,
}

const PARTS: &[Part] = &[
    Part {
        name: "etcd",
        version: "3.7.0",
        asked: &["--version"],
        says: "etcd Version: 3.7.0",
        takes: "40 s",
        source: Source::Pinned("go.etcd.io/etcd/server/v3"),
    },
    Part {
        name: "kube-apiserver",
        version: KUBERNETES,
        asked: &["--version"],
        says: "Kubernetes v1.37.2",
        takes: "8 minutes",
        source: Source::Pinned("k8s.io/kubernetes/cmd/kube-apiserver"),
    },
    Part {
        name: "kube-controller-manager",
        version: KUBERNETES,
        asked: &["--version"],
        says: "Kubernetes v1.37.2",
        takes: "2 minutes",
        source: Source::Pinned("k8s.io/kubernetes/cmd/kube-controller-manager"),
    },
    Part {
        name: "kubectl",
        version: KUBERNETES,
        asked: &["version", "--client"],
        says: "Client Version: v1.37.2",
        takes: "40 s",
        source: Source::Pinned("k8s.io/kubernetes/cmd/kubectl"),
    },
    Part {
        name: "helm",
        version: "3.22.0",
        asked: &["version", "--short"],
        says: "v3.22",
        takes: "2 minutes",
        source: Source::Module("helm.sh/helm/v3/cmd/helm"),
    },
    Part {
        // The last that knows no WebSockets in a Debian release.
        name: "kubectl-1.20",
        version: "1.20",
        asked: &["version", "--client"],
        says: "\"v1.20.",
        takes: "10 s",
        source: Source::Debian("kubernetes-client", "usr/bin/kubectl"),
    },
    Part {
        name: "node",
        version: "",
        asked: &[],
        says: "",
        takes: "a minute",
        source: Source::Ours,
    },
    Part {
        name: "requestinfo",
        version: "",
        asked: &[],
        says: "",
        takes: "a minute",
        source: Source::Ours,
    },
];

/// Builds what is missing and says so; quick and silent when nothing is.
pub fn ensure() -> Result<()> {
    let started = Instant::now();
    let mut built = false;
    for part in PARTS {
        let program = part.path()?;
        if !program.is_file() {
            if !built {
                room()?;
            }
            built = true;
            part.make(&program)?;
        }
        link(&program, &linked().join(part.name))?;
    }
    libraries()?;
    if built {
        eprintln!(
            "setup: Kubernetes' programs are in {} ({} s)",
            cache()?.display(),
            started.elapsed().as_secs()
        );
    }
    Ok(())
}

/// Python's and JavaScript's clients of Kubernetes, as their lists of versions say.
fn libraries() -> Result<()> {
    let folder = shell::root().join(CLIENTS);
    setup::modules(CLIENTS, "JavaScript's client of Kubernetes")?;
    setup::python_environment(&python(), &folder.join("requirements.txt"))
}

/// Where Python's is.
fn python() -> PathBuf {
    linked().join("python-clients")
}

/// What is missing, by name.
pub fn missing() -> Result<Vec<&'static str>> {
    let mut names = Vec::new();
    for part in PARTS {
        if !part.path()?.is_file() {
            names.push(part.name);
        }
    }
    if !python().join("bin/python").exists() {
        names.push("Python's client of Kubernetes");
    }
    if !shell::root().join(CLIENTS).join("node_modules").exists() {
        names.push("JavaScript's client of Kubernetes");
    }
    Ok(names)
}

/// Where the tests look for the programs.
pub fn linked() -> PathBuf {
    shell::target().join("kubernetes")
}

/// `$XDG_CACHE_HOME/hoop/kubernetes`, or the same below `~/.cache`.
fn cache() -> Result<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => {
            let home =
                std::env::var_os("HOME").context("neither HOME nor XDG_CACHE_HOME is set")?;
            Path::new(&home).join(".cache")
        }
    };
    Ok(cache.join("hoop/kubernetes"))
}

fn sources() -> PathBuf {
    shell::root().join("tests/kubernetes")
}

impl Part {
    fn path(&self) -> Result<PathBuf> {
        let version = match self.source {
            Source::Ours => fingerprint(self.name)?,
            _ => self.version.to_owned(),
        };
        Ok(cache()?
            .join(format!("{}-{version}", self.name))
            .join(self.name))
    }

    fn make(&self, program: &Path) -> Result<()> {
        let folder = program.parent().context("a program lies in a folder")?;
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        if let Some(there) = self.on_path() {
            eprintln!(
                "setup: {} {} is {}",
                self.name,
                self.version,
                there.display()
            );
            return link(&there, program);
        }
        eprintln!(
            "setup: building {} {} (about {} on two idle cores)",
            self.name, self.version, self.takes
        );
        let started = Instant::now();
        // An interrupted build leaves nothing that looks finished.
        let fresh = folder.join("building");
        std::fs::remove_dir_all(&fresh).ok();
        std::fs::create_dir_all(&fresh)?;
        let made = fresh.join(self.name);
        match self.source {
            Source::Pinned(package) => build(package, &made)?,
            Source::Ours => build(&format!("./{}", self.name), &made)?,
            Source::Module(package) => install(package, self.version, &fresh)?,
            Source::Debian(package, inside) => unpack(package, inside, &made)?,
        }
        if !self.is_right(&made) {
            bail!("{} is not {} {}", made.display(), self.name, self.version);
        }
        std::fs::rename(&made, program)?;
        std::fs::remove_dir_all(&fresh)?;
        let seconds = started.elapsed().as_secs();
        eprintln!("setup: built {} in {seconds} s", self.name);
        Ok(())
    }

    /// The same version on PATH, if it is there.
    fn on_path(&self) -> Option<PathBuf> {
        if self.says.is_empty() {
            return None;
        }
        let path = std::env::var_os("PATH")?;
        let mut programs = std::env::split_paths(&path).map(|folder| folder.join(self.name));
        programs.find(|program| program.is_file() && self.is_right(program))
    }

    fn is_right(&self, program: &Path) -> bool {
        if self.says.is_empty() {
            return program.is_file();
        }
        let mut command = shell::command(program);
        shell::output(command.args(self.asked)).is_ok_and(|text| text.contains(self.says))
    }
}

/// Go, as politely as a long build can be: others use this machine as well.
fn go(arguments: &[&str]) -> Result<std::process::Command> {
    let go = match shell::found("go") {
        true => "go",
        false if Path::new("/usr/local/go/bin/go").is_file() => "/usr/local/go/bin/go",
        false => bail!("Kubernetes is built with Go: put Go 1.21 or later on PATH"),
    };
    let mut command = shell::command("nice");
    command.args(["-n", "19", "timeout", "7200", go]);
    command.args(arguments).current_dir(sources());
    // Builds don't change what is pinned, wherever they are started.
    command.env("GOFLAGS", "-mod=readonly -buildvcs=false");
    command.env("GOWORK", "off");
    Ok(command)
}

fn build(package: &str, to: &Path) -> Result<()> {
    let version = "k8s.io/component-base/version";
    let (major, minor) = ("1", "37");
    let flags = format!(
        "-s -w -X {version}.gitVersion=v{KUBERNETES} -X {version}.gitMajor={major} \
         -X {version}.gitMinor={minor} -X {version}.gitTreeState=clean"
    );
    let mut command = go(&["build", "-p", "2", "-trimpath", "-ldflags", &flags, "-o"])?;
    shell::run(command.arg(to).arg(package))
}

fn install(package: &str, version: &str, folder: &Path) -> Result<()> {
    let package = format!("{package}@v{version}");
    let mut command = go(&["install", "-p", "2", "-trimpath", "-ldflags", "-s -w"])?;
    // The module's own pins count here, not those of the tests.
    command
        .env("GOFLAGS", "-buildvcs=false")
        .env("GOBIN", folder);
    shell::run(command.arg(package))
}

fn unpack(package: &str, inside: &str, to: &Path) -> Result<()> {
    let folder = to.parent().context("a program lies in a folder")?;
    let mut download = shell::command("apt-get");
    download
        .args(["-q", "download", package])
        .current_dir(folder);
    shell::run(&mut download)
        .context("is this Debian 12? Later releases have no client this old")?;
    let files = std::fs::read_dir(folder)?.flatten();
    let archive = files
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|end| end == "deb"))
        .context("apt-get downloaded nothing")?;
    let unpacked = folder.join("unpacked");
    let mut dpkg = shell::command("dpkg");
    shell::run(dpkg.arg("-x").arg(archive).arg(&unpacked))?;
    std::fs::rename(unpacked.join(inside), to).context("the package lacks the program")
}

fn link(program: &Path, at: &Path) -> Result<()> {
    if std::fs::read_link(at).is_ok_and(|to| to == program) {
        return Ok(());
    }
    if let Some(folder) = at.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::remove_file(at).ok();
    std::os::unix::fs::symlink(program, at)
        .with_context(|| format!("cannot link {} to {}", at.display(), program.display()))
}

/// Tells one state of a program of ours from another: its sources and what is pinned for them.
fn fingerprint(name: &str) -> Result<String> {
    let mut files = vec![sources().join("go.mod"), sources().join("go.sum")];
    for entry in std::fs::read_dir(sources().join(name))? {
        files.push(entry?.path());
    }
    files.sort();
    // FNV-1a: nobody chooses these bytes to make two states look the same.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for file in files {
        let text =
            std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        for byte in text {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    Ok(format!("{hash:016x}"))
}

/// Fails before a build that would fill the disk.
fn room() -> Result<()> {
    let folder = cache()?;
    std::fs::create_dir_all(&folder)?;
    let disk = nix::sys::statvfs::statvfs(&folder)?;
    let free = disk.blocks_available() * disk.fragment_size();
    let gib = free >> 30;
    if gib < ROOM {
        bail!(
            "building Kubernetes takes up to {ROOM} GiB, most of it in Go's build cache, and {} has {gib}",
            folder.display()
        );
    }
    Ok(())
}
