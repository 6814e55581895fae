//! The client waits for people. Replies flow on; of the client only cancel and hang-up are seen.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use time::OffsetDateTime;
use time::macros::format_description;
use tokio::time::Instant;

use super::{Ended, Session, Waiting};
use crate::ask::{Approval, Asking, News, Outcome, Pending, Said, Under, Withdrawn};
use crate::decide::{Code, Decided, Question, Refusal, Retry, Scope};
use crate::ids::{ExchangeId, QuestionId};
use crate::mask::Foreseen;
use crate::record::{AnsweredNote, AskedNote};
use crate::terminate::{End, Protocol};

/// A question, and the request that waits for its answer.
pub(super) struct Asked {
    question: Box<Question>,
    pending: Pending,
    since: Instant,
    known: Option<Known>,
    /// The client has yet to hear that it waits, or still waits.
    untold: bool,
    /// What it would do is being found out.
    foretelling: Option<Foretelling>,
}

type Foretelling = Pin<Box<dyn Future<Output = Foretold> + Send>>;

/// What the server says of a request that people are asked about, without carrying it out.
pub(super) enum Foretold {
    /// About how many rows.
    Rows(Option<u64>),
    /// What would become of an object.
    Change(Foreseen),
}

/// A question that people have said yes to.
pub(super) struct Approved {
    question: Box<Question>,
    approval: Approval,
    running: Running,
}

impl Approved {
    /// What its client is told, which no longer wants it.
    pub(super) fn unwanted(self) -> Refusal {
        let id = self.running.under.question().to_string();
        let message = "the statement was cancelled before it was forwarded".to_owned();
        let question = *self.question;
        question.refuse(Code::Cancelled, Retry::Again, message, Some(id))
    }
}

/// What the keeper calls it.
struct Known {
    id: QuestionId,
    until: SystemTime,
    locked: bool,
}

/// What runs under an approval now.
pub(super) struct Running {
    exchange: ExchangeId,
    /// Until the session ends, not the exchange.
    session: bool,
    under: Under,
}

impl Running {
    pub(super) fn new(exchange: ExchangeId, scope: Scope, under: Under) -> Self {
        Self {
            exchange,
            session: scope == Scope::Session,
            under,
        }
    }
}

/// What comes while a question is open.
pub(super) enum Word {
    OfPeople(News),
    OfServer(Foretold),
}

/// The next word about a question, if there is one.
pub(super) async fn news(asked: &mut Option<Asked>) -> Word {
    let Some(asked) = asked else {
        return std::future::pending().await;
    };
    // Not before the question is open: nobody could be told.
    let known = asked.known.is_some();
    let foretelling = async {
        match &mut asked.foretelling {
            Some(foretelling) if known => foretelling.await,
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        news = asked.pending.next() => Word::OfPeople(news),
        foretold = foretelling => Word::OfServer(foretold),
    }
}

impl<P: Protocol> Session<P> {
    /// Puts a question to people.
    pub(super) fn ask(&mut self, question: Box<Question>) -> Result<(), Ended> {
        let locked = self.protocol.in_transaction();
        let asking = match Asking::new(&question, &self.subject, locked) {
            Ok(asking) => asking,
            Err(why) => {
                let refusal = question.unavailable(&why.to_string());
                return self.conclude(None, Some(refusal), None);
            }
        };
        let digest = *question.digest();
        let foretelling = self.foretell(&question);
        self.asked = Some(Asked {
            foretelling,
            pending: self.asker.ask(asking, digest, self.rules.remind),
            question,
            since: Instant::now(),
            known: None,
            untold: false,
        });
        Ok(())
    }

    /// How it is found out what a request would do, where that may be.
    fn foretell(&self, question: &Question) -> Option<Foretelling> {
        if let Some(statement) = question.plannable() {
            let rows = self.catalogs.estimate(&statement.text)?;
            return Some(Box::pin(async { Foretold::Rows(rows.await) }));
        }
        if !self.rules.decider.understands(question) {
            return None;
        }
        let foreseeing = self.protocol.foresee()?;
        Some(Box::pin(async { Foretold::Change(foreseeing.await) }))
    }

    pub(super) fn heard(&mut self, word: Word) -> Result<(), Ended> {
        let news = match word {
            Word::OfPeople(news) => news,
            Word::OfServer(foretold) => {
                self.foretold(foretold);
                return Ok(());
            }
        };
        match news {
            News::Asked {
                question,
                until,
                joined,
            } => self.is_asked(question, until, joined),
            News::Remind => {
                if let Some(asked) = &mut self.asked {
                    asked.untold = true;
                }
                self.tell_waiting();
                Ok(())
            }
            News::Answered(question, outcome) => self.answered(question, outcome),
        }
    }

    /// Passes on what the server says: whoever looks at the question sees it beside.
    fn foretold(&mut self, foretold: Foretold) {
        let Some(asked) = &mut self.asked else {
            return;
        };
        asked.foretelling = None;
        match foretold {
            Foretold::Rows(rows) => {
                if let Some(rows) = rows {
                    asked.pending.estimated(rows);
                }
            }
            // Masked by the rules that hold now, as an answer would be.
            Foretold::Change(foreseen) => {
                if let Some(masks) = &self.rules.objects {
                    asked.pending.foreseen(masks.change(&foreseen));
                }
            }
        }
    }

    fn is_asked(&mut self, id: QuestionId, until: SystemTime, joined: bool) -> Result<(), Ended> {
        let Some(asked) = &mut self.asked else {
            return Ok(());
        };
        let question = &asked.question;
        self.recorder.asked(&AskedNote {
            exchange: question.exchange().0,
            question: id.to_string(),
            message: question.message().to_owned(),
            statements: question
                .waiting()
                .map(|waiting| waiting.text.text.to_string())
                .collect(),
            rules: question.demands().iter().map(|d| d.rule.clone()).collect(),
            until,
            joined,
        })?;
        let locked = self.protocol.in_transaction();
        asked.known = Some(Known { id, until, locked });
        asked.untold = true;
        self.tell_waiting();
        Ok(())
    }

    /// Tells the client that it waits, if it has yet to hear so and there is room between messages.
    pub(super) fn tell_waiting(&mut self) {
        let Some(asked) = self.asked.as_mut().filter(|asked| asked.untold) else {
            return;
        };
        if let Some(known) = &asked.known {
            let notice = known.notice(asked.question.message());
            asked.untold = !self.protocol.notify(asked.question.exchange(), &notice);
        }
    }

    fn answered(&mut self, id: Option<QuestionId>, outcome: Outcome) -> Result<(), Ended> {
        let Some(asked) = self.asked.take() else {
            return Ok(());
        };
        let note = AnsweredNote {
            question: id.map(|id| id.to_string()),
            ..asked.note(&outcome)
        };
        self.recorder.answered(&note)?;
        let question = asked.question;
        match outcome {
            Outcome::Approved {
                approval,
                under,
                scope,
                ..
            } => {
                self.take_new_rules()?;
                let running = Running::new(question.exchange(), scope, under);
                let depends = self.rules.decider.question_depends_on_objects(&question);
                let approved = Approved {
                    question,
                    approval,
                    running,
                };
                // People take their time: the catalog may have grown old, and the database another.
                match self.catalogs.due(self.changed) {
                    Some(looked_up) if depends => {
                        self.wait_for_catalog(Waiting::Approved(approved), looked_up);
                        Ok(())
                    }
                    _ => self.release_approved(approved),
                }
            }
            outcome => {
                let refusal = refusal(*question, outcome, note.question);
                self.conclude(None, Some(refusal), None)
            }
        }
    }

    /// Lets run what was approved, if the same is still asked.
    pub(super) fn release_approved(&mut self, approved: Approved) -> Result<(), Ended> {
        self.take_new_rules()?;
        match self.still_asks(approved.question) {
            Ok(question) => self.settle(*question, approved.approval, approved.running),
            Err(decided) => self.decided(*decided),
        }
    }

    /// The question under what holds now, if the same is still demanded of the same people: rules
    /// and identity, the catalog, what the agent has done meanwhile. Otherwise what is decided
    /// instead.
    fn still_asks(&mut self, question: Box<Question>) -> Result<Box<Question>, Box<Decided>> {
        // Where the catalog is not known, that counts which the question was asked under.
        let catalog = self.catalogs.current();
        if catalog.objects().is_known() {
            self.know(&catalog);
        }
        self.know_activity();
        let demands = question.demands().clone();
        match self.rules.decider.decide_again(&self.subject, *question) {
            Decided::Ask {
                before: None,
                question,
            } if *question.demands() == demands => Ok(question),
            decided => Err(Box::new(decided)),
        }
    }

    fn settle(
        &mut self,
        question: Question,
        approval: Approval,
        running: Running,
    ) -> Result<(), Ended> {
        let permitted = match question.settle(self.subject.epochs, approval) {
            Ok(permitted) => permitted,
            Err(question) => {
                let refusal = question.unavailable("the approval was for another request");
                return self.conclude(None, Some(refusal), None);
            }
        };
        if self.rules.decider.watches() {
            self.watched.permitted(&permitted);
        }
        self.subject.objects = Arc::default();
        let permitted = self.recorder.permitted(permitted)?;
        self.wait_for_disk(Some(permitted), None, None, Some(running));
        Ok(())
    }

    /// The rules changed while people were being asked: they go on being asked if the new rules
    /// demand the same of them.
    pub(super) fn decide_anew(&mut self) -> Result<(), Ended> {
        // The change was seen by waiting for it.
        self.take_rules();
        self.take_new_rules()?;
        let Some(asked) = self.asked.take() else {
            return Ok(());
        };
        let changed = asked.plain_note("changed");
        let Asked {
            question, pending, ..
        } = asked;
        match self.still_asks(question) {
            Ok(question) => {
                self.asked = Some(Asked {
                    question,
                    pending,
                    since: asked.since,
                    known: asked.known,
                    untold: asked.untold,
                    foretelling: asked.foretelling,
                });
                Ok(())
            }
            Err(decided) => {
                self.recorder.answered(&changed)?;
                let why = "the policy changed, and asks no longer, or others";
                pending.withdraw(Withdrawn::Cancelled(why.into()));
                self.decided(*decided)
            }
        }
    }

    /// The client takes its request back.
    pub(super) fn cancel_question(&mut self) -> Result<(), Ended> {
        let Some(asked) = self.asked.take() else {
            return Ok(());
        };
        let note = asked.plain_note("cancelled");
        self.recorder.answered(&note)?;
        let why = Withdrawn::Cancelled("the client cancelled it".into());
        asked.pending.withdraw(why);
        let message = "the statement was cancelled while it waited for an approval".to_owned();
        let refusal = asked
            .question
            .refuse(Code::Cancelled, Retry::Again, message, note.question);
        self.conclude(None, Some(refusal), None)
    }

    /// The client would give up by itself soon. The question stays open, and its answer counts for
    /// the same request when that comes again.
    pub(super) fn hold_no_longer(&mut self, exchange: ExchangeId) -> Result<(), Ended> {
        let about = |asked: &Asked| asked.known.is_some() && asked.question.exchange() == exchange;
        if !self.asked.as_ref().is_some_and(about) {
            return Ok(());
        }
        let Some(asked) = self.asked.take() else {
            return Ok(());
        };
        let note = asked.plain_note("left");
        self.recorder.answered(&note)?;
        asked.pending.withdraw(Withdrawn::Stopped);
        let id = note.question.clone().unwrap_or_default();
        let message = format!(
            "{}; it was held for {} s and question {id} stays open: once it is approved, send the same request again. To answer: hoop approvals show {id}",
            asked.question.message(),
            note.held / 1000,
        );
        let code = Code::ApprovalUnavailable;
        let refusal = asked
            .question
            .refuse(code, Retry::AfterApproval, message, note.question);
        self.conclude(None, Some(refusal), None)
    }

    /// The session ends while a question is open.
    pub(super) fn leave(&mut self, end: &End) -> Result<(), Ended> {
        let Some(asked) = self.asked.take() else {
            return Ok(());
        };
        self.recorder.answered(&asked.plain_note("left"))?;
        let how = match end {
            End::Drained => {
                if let Some(known) = &asked.known {
                    let notice = format!(
                        "hoop is stopping, and question {} stays open; once it is approved, send the same statement again",
                        known.id
                    );
                    // Where there is no room for it the session's end must do.
                    let _ = self.protocol.notify(asked.question.exchange(), &notice);
                }
                Withdrawn::Stopped
            }
            End::Finished | End::Broken(_) => Withdrawn::HungUp,
            End::Identity(why) | End::Killed(why) | End::Unrecordable(why) => {
                Withdrawn::Cancelled(format!("the session ended: {why}"))
            }
        };
        asked.pending.withdraw(how);
        Ok(())
    }

    /// Takes note of what runs under an approval.
    pub(super) fn runs_under(&mut self, running: Running) {
        let known = |r: &Running| r.session && r.under.question() == running.under.question();
        if !self.running.iter().any(known) {
            self.running.push(running);
        }
    }

    pub(super) fn no_longer_runs(&mut self, done: ExchangeId) {
        self.running.retain(|r| r.session || r.exchange > done);
    }
}

impl Asked {
    fn plain_note(&self, outcome: &str) -> AnsweredNote {
        AnsweredNote {
            exchange: self.question.exchange().0,
            question: self.known.as_ref().map(|known| known.id.to_string()),
            outcome: outcome.into(),
            by: Vec::new(),
            scope: None,
            break_glass: false,
            held: u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn note(&self, outcome: &Outcome) -> AnsweredNote {
        match outcome {
            Outcome::Approved {
                said,
                scope,
                break_glass,
                ..
            } => AnsweredNote {
                by: said
                    .iter()
                    .map(|Said { who, reason }| (who.clone(), reason.clone()))
                    .collect(),
                scope: Some(scope.to_string()),
                break_glass: *break_glass,
                ..self.plain_note(AnsweredNote::APPROVED)
            },
            Outcome::Refused { by, reason } => AnsweredNote {
                by: vec![(by.clone(), reason.clone())],
                ..self.plain_note("refused")
            },
            Outcome::Expired => self.plain_note("expired"),
            Outcome::Unavailable(_) => self.plain_note("unavailable"),
        }
    }
}

impl Known {
    fn notice(&self, message: &str) -> String {
        let time = format_description!("[hour]:[minute]:[second]");
        let until = OffsetDateTime::from(self.until).format(time);
        let left = self.until.duration_since(SystemTime::now());
        let locked = match self.locked {
            true => "; a transaction is open, so it waits no longer than that",
            false => "",
        };
        let id = self.id;
        format!(
            "{message}; it waits for question {id}, until {} UTC ({} s){locked}. To answer: hoop approvals show {id}",
            until.unwrap_or_default(),
            left.unwrap_or_default().as_secs(),
        )
    }
}

/// What the client is told where nobody approved.
fn refusal(question: Question, outcome: Outcome, id: Option<String>) -> Refusal {
    let message = question.message().to_owned();
    match outcome {
        Outcome::Refused { by, reason } => question.refuse(
            Code::ApprovalRefused,
            Retry::Never,
            format!("{message}; {by} refused: {reason}"),
            id,
        ),
        Outcome::Expired => question.refuse(
            Code::ApprovalExpired,
            Retry::AfterApproval,
            format!("{message}; nobody answered in time"),
            id,
        ),
        Outcome::Unavailable(why) => question.unavailable(&why),
        // Settled by the caller.
        Outcome::Approved { .. } => question.unavailable("its approval was lost"),
    }
}
