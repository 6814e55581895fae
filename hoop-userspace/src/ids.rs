//! Identifiers that travel through every stage, each a type of its own so that none stands in for another.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Names one recorded session: 48 bits of milliseconds since the epoch, then 80 random bits, so
/// that sorting by name sorts by time. Printed as 26 characters of Crockford's base 32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId([u8; 16]);

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl SessionId {
    /// Builds an id from a time and 10 random bytes; the caller supplies both, so tests can fix them.
    pub fn new(at: SystemTime, random: [u8; 10]) -> Self {
        let millis = at.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis()) as u64;
        let mut bytes = [0; 16];
        let (time, rest) = bytes.split_at_mut(6);
        time.copy_from_slice(&millis.to_be_bytes()[2..]);
        rest.copy_from_slice(&random);
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl From<[u8; 16]> for SessionId {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = u128::from_be_bytes(self.0);
        let text: String = (0..26)
            .rev()
            .map(|i| {
                let digit = (value >> (i * 5)) as usize & 31;
                ALPHABET.get(digit).map_or('0', |c| char::from(*c))
            })
            .collect();
        f.write_str(&text)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

/// The text was not a session id: 26 characters of Crockford's base 32, the first at most `7`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "not a session id: expected 26 characters of 0-9a-hjkmnp-tv-z, as `hoop sessions` prints them"
)]
pub struct BadSessionId;

impl FromStr for SessionId {
    type Err = BadSessionId;

    fn from_str(text: &str) -> Result<Self, BadSessionId> {
        if text.len() != 26 {
            return Err(BadSessionId);
        }
        let mut value: u128 = 0;
        for (i, c) in text.bytes().enumerate() {
            let digit = ALPHABET
                .iter()
                .position(|a| a.eq_ignore_ascii_case(&c))
                .ok_or(BadSessionId)?;
            if i == 0 && digit > 7 {
                return Err(BadSessionId);
            }
            value = value << 5 | digit as u128;
        }
        Ok(Self(value.to_be_bytes()))
    }
}

/// Names one question put to people: 50 random bits, printed as ten characters of the same alphabet,
/// since people read it out and type it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuestionId(u64);

const QUESTION: u32 = 10;

impl QuestionId {
    /// Of `random`, which the caller supplies, the low 50 bits count.
    pub fn new(random: u64) -> Self {
        Self(random & ((1 << (5 * QUESTION)) - 1))
    }
}

impl fmt::Display for QuestionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |i: u32| (self.0 >> (i * 5)) as usize & 31;
        let text: String = (0..QUESTION)
            .rev()
            .map(|i| ALPHABET.get(digit(i)).map_or('0', |c| char::from(*c)))
            .collect();
        f.write_str(&text)
    }
}

impl fmt::Debug for QuestionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QuestionId({self})")
    }
}

/// The text was not a question's id: ten characters of Crockford's base 32.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a question's id: expected 10 characters, as `hoop approvals list` prints them")]
pub struct BadQuestionId;

impl FromStr for QuestionId {
    type Err = BadQuestionId;

    fn from_str(text: &str) -> Result<Self, BadQuestionId> {
        if text.len() != QUESTION as usize {
            return Err(BadQuestionId);
        }
        text.bytes()
            .try_fold(0, |value: u64, c| {
                let digit = ALPHABET.iter().position(|a| a.eq_ignore_ascii_case(&c))?;
                Some(value << 5 | digit as u64)
            })
            .map(Self)
            .ok_or(BadQuestionId)
    }
}

impl Serialize for QuestionId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for QuestionId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One request and all that answers it, numbered from 1 within its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExchangeId(pub u64);

impl fmt::Display for ExchangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counts changes of policy and of identity. What was decided under one pair holds under no other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Epochs {
    pub policy: u64,
    pub identity: u64,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.into())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }
    };
}

name!(
    /// `[[agent]] name` in the configuration.
    AgentName
);
name!(
    /// `[[resource]] name` in the configuration.
    ResourceName
);
name!(
    /// `[issuer.NAME]` in the configuration.
    IssuerName
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_and_back(bytes: [u8; 16]) {
            let id = SessionId::from(bytes);
            prop_assert_eq!(id.to_string().parse::<SessionId>(), Ok(id));
        }

        #[test]
        fn a_question_as_text_and_back(random: u64) {
            let id = QuestionId::new(random);
            prop_assert_eq!(id.to_string().parse::<QuestionId>(), Ok(id));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<SessionId>();
            let _ = text.parse::<QuestionId>();
        }
    }

    #[test]
    fn later_sorts_after() {
        let early = SessionId::new(UNIX_EPOCH + std::time::Duration::from_millis(5), [0xff; 10]);
        let late = SessionId::new(UNIX_EPOCH + std::time::Duration::from_millis(6), [0; 10]);
        assert!(early < late);
        assert!(early.to_string() < late.to_string());
    }
}
