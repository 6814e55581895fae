//! Words that tell what stands next to them: in front of a value, as a JSON key, or as a column's
//! label.

use std::ops::Range;

/// How far in front of a value a word may stand, in bytes.
pub(super) const REACH: usize = 40;

/// Whether one of the words (in lower case) stands shortly before `at`, on the same line.
pub(super) fn near(text: &[u8], at: usize, words: &[&str]) -> bool {
    let before = text.get(at.saturating_sub(REACH)..at).unwrap_or_default();
    let line = memchr::memrchr(b'\n', before).map_or(0, |n| n + 1);
    let before = before.get(line..).unwrap_or_default();
    words.iter().any(|word| contains(before, word.as_bytes()))
}

/// Words of up to this many letters must be whole: `tel`, not `tell`.
const SHORT: usize = 4;

/// Whether the word begins a word of the text, without regard to case. Words of identifiers count:
/// `user_phone`, `homePhone`.
pub(super) fn contains(text: &[u8], word: &[u8]) -> bool {
    let mut windows = text.windows(word.len().max(1)).enumerate();
    windows.any(|(i, window)| {
        window.eq_ignore_ascii_case(word)
            && begins_word(text, i)
            && (word.len() > SHORT || ends_word(text, i + word.len()))
    })
}

/// Whether the name ends with this word: `db_password`, not `password_changed_at`. Spaces and
/// underscores are the same.
pub(super) fn ends_with(name: &[u8], word: &[u8]) -> bool {
    let plain = |b: u8| match b {
        b'_' | b'-' => b' ',
        b => b.to_ascii_lowercase(),
    };
    let Some(start) = name.len().checked_sub(word.len()) else {
        return false;
    };
    let end = name.get(start..).unwrap_or_default();
    end.iter().zip(word).all(|(a, b)| plain(*a) == plain(*b)) && begins_word(name, start)
}

fn begins_word(text: &[u8], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|i| text.get(i));
    match (before, text.get(at)) {
        (Some(before), Some(first)) if before.is_ascii_alphanumeric() => {
            before.is_ascii_lowercase() && first.is_ascii_uppercase()
        }
        _ => true,
    }
}

fn ends_word(text: &[u8], at: usize) -> bool {
    let last = at.checked_sub(1).and_then(|i| text.get(i));
    match (last, text.get(at)) {
        (Some(last), Some(after)) if after.is_ascii_alphabetic() => {
            last.is_ascii_lowercase() && after.is_ascii_uppercase()
        }
        _ => true,
    }
}

/// Whether no letter, digit or underscore touches a part of the text. Bytes outside ASCII are
/// letters here.
pub(super) fn is_whole(text: &[u8], range: &Range<usize>) -> bool {
    let joins = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_' || !b.is_ascii();
    let before = range.start.checked_sub(1).and_then(|i| text.get(i));
    !before.is_some_and(joins) && !text.get(range.end).is_some_and(joins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_count_where_they_begin() {
        for text in ["phone: ", "user_phone=", "homePhone", "PHONE "] {
            assert!(near(text.as_bytes(), text.len(), &["phone"]), "{text}");
        }
        for text in ["microphones ", "phone\n", ""] {
            assert!(!near(text.as_bytes(), text.len(), &["phone"]), "{text}");
        }
        assert!(near(b"Tel.: ", 6, &["tel"]) && !near(b"tell ", 5, &["tel"]));
    }
}
