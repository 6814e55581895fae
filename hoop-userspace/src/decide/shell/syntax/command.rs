//! Lists, pipelines, simple commands and redirections.

use std::cell::OnceCell;
use std::rc::Rc;

use super::{
    Assignment, Command, Item, Join, Kind, List, Parsed, Parser, Part, Pending, Pipeline, Redirect,
    RedirectKind, Trouble, Word, ends_word, is_name,
};

/// Words that end a list, where a command could begin.
const CLOSERS: &[&str] = &["then", "do", "done", "fi", "else", "elif", "esac", "}"];

const RESERVED: &[&str] = &[
    "then", "do", "done", "fi", "else", "elif", "esac", "}", "{", "if", "while", "until", "for",
    "case", "function", "select", "coproc", "[[", "!", "in",
];

impl Parser<'_> {
    /// Commands up to the end of the text, a closing parenthesis or a closing word.
    pub(super) fn list(&mut self) -> Parsed<List> {
        let mut items = Vec::new();
        loop {
            self.gap()?;
            if self.closes() {
                return Ok(items);
            }
            items.push(self.item()?);
        }
    }

    fn closes(&self) -> bool {
        match self.peek() {
            None | Some(')') => true,
            Some(';') => self.rest().starts_with(";;") || self.rest().starts_with(";&"),
            _ => CLOSERS.contains(&self.upcoming()),
        }
    }

    /// The word that comes, if it holds no quotes; reserved words are known by it.
    pub(super) fn upcoming(&self) -> &str {
        let rest = self.rest();
        rest.split(ends_word).next().unwrap_or(rest)
    }

    pub(super) fn keyword(&mut self, word: &str) -> bool {
        let found = self.upcoming() == word;
        if found {
            self.at += word.len();
        }
        found
    }

    fn item(&mut self) -> Parsed<Item> {
        let first = self.pipeline()?;
        let mut rest = Vec::new();
        loop {
            self.blanks()?;
            let join = match () {
                () if self.eat("&&") => Join::And,
                () if self.eat("||") => Join::Or,
                () => break,
            };
            self.gap()?;
            rest.push((join, self.pipeline()?));
        }
        let mut background = false;
        match self.peek() {
            Some('&') => {
                self.bump();
                background = true;
            }
            Some(';') if !self.closes() => {
                self.bump();
            }
            None | Some('\n' | ')' | ';' | '#') => {}
            _ => return Err(Trouble("two commands are not separated")),
        }
        Ok(Item {
            first,
            rest,
            background,
        })
    }

    fn pipeline(&mut self) -> Parsed<Pipeline> {
        self.blanks()?;
        while self.keyword("!") {
            self.blanks()?;
        }
        let mut commands = vec![self.command()?];
        loop {
            self.blanks()?;
            if self.rest().starts_with("||") || !self.eat("|") {
                return Ok(Pipeline(commands));
            }
            self.eat("&");
            self.gap()?;
            commands.push(self.command()?);
        }
    }

    pub(super) fn command(&mut self) -> Parsed<Command> {
        self.deeper(|parser| {
            parser.blanks()?;
            match parser.compound()? {
                Some(kind) => {
                    let redirects = parser.redirects()?;
                    Ok(Command { kind, redirects })
                }
                None => parser.simple(),
            }
        })
    }

    fn redirects(&mut self) -> Parsed<Vec<Redirect>> {
        let mut all = Vec::new();
        loop {
            self.blanks()?;
            match self.redirect()? {
                Some(redirect) => all.push(redirect),
                None => return Ok(all),
            }
        }
    }

    fn simple(&mut self) -> Parsed<Command> {
        let (mut assignments, mut words, mut redirects) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            self.blanks()?;
            if let Some(redirect) = self.redirect()? {
                redirects.push(redirect);
                continue;
            }
            if words.is_empty()
                && let Some(assignment) = self.assignment()?
            {
                assignments.push(assignment);
                continue;
            }
            if self.peek() == Some('#') {
                break;
            }
            let Some(word) = self.word()? else { break };
            // What follows is another command to a shell that reads `&` and `>`.
            let both =
                |r: &Redirect| matches!(r.kind, RedirectKind::WriteBoth | RedirectKind::AppendBoth);
            if redirects.iter().any(both) {
                return Err(Trouble("a word follows &>"));
            }
            // A line continued within it hid it.
            if words.is_empty() && word.bare().is_some_and(|word| RESERVED.contains(&word)) {
                return Err(Trouble("a word of the grammar stands where none can"));
            }
            if words.is_empty() && assignments.is_empty() && redirects.is_empty() {
                self.blanks()?;
                if self.peek() == Some('(') {
                    return self.definition(&word);
                }
            }
            words.push(word);
        }
        if words.is_empty() && assignments.is_empty() && redirects.is_empty() {
            return Err(Trouble("a command is missing"));
        }
        let kind = Kind::Simple { assignments, words };
        Ok(Command { kind, redirects })
    }

    /// `name ()`, and the body.
    fn definition(&mut self, name: &Word) -> Parsed<Command> {
        let name = name.bare().filter(|name| is_name(&name.replace('-', "_")));
        let name = name.ok_or(Trouble("a parenthesis stands where none can"))?;
        self.bump();
        self.blanks()?;
        self.require(")", "a parenthesis stands where none can")?;
        self.gap()?;
        Ok(Command {
            kind: Kind::Function {
                name: name.to_owned(),
                body: Rc::new(self.command()?),
                keyword: false,
                certain: true,
            },
            redirects: Vec::new(),
        })
    }

    /// `name=value`, `name+=value`, `name[1]=value`, `name=(…)`
    fn assignment(&mut self) -> Parsed<Option<Assignment>> {
        let rest = self.rest();
        let length = rest.find(|c| !super::continues_name(c)).unwrap_or(0);
        let Some(name) = rest.get(..length).filter(|name| is_name(name)) else {
            return Ok(None);
        };
        let mut after = rest.get(length..).unwrap_or_default();
        let mut plain = true;
        if let Some(inside) = after.strip_prefix('[') {
            let Some((subscript, then)) = inside.split_once(']') else {
                return Ok(None);
            };
            if !then.starts_with('=') && !then.starts_with("+=") {
                return Ok(None);
            }
            // It is evaluated, as is what a variable in it holds, and that may hold commands; to zsh
            // `functions[ls]=…` defines a function.
            if subscript.is_empty() || !subscript.chars().all(|c| c.is_ascii_digit()) {
                return Err(Trouble("an array's index is computed"));
            }
            (after, plain) = (then, false);
        }
        if let Some(then) = after.strip_prefix('+') {
            (after, plain) = (then, false);
        }
        let Some(value) = after.strip_prefix('=') else {
            return Ok(None);
        };
        self.at = self.text.len() - value.len();
        let values = match self.peek() {
            Some('(') => {
                plain = false;
                self.array()?
            }
            _ => vec![self.word()?.unwrap_or_default()],
        };
        let name = name.to_owned();
        Ok(Some(Assignment {
            name,
            plain,
            values,
        }))
    }

    fn array(&mut self) -> Parsed<Vec<Word>> {
        self.bump();
        let mut words = Vec::new();
        loop {
            self.gap()?;
            if self.eat(")") {
                return Ok(words);
            }
            // `[x]=1` evaluates its index.
            if let Some(inside) = self.rest().strip_prefix('[') {
                let index = inside.split(']').next().unwrap_or_default();
                if index.is_empty() || !index.chars().all(|c| c.is_ascii_digit()) {
                    return Err(Trouble("an array's index is computed"));
                }
            }
            match self.word()? {
                Some(word) => words.push(word),
                None => return Err(Trouble("an array does not end")),
            }
        }
    }

    fn redirect(&mut self) -> Parsed<Option<Redirect>> {
        let rest = self.rest();
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let operator = rest.get(digits..).unwrap_or_default();
        let process = operator.starts_with("<(") || operator.starts_with(">(");
        let both = digits == 0 && operator.starts_with("&>");
        if process || !(both || operator.starts_with(['<', '>'])) {
            return Ok(None);
        }
        let descriptor = match digits {
            0 => None,
            _ => {
                let number = rest.get(..digits).and_then(|text| text.parse().ok());
                Some(number.ok_or(Trouble("a descriptor's number is too large"))?)
            }
        };
        self.at += digits;
        let kind = self.operator();
        self.blanks()?;
        let start = self.at;
        let target = self.word()?;
        let target = target.ok_or(Trouble("a redirection leads nowhere"))?;
        let written = self.text.get(start..self.at).unwrap_or_default();
        // Of `$'EOF'` some shells keep the dollar.
        if matches!(kind, Operator::Here { .. }) && written.contains('$') {
            return Err(Trouble("a here-document's end holds a dollar"));
        }
        // `>!file` is `>|file` to some shells.
        if written.starts_with('!') {
            return Err(Trouble("a redirection's target begins with !"));
        }
        let kind = match kind {
            Operator::Is(kind) => kind,
            Operator::Here { tabs } => self.here(&target, tabs)?,
        };
        Ok(Some(Redirect {
            kind,
            target,
            descriptor,
        }))
    }

    fn operator(&mut self) -> Operator {
        use RedirectKind as K;
        // Longest first.
        let kind = match () {
            () if self.eat("<<<") => K::HereString,
            () if self.eat("<<-") => return Operator::Here { tabs: true },
            () if self.eat("<<") => return Operator::Here { tabs: false },
            () if self.eat("<&") => K::Duplicate { output: false },
            () if self.eat("<>") => K::ReadWrite,
            () if self.eat("<") => K::Read,
            () if self.eat("&>>") => K::AppendBoth,
            () if self.eat("&>") => K::WriteBoth,
            () if self.eat(">>") => K::Append,
            () if self.eat(">&") => K::Duplicate { output: true },
            () => {
                if !self.eat(">|") {
                    self.eat(">");
                }
                K::Write
            }
        };
        Operator::Is(kind)
    }

    fn here(&mut self, delimiter: &Word, tabs: bool) -> Parsed<RedirectKind> {
        let mut text = String::new();
        let mut quoted = false;
        for part in &delimiter.0 {
            match part {
                Part::Bare(bare) => text.push_str(bare),
                Part::Quoted(inside) => {
                    quoted = true;
                    text.push_str(inside);
                }
                _ => return Err(Trouble("a here-document's end is computed")),
            }
        }
        // Shells differ in what an escape or a line break in a delimiter means.
        if text.is_empty() || text.contains(['\n', '\\']) {
            return Err(Trouble("a here-document's end is unusual"));
        }
        let word = Rc::new(OnceCell::new());
        self.pending.push(Pending {
            word: word.clone(),
            delimiter: text,
            quoted,
            tabs,
        });
        Ok(RedirectKind::Here(word))
    }
}

enum Operator {
    Is(RedirectKind),
    Here { tabs: bool },
}
