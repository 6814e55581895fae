//! Sessions at rest: a server that logs everybody in and says no more, and a client that opens many
//! connections and holds them. Thousands of either would be thousands of processes of PostgreSQL's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::process::{Child, ChildStdin, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{self, getrlimit, setrlimit};

use crate::agent::Who;
use crate::files;
use crate::place::Place;
use crate::postgres::ROLE;
use crate::settings::READER;
use crate::world::World;

/// The name of the resource's host, and the last number of its address.
const HOST: &str = "idle.prod.internal";
const ADDRESS: u8 = 34;
const PORT: u16 = 5432;
const PATIENCE: Duration = Duration::from_secs(20);

/// AuthenticationOk, two parameters that every client looks for, BackendKeyData, ReadyForQuery.
const GREETING: &[u8] = b"R\0\0\0\x08\0\0\0\0\
    S\0\0\0\x19client_encoding\0UTF8\0\
    S\0\0\0\x23standard_conforming_strings\0on\0\
    K\0\0\0\x0c\0\0\0\x01\0\0\0\x01\
    Z\0\0\0\x05I";

/// What the hosts file and the configuration must say of the server, before the world starts.
pub struct Resource {
    pub hosts: String,
    pub config: String,
}

impl Resource {
    pub fn of(place: &Place) -> Self {
        let secret = place.path("etc/orders-password");
        Self {
            hosts: format!("{} {HOST}\n", place.address(ADDRESS)),
            config: format!(
                "\n[[resource]]\nname = \"idle\"\nprotocol = \"postgres\"\nhosts = [\"{HOST}\"]\nport = {PORT}\n\
                 tls = \"disable\"\nlogin = {{ user = \"{ROLE}\", password = {{ file = \"{}\" }} }}\n\n",
                secret.display(),
            ),
        }
    }
}

/// Listens until the process ends; whoever comes is let in and kept.
pub fn serve(place: &Place) -> Result<()> {
    raise_limit()?;
    let address = (place.address(ADDRESS), PORT);
    let listener = TcpListener::bind(address).context("cannot listen for idle sessions")?;
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming().flatten() {
            // A client that breaks off is its own affair.
            kept.extend(greet(stream).ok());
        }
    });
    Ok(())
}

fn greet(mut stream: TcpStream) -> Result<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let body = (u32::from_be_bytes(length) as usize).saturating_sub(4);
    ensure!(body < 10_000, "not a start-up packet");
    stream.read_exact(&mut vec![0; body])?;
    stream.write_all(GREETING)?;
    Ok(stream)
}

/// Sessions of the reader's that are held until this is dropped.
pub struct Idle {
    child: Child,
    /// Its end is what they wait for.
    input: Option<ChildStdin>,
}

impl Idle {
    /// Waits until all are open.
    pub fn open(world: &World, count: usize) -> Result<Self> {
        let program = files::program("hoop-world")?;
        let mut command = world.state.command(Who::Agent(READER), program)?;
        command.args(["hold", &count.to_string()]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut said = [0; 5];
        let out = child.stdout.as_mut().context("no pipe")?;
        out.read_exact(&mut said)
            .context("the idle clients ended before all were connected")?;
        let input = child.stdin.take();
        Ok(Self { child, input })
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        drop(self.input.take());
        self.child.wait().ok();
    }
}

/// Opens `count` sessions, says so, and holds them until standard input ends.
pub fn hold(count: usize) -> Result<()> {
    raise_limit()?;
    let mut addresses = (HOST, PORT).to_socket_addrs()?;
    let address = addresses
        .next()
        .with_context(|| format!("{HOST} has no address"))?;
    let held: Result<Vec<_>> = (0..count).map(|_| log_in(address)).collect();
    let held = held?;
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    drop(held);
    Ok(())
}

fn log_in(address: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let parameters = b"\0\x03\0\0user\0app\0database\0shop\0\0";
    let length = u32::try_from(parameters.len() + 4)?;
    stream.write_all(&[&length.to_be_bytes()[..], parameters].concat())?;
    loop {
        let mut header = [0; 5];
        stream
            .read_exact(&mut header)
            .context("the connection was closed during login")?;
        let [tag, length @ ..] = header;
        let mut body = vec![0; (u32::from_be_bytes(length) as usize).saturating_sub(4)];
        stream.read_exact(&mut body)?;
        match tag {
            b'Z' => return Ok(stream),
            b'E' => bail!("refused: {}", String::from_utf8_lossy(&body)),
            _ => {}
        }
    }
}

fn raise_limit() -> Result<()> {
    let files = resource::Resource::RLIMIT_NOFILE;
    let (_, most) = getrlimit(files)?;
    setrlimit(files, most, most).context("cannot raise the limit of open files")
}

/// Memory of a process.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Bytes of physical memory that it has, shared pages by their share (`Pss`).
    pub share: u64,
    /// The most that it ever had (`VmHWM`), shared pages in full.
    pub peak: u64,
    pub resident: u64,
}

impl Memory {
    pub fn of(pid: u32) -> Result<Self> {
        let rollup = files::read(format!("/proc/{pid}/smaps_rollup").as_ref())?;
        let status = files::read(format!("/proc/{pid}/status").as_ref())?;
        Ok(Self {
            share: kilobytes(&rollup, "Pss:")?,
            peak: kilobytes(&status, "VmHWM:")?,
            resident: kilobytes(&status, "VmRSS:")?,
        })
    }

    /// Has the kernel begin [`Memory::peak`] anew.
    pub fn forget_peak(pid: u32) -> Result<()> {
        files::write(format!("/proc/{pid}/clear_refs").as_ref(), "5")
    }
}

fn kilobytes(text: &str, key: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.split_whitespace().next());
    let number = number.with_context(|| format!("no {key} is said"))?;
    Ok(number.parse::<u64>()? * 1024)
}
