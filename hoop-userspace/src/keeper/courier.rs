//! Tells channels what becomes of questions: queues what is to be sent, hands it to the worker, which
//! speaks HTTP, and has it sent again when that fails.
//!
//! A channel only tells. Whether it works or not, nothing is approved by it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};

use super::console::button;
use super::journal::{Entry, Journal};
use super::lock;
use super::status::ChannelStatus;
use super::supervise::Worker;
use crate::ask::{Case, Happened, notice};
use crate::config::{ChannelKind, Config};
use crate::handover::{Delivery, ToWorker};

/// After each failure; then it is given up.
const PAUSES: [u64; 7] = [2, 10, 30, 120, 600, 1800, 3600];
/// What waits for one channel. Past it the oldest is given up.
const MOST: usize = 500;
/// Sent at once, to all channels.
const AT_ONCE: usize = 8;
/// A worker that has not answered by then has lost it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

pub struct Courier {
    queue: Mutex<Queue>,
    config: Mutex<Arc<Config>>,
    worker: Worker,
    journal: Arc<Journal>,
    changed: Notify,
}

#[derive(Default)]
struct Queue {
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
    channels: HashMap<String, Known>,
}

struct Waiting {
    delivery: Delivery,
    attempts: usize,
    due: Instant,
    /// Since when the worker has it.
    sent: Option<Instant>,
}

#[derive(Default)]
struct Known {
    delivered: u64,
    given_up: u64,
    /// Why the last attempt failed.
    problem: Option<String>,
}

/// What is still to be sent, for the keeper that takes over.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Carried {
    /// Numbers go on from here, because answers to earlier ones may still come.
    next: u64,
    waiting: Vec<CarriedDelivery>,
}

#[derive(Debug, Serialize, Deserialize)]
struct CarriedDelivery {
    delivery: Delivery,
    attempts: usize,
    /// Milliseconds until it is to be tried.
    due: u64,
    /// A worker has it.
    sent: bool,
}

/// What the worker answers: the delivery's number, and why it failed.
pub type Delivered = (u64, Option<String>);

impl Courier {
    pub fn new(
        config: Arc<Config>,
        worker: Worker,
        journal: Arc<Journal>,
        carried: Carried,
    ) -> Self {
        Self {
            queue: Mutex::new(Queue::take_over(carried, Instant::now())),
            config: Mutex::new(config),
            worker,
            journal,
            changed: Notify::new(),
        }
    }

    pub fn set_config(&self, config: Arc<Config>) {
        *lock(&self.config) = config;
    }

    /// What the keeper that takes over has to send.
    pub fn carry(&self) -> Carried {
        self.queue().carry(Instant::now())
    }

    /// Queues what happened for every channel.
    pub fn announce(&self, case: &Case, happened: Happened) {
        let config = lock(&self.config).clone();
        if config.channels.is_empty() {
            return;
        }
        let mut queue = self.queue();
        for channel in &config.channels {
            let body = match channel.kind {
                ChannelKind::Webhook => notice::webhook(case, happened, channel.statements),
                ChannelKind::Slack => {
                    let console = config.console.as_ref();
                    let slack = console.and_then(|console| console.slack.as_ref());
                    let value = slack.map(|slack| button::value(slack, case));
                    let extras = notice::Extras {
                        statements: channel.statements,
                        buttons: value.as_deref(),
                        console: console.map(|console| &*console.origin),
                    };
                    notice::slack(case, happened, extras)
                }
            };
            let state = case.standing.state;
            queue.put(Delivery {
                number: 0,
                channel: channel.name.clone(),
                // The same for every attempt, so that a receiver knows what it has.
                id: format!("{}-{}-{state}", case.id, happened.as_str()),
                body: body.to_string(),
            });
        }
        drop(queue);
        self.changed.notify_one();
    }

    /// Hands over what is due, for as long as the keeper lives.
    pub async fn serve(self: Arc<Self>, mut answers: mpsc::Receiver<Delivered>) {
        loop {
            let (ready, next) = self.queue().ready(Instant::now());
            let mut handed = false;
            if let Some(channel) = self.worker.now().ready.filter(|_| !ready.is_empty()) {
                for delivery in ready {
                    let number = delivery.number;
                    let message = ToWorker::Deliver(delivery);
                    handed = channel.send(&message, None).await.is_ok();
                    if !handed {
                        self.queue().lost(number);
                        break;
                    }
                }
            } else {
                handed = ready.is_empty();
                ready.iter().for_each(|d| self.queue().lost(d.number));
            }
            let pause = match handed {
                true => next.unwrap_or(Duration::from_secs(60)),
                false => Duration::from_secs(1),
            };
            tokio::select! {
                answer = answers.recv() => match answer {
                    Some(answer) => self.answered(answer),
                    None => return,
                },
                () = self.changed.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    pub fn status(&self) -> Vec<ChannelStatus> {
        let config = lock(&self.config).clone();
        let queue = self.queue();
        let status = |name: &str| {
            let waiting = queue.waiting.values();
            let known = queue.channels.get(name);
            ChannelStatus {
                name: name.to_owned(),
                waiting: waiting.filter(|w| w.delivery.channel == name).count(),
                delivered: known.map_or(0, |k| k.delivered),
                given_up: known.map_or(0, |k| k.given_up),
                problem: known.and_then(|k| k.problem.clone()),
            }
        };
        config.channels.iter().map(|c| status(&c.name)).collect()
    }

    fn answered(&self, (number, problem): Delivered) {
        let given_up = self.queue().answered(number, problem, Instant::now());
        if let Some((channel, why)) = given_up {
            self.journal.write(&Entry::Channel { channel, why });
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }
}

impl Queue {
    fn carry(&self, now: Instant) -> Carried {
        let waiting = self.waiting.values().map(|waiting| CarriedDelivery {
            delivery: waiting.delivery.clone(),
            attempts: waiting.attempts,
            due: millis(waiting.due.saturating_duration_since(now)),
            sent: waiting.sent.is_some(),
        });
        Carried {
            next: self.next,
            waiting: waiting.collect(),
        }
    }

    fn take_over(carried: Carried, now: Instant) -> Self {
        let mut queue = Self {
            next: carried.next,
            ..Self::default()
        };
        for carried in carried.waiting {
            let longest = PAUSES.last().copied().unwrap_or_default();
            let due = Duration::from_millis(carried.due).min(Duration::from_secs(longest));
            let number = carried.delivery.number;
            let waiting = Waiting {
                delivery: carried.delivery,
                attempts: carried.attempts,
                due: now + due,
                // Whoever has it may still answer.
                sent: carried.sent.then_some(now),
            };
            queue.waiting.insert(number, waiting);
        }
        queue
    }

    fn put(&mut self, mut delivery: Delivery) {
        self.next += 1;
        delivery.number = self.next;
        let of_channel = self.waiting.iter();
        let of_channel = of_channel.filter(|(_, w)| w.delivery.channel == delivery.channel);
        let numbers: Vec<u64> = of_channel.map(|(number, _)| *number).collect();
        if let Some(oldest) = numbers.first().filter(|_| numbers.len() >= MOST) {
            self.waiting.remove(oldest);
            let known = self.channels.entry(delivery.channel.clone()).or_default();
            known.given_up += 1;
        }
        let waiting = Waiting {
            delivery,
            attempts: 0,
            due: Instant::now(),
            sent: None,
        };
        self.waiting.insert(self.next, waiting);
    }

    /// What is to be sent now, and how long until something else may be.
    fn ready(&mut self, now: Instant) -> (Vec<Delivery>, Option<Duration>) {
        for waiting in self.waiting.values_mut() {
            // A worker that died took it along; it may have been sent, which its id tells.
            if waiting.sent.is_some_and(|at| now >= at + ANSWERED_WITHIN) {
                waiting.sent = None;
            }
        }
        let under_way = self.waiting.values().filter(|w| w.sent.is_some()).count();
        let mut ready = Vec::new();
        let mut next = None;
        for waiting in self.waiting.values_mut() {
            let at = match waiting.sent {
                Some(at) => at + ANSWERED_WITHIN,
                None if waiting.due > now => waiting.due,
                None if under_way + ready.len() < AT_ONCE => {
                    waiting.sent = Some(now);
                    ready.push(waiting.delivery.clone());
                    continue;
                }
                None => continue,
            };
            let left = at.saturating_duration_since(now);
            next = Some(next.map_or(left, |known: Duration| known.min(left)));
        }
        (ready, next)
    }

    /// It did not reach the worker.
    fn lost(&mut self, number: u64) {
        if let Some(waiting) = self.waiting.get_mut(&number) {
            waiting.sent = None;
            waiting.due = Instant::now() + Duration::from_secs(1);
        }
    }

    /// Channel and reason, if it is given up.
    fn answered(
        &mut self,
        number: u64,
        problem: Option<String>,
        now: Instant,
    ) -> Option<(String, String)> {
        let waiting = self.waiting.get_mut(&number)?;
        let channel = waiting.delivery.channel.clone();
        let known = self.channels.entry(channel.clone()).or_default();
        known.problem.clone_from(&problem);
        let Some(why) = problem else {
            known.delivered += 1;
            self.waiting.remove(&number);
            return None;
        };
        let pause = PAUSES.get(waiting.attempts).copied();
        waiting.attempts += 1;
        waiting.sent = None;
        match pause {
            Some(pause) => {
                waiting.due = now + Duration::from_secs(pause);
                None
            }
            None => {
                known.given_up += 1;
                self.waiting.remove(&number);
                Some((channel, why))
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_taken_over_and_what_is_under_way_is_answered_to_the_next_keeper() {
        let mut before = Queue::default();
        before.put(delivery("ops"));
        assert_eq!(before.ready(Instant::now()).0.len(), 1);
        before.put(delivery("ops"));
        let now = Instant::now();
        let carried = serde_json::to_string(&before.carry(now)).unwrap();
        let mut after = Queue::take_over(serde_json::from_str(&carried).unwrap(), now);
        // The first is the old worker's to answer, the second is to be sent.
        let ready = after.ready(now).0;
        assert_eq!(ready.iter().map(|d| d.number).collect::<Vec<_>>(), [2]);
        assert_eq!(after.answered(1, None, now), None);
        after.put(delivery("ops"));
        assert_eq!(after.ready(Instant::now()).0[0].number, 3);
    }

    fn delivery(channel: &str) -> Delivery {
        Delivery {
            number: 0,
            channel: channel.into(),
            id: "q".into(),
            body: "{}".into(),
        }
    }

    #[test]
    fn what_fails_is_sent_again_later_each_time_and_given_up_in_the_end() {
        let mut queue = Queue::default();
        queue.put(delivery("ops"));
        let mut now = Instant::now();
        for pause in PAUSES {
            let (ready, _) = queue.ready(now);
            assert_eq!(ready.len(), 1);
            assert!(queue.ready(now).0.is_empty(), "it is under way");
            assert_eq!(queue.answered(1, Some("500".into()), now), None);
            let (early, next) = queue.ready(now);
            assert!(early.is_empty());
            assert_eq!(next, Some(Duration::from_secs(pause)));
            now += Duration::from_secs(pause);
        }
        queue.ready(now);
        let given_up = queue.answered(1, Some("500".into()), now);
        assert_eq!(given_up, Some(("ops".into(), "500".into())));
        assert!(queue.waiting.is_empty());
    }

    #[test]
    fn a_channel_that_is_down_keeps_no_other_from_hearing() {
        let mut queue = Queue::default();
        for _ in 0..2 * MOST {
            queue.put(delivery("down"));
        }
        assert_eq!(queue.waiting.len(), MOST);
        assert_eq!(queue.channels["down"].given_up, MOST as u64);
        let now = Instant::now();
        for delivery in queue.ready(now).0 {
            queue.answered(delivery.number, Some("refused".into()), now);
        }
        queue.put(delivery("up"));
        let now = Instant::now();
        let mut names = Vec::new();
        for _ in 0..MOST {
            let ready = queue.ready(now).0;
            names.extend(ready.iter().map(|d| d.channel.clone()));
            for delivery in ready {
                queue.answered(delivery.number, Some("refused".into()), now);
            }
        }
        assert!(names.contains(&"up".into()));
    }

    #[test]
    fn what_a_dead_worker_took_along_is_sent_by_the_next() {
        let mut queue = Queue::default();
        queue.put(delivery("ops"));
        let now = Instant::now();
        assert_eq!(queue.ready(now).0.len(), 1);
        assert_eq!(queue.ready(now + ANSWERED_WITHIN).0.len(), 1);
    }
}
