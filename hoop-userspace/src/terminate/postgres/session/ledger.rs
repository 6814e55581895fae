//! What the server still owes: one entry for each message that it answers, in order.
//!
//! The ledger follows the server's own rules (protocol manual, "Message Flow"): after an error in
//! the extended protocol everything up to Sync is skipped, so its entries go without an answer.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::names::{Described, Portal, Statement, Table};
use crate::ids::ExchangeId;
use crate::terminate::{Column, Columns, PartKind, SessionError};
use crate::wire::postgres::backend::{self, Transaction, tag};
use crate::wire::postgres::{WireError, fields, rows};

/// A message that the server will answer.
#[derive(Debug)]
pub struct Awaited {
    pub exchange: ExchangeId,
    pub unit: u16,
    /// The last answer of its exchange.
    pub last: bool,
    pub kind: Kind,
}

#[derive(Debug, Clone)]
pub enum Kind {
    /// With the statement name that it deallocates, if that is all it does.
    Query {
        deallocates: Option<Bytes>,
    },
    FunctionCall,
    Sync,
    Parse {
        name: Bytes,
        number: u64,
    },
    Bind {
        portal: Bytes,
        number: u64,
    },
    CloseStatement {
        name: Bytes,
        number: u64,
    },
    ClosePortal {
        name: Bytes,
        number: u64,
    },
    DescribeStatement,
    DescribePortal {
        portal: Bytes,
    },
    /// Describe of hoop's own: the client did not ask, and does not hear of it.
    Attribute {
        portal: Bytes,
    },
    Execute {
        portal: Bytes,
        deallocates: Option<Bytes>,
    },
    /// A message of hoop's own in the place of a refused one; the refusal is sent for its error.
    Forged {
        error: Bytes,
        ends_with_ready: bool,
    },
}

/// What to do with a message from the server.
#[derive(Debug)]
pub enum Answer {
    Part {
        exchange: ExchangeId,
        unit: u16,
        kind: PartKind,
    },
    /// The client must not see it.
    Swallow,
}

/// A COPY from the client that the server waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyIn {
    pub exchange: ExchangeId,
}

#[derive(Debug, Default)]
pub struct Ledger {
    awaited: VecDeque<Awaited>,
    pub statements: Table<Statement>,
    pub portals: Table<Portal>,
    described: Described,
    /// The server skips to Sync, and no Sync has been sent yet.
    skipping: bool,
    /// Columns of the rows that flow now, and whether they have been looked up.
    columns: Option<Option<Arc<Columns>>>,
    /// The description seen last: statements that are run again and again share it.
    description: Option<(Bytes, Arc<Columns>)>,
    pub copy_in: Option<CopyIn>,
    /// The front entry has begun to read COPY data.
    copying: bool,
    /// Syncs that a COPY may have eaten.
    eaten: usize,
    pub transaction: Transaction,
    /// SQLSTATE of the last error.
    pub last_error: [u8; 5],
    /// The server said that it ends the session.
    pub fatal: bool,
    /// The exchange that was forwarded last.
    pub latest: Option<ExchangeId>,
    /// Bytes of statement texts held by name.
    pub held: usize,
    /// Whether every portal is described right before its rows, so that its columns are known.
    attribute: bool,
    /// Something was answered since the last ReadyForQuery: the server may hold locks for it.
    open: bool,
    /// The exchange and unit that ended with a message that cannot say so.
    ended: Option<(ExchangeId, u16)>,
    /// The session is about to end, because the server reads SQL otherwise than we do.
    unfollowable: bool,
}

impl Ledger {
    pub fn new(attribute: bool) -> Self {
        Self {
            attribute,
            ..Self::default()
        }
    }

    pub fn is_idle(&self) -> bool {
        self.awaited.is_empty()
    }

    pub fn len(&self) -> usize {
        self.awaited.len()
    }

    /// Whether the server may hold locks for the session: it said so, or something was sent to it
    /// since it last said otherwise. What Flush ends holds them until Sync.
    pub fn in_transaction(&self) -> bool {
        self.transaction != Transaction::Idle || self.open || !self.is_idle()
    }

    /// Whether anything of this exchange, of which the last part was just forwarded, is still to be
    /// answered.
    pub fn awaits(&self, exchange: ExchangeId) -> bool {
        self.awaited.back().is_some_and(|a| a.exchange == exchange)
    }

    /// The exchange and unit that the last answer ended without saying so.
    pub fn take_ended(&mut self) -> Option<(ExchangeId, u16)> {
        self.ended.take()
    }

    /// The exchange whose COPY data the server reads now.
    pub fn copying(&self) -> Option<ExchangeId> {
        self.current().filter(|_| self.copying)
    }

    /// The exchange that the server works on.
    pub fn current(&self) -> Option<ExchangeId> {
        self.awaited.front().map(|a| a.exchange)
    }

    /// Takes note of a message that is sent now.
    pub fn expect(&mut self, awaited: Awaited) {
        self.latest = Some(awaited.exchange);
        if self.skipping {
            match awaited.kind {
                Kind::Sync => self.skipping = false,
                kind => return self.unsettle(&kind),
            }
        }
        self.awaited.push_back(awaited);
    }

    /// A change of names that never reaches the server, or that it skips.
    pub fn unsettle(&mut self, kind: &Kind) {
        self.settle(kind, false);
    }

    /// The refusal's error, if the next ErrorResponse stands for it.
    pub fn forged_error(&self) -> Option<&Bytes> {
        match &self.awaited.front()?.kind {
            Kind::Forged { error, .. } => Some(error),
            _ => None,
        }
    }

    /// The columns of the rows that the front entry brings.
    pub fn row_columns(&mut self) -> Result<Option<Arc<Columns>>, SessionError> {
        if let Some(columns) = &self.columns {
            return Ok(columns.clone());
        }
        let columns = match self.awaited.front().map(|a| &a.kind) {
            // An older description may be of another portal, which SQL has closed since.
            Some(Kind::Execute { portal, .. }) if self.attribute => {
                self.described.get(portal).cloned()
            }
            Some(Kind::Execute { .. } | Kind::Query { .. }) => None,
            _ => return Err(unexpected(tag::DATA_ROW)),
        };
        self.columns = Some(columns.clone());
        Ok(columns)
    }

    /// The exchange and unit that the next message belongs to.
    pub fn place(&self) -> (ExchangeId, u16) {
        match self.awaited.front() {
            Some(front) => (front.exchange, front.unit),
            None => (self.latest.unwrap_or(ExchangeId(0)), 0),
        }
    }

    /// Takes a whole message from the server, DataRow and CopyData excepted.
    pub fn answer(&mut self, tag: u8, body: &[u8]) -> Result<Answer, SessionError> {
        match tag {
            tag::NOTICE => return Ok(self.aside(PartKind::Text)),
            tag::NOTIFICATION => return Ok(self.aside(PartKind::Loose)),
            tag::PARAMETER_STATUS => return self.parameter(body),
            tag::ERROR => return Ok(self.error(body)),
            tag::READY => return self.ready(body),
            _ => {}
        }
        let Some(front) = self.awaited.front() else {
            return Err(unexpected(tag));
        };
        match (&front.kind, tag) {
            (Kind::Parse { .. }, tag::PARSE_COMPLETE)
            | (Kind::Bind { .. }, tag::BIND_COMPLETE)
            | (Kind::CloseStatement { .. } | Kind::ClosePortal { .. }, tag::CLOSE_COMPLETE) => {
                Ok(self.complete(PartKind::Control))
            }
            (Kind::DescribeStatement, tag::PARAMETER_DESCRIPTION) => {
                Ok(self.aside(PartKind::Control))
            }
            (
                Kind::DescribeStatement | Kind::DescribePortal { .. } | Kind::Attribute { .. },
                tag::ROW_DESCRIPTION | tag::NO_DATA,
            ) => self.describe(tag, body),
            (Kind::Query { .. }, tag::ROW_DESCRIPTION) => {
                let columns = self.columns(body)?;
                self.columns = Some(Some(columns.clone()));
                Ok(self.aside(PartKind::Columns(columns)))
            }
            (Kind::Query { .. } | Kind::Execute { .. }, tag::COMMAND_COMPLETE) => {
                self.command(body)
            }
            (Kind::Query { .. }, tag::EMPTY_QUERY) => Ok(self.aside(PartKind::Control)),
            (Kind::Execute { .. }, tag::EMPTY_QUERY | tag::PORTAL_SUSPENDED) => {
                Ok(self.complete(PartKind::Control))
            }
            (Kind::FunctionCall, tag::FUNCTION_RESULT) => Ok(self.aside(PartKind::Loose)),
            (Kind::Query { .. } | Kind::Execute { .. }, tag::COPY_IN | tag::COPY_BOTH) => {
                self.begin_copy()
            }
            (Kind::Query { .. } | Kind::Execute { .. }, tag::COPY_OUT | tag::COPY_DONE) => {
                Ok(self.aside(PartKind::Control))
            }
            _ => Err(unexpected(tag)),
        }
    }

    /// A part that completes nothing.
    fn aside(&self, kind: PartKind) -> Answer {
        let (exchange, unit) = self.place();
        Answer::Part {
            exchange,
            unit,
            kind,
        }
    }

    /// The front entry is answered in full.
    fn complete(&mut self, kind: PartKind) -> Answer {
        self.columns = None;
        let Some(front) = self.awaited.pop_front() else {
            return self.aside(kind);
        };
        self.settle(&front.kind, true);
        self.open = true;
        let kind = match kind {
            PartKind::Control if front.last => PartKind::Done,
            other => {
                if front.last {
                    self.ended = Some((front.exchange, front.unit));
                }
                other
            }
        };
        Answer::Part {
            exchange: front.exchange,
            unit: front.unit,
            kind,
        }
    }

    fn settle(&mut self, kind: &Kind, confirmed: bool) {
        let old = match kind {
            Kind::Parse { name, number } | Kind::CloseStatement { name, number } => {
                self.statements.settle(name, *number, confirmed)
            }
            Kind::Bind {
                portal: name,
                number,
            }
            | Kind::ClosePortal { name, number } => {
                self.portals.settle(name, *number, confirmed);
                if confirmed {
                    self.described.set(name, None);
                }
                None
            }
            _ => None,
        };
        self.released(old);
    }

    fn released(&mut self, statement: Option<Arc<Statement>>) {
        self.held = self
            .held
            .saturating_sub(statement.map_or(0, |s| s.weight()));
    }

    fn describe(&mut self, tag: u8, body: &[u8]) -> Result<Answer, SessionError> {
        let columns = match tag {
            tag::ROW_DESCRIPTION => Some(self.columns(body)?),
            _ => None,
        };
        let kind = self.awaited.front().map(|a| &a.kind);
        let own = matches!(kind, Some(Kind::Attribute { .. }));
        if let Some(Kind::DescribePortal { portal } | Kind::Attribute { portal }) = kind {
            self.described.set(portal, columns.clone());
        }
        let answer = match columns {
            // The last answer of a segment that ends in Flush is its end, whatever it shows.
            Some(columns) => self.complete(PartKind::Columns(columns)),
            None => self.complete(PartKind::Control),
        };
        Ok(if own { Answer::Swallow } else { answer })
    }

    fn columns(&mut self, body: &[u8]) -> Result<Arc<Columns>, SessionError> {
        if let Some((known, columns)) = &self.description
            && known == body
        {
            return Ok(columns.clone());
        }
        let body = Bytes::copy_from_slice(body);
        let fields = rows::description(body.clone()).map_err(broken)?;
        let columns = fields.into_iter().map(|field| Column {
            label: field.label,
            table: field.table,
            attribute: field.attribute,
            kind: field.kind,
            binary: field.binary,
        });
        let columns = Arc::new(Columns {
            columns: columns.collect(),
        });
        self.description = Some((body, columns.clone()));
        Ok(columns)
    }

    fn command(&mut self, body: &[u8]) -> Result<Answer, SessionError> {
        let command = backend::command(body).map_err(broken)?;
        self.columns = None;
        self.copy_in = None;
        if std::mem::take(&mut self.copying) {
            // It read to the end of the data, so it did eat what came before.
            self.eaten = 0;
        }
        let front = self.awaited.front().map(|a| &a.kind);
        match (command, front) {
            (b"DEALLOCATE ALL" | b"DISCARD ALL", _) => {
                self.statements.forget_all();
                self.held = 0;
            }
            (
                b"DEALLOCATE",
                Some(
                    Kind::Query {
                        deallocates: Some(name),
                    }
                    | Kind::Execute {
                        deallocates: Some(name),
                        ..
                    },
                ),
            ) => {
                let old = self.statements.forget(name);
                self.released(old);
            }
            _ => {}
        }
        Ok(match self.awaited.front() {
            Some(Awaited {
                kind: Kind::Execute { .. },
                ..
            }) => self.complete(PartKind::Control),
            _ => self.aside(PartKind::Control),
        })
    }

    /// The server reads COPY data now, and eats the Sync that a client sent in advance.
    fn begin_copy(&mut self) -> Result<Answer, SessionError> {
        let (exchange, _) = self.place();
        let extended =
            matches!(self.awaited.front(), Some(a) if !matches!(a.kind, Kind::Query { .. }));
        if self
            .awaited
            .iter()
            .skip(1)
            .any(|a| !(extended && matches!(a.kind, Kind::Sync)))
        {
            let why = "COPY from the client was followed by other messages before its data";
            return Err(SessionError::ClientProtocol(why.into()));
        }
        self.eaten += self.awaited.len().saturating_sub(1);
        self.awaited.truncate(1);
        if let Some(front) = self.awaited.front_mut() {
            // Its Sync, if it had one, is eaten; the one behind the data ends another exchange.
            front.last = true;
        }
        self.copying = true;
        self.copy_in = Some(CopyIn { exchange });
        Ok(self.aside(PartKind::Control))
    }

    fn parameter(&mut self, body: &[u8]) -> Result<Answer, SessionError> {
        let parameter = backend::parameter(body).map_err(broken)?;
        match super::super::startup::unreadable(parameter) {
            Some(why) if !self.unfollowable => {
                // Said once: what still comes is only waited for.
                self.unfollowable = true;
                Err(SessionError::Unfollowable(why))
            }
            _ => Ok(self.aside(PartKind::Control)),
        }
    }

    fn error(&mut self, body: &[u8]) -> Answer {
        let code = fields::field(body, b'C').and_then(|c| c.first_chunk());
        self.last_error = code.copied().unwrap_or_default();
        self.fatal |= fields::is_fatal(body);
        (self.columns, self.copy_in, self.copying) = (None, None, false);
        let answer = self.aside(PartKind::Text);
        self.open = true;
        match self.awaited.front().map(|a| &a.kind) {
            None
            | Some(Kind::Query { .. } | Kind::FunctionCall | Kind::Sync)
            | Some(Kind::Forged {
                ends_with_ready: true,
                ..
            }) => {}
            Some(_) => self.skip_to_sync(),
        }
        answer
    }

    fn skip_to_sync(&mut self) {
        while let Some(front) = self.awaited.front() {
            if matches!(front.kind, Kind::Sync) {
                return;
            }
            if let Some(skipped) = self.awaited.pop_front() {
                self.unsettle(&skipped.kind);
            }
        }
        self.skipping = true;
    }

    fn ready(&mut self, body: &[u8]) -> Result<Answer, SessionError> {
        self.transaction = backend::ready(body).map_err(broken)?;
        self.copy_in = None;
        if self.transaction == Transaction::Idle {
            self.portals.forget_all();
            self.described.clear();
        }
        match self.awaited.front().map(|a| &a.kind) {
            Some(Kind::Query { .. } | Kind::FunctionCall | Kind::Sync)
            | Some(Kind::Forged {
                ends_with_ready: true,
                ..
            }) => {
                let answer = self.complete(PartKind::Control);
                self.open = false;
                Ok(answer)
            }
            // The Sync was not eaten by COPY after all: the error came before it was read.
            None if self.eaten > 0 => {
                self.eaten -= 1;
                (self.skipping, self.open) = (false, false);
                let (exchange, unit) = self.place();
                Ok(Answer::Part {
                    exchange,
                    unit,
                    kind: PartKind::Done,
                })
            }
            _ => Err(unexpected(tag::READY)),
        }
    }
}

pub fn broken(error: WireError) -> SessionError {
    SessionError::UpstreamProtocol(error.to_string())
}

fn unexpected(tag: u8) -> SessionError {
    let tag = char::from(tag);
    SessionError::UpstreamProtocol(format!("a message of type {tag:?} that nothing asked for"))
}
