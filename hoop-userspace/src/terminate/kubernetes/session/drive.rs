//! What drives a request: the client, the server, and what waits for either.

use std::pin::Pin;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use tokio::time::Sleep;

use super::foresee::Trial;
use super::reply::Heard;
use super::streams::{Listen, Moved};
use super::{
    BODY_WITHIN, EXCHANGE, LAST_WORDS, Objection, ServerError, Session, State, WAITING, last_words,
    status, unreadable,
};
use crate::decide::{Permitted, Refusal};
use crate::ids::ExchangeId;
use crate::mask::Masked;
use crate::record::Recorded;
use crate::terminate::{
    Bulk, ClientGate, End, Event, Foreseeing, Gate, Grant, Protocol, SessionError, Side, Stopped,
};
use crate::wire::ssh::channel::Message;

/// What happened.
enum Step {
    Drove,
    Gone,
    Read(Option<Result<Frame<Bytes>, hyper::Error>>),
    TooSlow,
    Impatient,
    Answered(Result<Response<Incoming>, ServerError>),
    Heard(Heard),
    Moved(Result<Moved, SessionError>),
}

impl State {
    /// What the client or the server does next, as far as the gate lets it.
    async fn step(
        &mut self,
        gate: Gate,
        room: bool,
        patience: &mut Option<Pin<Box<Sleep>>>,
    ) -> Step {
        match self {
            Self::Reading { body, by, .. } if gate.client == ClientGate::Open => {
                tokio::select! {
                    frame = body.frame() => Step::Read(frame),
                    () = by.as_mut() => Step::TooSlow,
                }
            }
            Self::Deciding => match patience {
                Some(patience) => {
                    patience.as_mut().await;
                    Step::Impatient
                }
                None => std::future::pending().await,
            },
            Self::Sending(answering, _) => Step::Answered(answering.as_mut().await),
            Self::Answering(reply) if gate.upstream && room => Step::Heard(reply.next().await),
            Self::Streaming(streams) => {
                let listen = Listen {
                    client: gate.client == ClientGate::Open,
                    server: gate.upstream,
                };
                Step::Moved(streams.next(listen).await)
            }
            _ => std::future::pending().await,
        }
    }
}

impl Protocol for Session {
    async fn next(&mut self, gate: Gate) -> Result<Event, SessionError> {
        loop {
            if let Some(event) = self.next_event(gate) {
                return Ok(event);
            }
            if matches!(self.state, State::Over) && self.answer.is_done() {
                return Ok(Event::Closed);
            }
            let held = gate.client == ClientGate::ControlOnly;
            if held && self.patience.is_none() {
                self.patience = Some(Box::pin(tokio::time::sleep(self.reach.patience)));
            }
            let room = self.answer.queued() < WAITING;
            let streaming = matches!(self.state, State::Streaming(_));
            let step = tokio::select! {
                drove = self.answer.drive(WAITING), if !streaming => match drove {
                    Ok(()) => Step::Drove,
                    Err(_) => Step::Gone,
                },
                step = self.state.step(gate, room, &mut self.patience) => step,
            };
            match step {
                Step::Drove => {}
                Step::Gone => return Ok(Event::HalfClosed(Side::Client)),
                Step::Impatient => {
                    self.patience = None;
                    return Ok(Event::Impatient(EXCHANGE));
                }
                Step::TooSlow => {
                    let seconds = BODY_WITHIN.as_secs();
                    self.object(&Objection::Body(format!(
                        "nothing was sent for {seconds} s"
                    )));
                }
                Step::Read(frame) => self.read(frame),
                Step::Answered(answered) => self.answered(answered),
                Step::Heard(heard) => self.heard(heard),
                Step::Moved(moved) => {
                    if let Some(event) = self.moved(moved?) {
                        return Ok(event);
                    }
                }
            }
        }
    }

    fn forward(&mut self, request: Recorded<Permitted>) -> Result<Grant, SessionError> {
        let permitted = request.into_inner();
        let exchange = permitted.exchange();
        self.send(permitted.wire().clone())?;
        Ok(Grant::new(exchange))
    }

    fn more(&mut self, _grant: &mut Grant, bulk: Bulk) -> Result<(), SessionError> {
        let State::Streaming(streams) = &mut self.state else {
            return Ok(());
        };
        let mut wire = bulk.wire;
        while let Some(message) = Message::take(&mut wire).map_err(|_| unreadable())? {
            streams.tell_server(message)?;
        }
        Ok(())
    }

    fn reply(&mut self, reply: Recorded<Masked>) -> Result<(), SessionError> {
        let mut wire = reply.into_inner().wire().clone();
        while let Some(message) = Message::take(&mut wire).map_err(|_| unreadable())? {
            self.tell_client(message)?;
        }
        Ok(())
    }

    fn refuse(&mut self, refusal: Recorded<Refusal>) -> Result<(), SessionError> {
        let asked = self.expected.take().map(|(_, asked)| asked.info.clone());
        let (code, headers, content) = status::refusal(refusal.get(), &asked.unwrap_or_default());
        self.answer.whole(code, headers, content);
        self.state = State::Over;
        Ok(())
    }

    fn notify(&mut self, _exchange: ExchangeId, notice: &str) -> bool {
        // Before the answer there is no place for words; with it they go as warnings.
        self.answer.warn(notice)
    }

    fn in_transaction(&self) -> bool {
        false
    }

    fn foresee(&self) -> Option<Foreseeing> {
        let places = self.reach.foresees.clone()?;
        let State::Deciding = self.state else {
            return None;
        };
        let (_, asked) = self.expected.as_ref()?;
        let (server, added) = (&self.reach.server, &self.reach.added);
        let trial = Trial::of(server, added, self.user_agent.clone(), asked)?;
        Some(trial.foresee(places))
    }

    /// A request has no name by which a server could be told to stop.
    fn cancel(&mut self) {}

    async fn stop(mut self, why: &End) -> Stopped {
        let (code, words) = last_words(why);
        match std::mem::replace(&mut self.state, State::Over) {
            State::Streaming(streams) => streams.stop(why).await,
            State::Sending(mut answering, _) => {
                self.say(code, &words);
                if !self.changes {
                    return Stopped::Cancelled;
                }
                // Taken back it may be carried out all the same: better to know.
                let answered = tokio::time::timeout(LAST_WORDS, answering.as_mut()).await;
                match answered {
                    Ok(Ok(_)) => Stopped::Completed,
                    _ => Stopped::Unknown,
                }
            }
            State::Answering(_) => {
                self.say(code, &words);
                self.answer.end(true);
                // What is still to be read says nothing more of what was done.
                match self.changes {
                    true => Stopped::Completed,
                    false => Stopped::Cancelled,
                }
            }
            State::Over => {
                self.say(code, &words);
                self.answer.end(!self.answer.is_ended());
                self.flush().await;
                Stopped::Idle
            }
            State::Reading { .. } | State::Deciding => {
                self.say(code, &words);
                Stopped::Idle
            }
        }
    }
}
