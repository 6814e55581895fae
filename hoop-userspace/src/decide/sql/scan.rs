//! A first look at a text, before the parser: how deep it nests, and its fingerprint.
//!
//! libpg_query does not watch its stack. Nesting is bounded here, generously counted: brackets and
//! CASE, and every operator or keyword of which a chain makes a tree as deep as it is long.

use ring::digest::{Context, SHA256};

/// What is digested at once.
const DIGESTED: usize = 4 * 1024;

/// What is accepted for parsing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of one text.
    pub bytes: usize,
    /// Levels of nesting, as counted here.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 1 << 20,
            depth: 5_000,
        }
    }
}

/// Why a text is not parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooMuch {
    #[error("it has {0} bytes, and hoop reads {1} at most")]
    Bytes(usize, usize),
    #[error("it nests deeper than hoop reads, {0} levels at most")]
    Depth(usize),
    #[error("it holds a zero byte")]
    Nul,
    /// The server reads one string there, and libpg_query two: what is in them is not the same.
    #[error("a string of it goes on behind a comment")]
    Continued,
}

/// Bounds the text; returns its fingerprint: 32 hex digits that are the same for texts that differ
/// in constants, comments, spacing and the case of words only.
pub(super) fn scan(text: &str, limits: Limits) -> Result<String, TooMuch> {
    if text.len() > limits.bytes {
        return Err(TooMuch::Bytes(text.len(), limits.bytes));
    }
    if memchr::memchr(0, text.as_bytes()).is_some() {
        return Err(TooMuch::Nul);
    }
    let mut depth = Depth::default();
    let mut digest = Context::new(&SHA256);
    let mut normal = Vec::with_capacity(text.len().min(DIGESTED) + 64);
    let mut lexer = Lexer::new(text);
    while let Some(token) = lexer.next() {
        depth.count(&token);
        if lexer.continued {
            return Err(TooMuch::Continued);
        }
        if depth.total > limits.depth {
            return Err(TooMuch::Depth(limits.depth));
        }
        token.append(&mut normal);
        if normal.len() > DIGESTED {
            digest.update(&normal);
            normal.clear();
        }
    }
    digest.update(&normal);
    Ok(crate::hex::encode(
        digest.finish().as_ref().get(..16).unwrap_or_default(),
    ))
}

/// What statements of one fingerprint differ in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Varying {
    pub strings: bool,
    pub numbers: bool,
    /// What is bound to a parameter may be either.
    pub parameters: bool,
}

impl Varying {
    pub fn any(self) -> bool {
        self.strings || self.numbers || self.parameters
    }
}

/// A text as the fingerprint has it, for people: without comments, `?` for every constant. At most
/// so many characters; and what varies in it.
pub fn outline(text: &str, most: usize) -> (String, Varying) {
    let mut shown = String::new();
    let (mut varying, mut count) = (Varying::default(), 0);
    let mut before = None;
    for token in Lexer::new(text) {
        match token {
            Token::String => varying.strings = true,
            Token::Number => varying.numbers = true,
            Token::Parameter(_) => varying.parameters = true,
            _ => {}
        }
        if count > most {
            continue;
        }
        let mut normal = Vec::new();
        token.append(&mut normal);
        normal.pop();
        let word = String::from_utf8_lossy(&normal).into_owned();
        if before.is_some_and(|before| is_apart(before, token)) {
            shown.push(' ');
            count += 1;
        }
        for c in word.chars().take(most.saturating_sub(count)) {
            shown.push(if c.is_control() { ' ' } else { c });
        }
        count += word.chars().count();
        if count > most {
            shown.push('…');
        }
        before = Some(token);
    }
    (shown, varying)
}

/// Whether people write a blank between the two.
fn is_apart(before: Token<'_>, token: Token<'_>) -> bool {
    let opens = matches!(
        before,
        Token::Mark(b'(' | b'[' | b'.') | Token::Operator("::")
    );
    let closes = matches!(
        token,
        Token::Mark(b')' | b']' | b',' | b';' | b'.') | Token::Operator("::")
    );
    let keyword = |word: &str| {
        let all = [
            "in", "values", "and", "or", "not", "as", "on", "using", "where", "from",
        ];
        all.iter().any(|k| word.eq_ignore_ascii_case(k))
    };
    let calls = matches!(token, Token::Mark(b'(' | b'['))
        && match before {
            Token::Word(word) => !keyword(word),
            Token::Quoted(_) => true,
            _ => false,
        };
    !opens && !closes && !calls
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    /// A keyword or an unquoted identifier.
    Word(&'a str),
    /// A quoted identifier, with its quotes and prefix.
    Quoted(&'a str),
    /// Of characters, bytes or bits.
    String,
    Number,
    Parameter(&'a str),
    /// Operator characters, back to back.
    Operator(&'a str),
    /// Brackets, comma, semicolon, dot.
    Mark(u8),
}

impl Token<'_> {
    /// What the fingerprint is made from.
    fn append(&self, normal: &mut Vec<u8>) {
        match self {
            // Unquoted names are the same in any case, in ASCII.
            Self::Word(word) => normal.extend(word.bytes().map(|b| b.to_ascii_lowercase())),
            Self::Quoted(text) | Self::Parameter(text) | Self::Operator(text) => {
                normal.extend_from_slice(text.as_bytes());
            }
            Self::String | Self::Number => normal.push(b'?'),
            Self::Mark(mark) => normal.push(*mark),
        }
        normal.push(b' ');
    }
}

/// Levels that are open, and the links of chains within each.
#[derive(Default)]
struct Depth {
    /// Per open level: links that a comma ends, links that it does not, and whether CASE opened it.
    levels: Vec<(usize, usize, bool)>,
    outside: (usize, usize),
    total: usize,
}

impl Depth {
    fn count(&mut self, token: &Token<'_>) {
        match token {
            Token::Mark(b'(' | b'[') => self.open(false),
            Token::Mark(b')' | b']') => self.close(false),
            Token::Mark(b',') => self.end_chain(),
            Token::Mark(b';') => *self = Self::default(),
            Token::Mark(_) | Token::Operator(_) => self.link(true),
            Token::Word(word) => self.word(word),
            Token::Quoted(_) | Token::String | Token::Number | Token::Parameter(_) => {}
        }
    }

    fn word(&mut self, word: &str) {
        let is = |known: &[&str]| known.iter().any(|k| word.eq_ignore_ascii_case(k));
        if word.len() > 9 {
        } else if is(&["case"]) {
            self.open(true);
        } else if is(&["end"]) {
            self.close(true);
        } else if is(&["union", "except", "intersect", "join", "explain"]) {
            self.link(false);
        } else if is(&[
            "and", "or", "not", "is", "isnull", "notnull", "like", "ilike", "in",
        ]) || is(&["between", "at", "collate", "similar", "operator"])
        {
            self.link(true);
        }
    }

    fn open(&mut self, case: bool) {
        self.levels.push((0, 0, case));
        self.total += 1;
    }

    /// `END` closes CASE only: it ends transactions and function bodies as well.
    fn close(&mut self, case: bool) {
        if self.levels.last().is_some_and(|level| level.2 == case)
            && let Some((links, firm, _)) = self.levels.pop()
        {
            self.total -= links + firm + 1;
        }
    }

    fn link(&mut self, until_comma: bool) {
        let outside = &mut self.outside;
        let (links, firm) = match self.levels.last_mut() {
            Some((links, firm, _)) => (links, firm),
            None => (&mut outside.0, &mut outside.1),
        };
        *(if until_comma { links } else { firm }) += 1;
        self.total += 1;
    }

    fn end_chain(&mut self) {
        let links = match self.levels.last_mut() {
            Some((links, ..)) => links,
            None => &mut self.outside.0,
        };
        self.total -= std::mem::take(links);
    }
}

/// Splits a text as PostgreSQL's scanner does with `standard_conforming_strings` on.
struct Lexer<'a> {
    text: &'a str,
    at: usize,
    /// A string went on behind a comment.
    continued: bool,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            continued: false,
        }
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.text
            .as_bytes()
            .get(self.at + ahead)
            .copied()
            .unwrap_or(0)
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn advance_while(&mut self, wanted: impl Fn(u8) -> bool) {
        self.at += self.rest().iter().take_while(|b| wanted(**b)).count();
    }

    fn skip_blank(&mut self) {
        loop {
            let start = self.at;
            self.advance_while(|b| b.is_ascii_whitespace() || b == 0x0b);
            match (self.peek(0), self.peek(1)) {
                (b'-', b'-') => self.advance_while(|b| b != b'\n' && b != b'\r'),
                (b'/', b'*') => self.skip_comment(),
                _ if self.at == start => return,
                _ => {}
            }
        }
    }

    /// Block comments nest.
    fn skip_comment(&mut self) {
        let mut open = 0usize;
        while self.at < self.text.len() {
            match (self.peek(0), self.peek(1)) {
                (b'/', b'*') => (open, self.at) = (open + 1, self.at + 2),
                (b'*', b'/') => (open, self.at) = (open.saturating_sub(1), self.at + 2),
                _ => self.at += 1,
            }
            if open == 0 {
                return;
            }
        }
    }

    /// From an opening quote past the closing one; a doubled quote is none.
    fn skip_quoted(&mut self, quote: u8, escapes: bool) {
        self.at += 1;
        while self.at < self.text.len() {
            match self.peek(0) {
                b'\\' if escapes => self.at += 2,
                b if b == quote && self.peek(1) == quote => self.at += 2,
                b if b == quote => {
                    self.at += 1;
                    return;
                }
                _ => self.at += 1,
            }
        }
        self.at = self.text.len();
    }

    /// A string with all that continues it: a further one after space with a line's end in it is
    /// part of the same string, and read by the same rules.
    fn skip_string(&mut self, escapes: bool) {
        self.skip_quoted(b'\'', escapes);
        loop {
            let end = self.at;
            let (ended, comment) = self.skip_to_next_line();
            if !ended || self.peek(0) != b'\'' {
                self.at = end;
                return;
            }
            self.continued |= comment;
            self.skip_quoted(b'\'', escapes);
        }
    }

    /// Skips space and comments; whether a line ended among them, and whether there was a comment.
    fn skip_to_next_line(&mut self) -> (bool, bool) {
        let (mut ended, mut comment) = (false, false);
        loop {
            match (self.peek(0), self.peek(1)) {
                (b'\n' | b'\r', _) => {
                    ended = true;
                    self.at += 1;
                }
                (b' ' | b'\t' | 0x0b | 0x0c, _) => self.at += 1,
                (b'-', b'-') => {
                    comment = true;
                    self.advance_while(|b| b != b'\n' && b != b'\r');
                }
                _ => return (ended, comment),
            }
        }
    }

    /// `$tag$ … $tag$`; false if this is no dollar quote.
    fn skip_dollar_quoted(&mut self) -> bool {
        let rest = self.rest();
        let tag = rest
            .iter()
            .skip(1)
            .take_while(|b| is_word(**b) && **b != b'$')
            .count();
        let starts_with_digit = rest.get(1).is_some_and(u8::is_ascii_digit);
        let Some(delimiter) = rest.get(..tag + 2).filter(|d| d.last() == Some(&b'$')) else {
            return false;
        };
        if starts_with_digit {
            return false;
        }
        let body = rest.get(tag + 2..).unwrap_or_default();
        let end = memchr::memmem::find(body, delimiter);
        self.at += end.map_or(rest.len(), |end| end + 2 * delimiter.len());
        true
    }

    fn word(&mut self, start: usize) -> Token<'a> {
        let (second, third) = (self.peek(1), self.peek(2));
        match self.peek(0) {
            b'e' | b'E' if second == b'\'' => {
                self.at += 1;
                self.skip_string(true);
                Token::String
            }
            b'b' | b'B' | b'x' | b'X' | b'n' | b'N' if second == b'\'' => {
                self.at += 1;
                self.skip_string(false);
                Token::String
            }
            b'u' | b'U' if second == b'&' && third == b'\'' => {
                self.at += 2;
                self.skip_string(false);
                Token::String
            }
            b'u' | b'U' if second == b'&' && third == b'"' => {
                self.at += 2;
                self.skip_quoted(b'"', false);
                Token::Quoted(self.since(start))
            }
            _ => {
                self.advance_while(is_word);
                Token::Word(self.since(start))
            }
        }
    }

    fn operator(&mut self, start: usize) -> Token<'a> {
        while is_operator(self.peek(0)) && !self.starts_comment() {
            self.at += 1;
        }
        if self.at == start {
            // A byte that belongs to nothing; the parser will say so.
            self.at += 1;
        }
        Token::Operator(self.since(start))
    }

    fn starts_comment(&self) -> bool {
        matches!((self.peek(0), self.peek(1)), (b'-', b'-') | (b'/', b'*'))
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blank();
        let start = self.at;
        let byte = self.rest().first().copied()?;
        Some(match byte {
            b'\'' => {
                self.skip_string(false);
                Token::String
            }
            b'"' => {
                self.skip_quoted(b'"', false);
                Token::Quoted(self.since(start))
            }
            b'$' if self.skip_dollar_quoted() => Token::String,
            b'$' => {
                self.at += 1;
                self.advance_while(|b| b.is_ascii_digit());
                Token::Parameter(self.since(start))
            }
            b'0'..=b'9' => {
                self.advance_while(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'_');
                Token::Number
            }
            b'(' | b')' | b'[' | b']' | b',' | b';' | b'.' => {
                self.at += 1;
                Token::Mark(byte)
            }
            _ if is_word(byte) => self.word(start),
            _ => self.operator(start),
        })
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

fn is_operator(byte: u8) -> bool {
    b"~!@#^&|`?+-*/%<>=:".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fingerprint(text: &str) -> String {
        scan(text, Limits::default()).unwrap()
    }

    #[test]
    fn fingerprints_see_through_constants_comments_and_case() {
        let one = fingerprint("SELECT a FROM t WHERE b = 'x' AND c=1");
        let two =
            fingerprint("select A /* it's /* nested */ */ from t\n-- '\nwhere b=E'\\'' and c = 2");
        assert_eq!(one, two);
        assert_ne!(one, fingerprint("SELECT a FROM u WHERE b = 'x' AND c=1"));
        assert_ne!(fingerprint("SELECT \"A\""), fingerprint("SELECT a"));
        assert_eq!(fingerprint("SELECT $a$;DROP$a$"), fingerprint("SELECT ''"));
        assert_ne!(fingerprint("SELECT $1"), fingerprint("SELECT 1"));
    }

    #[test]
    fn outlines_show_no_constant() {
        let text = "SELECT a.b, count(*)::int /* s3cret */ FROM \"T\" a -- s3cret\n \
            WHERE x IN ('s3cret', 4111, E'\\'s3cret', $t$s3cret$t$) AND y = $1 and z > -1.5e3;";
        let (shown, varying) = outline(text, 400);
        assert_eq!(
            shown,
            "select a.b, count(*)::int from \"T\" a where x in (?, ?, ?, ?) and y = $1 and z > - ?;"
        );
        assert!(varying.strings && varying.numbers && varying.parameters);
        let none = Varying::default();
        assert_eq!(outline("Drop Table t", 8), ("drop tab…".into(), none));
        let (_, varying) = outline("SELECT aaaaaaaaaaaaaaaaaa, 'x'", 10);
        assert!(varying.strings && !varying.numbers && !varying.parameters);
    }

    #[test]
    fn nesting_is_bounded_in_every_form() {
        let n = 6_000;
        let deep = [
            format!("SELECT {}1{}", "(".repeat(n), ")".repeat(n)),
            format!("SELECT {}1", "NOT ".repeat(n)),
            format!("SELECT {}1", "- ".repeat(n)),
            format!("SELECT 1{}", " + 1".repeat(n)),
            format!(
                "SELECT {}1{}",
                "CASE WHEN true THEN ".repeat(n),
                " END".repeat(n)
            ),
            format!("SELECT 1, 2{}", " UNION SELECT 1, 2".repeat(n)),
            format!("SELECT a{}", "::int".repeat(n)),
            format!("SELECT a{}", "[1".repeat(n)),
            format!("SELECT {}1", "/**/-".repeat(n)),
        ];
        for text in deep {
            let refused = scan(&text, Limits::default());
            assert_eq!(refused, Err(TooMuch::Depth(5_000)), "{}", &text[..40]);
        }
    }

    /// The rules of the first string hold for those that continue it: what looks like an open
    /// string here is over for the server, and what follows is read.
    #[test]
    fn nothing_hides_behind_a_string_that_continues() {
        let deep = format!("{}1{}", "(".repeat(6_000), ")".repeat(6_000));
        for start in [
            r"SELECT E'a'
                '\'', ",
            "SELECT e'a'  \n\n\t'\\'', ",
        ] {
            let refused = scan(&format!("{start}{deep}"), Limits::default());
            assert_eq!(refused, Err(TooMuch::Depth(5_000)), "{start}");
        }
        let inside = format!("SELECT E'a'\n'\\'{deep}'");
        assert!(scan(&inside, Limits::default()).is_ok());
        assert_eq!(fingerprint("SELECT 'a'\n'b'"), fingerprint("SELECT 'a'"));
        assert_ne!(fingerprint("SELECT 'a' 'b'"), fingerprint("SELECT 'a'"));
        for text in [
            "DO E'x' --\n'\\''; DROP TABLE t; --'",
            "SELECT 'a' -- b\n -- c\n'd'",
        ] {
            assert_eq!(scan(text, Limits::default()), Err(TooMuch::Continued));
        }
        assert!(scan("SELECT 'a' -- b\n, 'c'", Limits::default()).is_ok());
    }

    #[test]
    fn long_is_not_deep() {
        let rows = vec!["(1, -2, 'a', now() + '1 day'::interval)"; 10_000].join(", ");
        assert!(scan(&format!("INSERT INTO t VALUES {rows}"), Limits::default()).is_ok());
        let cases = vec!["CASE WHEN a = 1 THEN 'x' ELSE 'y' END"; 5_000].join(", ");
        assert!(scan(&format!("SELECT {cases}"), Limits::default()).is_ok());
        assert!(scan(&"SELECT 1 + 1; ".repeat(10_000), Limits::default()).is_ok());
        let quoted = "((((".repeat(10_000);
        assert!(
            scan(
                &format!("SELECT '{quoted}' /*{quoted}*/"),
                Limits::default()
            )
            .is_ok()
        );
    }

    #[test]
    fn bounds() {
        let limits = Limits { bytes: 8, depth: 3 };
        assert_eq!(scan("SELECT 1 ", limits), Err(TooMuch::Bytes(9, 8)));
        assert_eq!(scan("a\0", limits), Err(TooMuch::Nul));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a'\"$/*\\-(;E&U ,é\\[\\]\\\\]{0,60}") {
            let _ = outline(&text, 20);
            let _ = scan(&text, Limits::default());
            let _ = scan(&text, Limits { bytes: 40, depth: 2 });
        }

        #[test]
        fn tokens_cover_the_text(text in "\\PC{0,60}") {
            let mut lexer = Lexer::new(&text);
            while lexer.next().is_some() {}
            prop_assert!(lexer.at >= text.len());
        }
    }
}
