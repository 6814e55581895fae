//! Numbers: runs of digits, perhaps in groups, that a check or a form makes what they are.
//!
//! Written by hand, since every detector here looks at the same digits: they are found once, and a
//! text of ordinary numbers is left after a look at their groups.

use std::ops::Range;

use smallvec::SmallVec;

use super::check;
use super::context::near;
use super::kinds::{Kind, Set};

/// Digits of the shortest number that any detector takes.
const FEWEST: usize = 8;
/// Of the longest.
const MOST: usize = 19;
/// Groups that one number may have.
const GROUPS: usize = 8;

/// Kinds that this file finds.
pub(super) const KINDS: [Kind; 7] = [
    Kind::Card,
    Kind::UsSsn,
    Kind::DeTaxId,
    Kind::NlBsn,
    Kind::BrCpf,
    Kind::InAadhaar,
    Kind::Phone,
];

/// Words that make bare digits a number of the kind. Looked for in front of it, without regard to case.
pub(super) const SSN_WORDS: &[&str] = &["ssn", "social security", "social_security"];
pub(super) const TAX_ID_WORDS: &[&str] = &["steuer", "idnr", "tax id", "tax_id", "tin"];
pub(super) const BSN_WORDS: &[&str] = &["bsn", "burgerservicenummer", "sofi"];
pub(super) const CPF_WORDS: &[&str] = &["cpf"];
pub(super) const AADHAAR_WORDS: &[&str] = &["aadhaar", "aadhar", "uidai"];
pub(super) const PHONE_WORDS: &[&str] = &[
    "phone",
    "tel",
    "telephone",
    "mobile",
    "cell",
    "fax",
    "telefon",
    "whatsapp",
    "movil",
    "celular",
];

/// Finds the numbers of a text, in order.
pub(super) fn scan(text: &[u8], set: Set, mut found: impl FnMut(Kind, Range<usize>)) {
    let mut at = 0;
    while let Some(start) = next_digit(text, at) {
        let run = Run::read(text, start);
        at = run.end.max(start + 1);
        if run.digits >= FEWEST {
            run.examine(set, &mut found);
        }
    }
}

/// What a value that consists of digits alone is: the only question about columns of numbers.
pub(super) fn bare(digits: &[u8], set: Set) -> Option<Kind> {
    (set.has(Kind::Card) && is_card(digits)).then_some(Kind::Card)
}

fn next_digit(text: &[u8], from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    rest.iter().position(u8::is_ascii_digit).map(|i| from + i)
}

fn is_card(digits: &[u8]) -> bool {
    check::card_range(digits) && check::luhn(digits)
}

#[derive(Clone, Copy)]
struct Group {
    start: usize,
    end: usize,
    /// What stands between this group and the one before; `None` before the first.
    before: Option<u8>,
    /// Letters touch it: it is part of a word.
    word: bool,
}

/// Groups of digits with single separators between them.
struct Run<'t> {
    text: &'t [u8],
    groups: SmallVec<[Group; 16]>,
    digits: usize,
    end: usize,
}

/// Groups that are looked at together; what follows is a run of its own.
const RUN: usize = 64;

impl<'t> Run<'t> {
    fn read(text: &'t [u8], start: usize) -> Self {
        let mut run = Self {
            text,
            groups: SmallVec::new(),
            digits: 0,
            end: start,
        };
        let (mut at, mut before) = (start, None);
        loop {
            let end = text
                .get(at..)
                .unwrap_or_default()
                .iter()
                .position(|b| !b.is_ascii_digit())
                .map_or(text.len(), |n| at + n);
            let preceding = at.checked_sub(1).and_then(|i| text.get(i));
            run.groups.push(Group {
                start: at,
                end,
                before,
                word: preceding.is_some_and(is_word) || text.get(end).is_some_and(is_word),
            });
            run.digits += end - at;
            run.end = end;
            match separator(text.get(end..).unwrap_or_default()) {
                Some((kind, length)) if run.groups.len() < RUN => {
                    (at, before) = (end + length, Some(kind));
                }
                _ => return run,
            }
        }
    }

    fn examine(&self, set: Set, found: &mut impl FnMut(Kind, Range<usize>)) {
        let mut from = 0;
        if set.has(Kind::Phone)
            && let Some((kind, range, next)) = self.international()
        {
            found(kind, range);
            from = next;
        }
        while from < self.groups.len() {
            match self.longest(from, set) {
                Some((kind, next)) => {
                    found(kind, self.range(from, next));
                    from = next;
                }
                None => from += 1,
            }
        }
    }

    /// The number with the most groups that begins with group `from`.
    fn longest(&self, from: usize, set: Set) -> Option<(Kind, usize)> {
        let (mut digits, mut best) = (SmallVec::<[u8; 24]>::new(), None);
        let mut lengths = SmallVec::<[usize; GROUPS]>::new();
        let mut separators = SmallVec::<[u8; GROUPS]>::new();
        for (i, group) in self.groups.iter().enumerate().skip(from).take(GROUPS) {
            let length = group.end - group.start;
            if group.word || digits.len() + length > MOST {
                break;
            }
            if i > from {
                separators.extend(group.before);
            }
            digits.extend_from_slice(self.text.get(group.start..group.end).unwrap_or_default());
            lengths.push(length);
            if digits.len() < FEWEST {
                continue;
            }
            let window = Window {
                run: self,
                from,
                next: i + 1,
                digits: &digits,
                lengths: &lengths,
                separators: &separators,
            };
            best = window.kind(set).map(|kind| (kind, i + 1)).or(best);
        }
        best
    }

    fn range(&self, from: usize, next: usize) -> Range<usize> {
        let start = self.groups.get(from).map_or(self.end, |g| g.start);
        let last = next.checked_sub(1).and_then(|i| self.groups.get(i));
        let end = last.map_or(self.end, |g| g.end);
        let opened = start
            .checked_sub(1)
            .filter(|i| self.text.get(*i) == Some(&b'('));
        // A bracket before an area code belongs to the number.
        let closed = || self.text.get(start..end).is_some_and(|t| t.contains(&b')'));
        opened.filter(|_| closed()).unwrap_or(start)..end
    }

    /// E.164: a plus sign, then up to fifteen digits that begin with a country's code.
    fn international(&self) -> Option<(Kind, Range<usize>, usize)> {
        let first = self.groups.first()?;
        let plus = first.start.checked_sub(1)?;
        let before = plus.checked_sub(1).and_then(|i| self.text.get(i));
        if self.text.get(plus) != Some(&b'+')
            || before.is_some_and(is_word)
            || self.text.get(first.start) == Some(&b'0')
        {
            return None;
        }
        let (mut digits, mut next) = (0, 0usize);
        for group in &self.groups {
            let length = group.end - group.start;
            let joined =
                next == 0 || matches!(group.before, Some(b' ' | b'-' | b'.' | b'/' | b'(' | b')'));
            let ends_in_word = self.text.get(group.end).is_some_and(is_word);
            if digits + length > 15 || !joined || ends_in_word {
                break;
            }
            digits += length;
            next += 1;
        }
        let end = self.groups.get(next.checked_sub(1)?)?.end;
        (digits >= FEWEST).then_some((Kind::Phone, plus..end, next))
    }
}

/// Some groups of a run.
struct Window<'w> {
    run: &'w Run<'w>,
    from: usize,
    next: usize,
    digits: &'w [u8],
    lengths: &'w [usize],
    separators: &'w [u8],
}

impl Window<'_> {
    fn kind(&self, set: Set) -> Option<Kind> {
        if set.has(Kind::Card) && self.card() {
            return Some(Kind::Card);
        }
        let alone = self.alone();
        KINDS.into_iter().find(|kind| {
            set.has(*kind)
                && match kind {
                    Kind::UsSsn => alone && self.ssn(),
                    Kind::DeTaxId => alone && self.tax_id(),
                    Kind::NlBsn => alone && self.bsn(),
                    Kind::BrCpf => alone && self.cpf(),
                    Kind::InAadhaar => alone && self.aadhaar(),
                    Kind::Phone => alone && self.phone(),
                    _ => false,
                }
        })
    }

    fn card(&self) -> bool {
        let grouped = matches!(
            self.lengths,
            [4, 4, 4, 4] | [4, 6, 5] | [4, 6, 4] | [4, 4, 4, 4, 3] | [6, 13] | [4, 4, 4, 6]
        );
        let form = match self.lengths {
            [_] => !self.is_fraction(),
            _ => grouped && self.uniform(b" -."),
        };
        form && is_card(self.digits)
    }

    fn ssn(&self) -> bool {
        let form = match self.lengths {
            [3, 2, 4] => self.uniform(b"-") || self.uniform(b" .") && self.named(SSN_WORDS),
            [9] => self.named(SSN_WORDS),
            _ => false,
        };
        form && check::us_ssn(self.digits)
    }

    fn tax_id(&self) -> bool {
        let form = match self.lengths {
            [2, 3, 3, 3] => self.uniform(b" /"),
            // One number in some hundred passes the check and looks like this.
            [11] => self.named(TAX_ID_WORDS),
            _ => false,
        };
        form && check::de_tax_id(self.digits)
    }

    /// One number in eleven passes the test, so a word must say what it is.
    fn bsn(&self) -> bool {
        let form = matches!(self.lengths, [9] | [3, 3, 3] | [4, 2, 3]) && self.uniform(b" .-");
        let padded = self.lengths == [8] && check::nl_bsn(&[b"0", self.digits].concat());
        (form && check::nl_bsn(self.digits) || padded) && self.named(BSN_WORDS)
    }

    fn cpf(&self) -> bool {
        let form = match (self.lengths, self.separators) {
            ([3, 3, 3, 2], [b'.', b'.', b'-']) => true,
            ([9, 2], [b'-']) | ([11], _) => self.named(CPF_WORDS),
            _ => false,
        };
        form && check::br_cpf(self.digits)
    }

    fn aadhaar(&self) -> bool {
        let form = match self.lengths {
            [4, 4, 4] => self.uniform(b" -"),
            [12] => self.named(AADHAAR_WORDS),
            _ => false,
        };
        form && check::in_aadhaar(self.digits)
    }

    /// National forms that look like nothing else; other digits only where a word says so.
    fn phone(&self) -> bool {
        let [first, second, ..] = self.digits else {
            return false;
        };
        let american = |from: usize| {
            let lead = |i: usize| matches!(self.digits.get(from + i), Some(b'2'..=b'9'));
            lead(0) && lead(3)
        };
        let bracket = self.separators.contains(&b')');
        match self.lengths {
            [3, 3, 4] if american(0) && (self.uniform(b"-.") || bracket) => true,
            [1, 3, 3, 4] if *first == b'1' && american(1) => true,
            // Great Britain, by the lengths of its area codes.
            [5, 6] | [3, 4, 4] | [4, 3, 4] | [5, 3, 3]
                if *first == b'0' && matches!(second, b'1' | b'2' | b'3' | b'7') =>
            {
                self.uniform(b" ") || bracket
            }
            // France.
            [2, 2, 2, 2, 2] if *first == b'0' && *second != b'0' => self.uniform(b" .-"),
            // Germany: the area code ends with a stroke.
            [3..=5, 4..=8] if *first == b'0' && *second != b'0' && self.uniform(b"/") => true,
            // The international prefix written out, in groups.
            [2..=5, _, ..] if self.digits.starts_with(b"00") && self.digits.len() >= 10 => {
                self.digits.get(2) != Some(&b'0')
            }
            _ => {
                (9..=15).contains(&self.digits.len())
                    && !self.is_fraction()
                    && self.named(PHONE_WORDS)
            }
        }
    }

    /// Whether all separators are the same one of these, and no bracket.
    fn uniform(&self, of: &[u8]) -> bool {
        let Some(first) = self.separators.first() else {
            return true;
        };
        of.contains(first) && self.separators.iter().all(|s| s == first)
    }

    /// Whether no further digits are joined to it, so that it is not a part of something longer.
    fn alone(&self) -> bool {
        let joined = |before: Option<u8>| {
            before.is_some_and(|b| match self.separators.first() {
                None => b != b' ',
                Some(first) => b == *first || b != b' ',
            })
        };
        let groups = &self.run.groups;
        let before = groups.get(self.from).and_then(|g| g.before);
        let after = groups.get(self.next).and_then(|g| g.before);
        !joined(before) && !joined(after)
    }

    /// Whether it stands after or before a decimal point.
    fn is_fraction(&self) -> bool {
        let groups = &self.run.groups;
        let before = groups.get(self.from).and_then(|g| g.before);
        let after = groups.get(self.next).and_then(|g| g.before);
        before == Some(b'.') || after == Some(b'.')
    }

    fn named(&self, words: &[&str]) -> bool {
        let start = self.run.groups.get(self.from).map_or(0, |g| g.start);
        near(self.run.text, start, words)
    }
}

/// What may stand between two groups: one character, or a bracket with a space. The kind of the
/// first counts.
fn separator(rest: &[u8]) -> Option<(u8, usize)> {
    let digit = |i: usize| rest.get(i).is_some_and(u8::is_ascii_digit);
    match rest {
        [b' ' | b'-' | b'.' | b'/', ..] if digit(1) => rest.first().map(|b| (*b, 1)),
        [b')', b' ' | b'-', ..] if digit(2) => Some((b')', 2)),
        [b')', ..] if digit(1) => Some((b')', 1)),
        [b' ', b'(', ..] if digit(2) => Some((b'(', 2)),
        _ => None,
    }
}

pub(super) fn is_word(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || *byte == b'_'
}
