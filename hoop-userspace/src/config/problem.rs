//! What is wrong with a configuration: where, what, and what to write instead. Several are
//! reported at once, because an operator who fixes one and meets the next loses patience.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// One mistake. `line` and `column` count from 1; both are 0 where the whole file is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub file: PathBuf,
    pub line: usize,
    pub column: usize,
    pub what: String,
    pub fix: Option<String>,
}

impl Problem {
    pub fn of_file(file: &Path, what: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: 0,
            column: 0,
            what: what.into(),
            fix: None,
        }
    }

    #[must_use]
    pub fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        write!(f, " {}", self.what)?;
        match &self.fix {
            Some(fix) => write!(f, "; {fix}"),
            None => Ok(()),
        }
    }
}

/// Why a configuration was not taken: every problem that was found, in the file's order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

/// Collects problems of one text and turns byte offsets into lines.
pub(super) struct Problems<'a> {
    file: &'a Path,
    text: &'a str,
    found: Vec<Problem>,
}

impl<'a> Problems<'a> {
    pub fn new(file: &'a Path, text: &'a str) -> Self {
        Self {
            file,
            text,
            found: Vec::new(),
        }
    }

    pub fn add(&mut self, span: Range<usize>, what: impl Into<String>) {
        self.push(span, what.into(), None);
    }

    pub fn add_with_fix(
        &mut self,
        span: Range<usize>,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.push(span, what.into(), Some(fix.into()));
    }

    /// An error of the TOML reader or of serde. Its own excerpt of the file is left out: it may
    /// show a secret that somebody wrote where it does not belong.
    pub fn add_toml(&mut self, error: &toml::de::Error, fallback: Range<usize>) {
        let (what, fix) = improve(error.message());
        self.push(error.span().unwrap_or(fallback), what, fix);
    }

    /// What was found, in the file's order.
    pub fn into_found(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|p| (p.line, p.column));
        self.found
    }

    pub fn line(&self, offset: usize) -> usize {
        position(self.text, offset).0
    }

    fn push(&mut self, span: Range<usize>, what: String, fix: Option<String>) {
        let (line, column) = position(self.text, span.start);
        self.found.push(Problem {
            file: self.file.to_owned(),
            line,
            column,
            what,
            fix,
        });
    }
}

/// Line and column, from 1, columns in characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .map_or(0, |last| last.chars().count())
        + 1;
    (line, column)
}

/// serde's "unknown field `x`, expected one of `a`, `b`" becomes a sentence that names the
/// nearest of them.
fn improve(message: &str) -> (String, Option<String>) {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let kind = match message {
        m if m.starts_with("unknown field `") => "unknown key",
        m if m.starts_with("unknown variant `") => "unknown value",
        m if m.starts_with("missing field `") => {
            let key = quoted.first().copied().unwrap_or_default();
            return (format!("the key `{key}` is missing here"), None);
        }
        m => return (without_value(m.trim_end()).replace('\n', " "), None),
    };
    let Some((unknown, known)) = quoted.split_first() else {
        return (message.to_owned(), None);
    };
    let fix = did_you_mean(unknown, known.iter().copied())
        .unwrap_or_else(|| format!("use one of: {}", known.join(", ")));
    (format!("{kind} `{unknown}`"), Some(fix))
}

/// serde shows the text that it did not expect, which may be a secret in the wrong place.
fn without_value(message: &str) -> String {
    let shown = message
        .find('"')
        .zip(message.rfind("\", expected"))
        .filter(|(from, to)| message.starts_with("invalid ") && from < to);
    match shown.and_then(|(from, to)| message.get(..from).zip(message.get(to + 1..))) {
        Some((before, after)) => format!("{}{after}", before.trim_end()),
        None => message.to_owned(),
    }
}

/// "did you mean `x`?" for the nearest of what exists, if any is near.
pub(super) fn did_you_mean<'k>(
    unknown: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> Option<String> {
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(unknown, name), name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| format!("did you mean `{name}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        assert_eq!(position("a\nbü c", 0), (1, 1));
        assert_eq!(position("a\nbü c", 5), (2, 3));
        assert_eq!(position("a", 99), (1, 2));
    }

    #[test]
    fn the_nearest_key_is_named() {
        let (what, fix) = improve("unknown field `hots`, expected one of `name`, `hosts`, `port`");
        assert_eq!(what, "unknown key `hots`");
        assert_eq!(fix.as_deref(), Some("did you mean `hosts`?"));
        let (_, fix) = improve("unknown field `zz`, expected `name` or `hosts`");
        assert_eq!(fix.as_deref(), Some("use one of: name, hosts"));
    }
}
