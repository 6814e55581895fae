//! Stage 7: people are asked, while the client waits in its own protocol.
//!
//! Three parts, and none may do another's work. The **desk** is the state of every question, kept by
//! the keeper and written to a log before it takes effect: pure, told the time. The **asker** is the
//! worker's end: it puts questions and hears answers, and cannot answer. **Channels** are adapters
//! that show questions and carry votes to the desk: the control socket, which the command line
//! speaks, is the first. `docs/adr/the-keeper-holds-the-votes.md` says why.

mod asker;
mod asking;
mod case;
mod count;
mod desk;
mod log;
pub mod notice;
#[cfg(test)]
mod tests;
mod voting;

pub use asker::{Approval, Asker, News, Outcome, Pending, Under};
pub use asking::{Answer, Asking, Caller, Heard, Said, Shown, Ticket, ToDesk, TooLong, Withdrawn};
pub use case::{Case, Entry, HeldChange, Standing, State, Verdict, Vote};
pub use count::missing;
pub use desk::{Desk, Held, Step, Terms};
pub use log::{ApprovalLog, LogError};
pub use notice::Happened;
pub use voting::{Ballot, VoteError, Voter};
