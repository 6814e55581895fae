//! Commands that hold commands: groups, conditions, loops, functions, tests.

use std::rc::Rc;

use super::{Kind, List, Parsed, Parser, Trouble, Word, is_name};

impl Parser<'_> {
    /// A compound command, if one begins here.
    pub(super) fn compound(&mut self) -> Parsed<Option<Kind>> {
        if self.rest().starts_with("((") {
            // Arithmetic to bash, commands in subshells to dash.
            return Err(Trouble("(( is read differently by different shells"));
        }
        if self.eat("(") {
            let list = self.list()?;
            self.require(")", "a subshell does not end")?;
            return Ok(Some(Kind::Subshell(filled(list)?)));
        }
        let word = self.upcoming();
        let parse: fn(&mut Self) -> Parsed<Kind> = match word {
            "{" => Self::group,
            "if" => Self::condition,
            "while" | "until" => Self::repetition,
            "for" => Self::iteration,
            "case" => Self::choice,
            "function" => Self::function,
            "[[" => Self::test,
            "time" => return self.timed(),
            "select" | "coproc" => return Err(Trouble("select and coproc are not understood")),
            _ => return Ok(None),
        };
        self.at += word.len();
        parse(self).map(Some)
    }

    /// `time` before a compound command is a word of the grammar; otherwise it is a program's name.
    fn timed(&mut self) -> Parsed<Option<Kind>> {
        let start = self.at;
        self.keyword("time");
        self.blanks()?;
        if self.keyword("-p") {
            self.blanks()?;
        }
        let kind = match self.upcoming() {
            "time" => None,
            _ => self.compound()?,
        };
        if kind.is_none() {
            self.at = start;
        }
        Ok(kind)
    }

    fn part(&mut self, ends: &[&str]) -> Parsed<List> {
        let list = filled(self.list()?)?;
        match ends.contains(&self.upcoming()) {
            true => Ok(list),
            false => Err(Trouble("a compound command does not end")),
        }
    }

    fn part_to(&mut self, end: &str) -> Parsed<List> {
        let list = self.part(&[end])?;
        self.at += end.len();
        Ok(list)
    }

    fn group(&mut self) -> Parsed<Kind> {
        Ok(Kind::Group(self.part_to("}")?))
    }

    fn condition(&mut self) -> Parsed<Kind> {
        let mut branches = Vec::new();
        let mut otherwise = None;
        loop {
            let condition = self.part_to("then")?;
            branches.push((condition, self.part(&["elif", "else", "fi"])?));
            if self.keyword("elif") {
                continue;
            }
            if self.keyword("else") {
                otherwise = Some(self.part(&["fi"])?);
            }
            self.keyword("fi");
            return Ok(Kind::If {
                branches,
                otherwise,
            });
        }
    }

    fn repetition(&mut self) -> Parsed<Kind> {
        let condition = self.part_to("do")?;
        let body = self.part_to("done")?;
        Ok(Kind::While { condition, body })
    }

    fn iteration(&mut self) -> Parsed<Kind> {
        self.blanks()?;
        if self.eat("((") {
            let header = self.arithmetic("))", true)?;
            self.eat(";");
            return Ok(Kind::Count {
                header,
                body: self.body()?,
            });
        }
        let name = self.upcoming().to_owned();
        if !is_name(&name) {
            return Err(Trouble("a loop's variable has no plain name"));
        }
        self.at += name.len();
        self.gap()?;
        let mut words = None;
        if self.keyword("in") {
            let mut all = Vec::new();
            loop {
                self.blanks()?;
                match self.word()? {
                    Some(word) => all.push(word),
                    None => break,
                }
            }
            words = Some(all);
        }
        self.blanks()?;
        self.eat(";");
        Ok(Kind::For {
            name,
            words,
            body: self.body()?,
        })
    }

    fn body(&mut self) -> Parsed<List> {
        self.gap()?;
        match self.keyword("do") {
            true => self.part_to("done"),
            false => Err(Trouble("a loop has no body")),
        }
    }

    fn choice(&mut self) -> Parsed<Kind> {
        self.blanks()?;
        let word = self.word()?.ok_or(Trouble("case has no word"))?;
        self.gap()?;
        if !self.keyword("in") {
            return Err(Trouble("case has no patterns"));
        }
        let mut arms = Vec::new();
        loop {
            self.gap()?;
            if self.keyword("esac") {
                return Ok(Kind::Case { word, arms });
            }
            self.eat("(");
            let patterns = self.patterns()?;
            arms.push((patterns, self.list()?));
            if !self.eat(";;&") && !self.eat(";;") && !self.eat(";&") && self.upcoming() != "esac" {
                return Err(Trouble("a case does not end"));
            }
        }
    }

    fn patterns(&mut self) -> Parsed<Vec<Word>> {
        let mut patterns = Vec::new();
        loop {
            self.blanks()?;
            patterns.push(self.word()?.ok_or(Trouble("a case has an empty pattern"))?);
            self.blanks()?;
            if !self.eat("|") {
                self.require(")", "a case's pattern does not end")?;
                return Ok(patterns);
            }
        }
    }

    fn function(&mut self) -> Parsed<Kind> {
        self.blanks()?;
        let name = self.upcoming().to_owned();
        if !is_name(&name.replace('-', "_")) {
            return Err(Trouble("a function has no plain name"));
        }
        self.at += name.len();
        self.blanks()?;
        let mut certain = self.eat("(");
        if certain {
            self.blanks()?;
            self.require(")", "a parenthesis stands where none can")?;
        }
        let end = self.at;
        self.gap()?;
        let gap = self.text.get(end..self.at).unwrap_or_default();
        let same_line = !gap.replace("\\\n", "").contains('\n');
        let body = self.command()?;
        // A shell that does not know `function` does not parse these at all. With the body on a line
        // of its own it looks for a program of that name, and nothing is defined.
        certain |= same_line && !matches!(body.kind, Kind::Simple { .. } | Kind::Test(_));
        Ok(Kind::Function {
            name,
            body: Rc::new(body),
            keyword: true,
            certain,
        })
    }

    /// Other shells take `[[` for a command's name, so that what would be an operator to them
    /// (`[[ a || reboot ]]`, `[[ a > b ]]`) is not parsed.
    fn test(&mut self) -> Parsed<Kind> {
        let mut words = Vec::new();
        loop {
            self.blanks()?;
            if self.keyword("]]") {
                return Ok(Kind::Test(words));
            }
            let word = self.word()?;
            words.push(word.ok_or(Trouble(
                "an operator within [[ is read differently by different shells",
            ))?);
        }
    }
}

fn filled(list: List) -> Parsed<List> {
    match list.is_empty() {
        true => Err(Trouble("a compound command is empty")),
        false => Ok(list),
    }
}
