//! Words after expansion, as far as they are known, and the paths that they are.

/// A part of an expanded word.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Piece {
    Text(String),
    /// An active `*`, `?` or `[…]`.
    Glob(String),
    /// A home directory: the login's own, or a user's by name.
    Home(String),
    /// Digits.
    Number,
    /// The descriptor of a pipe of the shell's own.
    Pipe,
    /// Any path below what comes before: what `find` found.
    Below,
    /// Anything at all.
    Unknown,
}

/// One value, without alternatives.
pub(super) type Scalar = Vec<Piece>;

/// An argument, or with `many` none, one or several of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Field {
    pub pieces: Scalar,
    pub many: bool,
}

impl Field {
    pub(super) fn text(text: &str) -> Self {
        let pieces = vec![Piece::Text(text.to_owned())];
        Self {
            pieces,
            many: false,
        }
    }

    pub(super) fn unknown(many: bool) -> Self {
        let pieces = vec![Piece::Unknown];
        Self { pieces, many }
    }

    /// The argument, if it is certain.
    pub(super) fn known(&self) -> Option<String> {
        if self.many {
            return None;
        }
        known(&self.pieces)
    }

    /// The first letters that are certain.
    pub(super) fn prefix(&self) -> &str {
        match self.pieces.first() {
            Some(Piece::Text(text)) => text,
            _ => "",
        }
    }

    /// Whether it is an option, or may become one.
    pub(super) fn option(&self) -> Likeness {
        match self.pieces.first() {
            Some(Piece::Text(text)) if !text.is_empty() => match text.starts_with('-') {
                true => Likeness::Yes,
                false => Likeness::No,
            },
            None => Likeness::No,
            // A home begins with a slash.
            Some(Piece::Home(_) | Piece::Number | Piece::Pipe) => Likeness::No,
            Some(_) => match self.known() {
                Some(text) => match text.starts_with('-') {
                    true => Likeness::Yes,
                    false => Likeness::No,
                },
                None => Likeness::Perhaps,
            },
        }
    }

    pub(super) fn has_unknown(&self) -> bool {
        self.pieces.contains(&Piece::Unknown)
    }

    /// What remains after a prefix that [`Self::prefix`] showed.
    pub(super) fn after(&self, length: usize) -> Self {
        let mut field = self.clone();
        if let Some(Piece::Text(text)) = field.pieces.first_mut() {
            *text = text.get(length..).unwrap_or_default().to_owned();
        }
        field
    }

    /// What has the other's last name, in this folder.
    pub(super) fn holding(&self, other: &Self) -> Self {
        let mut name = Scalar::new();
        for piece in &other.pieces {
            match piece {
                Piece::Text(text) => match text.trim_end_matches('/').rsplit_once('/') {
                    Some((_, last)) => name = vec![Piece::Text(last.to_owned())],
                    None => push(
                        &mut name,
                        Piece::Text(text.trim_end_matches('/').to_owned()),
                    ),
                },
                Piece::Below => name = vec![Piece::Glob("*".into())],
                piece => push(&mut name, piece.clone()),
            }
        }
        let mut field = self.clone();
        push(&mut field.pieces, Piece::Text("/".into()));
        for piece in name {
            push(&mut field.pieces, piece);
        }
        field
    }

    /// The other's path, from this folder on.
    pub(super) fn joined(&self, other: &Self) -> Self {
        let mut field = self.clone();
        field.many |= other.many;
        push(&mut field.pieces, Piece::Text("/".into()));
        for piece in &other.pieces {
            push(&mut field.pieces, piece.clone());
        }
        field
    }

    /// The folder that it is in; `None` where that is the current one, or not written out.
    pub(super) fn parent(&self) -> Option<Self> {
        let mut field = self.clone();
        match field.pieces.last_mut() {
            Some(Piece::Text(text)) => {
                let end = text.trim_end_matches('/').rfind('/')?;
                text.truncate(end + 1);
            }
            _ => return None,
        }
        Some(field)
    }

    /// For people: what is not known as `<?>`.
    pub(super) fn show(&self) -> String {
        show(&self.pieces)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Likeness {
    Yes,
    No,
    Perhaps,
}

pub(super) fn known(pieces: &[Piece]) -> Option<String> {
    let mut all = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => all.push_str(text),
            _ => return None,
        }
    }
    Some(all)
}

pub(super) fn show(pieces: &[Piece]) -> String {
    let mut all = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) | Piece::Glob(text) => all.push_str(text),
            Piece::Home(user) => {
                all.push('~');
                all.push_str(user);
            }
            Piece::Number | Piece::Pipe => all.push_str("<number>"),
            Piece::Below => all.push_str("/**"),
            Piece::Unknown => all.push_str("<?>"),
        }
    }
    all
}

pub(super) fn push(pieces: &mut Scalar, piece: Piece) {
    match (pieces.last_mut(), piece) {
        (Some(Piece::Text(text)), Piece::Text(more)) => text.push_str(&more),
        (Some(Piece::Unknown), Piece::Unknown) => {}
        (_, piece) => pieces.push(piece),
    }
}

/// A character of a path, or what may stand for some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Token {
    Char(char),
    /// One character of a name.
    One,
    /// Any characters of a name.
    Many,
    /// Any characters, slashes too.
    Any,
}

/// A file's path from the root or a home, without `.`, `..` and repeated slashes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Path {
    pub components: Vec<Vec<Token>>,
    /// It is this path and no other: absolute, all of it known, and not by way of `..`, which a
    /// symbolic link may lead elsewhere.
    pub exact: bool,
    /// A part of it is not known.
    pub unknown: bool,
    /// It goes up by `..` from a folder, which may be a link: `/dev/fd/../root` is the root.
    pub climbs: bool,
    /// Its name is a pipe's descriptor.
    pub pipe: bool,
}

/// Paths longer than this are unknown: Linux opens none.
const LONGEST: usize = 4096;

impl Path {
    pub(super) fn new(cwd: &[Piece], pieces: &[Piece]) -> Self {
        let absolute = match pieces.first() {
            Some(Piece::Text(text)) => text.starts_with('/'),
            Some(Piece::Home(_)) => true,
            _ => false,
        };
        let mut tokens = Vec::new();
        if !absolute {
            tokenize(cwd, &mut tokens);
            tokens.push(Token::Char('/'));
        }
        tokenize(pieces, &mut tokens);
        if tokens.len() > LONGEST {
            tokens = vec![Token::Any];
        }
        Self {
            pipe: pieces.last() == Some(&Piece::Pipe),
            ..Self::normal(&tokens)
        }
    }

    fn normal(tokens: &[Token]) -> Self {
        let rooted = tokens.first() == Some(&Token::Char('/'));
        let certain = tokens.iter().all(|token| matches!(token, Token::Char(_)));
        let mut exact = rooted && certain;
        let mut climbs = false;
        let mut components: Vec<Vec<Token>> = Vec::new();
        for part in tokens.split(|token| *token == Token::Char('/')) {
            match part {
                [] | [Token::Char('.')] => {}
                [Token::Char('.'), Token::Char('.')] => {
                    exact = false;
                    let known =
                        |part: &Vec<Token>| part.iter().all(|t| matches!(t, Token::Char(_)));
                    let home = |part: &Vec<Token>| part.first() == Some(&Token::Char('~'));
                    match components.last() {
                        Some(last) if known(last) && !(home(last) && components.len() == 1) => {
                            components.pop();
                            climbs = true;
                        }
                        None if rooted => {}
                        _ => components = vec![vec![Token::Any]],
                    }
                }
                part => components.push(part.to_vec()),
            }
        }
        let unknown = components.iter().flatten().any(|t| *t == Token::Any);
        Self {
            components,
            exact,
            unknown,
            climbs,
            pipe: false,
        }
    }

    /// What comparing it with patterns costs, in bytes of what a text may cost.
    pub(super) fn cost(&self) -> usize {
        32 * self
            .components
            .iter()
            .map(|part| part.len() + 1)
            .sum::<usize>()
    }

    pub(super) fn show(&self) -> String {
        let mut text = String::new();
        for (at, component) in self.components.iter().enumerate() {
            let home = component.first() == Some(&Token::Char('~'));
            if at > 0 || !(home || component.first() == Some(&Token::Any)) {
                text.push('/');
            }
            for token in component {
                match token {
                    Token::Char(c) => text.push(*c),
                    Token::One => text.push('?'),
                    Token::Many => text.push('*'),
                    Token::Any => text.push_str("<?>"),
                }
            }
        }
        if text.is_empty() {
            text.push('/');
        }
        text
    }
}

fn tokenize(pieces: &[Piece], tokens: &mut Vec<Token>) {
    for piece in pieces {
        match piece {
            Piece::Text(text) => tokens.extend(text.chars().map(Token::Char)),
            Piece::Glob(text) if text == "*" => tokens.push(Token::Many),
            Piece::Glob(_) => tokens.push(Token::One),
            Piece::Home(user) => {
                tokens.push(Token::Char('~'));
                tokens.extend(user.chars().map(Token::Char));
            }
            Piece::Number | Piece::Pipe => tokens.push(Token::Many),
            // Found below by name; `secrets` treats it as a whole directory.
            Piece::Below => tokens.extend([Token::Char('/'), Token::Many]),
            Piece::Unknown => tokens.push(Token::Any),
        }
    }
}
