//! The state of every question. Pure: it is told the time, and says what is to be written and then
//! said. Whoever drives it writes the entries to the disk before anything is said.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use super::asking::{Answer, Asking, Heard, Said, Ticket, Withdrawn};
use super::case::{Case, Entry, HeldChange, Standing, State, Verdict};
use crate::decide::Scope;
use crate::ids::{AgentName, QuestionId, SessionId};

/// Questions that are open or approved at once, of one agent and of all.
const MAX_OF_AGENT: usize = 2000;
const MAX_LIVE: usize = 10_000;
/// Questions that are over and can still be shown; the log has them all.
const REMEMBERED: usize = 1000;
/// Used approvals beside them: what runs under one can be ended by revoking it.
const USED: usize = 10_000;

/// What the configuration says of questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long an answer is waited for where the rule does not say.
    pub wait: Duration,
    /// At most, while locks may be held.
    pub wait_in_transaction: Duration,
    /// How long a statement's approval may be used, if its client is gone.
    pub answer_for: Duration,
    /// A question outlives its client.
    pub keep: bool,
}

/// What one change brings about.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// To be on the disk first.
    pub entries: Vec<Entry>,
    /// To be said then, to the worker.
    pub say: Vec<Heard>,
}

/// Where a waiting client stands.
#[derive(Clone, Copy, Debug)]
struct Waiter {
    question: QuestionId,
    until: OffsetDateTime,
}

/// A client that waits, for the keeper that takes over from this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub ticket: Ticket,
    pub question: QuestionId,
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
}

pub struct Desk {
    terms: Terms,
    /// Shared, so that lists are made of them after the lock of whoever drives this is let go.
    cases: HashMap<QuestionId, Arc<Case>>,
    /// What is pending or approved, by agent, oldest first.
    live: HashMap<AgentName, Vec<QuestionId>>,
    count: usize,
    waiters: HashMap<Ticket, Waiter>,
    over: VecDeque<QuestionId>,
    used: VecDeque<QuestionId>,
}

impl Desk {
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            cases: HashMap::new(),
            live: HashMap::new(),
            count: 0,
            waiters: HashMap::new(),
            over: VecDeque::new(),
            used: VecDeque::new(),
        }
    }

    pub fn set_terms(&mut self, terms: Terms) {
        self.terms = terms;
    }

    pub(super) fn terms(&self) -> Terms {
        self.terms
    }

    /// Every question that is remembered, in no order.
    pub fn cases(&self) -> impl Iterator<Item = &Arc<Case>> {
        self.cases.values()
    }

    pub fn case(&self, id: QuestionId) -> Option<&Arc<Case>> {
        self.cases.get(&id)
    }

    pub fn pending(&self) -> usize {
        let live = self.live.values().flatten();
        let mut live = live.filter_map(|id| self.cases.get(id).map(Arc::as_ref));
        live.by_ref()
            .filter(|c| c.standing.state == State::Pending)
            .count()
    }

    /// Puts a question, unless it is answered or being asked already. `id` is a new one's; `owners`
    /// may not approve it.
    pub fn ask(
        &mut self,
        now: OffsetDateTime,
        id: QuestionId,
        ticket: Ticket,
        asking: Asking,
        owners: Vec<String>,
    ) -> Step {
        let mut step = self.expire(now);
        if self.use_approval(now, ticket, &asking, &owners, &mut step) {
            return step;
        }
        let until = now + self.wait(&asking);
        if let Some(known) = self.joinable(&asking, &owners) {
            self.wait_for(known, ticket, until, true, &mut step);
            return step;
        }
        let of_agent = self.live.get(&asking.agent).map_or(0, Vec::len);
        let full = if of_agent >= MAX_OF_AGENT {
            Some(format!("{of_agent} questions of {} are open", asking.agent))
        } else if self.count >= MAX_LIVE {
            Some(format!("{} questions are open", self.count))
        } else if self.cases.contains_key(&id) {
            Some("no name is free for the question".into())
        } else {
            None
        };
        if let Some(why) = full {
            step.say.push(Heard::Answered {
                ticket,
                question: None,
                answer: Answer::Unavailable(why),
            });
            return step;
        }
        let case = Case {
            id,
            asked: now,
            until,
            asking,
            owners,
            votes: Vec::new(),
            standing: Standing::new(State::Pending, now),
            estimate: None,
            change: None,
            waiting: Vec::new(),
        };
        step.entries
            .push(Entry::ApprovalAsked(Box::new(case.clone())));
        self.insert(case);
        self.wait_for(id, ticket, until, false, &mut step);
        step
    }

    /// Takes note of what a waiting client's statement is expected to do.
    pub fn estimated(&mut self, ticket: Ticket, rows: u64) -> Step {
        let mut step = Step::default();
        let Some(Waiter { question, .. }) = self.waiters.get(&ticket).copied() else {
            return step;
        };
        let case = self.get_mut(question);
        if let Some(case) = case.filter(|case| case.standing.state == State::Pending) {
            case.estimate = Some(rows);
            step.entries
                .push(Entry::ApprovalEstimated { question, rows });
        }
        step
    }

    /// Takes note of what a waiting client's request would change. Of one that was sent again, the
    /// newest counts.
    pub fn foreseen(&mut self, ticket: Ticket, change: HeldChange) -> Step {
        let mut step = Step::default();
        let Some(Waiter { question, .. }) = self.waiters.get(&ticket).copied() else {
            return step;
        };
        let case = self.get_mut(question);
        let case = case.filter(|case| case.standing.state == State::Pending);
        if let Some(case) = case.filter(|_| change.is_bounded())
            && case.change.as_ref() != Some(&change)
        {
            case.change = Some(change.clone());
            let entry = Entry::ApprovalForeseen { question, change };
            step.entries.push(entry);
        }
        step
    }

    /// A client waits no longer.
    pub fn withdraw(&mut self, now: OffsetDateTime, ticket: Ticket, how: Withdrawn) -> Step {
        let mut step = Step::default();
        let Some(waiter) = self.waiters.remove(&ticket) else {
            return step;
        };
        let keep = self.terms.keep;
        let Some(case) = self.get_mut(waiter.question) else {
            return step;
        };
        case.waiting.retain(|t| *t != ticket);
        if case.standing.state != State::Pending || !case.waiting.is_empty() {
            return step;
        }
        // Nobody else can use an answer that is for one session.
        let returns = case.asking.scope() != Scope::Session;
        let reason = match how {
            Withdrawn::Stopped if returns => return step,
            Withdrawn::HungUp if returns && keep => return step,
            Withdrawn::Stopped => "hoop stopped, and with it the session".into(),
            Withdrawn::HungUp => "the client hung up".into(),
            Withdrawn::Cancelled(why) => why,
        };
        let standing = Standing {
            reason,
            ..Standing::new(State::Cancelled, now)
        };
        self.settle(waiter.question, standing, None, &mut step);
        step
    }

    /// A worker ended, and with it these clients and these sessions.
    pub fn worker_gone(
        &mut self,
        now: OffsetDateTime,
        tickets: &[Ticket],
        sessions: &HashSet<SessionId>,
    ) -> Step {
        let mut step = Step::default();
        for ticket in tickets {
            let more = self.withdraw(now, *ticket, Withdrawn::Stopped);
            step.entries.extend(more.entries);
        }
        let of_sessions: Vec<QuestionId> = self
            .cases
            .values()
            .filter(|c| c.standing.state == State::Approved && c.asking.scope() == Scope::Session)
            .filter(|c| sessions.contains(&c.asking.session))
            .map(|c| c.id)
            .collect();
        for id in of_sessions {
            let standing = Standing {
                reason: "the session ended".into(),
                ..Standing::new(State::Expired, now)
            };
            self.settle(id, standing, None, &mut step);
        }
        step
    }

    /// Who waits now, for whoever takes over.
    pub fn held(&self) -> Vec<Held> {
        let held = self.waiters.iter().map(|(ticket, waiter)| Held {
            ticket: *ticket,
            question: waiter.question,
            until: waiter.until,
        });
        held.collect()
    }

    /// Takes over a client that waits. Says whether there is a question that it can wait for.
    pub fn hold(&mut self, held: Held) -> bool {
        let Some(case) = self.get_mut(held.question) else {
            return false;
        };
        if case.standing.state != State::Pending || case.waiting.contains(&held.ticket) {
            return false;
        }
        case.waiting.push(held.ticket);
        let until = held.until.min(case.until);
        let question = held.question;
        self.waiters.insert(held.ticket, Waiter { question, until });
        true
    }

    /// The sessions for which something is asked or approved.
    pub fn sessions(&self) -> HashSet<SessionId> {
        let live = self.live.values().flatten();
        let live = live.filter_map(|id| self.cases.get(id));
        live.map(|case| case.asking.session).collect()
    }

    /// When [`Desk::expire`] has something to do next.
    pub fn next_deadline(&self) -> Option<OffsetDateTime> {
        let waiters = self.waiters.values().map(|w| w.until);
        let live = self
            .live
            .values()
            .flatten()
            .filter_map(|id| self.cases.get(id).map(Arc::as_ref));
        waiters.chain(live.map(deadline)).min()
    }

    /// Ends what nobody answered, or used, in time.
    pub fn expire(&mut self, now: OffsetDateTime) -> Step {
        let mut step = Step::default();
        let live = self
            .live
            .values()
            .flatten()
            .filter_map(|id| self.cases.get(id).map(Arc::as_ref));
        let late: Vec<(QuestionId, State)> = live
            .filter(|case| deadline(case) <= now)
            .map(|case| (case.id, case.standing.state))
            .collect();
        for (id, state) in late {
            let reason = match state {
                State::Approved => "its time is over",
                _ => "nobody answered in time",
            };
            let standing = Standing {
                reason: reason.into(),
                ..Standing::new(State::Expired, now)
            };
            self.settle(id, standing, Some(&Answer::Expired), &mut step);
        }
        // Those who wait within a transaction give up earlier than the question.
        let late: Vec<(Ticket, QuestionId)> = self
            .waiters
            .iter()
            .filter(|(_, waiter)| waiter.until <= now)
            .map(|(ticket, waiter)| (*ticket, waiter.question))
            .collect();
        for (ticket, question) in late {
            step.say.push(Heard::Answered {
                ticket,
                question: Some(question),
                answer: Answer::Expired,
            });
            let more = self.withdraw(now, ticket, Withdrawn::HungUp);
            step.entries.extend(more.entries);
        }
        step
    }

    /// Takes over what an earlier log says. Nobody waits any more.
    pub fn restore(&mut self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            match entry {
                Entry::ApprovalCarried(case) | Entry::ApprovalAsked(case) => self.insert(*case),
                Entry::ApprovalVoted { question, vote } => {
                    if let Some(case) = self.get_mut(question) {
                        case.votes.push(vote);
                    }
                }
                Entry::ApprovalSettled {
                    question, standing, ..
                } => self.settle(question, standing, None, &mut Step::default()),
                Entry::ApprovalEstimated { question, rows } => {
                    if let Some(case) = self.get_mut(question) {
                        case.estimate = Some(rows);
                    }
                }
                Entry::ApprovalForeseen { question, change } => {
                    if let Some(case) = self.get_mut(question) {
                        case.change = Some(change);
                    }
                }
                Entry::ApprovalsReady { .. } | Entry::ApprovalRejected { .. } => {}
            }
        }
    }

    /// What a new log begins with.
    pub fn carried(&self) -> Vec<Entry> {
        let live = self.cases();
        let mut live: Vec<&Arc<Case>> = live.filter(|case| case.standing.state.is_live()).collect();
        live.sort_by_key(|case| case.age());
        live.into_iter()
            .map(|case| Entry::ApprovalCarried(Box::new(Case::clone(case))))
            .collect()
    }

    pub(super) fn get_mut(&mut self, id: QuestionId) -> Option<&mut Case> {
        self.cases.get_mut(&id).map(Arc::make_mut)
    }

    /// Puts a question into a state, and gives those who wait for it their answer, if there is one.
    pub(super) fn settle(
        &mut self,
        id: QuestionId,
        standing: Standing,
        answer: Option<&Answer>,
        step: &mut Step,
    ) {
        let Some(case) = self.cases.get_mut(&id).map(Arc::make_mut) else {
            return;
        };
        let (was, is) = (case.standing.state.is_live(), standing.state.is_live());
        step.entries.push(case.settle(standing));
        if let Some(answer) = answer {
            for ticket in case.waiting.drain(..) {
                self.waiters.remove(&ticket);
                step.say.push(Heard::Answered {
                    ticket,
                    question: Some(id),
                    answer: answer.clone(),
                });
            }
        }
        let used = case.standing.state == State::Used;
        if was && !is {
            let agent = case.asking.agent.clone();
            self.count -= 1;
            if let Some(live) = self.live.get_mut(&agent) {
                live.retain(|other| *other != id);
                if live.is_empty() {
                    self.live.remove(&agent);
                }
            }
            self.forget_later(id, used);
        }
    }

    fn forget_later(&mut self, id: QuestionId, used: bool) {
        let (over, most) = match used {
            true => (&mut self.used, USED),
            false => (&mut self.over, REMEMBERED),
        };
        over.push_back(id);
        while over.len() > most
            && let Some(old) = over.pop_front()
        {
            self.cases.remove(&old);
        }
    }

    fn insert(&mut self, case: Case) {
        if case.standing.state.is_live() {
            self.count += 1;
            let live = self.live.entry(case.asking.agent.clone()).or_default();
            live.push(case.id);
        }
        self.cases.insert(case.id, Arc::new(case));
    }

    /// Answers at once where an approval covers it.
    fn use_approval(
        &mut self,
        now: OffsetDateTime,
        ticket: Ticket,
        asking: &Asking,
        owners: &[String],
        step: &mut Step,
    ) -> bool {
        let of_agent = self.live.get(&asking.agent).into_iter().flatten();
        let mut approved = of_agent
            .filter_map(|id| self.cases.get(id).map(Arc::as_ref))
            .filter(|case| case.standing.state == State::Approved)
            // Nobody approves for their own process by way of another's question.
            .filter(|case| !case.votes.iter().any(|v| owners.contains(&v.who)));
        let Some(case) = approved.find(|case| case.asking.covers(asking)) else {
            return false;
        };
        let (id, scope) = (case.id, case.asking.scope());
        let answer = said(case, scope, &case.standing);
        if scope == Scope::Statement {
            self.settle(id, Standing::new(State::Used, now), None, step);
        }
        step.say.push(Heard::Answered {
            ticket,
            question: Some(id),
            answer,
        });
        true
    }

    /// A question about the same that this client may wait for too: one statement's approval
    /// releases one client.
    fn joinable(&self, asking: &Asking, owners: &[String]) -> Option<QuestionId> {
        let of_agent = self.live.get(&asking.agent)?.iter();
        let mut pending = of_agent
            .filter_map(|id| self.cases.get(id).map(Arc::as_ref))
            .filter(|case| case.standing.state == State::Pending)
            .filter(|case| owners.iter().all(|owner| case.owners.contains(owner)))
            .filter(|case| case.waiting.is_empty() || case.asking.scope() != Scope::Statement);
        pending
            .find(|case| case.asking.covers(asking))
            .map(|case| case.id)
    }

    fn wait_for(
        &mut self,
        question: QuestionId,
        ticket: Ticket,
        until: OffsetDateTime,
        joined: bool,
        step: &mut Step,
    ) {
        let Some(case) = self.cases.get_mut(&question).map(Arc::make_mut) else {
            return;
        };
        let until = until.min(case.until);
        case.waiting.push(ticket);
        self.waiters.insert(ticket, Waiter { question, until });
        step.say.push(Heard::Asked {
            ticket,
            question,
            until: SystemTime::from(until),
            joined,
        });
    }

    fn wait(&self, asking: &Asking) -> Duration {
        let of_rules = asking.demands.iter().filter_map(|d| d.wait).min();
        let wait = of_rules.map_or(self.terms.wait, |s| Duration::seconds(s.into()));
        match asking.in_transaction {
            true => wait.min(self.terms.wait_in_transaction),
            false => wait,
        }
    }
}

/// Until when a live question stays as it is.
pub(super) fn deadline(case: &Case) -> OffsetDateTime {
    match case.standing.state {
        State::Approved => case.standing.until.unwrap_or(case.until),
        _ => case.until,
    }
}

/// The answer that an approved question gives.
pub(super) fn said(case: &Case, scope: Scope, standing: &Standing) -> Answer {
    let mut people = HashSet::new();
    let votes = case.votes.iter();
    let approvals = votes.filter(|v| v.verdict == Verdict::Approve && people.insert(&v.who));
    Answer::Approved {
        said: approvals
            .map(|vote| Said {
                who: vote.who.clone(),
                reason: vote.reason.clone(),
            })
            .collect(),
        scope,
        until: match scope {
            Scope::Fingerprint | Scope::Resource => standing.until.map(SystemTime::from),
            Scope::Statement | Scope::Session => None,
        },
        break_glass: standing.break_glass,
    }
}
