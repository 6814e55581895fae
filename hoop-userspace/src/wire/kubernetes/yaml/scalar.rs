//! Values on one line.

use serde_json::Value;

use super::{Result, flow, unreadable};

/// Words that YAML 1.1 takes for something else than a text. They are what they are to the API
/// server, which reads them by that.
const WORDS: [(&str, Value); 26] = [
    ("~", Value::Null),
    ("null", Value::Null),
    ("Null", Value::Null),
    ("NULL", Value::Null),
    ("y", Value::Bool(true)),
    ("Y", Value::Bool(true)),
    ("yes", Value::Bool(true)),
    ("Yes", Value::Bool(true)),
    ("YES", Value::Bool(true)),
    ("true", Value::Bool(true)),
    ("True", Value::Bool(true)),
    ("TRUE", Value::Bool(true)),
    ("on", Value::Bool(true)),
    ("On", Value::Bool(true)),
    ("ON", Value::Bool(true)),
    ("n", Value::Bool(false)),
    ("N", Value::Bool(false)),
    ("no", Value::Bool(false)),
    ("No", Value::Bool(false)),
    ("NO", Value::Bool(false)),
    ("false", Value::Bool(false)),
    ("False", Value::Bool(false)),
    ("FALSE", Value::Bool(false)),
    ("off", Value::Bool(false)),
    ("Off", Value::Bool(false)),
    ("OFF", Value::Bool(false)),
];

/// Whether a word is no text.
pub(super) fn is_word(text: &str) -> bool {
    WORDS.iter().any(|(word, _)| *word == text)
}

/// All of a line, but for a comment behind it.
pub(super) fn value(text: &str, line: usize) -> Result<Value> {
    match text.as_bytes().first() {
        Some(b'"' | b'\'') => {
            let (value, rest) = quoted(text, line)?;
            ends(rest, line)?;
            Ok(Value::String(value))
        }
        Some(b'{' | b'[') => {
            let (value, rest) = flow::value(text, line)?;
            ends(rest, line)?;
            Ok(value)
        }
        _ => plain(without_comment(text), line),
    }
}

fn ends(rest: &str, line: usize) -> Result<()> {
    let text = rest.trim_start_matches(' ');
    match text.is_empty() || text.starts_with('#') && text.len() < rest.len() {
        true => Ok(()),
        false => Err(unreadable(line, "something stands behind a value")),
    }
}

fn without_comment(text: &str) -> &str {
    let text = text.split(" #").next().unwrap_or_default();
    text.trim_end_matches(' ')
}

/// A text without quotes, a number or a word.
pub(super) fn plain(text: &str, line: usize) -> Result<Value> {
    let mut characters = text.chars();
    let Some(first) = characters.next() else {
        return Ok(Value::Null);
    };
    if let Some((_, value)) = WORDS.iter().find(|(word, _)| *word == text) {
        return Ok(value.clone());
    }
    if first.is_ascii_digit() || matches!(first, '+' | '-' | '.') {
        return number_or_text(text, line);
    }
    let begins =
        first.is_alphabetic() || matches!(first, '/' | '_' | '$' | '(' | '^' | ';' | '<' | '=');
    let merge = text == "<<" || text == "=";
    if !begins || merge || text.contains(": ") || text.ends_with(':') {
        return Err(unreadable(line, "a text that must be in quotes"));
    }
    Ok(Value::String(text.to_owned()))
}

/// What begins like a number: one, a text that nobody takes for one, or something in between.
fn number_or_text(text: &str, line: usize) -> Result<Value> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let whole = |d: &str| {
        !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()) && (d == "0" || !d.starts_with('0'))
    };
    if whole(digits) {
        return match text.parse::<i64>() {
            Ok(number) if text != "-0" => Ok(Value::Number(number.into())),
            _ => Err(unreadable(line, "a number that must be in quotes")),
        };
    }
    if let Some((before, behind)) = digits.split_once('.') {
        let fraction = !behind.is_empty() && behind.bytes().all(|b| b.is_ascii_digit());
        if whole(before) && fraction {
            let number = text.parse().ok().and_then(serde_json::Number::from_f64);
            return number
                .map(Value::Number)
                .ok_or_else(|| unreadable(line, "a number that must be in quotes"));
        }
        // Addresses and versions.
        let parts = digits.split('.').count();
        if parts > 2 && text == digits && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Ok(Value::String(text.to_owned()));
        }
    }
    // Of hexadecimal, octal and binary numbers, of base 60, exponents, dates and times.
    let of_numbers = |c: char| c.is_ascii_hexdigit() || "+-._:xXoOtTzZ ".contains(c);
    let special = ["inf", "nan"];
    let lower = text.to_ascii_lowercase();
    let digit = text.contains(|c: char| c.is_ascii_digit());
    let disputed =
        digit && text.chars().all(of_numbers) || special.iter().any(|s| lower.contains(s));
    if disputed || text.starts_with(['+', '-', '.']) && !text.starts_with("--") && !is_path(text) {
        return Err(unreadable(
            line,
            "a text that looks like a number must be in quotes",
        ));
    }
    if text.contains(": ") || text.ends_with(':') || text.starts_with("---") {
        return Err(unreadable(line, "a text that must be in quotes"));
    }
    Ok(Value::String(text.to_owned()))
}

/// `./x`, `../x`, `-x`: options and paths, as arguments of containers have them.
fn is_path(text: &str) -> bool {
    let option = text.strip_prefix('-');
    text.starts_with("./")
        || text.starts_with("../")
        || option.is_some_and(|o| o.starts_with(|c: char| c.is_ascii_alphabetic()))
}

/// A text in quotes, and what stands behind it.
pub(super) fn quoted(text: &str, line: usize) -> Result<(String, &str)> {
    match text.strip_prefix('\'') {
        Some(inner) => single(inner, line),
        None => double(text, line),
    }
}

fn single(inner: &str, line: usize) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut rest = inner;
    loop {
        let Some((part, behind)) = rest.split_once('\'') else {
            return Err(unreadable(
                line,
                "a text in quotes does not end on its line",
            ));
        };
        value.push_str(part);
        match behind.strip_prefix('\'') {
            Some(more) => {
                value.push('\'');
                rest = more;
            }
            None => return Ok((value, behind)),
        }
    }
}

/// With the escapes that JSON and YAML have alike.
fn double(text: &str, line: usize) -> Result<(String, &str)> {
    let mut escaped = false;
    let mut end = None;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => {
                if !r#""\ntrbfu"#.contains(character) {
                    return Err(unreadable(line, "an escape that JSON does not have"));
                }
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => {
                end = Some(at + 1);
                break;
            }
            _ => {}
        }
    }
    let parts = end.and_then(|end| text.split_at_checked(end));
    let Some((written, rest)) = parts else {
        return Err(unreadable(
            line,
            "a text in quotes does not end on its line",
        ));
    };
    // Halves of a character are joined by JSON, and not by YAML.
    let lower = written.to_ascii_lowercase();
    if [
        "\\ud8", "\\ud9", "\\uda", "\\udb", "\\udc", "\\udd", "\\ude", "\\udf",
    ]
    .iter()
    .any(|half| lower.contains(half))
    {
        return Err(unreadable(line, "half a character by an escape"));
    }
    let value = serde_json::from_str(written);
    let value = value.map_err(|_| unreadable(line, "an escape that is none"))?;
    Ok((value, rest))
}
