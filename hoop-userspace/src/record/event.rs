//! What frames hold, in postcard's encoding. The recorder writes these and `replay` reads them; a
//! change of any of them is a change of the format's version.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::attribute::Process;
use crate::config::Mode;

/// The first frame of a session: everything about it that does not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub session: crate::ids::SessionId,
    pub started: SystemTime,
    pub agent: Option<String>,
    pub mode: Mode,
    pub identity: IdentityNote,
    pub process: Process,
    /// The resource, or none where the connection went elsewhere or nowhere.
    pub resource: Option<String>,
    pub protocol: String,
    pub destination: SocketAddr,
    /// Names that the agent's DNS answers gave for the destination.
    pub observed: Vec<String>,
    pub database: Option<String>,
    /// The role that hoop logs in as upstream.
    pub login: Option<String>,
    /// What the client asked for by name: its own user, its application name.
    pub client_user: Option<String>,
    pub application: Option<String>,
}

/// Who it was, or why that could not be said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdentityNote {
    Verified {
        issuer: String,
        subject: String,
        client_id: String,
        groups: Vec<String>,
        scopes: Vec<String>,
        expires: SystemTime,
    },
    Unverified {
        why: String,
    },
}

/// A permitted request, before it is forwarded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermittedNote<'b> {
    pub exchange: u64,
    pub policy_epoch: u64,
    pub units: Vec<UnitNote>,
    #[serde(borrow)]
    pub wire: Cut<'b>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitNote {
    /// Ids of the policies that permitted it; none for a unit that needs no permit.
    pub rules: Vec<String>,
    /// In observe mode: what enforce mode would have answered.
    pub would_refuse: Option<RefusalNote>,
}

/// Bytes of which at most a bounded part is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut<'b> {
    #[serde(borrow)]
    pub kept: Cow<'b, [u8]>,
    /// How many there were.
    pub length: u64,
}

impl<'b> Cut<'b> {
    pub fn new(bytes: &'b [u8], most: usize) -> Self {
        let kept = bytes.get(..most).unwrap_or(bytes);
        Self {
            kept: Cow::Borrowed(kept),
            length: bytes.len() as u64,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalNote {
    pub exchange: u64,
    pub unit: u16,
    pub message: String,
    /// [`crate::decide::Refusal::json_line`].
    pub line: String,
    pub rule: Option<String>,
    pub hint: String,
    /// The refused statement.
    pub asked: Option<String>,
}

/// Replies as the agent saw them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepliesNote<'b> {
    pub spans: Vec<SpanNote>,
    /// What was kept of each span, back to back.
    #[serde(borrow)]
    pub kept: Cow<'b, [u8]>,
    /// Values that the masks replaced.
    pub masked: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanNote {
    pub exchange: u64,
    pub rows: u32,
    /// Bytes on the wire, and how many of them are kept.
    pub length: u64,
    pub kept: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkNote<'b> {
    pub exchange: u64,
    pub end: bool,
    #[serde(borrow)]
    pub wire: Cut<'b>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndNote {
    pub reason: String,
    /// Stable: `finished`, `identity`, `killed`, `drained`, `unrecordable`, `broken`, `refused`.
    pub kind: String,
    /// Stable: `idle`, `cancelled`, `completed`, `unknown`.
    pub outcome: String,
    pub requests: u64,
    pub refusals: u64,
    pub rows: u64,
    pub bytes: u64,
}

/// The seal: who signed what stands before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealNote {
    /// Ed25519, 32 bytes.
    pub public_key: Vec<u8>,
    /// Over the link before this frame, 64 bytes.
    pub signature: Vec<u8>,
}

macro_rules! into_owned {
    ($($name:ident { $field:ident; $($other:ident),* })*) => {$(
        impl $name<'_> {
            /// The same, free of the buffer it was read from.
            pub fn into_owned(self) -> $name<'static> {
                $name { $field: self.$field.into_owned(), $($other: self.$other),* }
            }
        }
    )*};
}

impl Cut<'_> {
    /// The same, free of the buffer it was read from.
    pub fn into_owned(self) -> Cut<'static> {
        Cut {
            kept: Cow::Owned(self.kept.into_owned()),
            length: self.length,
        }
    }
}

impl RepliesNote<'_> {
    /// The same, free of the buffer it was read from.
    pub fn into_owned(self) -> RepliesNote<'static> {
        RepliesNote {
            spans: self.spans,
            kept: Cow::Owned(self.kept.into_owned()),
            masked: self.masked,
        }
    }
}

into_owned! {
    PermittedNote { wire; exchange, policy_epoch, units }
    BulkNote { wire; exchange, end }
}
