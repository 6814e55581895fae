//! One statement written in many ways has one meaning: comments, spacing, case and quoting between
//! and around the same words change nothing that is found.

use proptest::prelude::*;

use super::statements::cases;
use super::*;
use crate::decide::sql::{Limits, Parser};

/// What the server reads as one thing, and how it may be written otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Word,
    /// A constant, a quoted name, a parameter, an operator, a mark.
    Other,
    /// Two of these with a line's end between them are one.
    Text,
}

#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
    /// Nothing may be put in front.
    glued: bool,
}

/// Splits a text as the server does; written apart from hoop's own scanner, to be compared with it.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut all: Vec<Token<'_>> = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let space = gap(rest);
        if space > 0 {
            at += space;
            continue;
        }
        let (kind, length) = token(rest);
        let glued = kind == Kind::Text && all.last().is_some_and(|t| t.kind == Kind::Text);
        all.push(Token {
            kind,
            text: &rest[..length],
            glued,
        });
        at += length;
    }
    all
}

/// Bytes of space or comment at the beginning.
fn gap(rest: &str) -> usize {
    if rest.starts_with("--") {
        return rest.find(['\n', '\r']).unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        let (mut depth, mut at) = (1, 2);
        while depth > 0 && at < rest.len() {
            match &rest.as_bytes()[at..] {
                [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
                [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
                _ => at += 1,
            }
        }
        return at;
    }
    let space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c');
    rest.len() - rest.trim_start_matches(space).len()
}

fn token(rest: &str) -> (Kind, usize) {
    let lower: String = rest.chars().take(3).collect::<String>().to_lowercase();
    let prefix = |p: &str| lower.starts_with(p).then_some(p.len());
    if let Some(start) = prefix("e'") {
        return (Kind::Text, quoted(rest, start, '\'', true));
    }
    let plain = ["u&'", "n'", "b'", "x'", "'"]
        .iter()
        .find_map(|p| prefix(p));
    if let Some(start) = plain {
        return (Kind::Text, quoted(rest, start, '\'', false));
    }
    if let Some(start) = prefix("u&\"").or(prefix("\"")) {
        return (Kind::Other, quoted(rest, start, '"', false));
    }
    if let Some(length) = dollars(rest) {
        return (Kind::Text, length);
    }
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
    let first = rest.chars().next().unwrap();
    let run = |test: &dyn Fn(char) -> bool| rest.find(|c| !test(c)).unwrap_or(rest.len());
    if letter(first) {
        return (
            Kind::Word,
            run(&|c| letter(c) || c.is_ascii_digit() || c == '$'),
        );
    }
    if first.is_ascii_digit() {
        let length = run(&|c| c.is_ascii_alphanumeric() || c == '.' || c == '_');
        return (Kind::Other, length);
    }
    if first == '$' {
        let digits = rest[1..].find(|c: char| !c.is_ascii_digit());
        return (Kind::Other, 1 + digits.unwrap_or(rest.len() - 1));
    }
    if rest.starts_with("::") || rest.starts_with(":=") {
        return (Kind::Other, 2);
    }
    let operator = |c: char| "+-*/<>=~!@#%^&|`?".contains(c);
    if operator(first) {
        let mut length = run(&operator);
        for comment in ["--", "/*"] {
            length = rest[..length].find(comment).unwrap_or(length);
        }
        return (Kind::Other, length);
    }
    (Kind::Other, first.len_utf8())
}

fn quoted(rest: &str, start: usize, quote: char, escapes: bool) -> usize {
    let mut chars = rest[start..].char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if escapes && c == '\\' {
            chars.next();
        } else if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return start + at + 1;
        }
    }
    rest.len()
}

fn dollars(rest: &str) -> Option<usize> {
    let tag = rest.strip_prefix('$')?.find('$')?;
    let name = &rest[1..=tag];
    let valid = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii())
        && !name.starts_with(|c: char| c.is_ascii_digit());
    let mark = &rest[..tag + 2];
    let length = || rest[mark.len()..].find(mark).map(|at| at + 2 * mark.len());
    valid.then(|| length().unwrap_or(rest.len()))
}

/// What may stand between two tokens.
const GAPS: &[&str] = &[
    " ",
    "\n",
    "\t\r\n",
    "/**/",
    " /* ' \" $$ ; DROP TABLE users; */ ",
    "/* a /* b */ c */",
    " -- ' ; DELETE FROM users\n",
    "\x0c",
];

const BLANKS: &[&str] = &[" ", "\n", "\t\r\n", "\x0c"];

/// Words whose meaning depends on the next one.
const LOOK_AHEAD: &[&str] = &["format", "not", "nulls", "uescape", "with", "without"];

/// No keywords, so that quotes change nothing.
const NAMES: &[&str] = &[
    "users",
    "orders",
    "staging",
    "banned",
    "docs",
    "salaries",
    "events",
    "charge",
    "active_users",
    "user_orders",
    "hr",
    "app",
];

/// The text with these choices made, one for each token, over and over.
fn written(text: &str, choices: &[u8], quotes: bool) -> String {
    let tokens = tokens(text);
    let mut out = String::new();
    for (n, token) in tokens.iter().enumerate() {
        let choice = choices[n % choices.len()];
        // hoop's parser takes no comment behind these words, and refuses.
        let before = n.checked_sub(1).and_then(|at| tokens.get(at));
        let looks_ahead = token.text.eq_ignore_ascii_case("uescape")
            || before.is_some_and(|t| {
                LOOK_AHEAD
                    .iter()
                    .any(|word| t.text.eq_ignore_ascii_case(word))
            });
        match token.glued {
            _ if looks_ahead => out += BLANKS[usize::from(choice) % BLANKS.len()],
            true => out += "\n",
            false => out += GAPS[usize::from(choice) % GAPS.len()],
        }
        match token.kind {
            Kind::Word if quotes && choice % 2 == 1 && NAMES.contains(&token.text) => {
                out += &format!("\"{}\"", token.text);
            }
            Kind::Word => out.extend(token.text.chars().enumerate().map(|(n, c)| {
                // Only ASCII folds the same way everywhere.
                match (choice >> (n % 8)) & 1 {
                    1 => c.to_ascii_uppercase(),
                    _ => c.to_ascii_lowercase(),
                }
            })),
            _ => out += token.text,
        }
    }
    out
}

fn meaning(facts: Facts) -> Facts {
    Facts {
        fingerprint: String::new(),
        ..facts
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn writing_a_statement_otherwise_changes_nothing(
        choices in proptest::collection::vec(any::<u8>(), 1..24),
        skip in 0_usize..5,
    ) {
        let parser = Parser::new(Limits::default());
        for case in cases().iter().skip(skip).step_by(5) {
            let facts = parser.facts(&case.sql);
            if facts.unparsable.is_some() {
                continue;
            }
            let spaced = written(&case.sql, &choices, false);
            let found = parser.facts(&spaced);
            prop_assert_eq!(&found.fingerprint, &facts.fingerprint, "{}", spaced);
            let facts = meaning(facts);
            prop_assert_eq!(&meaning(found), &facts, "{}", spaced);
            let quoted = written(&case.sql, &choices, true);
            prop_assert_eq!(&meaning(parser.facts(&quoted)), &facts, "{}", quoted);
        }
    }
}

/// The grammar's own way of writing a statement means the same.
#[test]
fn what_is_written_back_means_the_same() {
    let parser = Parser::new(Limits::default());
    let mut compared = 0;
    for case in cases() {
        let facts = parser.facts(&case.sql);
        if facts.unparsable.is_some() {
            continue;
        }
        let tree = pg_raw_parse::parse(&case.sql).unwrap();
        let texts: Vec<String> = tree
            .stmts()
            .map(pg_raw_parse::deparse)
            .filter_map(|text| Some(text.ok()?.as_str().to_owned()))
            .collect();
        // What cannot be written back is not compared.
        if texts.len() != facts.statements.len() {
            continue;
        }
        let again = parser.facts(&texts.join("; "));
        if again.unparsable.is_some() {
            continue;
        }
        assert_eq!(meaning(again), meaning(facts), "{}\n{texts:?}", case.place);
        compared += 1;
    }
    assert!(compared > 650, "{compared}");
}
