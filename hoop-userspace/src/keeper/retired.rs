//! Workers from before an upgrade: they take nothing new, keep the sessions that they have, obey what
//! they are told about them, and end with the last one, or when their time is over.
//!
//! The keeper of now did not start them: it has taken over their sockets and process ids from the
//! one before, which was the same process. So it waits for each by its number, as its parent.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::sync::{mpsc, oneshot};

use super::approvals::ForDesk;
use super::journal::Entry;
use super::lock;
use super::supervise::{GRACE, wish};
use super::talk::{CONFIGURED_WITHIN, Candidate, Carried, Ears, Heard, Talk, Wish};
use crate::handover::{Channel, ToWorker};

/// Workers of earlier builds at once. Each holds its memory.
pub const MOST: usize = 8;
/// For a word to a worker that nobody waits for.
const SAID_WITHIN: Duration = Duration::from_secs(5);
/// For a worker that has closed its socket to end.
const ENDED_WITHIN: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(10);

/// One of them, as others see it.
pub struct Retiree {
    pub pid: u32,
    /// Of its build.
    pub version: String,
    pub since: SystemTime,
    /// When it ends what still goes on.
    pub until: SystemTime,
    pub channel: Arc<Channel>,
    pub wishes: mpsc::Sender<Wish>,
}

/// All of them. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Retired(Arc<Mutex<Vec<Arc<Retiree>>>>);

/// A worker that is taken over.
pub struct Adopted {
    pub pid: u32,
    pub version: String,
    pub since: SystemTime,
    pub until: SystemTime,
    pub channel: Channel,
}

impl Retired {
    /// Oldest first.
    pub fn all(&self) -> Vec<Arc<Retiree>> {
        lock(&self.0).clone()
    }

    /// The one at this end of a channel.
    pub fn at(&self, channel: &Arc<Channel>) -> Option<Arc<Retiree>> {
        let all = lock(&self.0);
        all.iter()
            .find(|r| Arc::ptr_eq(&r.channel, channel))
            .cloned()
    }

    /// Takes a worker over; a task looks after it until it has ended.
    pub fn adopt(&self, adopted: Adopted, ears: &Ears) {
        let (wishes, asked) = mpsc::channel(64);
        let retiree = Arc::new(Retiree {
            pid: adopted.pid,
            version: adopted.version,
            since: adopted.since,
            until: adopted.until,
            channel: Arc::new(adopted.channel),
            wishes,
        });
        lock(&self.0).push(retiree.clone());
        tokio::spawn(look_after(retiree, asked, ears.clone(), self.clone()));
    }

    /// Gives them a configuration that the worker has taken. Whoever does not take it is ended: its
    /// rules would be out of date.
    pub async fn configure(&self, candidate: &Arc<Candidate>) {
        let mut offers = tokio::task::JoinSet::new();
        for retiree in self.all() {
            let candidate = candidate.clone();
            offers.spawn(async move {
                let offered = wish(&retiree.wishes, |reply| Wish::Configure(candidate, reply));
                let taken = tokio::time::timeout(CONFIGURED_WITHIN, offered).await;
                let why = match taken {
                    Ok(Some(Ok(()))) => return,
                    Ok(Some(Err(why))) => why,
                    Ok(None) | Err(_) => "it does not answer".into(),
                };
                tracing::warn!(
                    pid = retiree.pid,
                    why,
                    "a worker of an earlier build does not take the configuration: its sessions are ended"
                );
                // Nobody waits for its end.
                let (reply, _) = oneshot::channel();
                let _ = retiree.wishes.send(Wish::Drain(Duration::ZERO, reply)).await;
            });
        }
        while offers.join_next().await.is_some() {}
    }

    /// Lets their sessions finish within that time, and waits for their end.
    pub async fn drain(&self, within: Duration) {
        let mut ends = tokio::task::JoinSet::new();
        for retiree in self.all() {
            ends.spawn(async move {
                wish(&retiree.wishes, |reply| Wish::Drain(within, reply)).await;
            });
        }
        while ends.join_next().await.is_some() {}
    }

    /// Passes something on to all but whoever says so.
    pub fn tell(&self, message: impl Fn() -> ToWorker, what: &'static str, from: &Arc<Channel>) {
        let others = self.all().into_iter();
        for retiree in others.filter(|r| !Arc::ptr_eq(&r.channel, from)) {
            let message = message();
            tokio::spawn(async move {
                let sending = retiree.channel.send(&message, None);
                if !matches!(tokio::time::timeout(SAID_WITHIN, sending).await, Ok(Ok(()))) {
                    tracing::warn!(
                        pid = retiree.pid,
                        what,
                        "a worker that retires was not told"
                    );
                }
            });
        }
    }

    fn remove(&self, pid: u32) {
        lock(&self.0).retain(|r| r.pid != pid);
    }
}

/// From its retirement to its end.
async fn look_after(
    retiree: Arc<Retiree>,
    asked: mpsc::Receiver<Wish>,
    ears: Ears,
    retired: Retired,
) {
    let (pid, version) = (retiree.pid, retiree.version.clone());
    let mut drained = Vec::new();
    let why = live(&retiree, asked, &ears, &mut drained).await;
    let how = reap(pid).await;
    retired.remove(pid);
    // Gone only when the keeper is.
    let _ = ears.desk.send(ForDesk::WorkerGone(pid)).await;
    let why = why.unwrap_or(how);
    ears.journal
        .write(&Entry::WorkerEnded { pid, version, why });
    for reply in drained {
        let _ = reply.send(());
    }
}

/// Until it has closed its socket. Why it was ended, if it did not do that by itself.
async fn live(
    retiree: &Retiree,
    mut asked: mpsc::Receiver<Wish>,
    ears: &Ears,
    drained: &mut Vec<oneshot::Sender<()>>,
) -> Option<String> {
    let mut talk = Talk::new(retiree.pid, retiree.channel.clone(), ears.clone());
    let left = retiree.until.duration_since(SystemTime::now());
    let left = left.unwrap_or_default();
    // What has changed since it was told last it hears first.
    if talk.tell_suspended().await.is_err() || talk.retire(left).await.is_err() {
        return None;
    }
    let mut by = tokio::time::Instant::now() + left + GRACE * 2;
    loop {
        tokio::select! {
            next = talk.next() => match talk.take(next).await {
                Heard::Nothing | Heard::Took(_) => {}
                Heard::Closed => return None,
                Heard::Over(why) => return Some(why),
            },
            wish = asked.recv() => match wish {
                None => return Some("nobody looks after it any more".into()),
                Some(Wish::Drain(within, reply)) => {
                    talk.drain(within).await;
                    by = by.min(tokio::time::Instant::now() + within + GRACE * 2);
                    drained.push(reply);
                }
                Some(Wish::Replace(of, why)) if Arc::ptr_eq(&of, &talk.channel) => return Some(why),
                Some(Wish::Pause(told, go_on)) => {
                    let carried = Carried {
                        pid: retiree.pid,
                        channel: talk.channel.clone(),
                    };
                    if !talk.is_offered() && told.send(carried).is_ok() {
                        let _ = go_on.await;
                    }
                }
                Some(wish) => talk.grant(wish).await,
            },
            () = tokio::time::sleep_until(by) => {
                return Some("its time was over, and it did not end".into());
            }
        }
    }
}

/// Waits for a child that we did not start ourselves, and ends it if it does not; says how it ended.
async fn reap(pid: u32) -> String {
    let Ok(pid) = i32::try_from(pid).map(Pid::from_raw) else {
        return "it has no process".into();
    };
    if let Some(how) = ended(pid, ENDED_WITHIN).await {
        return how;
    }
    let _ = kill(pid, Signal::SIGKILL);
    let how = ended(pid, ENDED_WITHIN).await;
    how.unwrap_or_else(|| "its end could not be observed".into())
}

async fn ended(pid: Pid, within: Duration) -> Option<String> {
    let by = tokio::time::Instant::now() + within;
    loop {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => return Some(format!("exit status: {code}")),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Some(format!("signal: {signal}")),
            Ok(_) => {}
            Err(errno) => return Some(format!("its end could not be observed: {errno}")),
        }
        if tokio::time::Instant::now() >= by {
            return None;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Reaps children that the keeper before had started and not waited for, whatever they are: their
/// work was for it.
pub async fn reap_strays(mut strays: Vec<u32>) {
    let by = tokio::time::Instant::now() + Duration::from_secs(60);
    while !strays.is_empty() {
        strays.retain(|pid| {
            let Ok(pid) = i32::try_from(*pid).map(Pid::from_raw) else {
                return false;
            };
            if tokio::time::Instant::now() >= by {
                let _ = kill(pid, Signal::SIGKILL);
            }
            matches!(
                waitpid(pid, Some(WaitPidFlag::WNOHANG)),
                Ok(WaitStatus::StillAlive)
            )
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The process's children, those that have ended and were not waited for among them.
pub fn children() -> Vec<u32> {
    let pid = std::process::id();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let lists = tasks
        .into_iter()
        .flatten()
        .flatten()
        .map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    let numbers = lists.flat_map(|list| {
        let numbers = list.split_whitespace().filter_map(|pid| pid.parse().ok());
        numbers.collect::<Vec<u32>>()
    });
    numbers.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[allow(
        clippy::zombie_processes,
        reason = "they are waited for by their numbers"
    )]
    async fn a_child_is_waited_for_by_its_number_and_ended_if_it_does_not() {
        let spawn = |script: &str| {
            let mut shell = std::process::Command::new("/bin/sh");
            let child = shell.args(["-c", script]).spawn().unwrap();
            child.id()
        };
        assert_eq!(reap(spawn("exit 3")).await, "exit status: 3");
        let started = std::time::Instant::now();
        let pid = spawn("exec sleep 60");
        assert!(children().contains(&pid));
        assert_eq!(reap(pid).await, "signal: SIGKILL");
        assert!(started.elapsed() < 2 * ENDED_WITHIN);
        assert!(!children().contains(&pid));
        assert!(reap(pid).await.contains("could not be observed"));
    }
}
