//! `cargo xtask package`: a Debian package, the same bytes for the same commit.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::products::{self, Profile};
use crate::shell;

#[derive(clap::Args)]
pub struct Arguments {
    /// Where the package is put
    #[arg(long, default_value = "target/package")]
    to: PathBuf,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let epoch = epoch()?;
    products::build(Profile::Release)?;
    let folder = shell::root().join(&arguments.to);
    let tree = folder.join("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree).context("cannot clear the last package's tree")?;
    }
    stage(&tree)?;
    control(&tree)?;
    let package = folder.join(format!(
        "hoop_{}_{}.deb",
        env!("CARGO_PKG_VERSION"),
        architecture()?
    ));
    let mut build = shell::command("dpkg-deb");
    build
        .args(["--root-owner-group", "-Zxz", "--build"])
        .arg(&tree)
        .arg(&package);
    shell::run(build.env("SOURCE_DATE_EPOCH", epoch))?;
    println!("package: {}", package.display());
    Ok(())
}

/// The commit's time unless the environment says otherwise, so that the bytes can be made again.
fn epoch() -> Result<String> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(given) => Ok(given),
        Err(_) => shell::output(shell::command("git").args(["log", "-1", "--format=%ct"])),
    }
}

fn stage(tree: &Path) -> Result<()> {
    let root = shell::root();
    put(
        &products::program(Profile::Release, "hoop"),
        &tree.join("usr/bin/hoop"),
        0o755,
    )?;
    for unit in files(&root.join("hoop-userspace/systemd"))? {
        put(
            &unit,
            &tree.join(unit_place(&name(&unit).to_string_lossy())),
            0o644,
        )?;
    }
    for document in files(&root.join("docs"))? {
        put(
            &document,
            &tree.join("usr/share/doc/hoop").join(name(&document)),
            0o644,
        )?;
    }
    for document in ["README.md", "CHANGELOG.md"] {
        put(
            &root.join(document),
            &tree.join("usr/share/doc/hoop").join(document),
            0o644,
        )?;
    }
    put(
        &root.join("LICENSE"),
        &tree.join("usr/share/doc/hoop/copyright"),
        0o644,
    )
}

/// Where systemd looks for a file of `hoop-userspace/systemd/`.
fn unit_place(name: &str) -> String {
    match name {
        "hoop.sysusers.conf" => "usr/lib/sysusers.d/hoop.conf".to_owned(),
        "hoop.tmpfiles.conf" => "usr/lib/tmpfiles.d/hoop.conf".to_owned(),
        // A drop-in that operators copy for each agent.
        _ if name.ends_with(".conf") => format!("usr/share/doc/hoop/examples/{name}"),
        _ => format!("usr/lib/systemd/system/{name}"),
    }
}

/// Makes the account and the folders; hoop is started by the operator, who configures it first.
const AFTER: &str = "#!/bin/sh\nset -e\n\
    if [ -d /run/systemd/system ]; then\n  \
    systemd-sysusers hoop.conf\n  systemd-tmpfiles --create hoop.conf\n  \
    systemctl daemon-reload\nfi\n";

fn control(tree: &Path) -> Result<()> {
    let text = format!(
        "Package: hoop\n\
         Version: {}\n\
         Architecture: {}\n\
         Maintainer: the hoop developers <hoop@localhost>\n\
         Section: admin\n\
         Priority: optional\n\
         Depends: libc6, systemd\n\
         Description: enforcement point between AI agents and the systems they reach\n \
         Captures an agent's connections in the kernel, decides every command by\n \
         policy, masks sensitive results and records the session.\n",
        env!("CARGO_PKG_VERSION"),
        architecture()?,
    );
    let file = tree.join("DEBIAN/control");
    fs::create_dir_all(tree.join("DEBIAN"))?;
    let after = tree.join("DEBIAN/postinst");
    fs::write(&after, AFTER)?;
    fs::set_permissions(&after, fs::Permissions::from_mode(0o755))?;
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn architecture() -> Result<String> {
    shell::output(shell::command("dpkg").arg("--print-architecture"))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    Ok(files)
}

fn put(from: &Path, to: &Path, mode: u32) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    Ok(())
}

fn name(path: &Path) -> std::ffi::OsString {
    path.file_name().unwrap_or_default().to_owned()
}
