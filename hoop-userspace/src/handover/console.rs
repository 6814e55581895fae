//! Between the keeper and the console's process, which shows people what the keeper says and
//! carries back what they answer.
//!
//! The console has no power of its own: what a person may see or do is asked for with the token of
//! that person's session, and the keeper looks the session up itself.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::ask::Verdict;

/// What the keeper says.
#[derive(Serialize, Deserialize)]
pub enum ToConsole {
    /// [`crate::config::Bundle::for_console`] in its wire form; at first and at every reload.
    Configure { bundle: Vec<u8> },
    /// A browser's connection; its socket is beside the message.
    Connection,
    /// The answer to [`FromConsole`]. What was opened is beside it.
    Answer {
        number: u64,
        /// JSON.
        answer: Result<String, Denied>,
    },
    /// Something about questions changed.
    Changed,
}

/// What the console says: something that it wants, under a number that the answer carries.
#[derive(Serialize, Deserialize)]
pub struct FromConsole {
    pub number: u64,
    /// The token of a person's session, where the wish is a person's.
    pub session: Option<Zeroizing<String>>,
    /// Whether a page asks by itself, which is no use of the session.
    pub background: bool,
    pub wish: Wish,
}

/// Why a wish is not granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Denied {
    /// Nobody is signed in by this token, or no more.
    SignIn,
    /// The person's roles do not suffice; which would.
    Role(String),
    /// It is not there.
    Absent(String),
    /// It makes no sense, or does not count.
    Bad(String),
    /// It would be granted another time.
    Failed(String),
}

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::SignIn => f.write_str("nobody is signed in"),
            Self::Role(needed) => write!(f, "this needs the role {needed}"),
            Self::Absent(why) | Self::Bad(why) | Self::Failed(why) => f.write_str(why),
        }
    }
}

/// What can be wished for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    /// Exchanges the code that `hoop console login` printed for a session.
    Redeem {
        code: String,
    },
    /// Somebody whom the issuer vouches for. The console alone has seen the ID token.
    SignIn {
        /// As the configured claim names the person.
        login: String,
        groups: Vec<String>,
    },
    SignOut,
    /// Who is signed in.
    Whoami,
    Status,
    /// A page of questions, the newest; `from` counts what is left out, from the newest on.
    Questions {
        all: bool,
        from: usize,
    },
    /// What was decided about the like of one.
    Similar {
        question: String,
    },
    Question {
        question: String,
    },
    Vote {
        question: String,
        verdict: Verdict,
        reason: String,
        break_glass: bool,
    },
    Revoke {
        question: String,
        reason: String,
    },
    Kill {
        session: String,
        reason: String,
    },
    Freeze {
        session: String,
        reason: String,
    },
    Thaw {
        session: String,
        reason: String,
    },
    Suspend {
        agent: String,
        reason: String,
    },
    Resume {
        agent: String,
        reason: String,
    },
    /// What Slack sent when somebody pressed a button, exactly.
    Slack {
        timestamp: String,
        signature: String,
        body: Vec<u8>,
    },
    /// Names of recordings that began at or after the one named.
    Recordings {
        from: Option<String>,
    },
    /// One recording, opened for reading.
    Recording {
        session: String,
    },
    /// The newest entries of the keeper's ledgers: what people did, or with `all` everything.
    Audit {
        all: bool,
    },
    /// A connection to the worker, which takes what issuers report.
    Worker,
}

/// Who is signed in, as the console shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedIn {
    pub name: String,
    /// Names of [`Role`].
    pub roles: Vec<Role>,
    /// Groups of approvers.
    pub groups: Vec<String>,
    /// Seconds until the session ends in any case.
    pub left: u64,
    /// What every form of this session carries: random, and not to be had from its cookie.
    pub csrf: String,
}

/// What a person may do at the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Viewer,
    Approver,
    Auditor,
    Admin,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Approver, Self::Auditor, Self::Admin];

    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Approver => "approver",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
        }
    }
}

/// What an action needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Needs {
    /// Nothing: whoever reaches the console may.
    Nothing,
    /// Any role.
    See,
    Vote,
    Audit,
    Administer,
}

impl Needs {
    /// The roles of which one suffices.
    pub fn roles(self) -> &'static [Role] {
        match self {
            Self::Nothing => &[],
            Self::See => &Role::ALL,
            Self::Vote => &[Role::Approver, Role::Admin],
            Self::Audit => &[Role::Auditor, Role::Admin],
            Self::Administer => &[Role::Admin],
        }
    }

    pub fn met_by(self, roles: &[Role]) -> bool {
        self == Self::Nothing || self.roles().iter().any(|role| roles.contains(role))
    }

    /// The roles, in words.
    pub fn words(self) -> String {
        let names: Vec<&str> = self.roles().iter().map(|role| role.name()).collect();
        names.join(" or ")
    }
}

impl Wish {
    /// What the person who wishes this must be. Wishes of the console's own need nobody: that is
    /// what a console that was taken over has.
    pub fn needs(&self) -> Option<Needs> {
        match self {
            Self::Redeem { .. }
            | Self::SignIn { .. }
            | Self::Slack { .. }
            | Self::Recordings { .. }
            | Self::Recording { .. }
            | Self::Worker => None,
            Self::SignOut
            | Self::Whoami
            | Self::Status
            | Self::Questions { .. }
            | Self::Question { .. }
            | Self::Similar { .. } => Some(Needs::See),
            Self::Vote { .. } | Self::Revoke { .. } => Some(Needs::Vote),
            Self::Audit { .. } => Some(Needs::Audit),
            Self::Kill { .. }
            | Self::Freeze { .. }
            | Self::Thaw { .. }
            | Self::Suspend { .. }
            | Self::Resume { .. } => Some(Needs::Administer),
        }
    }
}
