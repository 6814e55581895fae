//! The worker's life: started, configured, watched, and started again when it dies.
//!
//! The keeper holds the listeners meanwhile, so what an agent notices of a worker's death is the
//! end of its sessions and a second's wait. Workers from before an upgrade are [`super::retired`];
//! whoever asks for sessions, or steers one, need not know which worker has it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::process::Child;
use tokio::sync::{mpsc, oneshot, watch};

use super::approvals::ForDesk;
use super::child;
use super::journal::Entry;
use super::retired::{self, Retired};
pub use super::talk::{Agents, Candidate, Want, Whose, Wish};
use super::talk::{Carried, Ears, Heard, Talk};
use crate::handover::{Channel, Freeze, LiveSession};
use crate::ids::SessionId;

/// The pause before a worker is started again, doubled each time it dies young.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A worker that lived this long did not die young.
const GROWN_UP: Duration = Duration::from_secs(10);
/// What a drained worker has beyond its deadline.
pub const GRACE: Duration = Duration::from_secs(5);
/// What is kept for the next worker while there is none; of more, the oldest goes unanswered.
const HELD: usize = 64;
/// For a worker to answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);

/// The worker as others see it.
#[derive(Clone, Default)]
pub struct WorkerNow {
    pub pid: Option<u32>,
    /// Present once it is configured: connections are welcome.
    pub ready: Option<Arc<Channel>>,
    pub restarts: u64,
}

/// What the rest of the keeper may ask of the workers.
#[derive(Clone)]
pub struct Worker {
    now: watch::Receiver<WorkerNow>,
    wishes: mpsc::Sender<Wish>,
    retired: Retired,
}

/// How a worker is started.
pub struct Recipe {
    pub user: String,
    pub arguments: Vec<String>,
    /// Workers that died under the keeper before.
    pub restarts: u64,
}

/// Workers that read nothing more until this is dropped.
pub struct Paused {
    pub current: Carried,
    pub retired: Vec<(Arc<retired::Retiree>, Carried)>,
    _go_on: Vec<oneshot::Sender<()>>,
}

/// Starts supervising; the task ends after [`Worker::drain`].
pub fn start(recipe: Recipe, ears: Ears) -> Worker {
    let (tell, now) = watch::channel(WorkerNow {
        restarts: recipe.restarts,
        ..WorkerNow::default()
    });
    let (wishes, asked) = mpsc::channel(64);
    let retired = ears.retired.clone();
    let supervisor = Supervisor {
        recipe,
        tell,
        asked,
        held: VecDeque::new(),
        current: None,
        ears,
    };
    tokio::spawn(supervisor.run());
    Worker {
        now,
        wishes,
        retired,
    }
}

impl Worker {
    pub fn now(&self) -> WorkerNow {
        self.now.borrow().clone()
    }

    pub fn retired(&self) -> &Retired {
        &self.retired
    }

    /// The channel to a worker that takes connections, waiting for one for a while.
    pub async fn ready(&self, patience: Duration) -> Option<Arc<Channel>> {
        let mut now = self.now.clone();
        let waited = tokio::time::timeout(patience, now.wait_for(|now| now.ready.is_some())).await;
        waited.ok()?.ok()?.ready.clone()
    }

    /// Offers a configuration. It is in force, for this worker and those after it, if it is taken.
    pub async fn configure(&self, candidate: Arc<Candidate>) -> Result<(), String> {
        let answer = wish(&self.wishes, |reply| Wish::Configure(candidate, reply)).await;
        answer.unwrap_or_else(|| Err("no worker answers".into()))
    }

    /// The sessions that go on now; none of a worker that does not answer.
    pub async fn sessions(&self) -> Vec<LiveSession> {
        let (own, of_retired) = self.sessions_by_worker().await;
        let of_retired = of_retired.into_iter().flat_map(|(_, sessions)| sessions);
        own.into_iter().chain(of_retired).collect()
    }

    /// The same, apart: of the worker, and of each that retires by its process id.
    pub async fn sessions_by_worker(&self) -> (Vec<LiveSession>, Vec<(u32, Vec<LiveSession>)>) {
        let own = answered(&self.wishes, Wish::List).await.unwrap_or_default();
        let mut of_retired = Vec::new();
        for retiree in self.retired.all() {
            let sessions = answered(&retiree.wishes, Wish::List).await;
            of_retired.push((retiree.pid, sessions.unwrap_or_default()));
        }
        (own, of_retired)
    }

    /// How each agent's identity stands, by whoever looked last; nothing of a worker that does not
    /// answer. What was counted is the worker's alone.
    pub async fn agents(&self) -> Agents {
        let mut agents = answered(&self.wishes, Wish::Agents)
            .await
            .unwrap_or_default();
        for retiree in self.retired.all() {
            let of_retired = answered(&retiree.wishes, Wish::Agents).await;
            for standing in of_retired.unwrap_or_default().standings {
                let same = agents
                    .standings
                    .iter_mut()
                    .find(|s| s.agent == standing.agent && s.instance == standing.instance);
                match same {
                    Some(known) if known.looked_at < standing.looked_at => *known = standing,
                    Some(_) => {}
                    None => agents.standings.push(standing),
                }
            }
        }
        agents
    }

    /// Ends a session; says whether there was one.
    pub async fn kill(&self, session: SessionId, reason: String) -> bool {
        self.steer(|reply| Wish::Kill(session, reason.clone(), reply))
            .await
    }

    /// Has a session stand still, or go on; says whether there was one, and whether it did.
    pub async fn freeze(&self, session: SessionId, freeze: Freeze) -> bool {
        self.steer(|reply| Wish::Freeze(session, freeze.clone(), reply))
            .await
    }

    /// Lets sessions finish within `within`, then ends them and the workers.
    pub async fn drain(&self, within: Duration) {
        let of_retired = self.retired.drain(within);
        let own = wish(&self.wishes, |reply| Wish::Drain(within, reply));
        tokio::join!(of_retired, own);
    }

    /// Ends a worker that does not do its part; another is started, unless it retires.
    pub async fn replace(&self, channel: Arc<Channel>, why: String) {
        let retiree = self.retired.at(&channel);
        let wishes = retiree.as_ref().map_or(&self.wishes, |r| &r.wishes);
        // Gone only when the keeper is, or when that worker has ended.
        let _ = wishes.send(Wish::Replace(channel, why)).await;
    }

    /// The channel to the worker with this process id, if it lives.
    pub fn channel_to(&self, pid: u32) -> Option<Arc<Channel>> {
        let now = self.now.borrow();
        match now.pid == Some(pid) {
            true => now.ready.clone(),
            false => self
                .retired
                .all()
                .iter()
                .find(|r| r.pid == pid)
                .map(|r| r.channel.clone()),
        }
    }

    /// The channels to all workers that live.
    pub fn channels(&self) -> Vec<Arc<Channel>> {
        let own = self.now.borrow().ready.clone().into_iter();
        let of_retired = self.retired.all().into_iter().map(|r| r.channel.clone());
        own.chain(of_retired).collect()
    }

    /// Has no worker read any more, for as long as what is returned lives; says why not, if one
    /// does not come to rest.
    pub async fn pause(&self, within: Duration) -> Result<Paused, String> {
        let mut go_on = Vec::new();
        let current = pause(&self.wishes, within, &mut go_on).await;
        let current = current.ok_or("the worker is not ready: see `hoop status`")?;
        let mut retired = Vec::new();
        for retiree in self.retired.all() {
            match pause(&retiree.wishes, within, &mut go_on).await {
                Some(carried) => retired.push((retiree, carried)),
                // It has just ended, or it will be replaced.
                None if self.retired.at(&retiree.channel).is_none() => {}
                None => {
                    return Err(format!(
                        "worker {}, which retires, does not answer",
                        retiree.pid
                    ));
                }
            }
        }
        Ok(Paused {
            current,
            retired,
            _go_on: go_on,
        })
    }

    async fn steer(&self, wish: impl Fn(oneshot::Sender<bool>) -> Wish) -> bool {
        // All at once: one that does not answer must not keep the others from being asked.
        let mut asked = tokio::task::JoinSet::new();
        let of_retired = self.retired.all().into_iter().map(|r| r.wishes.clone());
        for wishes in std::iter::once(self.wishes.clone()).chain(of_retired) {
            let (reply, answer) = oneshot::channel();
            let wish = wish(reply);
            asked.spawn(async move {
                let answer = async {
                    wishes.send(wish).await.ok()?;
                    answer.await.ok()
                };
                tokio::time::timeout(ANSWERED_WITHIN, answer).await
            });
        }
        let mut found = false;
        while let Some(answer) = asked.join_next().await {
            found |= matches!(answer, Ok(Ok(Some(true))));
        }
        found
    }
}

async fn pause(
    wishes: &mpsc::Sender<Wish>,
    within: Duration,
    go_on: &mut Vec<oneshot::Sender<()>>,
) -> Option<Carried> {
    let (told, carried) = oneshot::channel();
    let (sender, receiver) = oneshot::channel();
    wishes.send(Wish::Pause(told, receiver)).await.ok()?;
    let carried = tokio::time::timeout(within, carried).await.ok()?.ok()?;
    go_on.push(sender);
    Some(carried)
}

async fn answered<T>(
    wishes: &mpsc::Sender<Wish>,
    of: impl FnOnce(oneshot::Sender<T>) -> Wish,
) -> Option<T> {
    let answer = tokio::time::timeout(ANSWERED_WITHIN, wish(wishes, of)).await;
    answer.ok().flatten()
}

pub async fn wish<T>(
    wishes: &mpsc::Sender<Wish>,
    wish: impl FnOnce(oneshot::Sender<T>) -> Wish,
) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    wishes.send(wish(reply)).await.ok()?;
    answer.await.ok()
}

struct Supervisor {
    recipe: Recipe,
    tell: watch::Sender<WorkerNow>,
    asked: mpsc::Receiver<Wish>,
    /// What was asked while there was no worker.
    held: VecDeque<Wish>,
    /// What every new worker gets.
    current: Option<Arc<Candidate>>,
    ears: Ears,
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
            if let Some(pid) = pid {
                // Gone only when the keeper is.
                let _ = self.ears.desk.send(ForDesk::WorkerGone(pid)).await;
            }
            match ended {
                Ended::Died(why) => self.ears.journal.write(&Entry::WorkerDied { pid, why }),
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
            if let Some(ended) = self.rest(pause).await {
                if let Ended::Drained(reply) = ended {
                    let _ = reply.send(());
                }
                return;
            }
        }
    }

    /// The pause between two workers. Says if nobody wants another one by then: whoever drains does not
    /// wait for a worker that may never come.
    async fn rest(&mut self, pause: Duration) -> Option<Ended> {
        let over = tokio::time::sleep(pause);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return None,
                wish = self.asked.recv() => match wish {
                    None => return Some(Ended::Unwanted),
                    Some(Wish::Drain(_, reply)) => return Some(Ended::Drained(reply)),
                    Some(wish) => {
                        if self.held.len() == HELD {
                            self.held.pop_front();
                        }
                        self.held.push_back(wish);
                    }
                },
            }
        }
    }

    async fn life(&mut self) -> Ended {
        let (mut child, channel) =
            match child::spawn("worker", &self.recipe.user, &self.recipe.arguments) {
                Ok(started) => started,
                Err(error) => return Ended::Died(format!("it could not be started: {error}")),
            };
        let pid = child.id();
        self.tell.send_modify(|now| now.pid = pid);
        let mut talk = Talk::new(pid.unwrap_or(0), Arc::new(channel), self.ears.clone());
        // First of all: no worker may let in whom another had to refuse.
        if let Err(error) = talk.tell_suspended().await {
            return self.put_down(child, error.to_string()).await;
        }
        if let Some(candidate) = self.current.clone()
            && let Err(error) = talk.offer(candidate, None).await
        {
            return self.put_down(child, error.to_string()).await;
        }
        let mut draining = None;
        loop {
            tokio::select! {
                status = child.wait() => return match draining {
                    Some(reply) => Ended::Drained(reply),
                    None => Ended::Died(child::how(status)),
                },
                next = talk.next() => match talk.take(next).await {
                    Heard::Nothing => {}
                    Heard::Took(candidate) => {
                        let epoch = candidate.epoch;
                        self.current = Some(candidate);
                        let channel = talk.channel.clone();
                        self.tell.send_modify(|now| now.ready = Some(channel));
                        self.ears.journal.write(&Entry::WorkerReady { pid, epoch });
                    }
                    over @ (Heard::Closed | Heard::Over(_)) => {
                        let why = match over {
                            Heard::Over(why) => why,
                            _ => "it closed its socket".into(),
                        };
                        let ended = self.put_down(child, why).await;
                        return match draining {
                            Some(reply) => Ended::Drained(reply),
                            None => ended,
                        };
                    }
                },
                wish = next(&mut self.held, &mut self.asked) => match wish {
                    None => return Ended::Unwanted,
                    Some(Wish::Drain(within, reply)) => {
                        talk.drain(within).await;
                        self.tell.send_modify(|now| now.ready = None);
                        draining = Some(reply);
                        tokio::spawn(kill_after(child.id(), within + GRACE, self.tell.subscribe()));
                    }
                    Some(Wish::Replace(of, why)) if Arc::ptr_eq(&of, &talk.channel) => {
                        let ended = self.put_down(child, why).await;
                        return match draining {
                            Some(reply) => Ended::Drained(reply),
                            None => ended,
                        };
                    }
                    Some(Wish::Pause(told, go_on)) => {
                        let rests = !talk.is_offered() && self.tell.borrow().ready.is_some();
                        let carried = pid.filter(|_| rests).map(|pid| Carried {
                            pid,
                            channel: talk.channel.clone(),
                        });
                        // Dropped where it is not at rest, which says so.
                        if let Some(carried) = carried
                            && told.send(carried).is_ok()
                        {
                            let _ = go_on.await;
                        }
                    }
                    Some(wish) => talk.grant(wish).await,
                },
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

/// What was asked first. Nothing is lost where this is dropped.
async fn next(held: &mut VecDeque<Wish>, asked: &mut mpsc::Receiver<Wish>) -> Option<Wish> {
    match held.pop_front() {
        Some(wish) => Some(wish),
        None => asked.recv().await,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::gate::Gate;
    use crate::keeper::journal::{Book, Journal};
    use crate::keeper::suspended::Suspended;

    struct Nowhere;

    impl Book for Nowhere {
        fn append(&mut self, _: &Entry) -> Result<(), String> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn where_no_worker_can_be_started_nobody_waits_for_one_to_drain() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Arc::new(Journal::new(Nowhere));
        let suspended = Suspended::open(folder.path(), journal.clone()).unwrap();
        let ears = Ears {
            wants: mpsc::channel(1).0,
            sockets: mpsc::channel(1).0,
            desk: mpsc::channel(1).0,
            deliveries: mpsc::channel(1).0,
            journal,
            suspended: Arc::new(suspended),
            gate: Gate::default(),
            retired: Retired::default(),
        };
        // This program is none that can be a worker: it ends at once, again and again.
        let recipe = Recipe {
            user: "nobody".into(),
            arguments: Vec::new(),
            restarts: 0,
        };
        let worker = start(recipe, ears);
        let asked = worker.clone();
        let listed = tokio::spawn(async move { asked.sessions().await });
        while worker.now().restarts < 5 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The pause is more than a second by now.
        let drained = tokio::time::timeout(
            Duration::from_millis(500),
            worker.drain(Duration::from_secs(30)),
        );
        drained.await.unwrap();
        assert!(listed.await.unwrap().is_empty());
    }
}
