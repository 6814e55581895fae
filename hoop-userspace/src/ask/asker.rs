//! The worker's end: puts questions, hears answers, and remembers what runs under which approval.

use std::collections::{HashMap, hash_map};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use super::asking::{Answer, Asking, Heard, Said, Ticket, ToDesk, Withdrawn};
use crate::decide::Scope;
use crate::ids::{QuestionId, SessionId};
use crate::mask::Change;

/// How long past its deadline a question's answer is waited for.
const UNANSWERED: Duration = Duration::from_secs(15);
/// For the keeper to say that people are asked. It looks up the name of an account first, and writes.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);
/// Questions on their way to the keeper at once.
const ON_THE_WAY: usize = 256;

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Asker(Arc<Shared>);

struct Shared {
    /// Bounded by `places`: a client's next question waits until the keeper has taken the last.
    tell: mpsc::UnboundedSender<ToDesk>,
    places: Arc<Semaphore>,
    /// For the keeper to take a question.
    patience: Duration,
    state: Mutex<State>,
}

struct State {
    next: u64,
    waiting: HashMap<Ticket, Waiting>,
    running: HashMap<QuestionId, Vec<SessionId>>,
}

struct Waiting {
    session: SessionId,
    heard: mpsc::UnboundedSender<News>,
}

/// What became of a question.
#[derive(Debug)]
pub enum News {
    Asked {
        question: QuestionId,
        until: SystemTime,
        joined: bool,
    },
    /// A while has passed; the client should hear that it still waits.
    Remind,
    Answered(Option<QuestionId>, Outcome),
}

#[derive(Debug)]
pub enum Outcome {
    Approved {
        approval: Approval,
        under: Under,
        said: Vec<Said>,
        scope: Scope,
        until: Option<SystemTime>,
        break_glass: bool,
    },
    Refused {
        by: String,
        reason: String,
    },
    Expired,
    Unavailable(String),
}

/// That people approved one question: what settles it, and no other.
///
/// ```compile_fail
/// let forged = hoop::ask::Approval { digest: [0; 32] };
/// ```
///
/// ```compile_fail
/// fn twice(a: hoop::ask::Approval) { let _ = (a.clone(), a); }
/// ```
#[derive(Debug)]
pub struct Approval {
    digest: [u8; 32],
}

impl Approval {
    /// Of the question that was put: [`crate::decide::Question::digest`].
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    #[cfg(test)]
    pub(crate) fn for_test(digest: [u8; 32]) -> Self {
        Self { digest }
    }
}

/// As long as it lives, the session runs something under an approval, and is ended with it.
pub struct Under {
    question: QuestionId,
    session: SessionId,
    asker: Asker,
}

impl Under {
    pub fn question(&self) -> QuestionId {
        self.question
    }
}

impl std::fmt::Debug for Under {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Under({})", self.question)
    }
}

/// A question that waits for its answer. Dropping it takes it back as if the client had hung up.
pub struct Pending {
    asker: Asker,
    ticket: Ticket,
    digest: [u8; 32],
    heard: mpsc::UnboundedReceiver<News>,
    /// Not sent yet.
    asking: Option<Box<Asking>>,
    /// Until the keeper has said something.
    place: Option<OwnedSemaphorePermit>,
    remind: Interval,
    /// When the keeper must have answered, which it does by itself; at first, when it must have
    /// taken the question.
    latest: Instant,
    taken: bool,
    /// Whether the keeper still has to hear that nobody waits.
    open: bool,
}

impl Asker {
    /// `first` begins the numbering of tickets, and should be random: an answer to an earlier
    /// worker must not fit.
    pub fn new(first: u64, tell: mpsc::UnboundedSender<ToDesk>) -> Self {
        Self::patient(first, tell, TAKEN_WITHIN)
    }

    /// The same with another patience.
    pub(super) fn patient(
        first: u64,
        tell: mpsc::UnboundedSender<ToDesk>,
        patience: Duration,
    ) -> Self {
        Self(Arc::new(Shared {
            tell,
            patience,
            places: Arc::new(Semaphore::new(ON_THE_WAY)),
            state: Mutex::new(State {
                next: first,
                waiting: HashMap::new(),
                running: HashMap::new(),
            }),
        }))
    }

    /// Puts a question; reminders come every `remind`.
    pub fn ask(&self, asking: Asking, digest: [u8; 32], remind: Duration) -> Pending {
        let (tell, heard) = mpsc::unbounded_channel();
        let mut state = self.state();
        let ticket = Ticket(state.next);
        state.next = state.next.wrapping_add(1);
        let waiting = Waiting {
            session: asking.session,
            heard: tell,
        };
        state.waiting.insert(ticket, waiting);
        drop(state);
        let mut remind = interval_at(Instant::now() + remind, remind);
        remind.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Pending {
            asker: self.clone(),
            ticket,
            digest,
            heard,
            asking: Some(Box::new(asking)),
            place: None,
            remind,
            latest: Instant::now() + self.0.patience,
            taken: false,
            open: false,
        }
    }

    /// The sessions whose clients wait for people.
    pub fn held(&self) -> Vec<SessionId> {
        let state = self.state();
        state.waiting.values().map(|w| w.session).collect()
    }

    /// Takes what the keeper said. Returns sessions that must end, and why.
    pub fn hear(&self, heard: Heard) -> Vec<(SessionId, String)> {
        let mut state = self.state();
        match heard {
            Heard::Asked {
                ticket,
                question,
                until,
                joined,
            } => {
                if let Some(waiting) = state.waiting.get(&ticket) {
                    // Gone only if it gives up right now, which it says itself.
                    let _ = waiting.heard.send(News::Asked {
                        question,
                        until,
                        joined,
                    });
                }
                Vec::new()
            }
            Heard::Answered {
                ticket,
                question,
                answer,
            } => {
                let Some(waiting) = state.waiting.remove(&ticket) else {
                    return Vec::new();
                };
                // From here on, so that a revocation right behind the answer finds it.
                let under = question.inspect(|question| {
                    let sessions = state.running.entry(*question).or_default();
                    sessions.push(waiting.session);
                });
                drop(state);
                let under = under.map(|question| Under {
                    question,
                    session: waiting.session,
                    asker: self.clone(),
                });
                let _ = waiting
                    .heard
                    .send(News::Answered(question, outcome(answer, under)));
                Vec::new()
            }
            Heard::Revoked { question, why } => {
                let sessions = state.running.get(&question).cloned().unwrap_or_default();
                sessions.into_iter().map(|s| (s, why.clone())).collect()
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `Pending` puts the digest in: what it asked about, not what the answer claims.
fn outcome(answer: Answer, under: Option<Under>) -> Outcome {
    match (answer, under) {
        (
            Answer::Approved {
                said,
                scope,
                until,
                break_glass,
            },
            Some(under),
        ) => Outcome::Approved {
            approval: Approval { digest: [0; 32] },
            under,
            said,
            scope,
            until,
            break_glass,
        },
        (Answer::Approved { .. }, None) => {
            Outcome::Unavailable("an approval came for no question".into())
        }
        (Answer::Refused { by, reason }, _) => Outcome::Refused { by, reason },
        (Answer::Expired, _) => Outcome::Expired,
        (Answer::Unavailable(why), _) => Outcome::Unavailable(why),
    }
}

impl Pending {
    /// What comes next. Cancel-safe.
    pub async fn next(&mut self) -> News {
        if self.asking.is_some() {
            let place = self.asker.0.places.clone().acquire_owned();
            match tokio::time::timeout_at(self.latest, place).await {
                Ok(place) => self.place = place.ok(),
                Err(_) => return self.too_late(),
            }
            if let Some(asking) = self.asking.take() {
                let ticket = self.ticket;
                self.open = self
                    .asker
                    .0
                    .tell
                    .send(ToDesk::Ask { ticket, asking })
                    .is_ok();
            }
        }
        if !self.open {
            return News::Answered(None, Outcome::Unavailable("hoop is stopping".into()));
        }
        tokio::select! {
            biased;
            heard = self.heard.recv() => {
                self.place = None;
                match heard {
                    Some(News::Answered(question, outcome)) => {
                        self.open = false;
                        News::Answered(question, self.bound(outcome))
                    }
                    Some(news) => {
                        if let News::Asked { until, .. } = &news {
                            let left = until.duration_since(SystemTime::now());
                            let left = left.unwrap_or_default() + UNANSWERED;
                            self.latest = Instant::now() + left;
                            self.taken = true;
                        }
                        news
                    }
                    None => {
                        self.open = false;
                        News::Answered(None, Outcome::Unavailable("hoop is stopping".into()))
                    }
                }
            }
            () = sleep_until(self.latest) => self.too_late(),
            _ = self.remind.tick() => News::Remind,
        }
    }

    fn too_late(&mut self) -> News {
        let (why, how) = match self.taken {
            true => (
                "the keeper did not answer when its time was over",
                Withdrawn::HungUp,
            ),
            // Should it still come to it, nobody is to be asked: its client is told so now.
            false => {
                let why = "the keeper did not take the question in time";
                (why, Withdrawn::Cancelled(why.into()))
            }
        };
        self.asking = None;
        self.take_back(how);
        News::Answered(None, Outcome::Unavailable(why.into()))
    }

    /// Says how many rows the statement is expected to return or change.
    pub fn estimated(&self, rows: u64) {
        if self.open {
            let ticket = self.ticket;
            // A keeper that is gone needs no word.
            let _ = self.asker.0.tell.send(ToDesk::Estimated { ticket, rows });
        }
    }

    /// Says what the request would change, once that has passed the masks:
    ///
    /// ```compile_fail
    /// fn f(p: &hoop::ask::Pending, raw: hoop::mask::Foreseen) { p.foreseen(raw) }
    /// ```
    pub fn foreseen(&self, change: Change) {
        if self.open {
            let (ticket, change) = (self.ticket, change.into());
            // A keeper that is gone needs no word.
            let told = ToDesk::Foreseen { ticket, change };
            let _ = self.asker.0.tell.send(told);
        }
    }

    /// Takes the question back.
    pub fn withdraw(mut self, how: Withdrawn) {
        self.take_back(how);
    }

    fn bound(&self, mut outcome: Outcome) -> Outcome {
        if let Outcome::Approved { approval, .. } = &mut outcome {
            approval.digest = self.digest;
        }
        outcome
    }

    fn take_back(&mut self, how: Withdrawn) {
        self.asker.state().waiting.remove(&self.ticket);
        if std::mem::take(&mut self.open) {
            let ticket = self.ticket;
            // A keeper that is gone needs no word.
            let _ = self.asker.0.tell.send(ToDesk::Withdraw { ticket, how });
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.take_back(Withdrawn::HungUp);
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        let mut state = self.asker.state();
        let hash_map::Entry::Occupied(mut running) = state.running.entry(self.question) else {
            return;
        };
        let sessions = running.get_mut();
        if let Some(at) = sessions.iter().position(|s| *s == self.session) {
            sessions.swap_remove(at);
        }
        if sessions.is_empty() {
            running.remove();
        }
    }
}
