//! Collections in brackets, on one line.

use serde_json::{Map, Value};

use super::{Result, scalar, unreadable};

const DEPTH: usize = 32;

/// What begins with a bracket, and what stands behind it.
pub(super) fn value(text: &str, line: usize) -> Result<(Value, &str)> {
    collection(text, line, DEPTH)
}

fn collection(text: &str, line: usize, depth: usize) -> Result<(Value, &str)> {
    let depth = depth.checked_sub(1);
    let depth = depth.ok_or_else(|| unreadable(line, "it is nested too deep"))?;
    if let Some(rest) = text.strip_prefix('[') {
        let mut items = Vec::new();
        let mut rest = space(rest);
        if let Some(rest) = rest.strip_prefix(']') {
            return Ok((Value::Array(items), rest));
        }
        loop {
            let (item, behind) = node(rest, line, depth)?;
            items.push(item);
            let behind = space(behind);
            if let Some(behind) = behind.strip_prefix(']') {
                return Ok((Value::Array(items), behind));
            }
            rest = comma(behind, line)?;
        }
    }
    let rest = text.strip_prefix('{').unwrap_or(text);
    let mut members = Map::new();
    let mut rest = space(rest);
    if let Some(rest) = rest.strip_prefix('}') {
        return Ok((Value::Object(members), rest));
    }
    loop {
        let (name, behind) = match rest.as_bytes().first() {
            Some(b'"' | b'\'') => scalar::quoted(rest, line)?,
            _ => {
                let (name, behind) = word(rest, line)?;
                if scalar::is_word(name) || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
                    return Err(unreadable(line, "a key that must be in quotes"));
                }
                (name.to_owned(), behind)
            }
        };
        let behind = behind
            .strip_prefix(": ")
            .ok_or_else(|| unreadable(line, "no colon and space stand behind a key"))?;
        let (value, behind) = node(space(behind), line, depth)?;
        if members.contains_key(&name) {
            return Err(unreadable(line, "a key stands twice"));
        }
        members.insert(name, value);
        let behind = space(behind);
        if let Some(behind) = behind.strip_prefix('}') {
            return Ok((Value::Object(members), behind));
        }
        rest = comma(behind, line)?;
    }
}

fn node(text: &str, line: usize, depth: usize) -> Result<(Value, &str)> {
    match text.as_bytes().first() {
        Some(b'[' | b'{') => collection(text, line, depth),
        Some(b'"' | b'\'') => {
            let (value, rest) = scalar::quoted(text, line)?;
            Ok((Value::String(value), rest))
        }
        _ => {
            let (written, rest) = word(text, line)?;
            Ok((scalar::plain(written, line)?, rest))
        }
    }
}

/// One plain word: of characters that mean nothing in any place.
fn word(text: &str, line: usize) -> Result<(&str, &str)> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let end = text.find(|c| !plain(c)).unwrap_or(text.len());
    match text.split_at_checked(end) {
        Some((word, rest)) if !word.is_empty() => Ok((word, rest)),
        _ => Err(unreadable(
            line,
            "a text in brackets that must be in quotes",
        )),
    }
}

fn comma(text: &str, line: usize) -> Result<&str> {
    let rest = text.strip_prefix(',').map(space);
    rest.ok_or_else(|| unreadable(line, "brackets that do not close on their line"))
}

fn space(text: &str) -> &str {
    text.trim_start_matches(' ')
}
