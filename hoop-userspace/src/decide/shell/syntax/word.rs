//! Words: everything about quotes.

use super::{Parsed, Parser, Part, Trouble, Word, ends_word, is_name};

impl Parser<'_> {
    /// One word, or `None` where none begins.
    pub(super) fn word(&mut self) -> Parsed<Option<Word>> {
        let start = self.at;
        let mut word = Word::default();
        while let Some(c) = self.peek() {
            match c {
                '<' | '>' if self.second() == Some('(') => {
                    self.at += 2;
                    let list = self.substituted()?;
                    word.0.push(Part::Process(list.into()));
                }
                c if ends_word(c) => break,
                _ => self.piece(&mut word, c)?,
            }
        }
        self.not_a_descriptor(start)?;
        // bash then splits nothing in it, others do.
        let dollar = |part: &Part| matches!(part, Part::Bare(text) if text.contains('$'));
        let plain = |part: &Part| matches!(part, Part::Bare(_) | Part::Quoted(_));
        if word.0.iter().any(dollar) && !word.0.iter().all(plain) {
            return Err(Trouble("a plain dollar stands beside a variable"));
        }
        Ok((self.at > start && !(word.0.is_empty() && self.only_continued(start))).then_some(word))
    }

    /// `{name}>file` puts a descriptor's number into a variable, to shells that know it.
    fn not_a_descriptor(&self, start: usize) -> Parsed<()> {
        let written = self.text.get(start..self.at).unwrap_or_default();
        let inside = written
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'));
        let names = inside.is_some_and(|inside| {
            let inside = inside.replace("\\\n", "");
            is_name(inside.split('[').next().unwrap_or_default())
        });
        match names && matches!(self.peek(), Some('<' | '>')) {
            true => Err(Trouble("a redirection sets a variable")),
            false => Ok(()),
        }
    }

    /// Whether nothing but continued lines was passed.
    fn only_continued(&self, start: usize) -> bool {
        let passed = self.text.get(start..self.at).unwrap_or_default();
        passed.replace("\\\n", "").is_empty()
    }

    /// One character, quoted text or substitution outside quotes.
    pub(super) fn piece(&mut self, word: &mut Word, c: char) -> Parsed<()> {
        match c {
            '\\' => {
                self.bump();
                match self.bump() {
                    // Where it would join a number to a redirection.
                    Some('\n') if matches!(self.peek(), Some('<' | '>')) => {
                        return Err(Trouble("a line is continued before a redirection"));
                    }
                    Some('\n') => {}
                    Some(escaped) => word.push_quoted(escaped.encode_utf8(&mut [0; 4])),
                    None => return Err(Trouble("it ends in the middle of an escape")),
                }
            }
            '\'' => {
                self.bump();
                let inside = self.upto('\'')?;
                word.push_quoted(inside);
            }
            '"' => {
                self.bump();
                let inside = self.double_quoted(Some('"'))?;
                if inside.0.is_empty() {
                    word.push_quoted("");
                }
                word.0.extend(inside.0);
            }
            '$' => self.dollar(word, false)?,
            '`' => self.backticks(word, false)?,
            c => {
                // What counts as blank depends on the locale.
                if !c.is_ascii() && c.is_whitespace() {
                    return Err(Trouble("it holds a space outside ASCII"));
                }
                self.bump();
                word.push_bare(c);
            }
        }
        Ok(())
    }

    /// The text up to a quote, which is passed.
    pub(super) fn upto(&mut self, end: char) -> Parsed<&str> {
        let rest = self.rest();
        let length = rest.find(end).ok_or(Trouble("a quote does not end"))?;
        self.at += length + end.len_utf8();
        Ok(rest.get(..length).unwrap_or_default())
    }

    /// What double quotes or a here-document hold; `end` is `None` for the latter.
    pub(super) fn double_quoted(&mut self, end: Option<char>) -> Parsed<Word> {
        let mut word = Word::default();
        loop {
            let Some(c) = self.peek() else {
                return match end {
                    None => Ok(word),
                    Some(_) => Err(Trouble("a quote does not end")),
                };
            };
            if Some(c) == end {
                self.bump();
                return Ok(word);
            }
            match c {
                '\\' => {
                    self.bump();
                    match self.peek() {
                        Some('\n') => {
                            self.bump();
                        }
                        Some(c @ ('$' | '`' | '\\')) => self.quoted_char(&mut word, c),
                        Some('"') if end.is_some() => self.quoted_char(&mut word, '"'),
                        _ => word.push_quoted("\\"),
                    }
                }
                '$' => self.dollar(&mut word, true)?,
                '`' => self.backticks(&mut word, true)?,
                c => self.quoted_char(&mut word, c),
            }
        }
    }

    fn quoted_char(&mut self, word: &mut Word, c: char) {
        self.bump();
        word.push_quoted(c.encode_utf8(&mut [0; 4]));
    }

    /// `` `…` ``: the text with escapes taken away is parsed as a text of its own.
    fn backticks(&mut self, word: &mut Word, quoted: bool) -> Parsed<()> {
        self.bump();
        let mut inside = String::new();
        loop {
            match self.bump() {
                None => return Err(Trouble("a backtick is not closed")),
                Some('`') => break,
                Some('"') if quoted => {
                    // Which quote this one closes is not the same for all shells.
                    return Err(Trouble("a quote stands within backticks within quotes"));
                }
                Some('\\') => match self.peek() {
                    Some(c @ ('`' | '\\' | '$')) => {
                        self.bump();
                        inside.push(c);
                    }
                    Some('"') if quoted => {}
                    _ => inside.push('\\'),
                },
                Some(c) => inside.push(c),
            }
        }
        let list = self.deeper(|parser| {
            let mut inner = Parser::new(&inside, parser.depth);
            inner.substitutions = 1;
            let list = inner.list()?;
            match inner.at == inside.len() && inner.pending.is_empty() {
                true => Ok(list),
                false => Err(Trouble("what backticks hold is not complete")),
            }
        })?;
        word.0.push(Part::Substitution {
            list: list.into(),
            quoted,
        });
        Ok(())
    }

    /// Commands up to a closing parenthesis.
    pub(super) fn substituted(&mut self) -> Parsed<super::List> {
        self.deeper(|parser| {
            let outer = std::mem::take(&mut parser.pending);
            parser.substitutions += 1;
            let list = parser.list()?;
            parser.require(")", "a substitution does not end")?;
            parser.substitutions -= 1;
            if !parser.pending.is_empty() {
                return Err(Trouble("a here-document has no text"));
            }
            parser.pending = outer;
            Ok(list)
        })
    }
}
