//! ErrorResponse and NoticeResponse: a list of fields, each a code byte and a text.

use bytes::{BufMut, Bytes, BytesMut};

use super::WireError;
use super::frame;

const NAME: &str = "an error or notice";

/// Type byte of ErrorResponse.
pub const ERROR: u8 = b'E';
/// Type byte of NoticeResponse.
pub const NOTICE: u8 = b'N';

/// PostgreSQL has 18 kinds of fields; a message with many more is no message of a server.
const MAX_FIELDS: usize = 64;

/// Walks the fields of a body: code and text, without the zero.
pub fn fields(body: &[u8]) -> impl Iterator<Item = Result<(u8, &[u8]), WireError>> {
    let mut rest = body;
    let mut left = MAX_FIELDS;
    std::iter::from_fn(move || {
        let (code, after) = match rest.split_first() {
            None if left == 0 => return None,
            // The list ends with a zero; what follows would be unread.
            Some((0, [])) => {
                left = 0;
                rest = &[];
                return None;
            }
            Some((0, _)) => return Some(fail(&mut rest, &mut left, WireError::Trailing(NAME))),
            Some(_) if left == 0 => {
                return Some(fail(&mut rest, &mut left, WireError::TooLarge(NAME)));
            }
            Some(split) => split,
            None => return Some(fail(&mut rest, &mut left, WireError::Truncated(NAME))),
        };
        let Some(end) = memchr::memchr(0, after) else {
            return Some(fail(&mut rest, &mut left, WireError::Truncated(NAME)));
        };
        let (text, after) = after.split_at(end);
        rest = after.get(1..).unwrap_or_default();
        left -= 1;
        Some(Ok((*code, text)))
    })
}

fn fail<T>(rest: &mut &[u8], left: &mut usize, error: WireError) -> Result<T, WireError> {
    (*rest, *left) = (&[], 0);
    Err(error)
}

/// The text of the first field with this code; `None` too where the message is malformed before it.
pub fn field(body: &[u8], code: u8) -> Option<&[u8]> {
    fields(body)
        .map_while(Result::ok)
        .find(|(c, _)| *c == code)
        .map(|(_, text)| text)
}

/// Whether the server ends the session with this error.
pub fn is_fatal(body: &[u8]) -> bool {
    // `V` is never translated; servers before 9.6 send only `S`.
    let severity = field(body, b'V').or_else(|| field(body, b'S'));
    matches!(severity, Some(b"FATAL" | b"PANIC"))
}

/// What hoop says in an error or notice of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report<'a> {
    /// `ERROR`, `FATAL`, `NOTICE`, `WARNING`.
    pub severity: &'a str,
    /// SQLSTATE: five characters.
    pub code: &'a str,
    pub message: &'a str,
    pub detail: Option<&'a str>,
    pub hint: Option<&'a str>,
}

impl Report<'_> {
    /// The whole message; `tag` is [`ERROR`] or [`NOTICE`]. Zeros in texts are left out.
    pub fn encode(&self, tag: u8) -> Bytes {
        let mut out = BytesMut::with_capacity(128 + self.message.len());
        let at = frame::begin(&mut out, tag);
        let required = [
            (b'S', Some(self.severity)),
            (b'V', Some(self.severity)),
            (b'C', Some(self.code)),
            (b'M', Some(self.message)),
            (b'D', self.detail),
            (b'H', self.hint),
        ];
        for (code, text) in required {
            if let Some(text) = text {
                out.put_u8(code);
                frame::put_text(&mut out, text);
            }
        }
        out.put_u8(0);
        frame::end(&mut out, at);
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_report_is_read_back() {
        let report = Report {
            severity: "FATAL",
            code: "42501",
            message: "refused\0: no",
            detail: Some("{}"),
            hint: None,
        };
        let wire = report.encode(ERROR);
        let body = &wire[5..];
        assert!(is_fatal(body));
        assert_eq!(field(body, b'C'), Some(&b"42501"[..]));
        assert_eq!(field(body, b'M'), Some(&b"refused: no"[..]));
        assert_eq!(field(body, b'D'), Some(&b"{}"[..]));
        assert_eq!(field(body, b'H'), None);
        assert!(fields(body).all(|f| f.is_ok()));
    }

    #[test]
    fn malformed_lists_end_in_one_error() {
        for body in [&b""[..], b"Cxx", b"Cx\0", b"\0x"] {
            assert!(fields(body).last().unwrap().is_err(), "{body:?}");
        }
        assert!(fields(&b"Mx\0".repeat(100)).last().unwrap().is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            assert!(fields(&bytes).count() <= MAX_FIELDS + 1);
            is_fatal(&bytes);
        }
    }
}
