//! The unprivileged process: everything that an agent or a server sends is read here.
//!
//! This file is the worker's own life: privileges given up, configuration taken, connections
//! received and given a task each, reload, retirement, drain and end. What happens to one connection is in
//! [`connection`].

mod connection;
mod console;
mod deliver;
mod identity;
mod keys;
mod kubernetes;
pub mod live;
pub mod privileges;
mod refusals;
mod rules;
pub mod seccomp;
mod sockets;
mod ssh;
mod threads;

use std::collections::HashMap;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::mpsc;
use tokio::task::{self, JoinSet};

use crate::ask::{Asker, ToDesk};
use crate::config::Bundle;
use crate::handover::{
    Channel, ChannelError, Delivery, FromWorker, Handover, LiveSession, Reported, Side, ToWorker,
};
use crate::identify::Suspensions;
use crate::identify::events::Report;
use crate::ids::SessionId;
use crate::terminate::End;

pub use privileges::PrivilegeError;
use rules::Shared;
use threads::Threads;

/// What sessions have after they were told to end: cancel upstream, wait for it, seal.
const LAST_WORDS: Duration = Duration::from_secs(8);
/// Sessions in one packet to the keeper; each takes some hundred bytes of the 128 KiB.
const LISTED_AT_ONCE: usize = 25;
/// Messages of the keeper that are not understood; past it there is no talking with it.
const MAX_MISUNDERSTOOD: u32 = 64;
/// A worker that retires goes on for no longer.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// Connections at once. Each holds two sockets and a file.
const MAX_CONNECTIONS: usize = 8192;

/// Why the worker cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    #[error("the worker cannot start: {0}")]
    Start(#[from] io::Error),
    #[error(transparent)]
    Channel(#[from] ChannelError),
}

/// Runs until the keeper says so, or lets go of the socket that is this process's standard input.
pub fn run(user: &str) -> Result<(), WorkerError> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    privileges::drop_all(user)?;
    let threads = Threads::start()?;
    // This thread's own: connections are taken here and handed on.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let served = runtime.block_on(serve(socket, &threads));
    drop(threads);
    // Look-ups that hang in the C library must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(500));
    served
}

async fn serve(socket: OwnedFd, threads: &Threads) -> Result<(), WorkerError> {
    let channel = Arc::new(Channel::new(socket, Side::Worker)?);
    let (tell, heard) = mpsc::channel(256);
    // Tasks of their own: a full socket must not keep the worker from reading.
    let telling = tokio::spawn(pass_on(channel.clone(), heard));
    let (ask, asked) = mpsc::unbounded_channel();
    let asking = tokio::spawn(pass_questions_on(channel.clone(), asked));
    let mut worker = Worker {
        shared: None,
        suspended: Suspensions::default(),
        tell,
        threads,
        asker: Asker::new(first_ticket()?, ask),
        connections: JoinSet::new(),
        sessions: HashMap::new(),
        retires: None,
        misunderstood: 0,
    };
    let ended = worker.until_told(&channel).await;
    if let Ok(Some(within)) = ended {
        worker.let_finish(&channel, within).await;
    }
    worker.end_all().await;
    drop(worker);
    let last_words = async { tokio::join!(telling, asking) };
    let _ = tokio::time::timeout(Duration::from_secs(1), last_words).await;
    ended.map(|_| ()).map_err(Into::into)
}

async fn pass_on(channel: Arc<Channel>, mut heard: mpsc::Receiver<FromWorker>) {
    while let Some(message) = heard.recv().await {
        if let Err(error) = channel.send(&message, None).await {
            tracing::debug!(%error, "the keeper could not be told");
        }
    }
}

async fn pass_questions_on(channel: Arc<Channel>, mut asked: mpsc::UnboundedReceiver<ToDesk>) {
    while let Some(message) = asked.recv().await {
        if let Err(error) = channel.send(&FromWorker::Question(message), None).await {
            tracing::warn!(%error, "a question could not be put to the keeper");
        }
    }
}

/// An answer to a worker before this one must find nobody.
fn first_ticket() -> io::Result<u64> {
    let mut random = [0; 8];
    let filled = SystemRandom::new().fill(&mut random);
    filled.map_err(|_| io::Error::other("the system has no randomness"))?;
    Ok(u64::from_ne_bytes(random))
}

struct Worker<'t> {
    asker: Asker,
    shared: Option<Arc<Shared>>,
    /// As the keeper said last; it says so before the first configuration.
    suspended: Suspensions,
    tell: mpsc::Sender<FromWorker>,
    threads: &'t Threads,
    connections: JoinSet<()>,
    /// Which session each of [`Worker::connections`] is, to name it should its task panic.
    sessions: HashMap<task::Id, SessionId>,
    /// Another worker takes what is new: when this one ends what still goes on.
    retires: Option<Instant>,
    misunderstood: u32,
}

impl Worker<'_> {
    /// Returns the deadline of the drain that the keeper asked for, or none where it retires and all
    /// is over; `None` if the keeper is gone.
    async fn until_told(&mut self, channel: &Channel) -> Result<Option<Duration>, ChannelError> {
        loop {
            if self.retires.is_some() && self.connections.is_empty() {
                tracing::info!("the last session has ended, and so does this worker");
                return Ok(Some(Duration::ZERO));
            }
            let retires = self.retires;
            tokio::select! {
                message = channel.receive::<ToWorker>() => match message {
                    Ok(None) => return Ok(None),
                    Ok(Some((ToWorker::Drain { within }, _))) => {
                        return Ok(Some(Duration::from_millis(within)));
                    }
                    Ok(Some((message, socket))) => self.take(message, socket).await,
                    // A keeper of a later build may say more than this one knows.
                    Err(ChannelError::Misunderstood(what)) if self.misunderstood < MAX_MISUNDERSTOOD => {
                        self.misunderstood += 1;
                        tracing::warn!(what, "a message of the keeper is not understood");
                    }
                    Err(error) => return Err(error),
                },
                Some(ended) = self.connections.join_next_with_id() => self.ended(ended),
                () = at(retires) => {
                    tracing::info!(left = self.connections.len(), "the time of this worker is over");
                    return Ok(Some(Duration::ZERO));
                }
            }
        }
    }

    async fn take(&mut self, message: ToWorker, socket: Option<OwnedFd>) {
        match message {
            ToWorker::Configure { epoch, bundle } => {
                let outcome = self.configure(epoch, &bundle).await;
                self.say(FromWorker::Configured { epoch, outcome }).await;
            }
            ToWorker::Connection(handover) => {
                if let Some(socket) = socket {
                    self.connection(*handover, socket);
                }
            }
            ToWorker::Console => {
                if let (Some(shared), Some(socket)) = (&self.shared, socket) {
                    shared.serve_console(socket.into());
                }
            }
            ToWorker::ListSessions => self.list().await,
            ToWorker::ListAgents => self.list_agents().await,
            ToWorker::Suspended(suspensions) => self.suspended(suspensions),
            ToWorker::Token { request, token } => {
                if let Some(shared) = &self.shared {
                    shared.identities.token(request, token);
                }
            }
            ToWorker::Kill { session, reason } => {
                let live = self.shared.as_ref().map(|shared| &shared.live);
                let found = live.is_some_and(|live| live.end(session, End::Killed(reason)));
                self.say(FromWorker::Steered { session, found }).await;
            }
            ToWorker::Freeze { session, freeze } => {
                let live = self.shared.as_ref().map(|shared| &shared.live);
                let found = live.is_some_and(|live| live.freeze(session, freeze));
                self.say(FromWorker::Steered { session, found }).await;
            }
            ToWorker::Deliver(delivery) => self.deliver(delivery),
            ToWorker::Heard(heard) => {
                let ended = self.asker.hear(heard);
                for (session, why) in ended {
                    if let Some(shared) = &self.shared {
                        shared.live.end(session, End::Killed(why));
                    }
                }
            }
            ToWorker::Retire { within } => {
                let within = Duration::from_millis(within).min(LONGEST);
                self.retires = Some(Instant::now() + within);
            }
            ToWorker::Cancel(cancel) => {
                if let Some(shared) = &self.shared {
                    let found = shared
                        .cancels
                        .cancel(cancel.pid, &cancel.key, &cancel.agent);
                    tracing::debug!(found, agent = %cancel.agent, "cancel request of another worker");
                }
            }
            ToWorker::Reported(reported) => {
                if let Some(shared) = &self.shared {
                    let Reported {
                        issuer,
                        revoked,
                        changed,
                    } = reported;
                    console::act(shared, &issuer, &Report { revoked, changed });
                }
            }
            ToWorker::Socket { request, problem } => {
                if let Some(shared) = &self.shared {
                    shared.sockets.answered(request, problem, socket);
                }
            }
            ToWorker::Drain { .. } => {}
        }
    }

    async fn configure(&mut self, epoch: u64, bundle: &[u8]) -> Result<(), String> {
        let bundle = Bundle::from_wire(bundle).map_err(|error| error.to_string())?;
        let config = crate::config::Config::from_bundle(&bundle).map_err(|e| e.to_string())?;
        if let Some(shared) = &self.shared {
            return shared
                .reload(epoch, config)
                .map_err(|error| error.to_string());
        }
        let tell = self.tell.clone();
        let shared = Shared::open(epoch, config, tell, self.asker.clone())
            .await
            .map_err(|error| error.to_string())?;
        // Before the first connection.
        shared.identities.set_suspended(self.suspended.clone());
        self.shared = Some(Arc::new(shared));
        Ok(())
    }

    fn suspended(&mut self, suspensions: Suspensions) {
        self.suspended = suspensions.clone();
        if let Some(shared) = &self.shared {
            let verifier = shared.rules().verifier.clone();
            // First: whoever comes in between must not meet what was said before.
            for agent in shared.identities.gone(&suspensions) {
                verifier.forget(&agent);
            }
            shared.identities.set_suspended(suspensions);
        }
    }

    fn connection(&mut self, handover: Handover, socket: OwnedFd) {
        let stream = TcpStream::from(socket);
        let taken = self.shared.clone().and_then(|shared| {
            let slot = shared.connections.clone().try_acquire_owned().ok()?;
            Some((shared, slot))
        });
        let Some((shared, slot)) = taken else {
            refusals::reset(&stream);
            let detail = match &self.shared {
                Some(_) => format!("{} connections at once", self.connections.len()),
                None => "there is no configuration yet".into(),
            };
            self.report("reset", detail, None);
            return;
        };
        let Some(session) = session_id() else {
            refusals::reset(&stream);
            return tracing::error!("the system has no randomness; a connection was reset");
        };
        let serving = async move {
            let _slot = slot;
            connection::serve(shared, handover, session, stream).await;
        };
        let task = self.threads.spawn(serving, &mut self.connections);
        self.sessions.insert(task.id(), session);
    }

    /// A panic in one connection's task ends that connection; what it registered and opened is
    /// dropped, which closes both of its sides.
    fn ended(&mut self, ended: Result<(task::Id, ()), task::JoinError>) {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        let session = self.sessions.remove(&id);
        if let Err(error) = ended
            && error.is_panic()
        {
            let detail = error.to_string();
            tracing::error!(detail, ?session, "a connection's task panicked");
            self.report("panic", detail, session);
        }
    }

    /// On its own: whoever is told may take their time.
    fn deliver(&self, delivery: Delivery) {
        let rules = self.shared.as_ref().map(|shared| shared.rules());
        let tell = self.tell.clone();
        tokio::spawn(async move {
            let number = delivery.number;
            let channels = rules.iter().flat_map(|rules| &rules.config.channels);
            let channel = channels.into_iter().find(|c| c.name == delivery.channel);
            let sent = match channel {
                Some(channel) => deliver::deliver(channel, delivery).await,
                None => Err("it is not configured any more".into()),
            };
            let problem = sent.err();
            // The receiver lives until the end of this process.
            let _ = tell.send(FromWorker::Delivered { number, problem }).await;
        });
    }

    async fn list(&self) {
        let live = self
            .shared
            .as_ref()
            .map(|shared| shared.live.list())
            .unwrap_or_default();
        let mut parts = live.chunks(LISTED_AT_ONCE).peekable();
        loop {
            let part = parts
                .next()
                .map(<[LiveSession]>::to_vec)
                .unwrap_or_default();
            let last = parts.peek().is_none();
            self.say(FromWorker::Sessions { part, last }).await;
            if last {
                return;
            }
        }
    }

    async fn list_agents(&self) {
        let (agents, counts) = match &self.shared {
            None => Default::default(),
            Some(shared) => {
                let counts = shared.rules().verifier.metrics().counts();
                (shared.identities.list(), counts)
            }
        };
        let mut parts = agents.chunks(LISTED_AT_ONCE).peekable();
        loop {
            let part = parts.next().map(<[_]>::to_vec).unwrap_or_default();
            let last = parts.peek().is_none();
            self.say(FromWorker::Agents { part, counts, last }).await;
            if last {
                return;
            }
        }
    }

    /// Waits until the last session has finished, at most `within`; shorter if the keeper asks
    /// again, or goes.
    async fn let_finish(&mut self, channel: &Channel, within: Duration) {
        let Some(live) = self.shared.as_ref().map(|shared| shared.live.clone()) else {
            return;
        };
        // People may take longer than anybody waits for a restart, and their answer is kept.
        for session in self.asker.held() {
            live.end(session, End::Drained);
        }
        tokio::select! {
            _ = live.empty(within) => {}
            _ = self.until_told(channel) => {}
        }
    }

    /// Ends what goes on, and waits until it is sealed.
    async fn end_all(&mut self) {
        let Some(shared) = self.shared.clone() else {
            return;
        };
        shared.stop();
        shared.live.end_where(|_| Some(End::Drained));
        let sealed = async {
            while let Some(ended) = self.connections.join_next_with_id().await {
                self.ended(ended);
            }
        };
        if tokio::time::timeout(LAST_WORDS, sealed).await.is_err() {
            tracing::warn!(
                left = self.connections.len(),
                "connections are cut off at the end"
            );
        }
    }

    async fn say(&self, message: FromWorker) {
        // The receiver lives until the end of this process.
        let _ = self.tell.send(message).await;
    }

    fn report(&self, kind: &str, detail: String, session: Option<SessionId>) {
        report(&self.tell, kind, detail, session);
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}

fn session_id() -> Option<SessionId> {
    let mut random = [0; 10];
    SystemRandom::new().fill(&mut random).ok()?;
    Some(SessionId::new(SystemTime::now(), random))
}

/// Tells the keeper's ledger what no session's recording can hold. Dropped where the keeper is so
/// far behind that hundreds wait: the log has it.
fn report(tell: &mpsc::Sender<FromWorker>, kind: &str, detail: String, session: Option<SessionId>) {
    let detail = detail.chars().take(1000).collect();
    let event = FromWorker::Event {
        kind: kind.into(),
        detail,
        session,
    };
    if tell.try_send(event).is_err() {
        tracing::warn!(kind, "an event could not be passed to the keeper");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover;

    #[tokio::test]
    async fn a_configuration_is_answered_and_a_keeper_that_goes_ends_it() {
        let (ours, theirs) = handover::pair().unwrap();
        let keeper = Channel::new(ours, Side::Keeper).unwrap();
        let worker = tokio::spawn(async move { serve(theirs, &Threads::start()?).await });
        let broken = Bundle::from_text("hoop.toml".as_ref(), "nonsense = 1");
        let bundle = broken.to_wire().to_vec();
        keeper
            .send(&ToWorker::Configure { epoch: 1, bundle }, None)
            .await
            .unwrap();
        let (answer, _) = keeper.receive::<FromWorker>().await.unwrap().unwrap();
        let FromWorker::Configured {
            epoch: 1,
            outcome: Err(why),
        } = answer
        else {
            panic!("{answer:?}");
        };
        assert!(why.contains("nonsense"), "{why}");

        keeper.send(&ToWorker::ListSessions, None).await.unwrap();
        let (answer, _) = keeper.receive::<FromWorker>().await.unwrap().unwrap();
        assert!(matches!(answer, FromWorker::Sessions { part, last: true } if part.is_empty()));
        drop(keeper);
        let ended = tokio::time::timeout(Duration::from_secs(5), worker).await;
        ended.unwrap().unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_worker_that_retires_without_sessions_ends_at_once() {
        let (ours, theirs) = handover::pair().unwrap();
        let keeper = Channel::new(ours, Side::Keeper).unwrap();
        let worker = tokio::spawn(async move { serve(theirs, &Threads::start()?).await });
        // What it does not know yet it passes over.
        keeper.send(&"Rejuvenate", None).await.unwrap();
        let retire = ToWorker::Retire { within: u64::MAX };
        keeper.send(&retire, None).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(5), worker).await;
        ended.unwrap().unwrap().unwrap();
        assert!(keeper.receive::<FromWorker>().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_connection_before_any_configuration_is_reset() {
        let (ours, theirs) = handover::pair().unwrap();
        let keeper = Channel::new(ours, Side::Keeper).unwrap();
        let worker = tokio::spawn(async move { serve(theirs, &Threads::start()?).await });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let handover = Handover {
            connection: 0,
            accepted: SystemTime::now(),
            agent: None,
            mode: crate::config::Mode::Enforce,
            destination: listener.local_addr().unwrap(),
            observed: Vec::new(),
            process: crate::attribute::Process::default(),
            token: crate::handover::TokenText::Missing("none".into()),
            refused: None,
            namespace: None,
        };
        let message = ToWorker::Connection(Box::new(handover));
        keeper.send(&message, Some(accepted.as_fd())).await.unwrap();
        drop(accepted);
        let (answer, _) = keeper.receive::<FromWorker>().await.unwrap().unwrap();
        assert!(matches!(answer, FromWorker::Event { kind, .. } if kind == "reset"));
        let read = tokio::task::spawn_blocking(move || {
            use std::io::Read;
            (&client).read(&mut [0; 1])
        });
        assert_eq!(
            read.await.unwrap().unwrap_err().kind(),
            io::ErrorKind::ConnectionReset
        );
        drop(keeper);
        worker.await.unwrap().unwrap();
    }
}
