//! What a recorded request asked for, read back from the bytes that were kept of it, so that it can be
//! decided again.
//!
//! One file for each protocol, `NAME/again.rs`. What the bytes do not tell for certain is [`Lost`]:
//! a decision about something else than what was asked would be worse than none.

use std::fmt;

use serde::{Serialize, Serializer};

use super::{Asked, SqlAsked, SqlStep, SqlText, kubernetes, postgres, ssh};

/// One unit of a request, as far as its recording tells.
#[derive(Clone, Debug)]
pub enum Again {
    Asked(Asked),
    /// A statement that was only prepared: it counts when it runs.
    Prepared,
    Lost(Lost),
}

/// Why it is not known any more what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lost {
    Cut,
    Name,
    Redacted,
    Elsewhere,
    Announced,
    Words,
    Nothing,
    NoPolicy,
    Masks,
    NoAgent,
    Protocol,
}

impl Lost {
    /// Stable, for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Name => "name",
            Self::Redacted => "redacted",
            Self::Elsewhere => "elsewhere",
            Self::Announced => "announced",
            Self::Words => "words",
            Self::Nothing => "nothing",
            Self::NoPolicy => "no_policy",
            Self::Masks => "masks",
            Self::NoAgent => "no_agent",
            Self::Protocol => "protocol",
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cut => "it was larger than what a recording keeps of a request",
            Self::Name => "it ran a prepared statement or cursor whose text the recording lacks",
            Self::Redacted => "detectors masked so much of it that the rest does not read",
            Self::Elsewhere => {
                "it named a file by what the server alone knows: a path from where it was, or an open file"
            }
            Self::Announced => "scp's older protocol announced the file",
            Self::Words => "the recording tells it in words only",
            Self::Nothing => "it was refused before anything of it was read",
            Self::NoPolicy => "what refused it was no policy",
            Self::Masks => {
                "it would have taken masked values along, by what the session had done before"
            }
            Self::NoAgent => "the session belonged to no agent or to no resource",
            Self::Protocol => "this version does not decide its protocol again",
        })
    }
}

impl Serialize for Lost {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What carries over from request to request of one session.
#[derive(Debug)]
pub enum Recollection {
    Postgres(postgres::Recollection),
    /// Of the host, as the client called it.
    Ssh(String),
    Kubernetes,
    /// Of a protocol that is not decided again.
    Other,
}

impl Recollection {
    /// By the protocol and the place that a recording's header names.
    pub fn new(protocol: &str, place: &str) -> Self {
        match protocol {
            "postgres" => Self::Postgres(postgres::Recollection::default()),
            "ssh" => Self::Ssh(place.to_owned()),
            "kubernetes" => Self::Kubernetes,
            _ => Self::Other,
        }
    }

    /// The units of a request that was permitted, in order; of what was not kept there are none.
    pub fn request(&mut self, kept: &[u8], whole: bool) -> Vec<Again> {
        match self {
            Self::Postgres(names) => names.request(kept, whole),
            Self::Ssh(_) => vec![ssh::again::request(kept, whole)],
            Self::Kubernetes => vec![kubernetes::again::request(kept, whole)],
            Self::Other => vec![Again::Lost(Lost::Protocol)],
        }
    }

    /// What was refused or asked about, of which the recording has the text, and the sentence that was
    /// said of it.
    pub fn text(&self, text: &str, message: &str) -> Again {
        match self {
            Self::Postgres(_) => Again::Asked(Asked::Sql(SqlAsked {
                step: SqlStep::Simple,
                candidates: [SqlText::hashed(text)].into_iter().collect(),
                parameters: std::sync::Arc::default(),
            })),
            Self::Ssh(host) => ssh::again::text(text, message, host),
            Self::Kubernetes => kubernetes::again::text(text),
            Self::Other => Again::Lost(Lost::Protocol),
        }
    }
}
