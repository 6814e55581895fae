//! From the client's bytes to requests: messages are gathered up to Sync or Flush, or a Query
//! alone, and each becomes a unit.

mod copying;
mod units;

use bytes::{Buf, Bytes, BytesMut};
use smallvec::SmallVec;

use super::ledger::{Kind, Ledger};
use crate::ids::ExchangeId;
use crate::terminate::{Asked, Bulk, Request, SessionError, Undecidable, Unit};
use crate::wire::postgres::WireError;
use crate::wire::postgres::frame::{HEADER, Header};
use crate::wire::postgres::frontend::tag;
use units::Units;

/// A segment is cut before the message that would make it larger.
pub const MAX_SEGMENT: usize = 1 << 20;

const MAX_UNITS: usize = 1024;

/// What became of the client's bytes.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "moved once per request; a box would be an allocation per request"
)]
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
    /// Counts exchanges.
    exchanges: u64,
    units: Units,
    /// Messages of the segment that is being gathered: type and end.
    gathered: SmallVec<[(u8, usize); 6]>,
    /// Bytes of the input that belong to `gathered`.
    scanned: usize,
    /// Bytes of a message that are passed over as they come.
    discard: usize,
    /// Bytes of a CopyData that is passed on in pieces.
    copy_rest: usize,
}

impl Requests {
    pub fn new(max_message: usize, attribute: bool) -> Self {
        Self {
            max_message,
            exchanges: 0,
            units: Units::new(max_message, attribute),
            gathered: SmallVec::new(),
            scanned: 0,
            discard: 0,
            copy_rest: 0,
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
            let (asked, unit) = self.units.unit(tag, end, body, ledger)?;
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

fn broken(error: WireError) -> SessionError {
    SessionError::ClientProtocol(error.to_string())
}
