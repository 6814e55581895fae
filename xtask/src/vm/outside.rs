//! What runs outside of the machine: the issuer, and whoever an agent should not reach.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::machine::free_port;
use crate::shell;

/// The OpenID provider of the tests, on loopback; inside, the same address is a way to it.
pub struct Issuer {
    node: Child,
    pub port: u16,
    folder: PathBuf,
}

impl Issuer {
    pub fn start(folder: &Path) -> Result<Self> {
        let port = free_port()?;
        let log = std::fs::File::create(folder.join("issuer.log"))?;
        let mut node = Command::new("node");
        node.arg(shell::root().join("tests/issuer/server.mjs"));
        node.args(["--port", &port.to_string(), "--clients", "billing-bot"]);
        node.arg("--keys").arg(folder.join("issuer-keys"));
        node.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut node = node.spawn().context("cannot start node")?;
        let mut line = String::new();
        let out = node.stdout.take().context("node has no output")?;
        // One line, when it listens; nothing if it fails.
        BufReader::new(out).read_line(&mut line)?;
        let issuer = Self {
            node,
            port,
            folder: folder.to_path_buf(),
        };
        anyhow::ensure!(
            line.contains(&issuer.url()),
            "the OpenID provider did not start: {line}{}",
            std::fs::read_to_string(folder.join("issuer.log")).unwrap_or_default()
        );
        Ok(issuer)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A token that it grants to the agent.
    pub fn token(&self) -> Result<String> {
        let mut node = shell::command("node");
        node.arg(shell::root().join("tests/issuer/token.mjs"));
        node.args(["--issuer", &self.url(), "--client", "billing-bot"]);
        shell::output(node.current_dir(&self.folder))
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        drop(self.node.kill());
        drop(self.node.wait());
    }
}

/// Listens by TCP and by UDP, and remembers what came.
pub struct Elsewhere {
    pub tcp: u16,
    pub udp: u16,
    came: Arc<Mutex<Vec<String>>>,
}

impl Elsewhere {
    pub fn listen() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let came = Arc::new(Mutex::new(Vec::new()));
        let (tcp, udp) = (listener.local_addr()?.port(), socket.local_addr()?.port());
        let seen = Arc::clone(&came);
        // Both end with the program.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&seen);
                thread::spawn(move || hear(&stream, &seen));
            }
        });
        let seen = Arc::clone(&came);
        thread::spawn(move || {
            let mut datagram = [0_u8; 64];
            while let Ok((count, _)) = socket.recv_from(&mut datagram) {
                note(&seen, "udp", datagram.get(..count).unwrap_or_default());
            }
        });
        Ok(Self { tcp, udp, came })
    }

    /// What came since it was last asked.
    pub fn came(&self) -> Vec<String> {
        self.came
            .lock()
            .map(|mut came| std::mem::take(&mut *came))
            .unwrap_or_default()
    }
}

/// Notes what comes, and answers, so that whoever speaks knows that it was heard. A connection without a
/// word counts as well.
fn hear(mut stream: &TcpStream, seen: &Mutex<Vec<String>>) {
    drop(stream.set_read_timeout(Some(Duration::from_secs(600))));
    let mut bytes = [0_u8; 64];
    let mut silent = true;
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        silent = false;
        note(seen, "tcp", bytes.get(..count).unwrap_or_default());
        if stream.write_all(b"heard").is_err() {
            return;
        }
    }
    if silent {
        note(seen, "tcp", b"");
    }
}

fn note(came: &Mutex<Vec<String>>, kind: &str, bytes: &[u8]) {
    if let Ok(mut came) = came.lock() {
        came.push(format!("{kind} {}", String::from_utf8_lossy(bytes)));
    }
}
