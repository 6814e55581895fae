//! A protocol that plays a script, for testing the loop alone: it hands out events in order, obeys
//! the gate, and writes down what it was told to do.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::watch;

use crate::decide::{Permitted, Refusal};
use crate::ids::ExchangeId;
use crate::mask::Masked;
use crate::record::Recorded;
use crate::terminate::{
    Asked, Bulk, ClientGate, Column, Columns, End, Event, Gate, Grant, Part, PartKind, Protocol,
    Replies, Request, SessionError, SqlAsked, SqlStep, SqlText, Stopped, Unit,
};

/// What the loop told the protocol, in order.
#[derive(Debug, PartialEq, Eq, Clone)]
pub enum Told {
    Forwarded(Bytes),
    More(Bytes),
    Replied(Bytes),
    Refused(String),
    Cancelled,
    Notified(String),
    Stopped(End),
    /// The gate kept the next event back.
    Waits(Gate),
    /// The catalog was looked up.
    LookedUp,
}

/// One step of a script.
#[expect(clippy::large_enum_variant, reason = "a script is a handful of steps")]
pub enum Step {
    Event(Event),
    /// Something happens elsewhere before the next event.
    Do(Box<dyn FnOnce() + Send>),
    /// Nothing comes before this is true.
    Until(watch::Receiver<bool>),
}

impl From<Event> for Step {
    fn from(event: Event) -> Self {
        Self::Event(event)
    }
}

#[derive(Clone, Default)]
pub struct Journal {
    told: Arc<Mutex<Vec<Told>>>,
    /// How many times what is known of the database was told to be old.
    outdated: Arc<AtomicUsize>,
}

impl Journal {
    pub fn all(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    /// Waits until this was told.
    pub async fn until(&self, told: &Told) {
        while !self.all().contains(told) {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    pub fn add(&self, told: Told) {
        self.told.lock().unwrap().push(told);
    }

    pub fn outdated(&self) {
        self.outdated.fetch_add(1, Ordering::Relaxed);
    }

    pub fn times_outdated(&self) -> usize {
        self.outdated.load(Ordering::Relaxed)
    }
}

pub struct Scripted {
    steps: VecDeque<Step>,
    journal: Journal,
    /// What to do when the script is over: hang (true) or close (false).
    pub hang: bool,
    /// The server answers nothing of these exchanges.
    pub unanswered: Vec<u64>,
}

impl Scripted {
    pub fn new(steps: Vec<Step>, journal: Journal) -> Self {
        Self {
            steps: steps.into(),
            journal,
            hang: false,
            unanswered: Vec::new(),
        }
    }

    fn gated(&self, gate: Gate) -> bool {
        match self.steps.front() {
            Some(Step::Event(Event::Request(_) | Event::Bulk(..))) => {
                gate.client != ClientGate::Open
            }
            Some(Step::Event(Event::Replies(_))) => !gate.upstream,
            Some(_) => false,
            // A client that is held back is not seen to leave either, for the tests' sake.
            None => self.hang || gate != Gate::OPEN,
        }
    }
}

impl Protocol for Scripted {
    async fn next(&mut self, gate: Gate) -> Result<Event, SessionError> {
        loop {
            if self.gated(gate) {
                self.journal.add(Told::Waits(gate));
                std::future::pending::<()>().await;
            }
            if let Some(Step::Until(told)) = self.steps.front_mut() {
                // The script is dropped with its test.
                let _ = told.wait_for(|told| *told).await;
            }
            match self.steps.pop_front() {
                Some(Step::Until(_)) => {}
                Some(Step::Event(event)) => return Ok(event),
                Some(Step::Do(act)) => act(),
                None => return Ok(Event::Closed),
            }
        }
    }

    fn forward(&mut self, request: Recorded<Permitted>) -> Result<Grant, SessionError> {
        let permitted = request.into_inner();
        self.journal.add(Told::Forwarded(permitted.wire().clone()));
        Ok(Grant::for_test(permitted.exchange()))
    }

    fn more(&mut self, _: &mut Grant, bulk: Bulk) -> Result<(), SessionError> {
        self.journal.add(Told::More(bulk.wire));
        Ok(())
    }

    fn reply(&mut self, reply: Recorded<Masked>) -> Result<(), SessionError> {
        self.journal.add(Told::Replied(reply.get().wire().clone()));
        Ok(())
    }

    fn refuse(&mut self, refusal: Recorded<Refusal>) -> Result<(), SessionError> {
        self.journal
            .add(Told::Refused(refusal.get().message.clone()));
        Ok(())
    }

    fn notify(&mut self, _: ExchangeId, notice: &str) -> bool {
        self.journal.add(Told::Notified(notice.to_owned()));
        true
    }

    fn awaits(&self, exchange: ExchangeId) -> bool {
        !self.unanswered.contains(&exchange.0)
    }

    fn in_transaction(&self) -> bool {
        false
    }

    fn cancel(&mut self) {
        self.journal.add(Told::Cancelled);
    }

    async fn stop(self, why: &End) -> Stopped {
        self.journal.add(Told::Stopped(why.clone()));
        Stopped::Idle
    }
}

/// A simple query: one unit, whose wire bytes are its text.
pub fn query(exchange: u64, text: &str) -> Step {
    Event::Request(request(exchange, &[text])).into()
}

/// The end of an exchange.
pub fn done(exchange: u64) -> Step {
    ends_with(exchange, b"Z\0\0\0\x05I")
}

/// The end of an exchange that Flush ended: whether a transaction is open is not told.
pub fn done_by_flush(exchange: u64) -> Step {
    ends_with(exchange, b"C\0\0\0\x10CREATE VIEW\0")
}

/// The end of an exchange within a transaction.
pub fn done_within(exchange: u64) -> Step {
    ends_with(exchange, b"Z\0\0\0\x05T")
}

fn ends_with(exchange: u64, wire: &'static [u8]) -> Step {
    let part = Part {
        exchange: ExchangeId(exchange),
        unit: 0,
        end: wire.len(),
        kind: PartKind::Done,
    };
    Event::Replies(Replies {
        wire: Bytes::from_static(wire),
        parts: vec![part],
    })
    .into()
}

/// A segment of statements, each a unit of its own.
pub fn request(exchange: u64, texts: &[&str]) -> Request {
    let mut wire = Vec::new();
    let units = texts
        .iter()
        .map(|text| {
            wire.extend_from_slice(text.as_bytes());
            let asked = SqlAsked {
                step: SqlStep::Simple,
                candidates: [Arc::new(SqlText {
                    text: (*text).into(),
                    hash: fnv(text),
                })]
                .into_iter()
                .collect(),
                parameters: Arc::new([]),
            };
            Unit {
                end: wire.len(),
                asked: Asked::Sql(asked),
            }
        })
        .collect();
    Request {
        exchange: ExchangeId(exchange),
        wire: wire.into(),
        units,
    }
}

fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    })
}

/// One text column from table `oid`, attribute 1, and one row that holds `value`, framed as
/// PostgreSQL frames them.
pub fn rows(exchange: u64, oid: u32, value: &str) -> Step {
    let column = Column {
        label: "c".into(),
        table: oid,
        attribute: 1,
        kind: 25,
        binary: false,
    };
    let columns = Arc::new(Columns {
        columns: vec![column],
    });
    let mut wire = row_description(oid);
    let described = wire.len();
    wire.extend_from_slice(&data_row(value));
    let rows = PartKind::Rows {
        count: 1,
        columns: Some(columns.clone()),
    };
    let part = |end, kind| Part {
        exchange: ExchangeId(exchange),
        unit: 0,
        end,
        kind,
    };
    let parts = vec![
        part(described, PartKind::Columns(columns)),
        part(wire.len(), rows),
    ];
    Event::Replies(Replies {
        wire: wire.into(),
        parts,
    })
    .into()
}

fn row_description(oid: u32) -> Vec<u8> {
    let mut body = vec![0, 1, b'c', 0];
    body.extend_from_slice(&oid.to_be_bytes());
    body.extend_from_slice(&1i16.to_be_bytes());
    body.extend_from_slice(&25u32.to_be_bytes());
    body.extend_from_slice(&(-1i16).to_be_bytes());
    body.extend_from_slice(&(-1i32).to_be_bytes());
    body.extend_from_slice(&0i16.to_be_bytes());
    framed(b'T', &body)
}

fn data_row(value: &str) -> Vec<u8> {
    let mut body = vec![0, 1];
    body.extend_from_slice(&(value.len() as u32).to_be_bytes());
    body.extend_from_slice(value.as_bytes());
    framed(b'D', &body)
}

fn framed(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![tag];
    message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    message.extend_from_slice(body);
    message
}
