//! What `identify` counts, for `hoop status` and `hoop metrics`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

use super::ask::Word;

/// Since the worker's start.
#[derive(Debug, Default)]
pub struct Metrics {
    verified: AtomicU64,
    refused: AtomicU64,
    obtained: AtomicU64,
    not_obtained: AtomicU64,
    active: AtomicU64,
    inactive: AtomicU64,
    unanswered: AtomicU64,
    graced: AtomicU64,
    suspended: AtomicU64,
    ended: AtomicU64,
}

/// The same at one moment. The names are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Tokens that were proved, for connections and for live sessions.
    pub verified: u64,
    pub refused: u64,
    /// Tokens that hoop obtained at a token endpoint, renewals included.
    pub obtained: u64,
    pub not_obtained: u64,
    /// Questions to issuers about tokens, by their answer.
    pub active: u64,
    pub inactive: u64,
    pub unanswered: u64,
    /// Times that the grace for an unreachable issuer was used.
    pub graced: u64,
    /// Agents that were suspended since their token was found revoked.
    pub suspended: u64,
    /// Live sessions that ended with their identity.
    pub ended: u64,
}

impl Metrics {
    pub fn counts(&self) -> Counts {
        Counts {
            verified: self.verified.load(Relaxed),
            refused: self.refused.load(Relaxed),
            obtained: self.obtained.load(Relaxed),
            not_obtained: self.not_obtained.load(Relaxed),
            active: self.active.load(Relaxed),
            inactive: self.inactive.load(Relaxed),
            unanswered: self.unanswered.load(Relaxed),
            graced: self.graced.load(Relaxed),
            suspended: self.suspended.load(Relaxed),
            ended: self.ended.load(Relaxed),
        }
    }

    /// An agent was suspended.
    pub fn suspended(&self) {
        self.suspended.fetch_add(1, Relaxed);
    }

    /// A live session lost its identity.
    pub fn ended(&self) {
        self.ended.fetch_add(1, Relaxed);
    }

    pub(super) fn verified(&self, fine: bool) {
        let counter = if fine { &self.verified } else { &self.refused };
        counter.fetch_add(1, Relaxed);
    }

    pub(super) fn obtained(&self, fine: bool) {
        let counter = if fine {
            &self.obtained
        } else {
            &self.not_obtained
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(super) fn introspected(&self, word: &Result<Word, String>) {
        let counter = match word {
            Ok(Word::Silent) => return,
            Ok(Word::Active) => &self.active,
            Ok(Word::Inactive) => &self.inactive,
            Ok(Word::Disowned) | Err(_) => &self.unanswered,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(super) fn graced(&self) {
        self.graced.fetch_add(1, Relaxed);
    }
}
