//! PostgreSQL's frontend/backend protocol, version 3 (protocol manual, "Message Formats").
//!
//! One file per family of messages. Decoders take one whole message's body, so that nothing is
//! copied; [`frame`] says where a message ends. [`login`] is the client half that `forward` speaks.

pub mod authentication;
pub mod backend;
pub mod copy;
pub mod fields;
pub mod frame;
pub mod frontend;
pub mod login;
pub mod rows;
pub mod startup;

/// Bytes that are no message of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("a message of type {:?} claims {length} bytes", char::from(*.tag))]
    Length { tag: u8, length: u32 },
    #[error("{0} ends before its fields do")]
    Truncated(&'static str),
    #[error("{0} goes on after its last field")]
    Trailing(&'static str),
    #[error("{0} is malformed")]
    Malformed(&'static str),
    #[error("{0} is larger than the protocol allows")]
    TooLarge(&'static str),
    #[error("a message of unknown type {:?}", char::from(*.0))]
    UnknownType(u8),
}
