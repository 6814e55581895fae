//! Stage 9: what the agent may see. Pure: no clock, no file, no socket.

mod catalog;

pub use catalog::{Catalog, FIRST_NORMAL_OID, Relation, RelationKind};

use bytes::Bytes;

use crate::ids::ExchangeId;

/// Replies that passed the masks; the only thing that [`crate::terminate::Protocol::reply`] takes.
#[derive(Debug)]
pub struct Masked {
    wire: Bytes,
    /// The last exchange that is over when these replies have been sent, if one is.
    done: Option<ExchangeId>,
}

impl Masked {
    pub fn wire(&self) -> &Bytes {
        &self.wire
    }

    pub fn done(&self) -> Option<ExchangeId> {
        self.done
    }
}
