//! Detectors that a regular expression describes, and what a match must be besides.
//!
//! All expressions of one family are one automaton: a text is read once, whatever their number.
//! Nothing backtracks, and every repetition is bounded.

use std::ops::Range;

use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, PatternID};

use super::kinds::Kind;

/// Which part of a match is the value; `None` if the match is none. `value` is the first group that
/// took part, or the whole match.
type Accept = fn(text: &[u8], value: Range<usize>) -> Option<Range<usize>>;

#[derive(Clone)]
pub(super) struct Pattern {
    pub kind: Kind,
    pub expression: String,
    pub accept: Accept,
}

impl Pattern {
    pub fn new(kind: Kind, expression: impl Into<String>, accept: Accept) -> Self {
        Self {
            kind,
            expression: expression.into(),
            accept,
        }
    }
}

/// The patterns of one family, compiled.
pub(super) struct Patterns {
    regex: Regex,
    entries: Vec<(Kind, Accept)>,
}

impl Patterns {
    /// `None` if there are no patterns.
    pub fn new(patterns: Vec<Pattern>) -> Option<Self> {
        if patterns.is_empty() {
            return None;
        }
        let expressions: Vec<_> = patterns.iter().map(|p| p.expression.as_str()).collect();
        let built = Regex::builder()
            .syntax(syntax::Config::new().unicode(false).utf8(false))
            .configure(Regex::config().utf8_empty(false))
            .build_many(&expressions);
        let entries = patterns.iter().map(|p| (p.kind, p.accept)).collect();
        // Constant expressions: a test compiles every one of them.
        built.ok().map(|regex| Self { regex, entries })
    }

    /// Finds what the patterns accept, in order.
    pub fn scan(&self, text: &[u8], mut found: impl FnMut(Kind, Range<usize>)) {
        let mut at = 0;
        while let Some(next) = self.regex.search(&Input::new(text).range(at..)) {
            at = match self.at(text, next.start(), next.pattern()) {
                Some((kind, value)) => {
                    let end = value.end.max(next.start() + 1);
                    found(kind, value);
                    end
                }
                None => next.start() + 1,
            };
            if at > text.len() {
                return;
            }
        }
    }

    /// The first pattern from `first` on that is accepted at this place.
    fn at(&self, text: &[u8], start: usize, first: PatternID) -> Option<(Kind, Range<usize>)> {
        let entries = self.entries.iter().enumerate().skip(first.as_usize());
        let mut captures = self.regex.create_captures();
        for (index, (kind, accept)) in entries {
            let Ok(pattern) = PatternID::new(index) else {
                continue;
            };
            let input = Input::new(text)
                .range(start..)
                .anchored(Anchored::Pattern(pattern));
            self.regex.search_captures(&input, &mut captures);
            let groups = 1..captures.group_len();
            let value = groups
                .filter_map(|g| captures.get_group(g))
                .next()
                .or_else(|| captures.get_group(0));
            if let Some(value) = value
                && let Some(value) = accept(text, value.start..value.end)
            {
                return Some((*kind, value));
            }
        }
        None
    }
}

/// Whatever matches.
pub(super) fn any(_: &[u8], value: Range<usize>) -> Option<Range<usize>> {
    Some(value)
}
