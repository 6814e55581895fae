//! `sed`: its scripts are read, since they may write files and run commands.

use crate::decide::shell::facts::{FileVerb, ShellFlag};
use crate::decide::shell::field::Field;
use crate::decide::shell::walk::{Dark, Run, Walk};

/// What a script does beside printing.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    reads: Vec<String>,
    writes: Vec<String>,
}

impl Walk<'_> {
    pub(super) fn sed(&mut self, mut run: Run) -> Result<(), Dark> {
        let Some(spec) = self.programs.spec("sed") else {
            return self.unfamiliar("sed", run, "");
        };
        let taken = spec.take(run.argv.get(1..).unwrap_or_default(), true);
        self.apply(spec, &taken, &mut run);
        let mut operands = taken.operands.as_slice();
        let mut scripts = Vec::new();
        for (name, _, value) in &taken.options {
            match name.as_str() {
                "-e" | "--expression" => scripts.extend(value.clone()),
                "-f" | "--file" => {
                    return self.unfamiliar("sed", run, "what its script does is not seen");
                }
                _ => {}
            }
        }
        if scripts.is_empty() {
            let Some((first, rest)) = operands.split_first() else {
                return self.push(Some("sed".into()), run);
            };
            scripts.push(first.clone());
            operands = rest;
        }
        for script in &scripts {
            let found = match script.known() {
                None => Err("its script is not known"),
                Some(script) => Script(&script).read(),
            };
            match found {
                Err(why) => return self.opaque("sed", run, why),
                Ok(found) => {
                    for name in found.reads {
                        self.file(&mut run, FileVerb::Read, &Field::text(&name), false);
                    }
                    for name in found.writes {
                        self.file(&mut run, FileVerb::Write, &Field::text(&name), false);
                    }
                }
            }
        }
        if taken.perhaps {
            run.flag(
                ShellFlag::Unresolved,
                "an argument that may be an option is not known",
            );
        }
        let in_place = taken.named(&["-i", "--in-place"]);
        self.kept(&taken, operands, &mut run);
        for field in operands {
            self.file(&mut run, FileVerb::Read, field, false);
            if in_place {
                self.file(&mut run, FileVerb::Write, field, false);
            }
        }
        self.push(Some("sed".into()), run)
    }
}

struct Script<'s>(&'s str);

type Read<T> = Result<T, &'static str>;

const UNCLEAR: &str = "its script is not understood";
const RUNS: &str = "its script runs commands";

impl Script<'_> {
    fn read(mut self) -> Read<Found> {
        let mut found = Found::default();
        loop {
            self.skip(|c| c.is_ascii_whitespace() || matches!(c, ';' | '{' | '}'));
            if self.0.is_empty() {
                return Ok(found);
            }
            if self.peek() == Some('#') {
                self.line();
                continue;
            }
            self.addresses()?;
            self.command(&mut found)?;
        }
    }

    fn peek(&self) -> Option<char> {
        self.0.chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.0 = self.0.get(c.len_utf8()..).unwrap_or_default();
        Some(c)
    }

    fn skip(&mut self, skipped: impl Fn(char) -> bool) {
        self.0 = self.0.trim_start_matches(skipped);
    }

    fn line(&mut self) -> String {
        let (line, rest) = self.0.split_once('\n').unwrap_or((self.0, ""));
        self.0 = rest;
        line.to_owned()
    }

    fn addresses(&mut self) -> Read<()> {
        loop {
            self.skip(|c| c == ' ' || c == '\t');
            match self.peek() {
                Some('0'..='9' | '$' | '+' | '~' | ',' | '!') => {
                    self.bump();
                }
                Some('/') => {
                    self.bump();
                    self.delimited('/')?;
                    self.skip(|c| matches!(c, 'I' | 'M'));
                }
                Some('\\') => {
                    self.bump();
                    let delimiter = self.bump().ok_or(UNCLEAR)?;
                    self.delimited(delimiter)?;
                    self.skip(|c| matches!(c, 'I' | 'M'));
                }
                Some(_) => return Ok(()),
                None => return Err(UNCLEAR),
            }
        }
    }

    /// Up to a delimiter that is not escaped. A bracket that holds it is read differently by
    /// different versions.
    fn delimited(&mut self, delimiter: char) -> Read<()> {
        if matches!(delimiter, '\n' | '\\') {
            return Err(UNCLEAR);
        }
        let mut bracket = false;
        loop {
            match self.bump().ok_or(UNCLEAR)? {
                '\\' => {
                    self.bump();
                }
                c if c == delimiter && bracket => return Err(UNCLEAR),
                c if c == delimiter => return Ok(()),
                '[' if self.0.starts_with([']', '^']) => return Err(UNCLEAR),
                '[' => bracket = true,
                ']' => bracket = false,
                '\n' => return Err(UNCLEAR),
                _ => {}
            }
        }
    }

    /// The second half of `s` and `y`: no brackets there.
    fn replacement(&mut self, delimiter: char) -> Read<()> {
        loop {
            match self.bump().ok_or(UNCLEAR)? {
                '\\' => {
                    self.bump();
                }
                c if c == delimiter => return Ok(()),
                '\n' => return Err(UNCLEAR),
                _ => {}
            }
        }
    }

    fn command(&mut self, found: &mut Found) -> Read<()> {
        match self.bump().ok_or(UNCLEAR)? {
            '=' | 'd' | 'D' | 'g' | 'G' | 'h' | 'H' | 'n' | 'N' | 'p' | 'P' | 'x' | 'z' | 'F' => {
                self.end()
            }
            'l' | 'L' | 'q' | 'Q' => {
                self.skip(|c| c == ' ' || c.is_ascii_digit());
                self.end()
            }
            '{' | '}' => Ok(()),
            's' => {
                let delimiter = self.bump().ok_or(UNCLEAR)?;
                self.delimited(delimiter)?;
                self.replacement(delimiter)?;
                self.skip(|c| matches!(c, 'g' | 'p' | 'i' | 'I' | 'm' | 'M') || c.is_ascii_digit());
                match self.peek() {
                    Some('w') => {
                        self.bump();
                        found.writes.push(self.line().trim_start().to_owned());
                        Ok(())
                    }
                    Some('e') => Err(RUNS),
                    _ => self.end(),
                }
            }
            'y' => {
                let delimiter = self.bump().ok_or(UNCLEAR)?;
                self.replacement(delimiter)?;
                self.replacement(delimiter)?;
                self.end()
            }
            'a' | 'i' | 'c' => {
                // Text to the end of the line, and on after a backslash that is none's text itself.
                loop {
                    let line = self.line();
                    match line.len() - line.trim_end_matches('\\').len() {
                        0 => return Ok(()),
                        1 => {}
                        _ => return Err(UNCLEAR),
                    }
                }
            }
            // To some versions a semicolon belongs to the label: what follows is then less.
            'b' | 't' | 'T' | ':' => {
                self.skip(|c| c == ' ' || c == '\t');
                self.skip(|c| c.is_ascii_alphanumeric() || c == '_');
                self.end()
            }
            'r' | 'R' => {
                found.reads.push(self.line().trim_start().to_owned());
                Ok(())
            }
            'w' | 'W' => {
                found.writes.push(self.line().trim_start().to_owned());
                Ok(())
            }
            'e' => Err(RUNS),
            _ => Err(UNCLEAR),
        }
    }

    fn end(&mut self) -> Read<()> {
        self.skip(|c| c == ' ' || c == '\t');
        match self.peek() {
            None | Some(';' | '\n' | '}' | '#') => Ok(()),
            _ => Err(UNCLEAR),
        }
    }
}
