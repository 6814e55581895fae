//! Where a value could be at all: one fast look over many rows at once.
//!
//! A row mostly holds nothing. What every value of a family must contain (an `@`, digits close
//! together, the beginning of a key) is searched for with vector instructions over the whole batch,
//! and only the fields around such places are read by the detectors.

use std::ops::Range;

use aho_corasick::packed::Searcher;
use aho_corasick::{AhoCorasick, MatchKind};

/// Bytes that one mark stands for.
const BLOCK: usize = 32;
/// Digits that two blocks side by side have at least, where a number begins or ends.
const DIGITS: u8 = 6;

/// What may be found at a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs(u8);

impl Signs {
    pub(super) const AT: Self = Self(1);
    pub(super) const DIGITS: Self = Self(2);
    pub(super) const SECRET: Self = Self(4);
    pub(super) const ADDRESS: Self = Self(8);
    pub(super) const WORD: Self = Self(16);
    /// An operator's pattern without a key word: it may match anywhere.
    pub(super) const OWN: Self = Self(32);
    /// Of a text that no batch was looked at for.
    pub const ALL: Self = Self(63);

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// The signs of a text, block by block. Kept to be used again.
#[derive(Debug, Default)]
pub struct Marks {
    blocks: Vec<u8>,
    everywhere: u8,
    any: bool,
}

impl Marks {
    /// Whether nothing can be found in the whole text.
    pub fn is_empty(&self) -> bool {
        !self.any
    }

    /// What may be found in a part of the text.
    pub fn within(&self, range: Range<usize>) -> Signs {
        let first = range.start / BLOCK;
        let last = range.end.saturating_sub(1) / BLOCK;
        let blocks = self.blocks.get(first..=last.max(first)).unwrap_or_default();
        Signs(blocks.iter().fold(self.everywhere, |all, b| all | b))
    }

    fn set(&mut self, at: usize, sign: Signs) {
        if let Some(block) = self.blocks.get_mut(at / BLOCK) {
            *block |= sign.0;
            self.any = true;
        }
    }
}

/// What to look for, by what is on.
#[derive(Debug)]
pub(super) struct Gate {
    pub at: bool,
    pub digits: bool,
    pub address: bool,
    pub own: bool,
    pub secrets: Option<Needles>,
    pub words: WordGate,
}

/// An operator's words, without regard to case.
#[derive(Debug)]
pub(super) enum WordGate {
    /// There are none.
    Shut,
    Words(AhoCorasick),
    /// Any text may hold one.
    Open,
}

#[derive(Debug)]
pub(super) enum Needles {
    /// With vector instructions, where the processor has them.
    Packed(Box<Searcher>),
    Plain(AhoCorasick),
}

impl Needles {
    pub fn secrets() -> Option<Self> {
        if let Some(searcher) = Searcher::new(NEEDLES) {
            return Some(Self::Packed(Box::new(searcher)));
        }
        let plain = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostFirst)
            .build(NEEDLES);
        plain.ok().map(Self::Plain)
    }

    fn each(&self, text: &[u8], mut found: impl FnMut(usize)) {
        match self {
            Self::Packed(searcher) => searcher.find_iter(text).for_each(|m| found(m.start())),
            Self::Plain(plain) => plain.find_iter(text).for_each(|m| found(m.start())),
        }
    }
}

/// One of these is in everything that `secrets.rs` matches.
const NEEDLES: [&str; 61] = [
    "assw",
    "ASSW",
    "assp",
    "ASSP",
    "assc",
    "ASSC",
    "pwd",
    "PWD",
    "Pwd",
    "ecret",
    "ECRET",
    "oken",
    "OKEN",
    "key",
    "KEY",
    "Key",
    "redential",
    "REDENTIAL",
    "earer",
    "EARER",
    "thoriza",
    "THORIZA",
    "dentified",
    "DENTIFIED",
    "://",
    "--BEGIN",
    "eyJ",
    "AKIA",
    "ASIA",
    "AIza",
    "ya29",
    "GOCSPX",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "hub_pat",
    "glpat",
    "gldt-",
    "glrt-",
    "glptt",
    "xox",
    "xapp-",
    "slack.com",
    "k_live_",
    "k_test_",
    "whsec",
    "SG.",
    "sk-",
    "hf_",
    "npm_",
    "pypi-A",
    "dckr_",
    "dop_v1",
    "hvs.",
    "hvb.",
    "dapi",
    "shp",
    "sq0",
    "glsa_",
];

/// More beginnings than one searcher takes.
const MORE: [&str; 2] = ["ATATT", "AGE-SECRET"];

impl Gate {
    /// Marks where something may be found; a field in which it then is has a mark.
    pub fn look(&self, text: &[u8], marks: &mut Marks) {
        marks.blocks.clear();
        marks.blocks.resize(text.len().div_ceil(BLOCK), 0);
        marks.everywhere = match (self.own, &self.words) {
            (true, WordGate::Open) => Signs::OWN.0 | Signs::WORD.0,
            (true, _) => Signs::OWN.0,
            (false, WordGate::Open) => Signs::WORD.0,
            (false, _) => 0,
        };
        marks.any = marks.everywhere != 0;
        if self.digits {
            mark_digits(text, marks);
        }
        if self.at {
            for at in memchr::memchr_iter(b'@', text) {
                marks.set(at, Signs::AT);
            }
        }
        if self.address {
            for at in memchr::memchr2_iter(b'.', b':', text) {
                marks.set(at, Signs::ADDRESS);
            }
        }
        if let Some(needles) = &self.secrets {
            needles.each(text, |at| marks.set(at, Signs::SECRET));
            for more in MORE {
                for at in memchr::memmem::find_iter(text, more) {
                    marks.set(at, Signs::SECRET);
                }
            }
        }
        if let WordGate::Words(words) = &self.words {
            for found in words.find_iter(text) {
                marks.set(found.start(), Signs::WORD);
            }
        }
    }
}

/// The loop over a block has no branch, so that the compiler makes vector instructions of it.
fn mark_digits(text: &[u8], marks: &mut Marks) {
    let mut before = 0;
    let mut last: Option<&mut u8> = None;
    let mut any = false;
    for (block, mark) in text.chunks(BLOCK).zip(&mut marks.blocks) {
        let count: u8 = block
            .iter()
            .map(|b| u8::from(b.wrapping_sub(b'0') < 10))
            .sum();
        if count + before >= DIGITS {
            *mark |= Signs::DIGITS.0;
            if let Some(last) = last {
                *last |= Signs::DIGITS.0;
            }
            any = true;
        }
        before = count;
        last = Some(mark);
    }
    marks.any |= any;
}
