//! From the server's bytes to batches of replies: as much as is there, in place, in one buffer.

use std::sync::Arc;

use bytes::{Buf, BytesMut};

use super::ledger::{Answer, Ledger, broken};
use crate::ids::ExchangeId;
use crate::terminate::{Columns, Part, PartKind, Replies, SessionError};
use crate::wire::postgres::backend::tag;
use crate::wire::postgres::fields;
use crate::wire::postgres::frame::{HEADER, Header};

/// A row or a piece of COPY data above this does not wait until it is whole.
const PIECE: usize = 256 * 1024;

/// A part counts its rows in 32 bits; a batch is one buffer, far below.
const MAX_ROWS: u32 = u32::MAX - 1;

#[derive(Debug)]
pub struct Reader {
    max_message: usize,
    /// A message that is passed on in pieces.
    piece: Option<Piece>,
}

#[derive(Debug)]
struct Piece {
    exchange: ExchangeId,
    unit: u16,
    left: usize,
    first: bool,
    /// Of a row: its length on the wire and its columns. Otherwise it is COPY data.
    row: Option<(u32, Option<Arc<Columns>>)>,
}

/// A batch that grows at the start of the input.
#[derive(Default)]
struct Batch {
    parts: Vec<Part>,
    at: usize,
}

impl Reader {
    pub fn new(max_message: usize) -> Self {
        Self {
            max_message,
            piece: None,
        }
    }

    /// Takes every message that is there; `None` if there is none.
    pub fn take(
        &mut self,
        input: &mut BytesMut,
        ledger: &mut Ledger,
    ) -> Result<Option<Replies>, SessionError> {
        let mut batch = Batch::default();
        loop {
            if self.piece.is_some() && !self.take_piece(input, &mut batch) {
                break;
            }
            let rest = input.get(batch.at..).unwrap_or_default();
            let Some(header) = Header::peek(rest).map_err(broken)? else {
                break;
            };
            let length = header.wire_len();
            if rest.len() < length {
                if !self.begin_piece(header, ledger)? {
                    break;
                }
                continue;
            }
            match header.tag {
                tag::DATA_ROW => batch.row(length, ledger)?,
                tag::COPY_DATA => batch.copy(length, ledger)?,
                tag => {
                    let body = rest.get(HEADER..length).unwrap_or_default();
                    if tag == tag::ERROR
                        && let Some(error) = ledger.forged_error()
                        && !fields::is_fatal(body)
                    {
                        // The refusal takes its place, in a batch of its own.
                        if batch.at > 0 {
                            break;
                        }
                        let error = error.clone();
                        let answer = ledger.answer(tag, body)?;
                        input.advance(length);
                        return Ok(Some(instead(error, answer)));
                    }
                    match ledger.answer(tag, body)? {
                        Answer::Part {
                            exchange,
                            unit,
                            kind,
                        } => {
                            batch.part(length, exchange, unit, kind);
                            if let Some((exchange, unit)) = ledger.take_ended() {
                                batch.part(0, exchange, unit, PartKind::Done);
                            }
                        }
                        Answer::Swallow => batch.swallow(length, input),
                    }
                }
            }
        }
        Ok(batch.finish(input))
    }

    /// Whether the incomplete message may be passed on in pieces. One that may not, and never fits,
    /// is an error.
    fn begin_piece(&mut self, header: Header, ledger: &mut Ledger) -> Result<bool, SessionError> {
        let length = header.wire_len();
        if length <= PIECE {
            return Ok(false);
        }
        let row = match header.tag {
            // A header's length is below 2 GiB.
            tag::DATA_ROW => Some((length as u32, ledger.row_columns()?)),
            tag::COPY_DATA if !ledger.is_idle() => None,
            _ if length <= self.max_message => return Ok(false),
            tag => {
                let tag = char::from(tag);
                let why =
                    format!("a message of type {tag:?} of {length} bytes is above max_message");
                return Err(SessionError::UpstreamProtocol(why));
            }
        };
        let (exchange, unit) = ledger.place();
        self.piece = Some(Piece {
            exchange,
            unit,
            left: length,
            first: true,
            row,
        });
        Ok(true)
    }

    /// Passes on what there is of the current message. Whether it is complete.
    fn take_piece(&mut self, input: &BytesMut, batch: &mut Batch) -> bool {
        let Some(piece) = &mut self.piece else {
            return true;
        };
        let length = piece.left.min(input.len() - batch.at);
        if length == 0 {
            return false;
        }
        piece.left -= length;
        let last = piece.left == 0;
        let first = std::mem::take(&mut piece.first);
        let kind = match &piece.row {
            Some((total, columns)) => {
                let (total, columns) = (*total, columns.clone());
                PartKind::RowPiece {
                    first,
                    last,
                    total,
                    columns,
                }
            }
            None => PartKind::Bulk,
        };
        batch.part(length, piece.exchange, piece.unit, kind);
        if last {
            self.piece = None;
        }
        last
    }
}

/// The refusal where the server's own error would stand. It is hoop's own text, without content of
/// the server's.
fn instead(error: bytes::Bytes, answer: Answer) -> Replies {
    let (exchange, unit) = match answer {
        Answer::Part { exchange, unit, .. } => (exchange, unit),
        Answer::Swallow => (ExchangeId(0), 0),
    };
    let part = Part {
        exchange,
        unit,
        end: error.len(),
        kind: PartKind::Control,
    };
    Replies {
        wire: error,
        parts: vec![part],
    }
}

impl Batch {
    fn part(&mut self, length: usize, exchange: ExchangeId, unit: u16, kind: PartKind) {
        self.at += length;
        self.parts.push(Part {
            exchange,
            unit,
            end: self.at,
            kind,
        });
    }

    fn row(&mut self, length: usize, ledger: &mut Ledger) -> Result<(), SessionError> {
        let (exchange, unit) = ledger.place();
        if let Some(Part {
            exchange: e,
            unit: u,
            end,
            kind: PartKind::Rows { count, .. },
        }) = self.parts.last_mut()
            && (*e, *u) == (exchange, unit)
            && *count < MAX_ROWS
        {
            // Rows back to back are of one result: between two results stands another message.
            self.at += length;
            (*end, *count) = (self.at, *count + 1);
            return Ok(());
        }
        let columns = ledger.row_columns()?;
        self.part(length, exchange, unit, PartKind::Rows { count: 1, columns });
        Ok(())
    }

    fn copy(&mut self, length: usize, ledger: &Ledger) -> Result<(), SessionError> {
        if ledger.is_idle() {
            let why = "COPY data that nothing asked for";
            return Err(SessionError::UpstreamProtocol(why.into()));
        }
        let (exchange, unit) = ledger.place();
        match self.parts.last_mut() {
            Some(Part {
                exchange: e,
                unit: u,
                end,
                kind: PartKind::Bulk,
            }) if (*e, *u) == (exchange, unit) => {
                self.at += length;
                *end = self.at;
            }
            _ => self.part(length, exchange, unit, PartKind::Bulk),
        }
        Ok(())
    }

    /// Takes the message at the batch's end out of the stream. What stands before it is short: it
    /// moves, not what follows.
    fn swallow(&mut self, length: usize, input: &mut BytesMut) {
        if length <= input.len().saturating_sub(self.at) {
            input.copy_within(..self.at, length);
            input.advance(length);
        }
    }

    fn finish(self, input: &mut BytesMut) -> Option<Replies> {
        if self.at == 0 {
            return None;
        }
        let wire = input.split_to(self.at).freeze();
        Some(Replies {
            wire,
            parts: self.parts,
        })
    }
}
