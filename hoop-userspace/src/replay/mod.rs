//! Stage 11: recordings, read back. What a file claims is believed as far as its chain holds.

mod cast;
mod host;
mod read;
mod show;
mod story;
mod summary;

pub use cast::{Cast, What, characters};
pub use host::HostEvent;
pub use read::{Reader, Recorded, ReplayError, SealState, Tampered, Told, Verified, verify};
pub use show::Transcript;
pub use story::{Event, Line, Story};
pub use summary::{Summary, find, ledgers, list, rfc3339};

#[cfg(test)]
mod tests;
