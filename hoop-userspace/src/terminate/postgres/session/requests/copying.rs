//! COPY data from the client: whole messages together, a large one in pieces.

use bytes::{Buf, BytesMut};

use super::{Requests, Taken, broken};
use crate::ids::ExchangeId;
use crate::terminate::postgres::session::ledger::Ledger;
use crate::terminate::{Bulk, SessionError};
use crate::wire::postgres::frame::{HEADER, Header};
use crate::wire::postgres::frontend::tag;
use crate::wire::postgres::{WireError, copy};

/// A CopyData above this is passed on in pieces, each framed anew.
const COPY_PIECE: usize = 64 * 1024;

impl Requests {
    /// COPY data: whole messages together, a large one in pieces. `None`: look again.
    pub(super) fn take_copy(
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
