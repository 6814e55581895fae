//! `cargo xtask setup`: installs what a fresh Debian machine with only the Rust toolchain lacks.
//!
//! `demo`, `test` and `bench` call it first, so it is quick when nothing is missing: it looks for
//! files and asks no package manager unless one of them is absent.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{kernel, kubernetes, shell};

#[derive(clap::Args)]
pub struct Arguments {
    /// Only say what is missing, and fail if anything is
    #[arg(long)]
    check: bool,
    /// Build a real Kubernetes API server and its clients as well: half an hour the first time
    #[arg(long)]
    kubernetes: bool,
}

/// One thing that must be there, how to see that it is, and the Debian packages that bring it.
struct Part {
    name: &'static str,
    packages: &'static [&'static str],
    present: fn() -> bool,
    needed: Needed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Needed {
    Always,
    ForBench,
    ForCompat,
    ForVm,
}

const PARTS: &[Part] = &[
    Part {
        name: "C compiler and make (the SQL grammar is PostgreSQL's own C)",
        packages: &["build-essential", "pkg-config"],
        present: || shell::found("cc") && shell::found("make"),
        needed: Needed::Always,
    },
    Part {
        name: "libclang (bindings to that grammar)",
        packages: &["clang", "libclang-dev"],
        present: || shell::found("clang") && libclang().is_some(),
        needed: Needed::Always,
    },
    Part {
        name: "PostgreSQL 15 server and tools",
        packages: &["postgresql", "postgresql-contrib", "postgresql-client"],
        present: || {
            let tool = |name: &str| postgres_tools().is_some_and(|dir| dir.join(name).exists());
            tool("initdb") && tool("postgres") && tool("pgbench") && shell::found("psql")
        },
        needed: Needed::Always,
    },
    Part {
        name: "pgbouncer (what the bench compares with)",
        packages: &["pgbouncer"],
        present: || shell::found("pgbouncer"),
        needed: Needed::ForBench,
    },
    Part {
        name: "haproxy (the plain relay that the bench compares with)",
        packages: &["haproxy"],
        present: || shell::found("haproxy"),
        needed: Needed::ForBench,
    },
    Part {
        name: "Node.js (the OpenID provider of the tests)",
        packages: &["nodejs"],
        present: || shell::found("node"),
        needed: Needed::Always,
    },
    Part {
        name: "npm",
        packages: &["npm"],
        present: || shell::found("npm"),
        needed: Needed::Always,
    },
    Part {
        name: "Chromium (the browser that the console is tested with)",
        packages: &["chromium"],
        present: || shell::found("chromium"),
        needed: Needed::Always,
    },
    Part {
        name: "Python with venv (psycopg, asyncpg, paramiko)",
        packages: &["python3", "python3-venv"],
        present: || {
            Path::new("/usr/bin/python3").exists()
                && glob_exists("/usr/lib", "python3.", "ensurepip/__init__.py")
        },
        needed: Needed::Always,
    },
    Part {
        name: "openssl (certificates of the test server)",
        packages: &["openssl", "ca-certificates"],
        present: || shell::found("openssl"),
        needed: Needed::Always,
    },
    Part {
        name: "OpenSSH server, client and SFTP server",
        packages: &["openssh-server", "openssh-client", "openssh-sftp-server"],
        present: || {
            let server = Path::new("/usr/sbin/sshd").exists();
            server && shell::found("ssh") && Path::new("/usr/lib/openssh/sftp-server").exists()
        },
        needed: Needed::Always,
    },
    Part {
        name: "other clients of SSH (rsync, git, Dropbear's, PuTTY's)",
        packages: &["rsync", "git", "dropbear-bin", "putty-tools"],
        present: || {
            let programs = ["rsync", "git", "dbclient", "plink"];
            programs.iter().all(|program| shell::found(program))
        },
        needed: Needed::Always,
    },
    Part {
        name: "OpenSSH's regression tests, and curl with libssh2 (what `compat --ssh` runs)",
        packages: &["openssh-tests", "curl"],
        present: || {
            let tests = Path::new("/usr/lib/openssh/regress/test-exec.sh").exists();
            tests && shell::found("curl")
        },
        needed: Needed::ForCompat,
    },
    Part {
        name: "ip (network namespaces)",
        packages: &["iproute2"],
        present: || shell::found("ip"),
        needed: Needed::Always,
    },
    Part {
        name: "dpkg-deb",
        packages: &["dpkg"],
        present: || shell::found("dpkg-deb"),
        needed: Needed::Always,
    },
    Part {
        name: "QEMU, debootstrap and mke2fs (the host that `vm` boots)",
        packages: &["qemu-system-x86", "debootstrap", "e2fsprogs"],
        present: || {
            let programs = ["qemu-system-x86_64", "debootstrap", "mke2fs"];
            programs.iter().all(|program| shell::found(program))
        },
        needed: Needed::ForVm,
    },
];

pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.check {
        // What boots a host is installed by the command that does.
        let parts = PARTS.iter().filter(|p| p.needed != Needed::ForVm);
        let absent = parts.filter(|p| !(p.present)()).map(|p| p.name);
        let mut missing: Vec<_> = absent.collect();
        if kernel::toolchain_present().is_none() {
            missing.push("a toolchain for the kernel object");
        }
        if arguments.kubernetes {
            missing.extend(kubernetes::missing()?);
        }
        if missing.is_empty() {
            println!("setup: nothing is missing");
            return Ok(());
        }
        bail!(
            "missing: {}; `cargo xtask setup` as root installs it",
            missing.join(", ")
        );
    }
    ensure_for_bench()?;
    ensure_for_compat()?;
    println!("setup: PostgreSQL tools in {}", show(postgres_tools()));
    println!("setup: Python packages in {}", python_folder().display());
    println!(
        "setup: kernel object built by {}",
        kernel::toolchain_present().unwrap_or_else(|| "(nothing)".to_owned())
    );
    println!("setup: libclang in {}", show(libclang()));
    if arguments.kubernetes {
        kubernetes::ensure()?;
        println!(
            "setup: Kubernetes' programs in {}",
            kubernetes::linked().display()
        );
    }
    println!("setup: done");
    Ok(())
}

/// Installs whatever is missing and says so; silent and quick when nothing is.
pub fn ensure() -> Result<()> {
    packages(|part| part.needed == Needed::Always)?;
    kernel::ensure_ebpf_toolchain()?;
    modules("tests/issuer", "the OpenID provider's modules")?;
    modules(
        "tests/browser",
        "the browser's driver and its accessibility rules",
    )?;
    python()
}

/// The same, and what only the bench compares with.
pub fn ensure_for_bench() -> Result<()> {
    packages(|part| matches!(part.needed, Needed::Always | Needed::ForBench))?;
    ensure()
}

/// The same, and what only the suites of SSH need.
pub fn ensure_for_compat() -> Result<()> {
    packages(|part| matches!(part.needed, Needed::Always | Needed::ForCompat))?;
    ensure()
}

/// The same, and what boots a whole host.
pub fn ensure_for_vm() -> Result<()> {
    packages(|part| matches!(part.needed, Needed::Always | Needed::ForVm))?;
    ensure()
}

/// Fails with one line unless this is root: cgroups, mounts and kernel programs need it.
pub fn require_root(what: &str) -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    bail!("{what} makes cgroups, mounts and loads kernel programs: run it as root")
}

fn packages(wanted: impl Fn(&Part) -> bool) -> Result<()> {
    let missing: Vec<&Part> = PARTS
        .iter()
        .filter(|part| wanted(part) && !(part.present)())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    for part in &missing {
        eprintln!(
            "setup: missing {}: installing {}",
            part.name,
            part.packages.join(" ")
        );
    }
    let packages: Vec<&str> = missing
        .iter()
        .flat_map(|part| part.packages)
        .copied()
        .collect();
    apt(&packages)?;
    for part in &missing {
        if !(part.present)() {
            bail!(
                "{} is still missing after installing {:?}",
                part.name,
                part.packages
            );
        }
    }
    Ok(())
}

/// Installs Debian packages by name; the toolchain of the kernel object uses it too.
pub fn apt(packages: &[&str]) -> Result<()> {
    if !shell::found("apt-get") {
        bail!(
            "no apt-get here: install what corresponds to {} by hand",
            packages.join(" ")
        );
    }
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "not root: run `apt-get install {}` as root, then again",
            packages.join(" ")
        );
    }
    let apt_get = |arguments: &[&str]| {
        let mut command = shell::command("apt-get");
        shell::run(
            command
                .args(arguments)
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )
    };
    apt_get(&["update", "-qq"]).context("cannot refresh the package lists; is the network up?")?;
    let _stopped = NoServices::hold()?;
    let install = ["install", "-y", "-qq", "--no-install-recommends"];
    apt_get(&[&install, packages].concat()).context("cannot install the packages")
}

/// Debian's servers start when they are installed; ours are started by the tests, elsewhere.
struct NoServices(Option<&'static Path>);

impl NoServices {
    fn hold() -> Result<Self> {
        let policy = Path::new("/usr/sbin/policy-rc.d");
        if policy.exists() {
            return Ok(Self(None));
        }
        std::fs::write(policy, "#!/bin/sh\nexit 101\n")?;
        std::fs::set_permissions(policy, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(Self(Some(policy)))
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(policy) = self.0 {
            std::fs::remove_file(policy).ok();
        }
    }
}

/// Modules of Node.js, as their lock file says.
pub fn modules(folder: &str, what: &str) -> Result<()> {
    let folder = shell::root().join(folder);
    let lock = folder.join("package-lock.json");
    stamped(&folder.join("node_modules/.hoop-setup"), &lock, || {
        eprintln!("setup: installing {what}");
        shell::run(shell::command("npm").current_dir(&folder).args([
            "ci",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
        ]))
    })
}

/// A Python environment with the drivers that the contract suite speaks through.
fn python() -> Result<()> {
    let wanted = shell::root().join("tests/python/requirements.txt");
    python_environment(&python_folder(), &wanted)
}

/// A Python environment with what that file lists.
pub fn python_environment(folder: &Path, wanted: &Path) -> Result<()> {
    stamped(&folder.join(".hoop-setup"), wanted, || {
        eprintln!(
            "setup: installing the Python packages of {} in {}",
            wanted.display(),
            folder.display()
        );
        shell::run(
            shell::command("/usr/bin/python3")
                .args(["-m", "venv", "--clear"])
                .arg(folder),
        )?;
        shell::run(
            shell::command(folder.join("bin/pip"))
                .args(["install", "--quiet", "--disable-pip-version-check", "-r"])
                .arg(wanted),
        )
    })
}

pub fn python_folder() -> PathBuf {
    shell::target().join("python")
}

/// Runs `install` unless the stamp holds what `wanted` holds.
pub fn stamped(stamp: &Path, wanted: &Path, install: impl FnOnce() -> Result<()>) -> Result<()> {
    let text =
        std::fs::read(wanted).with_context(|| format!("cannot read {}", wanted.display()))?;
    if std::fs::read(stamp).is_ok_and(|held| held == text) {
        return Ok(());
    }
    install()?;
    std::fs::write(stamp, text).with_context(|| format!("cannot write {}", stamp.display()))
}

/// The folder of the newest PostgreSQL server's programs.
pub fn postgres_tools() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|folder| folder.join("initdb").exists())
        .collect();
    versions.sort();
    versions.pop()
}

fn libclang() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("LIBCLANG_PATH") {
        return Some(folder.into());
    }
    let mut folders = vec![PathBuf::from("/usr/lib/x86_64-linux-gnu")];
    folders.push("/usr/lib/aarch64-linux-gnu".into());
    let llvms = std::fs::read_dir("/usr/lib")
        .into_iter()
        .flatten()
        .flatten();
    folders.extend(llvms.map(|entry| entry.path().join("lib")));
    folders.into_iter().find(|folder| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|e| e.file_name()).any(|name| {
            let name = name.to_string_lossy();
            name.starts_with("libclang.so") || name.starts_with("libclang-1")
        })
    })
}

fn glob_exists(folder: &str, prefix: &str, rest: &str) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .any(|entry| entry.path().join(rest).exists())
}

fn show(path: Option<PathBuf>) -> String {
    path.map_or_else(|| "(none)".to_owned(), |path| path.display().to_string())
}
