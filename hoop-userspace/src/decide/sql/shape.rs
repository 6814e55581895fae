//! A text without the constants that its facts do not depend on, as a key: drivers that write values
//! into their statements send a new text each time, and few shapes.
//!
//! A key must stand for one set of facts, so this looks only at texts that are simple enough to be
//! read without PostgreSQL's scanner, and leaves out only constants that a column is compared with:
//! in `WHERE id = 5` nothing but the `5`. All else is part of the key as it stands; whatever is
//! doubtful gives no shape, and the text is parsed.

use smallvec::SmallVec;

/// Longer texts have no shape: what is saved is little beside what they cost the server.
const LONGEST: usize = 2 * 1024;

/// Statements that only read and write rows. In others (SET, COPY) a constant may be the point.
const VERBS: [&str; 4] = ["select", "update", "delete", "insert"];

/// Stand in the key for a constant, by what the grammar takes it for. Texts that hold these bytes
/// themselves have no shape.
const STRING: u8 = 0x01;
const INTEGER: u8 = 0x02;
const NUMBER: u8 = 0x03;

/// Integers of up to this many digits are integers to the grammar too, longer ones may be too large.
const DIGITS: usize = 9;

pub(in crate::decide) type Shape = SmallVec<[u8; 256]>;

/// The text's shape; `None` where it has none, or where nothing was left out.
pub(in crate::decide) fn shape(text: &str) -> Option<Shape> {
    let bytes = text.as_bytes();
    let first = bytes.trim_ascii_start();
    let verb = |verb: &&str| {
        let word = first.get(..verb.len());
        let ends = first.get(verb.len()).is_some_and(|b| !is_word(*b));
        ends && word.is_some_and(|w| w.eq_ignore_ascii_case(verb.as_bytes()))
    };
    if bytes.len() > LONGEST || !VERBS.iter().any(verb) {
        return None;
    }
    let mut reader = Reader {
        bytes,
        at: 0,
        key: Shape::new(),
        before: [Kind::Other; 2],
        left_out: false,
    };
    reader.read()?;
    reader.left_out.then_some(reader.key)
}

/// What came before, as far as it matters for what comes now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A name, a keyword, or a quoted name.
    Name,
    Comparison,
    Other,
}

struct Reader<'t> {
    bytes: &'t [u8],
    at: usize,
    key: Shape,
    /// The last token but one, and the last.
    before: [Kind; 2],
    left_out: bool,
}

impl Reader<'_> {
    /// `None`: the text has no shape.
    fn read(&mut self) -> Option<()> {
        while let Some(byte) = self.peek(0) {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => self.copy(1),
                b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                    let length = self.run(is_word);
                    self.token(length, Kind::Name);
                }
                b'0'..=b'9' => self.number(),
                b'\'' => self.string()?,
                b'"' => {
                    let length = self.quoted(b'"')?;
                    self.token(length, Kind::Name);
                }
                b'(' | b')' | b',' | b'.' | b'[' | b']' => self.token(1, Kind::Other),
                // Of several statements the later ones are not looked at here.
                b';' => {
                    let rest = self.bytes.get(self.at + 1..)?;
                    rest.trim_ascii().is_empty().then_some(())?;
                    self.token(1, Kind::Other);
                }
                _ if is_operator(byte) => self.operator()?,
                _ => return None,
            }
        }
        Some(())
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    fn run(&self, wanted: impl Fn(u8) -> bool) -> usize {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        rest.iter().take_while(|b| wanted(**b)).count()
    }

    fn copy(&mut self, length: usize) {
        let token = self.bytes.get(self.at..self.at + length);
        self.key.extend_from_slice(token.unwrap_or_default());
        self.at += length;
    }

    fn token(&mut self, length: usize, kind: Kind) {
        self.copy(length);
        self.before = [self.before[1], kind];
    }

    /// A constant that a name is compared with is left out.
    fn constant(&mut self, length: usize, stands: u8) {
        if self.before != [Kind::Name, Kind::Comparison] {
            return self.token(length, Kind::Other);
        }
        self.key.push(stands);
        self.at += length;
        self.before = [Kind::Comparison, Kind::Other];
        self.left_out = true;
    }

    /// Digits alone, or with a fraction. Anything else that begins with a digit, or a dot before
    /// it, stays.
    fn number(&mut self) {
        let length = self.run(|b| b.is_ascii_digit() || b == b'.' || is_word(b));
        let digits = self
            .bytes
            .get(self.at..self.at + length)
            .unwrap_or_default();
        let dots = digits.iter().filter(|b| **b == b'.').count();
        let plain = digits.iter().all(|b| b.is_ascii_digit() || *b == b'.');
        match plain && dots <= 1 && digits.last() != Some(&b'.') {
            true if dots == 0 && length <= DIGITS => self.constant(length, INTEGER),
            true => self.constant(length, NUMBER),
            false => self.token(length, Kind::Other),
        }
    }

    fn string(&mut self) -> Option<()> {
        // A name right before it is a prefix: E'', B'', U&''.
        let prefix = self.at.checked_sub(1).and_then(|at| self.bytes.get(at));
        if prefix.is_some_and(|b| is_word(*b) || *b == b'&' || *b == b'"') {
            return None;
        }
        let length = self.quoted(b'\'')?;
        self.constant(length, STRING);
        Some(())
    }

    /// How long what is quoted is, with its quotes; a doubled quote does not end it.
    fn quoted(&self, quote: u8) -> Option<usize> {
        let mut rest = self.bytes.get(self.at + 1..)?;
        let mut length = 1;
        loop {
            let end = memchr::memchr(quote, rest)?;
            let inside = rest.get(..end)?;
            // What a backslash means depends on a setting; zero bytes end a text.
            if inside.iter().any(|b| matches!(*b, b'\\' | 0..=NUMBER)) {
                return None;
            }
            length += end + 1;
            rest = rest.get(end + 1..)?;
            if rest.first() != Some(&quote) {
                return Some(length);
            }
            length += 1;
            rest = rest.get(1..)?;
        }
    }

    fn operator(&mut self) -> Option<()> {
        let length = self.run(is_operator);
        let operator = self.bytes.get(self.at..self.at + length)?;
        // Comments begin within a run of operator characters.
        if operator.windows(2).any(|w| matches!(w, b"--" | b"/*")) {
            return None;
        }
        let kind = match operator {
            b"=" | b"<" | b">" | b"<=" | b">=" | b"<>" | b"!=" => Kind::Comparison,
            _ => Kind::Other,
        };
        self.token(length, kind);
        Some(())
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Every character that an operator may hold (PostgreSQL's scan.l: `op_chars`), and the colon of
/// `::` and `:=`.
fn is_operator(byte: u8) -> bool {
    b"~!@#^&|`?+-*/%<>=:".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::sql::{Limits, Parser};
    use proptest::prelude::*;

    fn of(text: &str) -> Option<String> {
        shape(text).map(|key| {
            let key = String::from_utf8(key.to_vec()).unwrap();
            key.replace(char::from(INTEGER), "#")
                .replace(char::from(NUMBER), "##")
                .replace(char::from(STRING), "$")
        })
    }

    #[test]
    fn what_a_column_is_compared_with_is_left_out() {
        let cases = [
            (
                "SELECT abalance FROM pgbench_accounts WHERE aid = 1234;",
                "SELECT abalance FROM pgbench_accounts WHERE aid = #;",
            ),
            (
                "select * from t where a='it''s' and b<>5.25",
                "select * from t where a=$ and b<>##",
            ),
            (
                "update t set a = 'x' where \"Id\" >= 7",
                "update t set a = $ where \"Id\" >= #",
            ),
            (
                "delete from t where id=3::int",
                "delete from t where id=#::int",
            ),
            (
                "select 1 from t where a = 5 limit 1",
                "select 1 from t where a = # limit 1",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(of(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_doubtful_has_no_shape() {
        for text in [
            "select 1 where 1 = 1",
            "select set_config('role', 'x', false)",
            "set role = 'x'",
            "copy t to program = 'x'",
            "select f(a => 'x')",
            "select f(a := 5)",
            "select 1 from t where a = E'x'",
            "select 1 from t where a = U&'x'",
            "select 1 from t where a = 'x\\'",
            "select 1 from t where a = $$x$$",
            "select 1 from t where a = $1",
            "select 1 from t where a = 5 -- x",
            "select 1 from t where a = 5 /* x */",
            "select 1 from t where a =-5",
            "select 1 from t where a = 'x",
            "select 1 from t where a = 5; drop table t",
            "select 1 from t where a = 5x",
            "select 1 from t where a = 0x5",
            "select 1 from t where a = 1e5",
            "select 1 from t where é = 5",
            "select 1 from t where a = 5 and b = '\u{1}'",
            "selects = 5",
            "select",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    /// Pieces of statements, of which any may follow any.
    const PIECES: &[&str] = &[
        "select ",
        "update t set ",
        "delete from t ",
        "insert into t values (",
        " from t ",
        " where ",
        "a",
        "b ",
        " = ",
        "=",
        "<",
        " >= ",
        " <> ",
        "5",
        "77 ",
        "0",
        "1 ",
        "'x'",
        "''",
        "'it''s'",
        "\"q\"",
        "(",
        ")",
        ", ",
        ".",
        ";",
        " and ",
        " or ",
        " limit ",
        " order by ",
        " union select ",
        "::int ",
        "set_config(",
        "'role'",
        "null",
        " in (",
        " between ",
        "-",
        "*",
        " as ",
        "$1",
        "e",
        "--",
        "\n",
        "/*",
        "*/",
        "'select 1'",
        " returning ",
        " like ",
        "pg_sleep(",
        "array[",
    ];

    proptest! {
        /// The claim that this rests on: texts of one shape have the same facts.
        #[test]
        fn texts_of_one_shape_have_the_same_facts(
            pieces in prop::collection::vec(prop::sample::select(PIECES), 1..14),
            integers in prop::collection::vec(prop::sample::select(vec!["0", "1", "42", "999999999"]), 14),
            numbers in prop::collection::vec(prop::sample::select(vec!["9999999999", "3.5", "0.1"]), 14),
            strings in prop::collection::vec(prop::sample::select(vec!["''", "'role'", "'a''; drop table t'", "'on'"]), 14),
        ) {
            let text = format!("select a from t where {}", pieces.concat());
            for text in [text, pieces.concat()] {
                let Some(key) = shape(&text) else {
                    continue;
                };
                let (mut integers, mut numbers) = (integers.iter(), numbers.iter());
                let mut strings = strings.iter();
                let mut other = String::new();
                for byte in &key {
                    match *byte {
                        INTEGER => other += integers.next().unwrap_or(&"7"),
                        NUMBER => other += numbers.next().unwrap_or(&"7.5"),
                        STRING => other += strings.next().unwrap_or(&"'y'"),
                        byte => other.push(char::from(byte)),
                    }
                }
                let parser = Parser::new(Limits::default());
                let (mut facts, mut others) = (parser.facts(&text), parser.facts(&other));
                // The parser quotes what it stumbled over, so these are kept by their full text.
                let stumbled = facts.unparsable.take().is_some();
                prop_assert_eq!(stumbled, others.unparsable.take().is_some(), "{} / {}", text, other);
                prop_assert_eq!(facts, others, "{} / {}", text, other);
            }
        }

        #[test]
        fn no_text_panics(text in "(?s)(select |=|'|\"|[0-9]|.){0,40}") {
            shape(&text);
        }
    }
}
