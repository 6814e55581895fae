//! A question as the desk keeps it, and the entries of its log, from which it is built again.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::asking::{Asking, Ticket};
use crate::ids::QuestionId;
use crate::mask::{Change, ChangeKind};

/// Bytes that a worker may say of one change.
const MAX_NOTE: usize = 16 << 10;
const MAX_DIFF: usize = 32 << 10;

/// One question and all that became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    pub id: QuestionId,
    #[serde(with = "time::serde::rfc3339")]
    pub asked: OffsetDateTime,
    /// Until when it may be answered.
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
    pub asking: Asking,
    /// Who may not approve it: whose agent it is, and whose process.
    pub owners: Vec<String>,
    pub votes: Vec<Vote>,
    pub standing: Standing,
    /// Rows that the server's planner expects the statement to return or change, if it was asked.
    #[serde(default)]
    pub estimate: Option<u64>,
    /// What it would change, if the API server was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<HeldChange>,
    /// The clients that wait. They do not outlive a process, so they are not written.
    #[serde(skip)]
    pub(super) waiting: Vec<Ticket>,
}

/// What a request that is held would change, as people are shown it. The names are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldChange {
    pub kind: ChangeKind,
    /// Sentences for people.
    pub note: String,
    /// Lines that begin with a space, `-`, `+` or `@@`; empty where nothing is compared.
    #[serde(default)]
    pub diff: String,
}

impl From<Change> for HeldChange {
    fn from(change: Change) -> Self {
        Self {
            kind: change.kind(),
            note: change.note().to_owned(),
            diff: change.diff().to_owned(),
        }
    }
}

impl HeldChange {
    /// Whether it is as short as hoop makes them.
    pub(super) fn is_bounded(&self) -> bool {
        self.note.len() <= MAX_NOTE && self.diff.len() <= MAX_DIFF
    }
}

/// pending → approved | refused | expired | cancelled; approved → used | revoked | expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Pending,
    /// It may be used: by the request that was asked about, or while its window is open.
    Approved,
    Refused,
    /// Nobody answered in time, or nobody used the answer in time.
    Expired,
    Cancelled,
    /// A statement's approval has released it.
    Used,
    Revoked,
}

impl State {
    /// Whether anything can still come of it.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Pending | Self::Approved)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Used => "used",
            Self::Revoked => "revoked",
        })
    }
}

/// Where a question stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    pub state: State,
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Of an approval: until when it may be used.
    #[serde(with = "time::serde::rfc3339::option")]
    pub until: Option<OffsetDateTime>,
    /// Whose doing it is, where it is one person's.
    pub by: Option<String>,
    pub reason: String,
    /// One person approved alone, in an emergency.
    pub break_glass: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    pub who: String,
    /// The groups of approvers that the person was in then.
    pub groups: Vec<String>,
    pub verdict: Verdict,
    pub reason: String,
    /// How the vote came: `control` is the control socket.
    pub via: String,
    pub break_glass: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Approve,
    Refuse,
}

/// One entry of the log. The names are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Entry {
    /// A question of an earlier log that goes on.
    ApprovalCarried(Box<Case>),
    /// All that goes on was carried; what an earlier log says counts no more.
    ApprovalsReady {
        carried: usize,
        /// The head of the earlier log's chain, in hex.
        previous: Option<String>,
    },
    ApprovalAsked(Box<Case>),
    ApprovalVoted {
        question: QuestionId,
        #[serde(flatten)]
        vote: Vote,
    },
    ApprovalSettled {
        question: QuestionId,
        #[serde(flatten)]
        standing: Standing,
        /// Milliseconds since it was asked.
        after_ms: u64,
    },
    /// What whoever looks at it from then on is shown beside.
    ApprovalEstimated {
        question: QuestionId,
        rows: u64,
    },
    /// The same, of what it would change.
    ApprovalForeseen {
        question: QuestionId,
        change: HeldChange,
    },
    /// A vote that did not count, such as on one's own agent's question.
    ApprovalRejected {
        question: QuestionId,
        who: String,
        why: String,
    },
}

impl Case {
    /// Sorts questions, oldest first.
    pub fn age(&self) -> (OffsetDateTime, QuestionId) {
        (self.asked, self.id)
    }

    /// Whether a client waits for the answer.
    pub fn is_awaited(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn settle(&mut self, standing: Standing) -> Entry {
        self.standing = standing.clone();
        let after = standing.at - self.asked;
        Entry::ApprovalSettled {
            question: self.id,
            standing,
            after_ms: u64::try_from(after.whole_milliseconds()).unwrap_or(0),
        }
    }
}

impl Standing {
    pub(super) fn new(state: State, at: OffsetDateTime) -> Self {
        Self {
            state,
            at,
            until: None,
            by: None,
            reason: String::new(),
            break_glass: false,
        }
    }
}
