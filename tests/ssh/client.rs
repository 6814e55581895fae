//! A client that lives while the test goes on.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use hoop_tests::{PATIENCE, Ran, WRITER, Who, World};

type Text = Arc<Mutex<Vec<u8>>>;

/// Its output is collected as it comes.
pub struct Client {
    child: Child,
    out: Text,
    error: Text,
    readers: Vec<JoinHandle<()>>,
}

impl Client {
    pub fn start(world: &World, arguments: &[&str]) -> Self {
        let mut ssh = world.ssh(Who::Agent(WRITER), "ssh").unwrap();
        ssh.args(arguments);
        Self::of(ssh)
    }

    pub fn of(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (out, error) = (Text::default(), Text::default());
        let readers = vec![
            collect(child.stdout.take().unwrap(), out.clone()),
            collect(child.stderr.take().unwrap(), error.clone()),
        ];
        Self {
            child,
            out,
            error,
            readers,
        }
    }

    pub fn say(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    pub fn end_of_input(&mut self) {
        self.child.stdin = None;
    }

    /// Standard output so far.
    pub fn printed(&self) -> String {
        text(&self.out)
    }

    /// Standard error so far.
    pub fn said(&self) -> String {
        text(&self.error)
    }

    /// Ends it as a lost terminal would.
    pub fn hang_up(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn end(mut self) -> Ran {
        self.end_of_input();
        let until = Instant::now() + PATIENCE;
        let code = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code();
            }
            assert!(
                Instant::now() < until,
                "it does not end: {}{}",
                self.printed(),
                self.said()
            );
            std::thread::sleep(std::time::Duration::from_millis(10));
        };
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        Ran {
            code,
            stdout: self.printed(),
            stderr: self.said(),
        }
    }
}

fn text(bytes: &Text) -> String {
    let bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn collect(mut from: impl Read + Send + 'static, into: Text) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            let mut all = into.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend_from_slice(&piece[..count]);
        }
    })
}
