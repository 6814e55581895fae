//! THE LOOP: request → decide → ask → record → forward; reply → mask → record → reply.
//!
//! It is the same for every protocol and does no I/O of its own: [`Protocol::next`] drives all four
//! sides, and everything else enqueues. Three things can make one direction wait while the others go
//! on: a request whose tables are being looked up, or whose verdict is on its way to the disk, holds
//! the client, so does one that people are asked about, and replies whose tables are being looked up
//! hold the server. An operator may hold the client as well.

pub mod activity;
mod asking;
mod freezing;
mod looking;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Sleep;

use crate::ask::Asker;
use crate::config::Mode;
use crate::decide::{Code, Decided, Decider, Permitted, Question, Refusal, Retry, Subject};
use crate::handover::Freeze;
use crate::identify::Identity;
use crate::ids::{Epochs, ExchangeId};
use crate::mask::{Catalog, KubernetesMasks, Masker, Masking, Rules};
use crate::record::{RecordError, Recorded, SessionRecorder};
use crate::terminate::{
    Bulk, ClientGate, End, Event, Gate, Grant, Protocol, Replies, Request, SessionError, Side,
};
use activity::Watched;
use asking::{Asked, Running};
use freezing::Frozen;
use looking::{Stalled, Undecided, Waiting, decidable, looked_up};

/// How long the end of a program's output waits for more, so that a value in it is seen whole.
const HELD_BACK: Duration = Duration::from_millis(15);

/// How often what has come goes before what is held back, when that has waited long enough.
const TURNS: u32 = 3;

/// What a client is sent at once when it has just sent something: the echo of a key, a short answer.
const SHORT: usize = 256;

/// Where the masks learn which table and column a result's column is.
pub trait Catalogs: Send + Sync {
    /// What is known now; empty before the first look-up.
    fn current(&self) -> Arc<Catalog>;
    /// Looks again, on a connection of hoop's own. Returns what was there at some moment after the
    /// call; nothing where the look-up failed: all is masked whole then, since what was known
    /// before may be what has changed.
    fn refresh(&self) -> LookUp;
    /// A look-up that a decision should wait for, which ends by itself soon. None is due while what
    /// is known counts, unless the session `changed` what there is, nor for a while after one failed.
    fn due(&self, changed: bool) -> Option<LookUp>;
    /// How many rows the server expects this statement to return or change: it is planned, and not
    /// run, on a connection of hoop's own. `None` where that is not permitted, or too much is being
    /// planned; the future ends soon, with nothing if there is no telling.
    fn estimate(&self, _statement: &str) -> Option<Estimate> {
        None
    }
    /// A session changes what there is, or has just changed it: what was looked up before counts no
    /// more, for any session.
    fn outdated(&self) {}
}

/// What a look-up brings; see [`Catalogs::refresh`].
pub type LookUp = Pin<Box<dyn Future<Output = Arc<Catalog>> + Send>>;

/// Rows; see [`Catalogs::estimate`].
pub type Estimate = Pin<Box<dyn Future<Output = Option<u64>> + Send>>;

/// The rules in force. A reload puts a new one in place; live sessions take it at their next statement.
pub struct Rulebook {
    pub epoch: u64,
    pub decider: Arc<Decider>,
    pub masks: Arc<Rules>,
    /// Of a resource that is an API server: what its objects are masked by.
    pub objects: Option<Arc<KubernetesMasks>>,
    /// How often a client that waits for people hears that it does.
    pub remind: Duration,
}

/// Everything that one session needs beside its protocol.
pub struct Context {
    pub subject: Subject,
    /// The subject's identity as it is renewed; the same principal always.
    pub identity: watch::Receiver<Arc<Identity>>,
    pub rulebook: watch::Receiver<Arc<Rulebook>>,
    pub catalogs: Arc<dyn Catalogs>,
    pub recorder: SessionRecorder,
    /// Puts questions to people.
    pub asker: Asker,
    /// Counts what the session does.
    pub watched: Watched,
    /// Revocation, kill and drain arrive here.
    pub ends: watch::Receiver<Option<End>>,
    /// An operator's word that it is to stand still, or to go on.
    pub freezes: watch::Receiver<Option<Freeze>>,
}

/// Runs one session to its end; returns why it ended. The recording says the same.
pub async fn run<P: Protocol>(protocol: P, context: Context) -> End {
    let Context {
        mut subject,
        identity,
        mut rulebook,
        catalogs,
        mut recorder,
        asker,
        watched,
        mut ends,
        freezes,
    } = context;
    let rules = rulebook.borrow_and_update().clone();
    subject.epochs.policy = rules.epoch;
    recorder.redact(rules.masks.detection().cloned());
    recorder.redact_objects(rules.objects.clone());
    let mut masker = Masker::new(rules.masks.clone());
    // What observe mode would have masked passes; the recording is masked all the same.
    masker.set_objects(rules.objects.clone());
    masker.observe(subject.mode == Mode::Observe);
    let mut session = Session {
        protocol,
        subject,
        identity,
        masker,
        rules,
        rulebook,
        catalogs,
        recorder,
        asker,
        watched,
        grants: Vec::new(),
        held: None,
        asked: None,
        freezes,
        frozen: None,
        running: Vec::new(),
        stalled: None,
        undecided: None,
        changing: None,
        changed: false,
        printing: None,
        echoing: false,
    };
    let end = session.until_end(&mut ends).await;
    let left = session
        .leave(&end)
        .and_then(|()| session.leave_frozen())
        .and_then(|()| session.let_go());
    let end = left.err().map_or(end, |Ended(why)| why);
    let Session {
        protocol,
        mut recorder,
        catalogs,
        changing,
        changed,
        ..
    } = session;
    // Boxed: until then the task need not have room for it.
    let outcome = Box::pin(protocol.stop(&end)).await;
    if changing.is_some() || changed {
        // It has committed what no look-up was made for.
        catalogs.outdated();
    }
    if let Err(error) = recorder.ended(&end, outcome) {
        // Nothing is left to stop; the missing seal is itself what `hoop verify` reports.
        tracing::error!(%error, "the end of a session could not be recorded");
    }
    end
}

struct Session<P> {
    protocol: P,
    subject: Subject,
    identity: watch::Receiver<Arc<Identity>>,
    rules: Arc<Rulebook>,
    rulebook: watch::Receiver<Arc<Rulebook>>,
    masker: Masker,
    catalogs: Arc<dyn Catalogs>,
    recorder: SessionRecorder,
    asker: Asker,
    watched: Watched,
    /// Requests that may still send more, oldest first; seldom more than one.
    grants: Vec<Grant>,
    held: Option<Held>,
    asked: Option<Asked>,
    freezes: watch::Receiver<Option<Freeze>>,
    frozen: Option<Frozen>,
    running: Vec<Running>,
    stalled: Option<Stalled>,
    /// Boxed: there is seldom one.
    undecided: Option<Box<Undecided>>,
    /// The last forwarded request that may change what tables there are.
    changing: Option<ExchangeId>,
    /// What is known of the database is older than a change by this session.
    changed: bool,
    /// Until when the end of what was printed waits for more.
    printing: Option<Printing>,
    /// The client has sent something, and nothing was printed since.
    echoing: bool,
}

/// A decided request that waits for the disk.
struct Held {
    permitted: Option<Recorded<Permitted>>,
    refusal: Option<Recorded<Refusal>>,
    /// What people are to be asked about then.
    question: Option<Box<Question>>,
    /// The approval that released it.
    running: Option<Running>,
    durable: Pin<Box<dyn Future<Output = Result<(), RecordError>> + Send>>,
}

impl<P: Protocol> Session<P> {
    async fn until_end(&mut self, ends: &mut watch::Receiver<Option<End>>) -> End {
        // One wait for the whole session: a new one for each statement would be a new place in the
        // channel's list.
        let mut told = pin!(told_to_end(ends));
        loop {
            let gate = Gate {
                client: if self.client_waits() {
                    ClientGate::ControlOnly
                } else {
                    ClientGate::Open
                },
                upstream: self.stalled.is_none(),
            };
            // What the client has sent goes no further than it has come.
            let moves = self.frozen.is_none();
            let step = tokio::select! {
                biased;
                end = &mut told => return end,
                Ok(()) = self.freezes.changed() => self.freeze_changed(),
                still = freezing::still(&self.frozen) => self.stands_still(still),
                durable = on_disk(&mut self.held), if moves => self.release(durable),
                catalog = looked_up(&mut self.stalled) => self.resume(&catalog),
                news = asking::news(&mut self.asked), if moves => self.heard(news),
                Ok(()) = self.rulebook.changed(), if moves && self.asked.is_some() => self.decide_anew(),
                (waited, catalog) = decidable(&mut self.undecided), if moves => self.looked_at(*waited, &catalog),
                () = printed(&mut self.printing) => self.let_go(),
                event = self.protocol.next(gate) => match event {
                    Ok(event) => self.take(event),
                    Err(error) => Err(error.into()),
                },
            };
            if let Err(end) = step {
                return end.0;
            }
        }
    }

    /// For the catalog, the disk, people, or an operator. What the client has defined is to be known before it
    /// is used.
    fn client_waits(&self) -> bool {
        let settling = self.stalled.as_ref().is_some_and(|s| s.settles.is_some());
        self.undecided.is_some()
            || self.held.is_some()
            || self.asked.is_some()
            || self.frozen.is_some()
            || settling
    }

    fn take(&mut self, event: Event) -> Result<(), Ended> {
        match event {
            Event::Request(request) => self.request(request),
            Event::Bulk(exchange, bulk) => self.bulk(exchange, bulk),
            Event::Replies(replies) => {
                self.replies(replies, &self.catalogs.current())?;
                self.tell_waiting();
                self.tell_frozen();
                Ok(())
            }
            Event::Cancel(exchange) => {
                self.recorder.cancel(exchange)?;
                if self
                    .held
                    .as_ref()
                    .is_some_and(|held| held.running.is_some())
                {
                    return self.cancel_released();
                }
                if let Some(waited) = self.undecided.take_if(|u| u.is_approved()) {
                    return self.cancel_approved(*waited);
                }
                // What waits for people is not at the server, but what came before it may be.
                if self.asked.is_none() || exchange.is_some() {
                    self.protocol.cancel();
                }
                self.cancel_question()
            }
            Event::Impatient(exchange) => self.hold_no_longer(exchange),
            Event::Transferred(transfer) => Ok(self.recorder.transferred(&transfer)?),
            Event::HalfClosed(Side::Client) | Event::Closed => Err(Ended(End::Finished)),
            Event::HalfClosed(Side::Upstream) => Err(Ended(End::Broken(
                "the server closed the connection".into(),
            ))),
        }
    }

    fn request(&mut self, request: Request) -> Result<(), Ended> {
        self.take_new_rules()?;
        match self.catalogs.due(self.changed) {
            Some(looked_up) if self.rules.decider.depends_on_objects(&request) => {
                self.wait_for_catalog(Waiting::Request(request), looked_up);
                Ok(())
            }
            _ => self.decide(request),
        }
    }

    fn decide(&mut self, request: Request) -> Result<(), Ended> {
        self.take_new_rules()?;
        self.know(&self.catalogs.current());
        self.know_activity();
        let decided = self.rules.decider.decide(&self.subject, request);
        self.decided(decided)
    }

    /// Rules that speak of it go by what the agent has done up to now.
    fn know_activity(&mut self) {
        if self.rules.decider.watches() {
            self.subject.activity = self.watched.now();
        }
    }

    fn decided(&mut self, decided: Decided) -> Result<(), Ended> {
        match decided {
            Decided::Permitted(permitted) => self.conclude(Some(permitted), None, None),
            Decided::Refused { before, refusal } => self.conclude(before, Some(refusal), None),
            Decided::Ask { before, question } => self.conclude(before, None, Some(question)),
        }
    }

    /// Records in the order of the wire, all before any of it takes effect.
    fn conclude(
        &mut self,
        permitted: Option<Permitted>,
        refusal: Option<Refusal>,
        question: Option<Box<Question>>,
    ) -> Result<(), Ended> {
        if question.is_none() {
            // An idle session does not keep what is known of the database alive.
            self.subject.objects = Arc::default();
        }
        let watches = self.rules.decider.watches();
        if let Some(permitted) = permitted.as_ref().filter(|_| watches) {
            self.watched.permitted(permitted);
        }
        if refusal.is_some() && watches {
            self.watched.refused();
        }
        let permitted = permitted.map(|p| self.recorder.permitted(p)).transpose()?;
        let refusal = refusal.map(|r| self.recorder.refusal(r)).transpose()?;
        if self.recorder.waits_for_disk() && (permitted.is_some() || refusal.is_some()) {
            self.wait_for_disk(permitted, refusal, question, None);
            return Ok(());
        }
        self.carry_out(permitted, refusal, question)
    }

    fn wait_for_disk(
        &mut self,
        permitted: Option<Recorded<Permitted>>,
        refusal: Option<Recorded<Refusal>>,
        question: Option<Box<Question>>,
        running: Option<Running>,
    ) {
        self.held = Some(Held {
            permitted,
            refusal,
            question,
            running,
            durable: Box::pin(self.recorder.durable()),
        });
    }

    /// A reload, or a renewed token, may have come between two statements.
    fn take_new_rules(&mut self) -> Result<(), Ended> {
        if self.rulebook.has_changed().unwrap_or(false) {
            self.take_rules();
        }
        // A renewed token may have other groups: verdicts of before do not hold for it.
        if self.identity.has_changed().unwrap_or(false) {
            self.subject.identity = self.identity.borrow_and_update().clone();
            self.subject.epochs.identity += 1;
            let epoch = self.subject.epochs.identity;
            self.recorder.renewed(&self.subject.identity, epoch)?;
        }
        Ok(())
    }

    fn take_rules(&mut self) {
        self.rules = self.rulebook.borrow_and_update().clone();
        self.subject.epochs.policy = self.rules.epoch;
        self.masker.set_rules(self.rules.masks.clone());
        self.masker.set_objects(self.rules.objects.clone());
        self.recorder.redact_objects(self.rules.objects.clone());
        let detection = self.rules.masks.detection();
        self.recorder.redact(detection.cloned());
    }

    /// What people approved has not been forwarded yet, and its client no longer wants it.
    fn cancel_released(&mut self) -> Result<(), Ended> {
        let held = self.held.take();
        let Some(permitted) = held.and_then(|held| held.permitted) else {
            return Ok(());
        };
        let refusal = unwanted(permitted.get());
        let refusal = self.recorder.refusal(refusal)?;
        self.carry_out(None, Some(refusal), None)
    }

    /// The same of what waits for the catalog, to be decided once more.
    fn cancel_approved(&mut self, waited: Undecided) -> Result<(), Ended> {
        // The look-up is broken off, and owed still.
        self.settled(waited.settles, &Arc::default());
        self.changed |= waited.changed;
        match waited.what {
            Waiting::Approved(approved) => self.conclude(None, Some(approved.unwanted()), None),
            // Nobody was asked about it; the caller takes none of these.
            Waiting::Request(request) => self.decide(request),
        }
    }

    /// The verdict has reached the disk.
    fn release(&mut self, durable: Result<(), RecordError>) -> Result<(), Ended> {
        durable?;
        let Some(held) = self.held.take() else {
            return Ok(());
        };
        self.take_new_rules()?;
        let epochs = self.subject.epochs;
        match held.permitted {
            Some(permitted) if permitted.get().epochs() != epochs => {
                let refusal = outdated(permitted.get(), epochs);
                let refusal = self.recorder.refusal(refusal)?;
                self.carry_out(None, Some(refusal), None)
            }
            permitted => {
                held.running.into_iter().for_each(|r| self.runs_under(r));
                self.carry_out(permitted, held.refusal, held.question)
            }
        }
    }

    fn carry_out(
        &mut self,
        permitted: Option<Recorded<Permitted>>,
        refusal: Option<Recorded<Refusal>>,
        question: Option<Box<Question>>,
    ) -> Result<(), Ended> {
        let told = permitted.as_ref().map(|p| p.get().exchange());
        let told = told.or(refusal.as_ref().map(|r| r.get().exchange));
        let fresh = self.grants.iter().all(|g| Some(g.exchange()) != told);
        if let Some(permitted) = permitted {
            let catalog = self.catalogs.current();
            let runs_unseen = self.masker.begin(permitted.get(), &catalog);
            self.watch_for_changes(permitted.get(), runs_unseen);
            let grant = self.protocol.forward(permitted)?;
            self.grants.push(grant);
        }
        if let Some(refusal) = refusal {
            self.protocol.refuse(refusal)?;
        }
        match question {
            Some(question) => self.ask(question),
            None => {
                if let Some(told) = told {
                    self.forget_unanswered(told, fresh);
                }
                Ok(())
            }
        }
    }

    /// What nothing answers has no end that would be told: a client that sends Flush for ever must not
    /// fill the memory. Of an exchange that is not `fresh`, answers may wait for the catalog.
    fn forget_unanswered(&mut self, exchange: ExchangeId, fresh: bool) {
        if (fresh || self.stalled.is_none()) && !self.protocol.awaits(exchange) {
            self.grants.retain(|g| g.exchange() != exchange);
            self.masker.unanswered(exchange);
        }
    }

    fn bulk(&mut self, exchange: ExchangeId, bulk: Bulk) -> Result<(), Ended> {
        let Some(grant) = self.grants.iter_mut().find(|g| g.exchange() == exchange) else {
            return Err(Ended(End::Broken(
                "content arrived for a request that was not permitted".into(),
            )));
        };
        self.recorder.bulk(exchange, &bulk)?;
        self.echoing = !bulk.end;
        self.protocol.more(grant, bulk)?;
        Ok(())
    }

    fn replies(&mut self, replies: Replies, catalog: &Arc<Catalog>) -> Result<(), Ended> {
        if replies.parts.is_empty() {
            return Ok(());
        }
        match self.masker.mask(replies, catalog) {
            Masking::Done(masked) => {
                let done = masked.done();
                if self.rules.decider.watches() {
                    self.watched.replied(&masked);
                }
                let moved = !masked.record().is_empty();
                let short = masked.record().len() <= SHORT && self.masker.held() <= SHORT;
                if moved || !masked.wire().is_empty() {
                    let recorded = self.recorder.masked(masked)?;
                    self.protocol.reply(recorded)?;
                }
                match std::mem::take(&mut self.echoing) && short {
                    true => self.let_go()?,
                    false => self.wait_for_more(moved),
                }
                if let Some(done) = done {
                    self.done(done);
                }
            }
            Masking::NeedsCatalog(replies) => {
                self.stalled = Some(Stalled {
                    replies,
                    catalog: self.catalogs.refresh(),
                    settles: None,
                });
            }
        }
        Ok(())
    }

    /// What is held back waits from when it came, not from when the last of it came.
    fn wait_for_more(&mut self, moved: bool) {
        if self.masker.held() == 0 {
            self.printing = None;
        } else if moved || self.printing.is_none() {
            self.printing = Some(Printing {
                until: Box::pin(tokio::time::sleep(HELD_BACK)),
                turns: 0,
            });
        }
    }

    /// Nothing more was printed for a moment: what waits is decided as it is.
    fn let_go(&mut self) -> Result<(), Ended> {
        self.printing = None;
        if let Some(masked) = self.masker.let_go() {
            let recorded = self.recorder.masked(masked)?;
            self.protocol.reply(recorded)?;
        }
        Ok(())
    }

    fn done(&mut self, done: ExchangeId) {
        self.grants.retain(|g| g.exchange() > done);
        self.no_longer_runs(done);
        // Within a transaction, nobody else sees what it has defined, the look-up neither.
        if self.changing.is_some_and(|changing| changing <= done) && self.masker.is_idle() {
            // Another session may have looked before it was committed.
            self.catalogs.outdated();
            if self.rules.masks.is_empty() {
                self.changing = None;
                self.changed = true;
                return;
            }
            if self.catalogs.due(true).is_none() {
                // One failed a moment ago; until another is made, this session's names are unknown.
                self.changed = true;
                return;
            }
            // Later results are attributed by what the tables are now.
            let settles = self.changing.take();
            let nothing = Replies {
                wire: Bytes::new(),
                parts: Vec::new(),
            };
            self.stalled = Some(Stalled {
                replies: nothing,
                catalog: self.catalogs.refresh(),
                settles,
            });
        }
    }
}

fn outdated(permitted: &Permitted, now: Epochs) -> Refusal {
    let what = if permitted.epochs().policy == now.policy {
        "identity"
    } else {
        "policy"
    };
    Refusal {
        exchange: permitted.exchange(),
        unit: permitted.first(),
        code: Code::Changed,
        message: format!("the {what} changed while this request was waiting to be recorded"),
        rule: None,
        retry: Retry::Again,
        hint: "send it again; it will be decided under the rules that hold now".into(),
        approval: None,
        asked: None,
    }
}

fn unwanted(permitted: &Permitted) -> Refusal {
    Refusal {
        exchange: permitted.exchange(),
        unit: permitted.first(),
        code: Code::Cancelled,
        message: "the statement was cancelled before it was forwarded".into(),
        rule: None,
        retry: Retry::Again,
        hint: "send it again to ask anew".into(),
        approval: None,
        asked: None,
    }
}

async fn told_to_end(ends: &mut watch::Receiver<Option<End>>) -> End {
    match ends.wait_for(Option::is_some).await {
        Ok(end) => end.clone().unwrap_or(End::Finished),
        // The worker let go of its end of the channel: it is stopping.
        Err(_) => End::Drained,
    }
}

async fn on_disk(held: &mut Option<Held>) -> Result<(), RecordError> {
    match held {
        Some(held) => held.durable.as_mut().await,
        None => std::future::pending().await,
    }
}

/// The end of what was printed, which waits for more.
struct Printing {
    until: Pin<Box<Sleep>>,
    /// How often what had come meanwhile went first.
    turns: u32,
}

/// When time is up, what has come by then goes first: on a busy machine it may have been there for
/// long. A few times only, or one who sends without end would hold back a prompt.
async fn printed(printing: &mut Option<Printing>) {
    let Some(printing) = printing else {
        return std::future::pending().await;
    };
    printing.until.as_mut().await;
    while printing.turns < TURNS {
        printing.turns += 1;
        tokio::task::yield_now().await;
    }
}

/// Carries the reason up through `?`.
struct Ended(End);

impl From<SessionError> for Ended {
    fn from(error: SessionError) -> Self {
        Self(End::Broken(error.to_string()))
    }
}

impl From<RecordError> for Ended {
    fn from(error: RecordError) -> Self {
        Self(End::Unrecordable(error.to_string()))
    }
}
