//! SSH: hoop is the server that the client sees, and a client of the server behind it.
//!
//! ```text
//! client ── Met (front) ── Connection ── Session, one per channel ── Upstream ── server
//! ```
//!
//! russh drives both sides in tasks of its own and hands what it hears to callbacks; [`pipe`] takes
//! it from there to the sessions, and [`backlog`] bounds what waits between.

pub(in crate::terminate) mod again;
mod backlog;
mod connection;
mod front;
mod greeting;
pub mod keys;
mod pipe;
mod session;
mod upstream;

pub use backlog::{Backlog, Throttled};
pub use connection::{Connection, Jumps};
pub use front::{Faces, Jump, MeetError, Met, Reach, Reached, Room};
pub use keys::{KeyError, Keys};
pub use session::Session;
pub use upstream::{Back, Recognise, Upstream};
