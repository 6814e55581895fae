//! Replies that passed the masks.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::ids::ExchangeId;

/// Replies that passed the masks; the only thing that [`crate::terminate::Protocol::reply`] takes.
///
/// Only this stage makes one:
///
/// ```compile_fail
/// let forged = hoop::mask::Masked { wire: bytes::Bytes::new() };
/// ```
///
/// ```compile_fail
/// let forged: hoop::mask::Masked = Default::default();
/// ```
#[derive(Debug)]
pub struct Masked {
    pub(in crate::mask) wire: Bytes,
    pub(in crate::mask) record: Bytes,
    pub(in crate::mask) done: Option<ExchangeId>,
    pub(in crate::mask) spans: SmallVec<[Span; 4]>,
    pub(in crate::mask) values: u64,
}

/// A run of [`Masked::record`] that answers one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub exchange: ExchangeId,
    /// Offset of the first byte after it.
    pub end: usize,
    /// Whole rows in it; a row that came in pieces counts with its last piece.
    pub rows: u32,
    /// Rows and other content of which the recorder keeps a bounded part. The rest is kept whole.
    pub content: bool,
}

impl Masked {
    /// What the client is sent.
    pub fn wire(&self) -> &Bytes {
        &self.wire
    }

    /// What is recorded: always masked, also where [`super::Masker::observe`] lets the client see
    /// more.
    pub fn record(&self) -> &Bytes {
        &self.record
    }

    /// The last exchange that is over when these replies have been sent, if one is.
    pub fn done(&self) -> Option<ExchangeId> {
        self.done
    }

    /// What [`Masked::record`] consists of, in order and without gaps.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// How many values were replaced.
    pub fn values(&self) -> u64 {
        self.values
    }
}
