//! The same payloads as in `event.rs`, written without copying what they are made of.
//!
//! Payloads end with the bytes that they carry, so that these can be written from where they lie;
//! what stands before them is encoded into the frame's buffer.

use ring::digest::{SHA256, digest};
use serde::Serialize;
use serde::ser::Serializer;

use super::event::{RefusalNote, SpanNote};
use crate::decide::{Facts, Permitted, PermittedUnit, Refusal, Verb};
use crate::mask::Detection;

#[derive(Serialize)]
pub(super) struct PermittedHead<'p> {
    exchange: u64,
    policy_epoch: u64,
    identity_epoch: u64,
    #[serde(serialize_with = "units")]
    units: (&'p [PermittedUnit], Option<&'p Detection>),
    wire: CutHead,
}

impl<'p> PermittedHead<'p> {
    /// `wire` is the request as it is kept.
    pub(super) fn new(
        permitted: &'p Permitted,
        wire: &[u8],
        most: usize,
        detection: Option<&'p Detection>,
    ) -> Self {
        Self {
            exchange: permitted.exchange().0,
            policy_epoch: permitted.epochs().policy,
            identity_epoch: permitted.epochs().identity,
            units: (permitted.units(), detection),
            wire: CutHead::new(wire, most),
        }
    }
}

/// Everything of a cut but the bytes, which follow.
#[derive(Serialize)]
pub(super) struct CutHead {
    length: u64,
    digest: Option<[u8; 32]>,
    kept: u64,
}

impl CutHead {
    pub(super) fn new(bytes: &[u8], most: usize) -> Self {
        let whole = || {
            let digest = digest(&SHA256, bytes);
            digest.as_ref().first_chunk().copied()
        };
        Self {
            length: bytes.len() as u64,
            digest: if bytes.len() > most { whole() } else { None },
            kept: bytes.len().min(most) as u64,
        }
    }
}

/// What is kept of bytes.
pub(super) fn cut(bytes: &[u8], most: usize) -> &[u8] {
    bytes.get(..most).unwrap_or(bytes)
}

#[derive(Serialize)]
pub(super) struct BulkHead {
    pub exchange: u64,
    pub end: bool,
    pub wire: CutHead,
}

#[derive(Serialize)]
pub(super) struct RepliesHead<'s> {
    pub masked: u64,
    pub spans: &'s [SpanNote],
    pub kept: u64,
}

#[derive(Serialize)]
struct UnitHead<'u> {
    #[serde(serialize_with = "rules")]
    rules: &'u PermittedUnit,
    found: Option<FoundHead<'u>>,
    would_refuse: Option<RefusalNote>,
}

#[derive(Serialize)]
struct FoundHead<'u> {
    fingerprint: &'u str,
    verbs: &'u [Verb],
    opaque: bool,
}

impl<'u> FoundHead<'u> {
    fn of(facts: &'u Facts) -> Self {
        Self {
            fingerprint: &facts.fingerprint,
            verbs: &facts.verbs,
            opaque: facts.opaque,
        }
    }
}

fn units<S: Serializer>(
    (units, detection): &(&[PermittedUnit], Option<&Detection>),
    s: S,
) -> Result<S::Ok, S::Error> {
    let refusal = |refused: &Refusal| refusal(refused, *detection);
    s.collect_seq(units.iter().map(|unit| UnitHead {
        rules: unit,
        found: unit.statement.as_deref().map(FoundHead::of),
        would_refuse: unit.would_refuse.as_deref().map(refusal),
    }))
}

fn rules<S: Serializer>(unit: &&PermittedUnit, s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(unit.rules.iter())
}

/// Texts of refusals are for people and short; a statement is kept up to this many bytes.
pub const MAX_ASKED: usize = 1 << 20;

/// The text without what the detectors find.
pub(super) fn kept(text: String, detection: Option<&Detection>) -> String {
    match detection.and_then(|d| d.masked_text(text.as_bytes())) {
        Some(masked) => String::from_utf8_lossy(&masked).into_owned(),
        None => text,
    }
}

pub(super) fn refusal(refusal: &Refusal, detection: Option<&Detection>) -> RefusalNote {
    let kept = |text: String| kept(text, detection);
    RefusalNote {
        exchange: refusal.exchange.0,
        unit: refusal.unit,
        message: kept(refusal.message.clone()),
        line: kept(refusal.json_line()),
        rule: refusal.rule.as_ref().map(|r| r.0.to_string()),
        hint: kept(refusal.hint.clone()),
        asked: refusal
            .asked
            .as_ref()
            .map(|t| kept(text(&t.text, MAX_ASKED))),
    }
}

fn text(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}
