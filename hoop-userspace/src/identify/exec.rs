//! Tokens that a command prints. Runs in the keeper: an environment of nothing but `PATH`, no
//! descriptors but its output, a process group of its own that is ended at the timeout, and what it
//! prints bounded. One run at a time per agent serves all that wait.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use super::token::{MAX_TOKEN, token};
use crate::config::Exec;
use crate::ids::AgentName;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Connections that may wait for one agent's command; each holds a thread.
const MOST_WAITING: usize = 32;
/// A failure is repeated to whoever asks within this time: a broken command is not run for each
/// connection.
const FAILURE_HOLDS: Duration = Duration::from_secs(1);

/// What the agents' commands printed last.
#[derive(Default)]
pub(super) struct Commands(Mutex<HashMap<AgentName, Arc<Slot>>>);

struct Slot {
    exec: Exec,
    waiting: AtomicUsize,
    last: Mutex<Option<Last>>,
}

struct Last {
    outcome: Result<Zeroizing<String>, String>,
    until: Instant,
    /// By the wall clock: when the token itself says that it ends.
    expires: Option<SystemTime>,
}

impl Commands {
    /// The agent's token, from a run that ended lately or from one that this call waits for.
    pub fn token(&self, agent: &AgentName, exec: &Exec) -> Result<Zeroizing<String>, String> {
        let slot = self.slot(agent, exec);
        if slot.waiting.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
            slot.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err("too many connections wait for its token command".to_owned());
        }
        let outcome = slot.token();
        slot.waiting.fetch_sub(1, Ordering::Relaxed);
        outcome
    }

    /// A command that was configured otherwise begins anew.
    fn slot(&self, agent: &AgentName, exec: &Exec) -> Arc<Slot> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(agent).filter(|slot| slot.exec == *exec) {
            return Arc::clone(slot);
        }
        let slot = Arc::new(Slot {
            exec: exec.clone(),
            waiting: AtomicUsize::new(0),
            last: Mutex::default(),
        });
        slots.insert(agent.clone(), Arc::clone(&slot));
        slot
    }
}

impl Slot {
    fn token(&self) -> Result<Zeroizing<String>, String> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = last.as_ref().filter(|last| last.serves()) {
            return last.outcome.clone();
        }
        let printed = run(&self.exec).and_then(|text| read(&text));
        let (outcome, holds, expires) = match printed {
            Ok((token, expires)) => (Ok(token), self.exec.refresh, expires),
            Err(why) => (Err(why), FAILURE_HOLDS, None),
        };
        *last = Some(Last {
            outcome: outcome.clone(),
            until: Instant::now() + holds,
            expires,
        });
        outcome
    }
}

impl Last {
    fn serves(&self) -> bool {
        Instant::now() < self.until && self.expires.is_none_or(|at| SystemTime::now() < at)
    }
}

/// A command's process group, which ends with this.
struct Running {
    child: Child,
    group: Pid,
}

impl Running {
    fn new(child: Child) -> Result<Self, String> {
        let group = i32::try_from(child.id()).map_err(|error| error.to_string())?;
        let group = Pid::from_raw(group);
        Ok(Self { child, group })
    }

    /// Whether the command has ended. Its status is left to be taken: until then nobody else can
    /// get the number of its group.
    fn has_ended(&self) -> Result<bool, Errno> {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        Ok(waitid(Id::Pid(self.group), look)? != WaitStatus::StillAlive)
    }

    /// Ends what is left of the group, then takes the command's status. A second call finds the
    /// status taken and ends nothing.
    fn end(&mut self) -> std::io::Result<ExitStatus> {
        if self.has_ended().is_ok() {
            // It may have ended by itself, which is what is wanted.
            let _ = killpg(self.group, Signal::SIGKILL);
        }
        self.child.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whoever wanted the status has it.
        let _ = self.end();
    }
}

/// A program inherits what signals its thread blocks, and this one is not to block any.
struct Unblocked(Option<SigSet>);

impl Unblocked {
    fn new() -> Self {
        let before = SigSet::thread_get_mask().ok();
        let _ = SigSet::empty().thread_set_mask();
        Self(before)
    }
}

impl Drop for Unblocked {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = before.thread_set_mask();
        }
    }
}

/// Runs it to its end. Its errors are left unread: they could hold the token.
fn run(exec: &Exec) -> Result<Zeroizing<Vec<u8>>, String> {
    let (program, arguments) = exec
        .command
        .split_first()
        .ok_or_else(|| "its token command is empty".to_owned())?;
    let by = Instant::now() + exec.timeout;
    let unblocked = Unblocked::new();
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("the token command {program} cannot be started: {error}"))?;
    drop(unblocked);
    let mut running = Running::new(child)?;
    let Some(out) = running.child.stdout.take() else {
        return Err(format!("the token command {program} has no output"));
    };
    let slow = || {
        let limit = exec.timeout.as_secs_f32();
        format!(
            "the token command {program} was ended after {limit} s: raise its `timeout`, or see what it waits for"
        )
    };
    let text = read_until(OwnedFd::from(out), by)
        .map_err(|error| format!("the output of {program} cannot be read: {error}"))?
        .ok_or_else(slow)?;
    if text.len() > MAX_TOKEN {
        return Err(format!(
            "the token command {program} prints more than {MAX_TOKEN} bytes"
        ));
    }
    while !running
        .has_ended()
        .map_err(|error| format!("{program}: {error}"))?
    {
        if Instant::now() >= by {
            return Err(slow());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    match running.end() {
        Ok(status) if status.success() => Ok(text),
        Ok(status) => Err(format!(
            "the token command {program} failed ({status}): run it by hand to see why"
        )),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

/// All that comes until the end, or a byte more than is allowed; `None` if it does not end in time.
fn read_until(out: OwnedFd, by: Instant) -> std::io::Result<Option<Zeroizing<Vec<u8>>>> {
    // Of full size at once, so that growing leaves no copies behind.
    let mut text = Zeroizing::new(vec![0; MAX_TOKEN + 1]);
    let mut length = 0;
    let mut file = File::from(out);
    while length < text.len() {
        let left = by.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let wait =
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)], wait) {
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let Some(rest) = text.get_mut(length..) else {
            break;
        };
        match file.read(rest)? {
            0 => break,
            n => length += n,
        }
    }
    text.truncate(length);
    Ok(Some(text))
}

/// A plain token, or an `ExecCredential` as kubectl's plugins print it. Also until when it serves,
/// as far as that can be told without believing it.
fn read(text: &[u8]) -> Result<(Zeroizing<String>, Option<SystemTime>), String> {
    #[derive(serde::Deserialize)]
    struct Credential {
        kind: String,
        status: Status,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Status {
        token: Zeroizing<String>,
        expiration_timestamp: Option<String>,
    }
    if !text.trim_ascii_start().starts_with(b"{") {
        let found = token(text, "what the token command prints")?;
        let expires = expiry(&found);
        return Ok((found, expires));
    }
    // The parser's own words could repeat the token.
    let credential: Credential = serde_json::from_slice(text)
        .ok()
        .filter(|credential: &Credential| credential.kind == "ExecCredential")
        .ok_or_else(|| {
            "what the token command prints is JSON, but no ExecCredential with status.token"
                .to_owned()
        })?;
    let status = credential.status;
    let found = token(status.token.as_bytes(), "status.token of the token command")?;
    let said = match &status.expiration_timestamp {
        None => None,
        Some(text) => Some(OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
            "status.expirationTimestamp of the token command is no time of RFC 3339".to_owned()
        })?),
    };
    let expires = said.map(SystemTime::from).into_iter();
    let expires = expires.chain(expiry(&found)).min();
    Ok((found, expires))
}

/// The `exp` of something like a JWT, unverified: it only says when to run the command again.
fn expiry(token: &str) -> Option<SystemTime> {
    #[derive(serde::Deserialize)]
    struct Payload {
        exp: f64,
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let payload: Payload = serde_json::from_slice(&payload).ok()?;
    let seconds = Duration::try_from_secs_f64(payload.exp).ok()?;
    UNIX_EPOCH.checked_add(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(script: &str, timeout: u64, refresh: u64) -> Exec {
        Exec {
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            timeout: Duration::from_millis(timeout),
            refresh: Duration::from_millis(refresh),
        }
    }

    fn once(script: &str) -> Result<String, String> {
        let token = Commands::default().token(&"a".into(), &exec(script, 2000, 1000));
        token.map(|token| token.to_string())
    }

    #[test]
    fn what_is_printed() {
        assert_eq!(once("echo ' abc '").as_deref(), Ok("abc"));
        let credential = r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"abc","expirationTimestamp":"2999-01-01T00:00:00Z"}}"#;
        assert_eq!(once(&format!("echo '{credential}'")).as_deref(), Ok("abc"));
        for (script, why) in [
            ("exit 3", "exit status: 3"),
            ("echo abc; exit 1", "failed"),
            ("true", "is empty"),
            (
                "echo '{\"kind\":\"Secret\",\"status\":{\"token\":\"abc\"}}'",
                "no ExecCredential",
            ),
            ("head -c 20000 /dev/zero | tr '\\0' a", "more than"),
            ("yes", "more than"),
        ] {
            let error = once(script).unwrap_err();
            assert!(
                error.contains(why) && !error.contains("abc"),
                "{script}: {error}"
            );
        }
        let absent = Exec {
            command: vec!["/nonexistent/command".to_owned()],
            ..exec("", 100, 100)
        };
        let error = Commands::default().token(&"a".into(), &absent).unwrap_err();
        assert!(error.contains("cannot be started"), "{error}");
    }

    #[test]
    fn nothing_is_inherited() {
        // `env` without a shell, which would add variables of its own.
        let env = Exec {
            command: vec!["/usr/bin/env".to_owned()],
            ..exec("", 2000, 1000)
        };
        let printed = run(&env).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&printed).trim(),
            format!("PATH={PATH}")
        );
    }

    #[test]
    fn the_whole_group_ends_at_the_timeout() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let began = Instant::now();
        let script = format!("(sleep 1; touch {}) & sleep 30", mark.display());
        let error = Commands::default()
            .token(&"a".into(), &exec(&script, 200, 1000))
            .unwrap_err();
        assert!(error.contains("was ended after 0.2 s"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(2));
        std::thread::sleep(Duration::from_millis(1300));
        assert!(!mark.exists(), "a child of the command lives on");
    }

    #[test]
    fn what_a_command_leaves_behind_ends_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let script = format!(
            "(sleep 1; touch {}) >/dev/null 2>&1 & echo abc",
            mark.display()
        );
        assert_eq!(once(&script).as_deref(), Ok("abc"));
        std::thread::sleep(Duration::from_millis(1300));
        assert!(!mark.exists(), "a child of the command lives on");
    }

    #[test]
    fn one_run_serves_all_until_it_is_old() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let script = format!("echo x >> {}; sleep 0.1; echo abc", log.display());
        let (commands, exec) = (Commands::default(), exec(&script, 2000, 1500));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| commands.token(&"a".into(), &exec).unwrap());
            }
        });
        let runs = || std::fs::read_to_string(&log).unwrap().lines().count();
        assert_eq!(runs(), 1);
        std::thread::sleep(Duration::from_millis(1600));
        commands.token(&"a".into(), &exec).unwrap();
        assert_eq!(runs(), 2);
    }

    #[test]
    fn a_token_past_its_own_end_is_not_kept() {
        let token = |exp: u64| {
            let payload = URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{exp}}}"));
            expiry(&format!("e30.{payload}.x"))
        };
        assert_eq!(token(5), Some(UNIX_EPOCH + Duration::from_secs(5)));
        assert_eq!(expiry("opaque"), None);
        let last = Last {
            outcome: Ok(Zeroizing::default()),
            until: Instant::now() + Duration::from_secs(9),
            expires: token(5),
        };
        assert!(!last.serves());
    }
}
