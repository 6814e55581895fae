//! PostgreSQL: a client's handshake, its session, and the requests to cancel it.
//!
//! [`Startup`] meets the client, [`Session`] carries it, [`Cancels`] finds the session that a
//! CancelRequest means. `forward` makes the [`Upstream`].

mod again;
mod cancels;
mod client;
mod refusals;
mod scram;
mod session;
mod startup;
#[cfg(test)]
mod startup_tests;
pub mod upstream;

pub use again::Recollection;
pub use cancels::{Cancels, NoKey};
pub use client::ClientStream;
pub use refusals::sqlstate;
pub use scram::{AgentPassword, ClientScramError};
pub use session::Session;
pub use startup::{Arrived, NotReady, Startup, StartupError, Terms};
pub use upstream::{CancelTarget, Dial, Upstream, UpstreamStream};
