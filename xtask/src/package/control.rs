//! What dpkg is told of the package: `hoop-userspace/debian/`, filled in.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{Machine, command, stage};
use crate::shell;

const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

pub fn file_name(machine: Machine) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("hoop_{version}_{}.deb", machine.debian())
}

pub fn control(tree: &Path, machine: Machine) -> Result<()> {
    let from = shell::root().join("hoop-userspace/debian");
    let to = tree.join("DEBIAN");
    // Before the rest: what dpkg is told is none of what it installs.
    let size = installed_size(tree)?;
    let sums = sums(tree)?;
    let configuration = tree.join("etc");
    ensure!(
        !configuration.exists(),
        "the package holds files below /etc, and names no conffiles"
    );
    fs::create_dir_all(&to)?;
    for script in SCRIPTS {
        stage::put(&from.join(script), &to.join(script), 0o755)?;
    }
    let text = fs::read_to_string(from.join("control"))?;
    let filled = text
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("@ARCHITECTURE@", machine.debian())
        .replace("@SIZE@", &size.to_string())
        .replace("@LIBC@", &libc(machine, &tree.join("usr/bin/hoop"))?);
    ensure!(
        !filled.contains('@') || filled.matches('@').count() == 1,
        "control is not filled in"
    );
    stage::write(&to.join("control"), filled.as_bytes())?;
    stage::write(&to.join("md5sums"), sums.as_bytes())?;
    fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// In KiB, each file rounded up, as dpkg counts.
fn installed_size(folder: &Path) -> Result<u64> {
    let mut size = 1;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        size += match entry.file_type()?.is_dir() {
            true => installed_size(&entry.path())?,
            false => entry.metadata()?.len().div_ceil(1024),
        };
    }
    Ok(size)
}

fn sums(tree: &Path) -> Result<String> {
    let each = "find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum";
    let sums = shell::output(command("sh").args(["-c", each]).current_dir(tree))?;
    Ok(format!("{sums}\n"))
}

/// The newest version of the C library whose symbols the program needs.
fn libc(machine: Machine, program: &Path) -> Result<String> {
    let symbols = shell::output(command(machine.tool("objdump")).arg("-T").arg(program))
        .context("objdump says which C library the program needs")?;
    newest(&symbols).context("the program needs no version of the C library")
}

fn newest(symbols: &str) -> Option<String> {
    let versions = symbols.split(['(', ')', ' ', '\t']).filter_map(|word| {
        let version = word.strip_prefix("GLIBC_")?;
        let parts: Option<Vec<u32>> = version.split('.').map(|part| part.parse().ok()).collect();
        parts
    });
    let newest = versions.max()?;
    let parts: Vec<String> = newest.iter().map(u32::to_string).collect();
    Some(parts.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_is_by_number() {
        let symbols = "0000 DF *UND* 0000 (GLIBC_2.9) epoll\n0000 DF *UND* 0 (GLIBC_2.34) x\n0 GLIBC_2.4 y\nGLIBC_PRIVATE";
        assert_eq!(newest(symbols).as_deref(), Some("2.34"));
        assert_eq!(newest(""), None);
    }
}
