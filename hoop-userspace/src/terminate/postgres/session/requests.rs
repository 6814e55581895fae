//! From the client's bytes to requests: messages are gathered up to Sync or Flush, or a Query
//! alone, and each becomes a unit.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use smallvec::SmallVec;

use super::ledger::{Kind, Ledger};
use super::names::{MAX_NAME, MAX_STATEMENTS, Portal, Statement};
use super::sql_names::{self, Prepares};
use crate::ids::ExchangeId;
use crate::terminate::{
    Asked, Bulk, Parameter, Request, SessionError, SqlAsked, SqlStep, SqlText, Undecidable, Unit,
};
use crate::wire::postgres::frame::{HEADER, Header};
use crate::wire::postgres::frontend::{self, Bind, Frontend, Target, tag};
use crate::wire::postgres::{WireError, copy};

/// A segment is cut before the message that would make it larger.
pub const MAX_SEGMENT: usize = 1 << 20;

const MAX_UNITS: usize = 1024;

/// A CopyData above this is passed on in pieces, each framed anew.
const COPY_PIECE: usize = 64 * 1024;

/// Parameters up to this much are copied, so that a portal does not keep a read buffer alive.
const SMALL_BIND: usize = 4096;

/// Names that SQL gave to statements, remembered one by one up to this many.
const MAX_TAINTS: usize = 1024;

/// What became of the client's bytes.
#[derive(Debug)]
pub enum Taken {
    Request(Request, Staged),
    Bulk(ExchangeId, Bulk),
    /// The client said goodbye.
    Terminate,
    /// More bytes are needed.
    Nothing,
    /// The server must answer first.
    Blocked,
}

/// A request that the loop decides on now, as the server will see it.
#[derive(Debug)]
pub struct Staged {
    pub exchange: ExchangeId,
    pub wire: Bytes,
    pub units: SmallVec<[StagedUnit; 6]>,
    /// How much of it was forwarded.
    pub forwarded: usize,
}

#[derive(Debug)]
pub struct StagedUnit {
    pub end: usize,
    /// `None`: the server answers nothing (Flush), or the message was not kept.
    pub kind: Option<Kind>,
    /// Describe the portal first: its rows' columns are not known.
    pub attribute: bool,
    /// Its bytes are not here; it can only be refused.
    pub dropped: bool,
    pub ends: Ends,
}

/// How a unit ends what it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// It does not.
    No,
    /// ReadyForQuery follows: Query and FunctionCall.
    Itself,
    Sync,
    Flush,
}

/// The state of the client's side.
#[derive(Debug)]
pub struct Requests {
    max_message: usize,
    /// Whether rows must be attributable.
    attribute: bool,
    /// Counts exchanges.
    exchanges: u64,
    /// Counts messages that change names, and runs of SQL PREPARE.
    number: u64,
    /// Counts Syncs.
    group: u64,
    /// Portals that the client described, with nothing run since.
    described: SmallVec<[Bytes; 1]>,
    taints: HashMap<Bytes, u64>,
    /// The last run of a PREPARE whose name is not known.
    tainted: u64,
    /// Messages of the segment that is being gathered: type and end.
    gathered: SmallVec<[(u8, usize); 6]>,
    /// Bytes of the input that belong to `gathered`.
    scanned: usize,
    /// Bytes of a message that are passed over as they come.
    discard: usize,
    /// Bytes of a CopyData that is passed on in pieces.
    copy_rest: usize,
    hasher: foldhash::fast::FixedState,
}

impl Requests {
    pub fn new(max_message: usize, attribute: bool) -> Self {
        Self {
            max_message,
            attribute,
            exchanges: 0,
            number: 0,
            group: 1,
            described: SmallVec::new(),
            taints: HashMap::new(),
            tainted: 0,
            gathered: SmallVec::new(),
            scanned: 0,
            discard: 0,
            copy_rest: 0,
            // Keyed by nothing secret: whoever looks a text up by its hash compares the text too.
            hasher: foldhash::fast::FixedState::default(),
        }
    }

    /// Takes what can be taken from the client's bytes.
    pub fn take(
        &mut self,
        input: &mut BytesMut,
        ledger: &mut Ledger,
    ) -> Result<Taken, SessionError> {
        loop {
            self.pass_over(input);
            if self.copy_rest > 0 || ledger.copy_in.is_some() {
                if !self.gathered.is_empty() {
                    let why = "other messages came while the server waited for COPY data";
                    return Err(SessionError::ClientProtocol(why.into()));
                }
                match self.take_copy(input, ledger)? {
                    Some(taken) => return Ok(taken),
                    None => continue,
                }
            }
            let rest = input.get(self.scanned..).unwrap_or_default();
            let Some(header) = Header::peek(rest).map_err(broken)? else {
                return Ok(Taken::Nothing);
            };
            let end = self.scanned + header.wire_len();
            match header.tag {
                tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL => {
                    if !self.gathered.is_empty() {
                        return self.segment(input, ledger);
                    }
                    if !ledger.is_idle() {
                        // The answer will say whether the server waits for this.
                        return Ok(Taken::Blocked);
                    }
                    // A server that is in no COPY ignores them.
                    self.discard = header.wire_len();
                }
                tag::TERMINATE => return Ok(Taken::Terminate),
                tag if !is_known(tag) => return Err(broken(WireError::UnknownType(tag))),
                _ if header.wire_len() > self.max_message => {
                    return match self.gathered.is_empty() {
                        true => self.too_large(input, header),
                        false => self.segment(input, ledger),
                    };
                }
                tag => {
                    let alone = matches!(tag, tag::QUERY | tag::FUNCTION_CALL);
                    let full = end > MAX_SEGMENT || self.gathered.len() >= MAX_UNITS;
                    if (alone || full) && !self.gathered.is_empty() {
                        return self.segment(input, ledger);
                    }
                    if input.len() < end {
                        return Ok(Taken::Nothing);
                    }
                    self.gathered.push((tag, end));
                    self.scanned = end;
                    if alone || matches!(tag, tag::SYNC | tag::FLUSH) {
                        return self.segment(input, ledger);
                    }
                }
            }
        }
    }

    fn pass_over(&mut self, input: &mut BytesMut) {
        let passed = self.discard.min(input.len());
        input.advance(passed);
        self.discard -= passed;
    }

    fn exchange(&mut self) -> ExchangeId {
        self.exchanges += 1;
        ExchangeId(self.exchanges)
    }

    /// Cuts the gathered messages off the input and says what they ask for.
    fn segment(
        &mut self,
        input: &mut BytesMut,
        ledger: &mut Ledger,
    ) -> Result<Taken, SessionError> {
        let wire = input.split_to(self.scanned).freeze();
        self.scanned = 0;
        let gathered = std::mem::take(&mut self.gathered);
        let exchange = self.exchange();
        let mut request = Request {
            exchange,
            wire: wire.clone(),
            units: SmallVec::new(),
        };
        let mut staged = Staged {
            exchange,
            wire,
            units: SmallVec::new(),
            forwarded: 0,
        };
        let mut start = 0;
        for (tag, end) in gathered {
            let body = staged.wire.slice((start + HEADER).min(end)..end);
            start = end;
            let (asked, unit) = self.unit(tag, end, body, ledger)?;
            request.units.push(Unit { end, asked });
            staged.units.push(unit);
        }
        Ok(Taken::Request(request, staged))
    }

    /// A message that is not kept: its header stands for it, so that it can be refused in its place.
    fn too_large(&mut self, input: &mut BytesMut, header: Header) -> Result<Taken, SessionError> {
        let exchange = self.exchange();
        self.discard = header.body_len();
        let wire = input.split_to(HEADER).freeze();
        let (bytes, most) = (header.wire_len(), self.max_message);
        let asked = Asked::Undecidable(Undecidable::TooLarge { bytes, most });
        let ends = match header.tag {
            tag::QUERY | tag::FUNCTION_CALL => Ends::Itself,
            _ => Ends::No,
        };
        let unit = StagedUnit {
            end: HEADER,
            kind: None,
            attribute: false,
            dropped: true,
            ends,
        };
        let units = [Unit { end: HEADER, asked }].into_iter().collect();
        let request = Request {
            exchange,
            wire: wire.clone(),
            units,
        };
        let units = [unit].into_iter().collect();
        Ok(Taken::Request(
            request,
            Staged {
                exchange,
                wire,
                units,
                forwarded: 0,
            },
        ))
    }

    fn unit(
        &mut self,
        tag: u8,
        end: usize,
        body: Bytes,
        ledger: &mut Ledger,
    ) -> Result<(Asked, StagedUnit), SessionError> {
        let body = match tag {
            tag::BIND if body.len() <= SMALL_BIND => Bytes::copy_from_slice(&body),
            _ => body,
        };
        let message = frontend::decode(tag, body).map_err(broken)?;
        let mut unit = StagedUnit {
            end,
            kind: None,
            attribute: false,
            dropped: false,
            ends: Ends::No,
        };
        let asked = match message {
            Frontend::Query(text) => {
                unit.ends = Ends::Itself;
                let deallocates = sql_names::deallocates(&text);
                unit.kind = Some(Kind::Query { deallocates });
                self.query(&text)
            }
            Frontend::Parse { name, text, .. } => self.parse(&name, &text, ledger, &mut unit),
            Frontend::Bind(bind) => self.bind(bind, ledger, &mut unit),
            Frontend::Execute { portal, .. } => self.execute(&portal, ledger, &mut unit),
            Frontend::Describe(target) => self.describe(target, &mut unit),
            Frontend::Close(target) => self.close(target, ledger, &mut unit),
            Frontend::FunctionCall { oid } => {
                self.described.clear();
                unit.ends = Ends::Itself;
                unit.kind = Some(Kind::FunctionCall);
                Asked::FunctionCall { oid }
            }
            Frontend::Sync => {
                unit.ends = Ends::Sync;
                unit.kind = Some(Kind::Sync);
                self.group += 1;
                self.described.clear();
                Asked::Control
            }
            Frontend::Flush => {
                unit.ends = Ends::Flush;
                Asked::Control
            }
            Frontend::Terminate
            | Frontend::CopyData(_)
            | Frontend::CopyDone
            | Frontend::CopyFail(_) => return Err(broken(WireError::UnknownType(tag))),
        };
        Ok((asked, unit))
    }

    fn query(&mut self, text: &Bytes) -> Asked {
        self.described.clear();
        if text.trim_ascii().is_empty() {
            return Asked::Control;
        }
        self.taint(&sql_names::prepares(text));
        match self.sql_text(text) {
            Some(text) => sql(SqlStep::Simple, [text], Arc::new([])),
            None => Asked::Undecidable(Undecidable::NotUtf8),
        }
    }

    fn parse(
        &mut self,
        name: &Bytes,
        text: &Bytes,
        ledger: &mut Ledger,
        unit: &mut StagedUnit,
    ) -> Asked {
        let name = kept(name);
        let number = self.next_number();
        unit.kind = Some(Kind::Parse {
            name: name.clone(),
            number,
        });
        if name.len() > MAX_NAME {
            return unknown(&name);
        }
        // The names are the server's memory as much as ours; drivers hold a few hundred.
        let most = self.max_message;
        if ledger.statements.len() >= MAX_STATEMENTS || ledger.held + text.len() > most {
            let bytes = ledger.held + text.len();
            return Asked::Undecidable(Undecidable::TooLarge { bytes, most });
        }
        let sql_text = self.sql_text(text);
        let statement = Statement {
            text: sql_text.clone(),
            prepares: sql_names::prepares(text),
        };
        if sql_text.is_some() {
            ledger.held += text.len();
        }
        ledger
            .statements
            .propose(name, number, self.group, Some(Arc::new(statement)));
        match sql_text {
            Some(text) if text.text.trim_ascii().is_empty() => Asked::Control,
            Some(text) => sql(SqlStep::Prepare, [text], Arc::new([])),
            None => Asked::Undecidable(Undecidable::NotUtf8),
        }
    }

    fn bind(&mut self, bind: Bind, ledger: &mut Ledger, unit: &mut StagedUnit) -> Asked {
        let name = kept(&bind.portal);
        let number = self.next_number();
        unit.kind = Some(Kind::Bind {
            portal: name.clone(),
            number,
        });
        if name.len() > MAX_NAME || bind.statement.len() > MAX_NAME {
            return unknown(if name.len() > MAX_NAME {
                &name
            } else {
                &bind.statement
            });
        }
        self.described.retain(|d| *d != name);
        let found = ledger.statements.find(&bind.statement, self.group);
        let tainted = self
            .taints
            .get(&bind.statement)
            .copied()
            .unwrap_or(0)
            .max(self.tainted);
        let statements = match !bind.statement.is_empty() && tainted >= found.since {
            // SQL may have put another statement under this name since.
            true => SmallVec::new(),
            false => found.candidates,
        };
        let parameters = bind.values.iter().enumerate();
        let parameters = parameters
            .map(|(i, value)| Parameter {
                binary: bind.is_binary(i),
                value: value.clone(),
            })
            .collect();
        let portal = Portal {
            statements,
            parameters,
        };
        ledger
            .portals
            .propose(name, number, self.group, Some(Arc::new(portal)));
        Asked::Control
    }

    fn execute(&mut self, portal: &Bytes, ledger: &mut Ledger, unit: &mut StagedUnit) -> Asked {
        let name = kept(portal);
        // Whatever runs may close a portal and declare another of its name.
        unit.attribute = self.attribute && !self.described.contains(&name);
        self.described.clear();
        let mut found = ledger.portals.find(&name, self.group).candidates;
        let bound = found
            .pop()
            .filter(|p| found.is_empty() && !p.statements.is_empty());
        let Some(bound) = bound else {
            unit.kind = Some(Kind::Execute {
                portal: name.clone(),
                deallocates: None,
            });
            return unknown(&name);
        };
        let first = bound.statements.first().and_then(|s| s.text.as_ref());
        let deallocates = first.and_then(|t| sql_names::deallocates(t.text.as_bytes()));
        unit.kind = Some(Kind::Execute {
            portal: name,
            deallocates,
        });
        let mut candidates: SmallVec<[Arc<SqlText>; 1]> = SmallVec::new();
        for statement in &bound.statements {
            self.taint(&statement.prepares);
            match &statement.text {
                Some(text) => candidates.push(text.clone()),
                None => return Asked::Undecidable(Undecidable::NotUtf8),
            }
        }
        if candidates.iter().all(|t| t.text.trim_ascii().is_empty()) {
            return Asked::Control;
        }
        sql(SqlStep::Run, candidates, bound.parameters.clone())
    }

    fn describe(&mut self, target: Target, unit: &mut StagedUnit) -> Asked {
        match target {
            Target::Statement(_) => unit.kind = Some(Kind::DescribeStatement),
            Target::Portal(name) => {
                let portal = kept(&name);
                self.described.push(portal.clone());
                unit.kind = Some(Kind::DescribePortal { portal });
            }
        }
        Asked::Control
    }

    fn close(&mut self, target: Target, ledger: &mut Ledger, unit: &mut StagedUnit) -> Asked {
        let number = self.next_number();
        let (name, statement) = match target {
            Target::Statement(name) => (kept(&name), true),
            Target::Portal(name) => (kept(&name), false),
        };
        let too_long = name.len() > MAX_NAME;
        unit.kind = Some(match statement {
            true => Kind::CloseStatement {
                name: name.clone(),
                number,
            },
            false => Kind::ClosePortal {
                name: name.clone(),
                number,
            },
        });
        match statement {
            _ if too_long => return unknown(&name),
            true => ledger.statements.propose(name, number, self.group, None),
            false => ledger.portals.propose(name, number, self.group, None),
        }
        Asked::Control
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn taint(&mut self, prepares: &Prepares) {
        let number = match prepares {
            Prepares::None => return,
            _ => self.next_number(),
        };
        match prepares {
            Prepares::Names(names) if self.taints.len() + names.len() <= MAX_TAINTS => {
                self.taints
                    .extend(names.iter().map(|n| (n.clone(), number)));
            }
            _ => self.tainted = number,
        }
    }

    fn sql_text(&self, text: &[u8]) -> Option<Arc<SqlText>> {
        let text = std::str::from_utf8(text).ok()?;
        Some(Arc::new(SqlText {
            hash: self.hasher.hash_one(text),
            text: text.into(),
        }))
    }

    /// COPY data: whole messages together, a large one in pieces. `None`: look again.
    fn take_copy(
        &mut self,
        input: &mut BytesMut,
        ledger: &mut Ledger,
    ) -> Result<Option<Taken>, SessionError> {
        let Some(copy_in) = ledger.copy_in else {
            // The COPY failed while this message was on its way.
            self.discard = std::mem::take(&mut self.copy_rest);
            return Ok(None);
        };
        if self.copy_rest > 0 {
            return Ok(Some(self.copy_piece(input, copy_in.exchange)));
        }
        let (mut at, mut end) = (0, false);
        while !end && let Some(header) = peek(input, at)? {
            match header.tag {
                tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL => {}
                tag::SYNC | tag::FLUSH if at == 0 => {
                    // The server would ignore them here too.
                    self.discard = header.wire_len();
                    return Ok(None);
                }
                tag::TERMINATE if at == 0 => return Ok(Some(Taken::Terminate)),
                tag::SYNC | tag::FLUSH | tag::TERMINATE => break,
                tag => return Err(broken(WireError::UnknownType(tag))),
            }
            if input.len() - at < header.wire_len() {
                if at == 0 && header.tag == tag::COPY_DATA && input.len() >= COPY_PIECE {
                    input.advance(HEADER);
                    self.copy_rest = header.body_len();
                    return Ok(None);
                }
                if header.tag != tag::COPY_DATA && header.wire_len() > COPY_PIECE {
                    return Err(broken(WireError::TooLarge("CopyFail")));
                }
                break;
            }
            at += header.wire_len();
            end = header.tag != tag::COPY_DATA;
        }
        if at == 0 {
            return Ok(Some(Taken::Nothing));
        }
        if end {
            ledger.copy_in = None;
        }
        let bulk = Bulk {
            wire: input.split_to(at).freeze(),
            end,
        };
        Ok(Some(Taken::Bulk(copy_in.exchange, bulk)))
    }

    fn copy_piece(&mut self, input: &mut BytesMut, exchange: ExchangeId) -> Taken {
        let length = self.copy_rest.min(input.len());
        if length == 0 {
            return Taken::Nothing;
        }
        self.copy_rest -= length;
        let wire = copy::data(&input.split_to(length));
        Taken::Bulk(exchange, Bulk { wire, end: false })
    }
}

fn peek(input: &[u8], at: usize) -> Result<Option<Header>, SessionError> {
    Header::peek(input.get(at..).unwrap_or_default()).map_err(broken)
}

/// Names are kept apart from the buffer that they were read into.
fn kept(name: &Bytes) -> Bytes {
    match name.is_empty() {
        true => Bytes::new(),
        false => Bytes::copy_from_slice(name),
    }
}

fn is_known(tag: u8) -> bool {
    matches!(
        tag,
        tag::QUERY
            | tag::PARSE
            | tag::BIND
            | tag::DESCRIBE
            | tag::EXECUTE
            | tag::CLOSE
            | tag::FUNCTION_CALL
            | tag::SYNC
            | tag::FLUSH
    )
}

fn unknown(name: &[u8]) -> Asked {
    let name: String = String::from_utf8_lossy(name)
        .chars()
        .take(MAX_NAME + 1)
        .collect();
    Asked::Undecidable(Undecidable::UnknownName(name))
}

fn sql(
    step: SqlStep,
    candidates: impl IntoIterator<Item = Arc<SqlText>>,
    parameters: Arc<[Parameter]>,
) -> Asked {
    let candidates = candidates.into_iter().collect();
    Asked::Sql(SqlAsked {
        step,
        candidates,
        parameters,
    })
}

fn broken(error: WireError) -> SessionError {
    SessionError::ClientProtocol(error.to_string())
}
