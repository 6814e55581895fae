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
        Quotes::Rows => may_quote(code, fields::field(body, b'P').is_some()),
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

/// Whether a message of this SQLSTATE may quote data. `positioned` says that the message points into
/// the client's own text: the server found it there before it ran anything.
///
/// A class says what went wrong, not whence the words come: `current_setting(ssn)` and `ssn::regclass`
/// name a value as a setting or table that does not exist. Without a position such a message may come
/// from a function that ran.
fn may_quote(code: &[u8], positioned: bool) -> bool {
    // The transaction, the server's resources, an operator's intervention, and names of the session's
    // own that no function takes.
    const ANY: [&[u8]; 7] = [b"25", b"26", b"2D", b"3B", b"40", b"53", b"57"];
    // No right; a lock that is held; too deep; too many columns; too many arguments. What exists is
    // named, or nothing.
    const EXACT: [&[u8]; 6] = [b"42501", b"55P03", b"55006", b"54001", b"54011", b"54023"];
    const POSITIONED: [&[u8]; 8] = [b"0A", b"2B", b"34", b"3D", b"3F", b"42", b"54", b"55"];
    let of = |classes: &[&[u8]]| classes.iter().any(|class| code.starts_with(class));
    !(of(&ANY) || of(&EXACT) || positioned && of(&POSITIONED))
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
            !scrubbed("42601", Quotes::Anything)
                .windows(6)
                .any(|w| w == b"123-45")
        );
    }

    /// PostgreSQL's position, as an error of its parser has it.
    fn positioned(code: &str) -> BytesMut {
        let report = Report {
            severity: "ERROR",
            code,
            message: "relation \"123-45\" does not exist",
            detail: None,
            hint: None,
        };
        let mut message = BytesMut::from(&report.encode(ERROR)[..]);
        message.truncate(message.len() - 1);
        message.put_slice(b"P15\0\0");
        let length = u32::try_from(message.len() - 1).unwrap();
        message[1..5].copy_from_slice(&length.to_be_bytes());
        let mut out = BytesMut::new();
        scrub(&message, Quotes::Rows, &mut out);
        out
    }

    #[test]
    fn only_a_message_that_points_into_the_statement_may_name_what_is_not_there() {
        let told = |out: BytesMut| out.windows(6).any(|w| w == b"123-45");
        // As `SELECT ssn::regclass`, `current_setting(ssn)`, `ssn::regoper`, `ssn::tsquery`,
        // `has_schema_privilege(ssn, …)`, `pg_database_size(ssn::name)`, `cursor_to_xml(ssn::refcursor, …)`
        // and long words for `to_tsquery` end.
        for code in [
            "42P01", "42704", "42883", "42601", "3F000", "3D000", "34000", "54000", "0A000",
        ] {
            assert!(!told(scrubbed(code, Quotes::Rows)), "{code}");
            assert!(told(positioned(code)), "{code}");
        }
        for code in ["22P02", "23505", "P0001", "XX000", "01000"] {
            assert!(!told(positioned(code)), "{code}");
        }
        for code in ["42501", "40001", "57014", "25P02", "55P03", "54001"] {
            assert!(told(scrubbed(code, Quotes::Rows)), "{code}");
        }
    }

    #[test]
    fn bytes_that_are_no_message_are_not_passed_on() {
        let mut out = BytesMut::new();
        scrub(b"E\0", Quotes::Rows, &mut out);
        scrub(b"E\0\0\0\x09M123-45", Quotes::Rows, &mut out);
        assert!(!out.windows(6).any(|w| w == b"123-45"));
    }
}
