//! From an accepted socket to a worker that has it: who connected, as which agent, with which
//! token; then over the channel.
//!
//! Nothing here may hold up the next connection: reading `/proc` and token files happens on threads
//! of its own, a bounded number at once, and each step has a deadline after which the connection is
//! reset.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use hoop_common::Origin;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::journal::Entry;
use super::supervise::{Want, Whose};
use super::{Parts, lock};
use crate::accept::Namespace;
use crate::attribute::containers::Isolated;
use crate::attribute::{self, Process, Seen};
use crate::config::{Agent, Config, Mode};
use crate::handover::{Handover, ToWorker, TokenText, Unmapped};
use crate::identify::{self, Choice};
use crate::ids::AgentName;

/// Connections between accept and handover.
const AT_ONCE: usize = 512;
/// Those of one cgroup: an agent whose connections take long leaves room for others'.
const OF_ONE: usize = AT_ONCE / 4;
/// For reading about the process and its token; a token command's own timeout comes on top.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// For a worker to be there: longer than a dead one needs to be replaced.
const WORKER_WITHIN: Duration = Duration::from_secs(3);
const SENT_WITHIN: Duration = Duration::from_secs(5);

/// A captured connection.
pub struct Taken {
    pub stream: TcpStream,
    pub origin: Origin,
    pub destination: SocketAddr,
    /// Where it comes from, if that is not the keeper's own.
    pub namespace: Option<Namespace>,
}

pub struct Handing {
    parts: Arc<Parts>,
    places: Arc<Semaphore>,
    taken: Arc<Mutex<HashMap<u64, usize>>>,
    count: AtomicU64,
}

/// One of [`AT_ONCE`], and of its cgroup's.
struct Place {
    _all: OwnedSemaphorePermit,
    cgroup: u64,
    taken: Arc<Mutex<HashMap<u64, usize>>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(count) = taken.get_mut(&self.cgroup) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.cgroup);
            }
        }
    }
}

fn place(
    places: &Arc<Semaphore>,
    taken: &Arc<Mutex<HashMap<u64, usize>>>,
    cgroup: u64,
) -> Result<Place, &'static str> {
    let all = places.clone().try_acquire_owned();
    let all = all.map_err(|_| "too many connections wait")?;
    let mut counts = lock(taken);
    let count = counts.entry(cgroup).or_default();
    if *count >= OF_ONE {
        return Err("too many connections of its cgroup wait");
    }
    *count += 1;
    Ok(Place {
        _all: all,
        cgroup,
        taken: taken.clone(),
    })
}

impl Handing {
    /// Counts on from `connections`.
    pub fn new(parts: Arc<Parts>, connections: u64) -> Self {
        Self {
            parts,
            places: Arc::new(Semaphore::new(AT_ONCE)),
            taken: Arc::default(),
            count: AtomicU64::new(connections),
        }
    }

    pub fn connections(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Takes one connection from here on, without waiting.
    pub fn take(self: &Arc<Self>, taken: Taken) {
        self.parts.counters.accepted.fetch_add(1, Ordering::Relaxed);
        let place = match place(&self.places, &self.taken, taken.origin.cgroup_id) {
            Ok(place) => place,
            Err(reason) => return self.turn_away(&taken, reason),
        };
        let this = self.clone();
        let entered = self.parts.gate.enter();
        tokio::spawn(async move {
            let _entered = entered;
            if let Err(reason) = this.hand_over(&taken, place).await {
                this.turn_away(&taken, reason);
            }
        });
    }

    async fn hand_over(&self, taken: &Taken, place: Place) -> Result<(), &'static str> {
        let accepted = SystemTime::now();
        let parts = self.parts.clone();
        let config = parts.config();
        let seen = seen(&taken.origin);
        let within = READ_WITHIN + identify::token::longest(&config);
        let reading = tokio::task::spawn_blocking(move || {
            // Held until the reading ends, however long: it bounds the threads that may hang.
            let _place = place;
            let process = attribute::read(&seen, &parts.cgroups);
            let whose = whose(&config, &parts, &process);
            (process, whose)
        });
        let read = tokio::time::timeout(within, reading).await;
        let (process, whose) = match read {
            Ok(Ok(read)) => read,
            Ok(Err(_)) => return Err("reading about its process failed"),
            Err(_) => return Err("reading about its process took too long"),
        };
        let handover = Handover {
            connection: self.count.fetch_add(1, Ordering::Relaxed),
            accepted,
            agent: whose.agent,
            mode: whose.mode,
            destination: taken.destination,
            observed: self
                .parts
                .names_of(taken.origin.cgroup_id, taken.destination.ip()),
            process,
            token: whose.token,
            refused: whose.refused,
            namespace: taken.namespace,
        };
        let message = ToWorker::Connection(Box::new(handover));
        self.send(&message, &taken.stream).await
    }

    /// A worker that dies while it is being told is tried again with the next one, once.
    async fn send(&self, message: &ToWorker, stream: &TcpStream) -> Result<(), &'static str> {
        let by = Instant::now() + WORKER_WITHIN;
        loop {
            let left = by.saturating_duration_since(Instant::now());
            let Some(channel) = self.parts.worker.ready(left).await else {
                return Err("no worker was ready in time");
            };
            let sending = channel.send(message, Some(stream.as_fd()));
            match tokio::time::timeout(SENT_WITHIN, sending).await {
                Ok(Ok(())) => {
                    self.parts
                        .counters
                        .handed_over
                        .fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                Ok(Err(error)) if left > Duration::ZERO => {
                    tracing::debug!(%error, "a worker went away with a connection");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Ok(Err(_)) => return Err("the worker went away"),
                Err(_) => return Err("the worker is too far behind"),
            }
        }
    }

    fn turn_away(&self, taken: &Taken, reason: &str) {
        reset(&taken.stream);
        self.parts.counters.busy.fetch_add(1, Ordering::Relaxed);
        self.parts.journal.write(&Entry::Busy {
            destination: taken.destination,
            cgroup_id: taken.origin.cgroup_id,
            reason: reason.into(),
            unwritten: 0,
        });
    }
}

fn seen(origin: &Origin) -> Seen {
    Seen {
        pid: origin.tgid,
        tid: origin.pid,
        uid: origin.uid,
        comm: origin.comm,
        cgroup_id: origin.cgroup_id,
    }
}

/// Whose connection it is.
struct Mapped {
    agent: Option<AgentName>,
    mode: Mode,
    token: TokenText,
    refused: Option<Unmapped>,
}

impl Mapped {
    /// Enforced, which refuses it in the worker, where it is said and recorded.
    fn nobodys(refused: Option<Unmapped>) -> Self {
        let why = match &refused {
            Some(refused) => refused.why.clone(),
            None => "no agent is configured for its cgroup".into(),
        };
        Self {
            agent: None,
            mode: Mode::Enforce,
            token: TokenText::Missing(why),
            refused,
        }
    }
}

fn whose(config: &Config, parts: &Parts, process: &Process) -> Mapped {
    let look = parts.look(config);
    let agent = match identify::agent_for(config, &process.cgroup, &look) {
        Choice::Of(agent) => agent,
        Choice::Nobody => return Mapped::nobodys(None),
        Choice::Unknown { perhaps, why } => {
            return Mapped::nobodys(Some(unknown(perhaps, process, &why)));
        }
    };
    if agent.mode == Mode::Enforce {
        let roots = &config.containers;
        let isolated = parts
            .containers
            .isolated(roots, &process.cgroup, Some(process));
        if let Some(isolated) = isolated {
            return Mapped::nobodys(Some(ungovernable(agent, process, &isolated)));
        }
    }
    Mapped {
        agent: Some(agent.name.clone()),
        mode: agent.mode,
        token: parts.tokens.read(agent, process),
        refused: None,
    }
}

fn unknown(perhaps: &Agent, process: &Process, why: &str) -> Unmapped {
    Unmapped {
        why: format!(
            "it cannot be told whether the container in the cgroup {} is agent {}, so it is nobody: {why}",
            process.cgroup, perhaps.name
        ),
        next: format!(
            "an operator must look at the container and at [containers]; `hoop whoami --pid {}` says what hoop sees",
            process.pid
        ),
    }
}

fn ungovernable(agent: &Agent, process: &Process, isolated: &Isolated) -> Unmapped {
    Unmapped {
        why: format!(
            "the container in the cgroup {} is isolated by {} ({}), so hoop sees only some of its connections and agent {} is refused all of them",
            process.cgroup,
            isolated.by.text(),
            isolated.seen,
            agent.name
        ),
        next: "an operator must run this agent with the host's kernel (runc or crun), or map it to no agent".into(),
    }
}

/// Answers the worker's questions for the token that a source holds now.
pub async fn answer_for_tokens(parts: Arc<Parts>, mut wanted: mpsc::Receiver<Want>) {
    // A token command that hangs keeps nobody else waiting, and not without bound.
    let places = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(want) = wanted.recv().await {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let parts = parts.clone();
        tokio::spawn(async move {
            let _entered = want.entered;
            let reading = tokio::task::spawn_blocking(move || {
                let _place = place;
                let config = parts.config();
                match &want.whose {
                    Whose::Agent(name) => match config.agents.iter().find(|a| a.name == *name) {
                        Some(agent) => parts.tokens.read_again(agent),
                        None => TokenText::Missing("the agent is no longer configured".into()),
                    },
                    Whose::Login(name) => {
                        let resource = config.resources.iter().find(|r| r.name == *name);
                        match resource {
                            Some(resource) => parts.tokens.of_login(resource),
                            None => {
                                TokenText::Missing("the resource is no longer configured".into())
                            }
                        }
                    }
                }
            });
            let Ok(token) = reading.await else { return };
            let request = want.request;
            let answer = ToWorker::Token { request, token };
            if let Err(error) = want.channel.send(&answer, None).await {
                tracing::debug!(%error, "a worker went away before it had its answer");
            }
        });
    }
}

/// Makes the close that follows a reset.
fn reset(stream: &TcpStream) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    let option = nix::sys::socket::sockopt::Linger;
    // Where it fails the client sees an orderly close: no worse than not having tried.
    let _ = nix::sys::socket::setsockopt(&stream.as_fd(), option, &linger);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cgroup_leaves_room_for_others() {
        let (places, taken) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::default());
        let mut held: Vec<Place> = (0..OF_ONE)
            .map(|_| place(&places, &taken, 1).unwrap())
            .collect();
        let refused = place(&places, &taken, 1).err().unwrap();
        assert!(refused.contains("of its cgroup"), "{refused}");
        held.push(place(&places, &taken, 2).unwrap());
        held.remove(0);
        held.push(place(&places, &taken, 1).unwrap());
        drop(held);
        assert!(lock(&taken).is_empty());
        assert_eq!(places.available_permits(), AT_ONCE);
    }
}
