//! The talk with one worker: what it is asked, who waits for its answers, and what it says by itself.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::approvals::ForDesk;
use super::courier::Delivered;
use super::gate::{Entered, Gate};
use super::journal::{Entry, Journal};
use super::retired::Retired;
use super::sockets::WantSocket;
use super::suspended::Suspended;
use crate::handover::{
    AgentStanding, Channel, ChannelError, Freeze, FromWorker, LiveSession, ToWorker,
};
use crate::identify::{Counts, Suspensions};
use crate::ids::{AgentName, ResourceName, SessionId};

/// A worker that has not taken its configuration by then is killed. While a host boots everything else
/// starts too, and an agent's unit whose start found no hoop is not started again by itself.
pub const CONFIGURED_WITHIN: Duration = Duration::from_secs(40);
/// Sessions that are believed in one answer.
const MAX_LISTED: usize = 100_000;
/// Messages of one worker that are not understood; past it the worker is not to be talked with.
const MAX_MISUNDERSTOOD: u32 = 64;

/// A configuration on its way into force.
pub struct Candidate {
    pub epoch: u64,
    /// [`crate::config::Bundle`] in its wire form.
    pub bundle: zeroize::Zeroizing<Vec<u8>>,
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
    /// Until it is answered.
    pub entered: Entered,
}

/// Whose token source it is.
pub enum Whose {
    Agent(AgentName),
    /// Of the login that a resource has.
    Login(ResourceName),
}

pub enum Wish {
    Configure(Arc<Candidate>, oneshot::Sender<Result<(), String>>),
    List(oneshot::Sender<Vec<LiveSession>>),
    Agents(oneshot::Sender<Agents>),
    Kill(SessionId, String, oneshot::Sender<bool>),
    Freeze(SessionId, Freeze, oneshot::Sender<bool>),
    Drain(Duration, oneshot::Sender<()>),
    /// Ends the worker at this end of a channel, if it is still the one that lives.
    Replace(Arc<Channel>, String),
    /// Reads nothing more of it until the receiver resolves: another build takes over.
    Pause(oneshot::Sender<Carried>, oneshot::Receiver<()>),
}

/// A worker as the next build takes it over.
pub struct Carried {
    pub pid: u32,
    pub channel: Arc<Channel>,
}

/// Who hears what workers say beside their answers, and what all talks share.
#[derive(Clone)]
pub struct Ears {
    pub wants: mpsc::Sender<Want>,
    /// Sockets in other network namespaces.
    pub sockets: mpsc::Sender<WantSocket>,
    /// What people are asked.
    pub desk: mpsc::Sender<ForDesk>,
    /// What became of messages to channels.
    pub deliveries: mpsc::Sender<Delivered>,
    pub journal: Arc<Journal>,
    pub suspended: Arc<Suspended>,
    pub gate: Gate,
    pub retired: Retired,
}

/// A configuration that was sent and not answered yet.
struct Offered {
    candidate: Arc<Candidate>,
    reply: Option<oneshot::Sender<Result<(), String>>>,
    by: Instant,
}

pub struct Talk {
    pub pid: u32,
    pub channel: Arc<Channel>,
    ears: Ears,
    offered: Option<Offered>,
    suspended: watch::Receiver<Suspensions>,
    lists: Vec<(oneshot::Sender<Vec<LiveSession>>, Vec<LiveSession>)>,
    agents: Vec<(oneshot::Sender<Agents>, Agents)>,
    /// Sessions that were told to end, to stand still or to go on, and who waits for the answer.
    steered: Vec<(SessionId, oneshot::Sender<bool>)>,
    misunderstood: u32,
}

/// What there is to be taken.
pub enum Next {
    Nothing,
    Said(FromWorker),
    Suspended,
    Closed,
    Over(String),
}

/// What came of it.
pub enum Heard {
    Nothing,
    /// It took this configuration.
    Took(Arc<Candidate>),
    /// It closed its socket. How it ended follows, and says more.
    Closed,
    /// It cannot be talked with any more, and why.
    Over(String),
}

impl Talk {
    pub fn new(pid: u32, channel: Arc<Channel>, ears: Ears) -> Self {
        let suspended = ears.suspended.subscribe();
        Self {
            pid,
            channel,
            ears,
            offered: None,
            suspended,
            lists: Vec::new(),
            agents: Vec::new(),
            steered: Vec::new(),
            misunderstood: 0,
        }
    }

    /// Tells the worker who is suspended.
    pub async fn tell_suspended(&mut self) -> Result<(), ChannelError> {
        let list = self.suspended.borrow_and_update().clone();
        self.send(&ToWorker::Suspended(list)).await
    }

    pub async fn offer(
        &mut self,
        candidate: Arc<Candidate>,
        reply: Option<oneshot::Sender<Result<(), String>>>,
    ) -> Result<(), ChannelError> {
        let message = ToWorker::Configure {
            epoch: candidate.epoch,
            bundle: candidate.bundle.to_vec(),
        };
        self.send(&message).await?;
        self.offered = Some(Offered {
            candidate,
            reply,
            by: Instant::now() + CONFIGURED_WITHIN,
        });
        Ok(())
    }

    pub fn is_offered(&self) -> bool {
        self.offered.is_some()
    }

    /// Waits for the worker to say something, for a change that it must hear of, or for it to be too
    /// late. Cancel-safe; what is returned is to be [taken](Talk::take).
    pub async fn next(&mut self) -> Next {
        let late = self.offered.as_ref().map(|offered| offered.by);
        tokio::select! {
            message = self.channel.receive::<FromWorker>() => match message {
                Ok(Some((message, _))) => Next::Said(message),
                Ok(None) => Next::Closed,
                Err(ChannelError::Misunderstood(what)) if self.misunderstood < MAX_MISUNDERSTOOD => {
                    self.misunderstood += 1;
                    tracing::warn!(what, pid = self.pid, "a message of a worker is not understood");
                    Next::Nothing
                }
                Err(error) => Next::Over(error.to_string()),
            },
            Ok(()) = self.suspended.changed() => Next::Suspended,
            () = at(late) => Next::Over("it did not take its configuration in time".into()),
        }
    }

    /// Does what follows from it.
    pub async fn take(&mut self, next: Next) -> Heard {
        match next {
            Next::Nothing => Heard::Nothing,
            Next::Closed => Heard::Closed,
            Next::Over(why) => Heard::Over(why),
            Next::Suspended => {
                // It would go on with whoever is suspended now.
                match self.tell_suspended().await {
                    Ok(()) => Heard::Nothing,
                    Err(error) => {
                        Heard::Over(format!("it could not be told who is suspended: {error}"))
                    }
                }
            }
            Next::Said(FromWorker::Question(message)) => {
                // The desk waits neither for the disk nor for this worker; gone only when the keeper is.
                let _ = self.ears.desk.send(ForDesk::Said(self.pid, message)).await;
                Heard::Nothing
            }
            Next::Said(message) => self.heard(message),
        }
    }

    /// Grants what needs no more than a message and its answer.
    pub async fn grant(&mut self, wish: Wish) {
        match wish {
            Wish::Configure(_, reply) if self.offered.is_some() => {
                let _ = reply.send(Err("another configuration is being taken".into()));
            }
            Wish::Configure(candidate, reply) => {
                // A failure shows as the worker's end; the reply is dropped then, which says no.
                let _ = self.offer(candidate, Some(reply)).await;
            }
            Wish::List(reply) => {
                self.lists.push((reply, Vec::new()));
                if self.lists.len() == 1 {
                    let _ = self.send(&ToWorker::ListSessions).await;
                }
            }
            Wish::Agents(reply) => {
                self.agents.push((reply, Agents::default()));
                if self.agents.len() == 1 {
                    let _ = self.send(&ToWorker::ListAgents).await;
                }
            }
            Wish::Kill(session, reason, reply) => {
                self.steered.push((session, reply));
                let _ = self.send(&ToWorker::Kill { session, reason }).await;
            }
            Wish::Freeze(session, freeze, reply) => {
                self.steered.push((session, reply));
                let _ = self.send(&ToWorker::Freeze { session, freeze }).await;
            }
            Wish::Drain(..) | Wish::Replace(..) | Wish::Pause(..) => {}
        }
    }

    /// Tells the worker to let its sessions finish within that time.
    pub async fn drain(&mut self, within: Duration) {
        self.offered = None;
        let within = millis(within);
        let _ = self.send(&ToWorker::Drain { within }).await;
    }

    pub async fn retire(&mut self, within: Duration) -> Result<(), ChannelError> {
        let within = millis(within);
        self.send(&ToWorker::Retire { within }).await
    }

    async fn send(&self, message: &ToWorker) -> Result<(), ChannelError> {
        let sending = self.channel.send(message, None);
        let sent = tokio::time::timeout(CONFIGURED_WITHIN, sending).await;
        sent.unwrap_or(Err(ChannelError::Io(io::ErrorKind::TimedOut.into())))
    }

    fn heard(&mut self, message: FromWorker) -> Heard {
        match message {
            FromWorker::Configured { epoch, outcome } => return self.configured(epoch, outcome),
            FromWorker::Sessions { part, last } => self.listed(&part, last),
            FromWorker::Agents { part, counts, last } => self.agents_listed(&part, counts, last),
            FromWorker::Suspend(suspension) => {
                if let Err(error) = self.ears.suspended.suspend(suspension) {
                    tracing::error!(%error, "a suspension does not outlive this process");
                }
            }
            FromWorker::WantToken { request, agent } => self.wanted(request, Whose::Agent(agent)),
            FromWorker::WantLogin { request, resource } => {
                self.wanted(request, Whose::Login(resource));
            }
            FromWorker::WantSocket {
                request,
                namespace,
                v6,
            } => {
                let want = WantSocket {
                    request,
                    namespace,
                    v6,
                    channel: self.channel.clone(),
                    entered: self.ears.gate.enter(),
                };
                // A worker has fewer questions at once than there is room; it waits, and says so.
                if self.ears.sockets.try_send(want).is_err() {
                    tracing::warn!("too many questions for sockets wait; one is not answered");
                }
            }
            FromWorker::Delivered { number, problem } => {
                // Where the courier is far behind it is sent again, which its id tells.
                let _ = self.ears.deliveries.try_send((number, problem));
            }
            FromWorker::Question(_) => {}
            FromWorker::Cancel(cancel) => {
                let tell = || ToWorker::Cancel(cancel.clone());
                self.ears
                    .retired
                    .tell(tell, "a cancel request", &self.channel);
            }
            FromWorker::Reported(reported) => {
                let tell = || ToWorker::Reported(reported.clone());
                self.ears
                    .retired
                    .tell(tell, "an issuer's report", &self.channel);
            }
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
                self.ears.journal.write(&Entry::Worker {
                    kind,
                    detail,
                    session,
                });
            }
        }
        Heard::Nothing
    }

    fn configured(&mut self, epoch: u64, outcome: Result<(), String>) -> Heard {
        let Some(offer) = self.offered.take_if(|o| o.candidate.epoch == epoch) else {
            return Heard::Nothing;
        };
        let taken = outcome.is_ok().then(|| offer.candidate.clone());
        if let (Err(why), None) = (&outcome, &offer.reply) {
            // It took the same one before: a worker of its own would not help.
            self.ears.journal.write(&Entry::Reload {
                epoch,
                error: Some(why.clone()),
            });
        }
        if let Some(reply) = offer.reply {
            let _ = reply.send(outcome);
        }
        taken.map_or(Heard::Nothing, Heard::Took)
    }

    fn wanted(&self, request: u64, whose: Whose) {
        let want = Want {
            request,
            whose,
            channel: self.channel.clone(),
            entered: self.ears.gate.enter(),
        };
        if self.ears.wants.try_send(want).is_err() {
            tracing::warn!("too many questions for tokens wait; one is not answered");
        }
    }

    /// One answer serves all who asked meanwhile.
    fn listed(&mut self, part: &[LiveSession], last: bool) {
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
}

fn millis(within: Duration) -> u64 {
    u64::try_from(within.as_millis()).unwrap_or(u64::MAX)
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}
