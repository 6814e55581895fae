//! The worker's life: started, configured, watched, and started again when it dies.
//!
//! The keeper holds the listeners meanwhile, so what an agent notices of a worker's death is the
//! end of its sessions and a second's wait.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::process::Child;
use tokio::sync::{mpsc, oneshot, watch};

use super::approvals::ForDesk;
use super::child;
use super::courier::Delivered;
use super::journal::{Entry, Journal};
use super::suspended::Suspended;
use crate::handover::{
    AgentStanding, Channel, ChannelError, Freeze, FromWorker, LiveSession, ToWorker,
};
use crate::identify::{Counts, Suspensions};
use crate::ids::{AgentName, ResourceName, SessionId};

/// A worker that has not taken its configuration by then is killed.
const CONFIGURED_WITHIN: Duration = Duration::from_secs(20);
/// The pause before a worker is started again, doubled each time it dies young.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A worker that lived this long did not die young.
const GROWN_UP: Duration = Duration::from_secs(10);
/// What a drained worker has beyond its deadline.
const GRACE: Duration = Duration::from_secs(5);
/// Sessions that are believed in one answer.
const MAX_LISTED: usize = 100_000;

/// A configuration on its way into force.
pub struct Candidate {
    pub epoch: u64,
    /// [`crate::config::Bundle`] in its wire form.
    pub bundle: zeroize::Zeroizing<Vec<u8>>,
}

/// The worker as others see it.
#[derive(Clone, Default)]
pub struct WorkerNow {
    pub pid: Option<u32>,
    /// Present once it is configured: connections are welcome.
    pub ready: Option<Arc<Channel>>,
    pub restarts: u64,
}

/// What the rest of the keeper may ask of the worker.
#[derive(Clone)]
pub struct Worker {
    now: watch::Receiver<WorkerNow>,
    wishes: mpsc::Sender<Wish>,
}

/// How the agents' identities stand, and what was counted.
#[derive(Clone, Debug, Default)]
pub struct Agents {
    pub standings: Vec<AgentStanding>,
    pub counts: Counts,
}

/// The worker asks what a token source holds now; the answer goes to this channel.
pub struct Want {
    pub request: u64,
    pub whose: Whose,
    pub channel: Arc<Channel>,
}

/// Whose token source it is.
pub enum Whose {
    Agent(AgentName),
    /// Of the login that a resource has.
    Login(ResourceName),
}

enum Wish {
    Configure(Arc<Candidate>, oneshot::Sender<Result<(), String>>),
    List(oneshot::Sender<Vec<LiveSession>>),
    Agents(oneshot::Sender<Agents>),
    Kill(SessionId, String, oneshot::Sender<bool>),
    Freeze(SessionId, Freeze, oneshot::Sender<bool>),
    Drain(Duration, oneshot::Sender<()>),
    /// Ends the worker at this end of a channel, if it is still the one that lives.
    Replace(Arc<Channel>, String),
}

/// How a worker is started.
pub struct Recipe {
    pub user: String,
    pub arguments: Vec<String>,
}

/// Who hears what the worker says beside its answers.
pub struct Ears {
    pub wants: mpsc::Sender<Want>,
    pub desk: mpsc::Sender<ForDesk>,
    pub deliveries: mpsc::Sender<Delivered>,
}

/// Starts supervising; the task ends after [`Worker::drain`].
pub fn start(
    recipe: Recipe,
    journal: Arc<Journal>,
    suspended: Arc<Suspended>,
    ears: Ears,
) -> Worker {
    let (tell, now) = watch::channel(WorkerNow::default());
    let (wishes, asked) = mpsc::channel(64);
    let Ears {
        wants,
        desk,
        deliveries,
    } = ears;
    let supervisor = Supervisor {
        recipe,
        journal,
        desk,
        deliveries,
        tell,
        asked,
        current: None,
        suspended,
        wants,
        lists: Vec::new(),
        agents: Vec::new(),
        steered: Vec::new(),
    };
    tokio::spawn(supervisor.run());
    Worker { now, wishes }
}

impl Worker {
    pub fn now(&self) -> WorkerNow {
        self.now.borrow().clone()
    }

    /// The channel to a worker that takes connections, waiting for one for a while.
    pub async fn ready(&self, patience: Duration) -> Option<Arc<Channel>> {
        let mut now = self.now.clone();
        let waited = tokio::time::timeout(patience, now.wait_for(|now| now.ready.is_some())).await;
        waited.ok()?.ok()?.ready.clone()
    }

    /// Offers a configuration. It is in force, for this worker and those after it, if it is taken.
    pub async fn configure(&self, candidate: Arc<Candidate>) -> Result<(), String> {
        let answer = self.wish(|reply| Wish::Configure(candidate, reply)).await;
        answer.unwrap_or_else(|| Err("no worker answers".into()))
    }

    /// The sessions that go on now; none if no worker answers.
    pub async fn sessions(&self) -> Vec<LiveSession> {
        let asked = self.wish(Wish::List);
        let answer = tokio::time::timeout(Duration::from_secs(3), asked).await;
        answer.ok().flatten().unwrap_or_default()
    }

    /// How each agent's identity stands; nothing if no worker answers.
    pub async fn agents(&self) -> Agents {
        let asked = self.wish(Wish::Agents);
        let answer = tokio::time::timeout(Duration::from_secs(3), asked).await;
        answer.ok().flatten().unwrap_or_default()
    }

    /// Ends a session; says whether there was one.
    pub async fn kill(&self, session: SessionId, reason: String) -> bool {
        let asked = self.wish(|reply| Wish::Kill(session, reason, reply));
        let answer = tokio::time::timeout(Duration::from_secs(3), asked).await;
        answer.ok().flatten().unwrap_or(false)
    }

    /// Has a session stand still, or go on; says whether there was one, and whether it did.
    pub async fn freeze(&self, session: SessionId, freeze: Freeze) -> bool {
        let asked = self.wish(|reply| Wish::Freeze(session, freeze, reply));
        let answer = tokio::time::timeout(Duration::from_secs(3), asked).await;
        answer.ok().flatten().unwrap_or(false)
    }

    /// Lets sessions finish within `within`, then ends them and the worker.
    pub async fn drain(&self, within: Duration) {
        self.wish(|reply| Wish::Drain(within, reply)).await;
    }

    /// Ends a worker that does not do its part; another is started.
    pub async fn replace(&self, channel: Arc<Channel>, why: String) {
        // Gone only when the keeper is.
        let _ = self.wishes.send(Wish::Replace(channel, why)).await;
    }

    async fn wish<T>(&self, wish: impl FnOnce(oneshot::Sender<T>) -> Wish) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.wishes.send(wish(reply)).await.ok()?;
        answer.await.ok()
    }
}

struct Supervisor {
    recipe: Recipe,
    journal: Arc<Journal>,
    /// What people are asked.
    desk: mpsc::Sender<ForDesk>,
    /// What became of messages to channels.
    deliveries: mpsc::Sender<Delivered>,
    tell: watch::Sender<WorkerNow>,
    asked: mpsc::Receiver<Wish>,
    /// What every new worker gets.
    current: Option<Arc<Candidate>>,
    suspended: Arc<Suspended>,
    wants: mpsc::Sender<Want>,
    lists: Vec<(oneshot::Sender<Vec<LiveSession>>, Vec<LiveSession>)>,
    agents: Vec<(oneshot::Sender<Agents>, Agents)>,
    /// Sessions that were told to end, to stand still or to go on, and who waits for the answer.
    steered: Vec<(SessionId, oneshot::Sender<bool>)>,
}

/// A configuration that was sent and not answered yet.
struct Offered {
    candidate: Arc<Candidate>,
    reply: Option<oneshot::Sender<Result<(), String>>>,
    by: Instant,
}

/// Why one worker's life ended.
enum Ended {
    Died(String),
    /// As was wished.
    Drained(oneshot::Sender<()>),
    /// Nobody can wish for anything any more.
    Unwanted,
}

impl Supervisor {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let born = Instant::now();
            let ended = self.life().await;
            let pid = self.tell.borrow().pid;
            self.tell.send_modify(|now| {
                now.pid = None;
                now.ready = None;
            });
            self.lists.clear();
            self.agents.clear();
            self.steered.clear();
            // Gone only when the keeper is.
            let _ = self.desk.send(ForDesk::WorkerGone).await;
            match ended {
                Ended::Died(why) => self.journal.write(&Entry::WorkerDied { pid, why }),
                Ended::Drained(reply) => {
                    let _ = reply.send(());
                    return;
                }
                Ended::Unwanted => return,
            }
            self.tell.send_modify(|now| now.restarts += 1);
            pause = if born.elapsed() >= GROWN_UP {
                FIRST_PAUSE
            } else {
                (pause * 2).min(LONGEST_PAUSE)
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn life(&mut self) -> Ended {
        let (mut child, channel) =
            match child::spawn("worker", &self.recipe.user, &self.recipe.arguments) {
                Ok(started) => started,
                Err(error) => return Ended::Died(format!("it could not be started: {error}")),
            };
        let channel = Arc::new(channel);
        let pid = child.id();
        self.tell.send_modify(|now| now.pid = pid);
        // First of all: no worker may let in whom another had to refuse.
        let mut suspended = self.suspended.subscribe();
        if let Err(error) = tell_suspended(&channel, &mut suspended).await {
            return self.put_down(child, error.to_string()).await;
        }
        let mut offered = None;
        if let Some(candidate) = self.current.clone() {
            match offer(&channel, candidate, None).await {
                Ok(sent) => offered = Some(sent),
                Err(error) => return self.put_down(child, error.to_string()).await,
            }
        }
        let mut draining = None;
        loop {
            let late = offered.as_ref().map(|o: &Offered| o.by);
            tokio::select! {
                status = child.wait() => return match draining {
                    Some(reply) => Ended::Drained(reply),
                    None => Ended::Died(child::how(status)),
                },
                message = channel.receive() => {
                    let error = match message {
                        Ok(Some((FromWorker::Question(message), _))) => {
                            // It waits neither for the disk nor for this worker.
                            let _ = self.desk.send(ForDesk::Said(message)).await;
                            continue;
                        }
                        Ok(Some((message, _))) => {
                            self.heard(message, &mut offered, &channel);
                            continue;
                        }
                        // Its exit status follows and says more.
                        Ok(None) => "it closed its socket".to_owned(),
                        Err(error) => error.to_string(),
                    };
                    let ended = self.put_down(child, error).await;
                    return match draining {
                        Some(reply) => Ended::Drained(reply),
                        None => ended,
                    };
                }
                Ok(()) = suspended.changed() => {
                    if let Err(error) = tell_suspended(&channel, &mut suspended).await {
                        tracing::debug!(%error, "the worker could not be told who is suspended");
                    }
                }
                wish = self.asked.recv() => match wish {
                    None => return Ended::Unwanted,
                    Some(Wish::Drain(within, reply)) => {
                        let millis = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
                        let _ = channel.send(&ToWorker::Drain { within: millis }, None).await;
                        self.tell.send_modify(|now| now.ready = None);
                        draining = Some(reply);
                        offered = None;
                        tokio::spawn(kill_after(child.id(), within + GRACE, self.tell.subscribe()));
                    }
                    Some(Wish::Replace(of, why)) if Arc::ptr_eq(&of, &channel) => {
                        let ended = self.put_down(child, why).await;
                        return match draining {
                            Some(reply) => Ended::Drained(reply),
                            None => ended,
                        };
                    }
                    Some(wish) => self.grant(wish, &channel, &mut offered).await,
                },
                () = at(late) => {
                    return self.put_down(child, "it did not take its configuration in time".into()).await;
                }
            }
        }
    }

    async fn grant(&mut self, wish: Wish, channel: &Channel, offered: &mut Option<Offered>) {
        match wish {
            Wish::Configure(_, reply) if offered.is_some() => {
                let _ = reply.send(Err("another configuration is being taken".into()));
            }
            Wish::Configure(candidate, reply) => {
                // A failure shows as the worker's end; the reply is dropped then, which says no.
                *offered = offer(channel, candidate, Some(reply)).await.ok();
            }
            Wish::List(reply) => {
                self.lists.push((reply, Vec::new()));
                if self.lists.len() == 1 {
                    let _ = channel.send(&ToWorker::ListSessions, None).await;
                }
            }
            Wish::Agents(reply) => {
                self.agents.push((reply, Agents::default()));
                if self.agents.len() == 1 {
                    let _ = channel.send(&ToWorker::ListAgents, None).await;
                }
            }
            Wish::Kill(session, reason, reply) => {
                self.steered.push((session, reply));
                let _ = channel
                    .send(&ToWorker::Kill { session, reason }, None)
                    .await;
            }
            Wish::Freeze(session, freeze, reply) => {
                self.steered.push((session, reply));
                let _ = channel
                    .send(&ToWorker::Freeze { session, freeze }, None)
                    .await;
            }
            Wish::Drain(..) | Wish::Replace(..) => {}
        }
    }

    fn heard(
        &mut self,
        message: FromWorker,
        offered: &mut Option<Offered>,
        channel: &Arc<Channel>,
    ) {
        match message {
            FromWorker::Configured { epoch, outcome } => {
                let Some(offer) = offered.take_if(|o| o.candidate.epoch == epoch) else {
                    return;
                };
                if outcome.is_ok() {
                    self.current = Some(offer.candidate);
                    self.tell
                        .send_modify(|now| now.ready = Some(channel.clone()));
                    let pid = self.tell.borrow().pid;
                    self.journal.write(&Entry::WorkerReady { pid, epoch });
                } else if let (Err(why), None) = (&outcome, &offer.reply) {
                    // It took the same one before: a worker of its own would not help.
                    self.journal.write(&Entry::Reload {
                        epoch,
                        error: Some(why.clone()),
                    });
                }
                if let Some(reply) = offer.reply {
                    let _ = reply.send(outcome);
                }
            }
            FromWorker::Sessions { part, last } => self.listed(part, last),
            FromWorker::Agents { part, counts, last } => self.agents_listed(&part, counts, last),
            FromWorker::Suspend(suspension) => {
                if let Err(error) = self.suspended.suspend(suspension) {
                    tracing::error!(%error, "a suspension does not outlive this process");
                }
            }
            FromWorker::WantToken { request, agent } => {
                self.wanted(request, Whose::Agent(agent), channel);
            }
            FromWorker::WantLogin { request, resource } => {
                self.wanted(request, Whose::Login(resource), channel);
            }
            FromWorker::Delivered { number, problem } => {
                // Where the courier is far behind it is sent again, which its id tells.
                let _ = self.deliveries.try_send((number, problem));
            }
            FromWorker::Question(_) => {}
            FromWorker::Steered { session, found } => {
                if let Some(at) = self.steered.iter().position(|(id, _)| *id == session) {
                    let _ = self.steered.remove(at).1.send(found);
                }
            }
            FromWorker::Event {
                kind,
                detail,
                session,
            } => {
                let session = session.map(|s| s.to_string());
                self.journal.write(&Entry::Worker {
                    kind,
                    detail,
                    session,
                });
            }
        }
    }

    fn wanted(&self, request: u64, whose: Whose, channel: &Arc<Channel>) {
        let want = Want {
            request,
            whose,
            channel: channel.clone(),
        };
        if self.wants.try_send(want).is_err() {
            tracing::warn!("too many questions for tokens wait; one is not answered");
        }
    }

    /// One answer serves all who asked meanwhile.
    fn listed(&mut self, part: Vec<LiveSession>, last: bool) {
        for (_, sessions) in &mut self.lists {
            let room = MAX_LISTED.saturating_sub(sessions.len());
            sessions.extend(part.iter().take(room).cloned());
        }
        if last {
            for (reply, sessions) in self.lists.drain(..) {
                let _ = reply.send(sessions);
            }
        }
    }

    /// One answer serves all who asked meanwhile.
    fn agents_listed(&mut self, part: &[AgentStanding], counts: Counts, last: bool) {
        for (_, agents) in &mut self.agents {
            let room = MAX_LISTED.saturating_sub(agents.standings.len());
            agents.standings.extend(part.iter().take(room).cloned());
            agents.counts = counts;
        }
        if last {
            for (reply, agents) in self.agents.drain(..) {
                let _ = reply.send(agents);
            }
        }
    }

    async fn put_down(&mut self, mut child: Child, why: String) -> Ended {
        // It usually has ended already, and how says more.
        let ended = tokio::time::timeout(Duration::from_secs(1), child.wait()).await;
        let Ok(status) = ended else {
            let _ = child.kill().await;
            return Ended::Died(why);
        };
        Ended::Died(child::how(status))
    }
}

async fn tell_suspended(
    channel: &Channel,
    suspended: &mut watch::Receiver<Suspensions>,
) -> Result<(), ChannelError> {
    let list = suspended.borrow_and_update().clone();
    let message = ToWorker::Suspended(list);
    let sent = tokio::time::timeout(CONFIGURED_WITHIN, channel.send(&message, None)).await;
    sent.unwrap_or(Err(ChannelError::Io(io::ErrorKind::TimedOut.into())))
}

async fn offer(
    channel: &Channel,
    candidate: Arc<Candidate>,
    reply: Option<oneshot::Sender<Result<(), String>>>,
) -> Result<Offered, ChannelError> {
    let message = ToWorker::Configure {
        epoch: candidate.epoch,
        bundle: candidate.bundle.to_vec(),
    };
    let sent = tokio::time::timeout(CONFIGURED_WITHIN, channel.send(&message, None)).await;
    sent.unwrap_or(Err(ChannelError::Io(io::ErrorKind::TimedOut.into())))?;
    Ok(Offered {
        candidate,
        reply,
        by: Instant::now() + CONFIGURED_WITHIN,
    })
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}

/// A worker that does not end by itself is ended, if it is still the same.
async fn kill_after(pid: Option<u32>, within: Duration, now: watch::Receiver<WorkerNow>) {
    tokio::time::sleep(within).await;
    let same = pid
        .filter(|_| now.borrow().pid == pid)
        .and_then(|pid| i32::try_from(pid).ok());
    if let Some(pid) = same {
        let pid = nix::unistd::Pid::from_raw(pid);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
}
