//! Who may vote on what, and what a vote brings about.

use time::{Duration, OffsetDateTime};

use super::asking::{Answer, Heard};
use super::case::{Case, Entry, Standing, State, Verdict, Vote};
use super::count::missing;
use super::desk::{Desk, Step, deadline, said};
use crate::decide::Scope;
use crate::ids::QuestionId;

/// A session's approval ends with the session, and after this at the latest.
const LONGEST_SESSION: Duration = Duration::days(1);

/// A person, as a channel vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    pub name: String,
    /// Groups of approvers.
    pub groups: Vec<String>,
    /// The host's superuser, who may revoke anything.
    pub root: bool,
    /// The channel.
    pub via: &'static str,
}

/// What a person says to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ballot {
    pub voter: Voter,
    pub verdict: Verdict,
    pub reason: String,
    /// Alone, because it cannot wait.
    pub break_glass: bool,
}

/// Why a vote does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VoteError {
    #[error("there is no question {0}")]
    NoSuch(QuestionId),
    #[error("question {0} is {1} already{2}")]
    Settled(QuestionId, State, String),
    #[error("{0} may not approve what {0}'s own agent or process asks: somebody else must")]
    Own(String),
    #[error("{0} has approved this before; one person counts once")]
    Twice(String),
    #[error("{0} is in none of the groups that are asked: {1}")]
    NotAsked(String, String),
    #[error("this needs a reason: --reason \"…\"")]
    ReasonNeeded,
    #[error("no rule lets {0} approve this alone (@break_glass)")]
    NoBreakGlass(String),
    #[error("question {0} is {1}: only an approval can be revoked")]
    NotRevocable(QuestionId, State),
}

impl Desk {
    /// Takes one person's answer.
    pub fn vote(
        &mut self,
        now: OffsetDateTime,
        id: QuestionId,
        ballot: Ballot,
    ) -> Result<Step, VoteError> {
        let mut step = Step::default();
        let case = self.case_mut(id)?;
        in_time(case, now)?;
        may_vote(case, &ballot)?;
        let vote = Vote {
            at: now,
            who: ballot.voter.name.clone(),
            groups: ballot.voter.groups,
            verdict: ballot.verdict,
            reason: ballot.reason,
            via: ballot.voter.via.to_owned(),
            break_glass: ballot.break_glass,
        };
        case.votes.push(vote.clone());
        step.entries.push(Entry::ApprovalVoted {
            question: id,
            vote: vote.clone(),
        });
        match vote.verdict {
            Verdict::Refuse => {
                let standing = Standing {
                    by: Some(vote.who.clone()),
                    reason: vote.reason.clone(),
                    ..Standing::new(State::Refused, now)
                };
                let answer = Answer::Refused {
                    by: vote.who,
                    reason: vote.reason,
                };
                self.settle(id, standing, Some(&answer), &mut step);
            }
            Verdict::Approve => self.approve(now, id, &mut step),
        }
        Ok(step)
    }

    /// Takes an approval back.
    pub fn revoke(
        &mut self,
        now: OffsetDateTime,
        id: QuestionId,
        voter: &Voter,
        reason: String,
    ) -> Result<Step, VoteError> {
        let mut step = Step::default();
        let case = self.case_mut(id)?;
        in_time(case, now)?;
        if !matches!(case.standing.state, State::Approved | State::Used) {
            return Err(VoteError::NotRevocable(id, case.standing.state));
        }
        if !voter.root && !is_asked(case, &voter.groups) {
            return Err(VoteError::NotAsked(voter.name.clone(), asked(case)));
        }
        if reason.is_empty() {
            return Err(VoteError::ReasonNeeded);
        }
        let why = format!("its approval {id} was revoked by {}: {reason}", voter.name);
        let standing = Standing {
            by: Some(voter.name.clone()),
            reason,
            ..Standing::new(State::Revoked, now)
        };
        self.settle(id, standing, None, &mut step);
        step.say.push(Heard::Revoked { question: id, why });
        Ok(step)
    }

    /// Approves the question if nothing is missing any more.
    fn approve(&mut self, now: OffsetDateTime, id: QuestionId, step: &mut Step) {
        let answer_for = self.terms().answer_for;
        let Ok(case) = self.case_mut(id) else {
            return;
        };
        let demands = &case.asking.demands;
        if demands.iter().any(|d| missing(d, &case.votes).is_some()) {
            return;
        }
        let scope = case.asking.scope();
        let window = demands.iter().map(|d| d.lasts).min().unwrap_or_default();
        let until = match scope {
            Scope::Statement => now + answer_for,
            Scope::Fingerprint | Scope::Resource => now + Duration::seconds(window.into()),
            Scope::Session => now + LONGEST_SESSION,
        };
        let last = case.votes.last();
        let standing = Standing {
            until: Some(until),
            break_glass: last.is_some_and(|v| v.break_glass),
            ..Standing::new(State::Approved, now)
        };
        let used = scope == Scope::Statement && !case.waiting.is_empty();
        let answer = said(case, scope, &standing);
        self.settle(id, standing, Some(&answer), step);
        if used {
            self.settle(id, Standing::new(State::Used, now), None, step);
        }
    }

    fn case_mut(&mut self, id: QuestionId) -> Result<&mut Case, VoteError> {
        self.get_mut(id).ok_or(VoteError::NoSuch(id))
    }
}

/// Its deadline may have passed with nobody having looked since.
fn in_time(case: &Case, now: OffsetDateTime) -> Result<(), VoteError> {
    match case.standing.state.is_live() && deadline(case) <= now {
        true => Err(VoteError::Settled(case.id, State::Expired, String::new())),
        false => Ok(()),
    }
}

fn may_vote(case: &Case, ballot: &Ballot) -> Result<(), VoteError> {
    let Ballot {
        voter,
        verdict,
        reason,
        break_glass,
    } = ballot;
    if case.standing.state != State::Pending {
        let by = case.standing.by.as_ref();
        let by = by.map_or(String::new(), |by| format!(", by {by}"));
        return Err(VoteError::Settled(case.id, case.standing.state, by));
    }
    if *verdict == Verdict::Refuse {
        // Whoever owns the agent may well say no.
        let owns = case.owners.contains(&voter.name);
        if !owns && !voter.root && !is_asked(case, &voter.groups) {
            return Err(VoteError::NotAsked(voter.name.clone(), asked(case)));
        }
        return match reason.is_empty() {
            true => Err(VoteError::ReasonNeeded),
            false => Ok(()),
        };
    }
    if case.owners.contains(&voter.name) {
        return Err(VoteError::Own(voter.name.clone()));
    }
    let demands = &case.asking.demands;
    if *break_glass {
        let every = demands
            .iter()
            .all(|d| voter.groups.iter().any(|g| d.break_glass.contains(g)));
        if !every {
            return Err(VoteError::NoBreakGlass(voter.name.clone()));
        }
    } else {
        // Whoever may only break the glass has no ordinary vote.
        if !counts(case, &voter.groups) {
            return Err(VoteError::NotAsked(voter.name.clone(), asked(case)));
        }
        if case.votes.iter().any(|v| v.who == voter.name) {
            return Err(VoteError::Twice(voter.name.clone()));
        }
    }
    if reason.is_empty() && (*break_glass || demands.iter().any(|d| d.reason)) {
        return Err(VoteError::ReasonNeeded);
    }
    Ok(())
}

/// Whether an ordinary approval of somebody in these groups counts for any rule.
fn counts(case: &Case, groups: &[String]) -> bool {
    let demands = case.asking.demands.iter();
    let mut asked = demands.flat_map(|d| d.groups.iter().flatten());
    asked.any(|group| groups.contains(group))
}

/// Whether somebody in these groups has any say in it.
fn is_asked(case: &Case, groups: &[String]) -> bool {
    let demands = case.asking.demands.iter();
    let mut asked = demands.flat_map(|d| d.groups.iter().flatten().chain(&d.break_glass));
    asked.any(|group| groups.contains(group))
}

fn asked(case: &Case) -> String {
    let demands = case.asking.demands.iter();
    let mut groups: Vec<&str> = demands
        .flat_map(|d| d.groups.iter().flatten().map(String::as_str))
        .collect();
    groups.sort_unstable();
    groups.dedup();
    groups.join(", ")
}
