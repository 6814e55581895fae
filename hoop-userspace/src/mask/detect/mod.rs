//! Detectors: what a value is by its own form, wherever it stands.
//!
//! [`Detectors::look`] reads a whole batch with vector instructions and marks where something could
//! be; [`Detectors::scan`] reads one field around a mark and says what is there. Between a mark and
//! a finding stand a form (by hand for numbers, one automaton for everything an expression
//! describes) and a check: check digits, known ranges, telling words, randomness.
//!
//! Nothing here knows a protocol: `stream.rs` is the same for a terminal or a body that comes in
//! pieces.

mod check;
mod codes;
mod context;
mod email;
mod gate;
mod kinds;
mod numbers;
mod own;
mod patterns;
mod secrets;
mod ssh_names;
mod stream;
#[cfg(test)]
mod tests;

use std::ops::Range;

use aho_corasick::AhoCorasick;

pub use gate::{Marks, Signs};
pub use kinds::Kind;
pub use own::{Detector, OwnDetector, OwnWhat, Pattern, Validate, WordList};
pub use stream::{HOLD, Stream};

use gate::{Gate, Needles, WordGate};
use kinds::Set;
use own::Search;
use patterns::Patterns;

/// One detector of a set, and how much its mask shows: of findings that overlap, the one that shows
/// least names the whole.
#[derive(Debug)]
pub struct Spec {
    pub detector: Detector,
    pub shows: u8,
}

/// A detector, by its place among the specifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u16);

impl Id {
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Where something was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    pub range: Range<usize>,
    pub detector: Id,
}

/// A set of detectors, compiled. Shared by sessions.
pub struct Detectors {
    named: Vec<Named>,
    kinds: Set,
    codes: Option<Patterns>,
    secrets: Option<Patterns>,
    addresses: Option<Patterns>,
    own: Vec<(Id, Search)>,
    words: Vec<(Id, WordList)>,
    gate: Gate,
}

struct Named {
    name: Box<str>,
    kind: Option<Kind>,
    shows: u8,
}

impl std::fmt::Debug for Detectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.named.iter().map(|n| &n.name))
            .finish()
    }
}

impl Detectors {
    /// Compiles a set; each detector once.
    pub fn new(specs: impl IntoIterator<Item = Spec>) -> Self {
        let mut named: Vec<Named> = Vec::new();
        let mut kinds = Set::default();
        let (mut own, mut words, mut listed) = (Vec::new(), Vec::new(), Vec::new());
        for spec in specs {
            // A configuration names far fewer.
            let id = Id(u16::try_from(named.len()).unwrap_or(u16::MAX));
            let (name, kind) = match &spec.detector {
                Detector::Kind(kind) => {
                    kinds = kinds.with(*kind);
                    (kind.name(), Some(*kind))
                }
                Detector::Own(detector) => {
                    match &detector.what {
                        OwnWhat::Pattern {
                            pattern,
                            keywords,
                            validate,
                        } => {
                            let search = Search::new(pattern, keywords, *validate);
                            listed.extend(search.keywords.iter().cloned());
                            own.push((id, search));
                        }
                        OwnWhat::Words(list) => {
                            listed.extend(list.forms());
                            words.push((id, list.clone()));
                        }
                    }
                    (&*detector.name, None)
                }
            };
            named.push(Named {
                name: name.into(),
                kind,
                shows: spec.shows,
            });
        }
        let on = |kind| kinds.has(kind);
        let codes = Patterns::new(codes::with_digits(on));
        let secrets = Patterns::new(secrets::patterns(on));
        let address = kinds.has(Kind::Ip);
        let gate = Gate {
            at: kinds.has(Kind::Email),
            digits: codes.is_some() || kinds.has_any(&numbers::KINDS),
            address,
            own: own.iter().any(|(_, own)| own.keywords.is_empty()),
            secrets: secrets.as_ref().and_then(|_| Needles::secrets()),
            words: word_gate(&listed),
        };
        Self {
            codes,
            secrets,
            addresses: address.then(|| Patterns::new(codes::addresses())).flatten(),
            named,
            kinds,
            own,
            words,
            gate,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    pub fn name(&self, detector: Id) -> &str {
        let named = self.named.get(detector.index());
        named.map_or("", |named| &*named.name)
    }

    pub fn has(&self, kind: Kind) -> bool {
        self.kinds.has(kind)
    }

    /// Whether it is the detector of passwords: under a telling name every value is one.
    pub fn is_password(&self, detector: Id) -> bool {
        self.kind(detector) == Some(Kind::Password)
    }

    /// The detector of a kind, where it is on.
    pub fn id(&self, kind: Kind) -> Option<Id> {
        let index = self.named.iter().position(|n| n.kind == Some(kind))?;
        u16::try_from(index).ok().map(Id)
    }

    /// Which kind a detector is; an operator's own is none.
    pub fn kind(&self, detector: Id) -> Option<Kind> {
        self.named.get(detector.index())?.kind
    }

    /// Marks where in a batch something could be found.
    pub fn look(&self, batch: &[u8], marks: &mut Marks) {
        self.gate.look(batch, marks);
    }

    /// Finds what there is in one text: in order, without overlaps. `signs` are those of the marks
    /// around it.
    pub fn scan(&self, text: &[u8], signs: Signs, hits: &mut Vec<Hit>) {
        hits.clear();
        let mut push = |id: Option<Id>, range: Range<usize>| {
            hits.extend(id.map(|detector| Hit { range, detector }));
        };
        if signs.has(Signs::AT) && self.kinds.has(Kind::Email) {
            let id = self.id(Kind::Email);
            email::scan(text, |range| push(id, range));
        }
        if signs.has(Signs::DIGITS) {
            numbers::scan(text, self.kinds, |kind, range| push(self.id(kind), range));
            if let Some(codes) = &self.codes {
                codes.scan(text, |kind, range| push(self.id(kind), range));
            }
        }
        let families = [
            (&self.secrets, Signs::SECRET),
            (&self.addresses, Signs::ADDRESS),
        ];
        for (patterns, sign) in families {
            if let Some(patterns) = patterns.as_ref().filter(|_| signs.has(sign)) {
                patterns.scan(text, |kind, range| push(self.id(kind), range));
            }
        }
        for (id, own) in &self.own {
            let sign = match own.keywords.is_empty() {
                true => Signs::OWN,
                false => Signs::WORD,
            };
            if signs.has(sign) {
                own.scan(text, |range| push(Some(*id), range));
            }
        }
        if signs.has(Signs::WORD) {
            for (id, words) in &self.words {
                words.scan(text, |range| push(Some(*id), range));
            }
        }
        self.settle(hits);
    }

    /// All of [`Detectors::scan`], for a text that no batch was looked at for.
    pub fn scan_all(&self, text: &[u8], hits: &mut Vec<Hit>) {
        self.scan(text, Signs::ALL, hits);
    }

    /// Which detector takes a number of these digits, in a column of numbers.
    pub fn of_number(&self, digits: &[u8]) -> Option<Id> {
        self.id(numbers::bare(digits, self.kinds)?)
    }

    /// Whether a name (a column's label, a JSON key) says what its value is.
    pub fn telling(&self, name: &[u8]) -> Option<Telling> {
        let whole = |kind: Kind, words: &[&str]| {
            let id = self.id(kind)?;
            let is = |word: &&str| context::ends_with(name, word.as_bytes());
            words.iter().any(is).then_some(Telling::Value(id))
        };
        whole(Kind::Password, &secrets::PASSWORD_WORDS)
            .or_else(|| whole(Kind::BirthDate, codes::BIRTH_WORDS))
            .or_else(|| self.helps(name).then_some(Telling::Helps))
    }

    /// Whether some detector takes more under this name than without it.
    fn helps(&self, name: &[u8]) -> bool {
        let words: [(Kind, &[&str]); 9] = [
            (Kind::UsSsn, numbers::SSN_WORDS),
            (Kind::DeTaxId, numbers::TAX_ID_WORDS),
            (Kind::NlBsn, numbers::BSN_WORDS),
            (Kind::BrCpf, numbers::CPF_WORDS),
            (Kind::InAadhaar, numbers::AADHAAR_WORDS),
            (Kind::Phone, numbers::PHONE_WORDS),
            (Kind::Token, &secrets::TOKEN_WORDS),
            (Kind::BirthDate, codes::BIRTH_WORDS),
            (Kind::Password, &secrets::PASSWORD_WORDS),
        ];
        let mut on = words.iter().filter(|(kind, _)| self.kinds.has(*kind));
        let own = || {
            let mut keywords = self.own.iter().flat_map(|(_, own)| &own.keywords);
            keywords.any(|k| context::contains(name, k.as_bytes()))
        };
        on.any(|(_, words)| words.iter().any(|w| context::contains(name, w.as_bytes()))) || own()
    }

    /// Sorts, and makes one of those that overlap.
    fn settle(&self, hits: &mut Vec<Hit>) {
        if hits.len() < 2 {
            return;
        }
        hits.sort_by_key(|h| (h.range.start, std::cmp::Reverse(h.range.end)));
        let shows = |id: Id| self.named.get(id.index()).map_or(0, |n| n.shows);
        hits.dedup_by(|next, kept| {
            if next.range.start >= kept.range.end {
                return false;
            }
            kept.range.end = kept.range.end.max(next.range.end);
            if shows(next.detector) < shows(kept.detector) {
                kept.detector = next.detector;
            }
            true
        });
    }
}

/// What a name says about the value that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// The value is of this kind, whatever it is.
    Value(Id),
    /// Digits or letters that mean nothing by themselves may mean something here.
    Helps,
}

fn word_gate(words: &[String]) -> WordGate {
    if words.is_empty() {
        return WordGate::Shut;
    }
    let built = AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .build(words);
    // Too many to be searched for at once: every text is read.
    built.map_or(WordGate::Open, WordGate::Words)
}
