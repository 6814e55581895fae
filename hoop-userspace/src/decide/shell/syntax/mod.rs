//! The shell's grammar: POSIX, with the forms of bash that occur.
//!
//! Which shell runs a text is not known: it is the login's, by `-c`. So a form that shells read
//! differently, to an effect that matters, is not parsed at all: `((rm x))` is arithmetic to bash
//! and a command to dash. Each such place says which.
//!
//! Recursion goes as deep as [`DEEPEST`] and no deeper, whatever the text is.

mod command;
mod compound;
mod dollar;
mod tree;
mod word;

pub(super) use tree::*;

/// Levels of commands and substitutions within each other.
const DEEPEST: usize = 32;
/// One argument of a program, which the text is to the shell, is shorter than this on Linux.
const LONGEST: usize = 128 << 10;

/// Why a text is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Trouble(pub &'static str);

type Parsed<T> = Result<T, Trouble>;

/// Parses a whole text that lies `depth` levels within others.
pub(super) fn parse(text: &str, depth: usize) -> Parsed<List> {
    if text.len() >= LONGEST {
        return Err(Trouble("it is longer than a shell takes"));
    }
    if text.contains('\0') {
        return Err(Trouble("it holds a zero byte"));
    }
    let mut parser = Parser::new(text, depth);
    let list = parser.list()?;
    if !parser.pending.is_empty() {
        return Err(Trouble("a here-document has no text"));
    }
    match parser.at == text.len() {
        true => Ok(list),
        false => Err(Trouble("something is closed that was not opened")),
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
    /// Here-documents whose text comes after the line's end.
    pending: Vec<Pending>,
    /// How many `$(` are open: within them comments are read differently by some shells.
    substitutions: usize,
}

struct Pending {
    word: std::rc::Rc<std::cell::OnceCell<Word>>,
    delimiter: String,
    quoted: bool,
    tabs: bool,
}

impl<'t> Parser<'t> {
    fn new(text: &'t str, depth: usize) -> Self {
        Self {
            text,
            at: 0,
            depth,
            pending: Vec::new(),
            substitutions: 0,
        }
    }

    /// Runs `parse` one level deeper.
    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= DEEPEST {
            return Err(Trouble("it is nested too deeply"));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn second(&self) -> Option<char> {
        self.rest().chars().nth(1)
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn eat(&mut self, what: &str) -> bool {
        let found = self.rest().starts_with(what);
        if found {
            self.at += what.len();
        }
        found
    }

    fn require(&mut self, what: &str, otherwise: &'static str) -> Parsed<()> {
        match self.eat(what) {
            true => Ok(()),
            false => Err(Trouble(otherwise)),
        }
    }

    /// Spaces, tabs and continued lines.
    fn blanks(&mut self) -> Parsed<()> {
        loop {
            if self.eat(" ") || self.eat("\t") {
                continue;
            }
            let before = self.text.get(..self.at).unwrap_or_default();
            if !self.eat("\\\n") {
                return Ok(());
            }
            while self.eat("\\\n") {}
            // The continued line is taken away before operators are told apart: `(\⏎(` is
            // arithmetic, and `<<\⏎-` leaves out tabs.
            if let (Some(before), Some(after)) = (before.chars().next_back(), self.peek())
                && PAIRS.contains(&(before, after))
            {
                return Err(Trouble("a line is continued within an operator"));
            }
        }
    }

    /// Blanks, comments and line ends.
    fn gap(&mut self) -> Parsed<()> {
        loop {
            self.blanks()?;
            match self.peek() {
                Some('#') => self.comment()?,
                Some('\n') => self.line_end()?,
                _ => return Ok(()),
            }
        }
    }

    fn comment(&mut self) -> Parsed<()> {
        let rest = self.rest();
        let comment = rest.split('\n').next().unwrap_or(rest);
        // Some shells look for the end of a substitution without knowing comments.
        if self.substitutions > 0 && comment.contains([')', '\'', '"', '`']) {
            return Err(Trouble(
                "a comment in a substitution holds a quote or parenthesis",
            ));
        }
        self.at += comment.len();
        Ok(())
    }

    fn line_end(&mut self) -> Parsed<()> {
        self.at += 1;
        for pending in std::mem::take(&mut self.pending) {
            self.here_document(pending)?;
        }
        Ok(())
    }

    fn here_document(&mut self, pending: Pending) -> Parsed<()> {
        let mut body = String::new();
        loop {
            let rest = self.rest();
            if rest.is_empty() {
                return Err(Trouble("a here-document does not end"));
            }
            let line = rest.split('\n').next().unwrap_or(rest);
            self.at = (self.at + line.len() + 1).min(self.text.len());
            let line = match pending.tabs {
                true => line.trim_start_matches('\t'),
                false => line,
            };
            if line == pending.delimiter {
                break;
            }
            // The next line would be joined before it is compared with the delimiter.
            let escapes = line.len() - line.trim_end_matches('\\').len();
            if !pending.quoted && escapes % 2 == 1 {
                return Err(Trouble("a line of a here-document is continued"));
            }
            body.push_str(line);
            body.push('\n');
        }
        let word = match pending.quoted {
            true => Word(vec![Part::Quoted(body)]),
            false => self.deeper(|parser| {
                let mut inner = Parser::new(&body, parser.depth);
                inner.substitutions = parser.substitutions;
                inner.double_quoted(None)
            })?,
        };
        // Made with the redirection, and filled once.
        let _ = pending.word.set(word);
        Ok(())
    }
}

/// Two characters that an operator holds next to each other.
const PAIRS: &[(char, char)] = &[
    ('(', '('),
    ('&', '&'),
    ('|', '|'),
    ('|', '&'),
    (';', ';'),
    (';', '&'),
    ('<', '<'),
    ('<', '>'),
    ('<', '&'),
    ('<', '('),
    ('<', '-'),
    ('>', '>'),
    ('>', '&'),
    ('>', '|'),
    ('>', '('),
    ('>', '!'),
    ('&', '>'),
];

/// What ends a word outside quotes.
fn ends_word(c: char) -> bool {
    matches!(
        c,
        ' ' | '\t' | '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')'
    )
}

fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(starts_name) && chars.all(continues_name)
}

fn starts_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn continues_name(c: char) -> bool {
    starts_name(c) || c.is_ascii_digit()
}
