//! E-mail addresses: what stands on both sides of an `@`.

use std::ops::Range;

use super::ssh_names;

/// RFC 5321, section 4.5.3.1: 64 octets before the sign, 255 after it.
const LOCAL: usize = 64;
const DOMAIN: usize = 255;

/// Endings of file names that are written like addresses (`logo@2x.png`).
const FILES: [&str; 12] = [
    "png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "json", "map", "ts", "html",
];

/// Finds addresses, in order.
pub(super) fn scan(text: &[u8], mut found: impl FnMut(Range<usize>)) {
    let mut from = 0;
    for at in memchr::memchr_iter(b'@', text) {
        if let Some(range) = around(text, at, from) {
            from = range.end;
            found(range);
        }
    }
}

fn around(text: &[u8], at: usize, from: usize) -> Option<Range<usize>> {
    let before = text.get(from.max(at.saturating_sub(LOCAL))..at)?;
    let local = before.iter().rev().take_while(|b| is_local(b)).count();
    let start = at - local;
    // Dots stand between characters only.
    let dots = text
        .get(start..at)?
        .iter()
        .take_while(|b| matches!(**b, b'.' | b'-' | b'\''));
    let start = start + dots.count();
    let end = domain(text, at + 1)?;
    let address = text.get(start..end)?;
    // The remote of a repository.
    let remote = address.starts_with(b"git@") && text.get(end) == Some(&b':');
    let other = remote || ssh_names::is_name(address);
    (start < at && text.get(at - 1) != Some(&b'.') && !other).then_some(start..end)
}

/// Where the domain that begins here ends: labels with dots, the last one of letters.
fn domain(text: &[u8], start: usize) -> Option<usize> {
    let rest = text.get(start..text.len().min(start + DOMAIN))?;
    let length = rest.iter().take_while(|b| is_domain(b)).count();
    let mut domain = rest.get(..length)?;
    while let [most @ .., b'.' | b'-'] = domain {
        domain = most;
    }
    let dot = memchr::memrchr(b'.', domain)?;
    let (labels, top) = (domain.get(..dot)?, domain.get(dot + 1..)?);
    let empty = |label: &[u8]| label.is_empty() || label.starts_with(b"-");
    let letters = top.iter().all(|b| b.is_ascii_alphabetic() || !b.is_ascii())
        || top.starts_with(b"xn--") && top.len() > 4;
    let file = || {
        let labels_of_size = labels.iter().all(|b| b.is_ascii_digit() || *b == b'x');
        labels_of_size && FILES.iter().any(|f| top.eq_ignore_ascii_case(f.as_bytes()))
    };
    let fits = top.len() >= 2 && letters && !labels.split(|b| *b == b'.').any(empty) && !file();
    fits.then_some(start + domain.len())
}

/// Less than RFC 5322's `atext`: what also delimits values in SQL, JSON, URLs and shells is left out.
fn is_local(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b".!#$%'*+-?^_~".contains(byte) || !byte.is_ascii()
}

fn is_domain(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-') || !byte.is_ascii()
}
