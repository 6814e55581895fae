//! Numbers with letters in them, dates of birth and addresses: forms that an expression describes.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use smallvec::SmallVec;

use super::check;
use super::kinds::Kind;
use super::patterns::Pattern;

/// Names that make a date somebody's birth.
pub(super) const BIRTH_WORDS: &[&str] = &[
    "date of birth",
    "date_of_birth",
    "dateofbirth",
    "birth date",
    "birth_date",
    "birthdate",
    "birthday",
    "dob",
    "born",
    "geburtsdatum",
    "fecha de nacimiento",
    "fecha_nacimiento",
    "data di nascita",
    "data_nascita",
    "date de naissance",
    "date_naissance",
    "geboortedatum",
];

/// The patterns of these kinds; each needs at least six digits in its match.
pub(super) fn with_digits(on: impl Fn(Kind) -> bool) -> Vec<Pattern> {
    let birth = format!(
        r#"(?:\b|_)(?i:{})[\\"']{{0,2}}\s{{0,3}}(?:is|on|am|le|il|el|:|=|=>|>)?\s{{0,3}}[\\"']{{0,2}}({})\b"#,
        BIRTH_WORDS.join("|"),
        r"(?:19|20)[0-9]{2}[-/.][01]?[0-9][-/.][0-3]?[0-9]|[0-3]?[0-9][-/. ][0-3]?[0-9][-/. ](?:19|20)[0-9]{2}|(?:19|20)[0-9]{6}"
    );
    let all = [
        Pattern::new(Kind::Iban, r"\b[A-Z]{2}[0-9]{2}[ -]?[A-Z0-9]{4}", iban),
        Pattern::new(
            Kind::UkNino,
            r"\b[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]\b",
            nino,
        ),
        Pattern::new(
            Kind::FrNir,
            r"\b[1-478] ?[0-9]{2} ?[0-9]{2} ?(?:[0-9]{2}|2[AB]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}\b",
            |text, value| checked(text, value, check::fr_nir),
        ),
        Pattern::new(
            Kind::EsNif,
            r"\b(?:[0-9]{8}|[XYZ][- ]?[0-9]{7})[- ]?[A-HJ-NP-TV-Z]\b",
            |text, value| checked(text, value, check::es_nif),
        ),
        Pattern::new(
            Kind::ItFiscalCode,
            r"\b(?i:[A-Z]{6}[0-9LMNPQRSTUV]{2}[ABCDEHLMPRST][0-9LMNPQRSTUV]{2}[A-Z][0-9LMNPQRSTUV]{3}[A-Z])\b",
            |text, value| checked(text, value, check::it_fiscal_code),
        ),
        Pattern::new(Kind::BirthDate, birth, super::patterns::any),
    ];
    all.into_iter().filter(|p| on(p.kind)).collect()
}

/// Internet addresses of both versions.
pub(super) fn addresses() -> Vec<Pattern> {
    vec![
        Pattern::new(Kind::Ip, r"\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}\b", ipv4),
        Pattern::new(
            Kind::Ip,
            r"(?:[0-9A-Fa-f]{1,4}|:):(?:[0-9A-Fa-f]{0,4}:){0,6}(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]{1,4})?",
            ipv6,
        ),
    ]
}

/// As many characters as the country's numbers have, in groups or not.
fn iban(text: &[u8], value: Range<usize>) -> Option<Range<usize>> {
    let length = check::iban_length(text.get(value.start..value.start + 2)?)?;
    let mut number = SmallVec::<[u8; 34]>::new();
    let mut end = value.start;
    let mut separated = false;
    for (i, byte) in text.iter().enumerate().skip(value.start) {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' => {
                number.push(*byte);
                separated = false;
            }
            b' ' | b'-' if !separated => separated = true,
            _ => return None,
        }
        end = i + 1;
        if number.len() == length {
            break;
        }
    }
    let ends = !text.get(end).is_some_and(u8::is_ascii_alphanumeric);
    (ends && check::iban(&number)).then_some(value.start..end)
}

/// Prefixes that are never allocated (HMRC, NIM39110).
fn nino(text: &[u8], value: Range<usize>) -> Option<Range<usize>> {
    let prefix = text.get(value.start..value.start + 2)?;
    let unused: [&[u8]; 7] = [b"BG", b"GB", b"KN", b"NK", b"NT", b"TN", b"ZZ"];
    (!unused.contains(&prefix)).then_some(value)
}

fn checked(text: &[u8], value: Range<usize>, check: fn(&[u8]) -> bool) -> Option<Range<usize>> {
    let written = text.get(value.clone())?.iter();
    let bare: SmallVec<[u8; 24]> = written.copied().filter(u8::is_ascii_alphanumeric).collect();
    check(&bare).then_some(value)
}

fn ipv4(text: &[u8], value: Range<usize>) -> Option<Range<usize>> {
    let touches = |at: Option<usize>, next: Option<usize>| {
        at.and_then(|i| text.get(i)) == Some(&b'.')
            && next
                .and_then(|i| text.get(i))
                .is_some_and(u8::is_ascii_digit)
    };
    let longer = touches(Some(value.end), Some(value.end + 1))
        || touches(value.start.checked_sub(1), value.start.checked_sub(2));
    let address = std::str::from_utf8(text.get(value.clone())?).ok()?;
    (!longer && address.parse::<Ipv4Addr>().is_ok()).then_some(value)
}

fn ipv6(text: &[u8], value: Range<usize>) -> Option<Range<usize>> {
    let joined = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b':';
    let before = value.start.checked_sub(1).and_then(|i| text.get(i));
    if before.is_some_and(joined) || text.get(value.end).is_some_and(joined) {
        return None;
    }
    let address = std::str::from_utf8(text.get(value.clone())?).ok()?;
    // `::` alone is a cast or a path more often than an address.
    (address.len() > 3 && address.parse::<Ipv6Addr>().is_ok()).then_some(value)
}
