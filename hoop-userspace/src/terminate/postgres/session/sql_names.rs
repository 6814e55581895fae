//! Names that SQL gives to prepared statements.
//!
//! `PREPARE name AS …` and the protocol's Parse share one name space, so a text that may hold a
//! PREPARE makes its name unsafe to Bind to. This is a coarse search for the keyword, which can see
//! one where there is none (in a literal), and then only makes one name unusable.

use bytes::Bytes;
use smallvec::SmallVec;

use super::names::MAX_NAME;

/// Which names running a text may give to statements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Prepares {
    #[default]
    None,
    Names(SmallVec<[Bytes; 1]>),
    /// Not to be told.
    Any,
}

const KEYWORD: &[u8] = b"prepare";

/// More than this many in one text count as any name at all.
const MAX_NAMES: usize = 32;

/// Looks for PREPARE in a text.
pub fn prepares(text: &[u8]) -> Prepares {
    let mut names = SmallVec::new();
    for at in memchr::memchr2_iter(b'p', b'P', text) {
        let Some(rest) = text.get(at..).and_then(|rest| after_word(rest, KEYWORD)) else {
            continue;
        };
        if at
            .checked_sub(1)
            .and_then(|at| text.get(at))
            .copied()
            .is_some_and(is_part)
        {
            continue;
        }
        match name(rest) {
            Name::None => {}
            Name::Is(name) if names.len() < MAX_NAMES => names.push(name),
            Name::Is(_) | Name::Unknown => return Prepares::Any,
        }
    }
    match names.is_empty() {
        true => Prepares::None,
        false => Prepares::Names(names),
    }
}

/// The name in a text that is nothing but `DEALLOCATE [PREPARE] name`; not where it says ALL, which
/// the server's answer tells.
pub fn deallocates(text: &[u8]) -> Option<Bytes> {
    let mut rest = after_word(skip_space(text)?, b"deallocate")?;
    if let Some(after) = after_word(skip_space(rest)?, KEYWORD) {
        rest = after;
    }
    match name(rest) {
        Name::Is(name) => Some(name),
        Name::None | Name::Unknown => None,
    }
}

fn after_word<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = text.split_at_checked(word.len())?;
    let whole = !rest.first().copied().is_some_and(is_part);
    (whole && start.eq_ignore_ascii_case(word)).then_some(rest)
}

/// Whether a byte can be part of an identifier (PostgreSQL's scan.l: `ident_cont`).
fn is_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// What stands where a name must be.
enum Name {
    Is(Bytes),
    /// It is one, but not to be told which.
    Unknown,
    /// No identifier: the server's grammar takes no such PREPARE.
    None,
}

/// The identifier that follows, folded and cut as the server does it.
fn name(text: &[u8]) -> Name {
    let Some(text) = skip_space(text) else {
        return Name::None;
    };
    let name = match text {
        [b'"', quoted @ ..] => unquoted(quoted),
        // U&"…" is an identifier with escapes.
        [b'u' | b'U', b'&', b'"', ..] => return Name::Unknown,
        [first, ..] if is_part(*first) && !first.is_ascii_digit() && *first != b'$' => {
            let end = text.iter().position(|b| !is_part(*b)).unwrap_or(text.len());
            text.get(..end).map(<[u8]>::to_ascii_lowercase)
        }
        _ => None,
    };
    match name {
        None => Name::None,
        Some(name) if name.len() <= MAX_NAME => Name::Is(name.into()),
        // Where a longer one is cut depends on its characters.
        Some(name) => match name.get(..=MAX_NAME) {
            Some(start) if start.is_ascii() => Name::Is(Bytes::copy_from_slice(
                start.get(..MAX_NAME).unwrap_or_default(),
            )),
            _ => Name::Unknown,
        },
    }
}

fn unquoted(mut text: &[u8]) -> Option<Vec<u8>> {
    let mut name = Vec::new();
    loop {
        let end = memchr::memchr(b'"', text)?;
        let (part, rest) = text.split_at(end);
        name.extend_from_slice(part);
        match rest.get(1..)? {
            [b'"', after @ ..] => {
                name.push(b'"');
                text = after;
            }
            _ => return Some(name),
        }
    }
}

/// Skips white space and comments; `None` where a comment does not end.
fn skip_space(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        text = text.trim_ascii_start();
        text = match text {
            // A vertical tab is space to PostgreSQL 16 and later, and not to Rust.
            [0x0b, rest @ ..] => rest,
            [b'-', b'-', rest @ ..] => {
                let end = rest.iter().position(|b| matches!(b, b'\n' | b'\r'));
                rest.get(end.unwrap_or(rest.len())..)?
            }
            [b'/', b'*', rest @ ..] => after_comment(rest)?,
            _ => return Some(text),
        };
    }
}

fn after_comment(mut text: &[u8]) -> Option<&[u8]> {
    let mut depth = 1;
    while depth > 0 {
        text = match text {
            [b'*', b'/', rest @ ..] => {
                depth -= 1;
                rest
            }
            [b'/', b'*', rest @ ..] => {
                depth += 1;
                rest
            }
            [_, rest @ ..] => rest,
            [] => return None,
        };
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(text: &str) -> Option<Vec<String>> {
        match prepares(text.as_bytes()) {
            Prepares::None => Some(vec![]),
            Prepares::Names(names) => Some(
                names
                    .iter()
                    .map(|n| String::from_utf8_lossy(n).into())
                    .collect(),
            ),
            Prepares::Any => None,
        }
    }

    #[test]
    fn the_names_are_found() {
        let one = |name: &str| Some(vec![name.to_string()]);
        assert_eq!(found("PREPARE Foo AS select 1"), one("foo"));
        assert_eq!(
            found("select 1; prepare/* a /* b */ */\n--x\n\"Fo\"\"o\"(int) as"),
            one("Fo\"o")
        );
        assert_eq!(
            found("do $$begin prepare a as select 1; prepare b as x; end$$"),
            Some(vec!["a".into(), "b".into()])
        );
        assert_eq!(
            found("select prepared_at, unprepare, prepare$ from t"),
            Some(vec![])
        );
        assert_eq!(found("prepareprepare a"), Some(vec![]));
        assert_eq!(found("select 'prepare the ship'"), one("the"));
        assert_eq!(found("prepare U&\"a\" as select 1"), None);
        for none in [
            "prepare /* open",
            "'we must prepare.'",
            "'prepare 2 things'",
            "prepare \"a",
        ] {
            assert_eq!(found(none), Some(vec![]));
        }
        assert_eq!(
            found(&format!("prepare {} as x", "a".repeat(64))),
            one(&"a".repeat(63))
        );
    }

    #[test]
    fn deallocated_names_are_found() {
        assert_eq!(
            deallocates(b" DEALLOCATE prepare _pg3_0"),
            Some(Bytes::from_static(b"_pg3_0"))
        );
        assert_eq!(
            deallocates(b"deallocate \"A\""),
            Some(Bytes::from_static(b"A"))
        );
        assert_eq!(deallocates(b"select 1"), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(?i)(prepare|deallocate|[\"/*a -]|\\PC){0,20}") {
            prepares(text.as_bytes());
            deallocates(text.as_bytes());
        }
    }
}
