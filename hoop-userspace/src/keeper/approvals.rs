//! Drives the desk: takes what the worker asks and what people answer, writes it down, and says
//! afterwards what is to be said. Nothing is said before it is on the disk.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::accounts::{Accounts, unnamed};
use super::askers::Askers;
use super::courier::Courier;
use super::journal::{Entry as Noted, Journal};
use super::lock;
use super::people::{self, Peer};
use super::supervise::Worker;
use crate::ask::{Answer, ApprovalLog, Asking, Ballot, Case, Desk, Entry, Happened, Heard, Held};
use crate::ask::{State, Step};
use crate::ask::{Terms, Ticket, ToDesk, Verdict, VoteError, Voter, missing};
use crate::config::{Config, OnHangup};
use crate::handover::{Channel, ToWorker};
use crate::ids::QuestionId;
use crate::record::RecordError;
use crate::replay::ledgers;

/// A worker that takes nothing for so long is replaced, and its clients with it.
const SAID_WITHIN: Duration = Duration::from_secs(5);
/// Questions that wait for the name of an account.
const MAX_WAITING: usize = 1024;
/// Characters of a statement in a list.
const LISTED: usize = 200;

/// What is passed on of workers, by their process ids.
pub enum ForDesk {
    Said(u32, ToDesk),
    /// The worker ended, and its sessions with it.
    WorkerGone(u32),
    /// Take nothing more until the receiver resolves: another build takes over. What was taken is
    /// written and said before it is answered.
    Pause(oneshot::Sender<Carried>, oneshot::Receiver<()>),
}

/// Who waits, and for what, for the keeper that takes over.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Carried {
    pub held: Vec<Held>,
    pub askers: Askers,
    /// Questions that are not put yet: the name of an account is looked up for them.
    pub asked: Vec<(u32, ToDesk)>,
}

/// Cheap to clone behind an [`Arc`]; one for the keeper.
pub struct Clerk {
    books: Mutex<Books>,
    config: Mutex<Arc<Config>>,
    worker: Worker,
    journal: Arc<Journal>,
    courier: Arc<Courier>,
    /// A deadline may be nearer than it was.
    changed: Notify,
    outbox: mpsc::UnboundedSender<Written>,
    /// Which worker's each client is.
    askers: Mutex<Askers>,
    accounts: Accounts,
    /// Counts what became different, for whoever shows it.
    changes: watch::Sender<u64>,
}

/// What is written and is to be said, in that order, one after the other: a revocation never
/// overtakes the approval that it takes back.
pub struct Outbox(mpsc::UnboundedReceiver<Written>);

struct Books {
    desk: Desk,
    log: ApprovalLog,
    /// Since then nothing can be asked: what cannot be written does not happen.
    failed: Option<String>,
}

type Durable = Pin<Box<dyn Future<Output = Result<(), RecordError>> + Send>>;
/// Resolves when a change is on the disk and was said.
type Said = oneshot::Receiver<Result<(), String>>;

/// What was written and is to be said once it is on the disk.
struct Written {
    durable: Durable,
    say: Vec<Heard>,
    /// Hears when it was said, or why it could not be written.
    done: oneshot::Sender<Result<(), String>>,
}

impl Clerk {
    /// Opens the log in the keeper's folder, and takes over what goes on; the clients that wait too,
    /// where the keeper before was this process.
    pub fn open(
        folder: &Path,
        config: Arc<Config>,
        worker: Worker,
        journal: Arc<Journal>,
        courier: Arc<Courier>,
        carried: &Carried,
    ) -> Result<(Self, Outbox), RecordError> {
        let mut desk = Desk::new(terms(&config));
        let (log, problem) = ApprovalLog::open(folder, &ledgers(folder), &mut desk)?;
        let lost = carried.held.iter().filter(|held| !desk.hold(**held));
        let lost: Vec<Ticket> = lost.map(|held| held.ticket).collect();
        if let Some(problem) = problem {
            journal.write(&Noted::Approvals {
                problem: problem.to_string(),
            });
        }
        let (outbox, written) = mpsc::unbounded_channel();
        let clerk = Self {
            books: Mutex::new(Books {
                desk,
                log,
                failed: None,
            }),
            config: Mutex::new(config),
            worker,
            journal,
            courier,
            changed: Notify::new(),
            outbox,
            changes: watch::Sender::default(),
            askers: Mutex::new(carried.askers.clone()),
            accounts: Accounts::default(),
        };
        for ticket in lost {
            // As after a log that cannot be believed.
            let why = "the question was lost when hoop was upgraded: send it again";
            clerk.send(
                Box::pin(std::future::ready(Ok(()))),
                vec![unavailable(ticket, why)],
            );
        }
        Ok((clerk, Outbox(written)))
    }

    /// Serves the workers, and ends what nobody answers, for as long as the keeper lives.
    pub async fn serve(self: Arc<Self>, mut asked: mpsc::Receiver<ForDesk>, outbox: Outbox) {
        // Apart, so that the disk and the worker's socket hold up nothing here.
        tokio::spawn(self.clone().say(outbox));
        // A directory that does not answer must not keep every other question waiting, nor the votes.
        let mut look_ups = JoinSet::new();
        let mut waiting: HashMap<Ticket, Box<Asking>> = HashMap::new();
        loop {
            let deadline = self.books().desk.next_deadline();
            // Whether it is written the outbox learns, and nothing here depends on it.
            let _ = tokio::select! {
                message = asked.recv() => match message {
                    Some(ForDesk::Said(from, said)) if !self.belongs(from, &said) => continue,
                    Some(ForDesk::Said(_, ToDesk::Ask { ticket, asking })) => match self.owners(&asking) {
                        Some(owners) => self.ask(ticket, asking, owners),
                        None if waiting.len() >= MAX_WAITING => {
                            let why = "too many questions wait for the names of accounts";
                            self.ask(ticket, asking, Err(why.into()))
                        }
                        None => {
                            let (this, uid) = (self.clone(), asking.caller.uid);
                            waiting.insert(ticket, asking);
                            look_ups.spawn(async move {
                                this.accounts.look_up(uid).await;
                                ticket
                            });
                            continue;
                        }
                    },
                    Some(ForDesk::Said(_, ToDesk::Estimated { ticket, rows })) => {
                        self.change(|desk, _| Ok(desk.estimated(ticket, rows)))
                    }
                    Some(ForDesk::Said(_, ToDesk::Foreseen { ticket, change })) => {
                        self.change(|desk, _| Ok(desk.foreseen(ticket, change)))
                    }
                    Some(ForDesk::Said(_, ToDesk::Withdraw { ticket, how })) => match waiting.remove(&ticket) {
                        // Nobody has been asked yet, and nobody will be.
                        Some(_) => continue,
                        None => self.change(|desk, now| Ok(desk.withdraw(now, ticket, how))),
                    },
                    Some(ForDesk::WorkerGone(pid)) => {
                        let (tickets, sessions) = lock(&self.askers).gone(pid);
                        waiting.retain(|ticket, _| !tickets.contains(ticket));
                        self.change(|desk, now| Ok(desk.worker_gone(now, &tickets, &sessions)))
                    }
                    Some(ForDesk::Pause(told, go_on)) => {
                        let carried = self.carry(&waiting).await;
                        if told.send(carried).is_ok() {
                            let _ = go_on.await;
                        }
                        continue;
                    }
                    None => return,
                },
                Some(looked_up) = look_ups.join_next() => {
                    let asked = looked_up.ok().and_then(|ticket| waiting.remove_entry(&ticket));
                    // Withdrawn meanwhile.
                    let Some((ticket, asking)) = asked else { continue };
                    let owners = self.owners(&asking).unwrap_or_else(|| Err(unnamed(asking.caller.uid)));
                    self.ask(ticket, asking, owners)
                }
                () = at(deadline) => self.change(|desk, now| Ok(desk.expire(now))),
                () = self.changed.notified() => continue,
            };
        }
    }

    /// Whether it is the worker's to say. A ticket of another's it cannot know but by guessing.
    fn belongs(&self, from: u32, said: &ToDesk) -> bool {
        let mut askers = lock(&self.askers);
        let belongs = match said {
            ToDesk::Ask { ticket, asking } => askers.asks(from, *ticket, asking),
            ToDesk::Estimated { ticket, .. } | ToDesk::Foreseen { ticket, .. } => {
                askers.worker_of(*ticket) == Some(from)
            }
            ToDesk::Withdraw { ticket, .. } => askers.withdraws(from, *ticket),
        };
        if askers.are_many() {
            askers.keep_sessions(&self.books().desk.sessions());
        }
        if !belongs {
            tracing::debug!(from, "a worker speaks of a client that it does not have");
        }
        belongs
    }

    /// What the next keeper needs, once all that was changed is written and said.
    async fn carry(&self, waiting: &HashMap<Ticket, Box<Asking>>) -> Carried {
        let (durable, held): (Durable, _) = {
            let books = self.books();
            (Box::pin(books.log.durable()), books.desk.held())
        };
        // Behind everything that is to be said.
        let _ = self.send(durable, Vec::new()).await;
        let askers = lock(&self.askers).clone();
        let asked = waiting.iter().filter_map(|(ticket, asking)| {
            let (ticket, asking) = (*ticket, asking.clone());
            Some((askers.worker_of(ticket)?, ToDesk::Ask { ticket, asking }))
        });
        Carried {
            held,
            asked: asked.collect(),
            askers,
        }
    }

    pub fn set_config(&self, config: Arc<Config>) {
        self.books().desk.set_terms(terms(&config));
        *lock(&self.config) = config;
    }

    /// Questions that wait for an answer, and why none can be asked if that is so.
    pub fn health(&self) -> (usize, Option<String>) {
        let books = self.books();
        (books.desk.pending(), books.failed.clone())
    }

    /// Changes whenever a question does.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The person behind a connection to the control socket.
    pub async fn person(&self, peer: Peer) -> Result<Voter, String> {
        let config = lock(&self.config).clone();
        let looked_up = tokio::task::spawn_blocking(move || people::voter(&config, peer)).await;
        looked_up
            .map_err(|error| error.to_string())?
            .map_err(|no| no.to_string())
    }

    /// What waits for an answer or may be used, or with `all` also what is over: oldest first.
    ///
    /// They are sorted, and shown, when the desk's lock is let go: nobody's vote waits for a list.
    pub fn cases(&self, all: bool) -> Vec<Arc<Case>> {
        let mut cases: Vec<_> = {
            let books = self.books();
            let cases = books.desk.cases();
            let wanted = cases.filter(|case| all || case.standing.state.is_live());
            wanted.cloned().collect()
        };
        cases.sort_by_key(|case| case.age());
        cases
    }

    /// The same, as the control socket lists them; away from the keeper's one thread.
    pub async fn list(self: &Arc<Self>, all: bool) -> Result<Value, String> {
        let clerk = self.clone();
        let listed = tokio::task::spawn_blocking(move || {
            clerk.cases(all).iter().map(|case| brief(case)).collect()
        });
        listed.await.map_err(|error| error.to_string())
    }

    pub fn case(&self, id: QuestionId) -> Result<Arc<Case>, String> {
        let case = self.books().desk.case(id).cloned();
        case.ok_or_else(|| VoteError::NoSuch(id).to_string())
    }

    pub fn show(&self, id: QuestionId) -> Result<Value, String> {
        let case = self.case(id)?;
        let mut shown = brief(&case);
        let whole = serde_json::to_value(&*case).map_err(|error| error.to_string())?;
        if let (Some(shown), Value::Object(whole)) = (shown.as_object_mut(), whole) {
            let more = ["asking", "owners", "votes", "standing", "change"];
            shown.extend(whole.into_iter().filter(|(key, _)| more.contains(&&**key)));
        }
        Ok(shown)
    }

    /// Takes a person's answer; says where the question stands then.
    pub async fn vote(self: &Arc<Self>, id: QuestionId, ballot: Ballot) -> Result<Value, String> {
        let who = ballot.voter.name.clone();
        let voted = self.change(|desk, now| desk.vote(now, id, ballot));
        self.done(id, who, voted).await
    }

    pub async fn revoke(
        self: &Arc<Self>,
        id: QuestionId,
        voter: Voter,
        reason: String,
    ) -> Result<Value, String> {
        let who = voter.name.clone();
        let revoked = self.change(|desk, now| desk.revoke(now, id, &voter, reason));
        self.done(id, who, revoked).await
    }

    async fn done(
        self: &Arc<Self>,
        id: QuestionId,
        who: String,
        changed: Result<Said, Refused>,
    ) -> Result<Value, String> {
        match changed {
            Ok(said) => {
                self.changed.notify_one();
                // Said even if whoever voted waits no longer.
                said.await.map_err(|_| "hoop is stopping".to_owned())??;
                self.show(id)
            }
            // There is no question that it could be recorded with, and there are very many names.
            Err(Refused::Vote(why @ VoteError::NoSuch(_))) => Err(why.to_string()),
            Err(Refused::Vote(why)) => {
                // That somebody tried is worth knowing.
                let rejected = Entry::ApprovalRejected {
                    question: id,
                    who,
                    why: why.to_string(),
                };
                let step = Step {
                    entries: vec![rejected],
                    say: Vec::new(),
                };
                // If it cannot be written, the answer is the same.
                let _ = self.change(|_, _| Ok(step));
                Err(why.to_string())
            }
            Err(Refused::Broken(why)) => Err(why),
        }
    }

    /// Puts a question to the desk; whoever asks hears why, if that cannot be.
    fn ask(
        &self,
        ticket: Ticket,
        asking: Box<Asking>,
        owners: Result<Vec<String>, String>,
    ) -> Result<Said, Refused> {
        let asked = match (owners, question_id()) {
            (Ok(owners), Some(id)) => {
                self.change(|desk, now| Ok(desk.ask(now, id, ticket, *asking, owners)))
            }
            (Err(why), _) => Err(Refused::Broken(why)),
            (_, None) => Err(Refused::Broken("the system has no randomness".into())),
        };
        asked.or_else(|why| {
            let say = vec![unavailable(ticket, &why.to_string())];
            Ok(self.send(Box::pin(std::future::ready(Ok(()))), say))
        })
    }

    /// Who may not approve: whose agent it is, and whose account its process has. `None` where the
    /// account's name has to be looked up first.
    fn owners(&self, asking: &Asking) -> Option<Result<Vec<String>, String>> {
        let config = lock(&self.config).clone();
        let agent = config.agents.iter().find(|a| a.name == asking.agent);
        let mut owners = agent.map_or_else(Vec::new, |agent| agent.owners.clone());
        let uid = asking.caller.uid;
        // Root is nobody in particular.
        if uid != 0 {
            match self.accounts.known(uid)? {
                Ok(account) => owners.push(people::called(&config, account)),
                Err(why) => return Some(Err(why)),
            }
        }
        Some(Ok(owners))
    }

    /// One change of the desk, written before anybody hears of it.
    fn change(
        &self,
        change: impl FnOnce(&mut Desk, OffsetDateTime) -> Result<Step, VoteError>,
    ) -> Result<Said, Refused> {
        let mut books = self.books();
        let Books { desk, log, failed } = &mut *books;
        if let Some(why) = failed {
            return Err(Refused::Broken(why.clone()));
        }
        let step = change(desk, OffsetDateTime::now_utc()).map_err(Refused::Vote)?;
        for entry in &step.entries {
            if let Err(error) = log.append(entry) {
                let why = format!("the log of approvals cannot be written: {error}");
                *failed = Some(why.clone());
                self.journal.write(&Noted::Approvals { problem: why });
                break;
            }
            self.journal.recent().note(entry);
            self.note(entry, desk);
        }
        // A client that joins or leaves a question changes what is shown of it, too.
        if !step.entries.is_empty() || !step.say.is_empty() {
            self.changes.send_modify(|count| *count += 1);
        }
        let say = match failed {
            None => step.say,
            // What was not written did not happen.
            Some(why) => step.say.iter().filter_map(|s| unsaid(s, why)).collect(),
        };
        // In the order of the log.
        Ok(self.send(Box::pin(log.durable()), say))
    }

    fn send(&self, durable: Durable, say: Vec<Heard>) -> Said {
        let (done, said) = oneshot::channel();
        // Gone only when the keeper is, which the dropped `done` says.
        let _ = self.outbox.send(Written { durable, say, done });
        said
    }

    /// One line for the service's log; statements stay in the ledger. An emergency is an alert.
    fn note(&self, entry: &Entry, desk: &Desk) {
        match entry {
            Entry::ApprovalAsked(case) => {
                let asking = &case.asking;
                tracing::info!(question = %case.id, agent = %asking.agent, resource = %asking.resource, "approval asked");
                self.courier.announce(case, Happened::Asked);
            }
            Entry::ApprovalVoted { question, vote } => {
                tracing::info!(%question, who = %vote.who, verdict = ?vote.verdict, "approval voted");
            }
            Entry::ApprovalSettled {
                question, standing, ..
            } => {
                tracing::info!(%question, state = %standing.state, "approval settled");
                // As it was then: more may have happened in the same step.
                let case = desk
                    .case(*question)
                    .map(|case| Case::clone(case))
                    .map(|mut case| {
                        case.standing = standing.clone();
                        case
                    });
                // That an approval was used says nothing new to whoever gave it.
                if let Some(case) = case.as_ref().filter(|_| standing.state != State::Used) {
                    self.courier.announce(case, Happened::Settled);
                }
                if let Some(case) =
                    case.filter(|_| standing.break_glass && standing.state == State::Approved)
                {
                    self.courier.announce(&case, Happened::BreakGlass);
                    let vote = case.votes.last();
                    self.journal.write(&Noted::BreakGlass {
                        question: question.to_string(),
                        agent: case.asking.agent.to_string(),
                        resource: case.asking.resource.to_string(),
                        who: vote.map_or_else(String::new, |vote| vote.who.clone()),
                        reason: vote.map_or_else(String::new, |vote| vote.reason.clone()),
                    });
                }
            }
            Entry::ApprovalRejected { question, who, why } => {
                tracing::warn!(%question, who, why, "vote rejected");
            }
            Entry::ApprovalCarried(_)
            | Entry::ApprovalEstimated { .. }
            | Entry::ApprovalForeseen { .. }
            | Entry::ApprovalsReady { .. } => {}
        }
    }

    /// For each change in turn: waits for the disk, then tells the workers.
    async fn say(self: Arc<Self>, mut outbox: Outbox) {
        // Take nothing any more, and are being replaced.
        let mut deaf: Vec<Arc<Channel>> = Vec::new();
        while let Some(Written {
            durable,
            mut say,
            done,
        }) = outbox.0.recv().await
        {
            let outcome = durable.await.map_err(|error| {
                let why = format!("the log of approvals cannot be written: {error}");
                self.fail(&why);
                say = say.iter().filter_map(|s| unsaid(s, &why)).collect();
                why
            });
            for heard in say {
                for channel in self.ears_for(&heard) {
                    if deaf.iter().any(|deaf| Arc::ptr_eq(deaf, &channel)) {
                        continue;
                    }
                    let message = ToWorker::Heard(heard.clone());
                    let sending = channel.send(&message, None);
                    if !matches!(tokio::time::timeout(SAID_WITHIN, sending).await, Ok(Ok(()))) {
                        // Its clients end with it; the questions stay as they are.
                        let why = "it could not be told about a question".to_owned();
                        self.worker.replace(channel.clone(), why).await;
                        deaf.push(channel);
                    }
                }
            }
            let living = self.worker.channels();
            deaf.retain(|deaf| living.iter().any(|channel| Arc::ptr_eq(deaf, channel)));
            // Whoever voted may have gone.
            let _ = done.send(outcome);
        }
    }

    /// Whoever has the client, or for a revocation everybody: what runs under it may be anywhere.
    fn ears_for(&self, heard: &Heard) -> Vec<Arc<Channel>> {
        let mut askers = lock(&self.askers);
        let pid = match heard {
            Heard::Asked { ticket, .. } => askers.worker_of(*ticket),
            Heard::Answered { ticket, .. } => askers.answered(*ticket),
            Heard::Revoked { .. } => return self.worker.channels(),
        };
        let channel = pid.and_then(|pid| self.worker.channel_to(pid));
        channel.into_iter().collect()
    }

    fn fail(&self, why: &str) {
        let mut books = self.books();
        if books.failed.is_none() {
            books.failed = Some(why.to_owned());
            self.journal.write(&Noted::Approvals {
                problem: why.to_owned(),
            });
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        lock(&self.books)
    }
}

/// Why a change did not come about.
enum Refused {
    Vote(VoteError),
    Broken(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vote(why) => why.fmt(f),
            Self::Broken(why) => f.write_str(why),
        }
    }
}

fn unavailable(ticket: Ticket, why: &str) -> Heard {
    Heard::Answered {
        ticket,
        question: None,
        answer: Answer::Unavailable(why.to_owned()),
    }
}

/// What a client hears instead, if what it should hear could not be written. A revocation is said
/// all the same: it takes away, and gives nothing.
fn unsaid(heard: &Heard, why: &str) -> Option<Heard> {
    match heard {
        Heard::Asked { ticket, .. } | Heard::Answered { ticket, .. } => {
            Some(unavailable(*ticket, why))
        }
        Heard::Revoked { .. } => Some(heard.clone()),
    }
}

fn question_id() -> Option<QuestionId> {
    let mut random = [0; 8];
    SystemRandom::new().fill(&mut random).ok()?;
    Some(QuestionId::new(u64::from_ne_bytes(random)))
}

fn terms(config: &Config) -> Terms {
    let approvals = &config.approvals;
    let of = |duration: Duration| time::Duration::try_from(duration).unwrap_or(time::Duration::DAY);
    Terms {
        wait: of(approvals.wait),
        wait_in_transaction: of(approvals.wait_in_transaction),
        answer_for: of(approvals.answer_for),
        keep: approvals.on_hangup == OnHangup::Keep,
    }
}

/// A question in a list. The keys are kept.
pub fn brief(case: &Case) -> Value {
    let asking = &case.asking;
    let statement = asking.statements.first().map_or("", |s| &s.text);
    let demands = asking.demands.iter();
    let needs: Vec<String> = match case.standing.state {
        State::Pending => demands.filter_map(|d| missing(d, &case.votes)).collect(),
        _ => Vec::new(),
    };
    let approvals = case.votes.iter().filter(|v| v.verdict == Verdict::Approve);
    let approved: Vec<&str> = approvals.map(|v| v.who.as_str()).collect();
    let stamp = |time: OffsetDateTime| super::status::stamp(time);
    json!({
        "question": case.id,
        "state": case.standing.state,
        "asked": stamp(case.asked),
        "until": stamp(case.standing.until.unwrap_or(case.until)),
        "agent": asking.agent,
        "resource": asking.resource,
        "database": asking.database,
        "session": asking.session.to_string(),
        "scope": asking.scope(),
        "message": asking.message,
        "statement": statement.chars().take(LISTED).collect::<String>(),
        "rules": asking.demands.iter().map(|d| &d.rule).collect::<Vec<_>>(),
        "fingerprint": asking.fingerprint,
        "settled": stamp(case.standing.at),
        "by": case.standing.by,
        "reason": case.standing.reason,
        "needs": needs,
        "approved_by": approved,
        "awaited": case.is_awaited(),
        "in_transaction": asking.in_transaction,
        "estimate": case.estimate,
    })
}

async fn at(when: Option<OffsetDateTime>) {
    let Some(when) = when else {
        return std::future::pending().await;
    };
    // In steps, because the wall clock may be set.
    let left = SystemTime::from(when).duration_since(SystemTime::now());
    let left = left.unwrap_or_default();
    tokio::time::sleep(left.clamp(Duration::from_millis(5), Duration::from_secs(30))).await;
}
