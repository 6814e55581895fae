//! What begins with a dollar: variables, substitutions, arithmetic, ANSI-C quotes.

use std::rc::Rc;

use super::{
    Operation, Parsed, Parser, Part, Trouble, Variable, Word, continues_name, starts_name,
};

impl Parser<'_> {
    pub(super) fn dollar(&mut self, word: &mut Word, quoted: bool) -> Parsed<()> {
        self.bump();
        self.not_continued()?;
        match self.peek() {
            Some('(') if self.second() == Some('(') => {
                self.at += 2;
                let expression = self.deeper(|parser| parser.arithmetic("))", false))?;
                word.0.push(Part::Arithmetic {
                    expression: Rc::new(expression),
                });
            }
            Some('(') => {
                self.bump();
                let list = self.substituted()?.into();
                word.0.push(Part::Substitution { list, quoted });
            }
            Some('{') => {
                self.bump();
                let variable = self.deeper(|parser| parser.braced(quoted))?;
                word.0.push(Part::Variable(Rc::new(variable)));
            }
            Some('[') => return Err(Trouble("$[ is not understood")),
            Some('\'') if !quoted => {
                self.bump();
                let text = self.ansi()?;
                word.push_quoted(&text);
            }
            // Translated text: bash's own; others keep the dollar, and find the same end.
            Some('"') if !quoted => {}
            Some(c) if starts_name(c) => {
                let rest = self.rest();
                let length = rest.find(|c| !continues_name(c)).unwrap_or(rest.len());
                let name = rest.get(..length).unwrap_or_default();
                self.at += length;
                self.not_continued()?;
                let part = self.subscripted(name, quoted)?;
                word.0.push(part);
            }
            Some(c) if c.is_ascii_digit() || is_special(c) => {
                self.bump();
                let part = self.subscripted(&c.to_string(), quoted)?;
                word.0.push(part);
            }
            // `$=x` and `$^x` are x to zsh.
            Some('=' | '~' | '^' | '+') if self.expands_elsewhere() => {
                return Err(Trouble("some shells see a variable where others see none"));
            }
            _ if quoted => word.push_quoted("$"),
            _ => word.push_bare('$'),
        }
        Ok(())
    }

    /// A name goes on across a continued line.
    fn not_continued(&self) -> Parsed<()> {
        match self.rest().starts_with("\\\n") {
            true => Err(Trouble("a line is continued within a variable's name")),
            false => Ok(()),
        }
    }

    fn expands_elsewhere(&self) -> bool {
        let rest = self.rest().trim_start_matches(['=', '~', '^', '+']);
        rest.starts_with(|c| starts_name(c) || matches!(c, '{' | '@' | '*') || c.is_ascii_digit())
    }

    /// A variable without braces. To zsh `$x[1]` is an element, whose index is evaluated, `$x:h` a
    /// part of what x holds, and `$#x` its length.
    fn subscripted(&self, name: &str, quoted: bool) -> Parsed<Part> {
        let rest = self.rest();
        let mut operation = Operation::None;
        if let Some(inside) = rest.strip_prefix('[') {
            let evaluated = |c: &char| starts_name(*c) || matches!(c, '$' | '`' | '(' | '\\');
            let first = inside.chars().find(|c| *c == ']' || evaluated(c));
            // `[:alpha:]` is no arithmetic.
            if first.as_ref().is_some_and(evaluated) && !inside.starts_with("[:") {
                return Err(Trouble(
                    "some shells take [ behind a variable for its index",
                ));
            }
            operation = Operation::Other;
        }
        // A word behind the colon, as in `$user:staff`, is left alone though it begins with one.
        let modifier = |rest: &str| {
            let mut behind = rest.chars().skip_while(|c| *c == 'g');
            let first = behind
                .next()
                .is_some_and(|c| c.is_ascii_alphabetic() || c == '&');
            first && !behind.next().is_some_and(|c| c.is_ascii_alphanumeric())
        };
        if rest.strip_prefix(':').is_some_and(modifier)
            || (name == "#" && rest.starts_with(|c| starts_name(c) || c == '@' || c == '*'))
        {
            operation = Operation::Other;
        }
        Ok(plain(name, operation, quoted))
    }

    /// What follows `${`.
    fn braced(&mut self, quoted: bool) -> Parsed<Variable> {
        let mut operation = Operation::None;
        if self.peek() == Some('#') && self.second() != Some('}') {
            self.bump();
            operation = Operation::Other;
        }
        let name = self.parameter()?;
        if self.eat("[") {
            // An index is evaluated, and may hold commands.
            let index = self.upto(']')?;
            if !(matches!(index, "@" | "*") || index.chars().all(|c| c.is_ascii_digit())) {
                return Err(Trouble("an array's index is computed"));
            }
            operation = match index {
                "@" | "*" => Operation::Elements,
                _ => Operation::Other,
            };
        }
        if self.eat("}") {
            return Ok(Variable {
                name,
                operation,
                operand: Word::default(),
                quoted,
                open: false,
            });
        }
        let done = self.operation()?;
        if operation == Operation::None {
            operation = done;
        }
        let operand = self.operand(quoted)?;
        Ok(Variable {
            name,
            operation,
            operand,
            quoted,
            open: false,
        })
    }

    fn parameter(&mut self) -> Parsed<String> {
        let rest = self.rest();
        let length = match rest.chars().next() {
            Some(c) if starts_name(c) => rest.find(|c| !continues_name(c)),
            Some(c) if c.is_ascii_digit() => rest.find(|c: char| !c.is_ascii_digit()),
            // `${!name}` names another variable, and may hold commands.
            Some(c) if is_special(c) && c != '!' => Some(1),
            _ => None,
        };
        let length = length.ok_or(Trouble("${ is followed by no plain name"))?;
        self.at += length;
        Ok(rest.get(..length).unwrap_or_default().to_owned())
    }

    fn operation(&mut self) -> Parsed<Operation> {
        let colon = self.eat(":");
        let operation = match self.peek() {
            Some('-') if colon => Operation::Default { assign: false },
            Some('=') if colon => Operation::Default { assign: true },
            Some('+') if colon => Operation::Instead,
            Some(c @ ('-' | '=' | '+')) => Operation::IfSet { assign: c == '=' },
            Some('?') => Operation::OrFail,
            // `${x@P}` runs what x holds.
            Some('@') => return Err(Trouble("${name@ is not understood")),
            Some('#' | '%' | '/' | '^' | ',') => Operation::Other,
            // A piece: its bounds are arithmetic.
            Some(c) if c.is_ascii_digit() || c == ' ' => {
                let rest = self.rest();
                let bounds = rest.split('}').next().unwrap_or(rest);
                if bounds
                    .chars()
                    .all(|c| c.is_ascii_digit() || matches!(c, ':' | ' ' | '-'))
                {
                    return Ok(Operation::Other);
                }
                return Err(Trouble("the bounds of ${name:…} are computed"));
            }
            _ => return Err(Trouble("${name is followed by what is not understood")),
        };
        self.bump();
        Ok(operation)
    }

    fn operand(&mut self, quoted: bool) -> Parsed<Word> {
        let mut word = Word::default();
        loop {
            match self.peek() {
                None => return Err(Trouble("${ is not closed")),
                Some('}') => {
                    self.bump();
                    return Ok(word);
                }
                // Which brace or quote closes which is not the same for all shells.
                Some('{') => return Err(Trouble("a brace stands within ${")),
                Some('\'' | '"' | '\\') if quoted => {
                    return Err(Trouble("a quote stands within ${ within quotes"));
                }
                Some('$') => self.dollar(&mut word, quoted)?,
                Some(c) => self.piece(&mut word, c)?,
            }
        }
    }

    /// An expression up to `end`. Only what can be nothing but arithmetic: `$((rm x))` runs a
    /// command in some shells. With `header`, of `for ((…))`, semicolons as well.
    pub(super) fn arithmetic(&mut self, end: &str, header: bool) -> Parsed<Word> {
        let mut word = Word::default();
        let mut open = 0_usize;
        let mut name_before = false;
        loop {
            if open == 0 && self.eat(end) {
                return Ok(word);
            }
            let c = self.peek().ok_or(Trouble("$(( is not closed"))?;
            match c {
                '$' => {
                    self.dollar(&mut word, true)?;
                    name_before = true;
                    continue;
                }
                '(' => open += 1,
                ')' => open = open.checked_sub(1).ok_or(Trouble("$(( is not closed"))?,
                ' ' | '\t' | '\n' => {
                    self.bump();
                    let next = self.peek().unwrap_or(' ');
                    if name_before && (continues_name(next) || next == '$') {
                        return Err(Trouble("$(( holds no arithmetic"));
                    }
                    word.push_bare(' ');
                    continue;
                }
                ';' if header => {}
                '+' | '-' | '*' | '/' | '%' | '<' | '>' | '=' | '!' | '&' | '|' | '^' | '~'
                | '?' | ':' | ',' => {}
                c if continues_name(c) => {}
                _ => return Err(Trouble("$(( holds no arithmetic")),
            }
            name_before = continues_name(c) || c == ')';
            self.bump();
            word.push_bare(c);
        }
    }

    /// What `$'` holds, decoded.
    fn ansi(&mut self) -> Parsed<String> {
        let mut bytes = Vec::new();
        loop {
            match self.bump().ok_or(Trouble("a quote does not end"))? {
                '\'' => break,
                '\\' => self.escape(&mut bytes)?,
                c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if bytes.contains(&0) {
            return Err(Trouble("it holds a zero byte"));
        }
        String::from_utf8(bytes).map_err(|_| Trouble("it holds bytes that are not UTF-8"))
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Parsed<()> {
        let c = self.bump().ok_or(Trouble("a quote does not end"))?;
        let byte = match c {
            // To a shell that does not know `$'` the string ends here.
            '\'' => {
                return Err(Trouble(
                    "a quote within $'…' is read differently by different shells",
                ));
            }
            'a' => 7,
            'b' => 8,
            'e' | 'E' => 27,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'v' => 11,
            '\\' | '"' | '?' => u8::try_from(c).unwrap_or(b'\\'),
            '0'..='7' => {
                self.at -= 1;
                u8::try_from(self.number(8, 3) & 0xff).unwrap_or(0)
            }
            'x' => u8::try_from(self.number(16, 2)).unwrap_or(0),
            'u' | 'U' => {
                let most = if c == 'u' { 4 } else { 8 };
                let c = char::from_u32(self.number(16, most));
                let c = c.ok_or(Trouble("an escape stands for no character"))?;
                if !c.is_ascii() {
                    return Err(Trouble("what an escape stands for depends on the locale"));
                }
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            'c' => return Err(Trouble("\\c within $'…' is not understood")),
            other => {
                bytes.push(b'\\');
                bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
        };
        bytes.push(byte);
        Ok(())
    }

    /// Up to `most` digits; zero where there is none, as a zero byte is refused.
    fn number(&mut self, base: u32, most: usize) -> u32 {
        let mut number = 0_u32;
        for _ in 0..most {
            let Some(digit) = self.peek().and_then(|c| c.to_digit(base)) else {
                break;
            };
            self.bump();
            number = number.wrapping_mul(base).wrapping_add(digit);
        }
        number
    }
}

fn is_special(c: char) -> bool {
    matches!(c, '@' | '*' | '#' | '?' | '$' | '!' | '-')
}

fn plain(name: &str, operation: Operation, quoted: bool) -> Part {
    Part::Variable(Rc::new(Variable {
        name: name.to_owned(),
        operation,
        operand: Word::default(),
        quoted,
        open: true,
    }))
}
