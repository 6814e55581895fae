//! Stage 10: what happened, before it takes effect.
//!
//! One append-only file per session, and one ledger per process for what belongs to no session.
//! Every frame is one `write` by the task that the session runs in; a file that could not be
//! written once is not written again, and its session ends. The bytes are `format.rs`.

mod anchor;
mod encode;
mod event;
mod flush;
mod format;
mod ledger;
mod session;
mod store;
mod writer;

pub use anchor::{Anchor, NoAnchor};
pub use encode::MAX_ASKED;
pub use event::{
    AnsweredNote, AskedNote, BulkNote, Cut, EndNote, FlowNote, FoundNote, Header, IdentityNote,
    PermittedNote, REDACTED, RefusalNote, RenewedNote, RepliesNote, SealNote, SpanNote,
    TransferNote, UnitNote,
};
pub use format::{Broken, Frame, Kind, Link, PREAMBLE, Step, Times, Walk};
pub use ledger::{EXTENSION as LEDGER_EXTENSION, Ledger};
pub use session::SessionRecorder;
pub use store::{EXTENSION, SealingKey, Store};
pub use writer::RecordError;

/// Proof that `T` was recorded. Built by this stage alone.
///
/// ```compile_fail
/// let forged = hoop::record::Recorded(());
/// ```
///
/// ```compile_fail
/// fn twice<T: Clone>(t: hoop::record::Recorded<T>) { let _ = (t.clone(), t); }
/// ```
#[derive(Debug)]
pub struct Recorded<T>(T);

impl<T> Recorded<T> {
    pub fn get(&self) -> &T {
        &self.0
    }

    pub fn into_inner(self) -> T {
        self.0
    }
}

#[cfg(test)]
mod tests;
