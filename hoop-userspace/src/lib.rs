//! hoop: the enforcement point between AI agents and the systems they reach.
//!
//! The modules stand in the order in which a connection meets them; reading this file from top to
//! bottom is reading the journey. `docs/JOURNEY.md` follows one connection through them by name.

pub mod cli;

pub mod config;
pub mod keeper;
pub mod worker;

// A process of its own: what people see.
pub mod console;
// What people try out, for it and the command line.
pub mod trial;

// 1–3: in the keeper.
pub mod accept;
pub mod attribute;
pub mod capture;

// 4–11: in the worker, but the state of what people are asked, which is the keeper's.
pub mod ask;
pub mod decide;
pub mod forward;
pub mod identify;
pub mod mask;
pub mod record;
pub mod replay;
pub mod terminate;

// What drives stages 5 to 10 for each session.
pub mod session;

// Vocabulary that every stage may use.
pub mod handover;
pub mod hex;
pub mod ids;
pub mod secret;
pub mod whole;
pub mod wire;
