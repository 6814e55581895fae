//! Field and label selectors, as far as reading a request needs them.
//!
//! A selector that the server can't parse changes how it reads the rest of the query, so both
//! grammars are checked whole: `k8s.io/apimachinery/pkg/fields` and `…/pkg/labels`.

/// The name that a field selector requires, if it is one that the server can parse.
///
/// `Err` where it can't. Terms are sorted first, as there: of two names the lesser term's counts.
pub(super) fn required_name(selector: &str) -> Result<Option<String>, Unparsable> {
    let mut terms = field_terms(selector);
    terms.sort_unstable();
    let mut name = None;
    for term in terms.into_iter().filter(|term| !term.is_empty()) {
        let (field, operator, value) = field_term(term).ok_or(Unparsable)?;
        let value = unescape(value).ok_or(Unparsable)?;
        if name.is_none() && operator != "!=" && field == "metadata.name" {
            name = Some(value);
        }
    }
    Ok(name)
}

/// A selector that the server answers 400 to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unparsable;

/// Cuts at commas that no backslash precedes.
fn field_terms(selector: &str) -> Vec<&str> {
    let mut escaped = false;
    let separates = |character: char| {
        let separator = !escaped && character == ',';
        escaped = !escaped && character == '\\';
        separator
    };
    selector.split(separates).collect()
}

fn field_term(term: &str) -> Option<(&str, &str, &str)> {
    let operator_at = |rest: &str| {
        let mut operators = ["!=", "==", "="].into_iter();
        operators.find(|operator| rest.starts_with(operator))
    };
    term.char_indices().find_map(|(at, _)| {
        let (field, rest) = term.split_at_checked(at)?;
        let operator = operator_at(rest)?;
        Some((field, operator, rest.strip_prefix(operator)?))
    })
}

/// Backslash, comma and equals sign stand behind a backslash, and nothing else does.
fn unescape(value: &str) -> Option<String> {
    let mut plain = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => characters
                .next()
                .filter(|next| matches!(next, '\\' | ',' | '='))?,
            ',' | '=' => return None,
            other => other,
        });
    }
    Some(plain)
}

/// Whether the server can parse this label selector: `labels.Parse`.
pub(super) fn is_label_selector(selector: &str) -> bool {
    let mut labels = Labels {
        tokens: tokens(selector),
        next: 0,
    };
    labels.parse().is_some()
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Comma,
    Not,
    Equals,
    NotEquals,
    /// `<` or `>`.
    Compares,
    /// `in` or `notin`; a word where a key or value is expected.
    Within(&'static str),
    Open,
    Close,
}

/// All tokens up to the end. A NUL ends the text where a token would start, and only the token
/// where it stands within one: the server's lexer takes it for the end of its input.
fn tokens(selector: &str) -> Vec<Token> {
    let mut rest = selector.as_bytes();
    let mut tokens = Vec::new();
    loop {
        while let [b' ' | b'\t' | b'\r' | b'\n', after @ ..] = rest {
            rest = after;
        }
        let token = match rest {
            [] | [0, ..] => return tokens,
            [byte, ..] if is_special(*byte) => symbol(&mut rest),
            _ => word(&mut rest),
        };
        tokens.push(token);
    }
}

fn is_special(byte: u8) -> bool {
    b"=!(),><".contains(&byte)
}

/// The longest operator at the start, as a lexer finds it that reads one character too many.
fn symbol(rest: &mut &[u8]) -> Token {
    let (token, length) = match rest {
        [b'=', b'=', ..] => (Token::Equals, 2),
        [b'!', b'=', ..] => (Token::NotEquals, 2),
        [b'=', ..] => (Token::Equals, 1),
        [b'!', ..] => (Token::Not, 1),
        [b'<' | b'>', ..] => (Token::Compares, 1),
        [b'(', ..] => (Token::Open, 1),
        [b')', ..] => (Token::Close, 1),
        // What is left is a comma.
        _ => (Token::Comma, 1),
    };
    let mut after = rest.get(length..).unwrap_or_default();
    // The NUL behind an operator is read with it.
    if let [0, behind @ ..] = after {
        after = behind;
    }
    *rest = after;
    token
}

fn word(rest: &mut &[u8]) -> Token {
    let ends = |byte: &u8| *byte == 0 || is_special(*byte) || b" \t\r\n".contains(byte);
    let length = rest.iter().position(ends).unwrap_or(rest.len());
    let (word, mut after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
    if let [0, behind @ ..] = after {
        after = behind;
    }
    *rest = after;
    match word {
        b"in" => Token::Within("in"),
        b"notin" => Token::Within("notin"),
        word => Token::Word(String::from_utf8_lossy(word).into_owned()),
    }
}

struct Labels {
    tokens: Vec<Token>,
    next: usize,
}

impl Labels {
    /// `requirement ("," requirement)*`, or nothing; `None` for anything else.
    fn parse(&mut self) -> Option<()> {
        if self.peek().is_none() {
            return Some(());
        }
        loop {
            self.requirement()?;
            match self.take() {
                None => return Some(()),
                Some(Token::Comma) => {}
                Some(_) => return None,
            }
        }
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.next = self.next.saturating_add(1);
        token
    }

    fn word(&mut self) -> Option<String> {
        match self.take()? {
            Token::Word(word) => Some(word),
            Token::Within(word) => Some(word.to_owned()),
            _ => None,
        }
    }

    fn requirement(&mut self) -> Option<()> {
        let absent = self.peek() == Some(&Token::Not);
        if absent {
            self.take();
        }
        self.word().filter(|key| is_label_key(key))?;
        // What follows an absence is looked at by the caller, and only a comma pleases it.
        if absent || matches!(self.peek(), None | Some(Token::Comma)) {
            return Some(());
        }
        match self.take()? {
            Token::Equals | Token::NotEquals => is_label_value(&self.exact()?).then_some(()),
            Token::Compares => {
                let value = self.exact()?;
                let integer = value.parse::<i64>().is_ok();
                (integer && is_label_value(&value)).then_some(())
            }
            Token::Within(_) => self.values(),
            _ => None,
        }
    }

    /// The value of an exact match, which may be missing.
    fn exact(&mut self) -> Option<String> {
        match self.peek() {
            None | Some(Token::Comma) => Some(String::new()),
            Some(_) => self.word(),
        }
    }

    /// `"(" [value] ("," [value])* ")"`.
    fn values(&mut self) -> Option<()> {
        if self.take()? != Token::Open {
            return None;
        }
        loop {
            match self.peek()? {
                Token::Close => break,
                Token::Comma => {
                    self.take();
                }
                _ => {
                    self.word().filter(|value| is_label_value(value))?;
                    if !matches!(self.peek()?, Token::Comma | Token::Close) {
                        return None;
                    }
                }
            }
        }
        self.take();
        Some(())
    }
}

/// `content.IsLabelKey`: a name, perhaps behind a DNS subdomain and a slash.
fn is_label_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    prefix.is_none_or(is_subdomain) && !name.is_empty() && is_label_value(name)
}

/// `content.IsLabelValue`: at most 63 bytes, empty or with letters or digits at both ends.
fn is_label_value(value: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let bytes = value.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    value.len() <= 63
        && value.bytes().all(inner)
        && ends.into_iter().flatten().all(u8::is_ascii_alphanumeric)
}

/// `content.IsDNS1123Subdomain`: at most 253 bytes, and each label in lower case.
fn is_subdomain(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && (label.bytes())
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        })
}
