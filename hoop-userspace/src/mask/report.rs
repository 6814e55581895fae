//! Errors and notices: what they say stays, what may quote a masked value goes.

use bytes::{BufMut, BytesMut};

use crate::wire::postgres::{fields, frame};

const WITHHELD: &[u8] = b"the server's message is withheld: it may quote masked values";

/// What may be quoted in a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quotes {
    /// Rows of a masked table, by this statement.
    Rows,
    /// Rows that an earlier statement of the session touched: a deferred constraint or trigger
    /// fails later.
    Deferred,
    /// Anything: code that nobody has seen can raise an error of any class.
    Anything,
}

/// Appends the message without what may quote values. A message that cannot be read becomes a
/// notice that says so.
pub(super) fn scrub(message: &[u8], quotes: Quotes, out: &mut BytesMut) {
    let (tag, body) = match message.split_first_chunk::<{ frame::HEADER }>() {
        Some((header, body)) => (header.first().copied().unwrap_or(fields::NOTICE), body),
        None => (fields::NOTICE, message),
    };
    let code = fields::field(body, b'C').unwrap_or_default();
    let quoting = match quotes {
        Quotes::Rows => may_quote(code),
        Quotes::Deferred => code.starts_with(b"23") || code.starts_with(b"P0"),
        Quotes::Anything => true,
    };
    if !quoting {
        out.put_slice(message);
        return;
    }
    let at = frame::begin(out, tag);
    for (field, text) in fields::fields(body).map_while(Result::ok) {
        let text = match field {
            b'M' => WITHHELD,
            // Detail, hint, context, internal query: free text.
            b'D' | b'H' | b'W' | b'q' => continue,
            _ => text,
        };
        out.put_u8(field);
        out.put_slice(text);
        out.put_u8(0);
    }
    out.put_u8(0);
    frame::end(out, at);
}

/// Whether messages of this SQLSTATE quote data. Classes that speak of the statement, the
/// transaction, the connection or the server's resources do not; every other may.
fn may_quote(code: &[u8]) -> bool {
    const OWN_WORDS: [&[u8]; 17] = [
        b"08", b"0A", b"25", b"26", b"28", b"2B", b"2D", b"34", b"3B", b"3D", b"3F", b"40", b"42",
        b"53", b"54", b"55", b"57",
    ];
    !OWN_WORDS.iter().any(|class| code.starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::postgres::fields::{ERROR, Report, field};

    fn scrubbed(code: &str, quotes: Quotes) -> BytesMut {
        let report = Report {
            severity: "ERROR",
            code,
            message: "invalid input syntax for type integer: \"123-45\"",
            detail: Some("Key (ssn)=(123-45)"),
            hint: None,
        };
        let mut out = BytesMut::new();
        scrub(&report.encode(ERROR), quotes, &mut out);
        out
    }

    #[test]
    fn a_conversion_error_loses_the_value_and_keeps_its_state() {
        let out = scrubbed("22P02", Quotes::Rows);
        assert!(!out.windows(6).any(|w| w == b"123-45"));
        assert_eq!(field(&out[5..], b'C'), Some(&b"22P02"[..]));
        assert_eq!(
            out.len() - 1,
            u32::from_be_bytes(out[1..5].try_into().unwrap()) as usize
        );
    }

    #[test]
    fn a_deferred_constraint_is_scrubbed_and_a_division_by_zero_is_not() {
        assert!(
            !scrubbed("23505", Quotes::Deferred)
                .windows(6)
                .any(|w| w == b"123-45")
        );
        assert!(
            scrubbed("22012", Quotes::Deferred)
                .windows(6)
                .any(|w| w == b"123-45")
        );
        assert!(
            scrubbed("42601", Quotes::Rows)
                .windows(6)
                .any(|w| w == b"123-45")
        );
        assert!(
            !scrubbed("42601", Quotes::Anything)
                .windows(6)
                .any(|w| w == b"123-45")
        );
    }

    #[test]
    fn bytes_that_are_no_message_are_not_passed_on() {
        let mut out = BytesMut::new();
        scrub(b"E\0", Quotes::Rows, &mut out);
        scrub(b"E\0\0\0\x09M123-45", Quotes::Rows, &mut out);
        assert!(!out.windows(6).any(|w| w == b"123-45"));
    }
}
