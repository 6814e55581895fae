//! What an operator adds: patterns, and lists of words.

use std::ops::Range;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use regex_automata::Input;
use regex_automata::meta::Regex;
use regex_automata::util::syntax;

use super::check;
use super::context;
use super::kinds::Kind;

/// A detector, as `[[mask]]` names it.
#[derive(Clone, Debug)]
pub enum Detector {
    Kind(Kind),
    Own(Arc<OwnDetector>),
}

impl Detector {
    pub fn name(&self) -> &str {
        match self {
            Self::Kind(kind) => kind.name(),
            Self::Own(own) => &own.name,
        }
    }
}

/// `[detector.NAME]`
#[derive(Debug)]
pub struct OwnDetector {
    pub name: String,
    pub what: OwnWhat,
}

#[derive(Debug)]
pub enum OwnWhat {
    Pattern {
        pattern: Pattern,
        /// The text must hold one of these, in whatever case; none: it need not.
        keywords: Vec<String>,
        validate: Option<Validate>,
    },
    Words(WordList),
}

/// A regular expression that compiles, is bounded, and matches something.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Longest pattern, in bytes.
    const LONGEST: usize = 4096;
    /// Memory that one may take when compiled, in bytes.
    const COMPILED: usize = 1 << 20;

    /// Compiles a pattern, or says in one line why it is none.
    pub fn new(pattern: &str) -> Result<Self, String> {
        if pattern.len() > Self::LONGEST {
            return Err(format!("a pattern has at most {} bytes", Self::LONGEST));
        }
        let built = Regex::builder()
            .syntax(syntax::Config::new().utf8(false))
            .configure(
                Regex::config()
                    .utf8_empty(false)
                    .nfa_size_limit(Some(Self::COMPILED)),
            )
            .build(pattern);
        let regex = built.map_err(|error| match (error.syntax_error(), error.size_limit()) {
            (_, Some(_)) => "the pattern is too large when compiled: repeat less".to_owned(),
            (Some(syntax), _) => {
                let text = syntax.to_string();
                let why = text.lines().last().unwrap_or_default();
                format!("this is no pattern: {}", why.trim_start_matches("error: "))
            }
            _ => error.to_string(),
        })?;
        if regex.is_match(b"") {
            return Err("the pattern matches nothing at all, and so everywhere".to_owned());
        }
        Ok(Self(regex))
    }
}

/// Words or names, none of them empty, found whole and without regard to case.
#[derive(Clone, Debug)]
pub struct WordList {
    forms: Arc<[String]>,
    search: AhoCorasick,
}

impl WordList {
    /// Words of one list, and bytes of one of them.
    const MOST: usize = 10_000;
    const LONGEST: usize = 128;

    pub fn new(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let words = words.into_iter().map(|w| w.trim().to_owned());
        let words: Vec<_> = words.filter(|w| !w.is_empty()).collect();
        if words.is_empty() {
            return Err("the list holds no word".to_owned());
        }
        if words.len() > Self::MOST {
            return Err(format!("a list holds at most {} words", Self::MOST));
        }
        if let Some(long) = words.iter().find(|w| w.len() > Self::LONGEST) {
            let begins: String = long.chars().take(20).collect();
            let most = Self::LONGEST;
            return Err(format!("{begins:?}… has more than {most} bytes"));
        }
        // Letters outside ASCII have cases too; they are written out.
        let forms = words
            .iter()
            .flat_map(|w| [w.clone(), w.to_lowercase(), w.to_uppercase()]);
        let mut forms: Vec<_> = forms.collect();
        forms.sort();
        forms.dedup();
        let search = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostLongest)
            .build(&forms);
        Ok(Self {
            forms: forms.into(),
            search: search.map_err(|e| e.to_string())?,
        })
    }

    pub(super) fn forms(&self) -> impl Iterator<Item = String> + '_ {
        self.forms.iter().cloned()
    }

    pub(super) fn scan(&self, text: &[u8], mut found: impl FnMut(Range<usize>)) {
        let mut at = 0;
        while let Some(next) = self.search.find(aho_corasick::Input::new(text).range(at..)) {
            at = match context::is_whole(text, &next.range()) {
                true => {
                    found(next.range());
                    next.end()
                }
                false => next.start() + 1,
            };
        }
    }
}

/// A check that a match must pass besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validate {
    Luhn,
    Mod97,
    Verhoeff,
}

impl Validate {
    /// Names in the configuration.
    pub const NAMES: [(&str, Self); 3] = [
        ("luhn", Self::Luhn),
        ("mod97", Self::Mod97),
        ("verhoeff", Self::Verhoeff),
    ];

    fn passes(self, value: &[u8]) -> bool {
        let written = value.iter().copied();
        let bare: Vec<u8> = written.filter(u8::is_ascii_alphanumeric).collect();
        match self {
            Self::Luhn => check::luhn(&bare),
            Self::Mod97 => check::mod97(&bare),
            Self::Verhoeff => check::verhoeff(&bare),
        }
    }
}

/// An operator's pattern, ready to search.
#[derive(Debug)]
pub(super) struct Search {
    pattern: Pattern,
    pub keywords: Vec<String>,
    validate: Option<Validate>,
}

impl Search {
    pub fn new(pattern: &Pattern, keywords: &[String], validate: Option<Validate>) -> Self {
        Self {
            pattern: pattern.clone(),
            keywords: keywords.iter().map(|k| k.to_lowercase()).collect(),
            validate,
        }
    }

    pub fn scan(&self, text: &[u8], mut found: impl FnMut(Range<usize>)) {
        if !self.keywords.is_empty() && !self.keywords.iter().any(|k| holds(text, k)) {
            return;
        }
        let mut at = 0;
        while let Some(next) = self.pattern.0.find(Input::new(text).range(at..)) {
            let value = text.get(next.range()).unwrap_or_default();
            let passes = self.validate.is_none_or(|v| v.passes(value));
            at = match passes && !value.is_empty() {
                true => {
                    found(next.range());
                    next.end()
                }
                false => next.start() + 1,
            };
            if at > text.len() {
                return;
            }
        }
    }
}

fn holds(text: &[u8], word: &str) -> bool {
    let mut windows = text.windows(word.len().max(1));
    windows.any(|w| w.eq_ignore_ascii_case(word.as_bytes()))
}
