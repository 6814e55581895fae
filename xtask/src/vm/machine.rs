//! The machine: QEMU, a disk that forgets, and a shell inside by SSH.

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// From the start of QEMU to a shell, also where every instruction is emulated and others compute.
const BOOT: Duration = Duration::from_secs(300);
/// The most that one command inside may take unless it says more.
pub const PATIENCE: Duration = Duration::from_secs(180);

pub struct Machine {
    qemu: Child,
    port: u16,
    key: PathBuf,
    folder: PathBuf,
}

/// What a command inside said.
pub struct Said {
    pub ok: bool,
    /// Standard output, then standard error.
    pub text: String,
}

impl Machine {
    /// Starts it with the disk, kernel and initrd of that folder; what it writes is forgotten.
    pub fn start(made: &Path, folder: &Path, kvm: bool) -> Result<Self> {
        let port = free_port()?;
        let mut qemu = Command::new("qemu-system-x86_64");
        // A hypervisor within another one may be there and not work: it is asked for.
        let accelerator = if kvm { "kvm" } else { "tcg,thread=multi" };
        qemu.args(["-machine", "q35", "-accel", accelerator]);
        qemu.args(["-cpu", "max", "-smp", "2", "-m", "2048"]);
        qemu.args(["-display", "none", "-monitor", "none", "-no-user-config"]);
        let serial = folder.join("serial");
        qemu.arg("-serial")
            .arg(format!("file:{}", serial.display()));
        qemu.arg("-kernel").arg(made.join("vmlinuz"));
        qemu.arg("-initrd").arg(made.join("initrd"));
        qemu.args(["-append", "root=/dev/vda rw console=ttyS0 panic=-1"]);
        let disk = made.join("disk");
        qemu.arg("-drive").arg(format!(
            "file={},if=virtio,format=raw,snapshot=on,cache=unsafe",
            disk.display()
        ));
        // Its disk's changes are forgotten, and lie where everything else of it does.
        qemu.env("TMPDIR", folder);
        qemu.args([
            "-device",
            "virtio-rng-pci",
            "-device",
            "virtio-net-pci,netdev=n",
        ]);
        qemu.arg("-netdev")
            .arg(format!("user,id=n,hostfwd=tcp:127.0.0.1:{port}-:22"));
        let log = File::create(folder.join("qemu.log"))?;
        qemu.stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let qemu = qemu.spawn().context("cannot start QEMU")?;
        // OpenSSH takes no key that others can read; the cache's may have lost its mode.
        let key = folder.join("key");
        std::fs::copy(made.join("key"), &key)?;
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        let mut machine = Self {
            qemu,
            port,
            key,
            folder: folder.to_path_buf(),
        };
        machine.wait()?;
        Ok(machine)
    }

    /// Until it takes commands, or the time is over.
    pub fn wait(&mut self) -> Result<()> {
        let until = Instant::now() + BOOT;
        loop {
            if let Some(status) = self.qemu.try_wait()? {
                bail!("QEMU ended ({status}): {}", self.tail("qemu.log"));
            }
            if self
                .try_run("true", Duration::from_secs(20))
                .is_ok_and(|said| said.ok)
            {
                return Ok(());
            }
            if Instant::now() > until {
                bail!(
                    "no shell within {} s; the console's end:\n{}",
                    BOOT.as_secs(),
                    self.tail("serial")
                );
            }
            thread::sleep(Duration::from_secs(1));
        }
    }

    /// Starts it anew, as an administrator would, and waits until it is up again.
    pub fn reboot(&mut self) -> Result<()> {
        let before = self.ok("cat /proc/sys/kernel/random/boot_id")?;
        // The connection ends with the machine.
        self.try_run("systemctl reboot", PATIENCE)?;
        let until = Instant::now() + BOOT;
        while Instant::now() < until {
            self.hang_up();
            let now = self.try_run(
                "cat /proc/sys/kernel/random/boot_id",
                Duration::from_secs(20),
            );
            if now.is_ok_and(|now| now.ok && now.text != before) {
                return Ok(());
            }
            thread::sleep(Duration::from_secs(1));
        }
        bail!(
            "it did not come back; the console's end:\n{}",
            self.tail("serial")
        )
    }

    /// Runs a script as root and takes its output; fails if the script does.
    pub fn ok(&self, script: &str) -> Result<String> {
        let said = self.try_run(script, PATIENCE)?;
        ensure!(said.ok, "failed inside: {script}\n{}", said.text);
        Ok(said.text)
    }

    /// Runs a script as root, whatever becomes of it.
    pub fn run(&self, script: &str) -> Result<Said> {
        self.try_run(script, PATIENCE)
    }

    fn try_run(&self, script: &str, limit: Duration) -> Result<Said> {
        self.feed(script, &[], limit)
    }

    /// Runs a script with that on its standard input.
    fn feed(&self, script: &str, input: &[u8], limit: Duration) -> Result<Said> {
        let mut child = self.ssh(script).spawn().context("cannot start ssh")?;
        let mut stdin = child.stdin.take().context("ssh takes no input")?;
        let input = input.to_vec();
        let writer = thread::spawn(move || stdin.write_all(&input));
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        let until = Instant::now() + limit;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() > until {
                child.kill()?;
                child.wait()?;
                bail!("not done within {} s inside: {script}", limit.as_secs());
            }
            thread::sleep(Duration::from_millis(50));
        };
        // Whoever does not read its input says so by how it ends.
        drop(writer.join());
        let said = |reader: thread::JoinHandle<Vec<u8>>| {
            String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
        };
        Ok(Said {
            ok: status.success(),
            text: said(stdout) + &said(stderr),
        })
    }

    /// One connection serves all commands: each of its own would cost seconds of emulation.
    fn ssh(&self, script: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.arg("-i")
            .arg(&self.key)
            .args(["-F", "none", "-p"])
            .arg(self.port.to_string());
        for option in [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "IdentitiesOnly=yes",
            "ConnectTimeout=15",
            "ServerAliveInterval=15",
            "ControlMaster=auto",
            "ControlPersist=300",
        ] {
            ssh.args(["-o", option]);
        }
        ssh.arg("-o")
            .arg(format!("ControlPath={}", self.folder.join("ssh").display()));
        ssh.args(["root@127.0.0.1", script]);
        ssh.stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        ssh
    }

    fn hang_up(&self) {
        let mut ssh = Command::new("ssh");
        ssh.arg("-o")
            .arg(format!("ControlPath={}", self.folder.join("ssh").display()));
        ssh.args(["-F", "none", "-O", "exit", "root@127.0.0.1"]);
        ssh.stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // There may be no connection any more.
        drop(ssh.status());
    }

    /// Puts a file inside.
    pub fn put(&self, from: &Path, to: &str) -> Result<()> {
        let bytes =
            std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.write(to, bytes)
    }

    pub fn write(&self, to: &str, text: impl AsRef<[u8]>) -> Result<()> {
        let script = format!("mkdir -p \"$(dirname '{to}')\" && cat > '{to}'");
        let said = self.feed(&script, text.as_ref(), PATIENCE)?;
        ensure!(said.ok, "cannot write {to} inside: {}", said.text);
        Ok(())
    }

    /// How somebody else gets a shell inside.
    pub fn command_line(&self) -> String {
        format!(
            "ssh -i {} -p {} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null root@127.0.0.1",
            self.key.display(),
            self.port
        )
    }

    fn tail(&self, file: &str) -> String {
        let text = std::fs::read(self.folder.join(file)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines
            .get(lines.len().saturating_sub(30)..)
            .unwrap_or_default()
            .join("\n")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.hang_up();
        // Its disk forgets, so nothing is lost by how it ends.
        drop(self.qemu.kill());
        drop(self.qemu.wait());
    }
}

fn collect(pipe: Option<impl std::io::Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read until it failed is what there is.
            drop(pipe.read_to_end(&mut bytes));
        }
        bytes
    })
}

/// A port of loopback that nobody has at this moment.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no port is free")?;
    Ok(listener.local_addr()?.port())
}
