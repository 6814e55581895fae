//! The root of the machine: a small Debian with systemd, sshd, a PostgreSQL server and container engines.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{cache, mirror, once};
use crate::shell;

/// Counts when what is below changes, so that nobody tests with a root of before.
const RECIPE: u32 = 2;

const RELEASE: &str = "bookworm";

const PACKAGES: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "udev",
    "dbus",
    "kmod",
    "procps",
    "iproute2",
    "openssh-server",
    "openssl",
    "ca-certificates",
    "initramfs-tools",
    "python3-minimal",
    "libpython3-stdlib",
    "postgresql",
    // What containers are started with, and what is in them.
    "docker.io",
    "podman",
    "netavark",
    "iptables",
    "busybox-static",
];

/// A file of the root, and what it holds.
const FILES: &[(&str, &str)] = &[
    ("etc/hostname", "agents-1\n"),
    ("etc/fstab", "/dev/vda / ext4 defaults 0 1\n"),
    (
        "etc/hosts",
        "127.0.0.1 localhost agents-1\n10.77.0.1 db.prod.internal\n10.0.2.2 outside.test\n",
    ),
    // Without DHCP: QEMU's user network has these addresses, and the server has one beside them.
    (
        "etc/systemd/network/10-all.network",
        "[Match]\nName=en* eth*\n[Network]\nAddress=10.0.2.15/24\nAddress=10.77.0.1/24\n\
         Gateway=10.0.2.2\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
    ),
    (
        "etc/initramfs-tools/modules",
        "virtio_pci\nvirtio_blk\nvirtio_net\next4\ncrc32c_generic\n",
    ),
    (
        "etc/initramfs-tools/conf.d/hoop",
        "MODULES=list\nBUSYBOX=n\nCOMPRESS=gzip\nFSTYPE=ext4\n",
    ),
    // What a unit says has to be there after a reboot.
    (
        "etc/systemd/journald.conf.d/keep.conf",
        "[Journal]\nStorage=persistent\nRateLimitIntervalSec=0\n",
    ),
    // A machine that is emulated is slow; nothing here is about how fast it starts.
    (
        "etc/systemd/system.conf.d/slow.conf",
        "[Manager]\nDefaultTimeoutStartSec=180\nDefaultTimeoutStopSec=60\n",
    ),
];

/// Runs inside: no service starts there.
const FINISH: &str = r#"
set -e
passwd -d root >/dev/null
systemctl --quiet enable systemd-networkd ssh
systemctl --quiet disable docker.service docker.socket containerd.service
for unit in podman.service podman.socket podman-auto-update.timer podman-restart.service; do
    systemctl --quiet disable $unit || true
done
systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer \
    dpkg-db-backup.timer fstrim.timer systemd-networkd-wait-online.service
ssh-keygen -A >/dev/null
rm -f /etc/ssh/ssh_host_rsa_key* /etc/ssh/ssh_host_ecdsa_key*
"#;

/// The folder with the root, made of Debian's packages if it is not there: some minutes.
pub fn ensure() -> Result<PathBuf> {
    let folder = cache()?.join(format!("{RELEASE}-{RECIPE}"));
    once(&folder, |partial| {
        eprintln!("vm: making a Debian root (some minutes, once)");
        key(partial)?;
        let root = partial.join("root");
        let mut debootstrap = shell::command("debootstrap");
        debootstrap.arg("--variant=minbase");
        debootstrap.arg(format!("--include={}", PACKAGES.join(",")));
        debootstrap.arg(RELEASE).arg(&root).arg(mirror()?);
        let said = shell::output(&mut debootstrap).context("debootstrap made no root")?;
        std::fs::write(partial.join("debootstrap.log"), said)?;
        for (path, text) in FILES {
            write(&root.join(path), text)?;
        }
        let public = std::fs::read_to_string(partial.join("key.pub"))?;
        write(&root.join("root/.ssh/authorized_keys"), &public)?;
        inside(&root, FINISH)?;
        // Packages that were unpacked are of no more use.
        let archives = root.join("var/cache/apt/archives");
        std::fs::remove_dir_all(&archives).context("cannot clear the root's packages")?;
        std::fs::create_dir_all(archives.join("partial"))?;
        Ok(())
    })?;
    Ok(folder)
}

/// Runs a script within the root, as on a machine that is not up.
pub fn inside(root: &Path, script: &str) -> Result<()> {
    let mut chroot = shell::command("chroot");
    chroot.arg(root).args(["/bin/sh", "-c", script]);
    chroot.env_clear();
    chroot
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8");
    shell::output(&mut chroot).map(drop)
}

/// What the tests log in with.
fn key(folder: &Path) -> Result<()> {
    let mut keygen = shell::command("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "hoop-vm", "-f"]);
    shell::quiet(keygen.arg(folder.join("key")))
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
