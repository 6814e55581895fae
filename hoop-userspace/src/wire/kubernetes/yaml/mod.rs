//! YAML bodies as values, as far as every reader of YAML reads them the same.
//!
//! The API server takes YAML for server-side apply and reads it by YAML 1.1's rules, where `no` is
//! false, `010` is eight and `12:30:45` may be a number; libraries of YAML 1.2 read another object in
//! the same bytes. So this is a part of YAML in which there is nothing to read differently: block
//! mappings and sequences, scalars on one line, literal blocks, flow collections on one line. Anchors
//! and aliases (which can blow up), tags, merge keys, folded and continued scalars, tabs, several
//! documents and scalars whose type is in dispute are refused, with the way out: JSON is YAML as well.
//! `docs/adr/yaml-is-read-in-part.md` says more.

mod flow;
mod scalar;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use super::json::{self, Unreadable};

/// Collections within each other.
const DEPTH: usize = 64;

type Result<T> = std::result::Result<T, Unreadable>;

/// Reads one document.
pub fn parse(bytes: &[u8]) -> Result<Value> {
    let text = std::str::from_utf8(bytes).map_err(|_| unreadable(0, "it is not UTF-8"))?;
    if text.trim_start_matches(' ').starts_with('{') {
        return json::parse(bytes);
    }
    let mut reader = Block {
        lines: lines(text)?,
        at: 0,
        left: json::MAX_VALUES,
    };
    let Some(first) = reader.peek() else {
        return Ok(Value::Null);
    };
    let value = reader.node(first.indent, DEPTH)?;
    match reader.peek() {
        None => Ok(value),
        Some(line) => Err(unreadable(
            line.number,
            "it is indented like nothing above it",
        )),
    }
}

pub(super) fn unreadable(line: usize, what: &str) -> Unreadable {
    match line {
        0 => Unreadable(what.to_owned()),
        line => Unreadable(format!("line {line}: {what}; JSON can be sent instead")),
    }
}

/// A line that says something.
#[derive(Clone, Copy, Debug)]
struct Line<'t> {
    /// From 1.
    number: usize,
    indent: usize,
    /// Without indentation.
    text: &'t str,
}

fn lines(text: &str) -> Result<Vec<Line<'_>>> {
    let mut lines = Vec::new();
    let mut started = false;
    for (index, whole) in text.split('\n').enumerate() {
        let number = index + 1;
        // Line breaks to some readers of YAML, and what no reader takes.
        let odd = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
        if whole.contains(odd) {
            return Err(unreadable(number, "a tab or another control character"));
        }
        let text = whole.trim_start_matches(' ');
        let indent = whole.len() - text.len();
        if indent == 0 && matches!(text.trim_end_matches(' '), "---" | "...") {
            // The first may be marked; what stands behind a second mark is another document.
            if started || text.starts_with('.') || !lines.is_empty() {
                return Err(unreadable(number, "a second document"));
            }
            started = true;
            continue;
        }
        let marks = ["---", "...", "%"];
        if indent == 0 && marks.iter().any(|mark| text.starts_with(mark)) {
            return Err(unreadable(
                number,
                "a directive, or a document on the line of its mark",
            ));
        }
        lines.push(Line {
            number,
            indent,
            text,
        });
    }
    Ok(lines)
}

struct Block<'t> {
    lines: Vec<Line<'t>>,
    at: usize,
    left: usize,
}

impl<'t> Block<'t> {
    /// The next line that is neither empty nor a comment.
    fn peek(&mut self) -> Option<Line<'t>> {
        loop {
            let line = *self.lines.get(self.at)?;
            let text = line.text.trim_end_matches(' ');
            if !text.is_empty() && !text.starts_with('#') {
                return Some(line);
            }
            self.at += 1;
        }
    }

    /// What stands at this indentation.
    fn node(&mut self, indent: usize, depth: usize) -> Result<Value> {
        let Some(line) = self.peek().filter(|line| line.indent == indent) else {
            return Ok(Value::Null);
        };
        let depth = depth.checked_sub(1);
        let depth = depth.ok_or_else(|| unreadable(line.number, "it is nested too deep"))?;
        if is_item(line.text) {
            return self.sequence(indent, depth);
        }
        if key(line)?.is_some() {
            return self.mapping(indent, depth);
        }
        self.at += 1;
        let value = self.scalar(line, line.text, indent)?;
        Ok(value)
    }

    fn sequence(&mut self, indent: usize, depth: usize) -> Result<Value> {
        let mut items = Vec::new();
        while let Some(line) = self.peek() {
            if line.indent != indent || !is_item(line.text) {
                break;
            }
            self.count(line)?;
            let rest = line.text.strip_prefix('-').unwrap_or_default();
            let text = rest.trim_start_matches(' ');
            if is_nothing(text) {
                self.at += 1;
                items.push(self.below(indent, false, depth)?);
                continue;
            }
            // What stands behind the dash stands for itself, at the place where it is.
            let within = Line {
                indent: indent + line.text.len() - text.len(),
                text,
                ..line
            };
            if is_item(text) || key(within)?.is_some() {
                if let Some(place) = self.lines.get_mut(self.at) {
                    *place = within;
                }
                items.push(self.node(within.indent, depth)?);
            } else {
                self.at += 1;
                items.push(self.scalar(line, text, indent)?);
            }
        }
        Ok(Value::Array(items))
    }

    fn mapping(&mut self, indent: usize, depth: usize) -> Result<Value> {
        let mut members = Map::new();
        while let Some(line) = self.peek() {
            if line.indent != indent || is_item(line.text) {
                break;
            }
            self.count(line)?;
            let Some((name, rest)) = key(line)? else {
                return Err(unreadable(line.number, "no key stands where one should"));
            };
            self.at += 1;
            let value = match is_nothing(rest) {
                true => self.below(indent, true, depth)?,
                false => self.scalar(line, rest, indent)?,
            };
            if members.contains_key(&name) {
                return Err(unreadable(line.number, "a key stands twice"));
            }
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }

    /// What stands below a key or a dash that has nothing on its own line. The items of a sequence
    /// may stand right below their key.
    fn below(&mut self, indent: usize, of_key: bool, depth: usize) -> Result<Value> {
        match self.peek() {
            Some(next) if next.indent > indent => self.node(next.indent, depth),
            Some(next) if of_key && next.indent == indent && is_item(next.text) => {
                self.sequence(indent, depth)
            }
            _ => Ok(Value::Null),
        }
    }

    /// A value that begins on this line. Nothing of it may stand on the next, but for a literal block.
    fn scalar(&mut self, line: Line<'t>, text: &str, indent: usize) -> Result<Value> {
        let written = text.trim_end_matches(' ');
        if written.starts_with('|') {
            return self.literal(line, written, indent);
        }
        let value = scalar::value(text, line.number)?;
        match self.lines.get(self.at) {
            Some(_) => match self.peek() {
                Some(next) if next.indent > indent => Err(unreadable(
                    next.number,
                    "a scalar goes on here, or is indented too far",
                )),
                _ => Ok(value),
            },
            None => Ok(value),
        }
    }

    /// `|` and `|-`: lines as they are.
    fn literal(&mut self, line: Line<'t>, header: &str, indent: usize) -> Result<Value> {
        let keep = match header {
            "|" => true,
            "|-" => false,
            _ => return Err(unreadable(line.number, "a block with an indicator")),
        };
        let mut text = String::new();
        let mut own = None;
        let mut blank = 0;
        while let Some(next) = self.lines.get(self.at).copied() {
            let empty = next.text.is_empty();
            if empty {
                if own.is_none() || own.is_some_and(|own| next.indent > own) {
                    return Err(unreadable(
                        next.number,
                        "spaces on an empty line of a block",
                    ));
                }
                blank += 1;
                self.at += 1;
                continue;
            }
            if next.indent <= indent {
                break;
            }
            let own = *own.get_or_insert(next.indent);
            let Some(more) = next.indent.checked_sub(own) else {
                return Err(unreadable(
                    next.number,
                    "a block whose lines are indented less",
                ));
            };
            text.extend(std::iter::repeat_n('\n', std::mem::take(&mut blank)));
            text.extend(std::iter::repeat_n(' ', more));
            text.push_str(next.text);
            text.push('\n');
            self.at += 1;
        }
        if own.is_none() {
            return Err(unreadable(line.number, "a block with nothing in it"));
        }
        // The last line of all may have no end, which it has then not here either.
        let unended = self.lines.get(self.at).is_none() && blank == 0;
        if !keep || unended {
            text.pop();
        }
        Ok(Value::String(text))
    }

    fn count(&mut self, line: Line<'_>) -> Result<()> {
        let left = self.left.checked_sub(1);
        self.left = left.ok_or_else(|| unreadable(line.number, "there are too many values"))?;
        Ok(())
    }
}

fn is_item(text: &str) -> bool {
    text == "-" || text.starts_with("- ")
}

/// Nothing, or a comment.
fn is_nothing(text: &str) -> bool {
    let text = text.trim_matches(' ');
    text.is_empty() || text.starts_with('#')
}

/// A key and what stands behind its colon. `None` where the line has no key.
fn key(line: Line<'_>) -> Result<Option<(String, &str)>> {
    let text = line.text;
    let (name, rest) = match text.as_bytes().first() {
        Some(b'"' | b'\'') => {
            let (name, rest) = scalar::quoted(text, line.number)?;
            match rest.strip_prefix(':') {
                Some(rest) => (name, rest),
                None => return Ok(None),
            }
        }
        _ => {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
            let end = text.find(|c| !plain(c)).unwrap_or(text.len());
            let (name, rest) = text.split_at_checked(end).unwrap_or((text, ""));
            let Some(rest) = rest.strip_prefix(':') else {
                return Ok(None);
            };
            if !rest.is_empty() && !rest.starts_with(' ') {
                return Ok(None);
            }
            let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            if !begins || scalar::is_word(name) {
                return Err(unreadable(line.number, "a key that must be in quotes"));
            }
            (name.to_owned(), rest)
        }
    };
    match rest.is_empty() || rest.starts_with(' ') {
        true => Ok(Some((name, rest.trim_start_matches(' ')))),
        false => Err(unreadable(line.number, "no space stands behind a colon")),
    }
}
