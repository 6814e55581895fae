//! The control socket: one request and one answer per connection, each a line of JSON.
//!
//! Root and members of the worker's group may connect, and hoop's own accounts may not, the worker's
//! and the console's: the socket must not be a way out of either.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::gate::Gate;
use super::people::Peer;
use crate::ask::Verdict;
use nix::unistd::{Uid, User, chown};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// The socket's name in the runtime folder.
pub const SOCKET: &str = "control.sock";
/// Longest request, in bytes.
const MAX_REQUEST: u64 = 4096;
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests that are served at once.
const AT_ONCE: usize = 16;

/// What can be asked.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    Status,
    /// Whether what is in force is what the files say now.
    InForce,
    /// What was seen of agents in discover mode, and what was refused.
    Discover,
    Kill {
        session: String,
        reason: String,
    },
    /// Has a session stand still until somebody lets it go on; it ends if nobody does.
    Freeze {
        session: String,
        reason: String,
        /// How long at most; `None`: as long as a question waits.
        seconds: Option<u32>,
    },
    /// Lets it go on.
    Thaw {
        session: String,
        reason: String,
    },
    /// Ends all of an agent's sessions.
    KillAgent {
        agent: String,
        reason: String,
    },
    /// Lets an agent, or one instance of it, do nothing any more.
    Suspend {
        agent: String,
        instance: Option<String>,
        reason: String,
    },
    Resume {
        agent: String,
        instance: Option<String>,
        reason: String,
    },
    /// Questions that wait or may be used; with `all` those that are over, too.
    Approvals {
        all: bool,
    },
    /// One question in full.
    Approval {
        question: String,
    },
    Vote {
        question: String,
        verdict: Verdict,
        reason: String,
        break_glass: bool,
    },
    Revoke {
        question: String,
        reason: String,
    },
    /// The list of bypasses changed: look at it now.
    Bypasses,
    /// The same, and whether the ledger has that this one was opened.
    BypassWritten {
        number: u64,
    },
    /// A code for the account that asks, to sign in at the console with.
    ConsoleLogin,
    /// Has another build take over in place. The answer comes from that build.
    Upgrade {
        /// The program; `None`: the one that the daemon was started from, as it is there now.
        to: Option<PathBuf>,
        /// Only whether it could.
        check: bool,
    },
}

/// What is answered.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Ok(Value),
    Error(String),
}

/// Whoever answers; the keeper.
pub trait Answers: Send + Sync + 'static {
    fn answer(&self, ask: Ask, peer: Peer) -> impl Future<Output = Answer> + Send;

    /// [`Ask::Upgrade`], which takes longer than anybody else is waited for. Whoever asks is answered
    /// over the connection, by this build or by the next.
    fn upgrade(&self, to: Option<PathBuf>, check: bool, peer: Peer, client: UnixStream);
}

/// Makes the socket, replacing what an earlier keeper left.
pub fn listen(folder: &Path, worker: &User) -> io::Result<UnixListener> {
    let path = folder.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    chown(&path, Some(Uid::from_raw(0)), Some(worker.gid))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Goes on with a listener that the keeper before had.
pub fn take_over(listener: std::os::unix::net::UnixListener) -> io::Result<UnixListener> {
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Writes one answer; the client may have gone.
pub async fn answer(mut client: UnixStream, answer: &Answer) {
    let written = async {
        let mut line = serde_json::to_vec(answer)?;
        line.push(b'\n');
        client.write_all(&line).await?;
        client.shutdown().await
    };
    let written: Result<io::Result<()>, _> = tokio::time::timeout(PATIENCE, written).await;
    if !matches!(written, Ok(Ok(()))) {
        tracing::debug!("whoever asked for an upgrade has gone");
    }
}

/// Serves the socket for as long as the keeper lives; while the gate is shut, what comes waits.
pub async fn serve(
    listener: Arc<UnixListener>,
    own: Vec<Uid>,
    answers: Arc<impl Answers>,
    gate: Gate,
) {
    let places = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let own: Arc<[Uid]> = own.into();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        gate.open().await;
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = gate.shut() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let (answers, own) = (answers.clone(), own.clone());
                let entered = gate.enter();
                tokio::spawn(async move {
                    let served = tokio::time::timeout(PATIENCE, one(stream, &own, &*answers));
                    if let Ok(Err(error)) = served.await {
                        tracing::debug!(%error, "a control connection failed");
                    }
                    drop((place, entered));
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket cannot accept");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn one(stream: UnixStream, own: &[Uid], answers: &impl Answers) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    let mut stream = BufReader::new(stream);
    // Read in any case: closing before would take the answer away with a reset.
    let mut line = String::new();
    (&mut stream).take(MAX_REQUEST).read_line(&mut line).await?;
    let answer = match serde_json::from_str(&line) {
        _ if own.iter().any(|own| own.as_raw() == peer.uid()) => {
            Answer::Error("hoop's own accounts may not use the control socket".into())
        }
        Ok(ask) => {
            let (uid, pid) = (peer.uid(), peer.pid());
            let peer = Peer { uid, pid };
            if let Ask::Upgrade { to, check } = ask {
                answers.upgrade(to, check, peer, stream.into_inner());
                return Ok(());
            }
            answers.answer(ask, peer).await
        }
        Err(error) => Answer::Error(format!("not a request: {error}")),
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.shutdown().await
}

/// Why the daemon could not be asked, for the command line.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error(
        "no daemon answers at {path}: is hoop running (`systemctl status hoop`), and may you use it (root, or the group of its worker)?"
    )]
    Connect { path: PathBuf, source: io::Error },
    #[error("the daemon's answer cannot be read: {0}")]
    Answer(#[from] io::Error),
    #[error("the daemon's answer is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("{0}")]
    Refused(String),
}

/// Asks the daemon whose runtime folder this is.
pub fn ask(folder: &Path, ask: &Ask) -> Result<Value, AskError> {
    ask_within(folder, ask, PATIENCE)
}

/// The same, waiting so long for the answer.
pub fn ask_within(folder: &Path, ask: &Ask, patience: Duration) -> Result<Value, AskError> {
    use std::io::{BufRead, Write};
    let path = folder.join(SOCKET);
    let mut stream = std::os::unix::net::UnixStream::connect(&path)
        .map_err(|source| AskError::Connect { path, source })?;
    stream.set_read_timeout(Some(patience))?;
    let mut line = serde_json::to_vec(ask)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    std::io::BufReader::new(stream).read_line(&mut answer)?;
    if answer.is_empty() {
        let ended = "it ended before it answered; its log says why (`journalctl -u hoop`)";
        return Err(AskError::Answer(io::Error::other(ended)));
    }
    match serde_json::from_str(&answer)? {
        Answer::Ok(value) => Ok(value),
        Answer::Error(text) => Err(AskError::Refused(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    impl Answers for Echo {
        fn upgrade(&self, to: Option<PathBuf>, _: bool, _: Peer, client: UnixStream) {
            tokio::spawn(async move {
                answer(client, &Answer::Error(format!("no upgrade to {to:?}"))).await;
            });
        }

        async fn answer(&self, ask: Ask, _: Peer) -> Answer {
            match ask {
                Ask::Kill { session, .. } => Answer::Error(format!("no session {session}")),
                other => Answer::Ok(serde_json::to_value(other).unwrap()),
            }
        }
    }

    #[tokio::test]
    async fn a_question_is_answered_and_a_bad_one_is_told_why() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        // The tests' own account stands for an operator, another for the worker.
        tokio::spawn(serve(
            Arc::new(listener),
            vec![Uid::from_raw(4_000_000)],
            Arc::new(Echo),
            Gate::default(),
        ));
        let path = folder.path().to_owned();
        let (status, kill) = tokio::task::spawn_blocking(move || {
            let kill = Ask::Kill {
                session: "x".into(),
                reason: String::new(),
            };
            let upgrade = Ask::Upgrade {
                to: None,
                check: false,
            };
            let refused = ask(&path, &upgrade).unwrap_err().to_string();
            assert_eq!(refused, "no upgrade to None");
            (ask(&path, &Ask::Status), ask(&path, &kill))
        })
        .await
        .unwrap();
        assert_eq!(status.unwrap(), serde_json::json!({"ask": "status"}));
        assert_eq!(kill.unwrap_err().to_string(), "no session x");

        let mut stream = UnixStream::connect(folder.path().join(SOCKET))
            .await
            .unwrap();
        stream.write_all(b"{\"ask\":\"shell\"}\n").await.unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).await.unwrap();
        assert!(answer.starts_with("{\"error\":\"not a request"), "{answer}");
    }

    #[tokio::test]
    async fn hoops_own_accounts_are_not_answered() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        let own = vec![Uid::from_raw(4_000_000), Uid::current()];
        tokio::spawn(serve(
            Arc::new(listener),
            own,
            Arc::new(Echo),
            Gate::default(),
        ));
        let path = folder.path().to_owned();
        let asked = tokio::task::spawn_blocking(move || ask(&path, &Ask::Status))
            .await
            .unwrap();
        assert!(matches!(asked, Err(AskError::Refused(_))));
    }
}
