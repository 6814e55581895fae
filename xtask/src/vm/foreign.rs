//! Another processor's kernel with hoop's program and nothing else: whether it takes the kernel programs, and
//! whether these do there what they do here.
//!
//! A whole Debian of another architecture would have to be set up by emulated programs; what depends on the
//! architecture is the program itself, the layout of what the kernel programs read, and the kernel's verifier.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::kernels::{self, Kernel};
use crate::package::Architecture;
use crate::{setup, shell};

const INIT: &str = include_str!("inside/foreign.sh");
/// From the start to its end, emulated.
const PATIENCE: Duration = Duration::from_secs(300);
/// Programs below the LSM tier's.
const HOOKS: usize = 10;

/// Boots the kernel once, and looks at what was printed.
pub fn run(
    kernel: Kernel,
    architecture: Architecture,
    package: &Path,
    folder: &Path,
) -> Result<()> {
    let (name, emulator) = match architecture {
        Architecture::Arm64 => ("arm64", "qemu-system-aarch64"),
        Architecture::Amd64 => bail!("x86-64 has a whole host: leave --arch out"),
    };
    if !shell::found(emulator) || !shell::found("cpio") {
        setup::apt(&["qemu-system-arm", "cpio"])?;
    }
    let parts = kernels::foreign(kernel, name)?;
    let root = folder.join("root");
    let mut copy = shell::command("cp");
    shell::quiet(copy.arg("-a").arg(parts.join("root")).arg(&root))?;
    let mut unpack = shell::command("dpkg-deb");
    shell::quiet(unpack.arg("-x").arg(package).arg(&root))?;
    for empty in ["proc", "sys", "dev", "tmp", "run", "root", "var/lib"] {
        std::fs::create_dir_all(root.join(empty))?;
    }
    std::fs::write(root.join("init"), INIT)?;
    let mut pack = shell::command("sh");
    pack.current_dir(&root).args([
        "-c",
        "chmod 755 init && find . | cpio --create --format=newc --quiet | gzip -1 >../initrd",
    ]);
    shell::quiet(&mut pack)?;
    let console = folder.join("console");
    let mut qemu = shell::command(emulator);
    qemu.args(["-machine", "virt", "-cpu", "max", "-smp", "2", "-m", "2048"]);
    qemu.args(["-display", "none", "-monitor", "none", "-no-reboot"]);
    qemu.arg("-serial")
        .arg(format!("file:{}", console.display()));
    qemu.arg("-kernel").arg(parts.join("vmlinuz"));
    qemu.arg("-initrd").arg(folder.join("initrd"));
    qemu.args([
        "-append",
        "console=ttyAMA0 rdinit=/init quiet panic=-1 PATH=/usr/bin:/bin",
    ]);
    let log = File::create(folder.join("qemu.log"))?;
    qemu.stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let mut qemu = qemu.spawn().context("cannot start QEMU")?;
    let until = Instant::now() + PATIENCE;
    let ended = loop {
        match qemu.try_wait()? {
            Some(status) => break Some(status),
            None if Instant::now() > until => break None,
            None => std::thread::sleep(Duration::from_millis(200)),
        }
    };
    if ended.is_none() {
        drop(qemu.kill());
        drop(qemu.wait());
    }
    let said = String::from_utf8_lossy(&std::fs::read(&console)?).replace('\r', "");
    let seen = seen(&said).with_context(|| format!("the console said:\n{said}"))?;
    println!("vm: {} on {name}: {seen}", kernel.name());
    Ok(())
}

/// One line for what was seen, or what was not as it must be.
fn seen(said: &str) -> Result<String> {
    let mut parts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut part = "";
    for line in said.lines() {
        match line.strip_prefix("== ") {
            Some(name) => part = name,
            None => parts.entry(part).or_default().push(line.trim()),
        }
    }
    let text = |part: &str| {
        parts
            .get(part)
            .map(|lines| lines.join("\n"))
            .unwrap_or_default()
    };
    ensure!(said.contains("== end"), "it did not come to its end");
    for check in ["kernel.features", "kernel.programs", "kernel.bpf_fs"] {
        let is_well = |line: &str| line.starts_with("ok ") && line.contains(check);
        ensure!(text("doctor").lines().any(is_well), "hoop doctor: {check}");
    }
    ensure!(text("check").contains("valid"), "hoop check");
    ensure!(
        text("policy").contains("ends with 3"),
        "DROP TABLE is not refused by the policy"
    );
    let load = text("load");
    let attached = load.lines().filter(|line| line.contains("attached to"));
    let attached = attached.count();
    ensure!(attached >= HOOKS, "{attached} programs are attached");
    ensure!(text("outside").contains("heard"), "nobody is heard outside");
    ensure!(
        text("inside").contains("Connection refused"),
        "a governed connection without a daemon is not refused"
    );
    ensure!(
        text("ping").contains("ermission denied"),
        "raw sockets are not refused"
    );
    ensure!(
        text("inside, unloaded").contains("heard"),
        "who is governed no longer is not heard"
    );
    let tier = load.lines().find(|line| line.starts_with("LSM tier"));
    Ok(format!(
        "{}: the kernel takes all programs, {attached} are attached, {}; inside the cgroup TCP is refused without a daemon and raw sockets always, \
         outside not, and not once they are gone; policies decide DROP TABLE",
        text("kernel"),
        tier.context("no word about the LSM tier")?
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_said() {
        let said = "== doctor\nok      kernel.features: all\n== end\n";
        let error = seen(said).unwrap_err().to_string();
        assert!(error.contains("kernel.programs"), "{error}");
        assert!(seen("== doctor\n").is_err());
    }
}
