//! The files of the package, where they go and with which modes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::{Machine, build, command};
use crate::shell;

/// Shells, and where each looks for the completions of a program.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/hoop"),
    ("zsh", "usr/share/zsh/vendor-completions/_hoop"),
    ("fish", "usr/share/fish/vendor_completions.d/hoop.fish"),
];

const DOCUMENTS: &str = "usr/share/doc/hoop";

pub fn stage(
    tree: &Path,
    machine: Machine,
    program: &Path,
    epoch: &str,
    debug: bool,
) -> Result<()> {
    let root = shell::root();
    let installed = tree.join("usr/bin/hoop");
    put(program, &installed, 0o755)?;
    if debug {
        shell::run(command("strip").arg("--strip-debug").arg(&installed))?;
    }
    for unit in files(&root.join("hoop-userspace/systemd"))? {
        put(&unit, &tree.join(unit_place(&name(&unit))), 0o644)?;
    }
    // As they lie in the source: they refer to each other.
    for folder in ["docs", "docs/adr", "docs/hosts"] {
        for document in files(&root.join(folder))? {
            let to = tree.join(DOCUMENTS).join(folder).join(name(&document));
            put(&document, &to, 0o644)?;
        }
    }
    for document in ["README.md", "CHANGELOG.md"] {
        let to = tree.join(DOCUMENTS).join(document);
        put(&root.join(document), &to, 0o644)?;
    }
    put(
        &root.join("hoop-userspace/debian/hoop.toml"),
        &tree.join(DOCUMENTS).join("examples/hoop.toml"),
        0o644,
    )?;
    put(
        &root.join("hoop-userspace/kubernetes/daemonset.yaml"),
        &tree.join(DOCUMENTS).join("examples/daemonset.yaml"),
        0o644,
    )?;
    copyright(tree, machine)?;
    changelog(tree, epoch)?;
    completions(tree, || machine.run(&installed))?;
    manual(tree, || machine.run(&installed))?;
    folders_for_all(tree)
}

/// Where systemd looks for a file of `hoop-userspace/systemd/`.
fn unit_place(name: &str) -> String {
    match name {
        "hoop.sysusers.conf" => "usr/lib/sysusers.d/hoop.conf".to_owned(),
        "hoop.tmpfiles.conf" => "usr/lib/tmpfiles.d/hoop.conf".to_owned(),
        // A drop-in that operators copy for each agent.
        _ if name.ends_with(".conf") => format!("{DOCUMENTS}/examples/{name}"),
        _ => format!("usr/lib/systemd/system/{name}"),
    }
}

/// The project's licence, and what is linked into the program.
fn copyright(tree: &Path, machine: Machine) -> Result<()> {
    let licence = fs::read_to_string(shell::root().join("LICENSE"))?;
    let mut cargo = shell::cargo();
    cargo.args(["tree", "--locked", "--package", "hoop-userspace"]);
    cargo.args(["--target", machine.rust()]);
    cargo.args([
        "--edges", "normal", "--prefix", "none", "--format", "{p}|{l}",
    ]);
    let linked = shell::output(&mut cargo)?;
    let mut lines: Vec<String> = linked.lines().filter_map(linked_line).collect();
    lines.sort();
    lines.dedup();
    ensure!(!lines.is_empty(), "cargo tree names nothing that is linked");
    let text = format!(
        "{}\n\nThe program holds these crates, each under the licence that stands beside it:\n\n{}\n",
        licence.trim_end(),
        lines.join("\n")
    );
    write(&tree.join(DOCUMENTS).join("copyright"), text.as_bytes())
}

/// `aya v0.14.0 (proc-macro)|MIT OR Apache-2.0 (*)` without what is none of its name; `None` for a
/// crate of the workspace, behind which its folder stands.
fn linked_line(line: &str) -> Option<String> {
    let (package, licence) = line.split_once('|')?;
    let mut words = package.split(' ');
    let (name, version) = (words.next()?, words.next()?);
    let ours = words.any(|word| word.starts_with("(/"));
    let licence = licence.trim_end_matches("(*)").trim();
    (!ours).then(|| format!("{name} {}: {licence}", version.trim_start_matches('v')))
}

/// In Debian's own form, which names the version; what changed is in CHANGELOG.md.
fn changelog(tree: &Path, epoch: &str) -> Result<()> {
    let mut date = command("date");
    let date = shell::output(
        date.args(["--utc", "--rfc-email", "--date"])
            .arg(format!("@{epoch}")),
    )?;
    let text = format!(
        "hoop ({}) unstable; urgency=medium\n\n  * CHANGELOG.md beside this file says what changed.\n\n \
         -- the hoop developers <hoop@localhost>  {date}\n",
        env!("CARGO_PKG_VERSION")
    );
    compressed(&tree.join(DOCUMENTS).join("changelog.gz"), text.as_bytes())
}

fn completions(tree: &Path, program: impl Fn() -> Command) -> Result<()> {
    for (shell, place) in COMPLETIONS {
        let text = shell::output(program().args(["completions", shell]))?;
        write(&tree.join(place), format!("{text}\n").as_bytes())?;
    }
    Ok(())
}

fn manual(tree: &Path, program: impl Fn() -> Command) -> Result<()> {
    let pages = tree.join("usr/share/man/man1");
    fs::create_dir_all(&pages)?;
    shell::quiet(program().arg("manual").arg(&pages))?;
    let made = files(&pages)?;
    ensure!(!made.is_empty(), "the program wrote no page of its manual");
    for page in made {
        let text = fs::read(&page)?;
        compressed(&pages.join(format!("{}.gz", name(&page))), &text)?;
        fs::remove_file(&page)?;
    }
    Ok(())
}

/// Without name and time, which gzip would put in.
fn compressed(to: &Path, text: &[u8]) -> Result<()> {
    let mut gzip = command("gzip");
    gzip.args(["-9", "--no-name", "--stdout"]);
    let mut running = gzip
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start gzip")?;
    let mut input = running.stdin.take().context("gzip takes no input")?;
    // A page fits the pipe's other end: gzip reads all before it says much.
    let text = text.to_vec();
    let feeding = std::thread::spawn(move || std::io::Write::write_all(&mut input, &text));
    let done = running.wait_with_output()?;
    let fed = feeding
        .join()
        .map_err(|_| anyhow::anyhow!("gzip was not fed"))?;
    fed.context("gzip did not take all")?;
    ensure!(done.status.success(), "gzip failed ({})", done.status);
    write(to, &done.stdout)
}

/// Whatever the umask of whoever builds it.
fn folders_for_all(folder: &Path) -> Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders_for_all(&entry.path())?;
        }
    }
    Ok(())
}

/// Fails if a file of the package names a folder that it was built in.
pub fn names_no_path_of_this_machine(tree: &Path) -> Result<()> {
    let mut folders = vec![shell::root(), build::cargo_home()?, shell::target()];
    folders.extend(std::env::var_os("HOME").map(PathBuf::from));
    // The root's own folder would be found in every path.
    folders.retain(|folder| folder.components().count() > 1);
    let mut work = vec![tree.to_path_buf()];
    while let Some(folder) = work.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                work.push(path);
                continue;
            }
            let bytes = fs::read(&path)?;
            for folder in &folders {
                let named = format!("{}/", folder.display());
                if let Some(at) = find(&bytes, named.as_bytes()) {
                    let end = bytes.len().min(at + 120);
                    let found = bytes.get(at..end).unwrap_or_default();
                    bail!(
                        "{} names a folder of this machine: {:?}",
                        path.display(),
                        String::from_utf8_lossy(found)
                    );
                }
            }
        }
    }
    Ok(())
}

/// A search that looks at the first byte before it compares: programs are large.
fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = wanted.first()?;
    let mut from = 0;
    loop {
        let rest = bytes.get(from..)?;
        let at = from + rest.iter().position(|byte| byte == first)?;
        if bytes.get(at..)?.starts_with(wanted) {
            return Some(at);
        }
        from = at + 1;
    }
}

pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
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

pub fn put(from: &Path, to: &Path, mode: u32) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    Ok(())
}

pub fn write(to: &Path, text: &[u8]) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(to, text).with_context(|| format!("cannot write {}", to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o644))?;
    Ok(())
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_go_where_systemd_looks() {
        assert_eq!(
            unit_place("hoop.service"),
            "usr/lib/systemd/system/hoop.service"
        );
        assert_eq!(
            unit_place("hoop.tmpfiles.conf"),
            "usr/lib/tmpfiles.d/hoop.conf"
        );
        assert_eq!(
            unit_place("agent.service.d-hoop.conf"),
            "usr/share/doc/hoop/examples/agent.service.d-hoop.conf"
        );
    }

    #[test]
    fn what_is_linked_is_named_without_folders() {
        assert_eq!(
            linked_line("aya v0.14.0|MIT OR Apache-2.0 (*)").as_deref(),
            Some("aya 0.14.0: MIT OR Apache-2.0")
        );
        assert_eq!(
            linked_line("serde_derive v1.0.1 (proc-macro)|MIT").as_deref(),
            Some("serde_derive 1.0.1: MIT")
        );
        assert_eq!(
            linked_line("hoop-common v0.1.0 (/home/me/hoop-common)|MIT"),
            None
        );
    }

    #[test]
    fn a_path_is_found_wherever_it_stands() {
        assert_eq!(find(b"xx/a/a/b/", b"/a/b/"), Some(4));
        assert_eq!(find(b"/a/", b"/a/b/"), None);
        assert_eq!(find(b"", b"/"), None);
    }
}
