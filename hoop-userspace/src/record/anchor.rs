//! The heads of the chains in the log, as text that `hoop verify --anchors` finds again.
//!
//! A recording can be cut off, or written anew up to its end, by whoever may write the file and
//! holds the host's key. What a collector elsewhere has received cannot be taken back.

use std::fmt;
use std::str::FromStr;

use super::format::{HASH, Link};
use crate::ids::SessionId;

/// Heads in one line of the log.
const PER_LINE: usize = 32;

/// That a chain had this head after so many frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    pub chain: [u8; 16],
    pub frames: u64,
    pub link: Link,
}

/// Says the heads in the log.
pub(super) fn log(heads: &[Anchor], unlisted: u64) {
    for heads in heads.chunks(PER_LINE) {
        let heads: Vec<String> = heads.iter().map(Anchor::to_string).collect();
        let heads = heads.join(" ");
        tracing::info!(target: "audit", heads, "recordings have come this far");
    }
    if unlisted > 0 {
        tracing::warn!(target: "audit", unlisted, "more recordings were finished than are listed");
    }
}

/// `SESSION:FRAMES:HEAD`, the head in hexadecimal.
impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", SessionId::from(self.chain), self.frames)?;
        self.link.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// The text is no anchor.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not an anchor: expected SESSION:FRAMES:HEAD")]
pub struct NoAnchor;

impl FromStr for Anchor {
    type Err = NoAnchor;

    fn from_str(text: &str) -> Result<Self, NoAnchor> {
        let mut parts = text.split(':');
        let (Some(session), Some(frames), Some(head), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NoAnchor);
        };
        let session: SessionId = session.parse().map_err(|_| NoAnchor)?;
        if head.len() != 2 * HASH || !head.is_ascii() {
            return Err(NoAnchor);
        }
        let mut link = [0; HASH];
        for (slot, at) in link.iter_mut().zip((0..).step_by(2)) {
            let pair = head.get(at..at + 2).ok_or(NoAnchor)?;
            *slot = u8::from_str_radix(pair, 16).map_err(|_| NoAnchor)?;
        }
        Ok(Self {
            chain: *session.as_bytes(),
            frames: frames.parse().map_err(|_| NoAnchor)?,
            link: Link(link),
        })
    }
}

impl Anchor {
    /// All anchors in a text of any form: the log of this program, with whatever a collector has
    /// put around it.
    pub fn find(text: &str) -> impl Iterator<Item = Self> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != ':');
        words.filter_map(|word| word.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_and_back_within_any_log(chain: [u8; 16], frames: u64, link: [u8; 32]) {
            let anchor = Anchor { chain, frames, link: Link(link) };
            let line = format!("{{\"message\":\"recordings have come this far\",\"heads\":\"{anchor} {anchor}\"}}");
            prop_assert_eq!(Anchor::find(&line).collect::<Vec<_>>(), [anchor, anchor]);
        }

        #[test]
        fn no_text_panics(text in ".{0,120}") {
            let _ = Anchor::find(&text).count();
        }
    }
}
