//! What frames hold, in postcard's encoding. The recorder writes these and `replay` reads them; a
//! change of any of them is a change of the format's version.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::attribute::Process;
use crate::config::{Kind, Mode};

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
    /// The network namespace that the server is dialled from, by its inode; `None`: hoop's own. The
    /// last field: headers of before end without it.
    pub netns: Option<u64>,
}

impl Header {
    /// Reads one, of a build from before `netns` too.
    pub fn of(payload: &[u8]) -> Option<Self> {
        let whole = postcard::from_bytes(payload).ok();
        whole.or_else(|| {
            // What is missing then is an `Option`, and a zero is none.
            let longer = [payload, &[0]].concat();
            let (header, rest) = postcard::take_from_bytes(&longer).ok()?;
            rest.is_empty().then_some(header)
        })
    }
}

/// Who it was, or why that could not be said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdentityNote {
    Verified {
        kind: Kind,
        /// When the issuer last confirmed the token; `None` where it is not asked.
        confirmed: Option<SystemTime>,
        /// Why it passed by grace: the issuer could not be asked just then.
        grace: Option<String>,
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

/// The identity goes on under another token: requests of a later epoch were decided for this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewedNote {
    pub identity_epoch: u64,
    pub groups: Vec<String>,
    pub scopes: Vec<String>,
    pub expires: SystemTime,
}

/// A permitted request, before it is forwarded. One of no bytes is the connection itself, which passes
/// though enforce mode would have refused it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermittedNote<'b> {
    pub exchange: u64,
    pub policy_epoch: u64,
    pub identity_epoch: u64,
    pub units: Vec<UnitNote>,
    #[serde(borrow)]
    pub wire: Cut<'b>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitNote {
    /// Ids of the policies that permitted it; none for a unit that needs no permit.
    pub rules: Vec<String>,
    /// What was found in its text, where it has one.
    pub found: Option<FoundNote>,
    /// In observe mode: what enforce mode would have answered.
    pub would_refuse: Option<RefusalNote>,
}

/// What the decision was based on, in short; `hoop policy test` tells the rest from the text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundNote {
    /// [`crate::decide::Facts::fingerprint`].
    pub fingerprint: String,
    /// What the statements do, such as `SELECT`.
    pub verbs: Vec<String>,
    /// Rows may have come from what the text does not name.
    pub opaque: bool,
}

/// Bytes of which at most a bounded part is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut<'b> {
    /// How many there were.
    pub length: u64,
    /// SHA-256 of all of them, where not all are kept.
    pub digest: Option<[u8; 32]>,
    #[serde(borrow)]
    pub kept: Cow<'b, [u8]>,
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

/// A question that people are asked, before the client is told so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedNote {
    pub exchange: u64,
    /// Empty: an operator has the session stand still, until then.
    pub question: String,
    /// Who wants to do what, and by which rule that needs asking.
    pub message: String,
    pub statements: Vec<String>,
    pub rules: Vec<String>,
    pub until: SystemTime,
    /// They were being asked about the same already.
    pub joined: bool,
}

/// How a question ended for this session, before that takes effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnsweredNote {
    pub exchange: u64,
    pub question: Option<String>,
    /// Stable: `approved`, `refused`, `expired`, `cancelled`, `unavailable`, `changed`,
    /// `left`; of a session that stood still `thawed`, `expired`, `left`.
    pub outcome: String,
    /// Who approved or refused, with the reasons that they gave.
    pub by: Vec<(String, String)>,
    /// Of an approval: what it covers.
    pub scope: Option<String>,
    pub break_glass: bool,
    /// Milliseconds that the client was held.
    pub held: u64,
}

impl AnsweredNote {
    /// The outcome that lets the request pass.
    pub const APPROVED: &str = "approved";
}

/// Replies as the agent saw them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepliesNote<'b> {
    /// Values that the masks replaced.
    pub masked: u64,
    pub spans: Vec<SpanNote>,
    /// What was kept of each span, back to back.
    #[serde(borrow)]
    pub kept: Cow<'b, [u8]>,
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

/// What went through a file that a request had opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferNote {
    pub exchange: u64,
    pub path: String,
    pub read: FlowNote,
    pub written: FlowNote,
}

/// One direction of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowNote {
    pub bytes: u64,
    /// SHA-256, where it went through whole and in order.
    pub digest: Option<[u8; 32]>,
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

/// Stands behind a permitted request of which detectors masked anything, and behind a refusal or a
/// question of which they masked more than constants of SQL: what was decided cannot be read back from it.
/// Older readers pass over it.
pub const REDACTED: [u8; 1] = [1];

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

impl PermittedNote<'_> {
    /// No request, but the connection itself.
    pub fn is_connection(&self) -> bool {
        self.wire.length == 0
    }
}

impl Cut<'_> {
    /// The same, free of the buffer it was read from.
    pub fn into_owned(self) -> Cut<'static> {
        Cut {
            length: self.length,
            digest: self.digest,
            kept: Cow::Owned(self.kept.into_owned()),
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
    PermittedNote { wire; exchange, policy_epoch, identity_epoch, units }
    BulkNote { wire; exchange, end }
}
