//! The bytes of a recording: frames in a hash chain. Pure, bounded, for writer, reader and fuzzers.
//!
//! ```text
//! file   = magic chain-id frame*
//! frame  = length:u32 kind:u8 at:u64 since:u64 payload hash:[u8; 32]      (integers big-endian)
//! hash   = SHA-256(hash of the frame before, or of magic and chain-id | length kind at since payload)
//! ```
//!
//! `length` counts the payload alone; `at` is microseconds since the Unix epoch, `since` microseconds
//! of a clock that is never set, since the file was begun. The chain-id is the session's id, so that
//! a frame moved to another file breaks the chain there. `docs/RECORDING.md` describes the payloads.

use ring::digest::{self, SHA256};

/// Names the format and its version.
pub const MAGIC: &[u8; 8] = b"hoopRec2";
/// Magic and chain-id.
pub const PREAMBLE: usize = 8 + 16;
/// Bytes of a frame before its payload.
pub const HEAD: usize = 4 + 1 + 8 + 8;
pub const HASH: usize = 32;
/// Largest payload that is written or believed.
pub const MAX_PAYLOAD: usize = 16 << 20;

/// The running hash of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link(pub [u8; HASH]);

impl Link {
    /// The link before the first frame.
    pub fn first(chain: &[u8; 16]) -> Self {
        let mut context = digest::Context::new(&SHA256);
        context.update(MAGIC);
        context.update(chain);
        Self::of(context)
    }

    /// The link after a frame, given its head and the pieces of its payload.
    pub fn after(&self, head: &[u8], payload: &[&[u8]]) -> Self {
        let mut context = digest::Context::new(&SHA256);
        context.update(&self.0);
        context.update(head);
        for piece in payload {
            context.update(piece);
        }
        Self::of(context)
    }

    fn of(context: digest::Context) -> Self {
        let mut link = [0; HASH];
        link.copy_from_slice(context.finish().as_ref());
        Self(link)
    }
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Header = 1,
    Permitted = 2,
    Refused = 3,
    Replies = 4,
    Bulk = 5,
    Cancel = 6,
    End = 7,
    /// An Ed25519 signature over the link before it; the last frame of a file.
    Seal = 8,
    /// An entry of a ledger.
    Entry = 9,
    /// People are being asked about a request.
    Asked = 10,
    /// What they answered, or what else ended the question.
    Answered = 11,
    /// The identity's token was renewed.
    Identity = 12,
    /// What went through an open file.
    Transfer = 13,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        use Kind::*;
        [
            Header, Permitted, Refused, Replies, Bulk, Cancel, End, Seal, Entry, Asked, Answered,
            Identity, Transfer,
        ]
        .into_iter()
        .find(|k| *k as u8 == byte)
    }
}

/// When a frame was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Microseconds since the Unix epoch.
    pub at: u64,
    /// Microseconds since the file was begun, by a clock that is never set.
    pub since: u64,
}

/// What stands before a payload of this length; `None` where it is longer than [`MAX_PAYLOAD`].
pub fn head(kind: Kind, times: Times, length: usize) -> Option<[u8; HEAD]> {
    let length = u32::try_from(length)
        .ok()
        .filter(|_| length <= MAX_PAYLOAD)?;
    let mut head = [0; HEAD];
    let (numbers, clocks) = head.split_at_mut(5);
    numbers
        .iter_mut()
        .zip(length.to_be_bytes().into_iter().chain([kind as u8]))
        .for_each(|(slot, byte)| *slot = byte);
    let (at, since) = clocks.split_at_mut(8);
    at.copy_from_slice(&times.at.to_be_bytes());
    since.copy_from_slice(&times.since.to_be_bytes());
    Some(head)
}

/// A frame as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'b> {
    pub kind: Kind,
    pub times: Times,
    pub payload: &'b [u8],
}

/// Why a file cannot be believed from some byte on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("not a recording, or of another version")]
    Preamble,
    #[error("a frame of an unknown kind")]
    Kind,
    #[error("a frame claims more than a frame may hold")]
    Length,
    #[error(
        "the hash does not follow from what stands before it: something was changed, removed or inserted"
    )]
    Chain,
}

/// Walks a chain frame by frame.
#[derive(Debug)]
pub struct Walk {
    link: Link,
}

/// What [`Walk::step`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'b> {
    /// A frame, and how many bytes it took.
    Frame(Frame<'b>, usize),
    /// The bytes end within a frame: more may come, or a writer was killed.
    Short,
}

impl Walk {
    /// Reads the preamble; `None` if there are too few bytes.
    pub fn begin(bytes: &[u8]) -> Result<Option<(Self, [u8; 16])>, Broken> {
        let Some(preamble) = bytes.get(..PREAMBLE) else {
            return Ok(None);
        };
        let (magic, chain) = preamble.split_at(MAGIC.len());
        let chain: [u8; 16] = chain.try_into().map_err(|_| Broken::Preamble)?;
        if magic != MAGIC {
            return Err(Broken::Preamble);
        }
        Ok(Some((
            Self {
                link: Link::first(&chain),
            },
            chain,
        )))
    }

    /// Takes the next frame from the front of `bytes`.
    pub fn step<'b>(&mut self, bytes: &'b [u8]) -> Result<Step<'b>, Broken> {
        let Some((length, _)) = bytes.split_first_chunk::<4>() else {
            return Ok(Step::Short);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MAX_PAYLOAD {
            return Err(Broken::Length);
        }
        let body = HEAD + length;
        let (Some(hashed), Some(hash)) = (bytes.get(..body), bytes.get(body..body + HASH)) else {
            return Ok(Step::Short);
        };
        let next = self.link.after(hashed, &[]);
        if next.0 != hash {
            return Err(Broken::Chain);
        }
        let kind = hashed
            .get(4)
            .copied()
            .and_then(Kind::of)
            .ok_or(Broken::Kind)?;
        let clock = |from| {
            let bytes = hashed.get(from..from + 8).and_then(|b| b.try_into().ok());
            bytes.map_or(0, u64::from_be_bytes)
        };
        let times = Times {
            at: clock(5),
            since: clock(13),
        };
        let payload = hashed.get(HEAD..).unwrap_or_default();
        self.link = next;
        Ok(Step::Frame(
            Frame {
                kind,
                times,
                payload,
            },
            body + HASH,
        ))
    }

    /// The link after the last frame that was taken.
    pub fn link(&self) -> Link {
        self.link
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(out: &mut Vec<u8>, link: &mut Link, at: u64, payload: &[u8]) {
        let times = Times { at, since: at / 2 };
        let head = head(Kind::Entry, times, payload.len()).unwrap();
        *link = link.after(&head, &[payload]);
        out.extend_from_slice(&[&head[..], payload, &link.0].concat());
    }

    fn file(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&[7; 16]);
        let mut link = Link::first(&[7; 16]);
        for (i, payload) in payloads.iter().enumerate() {
            put(&mut bytes, &mut link, i as u64, payload);
        }
        bytes
    }

    fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, Result<usize, Broken>) {
        let mut found = Vec::new();
        let walk = match Walk::begin(bytes) {
            Ok(Some((walk, _))) => walk,
            Ok(None) => return (found, Ok(0)),
            Err(broken) => return (found, Err(broken)),
        };
        let (mut walk, mut at) = (walk, PREAMBLE);
        loop {
            match walk.step(&bytes[at..]) {
                Ok(Step::Frame(frame, length)) => {
                    found.push(frame.payload.to_vec());
                    at += length;
                }
                Ok(Step::Short) => return (found, Ok(bytes.len() - at)),
                Err(broken) => return (found, Err(broken)),
            }
        }
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(payloads in payloads()) {
            prop_assert_eq!(read(&file(&payloads)), (payloads, Ok(0)));
        }

        #[test]
        fn any_truncation_keeps_the_whole_frames(payloads in payloads(), cut in 0usize..400) {
            let bytes = file(&payloads);
            let cut = cut.min(bytes.len());
            let (found, rest) = read(&bytes[..bytes.len() - cut]);
            prop_assert!(rest.is_ok());
            prop_assert!(payloads.starts_with(&found));
        }

        #[test]
        fn any_flipped_bit_is_noticed(payloads in payloads(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = file(&payloads);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let (found, rest) = read(&bytes);
            // A length that grew may reach past the end: then the file looks cut off, never whole.
            prop_assert!(rest != Ok(0), "{:?}", found);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }

    #[test]
    fn a_frame_from_another_chain_is_noticed() {
        let ours = file(&[b"a".to_vec()]);
        let mut theirs = file(&[b"a".to_vec()]);
        theirs[8..PREAMBLE].fill(9);
        let mut link = Link::first(&[9; 16]);
        let mut frame = Vec::new();
        put(&mut frame, &mut link, 0, b"a");
        assert_eq!(read(&theirs).1, Err(Broken::Chain));
        assert_eq!(read(&[&theirs[..PREAMBLE], &frame].concat()).1, Ok(0));
        assert_eq!(read(&[&ours[..], &frame].concat()).1, Err(Broken::Chain));
    }
}
